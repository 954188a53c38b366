//! DHCP, DNS and router advertisements for a bridge: one dnsmasq each.
//!
//! It makes itself a daemon and outlives the agent. It is recognised by what it is, not by what a
//! file says: a process in our namespaces whose argument list is exactly the wanted one, and whose
//! environment carries the interface number and addresses it was started for. Then it is adopted;
//! anything else with the same pid file is ended and replaced. Static hosts are a file that it
//! reads again on SIGHUP; `hosts.loaded` follows when it was told, so a kill in between tells again.

mod argv;
pub(crate) mod lease;
mod process;

use std::{io, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use basalt_runtime::{CommandRunner, Invocation, spawn_blocking};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::{BridgeSpec, Error, IfName, error::command, state::State};
use argv::Files;
use process::Daemon;

const HOSTS: &str = "hosts";
const LOADED: &str = "hosts.loaded";
const LEASES: &str = "leases";
const PID: &str = "dnsmasq.pid";

/// It answers signals within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(10);

/// `index` is the bridge's interface number: a bridge made anew needs a daemon started anew.
pub(crate) async fn ensure(
    runner: &dyn CommandRunner,
    state: &State,
    spec: &BridgeSpec,
    index: u32,
) -> Result<(), Error> {
    let bridge = &spec.name;
    if spec.ipv4.is_none() && spec.ipv6.is_none() {
        return stop(state, bridge).await;
    }
    let hosts = argv::hosts(spec);
    state.write(HOSTS, &hosts)?;
    let user = user(&state.path(HOSTS));
    let args = argv::args(spec, &files(state), &user);
    let tag = argv::tag(spec, index);
    if let Some(daemon) = process::named(&state.path(PID))
        && daemon.is(&args, &tag)
    {
        return tell(state, bridge, &daemon, &hosts);
    }
    // Its file lost or wrong, it may be running all the same.
    let running = find(state, bridge).await?;
    if let [daemon] = running.as_slice()
        && daemon.is(&args, &tag)
    {
        return tell(state, bridge, daemon, &hosts);
    }
    if !running.is_empty() {
        info!(%bridge, "restarting dnsmasq: its task changed");
        stop(state, bridge).await?;
    }
    state.forget(LOADED)?;
    let start = Invocation::new(argv::PROGRAM).args(args).env(argv::TAG, tag);
    runner.run(start).await.map_err(|error| command(bridge, "start dnsmasq", error))?;
    state.write(LOADED, &hosts)
}

/// Makes an adopted daemon read its hosts, unless it was told of these already.
fn tell(state: &State, bridge: &IfName, daemon: &Daemon, hosts: &str) -> Result<(), Error> {
    if state.read(LOADED)?.as_deref() == Some(hosts) {
        return Ok(());
    }
    signal(bridge, daemon.pid, Signal::SIGHUP, "tell dnsmasq of its hosts")?;
    state.write(LOADED, hosts)
}

/// Ends every dnsmasq of this bridge, and waits until they have let go of their sockets.
pub(crate) async fn stop(state: &State, bridge: &IfName) -> Result<(), Error> {
    for force in [Signal::SIGTERM, Signal::SIGKILL] {
        let running = find(state, bridge).await?;
        for daemon in &running {
            signal(bridge, daemon.pid, force, "end dnsmasq")?;
        }
        let deadline = Instant::now() + PATIENCE;
        while running.iter().any(|daemon| process::alive(daemon.pid)) && Instant::now() < deadline {
            sleep(GLANCE).await;
        }
        // Looked for again, as a number that is alive may by now be someone else's.
        if find(state, bridge).await?.is_empty() {
            return Ok(());
        }
        warn!(%bridge, signal = %force, "dnsmasq did not end");
    }
    let source = io::Error::new(io::ErrorKind::TimedOut, "it did not end after SIGKILL");
    Err(Error::Daemon { bridge: bridge.clone(), step: "end dnsmasq", source })
}

/// Current leases, as the daemon keeps them.
pub(crate) fn leases(state: &State) -> Result<Vec<lease::Lease>, Error> {
    Ok(lease::parse(&state.read(LEASES)?.unwrap_or_default()))
}

fn files(state: &State) -> Files {
    Files { pid: state.path(PID), leases: state.path(LEASES), hosts: state.path(HOSTS) }
}

async fn find(state: &State, bridge: &IfName) -> Result<Vec<Daemon>, Error> {
    let pid_file = state.path(PID);
    let failed = |source| Error::Daemon { bridge: bridge.clone(), step: "look for dnsmasq", source };
    let found = spawn_blocking("look for dnsmasq", move || process::find(&pid_file)).await;
    found.map_err(|panicked| failed(io::Error::other(panicked)))?.map_err(failed)
}

fn signal(bridge: &IfName, pid: i32, signal: Signal, step: &'static str) -> Result<(), Error> {
    match kill(Pid::from_raw(pid), signal) {
        // Gone meanwhile.
        Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
        Err(errno) => Err(Error::Daemon { bridge: bridge.clone(), step, source: errno.into() }),
    }
}

/// Packets from guests are best parsed without privileges; but it must be able to read its files.
fn user(hosts: &Path) -> String {
    let reachable = hosts.ancestors().skip(1).all(|dir| {
        // A relative path ends in the empty one: the working directory.
        dir.as_os_str().is_empty() || dir.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
    });
    let known = |name: &&str| matches!(User::from_name(name), Ok(Some(_)));
    let unprivileged = ["dnsmasq", "nobody"].into_iter().find(known);
    unprivileged.filter(|_| reachable).unwrap_or("root").to_owned()
}
