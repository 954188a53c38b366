use std::time::Instant;

use super::*;

fn sh(script: &str) -> Invocation {
    Invocation::new("/bin/sh").args(["-c", script])
}

#[tokio::test]
async fn gives_output_and_the_tail_of_stderr() {
    let done = HostRunner.run(sh("echo out; echo err >&2")).await.unwrap();
    assert_eq!((done.text().as_str(), done.stderr_tail.as_str()), ("out\n", "err\n"));
}

#[tokio::test]
async fn feeds_stdin_and_closes_it() {
    let input = vec![b'x'; 300_000];
    let done = HostRunner.run(Invocation::new("cat").stdin(input.clone())).await.unwrap();
    assert!(done.stdout == input);
    // Without input, a reader sees the end at once.
    assert!(HostRunner.run(Invocation::new("cat")).await.unwrap().stdout.is_empty());
    // A program that does not read is judged by its status.
    HostRunner.run(Invocation::new("true").stdin(input)).await.unwrap();
}

#[tokio::test]
async fn a_failure_tells_what_ran() {
    let script = "printf '%05000d' 7 >&2; exit 3";
    let error = HostRunner.run(sh(script)).await.unwrap_err();
    assert_eq!(error.exit_code(), Some(3));
    assert_eq!(error.stderr().len(), STDERR_TAIL);
    assert!(error.stderr().ends_with("0007"));
    assert!(error.to_string().starts_with("`/bin/sh -c \"printf"), "{error}");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let error = HostRunner.run(Invocation::new("no-such-program-here")).await.unwrap_err();
    assert!(matches!(error, ExecError::NotFound { program } if program == "no-such-program-here"));
    let error = HostRunner.run(Invocation::new("/etc/passwd")).await.unwrap_err();
    assert!(matches!(error, ExecError::Spawn { .. }), "{error:?}");
}

#[tokio::test]
async fn the_deadline_ends_the_whole_group() {
    let before = Instant::now();
    let script = sh("sleep 611 & echo $!; wait").deadline(Duration::from_millis(300));
    let error = HostRunner.run(script).await.unwrap_err();
    assert!(matches!(error, ExecError::Deadline { .. }), "{error:?}");
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn dropping_the_future_ends_the_grandchildren() {
    let dir = std::env::temp_dir().join(format!("basalt-exec-{}", std::process::id()));
    let script = format!("sleep 612 & echo $! > {}; wait", dir.display());
    let run = timeout(Duration::from_millis(500), HostRunner.run(sh(&script))).await;
    assert!(run.is_err());
    let pid: i32 = std::fs::read_to_string(&dir).unwrap().trim().parse().unwrap();
    std::fs::remove_file(&dir).unwrap();
    let gone = async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("the grandchild must die");
}

/// A zombie nobody collects is dead too.
fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

#[tokio::test]
async fn a_daemon_that_keeps_the_pipe_does_not_hold_us() {
    let before = Instant::now();
    let done = HostRunner.run(sh("echo up; setsid sleep 8 &")).await.unwrap();
    assert_eq!(done.text(), "up\n");
    assert!(before.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn children_start_with_an_empty_signal_mask() {
    let read = || {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTERM);
        blocked.add(Signal::SIGCHLD);
        let before = blocked.thread_swap_mask(SigmaskHow::SIG_SETMASK).unwrap();
        let output = Running::start(
            Invocation::new("grep").args(["SigBlk", "/proc/self/status"]),
            [Stdio::null(), Stdio::piped(), Stdio::piped()],
        );
        let restored = SigSet::thread_get_mask().unwrap();
        before.thread_set_mask().unwrap();
        assert!(restored.contains(Signal::SIGTERM));
        output
    };
    let (out, _, _) = read().unwrap().finish(None).await.unwrap();
    assert_eq!(String::from_utf8(out).unwrap().trim(), "SigBlk:\t0000000000000000");
}

#[tokio::test]
async fn streams_both_ways_and_reports_the_end() {
    let mut stream = HostRunner.stream(Invocation::new("cat")).await.unwrap();
    let (mut stdin, mut stdout) = (stream.stdin.take().unwrap(), stream.stdout.take().unwrap());
    stdin.write_all(b"hello").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    stream.wait().await.unwrap();

    let stream = HostRunner.stream(sh("cat; echo bad >&2; exit 4").stdin("x")).await.unwrap();
    assert!(stream.stdin.is_none());
    let error = stream.wait().await.unwrap_err();
    // Its stdout was closed unread, so the shell's `cat` may also complain.
    assert_eq!(error.exit_code(), Some(4));
    assert!(error.stderr().ends_with("bad\n"));
}

#[tokio::test]
async fn dropping_a_stream_ends_the_child() {
    let mut stream = HostRunner.stream(sh("echo $$; exec sleep 613")).await.unwrap();
    let mut line = [0; 16];
    let read = stream.stdout.as_mut().unwrap().read(&mut line).await.unwrap();
    let pid: i32 = std::str::from_utf8(&line[..read]).unwrap().trim().parse().unwrap();
    assert!(alive(pid));
    drop(stream);
    let gone = async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("the child must die");
}

#[tokio::test]
async fn attaches_to_given_descriptors() {
    let (mut reader, writer) = io::pipe().unwrap();
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let script = "trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    let attached = HostRunner.attach(sh(script), [null(), writer.into(), null()]).await.unwrap();
    let mut seen = [0; 6];
    io::Read::read_exact(&mut reader, &mut seen).unwrap();
    assert_eq!(&seen, b"ready\n");
    attached.signal(Signal::SIGUSR1 as i32).unwrap();
    assert_eq!(attached.wait().await.unwrap().code(), Some(9));
}
