//! The house rules that a compiler does not know: who may import whom, what the top level looks like, which crates and
//! licences are let in. The tables are those of the architecture document.

#![allow(clippy::disallowed_methods)] // cargo is asked for the facts

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Folder, crate, what it may import of ours. `*` is everything.
const TABLE: &[(&str, &str, &[&str])] = &[
    ("raft/model", "basalt-model", &[]),
    // Stands in for a registry's crate, and has its name.
    ("raft/histogram", "base2histogram", &[]),
    ("node/runtime", "basalt-runtime", &[]),
    ("scheduler", "basalt-scheduler", &["basalt-model"]),
    ("node/driver", "basalt-driver", &["basalt-model"]),
    ("storage", "basalt-storage", &["basalt-model", "basalt-runtime"]),
    ("ovn", "basalt-ovn", &["basalt-model", "basalt-runtime"]),
    ("raft", "basalt-raft", &["basalt-model", "basalt-runtime"]),
    ("node/net", "basalt-net", &["basalt-model", "basalt-runtime"]),
    ("node/lxc", "basalt-lxc", &["basalt-model", "basalt-runtime", "basalt-driver"]),
    ("node/qemu", "basalt-qemu", &["basalt-model", "basalt-runtime", "basalt-driver"]),
    ("node/vmm", "basalt-vmm", &["basalt-model", "basalt-runtime", "basalt-driver"]),
    ("migration", "basalt-migration", &["basalt-model", "basalt-runtime", "basalt-storage", "basalt-driver"]),
    ("api", "basalt-api", &["basalt-model"]),
    ("api/client", "basalt-client", &["basalt-api"]),
    ("api/cli", "basalt-cli", &["basalt-api", "basalt-client"]),
    ("node", "basalt-node", &["*"]),
    ("tests", "basalt-tests", &["*"]),
];

/// The visible top level is the owner's, and fixed.
const TOP: &[&str] =
    &["Cargo.toml", "node", "raft", "scheduler", "ovn", "migration", "storage", "api", "ansible", "tests", "README.md"];
/// What may lie beside it, with dot-files and what building makes.
const BESIDE: &[&str] = &["Cargo.lock", "Makefile", "LICENSE", "target"];

