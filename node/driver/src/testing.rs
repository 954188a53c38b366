//! Conformance suite of the port: what every driver must do, real or fake. Panics at the first broken promise.
//!
//! The guests that `make_guest` gives must be new each time, startable, able to stop cleanly within 20 s, and have
//! `true`, `false`, `echo`, `cat` and `sleep` in `/bin`. What is made here is destroyed here, unless an assertion fails.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::time::Duration;

use basalt_model::InstanceId;
use basalt_model::instance::StopMode;
use basalt_model::{Epoch, Generation};
use tokio::sync::mpsc;

use crate::{Error, Event, ExecRequest, Found, GuestAccess, GuestIo, GuestSpec, InstanceDriver, State};

const FORCE: StopMode = StopMode { force: true, timeout_secs: None };
const CLEAN: StopMode = StopMode { force: false, timeout_secs: Some(20) };
/// Within which what "must happen" has to happen, on a very busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Everything but what needs a second driver or a guest that dies: see [`adoption`] and [`exit_event`].
pub async fn suite<D, M>(driver: &D, mut make_guest: M)
where
    D: InstanceDriver + ?Sized,
    M: FnMut() -> GuestSpec,
{
    unknown(driver, make_guest().id).await;
    life_cycle(driver, make_guest()).await;
    epochs(driver, make_guest()).await;
    pausing(driver, make_guest()).await;
    destroy_running(driver, make_guest()).await;
    if let Some(access) = driver.access() {
        let guest = make_guest();
        exec_stopped(driver, access, &guest).await;
        driver.start(&guest).await.expect("start");
        exec_pipes(access, guest.id).await;
        exec_codes(access, guest.id).await;
        exec_signals(access, guest.id).await;
        exec_terminal(access, guest.id).await;
        driver.destroy(guest.id).await.expect("destroy");
    }
}

/// The state and stamps of a guest that must exist.
pub async fn found<D: InstanceDriver + ?Sized>(driver: &D, id: InstanceId) -> Found {
    driver.inspect(id).await.expect("inspect").expect("a prepared guest is found")
}

async fn unknown<D: InstanceDriver + ?Sized>(driver: &D, id: InstanceId) {
    assert_eq!(driver.inspect(id).await.expect("inspect"), None);
    assert!(matches!(driver.pause(id).await, Err(Error::NotFound { .. } | Error::NotRunning { .. })));
    assert!(matches!(driver.usage(id).await, Err(Error::NotFound { .. } | Error::NotRunning { .. })));
    driver.stop(id, CLEAN).await.expect("stopping what does not run succeeds");
    driver.destroy(id).await.expect("destroying what is gone succeeds");
}

async fn life_cycle<D: InstanceDriver + ?Sized>(driver: &D, mut guest: GuestSpec) {
    let id = guest.id;
    driver.prepare(&guest).await.expect("prepare");
    driver.prepare(&guest).await.expect("prepare again");
    let prepared = found(driver, id).await;
    assert_eq!((prepared.state, prepared.start, prepared.pid), (State::Stopped, 0, None));
    assert_eq!((prepared.epoch, prepared.generation), (guest.epoch, guest.generation));

    guest.start = 1;
    driver.start(&guest).await.expect("start");
    let running = found(driver, id).await;
    assert_eq!((running.state, running.start, running.same_boot), (State::Running, 1, true));
    let pid = running.pid.expect("a running guest has a pid");
    assert!(running.started_at.is_some());
    driver.start(&guest).await.expect("start again");
    assert_eq!(found(driver, id).await.pid, Some(pid), "the second start did nothing");
    assert!(driver.list().await.expect("list").contains(&running), "list and inspect agree");
    let usage = driver.usage(id).await.expect("usage");
    assert!(usage.processes > 0 && usage.memory_total > 0, "{usage:?}");

    guest.generation = Generation(guest.generation.0 + 1);
    driver.prepare(&guest).await.expect("prepare while it runs");
    let again = found(driver, id).await;
    assert_eq!((again.state, again.pid, again.generation), (State::Running, Some(pid), guest.generation));

    driver.stop(id, CLEAN).await.expect("clean stop");
    let stopped = found(driver, id).await;
    assert_eq!((stopped.state, stopped.start, stopped.pid), (State::Stopped, 1, None));
    driver.stop(id, CLEAN).await.expect("stopping what is stopped succeeds");

    guest.start = 2;
    driver.start(&guest).await.expect("second start");
    let second = found(driver, id).await;
    assert_eq!((second.state, second.start), (State::Running, 2));
    driver.stop(id, FORCE).await.expect("forced stop");
    assert_eq!(found(driver, id).await.state, State::Stopped);
    driver.destroy(id).await.expect("destroy");
    driver.destroy(id).await.expect("destroy again");
    assert_eq!(driver.inspect(id).await.expect("inspect"), None);
}

