//! The OpenAPI document against a real agent: schemathesis sends what the document allows, and what it does not, and
//! every answer must be one that the document knows. A 5xx, but for 503, is none.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::path::{Path, PathBuf};
use std::process::Command;

use basalt_tests::testbed::{Options, Testbed};
use basalt_tests::{facility, require};
use serde_json::{Value, json};

/// The version whose options and findings are known.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// The seed of a run without `SCHEMATHESIS_SEED`.
const SEED: &str = "5";
/// How long it may walk, in seconds, unless `SCHEMATHESIS_SECONDS` says otherwise.
const SECONDS: &str = "120";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The program, installed beside what cargo builds when it is not there yet; or why it cannot be had.
fn schemathesis() -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = target.join(SCHEMATHESIS.replace("==", "-"));
    let program = folder.join("bin/st");
    // Made last: a run that was killed half way leaves none.
    let whole = folder.join("installed");
    if whole.exists() {
        return Ok(program);
    }
    let said = |what: &str, done: std::io::Result<std::process::Output>| match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!("{what}: {}", String::from_utf8_lossy(&done.stderr).trim())),
        Err(error) => Err(format!("{what}: {error}")),
    };
    said("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).output())?;
    said("pip", Command::new(folder.join("bin/pip")).args(["install", "-q", SCHEMATHESIS]).output())?;
    std::fs::write(whole, "").map_err(|e| e.to_string())?;
    Ok(program)
}

fn lacks() -> facility::Lack {
    let missing = ["openssl", "curl"].into_iter().find(|p| basalt_tests::host::which(p).is_none())?;
    Some(format!("{missing} is not installed"))
}

