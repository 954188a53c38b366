//! Bad input at the sockets of a real agent: what is wrong is refused with its name, nothing changes, nothing breaks,
//! and memory stays bounded.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use basalt_tests::testbed::{Node, Options, Testbed};
use basalt_tests::{facility, host, require, wait};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

/// How many connections are opened and not used.
const IDLE: usize = 10_000;
/// So much more memory than before may be held while they are, in kB: 4096 of them are held, the others make way.
const MOST_MEMORY: u64 = 150 * 1024;

fn bed() -> Testbed {
    let bed = Testbed::cluster(&Options::fake(1)).unwrap();
    bed.nodes[0].api().create("c1", "", None, &Value::Null).unwrap();
    bed.nodes[0].api().act("c1", "start", false).unwrap();
    bed
}

/// All that a request could have changed.
fn everything(node: &Node) -> Vec<Value> {
    let lists = ["instances", "profiles", "projects", "networks", "storage-pools", "certificates", "images"];
    let mut all: Vec<Value> = lists.iter().map(|l| node.api().get(&format!("/1.0/{l}?recursion=1")).unwrap()).collect();
    all.push(node.api().get("/1.0").unwrap()["config"].clone());
    all
}

fn unharmed(node: &Node) {
    assert!(node.running(), "{}", node.log_tail(40));
    let log = std::fs::read_to_string(node.log()).unwrap();
    assert!(!log.contains("panicked at") && !log.contains("task lost"), "{}", node.log_tail(60));
}

fn memory(node: &Node, field: &str) -> u64 {
    host::status_field(node.pid().unwrap(), field).unwrap()
}

