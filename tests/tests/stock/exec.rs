//! `exec`: on pipes and on terminals.

use std::io::{Read, Write};
use std::process::Stdio;

use basalt_tests::compat::{Rows, Terminal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use super::Bed;

pub(crate) fn rows(rows: &mut Rows, bed: &Bed) {
    rows.row("exec: pipes", || pipes(bed));
    rows.row("exec: exit codes", || codes(bed));
    rows.row("exec: user, group, folder, environment", || who(bed));
    rows.row("exec: 1 GB through stdin", || gigabyte(bed));
    rows.row("exec: terminal, size, resize, Ctrl-C", || terminal(bed));
    rows.row("exec: modes by option", || modes(bed));
    rows.row("exec: signals", || signals(bed));
}

fn pipes(bed: &Bed) {
    assert_eq!(bed.line(&["exec", "c1", "--", "hostname"]), "c1");
    let done = bed.raw(&["exec", "c1", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    // All bytes, both ways, and the end of the input is seen.
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let done = bed.fed(&["exec", "c1", "--", "cat"], &bytes);
    assert_eq!((done.status.code(), done.stdout == bytes), (Some(0), true));
    // Output that is more than any buffer between, and input that nobody reads.
    let done = bed.raw(&["exec", "c1", "--", "dd", "if=/dev/zero", "bs=1048576", "count=32"]);
    assert_eq!(done.stdout.len(), 32 << 20);
    let done = bed.fed(&["exec", "c1", "--", "true"], &bytes);
    assert_eq!(done.status.code(), Some(0));
}

fn codes(bed: &Bed) {
    let code = |command: &[&str]| bed.raw(&[&["exec", "c1", "--"], command].concat()).status.code();
    assert_eq!(code(&["true"]), Some(0));
    assert_eq!(code(&["false"]), Some(1));
    assert_eq!(code(&["sh", "-c", "exit 42"]), Some(42));
    assert_eq!(code(&["/etc/inittab"]), Some(126), "not a program");
    assert_eq!(code(&["no-such-program"]), Some(127));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(137));
    let refused = bed.refused(&["exec", "nobody", "--", "true"]);
    assert!(refused.contains("Instance not found"), "{refused}");
}

fn who(bed: &Bed) {
    let id = bed.line(&[
        "exec",
        "c1",
        "--user",
        "1000",
        "--group",
        "1001",
        "--cwd",
        "/tmp",
        "--",
        "sh",
        "-c",
        "id -u; id -g; pwd",
    ]);
    assert_eq!(id, "1000\n1001\n/tmp");
    let env = bed.line(&[
        "exec",
        "c1",
        "--env",
        "COLOUR=dark blue",
        "--env",
        "HOME=/x",
        "--",
        "sh",
        "-c",
        "echo $COLOUR,$HOME",
    ]);
    assert_eq!(env, "dark blue,/x");
    let env = bed.line(&["exec", "c1", "--", "sh", "-c", "echo $HOME $USER $LANG; pwd"]);
    assert_eq!(env, "/root root C.UTF-8\n/root");
}

/// Every byte there and back, with the digest of what came back, without holding it in memory.
fn gigabyte(bed: &Bed) {
    const BLOCK: usize = 1 << 20;
    const BLOCKS: usize = 1000;
    let mut child =
        bed.command(&["exec", "c1", "--", "sha256sum"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let mut digest = Sha256::new();
        let mut block = vec![0_u8; BLOCK];
        for number in 0..BLOCKS {
            for (at, byte) in block.iter_mut().enumerate() {
                *byte = u8::try_from((at ^ (number * 7)) & 0xff).unwrap();
            }
            digest.update(&block);
            input.write_all(&block).unwrap();
        }
        digest.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>()
    });
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(said.split_whitespace().next(), Some(writer.join().unwrap().as_str()));
}

fn terminal(bed: &Bed) {
    let mut terminal = Terminal::start(&bed.command(&["exec", "c1", "--", "sh"]), 91, 31).unwrap();
    terminal.type_in("stty size; tty; echo T=$TERM\r").unwrap();
    terminal.expect("31 91").unwrap();
    terminal.expect("/dev/pts/").unwrap();
    terminal.expect("T=xterm").unwrap();
    terminal.resize(120, 40).unwrap();
    terminal.type_in("while ! stty size | grep '40 120'; do :; done; echo resi''zed\r").unwrap();
    terminal.expect("resized").unwrap();
    // Only when the program runs is the key a signal, not a letter to the shell's own line.
    terminal.type_in("echo go''ing; sleep 1000; echo interrup''ted\r").unwrap();
    terminal.expect("going").unwrap();
    terminal.type_in("\x03").unwrap();
    terminal.type_in("echo al''ive; exit 5\r").unwrap();
    terminal.expect("alive").unwrap();
    assert_eq!(terminal.end().unwrap().code(), Some(5));
    assert!(!terminal.shown().contains("interrupted"), "{}", terminal.shown());
}

fn modes(bed: &Bed) {
    let tests = "test -t 0 && echo in; test -t 1 && echo out; exit 0";
    // Pipes, unless a terminal is asked for.
    let run = |option: &[&str]| bed.line(&[&["exec", "c1"], option, &["--", "sh", "-c", tests]].concat());
    assert_eq!(run(&[]), "");
    assert_eq!(run(&["-t"]).replace('\r', ""), "in\nout");
    assert_eq!(run(&["--mode", "non-interactive"]), "");
    // A terminal, unless pipes are asked for.
    let on_terminal = |option: &[&str]| {
        let line = [&["exec", "c1"], option, &["--", "sh", "-c", tests]].concat();
        let mut terminal = Terminal::start(&bed.command(&line), 80, 24).unwrap();
        assert!(terminal.end().unwrap().success());
        terminal.shown().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(on_terminal(&[]), "in out");
    assert_eq!(on_terminal(&["-T"]), "");
    let done = bed.fed(&["exec", "c1", "-n", "--", "wc", "-c"], b"not to be sent");
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "0");
}

/// What the client is sent, the program gets.
fn signals(bed: &Bed) {
    let script = "trap 'echo got TERM; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let line = ["exec", "c1", "--", "sh", "-c", script];
    let mut child = bed.command(&line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut said = [0; 6];
    out.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"ready\n");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("got TERM\n", Some(9)));
}