async fn epochs<D: InstanceDriver + ?Sized>(driver: &D, mut guest: GuestSpec) {
    guest.epoch = Epoch(guest.epoch.0 + 1);
    driver.prepare(&guest).await.expect("prepare");
    let mut old = guest.clone();
    old.epoch = Epoch(guest.epoch.0 - 1);
    assert!(matches!(driver.prepare(&old).await, Err(Error::Epoch { .. })), "an old owner is refused");
    assert!(matches!(driver.start(&old).await, Err(Error::Epoch { .. })), "an old owner is refused");
    assert_eq!(found(driver, guest.id).await.state, State::Stopped);
    guest.epoch = guest.epoch.next();
    driver.prepare(&guest).await.expect("a newer owner takes over");
    assert_eq!(found(driver, guest.id).await.epoch, guest.epoch);
    driver.destroy(guest.id).await.expect("destroy");
}

async fn pausing<D: InstanceDriver + ?Sized>(driver: &D, mut guest: GuestSpec) {
    let id = guest.id;
    guest.start = 1;
    driver.prepare(&guest).await.expect("prepare");
    assert!(matches!(driver.pause(id).await, Err(Error::NotRunning { .. })));
    driver.start(&guest).await.expect("start");
    for _ in 0..2 {
        driver.pause(id).await.expect("pause");
        assert_eq!(found(driver, id).await.state, State::Frozen);
    }
    driver.start(&guest).await.expect("starting a frozen one is no error");
    assert_eq!(found(driver, id).await.state, State::Frozen, "and does not thaw it");
    for _ in 0..2 {
        driver.resume(id).await.expect("resume");
        assert_eq!(found(driver, id).await.state, State::Running);
    }
    driver.pause(id).await.expect("pause");
    if let Some(access) = driver.access() {
        assert!(access.exec(id, request(&["true"])).await.is_err(), "nothing hangs in a frozen guest");
    }
    driver.stop(id, FORCE).await.expect("a frozen one can be killed");
    assert_eq!(found(driver, id).await.state, State::Stopped);
    guest.start = 2;
    driver.start(&guest).await.expect("start");
    driver.pause(id).await.expect("pause");
    driver.stop(id, CLEAN).await.expect("a frozen one is thawed to stop cleanly");
    assert_eq!(found(driver, id).await.state, State::Stopped);
    driver.destroy(id).await.expect("destroy");
}

async fn destroy_running<D: InstanceDriver + ?Sized>(driver: &D, mut guest: GuestSpec) {
    guest.start = 1;
    driver.prepare(&guest).await.expect("prepare");
    driver.start(&guest).await.expect("start");
    driver.destroy(guest.id).await.expect("destroy kills first");
    assert_eq!(driver.inspect(guest.id).await.expect("inspect"), None);
    assert!(!driver.list().await.expect("list").iter().any(|found| found.id == guest.id));
}

/// A guest outlives its driver: `make_driver` gives a new one on the same host each time.
pub async fn adoption<D, F, Fut>(make_driver: F, mut guest: GuestSpec)
where
    D: InstanceDriver,
    F: Fn() -> Fut,
    Fut: Future<Output = D>,
{
    guest.start = 7;
    let first = make_driver().await;
    first.prepare(&guest).await.expect("prepare");
    first.start(&guest).await.expect("start");
    let before = found(&first, guest.id).await;
    drop(first);
    let second = make_driver().await;
    assert_eq!(found(&second, guest.id).await, before, "found as it was left");
    second.start(&guest).await.expect("start of an adopted guest");
    assert_eq!(found(&second, guest.id).await, before, "and not started again");
    second.pause(guest.id).await.expect("pause");
    drop(second);
    let third = make_driver().await;
    assert_eq!(found(&third, guest.id).await.state, State::Frozen);
    third.resume(guest.id).await.expect("resume");
    third.stop(guest.id, CLEAN).await.expect("clean stop");
    drop(third);
    let last = make_driver().await;
    let stopped = found(&last, guest.id).await;
    assert_eq!((stopped.state, stopped.start, stopped.pid), (State::Stopped, 7, None));
    last.destroy(guest.id).await.expect("destroy");
}

/// When `kill` makes the running guest end behind the driver's back, an event for it arrives and it is found stopped.
pub async fn exit_event<D, K, Fut>(driver: &D, events: &mut mpsc::Receiver<Event>, id: InstanceId, kill: K)
where
    D: InstanceDriver + ?Sized,
    K: FnOnce(Found) -> Fut,
    Fut: Future<Output = ()>,
{
    let before = found(driver, id).await;
    assert_ne!(before.state, State::Stopped);
    while events.try_recv().is_ok() {}
    kill(before).await;
    let told = async {
        while let Some(event) = events.recv().await {
            if event.id == id && found(driver, id).await.state == State::Stopped {
                return;
            }
        }
        panic!("the driver closed its event stream");
    };
    tokio::time::timeout(SOON, told).await.expect("an event tells that the guest ended");
}

