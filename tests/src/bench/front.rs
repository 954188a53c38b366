//! The front door beside Incus on one node: commands, launches, lists, metrics, connections, event listeners. The same
//! client program speaks the same API to both.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::incus::{self, Incus};
use super::pair::{Pair, Side, timed};
use super::{Bar, Report, listen, same, tls};
use crate::api::Api;
use crate::testbed::{Options, Testbed};
use crate::{image, wait};

const RUNNING: usize = 40;
const STOPPED: usize = 1000;
/// The peer keeps a scrape for 8 s.
const SCRAPE_AGE: Duration = Duration::from_secs(9);

/// # Errors
/// When a step fails.
pub fn measure(report: &mut Report) -> Result<()> {
    println!("one node: Basalt and Incus on the same disk, plain folders as pool");
    let options = Options { host_link: true, ..Options::real(1) };
    let bed = Testbed::cluster(&options)?;
    let lack = incus::lack();
    if let Some(why) = &lack {
        report.skip("Incus's side of one node", why);
    }
    let incus = lack.is_none().then(|| Incus::alone(&bed)).transpose()?;
    let node = &bed.nodes[0];
    let theirs = incus.as_ref().map(|i| &i.members[0]);
    let pair = Pair {
        nodes: &bed.nodes,
        incus: incus.as_ref(),
        label: incus::label(),
        ours: Side { api: node.api(), https: node.api_address(), peer: false },
        theirs: theirs.map(|m| Side { api: m.api(), https: m.https(), peer: true }),
    };
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file)?;
    for side in sides(&pair) {
        pair.only(side.peer)?;
        import(&side.api, &file)?;
        running(&side.api, "x")?;
    }
    connections(report, &pair)?;
    commands(report, &pair)?;
    launches(report, &pair)?;
    many_running(report, &pair)?;
    listeners(report, &pair)?;
    many_stopped(report, &pair)
}

fn sides<'a>(pair: &'a Pair<'_>) -> impl Iterator<Item = &'a Side> {
    std::iter::once(&pair.ours).chain(&pair.theirs)
}

/// A unified image with the alias `busybox`.
fn import(api: &Api, file: &Path) -> Result<()> {
    let bytes = std::fs::read(file).context("read the image")?;
    let answer = api.connect()?.request("POST", "/1.0/images", "application/octet-stream", &bytes)?;
    let done = api.finish(&answer).context("import the image")?;
    let fingerprint = done["metadata"]["fingerprint"].as_str().context("the import tells no fingerprint")?;
    api.run("POST", "/1.0/images/aliases", &json!({"name": "busybox", "target": fingerprint})).map(drop)
}

fn running(api: &Api, name: &str) -> Result<()> {
    api.create(name, "busybox", None, &Value::Null)?;
    api.act(name, "start", false).map(drop)
}

/// A connection made for one request: TCP, TLS 1.3 with a client certificate, `GET /1.0` as a trusted client.
fn connections(report: &mut Report, pair: &Pair<'_>) -> Result<()> {
    let client = tls::Client::new()?;
    for side in sides(pair) {
        pair.only(side.peer)?;
        let certificate = json!({"type": "client", "name": "bench", "certificate": client.certificate()});
        side.api.run("POST", "/1.0/certificates", &certificate)?;
    }
    let both = pair.take(6, |side| {
        (0..20).map(|_| timed(|| client.get_server(&side.https))).collect::<Result<Vec<_>>>().map(|t| t.concat())
    })?;
    both.ratio(report, pair, ("cold mTLS connection and GET /1.0", "ms"), Bar::AtMost(1.2));
    Ok(())
}

fn commands(report: &mut Report, pair: &Pair<'_>) -> Result<()> {
    let body = json!({"command": ["true"], "wait-for-websocket": false, "interactive": false});
    let both = pair.take(6, |side| {
        let mut times = Vec::new();
        for _ in 0..5 {
            times.extend(timed(|| {
                let done = side.api.run("POST", "/1.0/instances/x/exec", &body)?;
                ensure!(done["metadata"]["return"] == 0, "`true` returned {}", done["metadata"]["return"]);
                Ok(())
            })?);
        }
        Ok(times)
    })?;
    both.ratio(report, pair, ("exec of true", "ms"), Bar::AtMost(0.5));
    Ok(())
}

