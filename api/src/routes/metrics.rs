//! `/1.0/metrics`: this member's guests, and what this program counts.

use axum::extract::Request;

use crate::call::Call;
use crate::error::Error;
use crate::metrics::{Daemon, Names, Sample, page};
use crate::reply::{self, Reply};

/// What Prometheus takes the text for.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn get(call: Call, request: Request) -> Reply {
    if let Ok(answer) = call.to_target(request).await? {
        return Ok(answer);
    }
    let names = match call.query("format") {
        None => call.dialect.metrics(),
        Some(word) => Names::parse(word).ok_or_else(|| Error::invalid("format", "is not lxd, incus or basalt"))?,
    };
    let me = call.me();
    let wanted = call.query("project").map(|_| call.project()).transpose()?;
    let metrics_only = !call.who.trusted();
    let visible = |project: &_| metrics_only || call.who.sees(project);
    let live = call.api.ports.telemetry.live().await;
    let samples: Vec<Sample> = call
        .view
        .assigned_to(me)
        .filter(|i| visible(&i.project) && wanted.as_ref().is_none_or(|p| *p == i.project))
        .filter_map(|i| {
            Some(Sample {
                name: i.name.to_string(),
                project: i.project.to_string(),
                kind: i.spec.kind.as_str(),
                live: live.get(&i.id)?.clone(),
            })
        })
        .collect();
    // Figures of the program are not for those who see some projects only.
    let all = call.who.full() || metrics_only;
    let daemon = all.then(|| Daemon {
        uptime_secs: call.api.started.elapsed().as_secs_f64(),
        operations: call.api.operations.list().iter().filter(|(_, op)| !op.is_final()).count(),
        warnings: super::warning::open(&call),
    });
    let registry = all.then_some(&call.api.ports.registry);
    Ok(reply::raw(CONTENT_TYPE, page(names, &samples, daemon, registry)))
}