/// Crates that would bring a C toolchain's worth of trouble, or a second copy of what we have.
const FORBIDDEN: &[&str] = &["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "bindgen"];

/// Licences that may be linked into an Apache-2.0 program; an expression is fine when one of its choices is.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "BSL-1.0",
    "MPL-2.0",
    "CDLA-Permissive-2.0",
    "OpenSSL",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

fn cargo(arguments: &[&str]) -> Value {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(program)
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(arguments)
        .output()
        .expect("cargo can be run");
    assert!(done.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("cargo metadata prints JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Workspace crates: folder to (name, what it imports of ours).
fn ours() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let metadata = cargo(&["--no-deps"]);
    let mut crates = BTreeMap::new();
    for package in list(&metadata, "packages") {
        let folder =
            Path::new(text(package, "manifest_path")).parent().expect("a manifest lies in a folder").to_owned();
        let folder = folder.strip_prefix(root()).expect("members lie in the workspace").to_string_lossy().into_owned();
        let name = text(package, "name").to_owned();
        let imports = list(package, "dependencies")
            .iter()
            .filter(|d| !d["path"].is_null())
            .map(|d| text(d, "name").to_owned())
            .filter(|d| *d != name)
            .collect();
        crates.insert(folder, (name, imports));
    }
    crates
}

#[test]
fn imports_point_down() {
    let table: BTreeMap<&str, (&str, &[&str])> =
        TABLE.iter().map(|(folder, name, may)| (*folder, (*name, *may))).collect();
    let mut wrong = Vec::new();
    for (folder, (name, imports)) in ours() {
        let Some((wanted, may)) = table.get(folder.as_str()) else {
            wrong.push(format!("{folder}: not a crate of the architecture"));
            continue;
        };
        if name != *wanted {
            wrong.push(format!("{folder}: is called {name}, not {wanted}"));
        }
        for import in imports.iter().filter(|i| !may.contains(&"*") && !may.contains(&i.as_str())) {
            wrong.push(format!("{name} may not import {import}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_inherits_the_lints_and_says_what_it_is() {
    let mut wrong = Vec::new();
    for folder in ours().keys() {
        let manifest =
            std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a member has a manifest");
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{folder}: does not inherit the lint table"));
        }
        let head = ["src/lib.rs", "src/main.rs"]
            .iter()
            .find_map(|file| std::fs::read_to_string(root().join(folder).join(file)).ok())
            .unwrap_or_default();
        let lines = head.lines().take_while(|l| l.starts_with("//!")).count();
        if lines < 5 {
            wrong.push(format!("{folder}: its head has {lines} lines; it says purpose, picture, invariants, failure"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The Makefile selects by `--workspace --test NAME`.
#[test]
fn tests_have_names_of_their_own() {
    let metadata = cargo(&["--no-deps"]);
    let mut seen = BTreeMap::new();
    for package in list(&metadata, "packages") {
        for target in list(package, "targets") {
            let name = text(target, "name").to_owned();
            let is_test = list(target, "kind").iter().any(|k| k == "test");
            if let Some(other) = is_test.then(|| seen.insert(name.clone(), text(package, "name").to_owned())).flatten()
            {
                panic!("two tests are called {name}: in {other} and in {}", text(package, "name"));
            }
        }
    }
}

#[test]
fn the_top_level_is_the_fixed_one() {
    let extra: Vec<String> = std::fs::read_dir(root())
        .expect("the workspace can be listed")
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()) && !BESIDE.contains(&name.as_str()))
        .collect();
    assert!(extra.is_empty(), "not part of the top level: {extra:?}");
}

/// The packages that end up in our programs on this platform, without dev-dependencies of others.
fn packages() -> Vec<Value> {
    let metadata = cargo(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let reached: BTreeSet<String> =
        list(&metadata["resolve"], "nodes").iter().map(|n| text(n, "id").to_owned()).collect();
    list(&metadata, "packages").iter().filter(|p| reached.contains(text(p, "id"))).cloned().collect()
}

#[test]
fn no_forbidden_crates() {
    let found: Vec<String> =
        packages().iter().map(|p| text(p, "name").to_owned()).filter(|n| FORBIDDEN.contains(&n.as_str())).collect();
    assert!(found.is_empty(), "forbidden: {found:?}");
}

#[test]
fn licences_are_on_the_list() {
    let bad: Vec<String> = packages()
        .iter()
        .filter(|p| !p["source"].is_null() && !acceptable(text(p, "license")))
        .map(|p| format!("{} {}: {:?}", text(p, "name"), text(p, "version"), text(p, "license")))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// `AND` needs all, `OR` needs one; parentheses as in SPDX. Old manifests write `/` for `OR`.
fn acceptable(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (verdict, rest) = any(&words);
    verdict && rest.is_empty()
}

fn any<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut verdict, mut rest) = all(words);
    while let Some((&"OR", after)) = rest.split_first() {
        let (next, left) = all(after);
        (verdict, rest) = (verdict || next, left);
    }
    (verdict, rest)
}

fn all<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut verdict, mut rest) = one(words);
    while let Some((&"AND", after)) = rest.split_first() {
        let (next, left) = one(after);
        (verdict, rest) = (verdict && next, left);
    }
    (verdict, rest)
}

fn one<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", rest @ ..] => {
            let (verdict, left) = any(rest);
            (verdict && left.first() == Some(&")"), left.get(1..).unwrap_or_default())
        }
        [licence, "WITH", exception, rest @ ..] => {
            (LICENCES.contains(&format!("{licence} WITH {exception}").as_str()), rest)
        }
        [licence, rest @ ..] => (LICENCES.contains(licence), rest),
        [] => (false, words),
    }
}

#[test]
fn licence_expressions_are_understood() {
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "MIT/Apache-2.0",
        "(MIT OR GPL-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(acceptable(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "GPL-2.0 WITH Classpath-exception-2.0"] {
        assert!(!acceptable(bad), "{bad}");
    }
}