fn launches(report: &mut Report, pair: &Pair<'_>) -> Result<()> {
    let both = pair.take(6, |side| {
        let mut times = Vec::new();
        for _ in 0..2 {
            times.extend(timed(|| running(&side.api, "l"))?);
            let state = side.api.get("/1.0/instances/l/state")?;
            ensure!(
                state["status"] == "Running" && state["pid"].as_i64() > Some(1),
                "launched, and not running: {state}"
            );
            side.api.act("l", "stop", true)?;
            side.api.delete("l")?;
        }
        Ok(times)
    })?;
    both.ratio(report, pair, ("launch from a cached image", "ms"), Bar::AtMost(0.6));
    Ok(())
}

fn many_running(report: &mut Report, pair: &Pair<'_>) -> Result<()> {
    for side in sides(pair) {
        pair.only(side.peer)?;
        (1..RUNNING).try_for_each(|n| running(&side.api, &format!("r{n}")))?;
    }
    let scrape = |side: &Side| -> Result<String> {
        let answer = side.api.call("GET", "/1.0/metrics", &Value::Null)?;
        ensure!(answer.status == 200, "metrics: {}", answer.status);
        String::from_utf8(answer.bytes).context("a scrape is text")
    };
    let figure = "metrics, 40 running";
    if let Some(theirs) = &pair.theirs {
        // A sampler may not have seen the last ones yet.
        pair.only(false)?;
        rest(SCRAPE_AGE)?;
        let ours = scrape(&pair.ours)?;
        pair.only(true)?;
        rest(SCRAPE_AGE)?;
        if let Err(lacks) = same::metrics(&ours, &scrape(theirs)?) {
            report.refuse(figure, &lacks);
        }
    }
    let both = pair.take(3, |side| {
        if side.peer {
            rest(SCRAPE_AGE)?;
        }
        timed(|| scrape(side).map(drop))
    })?;
    both.bar(report, pair, (figure, "ms"), Some(Bar::AtMost(200.0)));
    lists(report, pair, "list of 40 running, recursion 2", None)?;
    for side in sides(pair) {
        pair.only(side.peer)?;
        (1..RUNNING).try_for_each(|n| side.api.act(&format!("r{n}"), "stop", true).map(drop))?;
    }
    Ok(())
}

fn listeners(report: &mut Report, pair: &Pair<'_>) -> Result<()> {
    let both = pair.take(4, |side| {
        let times = listen::through(&side.api, "x", 100, 20)?;
        Ok(vec![times.quantile(0.99)])
    })?;
    both.bar(report, pair, ("100 event listeners, p99 from the request", "ms"), Some(Bar::AtMost(10.0)));
    Ok(())
}

fn many_stopped(report: &mut Report, pair: &Pair<'_>) -> Result<()> {
    for side in sides(pair) {
        pair.only(side.peer)?;
        let have = side.api.instances()?.len();
        let begun = Instant::now();
        let made = in_parallel(4, STOPPED - have, |n| {
            side.api.create(&format!("s{n}"), "", None, &Value::Null).map(drop).with_context(|| format!("make s{n}"))
        });
        made?;
        println!("  {} made in {:.1} s", if side.peer { &pair.label } else { "Basalt" }, begun.elapsed().as_secs_f64());
    }
    lists(report, pair, "list of 1,000, recursion 2", Some(Bar::AtMost(600.0)))
}

fn lists(report: &mut Report, pair: &Pair<'_>, figure: &str, bar: Option<Bar>) -> Result<()> {
    const PATH: &str = "/1.0/instances?recursion=2";
    if let Some(theirs) = &pair.theirs {
        pair.only(false)?;
        let ours = pair.ours.api.get(PATH)?;
        pair.only(true)?;
        if let Err(lacks) = same::lists(&ours, &theirs.api.get(PATH)?) {
            report.refuse(figure, &lacks);
        }
    }
    let both = pair.take(3, |side| timed(|| side.api.get(PATH).map(drop)))?;
    both.bar(report, pair, (figure, "ms"), bar);
    Ok(())
}

fn rest(time: Duration) -> Result<()> {
    let begun = Instant::now();
    wait::until_true("a rest", time * 2, || Ok(begun.elapsed() >= time))
}

/// Runs `work` for each number below `count`, by `clients` threads.
///
/// # Errors
/// The first of its errors.
pub fn in_parallel(clients: usize, count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..clients)
            .map(|client| scope.spawn(move || (client..count).step_by(clients).try_for_each(work)))
            .collect();
        running.into_iter().try_for_each(|c| c.join().expect("a client does not panic"))
    })
}
