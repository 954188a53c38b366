//! Three voters: writes beside etcd, the time to the next commit when the leader is lost, and idle memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::etcd::{self, Etcd};
use super::{Bar, Report, Sample};
use crate::api::Api;
use crate::testbed::{Node, Options, Testbed};
use crate::{host, wait};

const ROUNDS: usize = 3;
const LOSSES: usize = 5;
const WINDOW: Duration = Duration::from_secs(3);

/// # Errors
/// When a step fails.
pub fn measure(report: &mut Report) -> Result<()> {
    println!("three voters: Basalt and etcd on the same disk and links");
    let bed = Testbed::cluster(&Options::fake(3))?;
    memory(report, &bed)?;
    for client in 0..16 {
        bed.nodes[0].api().create(&format!("k{client}"), "", None, &Value::Null)?;
    }
    if host::which("etcd").is_some() {
        let runtime = Runtime::new().context("a runtime for etcd's client")?;
        beside_etcd(report, &bed, &runtime)?;
    } else {
        report.skip("three-voter put", "etcd is not installed (Debian: etcd-server)");
    }
    losses(report, &bed)
}

/// Before any load, after 5 s without a request.
fn memory(report: &mut Report, bed: &Testbed) -> Result<()> {
    let begun = Instant::now();
    wait::until_true("idle", Duration::from_secs(10), || Ok(begun.elapsed() >= Duration::from_secs(5)))?;
    let mut rss = Sample::default();
    bed.nodes.iter().filter_map(Node::rss_mib).for_each(|mib| rss.push(mib));
    report.bar("idle basaltd, RSS", &rss, "MiB", Bar::AtMost(30.0));
    Ok(())
}

/// One row of a load window.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) rate: f64,
    times: Sample,
}

#[derive(Debug, Default)]
struct Side {
    rate: Sample,
    p50: Sample,
    p99: Sample,
}

impl Side {
    fn take(&mut self, window: &Window) {
        self.rate.push(window.rate);
        self.p50.push(window.times.median());
        self.p99.push(window.times.quantile(0.99));
    }
}

fn beside_etcd(report: &mut Report, bed: &Testbed, runtime: &Runtime) -> Result<()> {
    let mut etcd = runtime.block_on(Etcd::start(bed))?;
    for clients in [1, 16] {
        let (mut ours, mut follower, mut theirs) = (Side::default(), Side::default(), Side::default());
        let mut gateway = Side::default();
        for round in 0..ROUNDS {
            let mut basalt = || -> Result<()> {
                etcd.signal(Signal::SIGSTOP)?;
                bed.nodes.iter().try_for_each(Node::thaw)?;
                settle(bed)?;
                ours.take(&patch_window(&bed.leader()?.api(), clients)?);
                follower.take(&patch_window(&bed.follower()?.api(), clients)?);
                Ok(())
            };
            let mut other = || -> Result<()> {
                bed.nodes.iter().try_for_each(Node::freeze)?;
                etcd.signal(Signal::SIGCONT)?;
                theirs.take(&runtime.block_on(etcd_window(&etcd, clients))?);
                let leader = runtime.block_on(etcd.leader())?;
                gateway.take(&http_window(&etcd.members[leader].gateway(), clients, &put_request)?);
                Ok(())
            };
            if round % 2 == 0 {
                basalt()?;
                other()?;
            } else {
                other()?;
                basalt()?;
            }
        }
        let name = |what: &str| format!("put, {clients} client(s){what}");
        report.ratio((&name(""), "/s"), &ours.rate, ("etcd 3.4", &theirs.rate), Bar::AtLeast(2.0));
        // Like with like: HTTP and JSON, and the same client program, on both sides.
        let json = "etcd 3.4 by HTTP";
        report.ratio((&name(", as HTTP"), "/s"), &ours.rate, (json, &gateway.rate), Bar::AtLeast(2.0));
        report.ratio((&name(" p50, as HTTP"), "ms"), &ours.p50, (json, &gateway.p50), Bar::AtMost(0.5));
        report.ratio((&name(" p50"), "ms"), &ours.p50, ("etcd 3.4", &theirs.p50), Bar::AtMost(0.5));
        report.ratio((&name(" p99"), "ms"), &ours.p99, ("etcd 3.4", &theirs.p99), Bar::AtMost(1.0));
        report.note(&name(" by follower"), &follower.rate, "/s");
    }
    bed.nodes.iter().try_for_each(Node::freeze)?;
    etcd.signal(Signal::SIGCONT)?;
    let mut killed = Sample::default();
    killed.push_time(runtime.block_on(etcd_loss(&mut etcd))?);
    report.note("etcd leader killed", &killed, "ms");
    drop(etcd);
    bed.nodes.iter().try_for_each(Node::thaw)?;
    settle(bed)
}

fn settle(bed: &Testbed) -> Result<()> {
    let follower = bed.follower()?.api();
    etcd::settle("Basalt writes again", || write(&follower, "k0", 0).map(Some))
}

fn write(api: &Api, instance: &str, number: u64) -> Result<()> {
    api.run("PATCH", &format!("/1.0/instances/{instance}"), &json!({"config": {"user.n": number.to_string()}}))
        .map(drop)
}

