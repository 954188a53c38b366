//! A northbound database of the test's own, and northd over it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use basalt_ovn::nb::rows::KEY;
use basalt_ovn::nb::{Kind, Table};
use basalt_ovn::northbound::Northbound;
use basalt_ovn::ovsdb::value::Datum;
use basalt_ovn::session::Remote;
use tempfile::TempDir;
use uuid::Uuid;

/// Whether a program is lacking; says so.
pub(crate) fn lacks(programs: &[&str]) -> bool {
    let there = |name: &str| ["/usr/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(name).exists());
    let missing = programs.iter().find(|name| !there(name)).map(|name| (*name).to_owned());
    let schema = || (!Path::new(SCHEMA).exists()).then(|| SCHEMA.to_owned());
    let missing = missing.or_else(schema);
    if let Some(what) = &missing {
        println!("skipped: {what} is not installed (packages ovn-central, openvswitch-common)");
    }
    missing.is_some()
}

const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

/// Servers of one test; they end with it.
pub(crate) struct Central {
    dir: TempDir,
    children: Vec<Child>,
}

impl Central {
    pub(crate) fn start() -> Self {
        let mut central = Central { dir: tempfile::tempdir().unwrap(), children: Vec::new() };
        central.database("nb", SCHEMA);
        central
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn database(&mut self, name: &str, schema: &str) {
        let (db, socket) = (self.path(&format!("{name}.db")), self.path(&format!("{name}.sock")));
        tool("ovsdb-tool", &["create", &text(&db), schema]);
        self.spawn("ovsdb-server", name, &[&text(&db), &format!("--remote=punix:{}", text(&socket))]);
        wait(&socket);
    }

    fn spawn(&mut self, program: &str, name: &str, args: &[&str]) {
        let log = format!("--log-file={}", text(&self.path(&format!("{name}.log"))));
        let ctl = format!("--unixctl={}", text(&self.path(&format!("{name}.ctl"))));
        let mut command = Command::new(program);
        command.args(args).args([log, ctl]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(command.spawn().unwrap());
    }

    /// Starts a southbound database, and northd between the two.
    pub(crate) fn northd(&mut self) {
        self.database("sb", "/usr/share/ovn/ovn-sb.ovsschema");
        let (nb, sb) = (self.socket("nb"), self.socket("sb"));
        self.spawn("ovn-northd", "northd", &[&format!("--ovnnb-db={nb}"), &format!("--ovnsb-db={sb}")]);
    }

    fn socket(&self, name: &str) -> String {
        format!("unix:{}", text(&self.path(&format!("{name}.sock"))))
    }

    pub(crate) fn remote(&self) -> Remote {
        self.socket("nb").parse().unwrap()
    }

    #[allow(dead_code, reason = "shared with tests that do not look there")]
    pub(crate) fn southbound(&self) -> Remote {
        self.socket("sb").parse().unwrap()
    }

    /// A program that reads the southbound database.
    #[allow(dead_code, reason = "shared with tests that run none")]
    pub(crate) fn program(&self, name: &str, args: &[String]) -> String {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        tool(name, &[&[format!("--db={}", self.socket("sb")).as_str()], args.as_slice()].concat())
    }

    /// Somebody at `ovn-nbctl`.
    pub(crate) fn nb(&self, args: &[&str]) -> String {
        let db = format!("--db={}", self.socket("nb"));
        tool("ovn-nbctl", &[&["--no-leader-only", &db], args].concat())
    }

    pub(crate) fn sb(&self, args: &[&str]) -> String {
        let db = format!("--db={}", self.socket("sb"));
        tool("ovn-sbctl", &[&["--no-leader-only", &db], args].concat())
    }

    /// What becomes of a packet that begins a conversation.
    #[allow(dead_code, reason = "shared with a test that traces none")]
    pub(crate) fn trace(&self, datapath: &str, flow: &str) -> String {
        let db = format!("--db={}", self.socket("sb"));
        let new = ["--ct=new"; 8];
        tool("ovn-trace", &[&[db.as_str(), "--minimal"], new.as_slice(), &[datapath, flow]].concat())
    }

    /// What northd has said of what it was given.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("northd.log")).unwrap();
        log.lines().filter(|line| line.contains("|WARN|") || line.contains("|ERR|")).map(str::to_owned).collect()
    }
}

impl Drop for Central {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn tool(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn wait(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} did not appear", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The rows of ours as the database has them, by key; references to ours are their keys, others are left out.
pub(crate) fn facts_of(northbound: &dyn Northbound, owner: Uuid) -> BTreeMap<String, String> {
    let snapshot = northbound.snapshot().unwrap();
    let actual = snapshot.actual(owner);
    let mut found = BTreeMap::new();
    for (table, _, held) in actual.iter().chain(actual.doubles()) {
        let key = held.column("external_ids").and_then(|ids| ids.get(KEY)).unwrap().to_owned();
        let mut shown = Vec::new();
        for column in table.columns() {
            let datum = held.column(column.name).unwrap();
            match column.kind {
                Kind::Refs(to, _) => {
                    let mut keys: Vec<&str> = datum.uuids().filter_map(|uuid| actual.key(to, uuid)).collect();
                    keys.sort_unstable();
                    shown.push(format!("{} -> {keys:?}", column.name));
                }
                Kind::Text | Kind::Integer | Kind::Boolean | Kind::Set | Kind::Map => {
                    shown.push(format!("{}: {}", column.name, json(datum)));
                }
            }
        }
        let twice = found.insert(format!("{} {key}", Table::name(table)), shown.join("\n"));
        assert_eq!(twice, None, "two rows for {key}");
    }
    found
}

fn json(datum: &Datum) -> String {
    serde_json::to_string(datum).unwrap()
}
