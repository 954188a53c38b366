//! Debian's Prometheus scrapes every member with a metrics certificate, and has what each tells; `promtool` finds no
//! fault in the page, whatever names it is asked for.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use basalt_tests::compat::{Client, Stock};
use basalt_tests::testbed::{Options, Testbed};
use basalt_tests::{facility, host, image, require, wait};
use serde_json::{Value, json};

/// What is measured now and then is known by then, also where two suites share two cores.
const SOON: Duration = Duration::from_secs(60);

/// Names that LXD and Incus have, which promtool would have otherwise; ours to keep, not to mend.
const THEIRS: &[&str] = &[
    "procs_total non-counter metrics should not have \"_total\" suffix",
    "cpu_effective_total non-counter metrics should not have \"_total\" suffix",
    "operations_total non-counter metrics should not have \"_total\" suffix",
    "warnings_total non-counter metrics should not have \"_total\" suffix",
    "memory_MemTotal_bytes metric names should be written in 'snake_case' not 'camelCase'",
    "memory_MemFree_bytes metric names should be written in 'snake_case' not 'camelCase'",
    "memory_MemAvailable_bytes metric names should be written in 'snake_case' not 'camelCase'",
    "memory_OOM_kills_total metric names should be written in 'snake_case' not 'camelCase'",
];

fn lack() -> facility::Lack {
    let missing = |program: &str| host::which(program).is_none().then(|| format!("{program} is not installed"));
    facility::containers().or_else(|| missing("prometheus")).or_else(|| missing("promtool"))
}

