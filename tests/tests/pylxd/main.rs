//! pylxd, the Python library of LXD, against a cluster of three real nodes, over HTTPS to a follower. What it does is in
//! `walk.py`; each feature is a row of the README's compat table.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::path::Path;

use basalt_tests::compat::{Client, Rows, Stock, token};
use basalt_tests::{facility, python, require};

const PYLXD: &str = "pylxd==2.4.2";

#[test]
fn walks_the_api() {
    require!(facility::containers());
    let python = match python::with(PYLXD) {
        Ok(python) => python,
        Err(error) => return facility::skip("pylxd", &format!("{PYLXD} cannot be had: {error:#}")),
    };
    let bed = Stock::cluster().unwrap();
    let secret = token(&bed, "pylxd").unwrap();
    let follower = bed.follower().unwrap();
    // Any client of ours will do to stand in the right place.
    let place = Stock::named(Client::Basalt, &bed, "pylxd").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pylxd/walk.py");
    let (python, script) = (python.display().to_string(), script.display().to_string());
    let image = bed.dir().join("busybox.tar.gz").display().to_string();
    let socket = follower.dir.join("unix.socket").display().to_string();
    let line = [&python, &script, &follower.url(), &socket, &secret, &image, &bed.nodes[2].name];
    let line: Vec<&str> = line.into_iter().map(String::as_str).collect();
    let done = place.beside(&line).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let mut rows = Rows::of(Client::Pylxd);
    let mut count = 0;
    // `ok: FEATURE` and `failed: FEATURE`, and what it says in between.
    for line in out.lines() {
        if let Some(skipped) = line.strip_prefix("skipped: ") {
            facility::skip("pylxd", skipped);
        }
        let Some((word @ ("ok" | "failed"), feature)) = line.split_once(": ") else { continue };
        count += 1;
        rows.row(feature, || assert_eq!(word, "ok", "{out}{err}"));
    }
    assert!(done.status.success() && count > 10, "{}: {out}{err}", done.status);
    rows.done();
}
