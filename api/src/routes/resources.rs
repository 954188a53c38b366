//! `/1.0/resources`: CPUs, memory and load of a member.

use axum::extract::Request;

use crate::call::Call;
use crate::dto::resources::{Core, Cpu, Load, Memory, Resources, Socket, Thread};
use crate::reply::{self, Reply};

pub(crate) async fn get(call: Call, request: Request) -> Reply {
    if let Ok(answer) = call.to_target(request).await? {
        return Ok(answer);
    }
    let host = call.api.ports.membership.host();
    let load = call.api.ports.telemetry.load(call.me()).unwrap_or_default();
    let cores = (0..u64::from(host.cpus)).map(|number| Core {
        core: number,
        die: 0,
        threads: vec![Thread { id: i64::try_from(number).unwrap_or(i64::MAX), online: true, ..Thread::default() }],
    });
    reply::sync(Resources {
        cpu: Cpu {
            architecture: host.kernel_architecture,
            // Which CPUs share a socket is not looked at: they are shown as one.
            sockets: vec![Socket { cores: cores.collect(), ..Socket::default() }],
            total: u64::from(host.cpus),
        },
        memory: Memory {
            used: host.memory_total.saturating_sub(load.memory_available),
            total: host.memory_total,
            ..Memory::default()
        },
        load: Load { average1: load.load1, ..Load::default() },
        ..Resources::default()
    })
}
