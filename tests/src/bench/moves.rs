//! A stopped container with 200 MiB of random data moves between nodes, beside a plain copy of as much on the same disk.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::pair::timed;
use super::{Bar, Report, Sample};
use crate::testbed::{Options, Testbed};

const MIB: usize = 200;
const MOVES: usize = 5;

/// # Errors
/// When a step fails.
pub fn measure(report: &mut Report) -> Result<()> {
    println!("moves: three nodes, plain folders as pool");
    let bed = Testbed::cluster(&Options::real(3))?;
    let (first, api) = (&bed.nodes[0], bed.nodes[0].api());
    let file = bed.dir().join("busybox.tar.gz");
    crate::image::busybox(&file)?;
    first.basalt(&["image", "import", file.to_str().context("a plain path")?, "--alias", "busybox"])?;
    api.create("m", "busybox", Some(&first.name), &Value::Null)?;
    api.act("m", "start", false)?;
    let fill = format!("dd if=/dev/urandom of=/data bs=1M count={MIB} && sync && sha256sum /data");
    let sum = first.basalt(&["exec", "m", "--", "sh", "-c", &fill])?;
    api.act("m", "stop", true)?;
    let (mut moves, mut copies) = (Sample::default(), Sample::default());
    for round in 1..=MOVES {
        let target = &bed.nodes[round % 3].name;
        let body = json!({"name": "m", "migration": true});
        let moved = timed(|| api.run("POST", &format!("/1.0/instances/m?target={target}"), &body).map(drop))?;
        moved.into_iter().for_each(|ms| moves.push(ms));
        ensure!(api.get("/1.0/instances/m")?["location"] == target.as_str(), "it is not on {target}");
        plain_copy(bed.dir())?.into_iter().for_each(|ms| copies.push(ms));
    }
    api.act("m", "start", false)?;
    let after = first.basalt(&["exec", "m", "--", "sha256sum", "/data"])?;
    ensure!(sum.contains(after.trim()), "what arrived is not what was sent: {sum:?} and {after:?}");
    report.ratio(("move of 200 MiB, stopped, dir", "ms"), &moves, ("cp and fsync", &copies), Bar::AtMost(3.0));
    Ok(())
}

/// Copies a file of that size beside itself and syncs it.
fn plain_copy(dir: &Path) -> Result<Vec<f64>> {
    let (from, to) = (dir.join("copy-from"), dir.join("copy-to"));
    if !from.exists() {
        let mut random = std::fs::File::open("/dev/urandom").context("random data")?.take((MIB as u64) << 20);
        let mut file = std::fs::File::create(&from).context("a file to copy")?;
        std::io::copy(&mut random, &mut file).context("fill it")?;
        file.flush().and_then(|()| file.sync_all()).context("sync it")?;
    }
    let took = timed(|| {
        std::fs::copy(&from, &to).context("copy")?;
        std::fs::File::open(&to).and_then(|f| f.sync_all()).context("sync the copy")
    })?;
    std::fs::remove_file(&to).context("remove the copy")?;
    Ok(took)
}
