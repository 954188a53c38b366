//! Members as processes of their own: killed, frozen, measured. Each child is this program again, running `member`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "group/harness.rs"]
mod harness;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_model::{Cluster, ProjectName};
use harness::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A member in a process of its own.
struct Process {
    dir: Arc<TempDir>,
    address: SocketAddr,
    control: SocketAddr,
    child: Child,
}

impl Process {
    async fn start(dir: Arc<TempDir>, address: SocketAddr) -> Process {
        let control = free_address().await;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["member", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env("BASALT_TEST_DIR", dir.path())
            .env("BASALT_TEST_ADDRESS", address.to_string())
            .env("BASALT_TEST_CONTROL", control.to_string())
            .stdout(output())
            .spawn()
            .unwrap();
        Process { dir, address, control, child }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    async fn restart(mut self) -> Process {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let (dir, address) = (Arc::clone(&self.dir), self.address);
        drop(self);
        Process::start(dir, address).await
    }

    /// Asks the member something; `None` when it does not answer.
    async fn ask(&self, question: &str, limit: Duration) -> Option<String> {
        let asked = async {
            let mut stream = TcpStream::connect(self.control).await.ok()?;
            stream.write_all(format!("{question}\n").as_bytes()).await.ok()?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await.ok()?;
            (!answer.is_empty()).then(|| answer.trim_end().to_owned())
        };
        tokio::time::timeout(limit, asked).await.ok().flatten()
    }

    async fn ask_surely(&self, question: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(answer) = self.ask(question, PATIENCE).await {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "no answer to {question}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: what the children run.
#[test]
#[ignore = "the body of the other tests' children"]
fn member() {
    let Some(dir) = std::env::var_os("BASALT_TEST_DIR") else { return };
    let variable = |name: &str| std::env::var(name).unwrap().parse::<SocketAddr>().unwrap();
    let (address, control) = (variable("BASALT_TEST_ADDRESS"), variable("BASALT_TEST_CONTROL"));
    logging();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut options = options(std::path::Path::new(&dir));
        options.snapshot_every = 2000;
        options.segment_bytes = 8 << 20;
        let cluster = open(options).await.unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let _serving = serve(listener, &cluster.identity().unwrap(), cluster.service());
        let listener = TcpListener::bind(control).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let cluster = Arc::clone(&cluster);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut question = String::new();
                let _ = stream.read_line(&mut question).await;
                let answer = answer(&cluster, question.trim_end()).await;
                let _ = stream.write_all(format!("{answer}\n").as_bytes()).await;
            });
        }
    });
}

async fn answer(cluster: &Arc<basalt_raft::RaftCluster>, question: &str) -> String {
    match question.split_once(' ').unwrap_or((question, "")) {
        ("write", name) => match cluster.propose(write(name)).await {
            Ok(_) => "ok".into(),
            Err(error) => error.to_string(),
        },
        ("has", name) => match cluster.linearizable().await {
            Ok(view) => view.projects.contains_key(&ProjectName::new(name).unwrap()).to_string(),
            Err(error) => error.to_string(),
        },
        ("leads", _) => cluster.leadership().borrow().mine.to_string(),
        ("bench", what) => {
            let (tag, clients) = what.split_once(' ').unwrap();
            bench(cluster, tag, clients.parse().unwrap()).await
        }
        other => format!("what is {other:?}"),
    }
}

/// Puts for three seconds, of 256 bytes.
async fn bench(cluster: &Arc<basalt_raft::RaftCluster>, tag: &str, clients: usize) -> String {
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let (cluster, tag) = (Arc::clone(cluster), tag.to_owned());
        tasks.spawn(async move {
            let mut times = Vec::new();
            while began.elapsed() < Duration::from_secs(3) {
                let put = basalt_model::command::ClusterCommand::SetConfig {
                    set: [(format!("user.{tag}-{client}"), Some("x".repeat(256)))].into(),
                    expect: None,
                };
                let before = Instant::now();
                cluster.propose(basalt_model::Command::Cluster(put)).await.unwrap();
                times.push(before.elapsed());
            }
            times
        });
    }
    let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    times.sort_unstable();
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    format!("{clients} clients: {rate:.0}/s, p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Three voters, each a process.
async fn three() -> Vec<Process> {
    let mut nodes = group(3).await;
    for node in &mut nodes {
        node.stop().await;
    }
    let places: Vec<_> = nodes.iter().map(|node| (Arc::clone(&node.dir), node.address)).collect();
    drop(nodes);
    let mut processes = Vec::new();
    for (dir, address) in places {
        // The folder is free as soon as the last task here has let go of it.
        let cluster = reopen(dir.path()).await;
        cluster.shutdown().await;
        drop(cluster);
        processes.push(Process::start(dir, address).await);
    }
    for process in &processes {
        process.ask_surely("has default").await;
    }
    processes
}

async fn leading(processes: &[Process]) -> usize {
    let began = Instant::now();
    loop {
        for (at, process) in processes.iter().enumerate() {
            if process.ask("leads", Duration::from_millis(300)).await.as_deref() == Some("true") {
                return at;
            }
        }
        assert!(began.elapsed() < PATIENCE, "nobody leads");
    }
}

/// Writes new names through `process` until one is acknowledged.
async fn next_commit(process: &Process, tag: &str) -> (Duration, String) {
    let began = Instant::now();
    for attempt in 0.. {
        let name = format!("{tag}-{attempt}");
        if process.ask(&format!("write {name}"), PATIENCE).await.as_deref() == Some("ok") {
            return (began.elapsed(), name);
        }
        assert!(began.elapsed() < PATIENCE, "no commit");
    }
    unreachable!("it returns or panics")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_or_frozen_is_replaced_in_time() {
    logging();
    let mut processes = three().await;
    let mut written = Vec::new();
    for round in 0..4 {
        let lost = leading(&processes).await;
        let witness = (lost + 1) % 3;
        let (signal, what) = match round % 2 {
            0 => (Signal::SIGKILL, "killed"),
            _ => (Signal::SIGSTOP, "frozen"),
        };
        processes[lost].signal(signal);
        let (took, name) = next_commit(&processes[witness], &format!("r{round}")).await;
        println!("leader {what} to next commit: {took:?}");
        // The bar is 1.5 s and the bench measures it; here the machine may be busy with other tests.
        assert!(took < Duration::from_secs(5), "leader {what}: {took:?}");
        written.push(name);
        if round % 2 == 1 {
            processes[lost].signal(Signal::SIGCONT);
        } else {
            let back = processes.remove(lost).restart().await;
            processes.insert(lost, back);
        }
        for process in &processes {
            for name in &written {
                assert_eq!(process.ask_surely(&format!("has {name}")).await, "true", "{name} was acknowledged");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; run with --ignored --nocapture"]
async fn puts() {
    let processes = three().await;
    let lead = leading(&processes).await;
    for (at, who) in [(lead, "leader"), ((lead + 1) % 3, "follower")] {
        for clients in [1, 16] {
            let question = format!("bench {who} {clients}");
            println!("{who}, {}", processes[at].ask(&question, Duration::from_secs(30)).await.unwrap());
        }
    }
}

/// What children say goes to a file of their own in the folder that `BASALT_TEST_OUTPUT` names, if any.
fn output() -> Stdio {
    match std::env::var_os("BASALT_TEST_OUTPUT") {
        None => Stdio::null(),
        Some(dir) => {
            let name = format!("child-{:x}", rand::random::<u32>());
            std::fs::File::create(std::path::Path::new(&dir).join(name)).unwrap().into()
        }
    }
}
