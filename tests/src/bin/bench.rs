//! `make bench`: what Basalt does beside bare LXC and etcd on this machine, as ratios.
//!
//! Rules: one run measures all; sides alternate A-B-B-A and the one that is not measured is stopped (SIGSTOP), so that
//! both meet the same disturbances; same durability (both sync each commit to the same disk); one client program; medians
//! with their spread. The disk's own time and the load are printed before and after. A bar that is not reached is printed as
//! such.

#![allow(clippy::disallowed_methods)] // a user at a shell

use std::process::ExitCode;

use anyhow::{Result, bail};
use basalt_tests::bench::{Report, disk, engine, raft};
use basalt_tests::facility;

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
    let wanted = |name: &str| only.as_deref().is_none_or(|o| o == name);
    let mut report = Report::default();
    disk::measure(&mut report, "before")?;
    if wanted("engine") {
        engine::measure(&mut report)?;
    }
    if wanted("raft") {
        raft::measure(&mut report)?;
    }
    disk::measure(&mut report, "after")?;
    report.print();
    Ok(())
}