/// Clients with a kept-alive connection and an instance each.
///
/// # Errors
/// When a write is refused.
pub(super) fn patch_window(api: &Api, clients: usize) -> Result<Window> {
    http_window(api, clients, &patch_request)
}

/// A request of a client, by its number and how many it has made: method, path, body. 64 bytes of value on all sides.
type Ask = dyn Fn(usize, usize) -> (&'static str, String, String) + Sync;

fn patch_request(client: usize, n: usize) -> (&'static str, String, String) {
    let body = json!({"config": {"user.n": format!("{n:064}")}});
    ("PATCH", format!("/1.0/instances/k{client}"), body.to_string())
}

fn put_request(client: usize, n: usize) -> (&'static str, String, String) {
    let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let body = json!({"key": encode(format!("k{client}")), "value": encode(format!("{n:064}"))});
    ("POST", "/v3/kv/put".into(), body.to_string())
}

fn http_window(api: &Api, clients: usize, ask: &Ask) -> Result<Window> {
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let times: Vec<Result<Vec<Duration>>> = std::thread::scope(|scope| {
        let over = &over;
        let running: Vec<_> =
            (0..clients).map(|client| scope.spawn(move || one_client(api, client, over, ask))).collect();
        while begun.elapsed() < WINDOW {
            std::thread::sleep(Duration::from_millis(5));
        }
        over.store(true, Ordering::Relaxed);
        running.into_iter().map(|c| c.join().expect("a client does not panic")).collect()
    });
    window(begun.elapsed(), times.into_iter().collect::<Result<Vec<_>>>()?)
}

fn one_client(api: &Api, client: usize, over: &AtomicBool, ask: &Ask) -> Result<Vec<Duration>> {
    let mut connection = api.connect()?;
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let (method, path, body) = ask(client, times.len());
        let begun = Instant::now();
        let answer = connection.request(method, &path, "application/json", body.as_bytes())?;
        answer.metadata()?;
        // The keys of a config are changed at once; an operation would have to be waited for.
        if answer.status == 202 {
            api.finish(&answer)?;
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}

#[allow(clippy::cast_precision_loss)] // a count of requests
fn window(took: Duration, times: Vec<Vec<Duration>>) -> Result<Window> {
    let mut window = Window::default();
    let mut count = 0_usize;
    for time in times.into_iter().flatten() {
        window.times.push_time(time);
        count += 1;
    }
    anyhow::ensure!(count > 0, "not a single write");
    window.rate = count as f64 / took.as_secs_f64();
    Ok(window)
}

async fn etcd_window(etcd: &Etcd, clients: usize) -> Result<Window> {
    let leader = &etcd.members[etcd.leader().await?];
    let begun = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for client in 0..clients {
        let channel = leader.connect().await?;
        running.spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < WINDOW {
                let value = format!("{:064}", times.len()).into_bytes();
                let sent = Instant::now();
                etcd::put(&channel, etcd::Put { key: format!("k{client}").into_bytes(), value }).await?;
                times.push(sent.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = running.join_next().await {
        all.push(times.context("a client of etcd")??);
    }
    window(begun.elapsed(), all)
}

async fn etcd_loss(etcd: &mut Etcd) -> Result<Duration> {
    let leader = etcd.leader().await?;
    let survivor = (leader + 1) % 3;
    let channel = etcd.members[survivor].connect().await?;
    etcd.members[leader].end();
    let begun = Instant::now();
    loop {
        let request = etcd::Put { key: b"after".to_vec(), value: b"1".to_vec() };
        if let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(400), etcd::put(&channel, request)).await {
            return Ok(begun.elapsed());
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(30), "etcd did not recover");
    }
}

fn losses(report: &mut Report, bed: &Testbed) -> Result<()> {
    let (mut killed, mut frozen) = (Sample::default(), Sample::default());
    for _ in 0..LOSSES {
        killed.push_time(loss(bed, true)?);
        frozen.push_time(loss(bed, false)?);
    }
    for (how, times) in [("killed", &killed), ("frozen", &frozen)] {
        let mut worst = Sample::default();
        worst.push(times.quantile(1.0));
        report.bar(&format!("leader {how} to next commit"), times, "ms", Bar::AtMost(1500.0));
        report.bar(&format!("leader {how} to next commit, worst"), &worst, "ms", Bar::AtMost(1500.0));
    }
    Ok(())
}

/// Loses the leader, and measures until a write through one of the others is acknowledged.
fn loss(bed: &Testbed, by_kill: bool) -> Result<Duration> {
    let leader = bed.leader()?;
    let survivor = bed.nodes.iter().find(|n| n.name != leader.name).context("a survivor")?;
    let api = survivor.api().timeout(Duration::from_millis(400));
    if by_kill {
        leader.kill()
    } else {
        leader.freeze()?
    }
    let begun = Instant::now();
    while write(&api, "k0", 1).is_err() {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(30), "no write for 30 s");
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = begun.elapsed();
    if by_kill {
        leader.start()?;
        leader.wait_ready()?;
    } else {
        leader.thaw()?;
    }
    bed.wait_online(3)?;
    wait::until_true("the lost one writes", Duration::from_secs(30), || write(&leader.api(), "k0", 2).map(|()| true))?;
    Ok(took)
}
