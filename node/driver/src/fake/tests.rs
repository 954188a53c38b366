//! The fake keeps the port's promises, and its own.

use std::sync::atomic::{AtomicU64, Ordering};

use basalt_model::{Epoch, Generation};

use super::*;
use crate::{Limits, RootFs, testing};

fn guest() -> GuestSpec {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    GuestSpec {
        id: format!("00000000-0000-4000-8000-{n:012}").parse().unwrap(),
        epoch: Epoch(3),
        generation: Generation(1),
        start: 1,
        hostname: format!("g{n}"),
        project: "default".into(),
        architecture: "x86_64".into(),
        root: RootFs { path: "/nowhere".into(), shifted: None },
        id_map: None,
        privileged: false,
        nesting: false,
        limits: Limits::default(),
        nics: Vec::new(),
        disks: Vec::new(),
        environment: Default::default(),
        raw: None,
    }
}

async fn running(driver: &FakeDriver) -> GuestSpec {
    let guest = guest();
    driver.prepare(&guest).await.unwrap();
    driver.start(&guest).await.unwrap();
    guest
}

#[tokio::test]
async fn conforms() {
    testing::suite(&FakeDriver::new(FakeHost::new()), guest).await;
}

#[tokio::test]
async fn conforms_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    testing::suite(&FakeDriver::new(FakeHost::in_folder(folder.path()).unwrap()), guest).await;
}

#[tokio::test]
async fn guests_outlive_the_driver() {
    let host = FakeHost::new();
    testing::adoption(|| async { FakeDriver::new(host.clone()) }, guest()).await;
}

#[tokio::test]
async fn guests_outlive_the_process_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    testing::adoption(|| async { FakeDriver::new(FakeHost::in_folder(folder.path()).unwrap()) }, guest()).await;
}

#[tokio::test]
async fn an_exit_sends_an_event() {
    let driver = FakeDriver::new(FakeHost::new());
    let guest = running(&driver).await;
    let mut events = driver.events().unwrap();
    assert!(driver.events().is_none(), "taken once");
    let kill = |_| async { assert!(driver.host().kill(guest.id).unwrap()) };
    testing::exit_event(&driver, &mut events, guest.id, kill).await;
}

#[tokio::test]
async fn an_exit_scripted_by_another_process_sends_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let driver = FakeDriver::new(FakeHost::in_folder(folder.path()).unwrap());
    let guest = running(&driver).await;
    let mut events = driver.events().unwrap();
    let other = FakeHost::in_folder(folder.path()).unwrap();
    testing::exit_event(&driver, &mut events, guest.id, |_| async { assert!(other.kill(guest.id).unwrap()) }).await;
    assert!(!other.kill(guest.id).unwrap(), "it does not run any more");
}

#[tokio::test]
async fn failures_happen_once_before_or_after_the_effect() {
    let driver = FakeDriver::new(FakeHost::new());
    let (guest, host) = (guest(), driver.host().clone());
    driver.prepare(&guest).await.unwrap();
    host.fail_next(guest.id, Op::Start, "no memory").unwrap();
    let error = driver.start(&guest).await.unwrap_err().to_string();
    assert_eq!(error, format!("start of instance {}: no memory", guest.id));
    assert_eq!(host.running().unwrap(), 0);
    host.fail_after(guest.id, Op::Start, "lost").unwrap();
    assert!(driver.start(&guest).await.is_err());
    assert_eq!(host.running().unwrap(), 1, "it started all the same");
    driver.start(&guest).await.unwrap();
    assert_eq!(host.calls(guest.id, Op::Start).unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_deaf_guest_times_out_until_killed() {
    let driver = FakeDriver::new(FakeHost::new());
    let guest = running(&driver).await;
    driver.host().ignore_stop(guest.id, true).unwrap();
    let clean = StopMode { force: false, timeout_secs: Some(5) };
    assert!(matches!(driver.stop(guest.id, clean).await, Err(Error::Timeout { secs: 5, .. })));
    assert_eq!(driver.host().running().unwrap(), 1);
    let kill = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        driver.host().kill(guest.id).unwrap();
    };
    let (stopped, ()) = tokio::join!(driver.stop(guest.id, clean), kill);
    stopped.unwrap();
    driver.start(&guest).await.unwrap();
    driver.stop(guest.id, StopMode { force: true, timeout_secs: None }).await.unwrap();
}

#[tokio::test]
async fn a_reboot_stops_everything() {
    for folder in [None, Some(tempfile::tempdir().unwrap())] {
        let host = || folder.as_ref().map_or_else(FakeHost::new, |f| FakeHost::in_folder(f.path()).unwrap());
        let driver = FakeDriver::new(host());
        let guest = running(&driver).await;
        driver.host().reboot().unwrap();
        let found = driver.inspect(guest.id).await.unwrap().unwrap();
        assert_eq!((found.state, found.same_boot, found.start), (State::Stopped, false, 1));
        driver.start(&guest).await.unwrap();
        assert!(driver.inspect(guest.id).await.unwrap().unwrap().same_boot);
    }
}

#[tokio::test(start_paused = true)]
async fn delays_apply() {
    let driver = FakeDriver::new(FakeHost::new());
    driver.host().set_delay(Op::Start, Duration::from_secs(9));
    let before = tokio::time::Instant::now();
    running(&driver).await;
    assert_eq!(before.elapsed(), Duration::from_secs(9));
}