#[test]
fn what_is_wrong_is_refused_by_its_name() {
    require!(facility::testbed());
    let bed = bed();
    let node = &bed.nodes[0];
    let before = everything(node);
    let instance = |more: Value| {
        let mut body = json!({"name": "bad", "source": {"type": "none"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let config = |key: &str, value: &str| instance(json!({"config": {key: value}}));
    let long = "x".repeat(64);
    let cases: Vec<(&str, &str, String, &str)> = vec![
        ("POST", "/1.0/instances", "{\"name\":".into(), "body: bad JSON"),
        ("POST", "/1.0/instances", "[]".into(), "body: must be a JSON object"),
        ("POST", "/1.0/instances", "\u{1}\u{2}".into(), "body: bad JSON"),
        ("POST", "/1.0/instances", "[".repeat(200_000), "body: bad JSON"),
        ("POST", "/1.0/instances", instance(json!({"name": 5})), "name: "),
        ("POST", "/1.0/instances", instance(json!({"config": {"limits.cpu": 1}})), "config: "),
        ("POST", "/1.0/instances", instance(json!({"config": []})), "config: "),
        ("POST", "/1.0/instances", instance(json!({"devices": {"eth0": "x"}})), "devices: "),
        ("POST", "/1.0/instances", instance(json!({"ephemeral": "perhaps"})), "ephemeral: "),
        ("POST", "/1.0/instances", instance(json!({"name": "a/b"})), "name: "),
        ("POST", "/1.0/instances", instance(json!({"name": "-a"})), "name: "),
        ("POST", "/1.0/instances", instance(json!({"name": "ä"})), "name: "),
        ("POST", "/1.0/instances", instance(json!({"name": long})), "name: "),
        ("POST", "/1.0/instances", instance(json!({"source": {"type": "dream"}})), "source.type: "),
        ("POST", "/1.0/instances", config("colour", "red"), "colour: Unknown configuration key"),
        ("POST", "/1.0/instances", config("limits.cpu", "0"), "limits.cpu: "),
        ("POST", "/1.0/instances", config("limits.cpu", "5-2"), "limits.cpu: "),
        ("POST", "/1.0/instances", config("limits.memory", "-1"), "limits.memory: "),
        ("POST", "/1.0/instances", config("limits.memory", "0"), "limits.memory: "),
        ("POST", "/1.0/instances", config("limits.memory", "99999999999EiB"), "limits.memory: "),
        ("POST", "/1.0/instances", config("limits.memory", "101%"), "limits.memory: "),
        ("POST", "/1.0/instances", config("limits.processes", "0"), "limits.processes: "),
        ("POST", "/1.0/instances", config("limits.cpu.allowance", "50ms/0ms"), "limits.cpu.allowance: "),
        ("POST", "/1.0/instances", config("security.nesting", "maybe"), "security.nesting: "),
        ("POST", "/1.0/instances", config("user.a", "a\u{0}b"), "config.user.a: "),
        ("PATCH", "/1.0/instances/c1", json!({"config": {"limits.memory": "lots"}}).to_string(), "limits.memory: "),
        ("PUT", "/1.0/instances/c1/state", json!({"action": "fly"}).to_string(), "action: "),
        ("PUT", "/1.0/instances/c1/state", json!({"action": "stop", "timeout": 1e12 as u64}).to_string(), "timeout: "),
        ("POST", "/1.0/instances/c1/exec", json!({"command": []}).to_string(), "command: "),
        ("POST", "/1.0/networks", json!({"name": "n/1"}).to_string(), "name: "),
        (
            "POST",
            "/1.0/networks",
            json!({"name": "n1", "type": "bridge", "config": {"ipv4.address": "300.0.0.1/24"}}).to_string(),
            "ipv4.address: ",
        ),
        ("POST", "/1.0/storage-pools", json!({"name": "s1", "driver": "tape"}).to_string(), "driver: "),
        ("PATCH", "/1.0", json!({"config": {"core.nothing": "1"}}).to_string(), "core.nothing: "),
        ("GET", "/1.0/instances?filter=name%20is%20c1", String::new(), "filter: "),
        ("GET", "/1.0/instances?all-projects=true&project=default", String::new(), "project: "),
    ];
    for (method, path, body, named) in cases {
        let answer = node.api().connect().unwrap().request(method, path, "application/json", body.as_bytes()).unwrap();
        let said = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        let shown: String = body.chars().take(120).collect();
        assert_eq!(answer.status, 400, "{method} {path} {shown}: {said}");
        assert!(said.contains(named), "{method} {path} {shown}: {said}");
    }
    assert_eq!(everything(node), before);
    unharmed(node);
}

/// Sends `size` bytes after this head, and gives back the whole answer.
fn flood(node: &Node, head: &str, size: usize) -> String {
    let mut stream = UnixStream::connect(node.dir.join("unix.socket")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("{head}Host: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let chunk = vec![b' '; 1 << 20];
    for _ in 0..size / chunk.len() {
        stream.write_all(&chunk).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_body_of_100_mb_is_not_kept() {
    require!(facility::testbed());
    let bed = bed();
    let node = &bed.nodes[0];
    let before = everything(node);
    let peak = memory(node, "VmHWM:");
    let size = 100 << 20;
    for head in [
        format!("POST /1.0/profiles HTTP/1.1\r\nContent-Length: {size}\r\n"),
        format!("PUT /1.0/instances/c1/state HTTP/1.1\r\nContent-Length: {size}\r\n"),
    ] {
        let answer = flood(node, &head, size);
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("1048576 bytes"), "{answer}");
    }
    // As an image it goes to the disk, is found to be none, and is gone again.
    let head =
        format!("POST /1.0/images HTTP/1.1\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n");
    let answer = flood(node, &head, size);
    assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let grown = memory(node, "VmHWM:") - peak;
    println!("peak of memory grew by {grown} kB over 300 MB of bodies");
    assert!(grown < 48 * 1024, "{grown} kB");
    wait::until_true("what was uploaded is gone", Duration::from_secs(60), || {
        let left = host::run(&["du", "-sk", node.dir.to_str().unwrap()])?;
        Ok(left.split_whitespace().next().and_then(|k| k.parse::<u64>().ok()).is_some_and(|k| k < 60 * 1024))
    })
    .unwrap();
    assert_eq!(everything(node), before);
    unharmed(node);
}

/// Sends a part of a request, byte by byte when `slowly`, and gives back what comes and how long it took.
fn part_of(socket: PathBuf, text: &'static str, slowly: bool) -> (String, Duration) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let begun = Instant::now();
    match slowly {
        false => stream.write_all(text.as_bytes()).unwrap(),
        true => {
            let mut writer = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                for byte in text.bytes().cycle() {
                    // The server hangs up in the end.
                    if writer.write_all(&[byte]).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(700));
                }
            });
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    (String::from_utf8_lossy(&answer).into_owned(), begun.elapsed())
}

#[test]
fn what_does_not_come_is_not_waited_for() {
    require!(facility::testbed());
    let bed = bed();
    let node = &bed.nodes[0];
    let before = everything(node);
    let socket = node.dir.join("unix.socket");

    // Half a request, and the caller is gone.
    let mut gone = UnixStream::connect(&socket).unwrap();
    gone.write_all(b"POST /1.0/profiles HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n{\"name\": \"half\"").unwrap();
    drop(gone);

    // A stream that is asked for and to which nobody comes.
    let exec = json!({"command": ["true"], "wait-for-websocket": true, "interactive": false});
    let asked = node.api().call("POST", "/1.0/instances/c1/exec", &exec).unwrap();
    assert_eq!(asked.status, 202, "{:?}", asked.json());

    let (half_socket, slow_socket) = (socket.clone(), socket);
    let half = std::thread::spawn(|| {
        part_of(half_socket, "POST /1.0/profiles HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n{\"name\"", false)
    });
    let slow = std::thread::spawn(|| part_of(slow_socket, "X-A: b\r\n", true));
    let error = node.api().finish(&asked).expect_err("nobody attached");
    assert!(format!("{error:#}").contains("waiting for websockets"), "{error:#}");
    let (answer, took) = half.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("did not arrive in time"), "{took:?}: {answer}");
    let (answer, took) = slow.join().unwrap();
    assert!(took < Duration::from_secs(90), "{took:?}");
    assert!(answer.starts_with("HTTP/1.1 4"), "{took:?}: {answer:?}");
    println!("a slow head: {took:?}, {}", answer.lines().next().unwrap_or_default());
    assert_eq!(everything(node), before);
    unharmed(node);
}

/// Our own limit of open files, as high as it goes; gives how many connections fit.
fn connections() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    usize::try_from(hard).unwrap().saturating_sub(256).min(IDLE)
}

/// Opens idle connections from inside the fabric's namespace.
fn idle_tcp(netns: &str, node: &Node, count: usize) -> Vec<TcpStream> {
    let (netns, address) = (format!("/run/netns/{netns}"), node.api_address());
    std::thread::spawn(move || {
        let netns = std::fs::File::open(netns).unwrap();
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        (0..count).map(|_| TcpStream::connect(&address).unwrap()).collect()
    })
    .join()
    .unwrap()
}

fn answers_quickly(bed: &Testbed) -> Duration {
    let node = &bed.nodes[0];
    let begun = Instant::now();
    node.api().get("/1.0/instances").unwrap();
    // And over TLS, for those who come from elsewhere.
    let netns = format!("--net=/run/netns/{}", bed.fabric.netns());
    let url = format!("{}/1.0", node.url());
    host::run(&["nsenter", &netns, "curl", "-sk", "--max-time", "30", "--fail", &url]).unwrap();
    begun.elapsed()
}

#[test]
fn idle_connections_keep_nobody_out() {
    require!(facility::testbed());
    require!(host::which("curl").is_none().then(|| "curl is not installed".to_owned()));
    let bed = bed();
    let node = &bed.nodes[0];
    let before = everything(node);
    let count = connections();
    if count < IDLE {
        println!("only {count} connections: the limit of open files is {}", count + 256);
    }
    let memory_before = memory(node, "VmRSS:");

    let tcp = idle_tcp(&bed.fabric.netns(), node, count);
    let took = answers_quickly(&bed);
    let held = memory(node, "VmRSS:").saturating_sub(memory_before);
    println!("{count} idle TCP connections: {held} kB more, answers in {took:?}");
    assert!(held < MOST_MEMORY, "{held} kB");
    drop(tcp);

    let socket = node.dir.join("unix.socket");
    let unix: Vec<UnixStream> = (0..count).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let took = answers_quickly(&bed);
    let held = memory(node, "VmRSS:").saturating_sub(memory_before);
    println!("{count} idle unix connections: {held} kB more, answers in {took:?}");
    assert!(held < MOST_MEMORY, "{held} kB");
    drop(unix);

    // What was held is given back, but for what the allocator keeps.
    let files = format!("/proc/{}/fd", node.pid().unwrap());
    wait::until_true("connections are gone", Duration::from_secs(60), || Ok(std::fs::read_dir(&files)?.count() < 200))
        .unwrap();
    assert_eq!(everything(node), before);
    unharmed(node);
}
