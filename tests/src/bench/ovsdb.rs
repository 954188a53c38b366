//! The OVSDB client beside a plain socket with the same transactions, and what a reconnect reads.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use basalt_ovn::monitor::MonitorTable;
use basalt_ovn::ovsdb::op::Operation;
use basalt_ovn::ovsdb::value::{Atom, Datum, Row};
use basalt_ovn::session::{Session, SessionOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Bar, Report, Sample};
use crate::{host, wait};

const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";
const ROUNDS: usize = 12;
/// Transactions of one side in one round.
const BATCH: usize = 600;
const PORTS: usize = 10_000;
const SECOND: Duration = Duration::from_secs(1);

/// # Errors
/// When a step fails.
pub fn measure(report: &mut Report) -> Result<()> {
    println!("OVSDB: our client and a plain socket, against one ovsdb-server");
    if host::which("ovsdb-server").is_none() || !Path::new(SCHEMA).exists() {
        report.skip("OVSDB transactions", "ovsdb-server or OVN's schema is not installed (Debian: ovn-central)");
        return Ok(());
    }
    let runtime = Runtime::new().context("a runtime for the client")?;
    let _inside = runtime.enter();
    for in_flight in [1, 8] {
        beside_socket(report, &runtime, in_flight)?;
    }
    runtime.block_on(reconnect(report))
}

fn beside_socket(report: &mut Report, runtime: &Runtime, in_flight: usize) -> Result<()> {
    let server = Server::start(&["create"])?;
    let session = server.session()?;
    let mut socket = Plain::connect(&server.socket())?;
    let (mut ours, mut plain) = (Sample::default(), Sample::default());
    // Once each, unmeasured.
    runtime.block_on(by_session(&session, in_flight))?;
    socket.transactions(in_flight)?;
    for round in 0..ROUNDS {
        let mut first = || -> Result<()> { rate(&mut ours, || runtime.block_on(by_session(&session, in_flight))) };
        if round % 2 == 0 {
            first()?;
            rate(&mut plain, || socket.transactions(in_flight))?;
        } else {
            rate(&mut plain, || socket.transactions(in_flight))?;
            first()?;
        }
    }
    let figure = format!("OVSDB transactions, {in_flight} in flight");
    report.ratio((&figure, "/s"), &ours, ("plain socket", &plain), Bar::AtLeast(0.9));
    Ok(())
}

