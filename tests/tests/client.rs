//! Our own client from the first minute on: fresh machines become a cluster by the three ways of `init`, it is looked at
//! and taken apart again. What the client does with instances is in `stock`, beside the others.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use basalt_tests::compat::{Client, Rows, Terminal};
use basalt_tests::testbed::{self, Node, Options, Testbed};
use basalt_tests::{facility, require, wait};

fn command(node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new(testbed::basalt());
    command.args(arguments).env("BASALT_DIR", &node.dir).env("TERM", "xterm");
    command
}

/// Answers questions, each told by a part of it.
fn answer(terminal: &mut Terminal, answers: &[(&str, &str)]) {
    for (question, answer) in answers {
        terminal.expect(question).unwrap();
        terminal.expect(": ").unwrap();
        terminal.type_in(&format!("{answer}\r")).unwrap();
    }
}

fn interactive(node: &Node) {
    let mut terminal = Terminal::start(&command(node, &["init"]), 100, 30).unwrap();
    answer(
        &mut terminal,
        &[
            ("Join an existing cluster?", "perhaps"),
            ("answer yes or no", ""),
            ("Name of this member", &node.name),
            ("Address of this member's API", &node.api_address()),
            ("Storage driver", "tape"),
            ("there is no driver", "dir"),
            ("Name of the storage pool", ""),
            ("Make a bridge network", ""),
            ("Name of the network", ""),
            ("Its IPv4 address and prefix", "10.77.0.1/24"),
        ],
    );
    assert!(terminal.end().unwrap().success(), "{}", terminal.shown());
    let api = node.api();
    assert_eq!(api.get("/1.0/networks/basaltbr0").unwrap()["config"]["ipv4.address"], "10.77.0.1/24");
    assert_eq!(api.get("/1.0/profiles/default").unwrap()["devices"]["root"]["pool"], "default");
    // Once more: nothing is made twice, nothing fails.
    node.basalt(&["init", "--auto"]).unwrap();
}

fn preseed(first: &Node, node: &Node) {
    let token = first.join_token(&node.name).unwrap();
    let text = format!("cluster:\n  cluster_token: {token}\n  server_address: {}\n", node.api_address());
    let mut init = command(node, &["init", "--preseed", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    init.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(init.wait().unwrap().success());
    let wrong = node.basalt_raw(&["init", "--preseed", "/etc/hostname"]).unwrap();
    assert_eq!(wrong.status.code(), Some(1));
}

fn join(first: &Node, node: &Node) {
    let token = first.join_token(&node.name).unwrap();
    let mut terminal = Terminal::start(&command(node, &["init"]), 100, 30).unwrap();
    answer(
        &mut terminal,
        &[
            ("Join an existing cluster?", "yes"),
            ("Join token", &token),
            ("Address of this member's API", &node.api_address()),
        ],
    );
    assert!(terminal.end().unwrap().success(), "{}", terminal.shown());
    let again = node.basalt_raw(&["cluster", "join", &token]).unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(1) && said.contains("basalt cluster list"), "{said}");
}

fn members(bed: &Testbed) {
    let node = &bed.nodes[1];
    // Asked of one through which nobody has joined.
    let csv = wait::until("three members", Duration::from_secs(20), || {
        let csv = node.basalt(&["cluster", "list", "--format", "csv"])?;
        anyhow::ensure!(csv.matches(",ONLINE,").count() == 3, "{csv}");
        Ok(Some(csv))
    })
    .unwrap();
    assert!(bed.nodes.iter().all(|n| csv.contains(&n.url())), "{csv}");
    assert!(node.basalt(&["cluster", "show", &bed.nodes[2].name]).unwrap().contains(&bed.nodes[2].url()));
    node.basalt(&["cluster", "remove", &bed.nodes[2].name]).unwrap();
    let csv = node.basalt(&["cluster", "list", "--format", "csv"]).unwrap();
    assert_eq!(csv.matches(",ONLINE,").count(), 2, "{csv}");
}

fn live(node: &Node) {
    let api = node.api();
    api.create("busy", "", None, &serde_json::Value::Null).unwrap();
    api.act("busy", "start", false).unwrap();
    let mut terminal = Terminal::start(&command(node, &["top", "--interval", "1"]), 100, 30).unwrap();
    // It is drawn again and again, on a screen of its own that is left as it was.
    for _ in 0..2 {
        terminal.expect("MEMBER").unwrap();
        terminal.expect(&node.name).unwrap();
        terminal.expect("busy").unwrap();
    }
    terminal.type_in("\x03").unwrap();
    terminal.expect("\x1b[?25h\x1b[?1049l").unwrap();
    assert!(terminal.end().unwrap().success());
    let once = node.basalt(&["top", "--interval", "1"]).unwrap();
    assert!(once.contains("busy") && !once.contains('\x1b'), "{once}");
    api.act("busy", "stop", true).unwrap();
    api.delete("busy").unwrap();
}

fn completion(node: &Node) {
    for shell in ["bash", "zsh", "fish"] {
        let script = node.basalt(&["completion", shell]).unwrap();
        assert!(script.contains("launch") && script.contains("snapshot") || script.contains("file"), "{shell}");
        if shell == "bash" {
            // As bash itself would complete it.
            let ask = "COMP_WORDS=(basalt lau); COMP_CWORD=1; _basalt basalt lau basalt; echo \"${COMPREPLY[*]}\"";
            let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            bash.stdin.take().unwrap().write_all(format!("{script}\n{ask}\n").as_bytes()).unwrap();
            let done = bash.wait_with_output().unwrap();
            assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "launch", "{done:?}");
        }
    }
}

/// What scripts can rely on, and what people are told to do next.
fn exit_codes(bed: &Testbed) {
    let node = &bed.nodes[0];
    let run = |arguments: &[&str]| {
        let done = node.basalt_raw(arguments).unwrap();
        (done.status.code().unwrap(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    assert_eq!(run(&["list"]).0, 0);
    let (code, said) = run(&["start", "nobody"]);
    assert!(code == 1 && said.contains("Instance not found"), "{said}");
    let (code, said) = run(&["launch", "nothing", "x"]);
    assert!(code == 1 && said.contains("basalt image"), "the next step: {said}");
    assert_eq!(run(&["start"]).0, 2);
    assert_eq!(run(&["nonsense"]).0, 2);
    let (code, said) = run(&["--remote", "nowhere", "list"]);
    assert!(code == 1 && said.contains("basalt remote add"), "{said}");
    let away = command(node, &["list"]).env("BASALT_DIR", "/nonexistent").output().unwrap();
    let said = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(away.status.code() == Some(1) && said.contains("Hint: is basaltd running"), "{said}");
}

#[test]
fn from_fresh_machines_to_a_cluster_and_back() {
    require!(facility::testbed());
    let bed = Testbed::start(&Options::fake(3)).unwrap();
    let [one, two, three] = &bed.nodes[..] else { panic!("three nodes") };
    let mut rows = Rows::of(Client::Basalt);
    let before = one.basalt_raw(&["list"]).unwrap();
    assert!(String::from_utf8_lossy(&before.stderr).contains("basalt init"), "the next step");
    rows.row("init: interactive", || interactive(one));
    rows.row("init: preseed", || preseed(one, two));
    rows.row("init: join, asked for the token", || join(one, three));
    bed.wait_online(3).unwrap();
    rows.row("completion: bash, zsh, fish", || completion(one));
    rows.row("exit codes and next steps", || exit_codes(&bed));
    rows.row("top: members and instances, live", || live(one));
    rows.row("cluster: list, show, remove", || members(&bed));
    rows.done();
}
