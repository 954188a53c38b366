//! Containers: start beside bare LXC on the very same root and configuration, and how many can be made in a second.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Bar, Report, Sample};
use crate::api::Api;
use crate::testbed::{Node, Options, Testbed};
use crate::{census, image};

const STARTS: usize = 12;
const CLIENTS: usize = 8;
const CREATES: usize = 25;

/// # Errors
/// When a step fails.
pub fn measure(report: &mut Report) -> Result<()> {
    println!("containers: one node, dir pool");
    let bed = Testbed::cluster(&Options::real(1))?;
    let node = &bed.nodes[0];
    start(report, &bed, node)?;
    create(report, node)
}

/// A-B-B-A: through the API to the end of the operation, and `lxc-start` with the configuration that the agent wrote.
fn start(report: &mut Report, bed: &Testbed, node: &Node) -> Result<()> {
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file)?;
    node.basalt(&["image", "import", file.to_str().context("a plain path")?, "--alias", "busybox"])?;
    let api = node.api();
    api.create("bench", "busybox", None, &Value::Null)?;
    api.act("bench", "start", false)?;
    let config = config_of(node)?;
    let copy = bed.dir().join("bare.conf");
    std::fs::copy(&config, &copy).context("copy the configuration")?;
    api.act("bench", "stop", true)?;
    let (mut ours, mut bare) = (Sample::default(), Sample::default());
    for round in 0..STARTS {
        if round % 2 == 0 {
            ours.push_time(through_api(&api)?);
            bare.push_time(by_lxc(node, bed.dir(), &copy)?);
        } else {
            bare.push_time(by_lxc(node, bed.dir(), &copy)?);
            ours.push_time(through_api(&api)?);
        }
    }
    api.delete("bench")?;
    report.ratio(("container start", "ms"), &ours, ("bare lxc-start", &bare), Bar::AtMost(1.5));
    Ok(())
}

fn config_of(node: &Node) -> Result<PathBuf> {
    let id = census::of(node)?.guests.into_keys().next().context("a running guest")?;
    Ok(node.dir.join("lxc").join(id).join("config"))
}

fn through_api(api: &Api) -> Result<std::time::Duration> {
    let begun = Instant::now();
    api.act("bench", "start", false)?;
    let took = begun.elapsed();
    api.act("bench", "stop", true)?;
    Ok(took)
}

fn by_lxc(node: &Node, dir: &Path, config: &Path) -> Result<std::time::Duration> {
    let lxc = dir.join("bare-lxc");
    std::fs::create_dir_all(&lxc).context("LXC's folder")?;
    let run = |program: &str, arguments: &[&str]| -> Result<()> {
        let mut command = node.inside(Path::new(program));
        // As the agent does it: without newuidmap in its path, LXC maps ids itself.
        command.env("PATH", "/usr/sbin:/sbin");
        let done = command.arg("-P").arg(&lxc).args(["-n", "bare"]).args(arguments).output().context("run LXC")?;
        anyhow::ensure!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    let begun = Instant::now();
    run("/usr/bin/lxc-start", &["-d", "-f", config.to_str().context("a plain path")?])?;
    let took = begun.elapsed();
    run("/usr/bin/lxc-stop", &["-k"])?;
    Ok(took)
}

/// Empty instances, each made and waited for.
fn create(report: &mut Report, node: &Node) -> Result<()> {
    let (mut one, mut many) = (Sample::default(), Sample::default());
    for round in 0..3 {
        one.push(rate(node, 1, CREATES, &format!("a{round}"))?);
        many.push(rate(node, CLIENTS, CREATES, &format!("b{round}"))?);
    }
    report.note("create, 1 client", &one, "/s");
    report.bar("create, 8 clients", &many, "/s", Bar::AtLeast(100.0));
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // a few hundred instances
fn rate(node: &Node, clients: usize, each: usize, prefix: &str) -> Result<f64> {
    let names = |client: usize| (0..each).map(move |n| format!("{prefix}-{client}-{n}"));
    let in_parallel = |work: &(dyn Fn(&Api, &str) -> Result<Value> + Sync)| -> Result<()> {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..clients)
                .map(|client| {
                    scope.spawn(move || names(client).try_for_each(|name| work(&node.api(), &name).map(drop)))
                })
                .collect();
            clients.into_iter().try_for_each(|c| c.join().expect("a client does not panic"))
        })
    };
    let begun = Instant::now();
    in_parallel(&|api, name| api.create(name, "", None, &Value::Null))?;
    let rate = (clients * each) as f64 / begun.elapsed().as_secs_f64();
    in_parallel(&|api, name| api.delete(name))?;
    Ok(rate)
}