/// A request for `command` with a usual environment.
pub fn request(command: &[&str]) -> ExecRequest {
    let environment =
        BTreeMap::from([("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()), ("A".into(), "b c".into())]);
    ExecRequest { command: command.iter().map(|&arg| arg.to_owned()).collect(), environment, ..ExecRequest::default() }
}

/// What a finished command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Runs a command with pipes, feeds it `input`, reads all it says.
pub async fn output(access: &dyn GuestAccess, id: InstanceId, request: ExecRequest, input: Vec<u8>) -> Output {
    let (io, mut process) = access.exec(id, request).await.expect("exec");
    let GuestIo::Pipes { stdin, stdout, stderr } = io else { panic!("pipes were asked for") };
    let feed = std::thread::spawn(move || {
        // A program that does not read its input is fine.
        let _ = File::from(stdin).write_all(&input);
    });
    let read = |end| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            File::from(end).read_to_end(&mut all).expect("read the output");
            all
        })
    };
    let (out, err) = (read(stdout), read(stderr));
    let code = tokio::time::timeout(SOON * 4, process.wait()).await.expect("it ends").expect("wait");
    let join = move || (feed.join(), out.join().expect("reader"), err.join().expect("reader"));
    let (_, stdout, stderr) = tokio::task::spawn_blocking(join).await.expect("join");
    Output { code, stdout, stderr }
}

async fn exec_stopped<D: InstanceDriver + ?Sized>(driver: &D, access: &dyn GuestAccess, guest: &GuestSpec) {
    driver.prepare(guest).await.expect("prepare");
    let refused = access.exec(guest.id, request(&["true"])).await;
    assert!(matches!(refused, Err(Error::NotRunning { .. })), "{refused:?}");
}

async fn exec_pipes(access: &dyn GuestAccess, id: InstanceId) {
    let said = output(access, id, request(&["echo", "two words", "x"]), Vec::new()).await;
    assert_eq!(said, Output { code: 0, stdout: b"two words x\n".to_vec(), stderr: Vec::new() });
    // More than any pipe holds, and bytes that no terminal would pass.
    let blob: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    let said = output(access, id, request(&["cat"]), blob.clone()).await;
    assert_eq!((said.code, said.stdout.len()), (0, blob.len()));
    assert!(said.stdout == blob, "bytes were changed on the way");
}

async fn exec_codes(access: &dyn GuestAccess, id: InstanceId) {
    for (command, code) in [("true", 0), ("false", 1), ("/bin/true", 0), ("no-such-program", 127)] {
        assert_eq!(output(access, id, request(&[command]), Vec::new()).await.code, code, "{command}");
    }
}

async fn exec_signals(access: &dyn GuestAccess, id: InstanceId) {
    for signal in [15, 9] {
        let (_io, mut process) = access.exec(id, request(&["sleep", "1000"])).await.expect("exec");
        assert!(process.pid() > 0);
        process.signal(signal).expect("signal");
        let code = tokio::time::timeout(SOON, process.wait()).await.expect("it ends").expect("wait");
        assert_eq!(code, 128 + signal);
    }
    // Waiting may be given up and taken up again.
    let (_io, mut process) = access.exec(id, request(&["sleep", "0.3"])).await.expect("exec");
    assert!(tokio::time::timeout(Duration::from_millis(20), process.wait()).await.is_err(), "it sleeps");
    assert_eq!(tokio::time::timeout(SOON, process.wait()).await.expect("it ends").expect("wait"), 0);
    // Dropping the process kills it: then nobody holds the write end of its stdout.
    let (io, process) = access.exec(id, request(&["sleep", "1000"])).await.expect("exec");
    drop(process);
    let GuestIo::Pipes { stdout, .. } = io else { panic!("pipes were asked for") };
    let end = tokio::task::spawn_blocking(move || File::from(stdout).read(&mut [0; 1]));
    let read = tokio::time::timeout(SOON, end).await.expect("stdout is closed").expect("join").expect("read");
    assert_eq!(read, 0);
}

async fn exec_terminal(access: &dyn GuestAccess, id: InstanceId) {
    let mut asked = request(&["cat"]);
    asked.terminal = Some((100, 30));
    let (io, mut process) = access.exec(id, asked).await.expect("exec");
    let GuestIo::Terminal(master) = io else { panic!("a terminal was asked for") };
    process.resize(120, 40).expect("resize");
    let talk = move || {
        let mut master = File::from(master);
        master.write_all(b"hello\n").expect("write");
        let mut seen = Vec::new();
        // Once by the terminal's echo, once by cat.
        while seen.windows(5).filter(|window| window == b"hello").count() < 2 {
            let mut buffer = [0; 256];
            let n = master.read(&mut buffer).expect("read");
            seen.extend_from_slice(&buffer[..n]);
        }
        // End of input.
        master.write_all(&[4]).expect("write");
        master
    };
    let talk = tokio::task::spawn_blocking(talk);
    let _master = tokio::time::timeout(SOON, talk).await.expect("the terminal answers").expect("join");
    assert_eq!(tokio::time::timeout(SOON, process.wait()).await.expect("it ends").expect("wait"), 0);
}
