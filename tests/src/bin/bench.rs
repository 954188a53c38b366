//! `make bench`: what Basalt does beside bare LXC, etcd and Incus on this machine, as ratios. `make bench ONLY=PART` takes
//! one part: `engine`, `raft`, `front`, `cluster`, `moves`, `ovsdb` or `northbound`.
//!
//! Rules: one run measures all; sides alternate A-B-B-A and the one that is not measured is stopped (SIGSTOP), so that
//! both meet the same disturbances; same durability (both sync each commit to the same disk); one client program; medians
//! with their spread. The disk's own time and the load are printed before and after. A bar that is not reached is printed as
//! such.

#![allow(clippy::disallowed_methods)] // a user at a shell

use std::process::ExitCode;

use anyhow::{Result, bail};
use basalt_tests::bench::{Report, cluster, disk, engine, front, moves, northbound, ovsdb, raft};
use basalt_tests::facility;

const PARTS: [&str; 7] = ["engine", "raft", "front", "cluster", "moves", "ovsdb", "northbound"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if let Some(lack) = facility::containers() {
        bail!("{lack}");
    }
    let only = std::env::args().nth(1);
    if let Some(unknown) = only.as_ref().filter(|o| !PARTS.contains(&o.as_str())) {
        bail!("no part {unknown:?}: one of {}", PARTS.join(", "));
    }
    let wanted = |name: &str| only.as_deref().is_none_or(|o| o == name);
    let mut report = Report::default();
    disk::measure(&mut report, "before")?;
    if wanted("engine") {
        engine::measure(&mut report)?;
    }
    if wanted("raft") {
        raft::measure(&mut report)?;
    }
    if wanted("front") {
        front::measure(&mut report)?;
    }
    if wanted("cluster") {
        cluster::measure(&mut report)?;
    }
    if wanted("moves") {
        moves::measure(&mut report)?;
    }
    if wanted("ovsdb") {
        ovsdb::measure(&mut report)?;
    }
    if wanted("northbound") {
        northbound::measure(&mut report)?;
    }
    disk::measure(&mut report, "after")?;
    report.print();
    Ok(())
}