/// A batch's rate.
fn rate(sample: &mut Sample, batch: impl FnOnce() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    batch()?;
    #[allow(clippy::cast_precision_loss)] // a few hundred
    sample.push(BATCH as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

fn switch(name: String) -> Operation {
    Operation::insert("Logical_Switch", Row::from([("name".into(), Datum::from(name))]))
}

async fn by_session(session: &Session, in_flight: usize) -> Result<()> {
    let caller = |caller: usize| {
        let session = session.clone();
        basalt_runtime::spawn("caller", async move {
            for number in (caller..BATCH).step_by(in_flight) {
                session.transact(vec![switch(format!("switch-{number:06}"))]).await?;
            }
            Ok::<_, basalt_ovn::Error>(())
        })
    };
    for caller in (0..in_flight).map(caller).collect::<Vec<_>>() {
        caller.join().await??;
    }
    Ok(())
}

/// The least that can be done: blocking writes and reads of texts, and a look at where an answer ends.
struct Plain {
    stream: UnixStream,
    buffer: Vec<u8>,
    id: usize,
}

impl Plain {
    fn connect(socket: &Path) -> Result<Self> {
        Ok(Plain { stream: UnixStream::connect(socket).context("connect")?, buffer: vec![0; 1 << 16], id: 0 })
    }

    fn transactions(&mut self, in_flight: usize) -> Result<()> {
        let (mut sent, mut answered) = (0, 0);
        while answered < BATCH {
            while sent < BATCH && sent < answered + in_flight {
                self.id += 1;
                let text = format!(
                    r#"{{"id":{},"method":"transact","params":["OVN_Northbound",{{"op":"insert","table":"Logical_Switch","row":{{"name":"switch-{sent:06}"}}}}]}}"#,
                    self.id
                );
                self.stream.write_all(text.as_bytes()).context("write")?;
                sent += 1;
            }
            answered += self.answers()?;
        }
        Ok(())
    }

    /// Reads until an answer ends, and counts how many did. No text of these has a bracket in it.
    fn answers(&mut self) -> Result<usize> {
        let (mut depth, mut ended) = (0_usize, 0);
        loop {
            let bytes = self.stream.read(&mut self.buffer).context("read")?;
            ensure!(bytes > 0, "the server closed the connection");
            for byte in &self.buffer[..bytes] {
                match byte {
                    b'{' => depth += 1,
                    b'}' => {
                        depth -= 1;
                        ended += usize::from(depth == 0);
                    }
                    _ => {}
                }
            }
            if depth == 0 && ended > 0 {
                return Ok(ended);
            }
        }
    }
}

/// After the server was away: bytes read again, over those of the first load.
async fn reconnect(report: &mut Report) -> Result<()> {
    let mut server = Server::start(&["create-cluster"])?;
    let session = server.session()?;
    session.transact(ports()).await.context("ten thousand ports")?;
    let reader = server.session()?;
    let columns = ["name", "type", "addresses", "port_security", "options", "external_ids"];
    let mut monitor = reader.monitor(vec![MonitorTable::new("Logical_Switch_Port", &columns)]);
    let (mut share, mut cpu) = (Sample::default(), Sample::default());
    let spent = || host_cpu().unwrap_or_default();
    let before = spent();
    monitor.loaded(60 * SECOND).await?;
    cpu.push(spent() - before);
    let full = reader.counts().received;
    for _ in 0..5 {
        let (counts, epoch) = (reader.counts(), monitor.snapshot().map_or(0, |tables| tables.epoch()));
        server.restart()?;
        let rows =
            monitor.until(60 * SECOND, |t| (t.epoch() > epoch).then(|| t.table("Logical_Switch_Port").len())).await?;
        ensure!(rows == Some(PORTS), "{rows:?} ports after the reconnect");
        ensure!(reader.counts().full == 1, "everything was read again");
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        share.push((reader.counts().received - counts.received) as f64 * 100.0 / full as f64);
    }
    report.bar("OVSDB read again after a reconnect", &share, "% of all", Bar::AtMost(1.0));
    report.note("OVSDB load of 10,000 ports, CPU", &cpu, "ms");
    Ok(())
}

/// One switch with them all, as a network of ours has them.
fn ports() -> Vec<Operation> {
    let name = |number: usize| format!("basalt-net1-instance-00000000-0000-4000-8000-{number:012}-eth0");
    let port = |number: usize| {
        let address =
            format!("00:16:3e:00:{:02x}:{:02x} 10.1.{}.{}", number / 256, number % 256, number / 256, number % 256);
        let ids = [("basalt_owner", "d9428888-122b-11e1-b85c-61cd3cbb3210".to_owned()), ("basalt_key", name(number))];
        let row = Row::from([
            ("name".into(), name(number).into()),
            ("addresses".into(), address.clone().into()),
            ("port_security".into(), address.into()),
            ("options".into(), Datum::map([("requested-chassis", "n1")])),
            ("external_ids".into(), Datum::map(ids)),
        ]);
        Operation::insert_named("Logical_Switch_Port", format!("p{number}"), row)
    };
    let all = Datum::set((0..PORTS).map(|number| Atom::Named(format!("p{number}"))));
    let switch = Row::from([("name".into(), "ls".into()), ("ports".into(), all)]);
    (0..PORTS).map(port).chain([Operation::insert("Logical_Switch", switch)]).collect()
}

/// Of this process, in milliseconds.
fn host_cpu() -> Option<f64> {
    let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok()?;
    let ms = |time: nix::sys::time::TimeVal| {
        Duration::new(u64::try_from(time.tv_sec()).unwrap_or_default(), 0).as_secs_f64() * 1e3
            + f64::from(u32::try_from(time.tv_usec()).unwrap_or_default()) / 1e3
    };
    Some(ms(used.user_time()) + ms(used.system_time()))
}

/// An ovsdb-server with a folder of its own.
struct Server {
    dir: TempDir,
    child: Child,
}

impl Server {
    /// `how` is `ovsdb-tool`'s command.
    fn start(how: &[&str]) -> Result<Self> {
        // On the disk that the other parts use.
        let dir = tempfile::tempdir_in("/var/lib").context("a folder in /var/lib")?;
        let db = dir.path().join("db").display().to_string();
        let mut make = [&["ovsdb-tool"], how, &[db.as_str(), SCHEMA]].concat();
        let address = format!("tcp:127.0.0.1:{}", free_port()?);
        if how == ["create-cluster"] {
            make.push(&address);
        }
        host::run(&make)?;
        let child = Self::spawn(dir.path())?;
        Ok(Server { dir, child })
    }

    fn spawn(dir: &Path) -> Result<Child> {
        let socket = dir.join("sock");
        let arg = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
        let mut child = Command::new("ovsdb-server")
            .args([arg("log-file", "log"), arg("unixctl", "ctl"), "-vconsole:off".into()])
            .arg(format!("--remote=punix:{}", socket.display()))
            .arg(dir.join("db"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start ovsdb-server")?;
        let listens =
            wait::until_true("ovsdb-server listens", 20 * SECOND, || Ok(UnixStream::connect(&socket).is_ok()));
        if let Err(error) = listens {
            let _ = child.kill();
            bail!(error);
        }
        Ok(child)
    }

    fn restart(&mut self) -> Result<()> {
        self.child.kill().context("end ovsdb-server")?;
        self.child.wait().context("end ovsdb-server")?;
        self.child = Self::spawn(self.dir.path())?;
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    fn session(&self) -> Result<Session> {
        let remote = format!("unix:{}", self.socket().display()).parse()?;
        Ok(Session::connect(vec![remote], SessionOptions::new("OVN_Northbound"))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr().context("a free port")?.port())
}
