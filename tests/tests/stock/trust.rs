//! Who is trusted: tokens, certificates, restrictions.

use basalt_tests::compat::{Client, Rows, Stock, token};
use basalt_tests::testbed::Testbed;
use basalt_tests::wait;
use serde_json::Value;

use super::{Bed, SOON};

/// The two ways in, each with clients of their own.
pub(crate) fn join(rows: &mut Rows, client: Client, bed: &Testbed) {
    rows.row("remote: add by URL and token, once", || {
        let secret = token(bed, "once").unwrap();
        let first = Stock::named(client, bed, "first").unwrap();
        first.trust(bed.follower().unwrap(), &secret).unwrap();
        first.run(&["list"]);
        let second = Stock::named(client, bed, "second").unwrap();
        let again = second.trust(bed.follower().unwrap(), &secret);
        assert!(again.is_err() || !second.raw(&["list"]).status.success(), "a used token was taken again");
    });
    rows.row("remote: add by token alone", || {
        // The token says where the cluster is.
        let stock = Stock::named(client, bed, "alone").unwrap();
        stock.run(&["remote", "add", "basalt", &token(bed, "alone").unwrap()]);
        stock.run(&["remote", "switch", "basalt"]);
        stock.run(&["list"]);
        let refused = stock.refused(&["remote", "add", "bad", &token(bed, "x").unwrap().replace('e', "f")]);
        assert!(!refused.is_empty());
    });
}

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("config trust: add, list, show, edit, remove", || certificates(bed));
    if !bed.ours() {
        rows.row("config trust: tokens, list, revoke", || tokens(bed));
    }
    rows.row("config trust: restricted to a project", || restricted(bed));
}

/// A trust token for somebody else.
pub(crate) fn add(bed: &Bed, name: &str, more: &[&str]) -> String {
    let how: &[&str] = match bed.client.client {
        Client::Lxc => &["config", "trust", "add", "--name", name],
        Client::Basalt => &["trust", "token", name],
        _ => &["config", "trust", "add", name],
    };
    let said = bed.run(&[how, more].concat());
    said.split_whitespace().last().unwrap().to_owned()
}

/// `config trust`, which is `trust` with our own client.
fn trust(bed: &Bed, words: &[&str]) -> String {
    let first: &[&str] = if bed.ours() { &["trust"] } else { &["config", "trust"] };
    bed.run(&[first, words].concat())
}

fn certificates(bed: &Bed) {
    // A certificate that its owner did not bring himself: made by another tool.
    let made = bed
        .beside(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
            "-nodes",
            "-keyout",
            "other.key",
            "-out",
            "other.crt",
            "-days",
            "2",
            "-subj",
            "/CN=other",
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    trust(bed, &[if bed.lxc() { "add" } else { "add-certificate" }, "other.crt", "--name", "other"]);
    let list = serde_json::from_str::<Value>(&trust(bed, &["list", "--format", "json"])).unwrap();
    let other = list.as_array().unwrap().iter().find(|c| c["name"] == "other").unwrap();
    let fingerprint = other["fingerprint"].as_str().unwrap();
    if !bed.ours() {
        let shown = trust(bed, &["show", fingerprint]);
        assert!(shown.contains("name: other") && shown.contains("restricted: false"), "{shown}");
        bed.feed(&["config", "trust", "edit", fingerprint], &shown.replace("name: other", "name: renamed"));
        assert!(trust(bed, &["show", fingerprint]).contains("name: renamed"));
    }
    let url = format!("{}/1.0/instances", bed.bed.nodes[2].url());
    let with = ["curl", "-sk", "--cert", "other.crt", "--key", "other.key", &url];
    // Another member than the client's knows it a moment later.
    let answers = |part: &str| {
        wait::until(&format!("{url} answers {part:?}"), SOON, || {
            let done = bed.beside(&with).output()?;
            let said = String::from_utf8_lossy(&done.stdout);
            anyhow::ensure!(said.contains(part), "{said}");
            Ok(Some(()))
        })
        .unwrap();
    };
    answers("/1.0/instances/c1");
    trust(bed, &["remove", &fingerprint[..12]]);
    answers("not authorized");
}

fn tokens(bed: &Bed) {
    add(bed, "guest-1", &[]);
    let list = bed.run(&["config", "trust", "list-tokens"]);
    assert!(list.contains("guest-1"), "{list}");
    bed.run(&["config", "trust", "revoke-token", "guest-1"]);
    let list = bed.run(&["config", "trust", "list-tokens"]);
    assert!(!list.contains("guest-1"), "{list}");
}

fn restricted(bed: &Bed) {
    bed.run(&["project", "create", "fence", "-c", "features.images=false"]);
    let restricted: &[&str] =
        if bed.ours() { &["--projects", "fence"] } else { &["--restricted", "--projects", "fence"] };
    let secret = add(bed, "fenced", restricted);
    let other = Stock::named(bed.client.client, &bed.bed, "fenced").unwrap();
    let word = if bed.lxc() { "--password" } else { "--token" };
    let url = bed.bed.nodes[2].url();
    let line = ["remote", "add", "basalt", &url, "--accept-certificate", word, &secret];
    other.run(&[&line[..], if bed.ours() { &[] } else { &["--project", "fence"] }].concat());
    other.run(&["remote", "switch", "basalt"]);
    if bed.ours() {
        other.run(&["project", "switch", "fence"]);
    }
    other.run(&[bed.create(), "busybox", "mine", "-s", "default"]);
    assert_eq!(other.line(&["list", "--format", "csv", "-c", "n"]), "mine");
    other.refused(&["info", "c1", "--project", "default"]);
    other.refused(&["config", "set", "user.x=y"]);
    other.refused(&["project", "delete", "fence"]);
    other.run(&["delete", "mine"]);
    // Each of the two hears a moment later of what the other has done.
    let fenced = wait::until("it is listed", SOON, || {
        let list: Value = serde_json::from_str(&trust(bed, &["list", "--format", "json"]))?;
        Ok(list.as_array().and_then(|all| all.iter().find(|c| c["name"] == "fenced")).cloned())
    })
    .unwrap();
    assert_eq!(fenced["restricted"], true);
    trust(bed, &["remove", fenced["fingerprint"].as_str().unwrap()]);
    wait::until_true("it is not trusted any more", SOON, || Ok(!other.raw(&["list"]).status.success())).unwrap();
    bed.run(&["project", "delete", "fence"]);
}