/// A certificate that may read figures and nothing else, where the client is.
fn metrics_certificate(place: &Stock, bed: &Testbed) {
    let line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -days 2 -subj /CN=metrics \
                -keyout metrics.key -out metrics.crt";
    let made = place.beside(&["sh", "-ec", line]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let pem = std::fs::read_to_string(place.home().join("metrics.crt")).unwrap();
    let inner: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
    let body = json!({"name": "metrics", "type": "metrics", "certificate": inner});
    bed.nodes[0].api().run("POST", "/1.0/certificates", &body).unwrap();
}

/// A request with that certificate, as that client.
fn ask(place: &Stock, url: &str, agent: &str) -> String {
    let curl = ["curl", "-sk", "-A", agent, "--cert", "metrics.crt", "--key", "metrics.key", url];
    String::from_utf8_lossy(&place.beside(&curl).output().unwrap().stdout).into_owned()
}

fn check(page: &str, prefix: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let done = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    let theirs = |line: &&str| prefix != "basalt_" && THEIRS.iter().any(|known| **line == format!("{prefix}{known}"));
    let faults: Vec<&str> = said.lines().filter(|l| !l.is_empty() && !theirs(l)).collect();
    assert!(faults.is_empty(), "{prefix}: {faults:#?}");
    assert!(page.ends_with("# EOF\n"));
}

/// A query of Prometheus's own API: metrics and values.
fn query(place: &Stock, expression: &str) -> Vec<Value> {
    let curl = ["curl", "-s", "-G", "--data-urlencode", &format!("query={expression}"), "127.0.0.1:9090/api/v1/query"];
    let out = place.beside(&curl).output().unwrap().stdout;
    let answer: Value = serde_json::from_slice(&out).unwrap_or(Value::Null);
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

fn scrape(place: &Stock, bed: &Testbed) {
    let targets: Vec<String> = bed.nodes.iter().map(basalt_tests::testbed::Node::api_address).collect();
    let config = json!({"global": {"scrape_interval": "1s"}, "scrape_configs": [{
        "job_name": "basalt", "scheme": "https", "metrics_path": "/1.0/metrics",
        "tls_config": {"insecure_skip_verify": true, "cert_file": "metrics.crt", "key_file": "metrics.key"},
        "static_configs": [{"targets": targets}],
    }]});
    // JSON is YAML.
    std::fs::write(place.home().join("prometheus.yml"), config.to_string()).unwrap();
    let line = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=prometheus", "--log.level=warn"];
    let listen = "--web.listen-address=127.0.0.1:9090";
    let mut server =
        place.service(&[&line[..], &[listen]].concat()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let scraped = wait::until("every member is scraped", SOON, || {
        let up = query(place, "up == 1");
        Ok((up.len() == bed.nodes.len() && query(place, "lxd_memory_RSS_bytes").len() == 2).then_some(()))
    });
    // Not all are scraped at the same moment, and on a busy machine there may have been an election in between.
    let led = || Ok((!query(place, "sum(basalt_raft_is_leader) == 1").is_empty()).then_some(()));
    let scraped = scraped.and_then(|()| wait::until("one member leads", SOON, led));
    let asked = scraped.map(|()| {
        let memory = query(place, "lxd_memory_RSS_bytes{name=\"m1\"}");
        let applied = query(place, "min(basalt_raft_applied_index)");
        (memory, applied)
    });
    let _ = server.kill();
    let said = server.wait_with_output().unwrap();
    let (memory, applied) = asked.unwrap_or_else(|e| panic!("{e:#}: {}", String::from_utf8_lossy(&said.stderr)));
    let value = |result: &[Value]| result[0]["value"][1].as_str().unwrap().parse::<f64>().unwrap();
    assert!(value(&applied) > 1.0);
    assert!(value(&memory) > 0.0);
    // Each member tells of its own instances.
    assert_eq!(memory.len(), 1);
    assert_eq!(memory[0]["metric"]["instance"], bed.nodes[1].api_address());
    assert_eq!(memory[0]["metric"]["project"], "default");
}

#[test]
fn prometheus_has_what_every_member_tells() {
    require!(lack());
    let bed = Stock::cluster().unwrap();
    let place = Stock::named(Client::Basalt, &bed, "metrics").unwrap();
    metrics_certificate(&place, &bed);
    let api = bed.nodes[0].api();
    for (name, node) in [("m1", &bed.nodes[1]), ("m2", &bed.nodes[2])] {
        api.create(name, "busybox", Some(&node.name), &json!({"limits.memory": "64MiB"})).unwrap();
        api.act(name, "start", false).unwrap();
    }
    scrape(&place, &bed);

    let url = format!("{}/1.0/metrics", bed.nodes[1].url());
    let lxd = ask(&place, &url, "LXD 5.0.2");
    let incus = ask(&place, &url, "Incus 6.0.4");
    let ours = ask(&place, &format!("{url}?format=basalt"), "curl");
    check(&lxd, "lxd_");
    check(&incus, "incus_");
    check(&ours, "basalt_");
    assert!(
        incus.contains("incus_memory_MemTotal_bytes{name=\"m1\",project=\"default\",type=\"container\"} 67108864\n")
    );
    assert!(
        ours.contains(
            "basalt_instance_memory_limit_bytes{name=\"m1\",project=\"default\",type=\"container\"} 67108864\n"
        )
    );
    assert!(!ours.contains("lxd_") && !ours.contains("incus_"), "{ours}");
    // What an operator of the cluster looks at.
    for name in [
        "basalt_raft_term",
        "basalt_raft_is_leader",
        "basalt_raft_applied_index",
        "basalt_raft_commit_seconds_count",
        "basalt_raft_fsync_seconds_count",
        "basalt_agent_passes_total",
        "basalt_agent_pass_seconds_count",
        "basalt_scheduler_passes_total",
        "basalt_scheduler_pass_seconds_count",
        "basalt_api_request_duration_seconds_count",
    ] {
        assert!(ours.lines().any(|l| l.starts_with(name)), "{name}: {ours}");
    }
    // That certificate is good for nothing else, and a wrong word is told.
    assert!(ask(&place, &format!("{}/1.0/instances", bed.nodes[1].url()), "curl").contains("not authorized"));
    assert!(ask(&place, &format!("{url}?format=xml"), "curl").contains("format"));
}

/// A file system on a block device of its own, below the testbed's folder.
struct Device {
    mount: std::path::PathBuf,
    /// `loop0`, and `7:0`.
    name: String,
    number: String,
}

impl Device {
    fn new(bed: &Testbed) -> Self {
        let (file, mount) = (bed.dir().join("device.img"), bed.dir().join("device"));
        std::fs::create_dir(&mount).unwrap();
        let (file, at) = (file.to_str().unwrap(), mount.to_str().unwrap());
        host::run(&["truncate", "-s", "64M", file]).unwrap();
        host::run(&["mkfs.ext4", "-q", file]).unwrap();
        host::run(&["mount", "-o", "loop", file, at]).unwrap();
        // Root of the guest is nobody here.
        host::run(&["chmod", "0777", at]).unwrap();
        let said = host::run(&["losetup", "--noheadings", "--output", "NAME,MAJ:MIN", "--associated", file]).unwrap();
        let [name, number] = said.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{said}") };
        Device { mount, name: name.trim_start_matches("/dev/").into(), number: number.into() }
    }

    /// Has version 1 count: it does for devices of which a limit was ever set. Version 2 counts by itself.
    fn count(&self, group: &str) {
        let file = format!("/sys/fs/cgroup/blkio{group}/blkio.throttle.write_bps_device");
        if std::path::Path::new("/sys/fs/cgroup/blkio").exists() {
            std::fs::write(file, format!("{} 1073741824", self.number)).unwrap();
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        host::try_run(&["umount", self.mount.to_str().unwrap()]);
    }
}

/// The guest's group, as the hierarchy of disks has it.
fn group(pid: &Value) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|line| line.split_once(":blkio:").or_else(|| line.split_once("0::"))).unwrap().1;
    format!("{}/payload", path.split("/payload").next().unwrap())
}

#[test]
fn what_a_guest_reads_and_writes_is_counted_where_the_host_counts() {
    let missing = |program: &str| host::which(program).is_none().then(|| format!("{program} is not installed"));
    let lack = ["mkfs.ext4", "losetup", "promtool"].iter().find_map(|program| missing(program));
    require!(facility::containers().or(lack));
    let bed = Testbed::cluster(&Options::real(1)).unwrap();
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file).unwrap();
    bed.nodes[0].basalt(&["image", "import", file.to_str().unwrap(), "--alias", "busybox"]).unwrap();
    let device = Device::new(&bed);
    let api = bed.nodes[0].api();
    let source = device.mount.to_str().unwrap();
    let body = json!({
        "name": "d1", "source": {"type": "image", "alias": "busybox"},
        "devices": {"data": {"type": "disk", "source": source, "path": "/data"}},
    });
    api.run("POST", "/1.0/instances", &body).unwrap();
    api.act("d1", "start", false).unwrap();
    let page = || String::from_utf8(api.call("GET", "/1.0/metrics", &Value::Null).unwrap().bytes).unwrap();
    let labels = format!("{{device=\"{}\",name=\"d1\",project=\"default\",type=\"container\"}} ", device.name);
    let value = |name: &str| {
        let start = format!("lxd_disk_{name}_total{labels}");
        page().lines().find_map(|line| line.strip_prefix(&start)?.parse::<f64>().ok())
    };
    device.count(&group(&api.get("/1.0/instances/d1/state").unwrap()["pid"]));
    let script =
        "dd if=/dev/zero of=/data/x bs=64k count=32 conv=fsync && dd if=/data/x of=/dev/null iflag=direct bs=64k";
    let done = bed.nodes[0].basalt_raw(&["exec", "d1", "--", "sh", "-c", script]).unwrap();
    assert!(done.status.success(), "{done:?}");
    const BYTES: f64 = (32 * 64 * 1024) as f64;
    // A figure may be from the middle of the script.
    for name in ["written_bytes", "read_bytes"] {
        let told = || Ok(value(name).is_some_and(|bytes| bytes >= BYTES));
        wait::until_true(name, SOON, told).unwrap_or_else(|e| panic!("{e:#}: {}", page()));
    }
    assert!(value("writes_completed").unwrap() >= 1.0 && value("reads_completed").unwrap() >= 1.0);
    check(&page(), "lxd_");
    api.act("d1", "stop", true).unwrap();
    wait::until_true("a guest that is down has none", SOON, || Ok(!page().contains("lxd_disk_"))).unwrap();
}
