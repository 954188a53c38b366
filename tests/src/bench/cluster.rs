//! Three nodes beside a cluster of three Incus: changes of an instance through a member that does not lead.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::front::in_parallel;
use super::incus::{self, Incus};
use super::pair::{Pair, Side};
use super::raft::patch_window;
use super::{Bar, Report};
use crate::testbed::{Options, Testbed};

const CLIENTS: usize = 16;

/// # Errors
/// When a step fails.
pub fn measure(report: &mut Report) -> Result<()> {
    println!("three nodes: Basalt and a cluster of Incus on the same disk and links");
    if let Some(why) = incus::lack() {
        report.skip("PATCH in three nodes", &why);
        return Ok(());
    }
    let bed = Testbed::cluster(&Options::fake(3))?;
    let follower = bed.follower()?;
    let incus = Incus::cluster(&bed)?;
    let theirs = &incus.members[(incus.leader()? + 1) % 3];
    let pair = Pair {
        nodes: &bed.nodes,
        incus: Some(&incus),
        label: incus::label(),
        ours: Side { api: follower.api(), https: follower.api_address(), peer: false },
        theirs: Some(Side { api: theirs.api(), https: theirs.https(), peer: true }),
    };
    for (side, home) in [(Some(&pair.ours), &follower.name), (pair.theirs.as_ref(), &theirs.name)] {
        let Some(side) = side else { continue };
        pair.only(side.peer)?;
        // The home is the member that is spoken to: the peer's best case.
        in_parallel(2, CLIENTS, |n| side.api.create(&format!("k{n}"), "", Some(home), &Value::Null).map(drop))?;
    }
    for (clients, bar) in [(1, 5.0), (CLIENTS, 20.0)] {
        let both = pair.take(3, |side| {
            let window = patch_window(&side.api, clients)?;
            let kept = side.api.get("/1.0/instances/k0")?["config"]["user.n"].as_str().map(str::len);
            ensure!(kept == Some(64), "what was written is not there: {kept:?}");
            Ok(vec![window.rate])
        })?;
        let figure = format!("PATCH by a follower, {clients} client(s)");
        both.ratio(report, &pair, (&figure, "/s"), Bar::AtLeast(bar));
    }
    pair.only(true)
}