/// A trusted client certificate, with its key, in one file.
fn trusted(bed: &Testbed) -> PathBuf {
    let file = bed.dir().join("client.pem");
    let (key, certificate) = (bed.dir().join("client.key"), bed.dir().join("client.crt"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=schemathesis", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pem = std::fs::read_to_string(&certificate).unwrap();
    std::fs::write(&file, std::fs::read_to_string(&key).unwrap() + &pem).unwrap();
    let inner: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
    let body = json!({"name": "schemathesis", "type": "client", "certificate": inner});
    bed.nodes[0].api().run("POST", "/1.0/certificates", &body).unwrap();
    file
}

/// The fingerprint of the certificate of that name.
fn fingerprint(bed: &Testbed, name: &str) -> String {
    let certificates = bed.nodes[0].api().get("/1.0/certificates?recursion=1").unwrap();
    let found = certificates.as_array().unwrap().iter().find(|c| c["name"] == name).unwrap();
    found["fingerprint"].as_str().unwrap().to_owned()
}

/// Something of every kind, and what it is called.
fn something_of_everything(bed: &Testbed) -> Value {
    let api = bed.nodes[0].api();
    api.create("c1", "", None, &Value::Null).unwrap();
    api.act("c1", "start", false).unwrap();
    api.create("c2", "", None, &Value::Null).unwrap();
    for (path, body) in [
        ("/1.0/profiles", json!({"name": "p1"})),
        ("/1.0/projects", json!({"name": "j1"})),
        ("/1.0/cluster/groups", json!({"name": "g1"})),
        ("/1.0/networks", json!({"name": "b1", "type": "bridge", "config": {"ipv4.address": "none"}})),
        ("/1.0/network-acls", json!({"name": "acl1"})),
        ("/1.0/network-address-sets", json!({"name": "set1", "addresses": ["192.0.2.1"]})),
        ("/1.0/network-zones", json!({"name": "lab.example"})),
        ("/1.0/network-zones/lab.example/records", json!({"name": "www"})),
    ] {
        api.run("POST", path, &body).unwrap();
    }
    // Another certificate than the one that the walk needs: it may be removed.
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=other", "-keyout", "/dev/null"])
        .output()
        .unwrap();
    let pem = String::from_utf8(made.stdout).unwrap();
    let inner: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
    api.run("POST", "/1.0/certificates", &json!({"name": "other", "certificate": inner})).unwrap();
    json!({
        "instances": ["c1", "c2"],
        "profiles": ["default", "p1"],
        "projects": ["default", "j1"],
        "networks": ["basaltbr0", "b1"],
        "network-acls": ["acl1"],
        "network-address-sets": ["set1"],
        "network-zones": ["lab.example"],
        "zone": ["lab.example"],
        "storage-pools": ["default"],
        "members": [bed.nodes[0].name],
        "groups": ["default", "g1"],
        "fingerprint": [fingerprint(bed, "other")],
        "kind": ["container", "custom"],
        "volume": ["c1", "c2"],
        "file": ["lxc.log", "console.log"],
        "paths": ["/", "/etc/hostname", "/tmp/x"],
    })
}

/// What the walk complains of, in short: how the first ones look, and how many of each kind there are.
fn found(said: &str) -> String {
    let from = |heading: &str| {
        said.lines().skip_while(|line| !(line.starts_with('=') && line.contains(heading))).take(40).collect::<Vec<_>>()
    };
    ["ERRORS", "FAILURES", "SUMMARY"].map(from).concat().join("\n")
}

#[test]
fn every_answer_is_one_that_the_document_knows() {
    require!(facility::testbed());
    require!(lacks());
    let program = match schemathesis() {
        Ok(program) => program,
        Err(why) => {
            facility::skip("openapi", &format!("{SCHEMATHESIS} cannot be had: {why}"));
            return;
        }
    };
    let bed = Testbed::cluster(&Options::fake(1)).unwrap();
    let node = &bed.nodes[0];
    let certificate = trusted(&bed);
    let known = something_of_everything(&bed);
    // The document as it is served is what is walked.
    let document = node.api().call("GET", "/1.0/openapi.json", &Value::Null).unwrap();
    assert_eq!(document.status, 200);
    let operations = document.json()["paths"].as_object().unwrap().len();
    assert!(operations > 40, "{operations}");
    let file = bed.dir().join("openapi.json");
    std::fs::write(&file, &document.bytes).unwrap();

    // Who asks gets it in a tenth of the bytes.
    let url = format!("{}/1.0/openapi.json", node.url());
    let netns = format!("--net=/run/netns/{}", bed.fabric.netns());
    let fetch = |option: &str| {
        let words = [&*netns, "curl", "-sk", "-H", "Accept-Encoding: gzip", option, &url];
        Command::new("nsenter").args(words).output().unwrap().stdout
    };
    let (packed, whole) = (fetch("--http1.1"), fetch("--compressed"));
    assert_eq!(whole, document.bytes);
    assert!(packed.len() < whole.len() / 8, "{} of {}", packed.len(), whole.len());

    let seed = std::env::var("SCHEMATHESIS_SEED").unwrap_or_else(|_| SEED.into());
    let seconds = std::env::var("SCHEMATHESIS_SECONDS").unwrap_or_else(|_| SECONDS.into());
    println!("SCHEMATHESIS_SEED={seed}");
    let report = bed.dir().join("report.json");
    let config = bed.dir().join("schemathesis.toml");
    let hooks = root().join("tests/schemathesis/hooks.py");
    // Whether a 501 is one that the document admits is another check.
    let admitted = "[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", 501, 503]\n";
    std::fs::write(&config, format!("hooks = {hooks:?}\n{admitted}")).unwrap();
    let walk = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}", bed.fabric.netns()))
        .arg(&program)
        .arg("--config-file")
        .arg(&config)
        .args(["--no-color", "run"])
        .arg(&file)
        .args(["--url", &node.url(), "--tls-verify", "false", "--request-cert"])
        .arg(&certificate)
        .args(["--exclude-deprecated", "--phases", "coverage,fuzzing,stateful", "--continue-on-failure"])
        .args(["--checks", CHECKS, "--seed", &seed, "--max-time", &seconds, "--max-examples", "20", "--no-shrink"])
        .args(["--request-timeout", "20", "--generation-database", "none", "--suppress-health-check", "all"])
        .args(["--warnings", "off", "--report", "json", "--report-json-path"])
        .arg(&report)
        .current_dir(bed.dir())
        .env("BASALT_KNOWN", known.to_string())
        .env("BASALT_OWN", fingerprint(&bed, "schemathesis"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&walk.stdout);
    println!("{said}{}", String::from_utf8_lossy(&walk.stderr));
    assert!(walk.status.success(), "the document and the answers differ, with seed {seed}:\n{}", found(&said));

    // The walk got further than to refusals.
    let metrics = node.api().call("GET", "/1.0/metrics", &Value::Null).unwrap();
    let metrics = String::from_utf8_lossy(&metrics.bytes).into_owned();
    let answers = |class: &str, method: &str| {
        let series = format!("basalt_api_request_duration_seconds_count{{class=\"{class}\",method=\"{method}\"}} ");
        let line = metrics.lines().find_map(|l| l.strip_prefix(&series));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
        let [good, bad] = ["2xx", "4xx"].map(|class| answers(class, method));
        println!("{method}: {good} done, {bad} refused");
        assert!(good >= 1 && bad >= 8, "{method}: {good} done, {bad} refused");
    }

    // It stands, it trusts the walker still (the answers were not all refusals), and nothing panicked on the way.
    assert!(node.running(), "{}", node.log_tail(40));
    let names: Vec<Value> = node.api().get("/1.0/certificates?recursion=1").unwrap().as_array().cloned().unwrap();
    // By its certificate: the walk may have given it another name.
    let own = std::fs::read_to_string(&certificate).unwrap();
    let is_own = |c: &Value| c["certificate"].as_str().is_some_and(|pem| own.contains(pem.trim()));
    assert!(names.iter().any(|c| is_own(c) && c["restricted"] == false), "{names:?}");
    let log = std::fs::read_to_string(node.log()).unwrap();
    assert!(!log.contains("panicked at"), "{}", node.log_tail(60));
}

/// What is checked of every answer. Not whether all that the document forbids is refused: what is not known is ignored.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance,use_after_free";
