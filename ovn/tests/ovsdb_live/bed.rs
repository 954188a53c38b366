//! Servers of our own, and a proxy to cut and to lie with.

use std::collections::BTreeSet;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use basalt_ovn::ovsdb::op::Operation;
use basalt_ovn::ovsdb::value::Row;
use basalt_ovn::session::{Remote, Session, SessionOptions};
use basalt_ovn::wire::{Decoder, Message};
use basalt_runtime::Task;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

pub(crate) const NB: &str = "/usr/share/ovn/ovn-nb.ovsschema";
pub(crate) const SWITCH: &str = "/usr/share/openvswitch/vswitch.ovsschema";
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Ends the calling test with `skipped: why` when something is lacking.
#[macro_export]
macro_rules! require {
    ($($need:expr),+) => {
        for need in [$($need),+] {
            if let Some(why) = $crate::bed::lack(need) {
                eprintln!("skipped: {}: {why}", module_path!());
                return;
            }
        }
    };
}

/// A program, or a file with its full path.
pub(crate) fn lack(need: &str) -> Option<String> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found = Path::new(need).is_absolute() && Path::new(need).exists()
        || folders.iter().any(|folder| Path::new(folder).join(need).exists());
    (!found).then(|| format!("{need} is not installed"))
}

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

pub(crate) async fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + 30 * SECOND;
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A port of loopback that was free a moment ago.
pub(crate) fn port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One ovsdb-server with its folder; killed with it.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    remotes: Vec<String>,
    extra: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// A database of its own, not clustered.
    pub(crate) fn standalone(schema: &str) -> Self {
        Self::made(&[], |db| drop(run("ovsdb-tool", &["create", db, schema])))
    }

    /// A database made by `make`; also listening to these.
    pub(crate) fn made(remotes: &[String], make: impl FnOnce(&str)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path().join("db").to_str().unwrap());
        Self { dir, remotes: remotes.to_vec(), extra: Vec::new(), child: None }
    }

    pub(crate) fn with(mut self, extra: &[String]) -> Self {
        self.extra = extra.to_vec();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> String {
        format!("unix:{}", self.path("sock").display())
    }

    pub(crate) fn remote(&self) -> Remote {
        self.socket().parse().unwrap()
    }

    pub(crate) async fn start(&mut self) {
        let arg = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        let child = Command::new("ovsdb-server")
            .args([arg("log-file", "log"), arg("unixctl", "ctl"), "-vconsole:off".into()])
            .arg(format!("--remote=p{}", self.socket()))
            .args(self.remotes.iter().map(|r| format!("--remote={r}")))
            .args(&self.extra)
            .arg(self.path("db"))
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let socket = self.path("sock");
        wait("ovsdb-server listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    }

    pub(crate) async fn started(mut self) -> Self {
        self.start().await;
        self
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        run("ovs-appctl", &[&["-t", self.path("ctl").to_str().unwrap()], args].concat())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

pub(crate) fn options() -> SessionOptions {
    SessionOptions {
        retry: (Duration::from_millis(20), Duration::from_millis(200)),
        deadline: 10 * SECOND,
        ..SessionOptions::new("OVN_Northbound")
    }
}

pub(crate) fn session(remotes: Vec<Remote>, options: SessionOptions) -> Session {
    Session::connect(remotes, options).unwrap()
}

/// A logical switch of that name.
pub(crate) fn insert(name: &str) -> Operation {
    Operation::insert("Logical_Switch", Row::from([("name".into(), name.into())]))
}

/// Names of logical switches, as a connection of its own reads them. Each row counts: without its `_uuid` the server would
/// leave out those that look the same.
pub(crate) fn names(server: &Server) -> Vec<String> {
    let sql = r#"["OVN_Northbound",{"op":"select","table":"Logical_Switch","where":[],"columns":["_uuid","name"]}]"#;
    let text = run("ovsdb-client", &["--no-leader-only", "transact", &server.socket(), sql]);
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut names: Vec<String> =
        answer[0]["rows"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Passes bytes on to a server until it is cut; may deny methods, as an older server would.
pub(crate) struct Proxy {
    pub(crate) dir: TempDir,
    task: Mutex<Option<Task<()>>>,
    to: PathBuf,
    deny: Arc<BTreeSet<&'static str>>,
}

impl Proxy {
    pub(crate) fn new(to: &Server, deny: &[&'static str]) -> Self {
        let deny = Arc::new(deny.iter().copied().collect());
        let proxy = Self { dir: tempfile::tempdir().unwrap(), task: Mutex::default(), to: to.path("sock"), deny };
        proxy.mend();
        proxy
    }

    pub(crate) fn remote(&self) -> Remote {
        format!("unix:{}", self.dir.path().join("sock").display()).parse().unwrap()
    }

    /// Cuts all connections, and lets none through.
    pub(crate) fn cut(&self) {
        *self.task.lock().unwrap() = None;
        let _ = std::fs::remove_file(self.dir.path().join("sock"));
    }

    pub(crate) fn mend(&self) {
        let listener = UnixListener::bind(self.dir.path().join("sock")).unwrap();
        let (to, deny) = (self.to.clone(), Arc::clone(&self.deny));
        let task = basalt_runtime::spawn("proxy", async move {
            let mut connections = Vec::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = UnixStream::connect(&to).await.unwrap();
                connections.push(basalt_runtime::spawn("pipe", pipe(client, server, Arc::clone(&deny))));
            }
        });
        *self.task.lock().unwrap() = Some(task);
    }
}

async fn pipe(mut client: UnixStream, mut server: UnixStream, deny: Arc<BTreeSet<&'static str>>) {
    if deny.is_empty() {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let (mut decoder, mut buffer) = (Decoder::new(1 << 30), vec![0; 1 << 16]);
    loop {
        // Both reads may be dropped without loss.
        tokio::select! {
            read = client.read_buf(decoder.space()) => {
                if read.unwrap_or(0) == 0 {
                    return;
                }
                while let Some(frame) = decoder.frame().unwrap() {
                    match Message::parse(&frame).unwrap() {
                        Message::Request { id, method, .. } if deny.contains(method.as_str()) => {
                            let id = String::from_utf8(id.to_vec()).unwrap();
                            let answer = format!("{{\"id\":{id},\"result\":null,\"error\":\"unknown method\"}}");
                            client.write_all(answer.as_bytes()).await.unwrap();
                        }
                        _ => server.write_all(&frame).await.unwrap(),
                    }
                }
            }
            read = server.read(&mut buffer) => {
                let bytes = read.unwrap_or(0);
                if bytes == 0 || client.write_all(&buffer[..bytes]).await.is_err() {
                    return;
                }
            }
        }
    }
}
