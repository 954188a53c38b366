//! Where the programs under test lie.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The agent.
pub fn basaltd() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| folder().join("basaltd"))
}

/// The client.
pub fn basalt() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| folder().join("basalt"))
}

/// `BASALT_BIN_DIR`, or the folder of the present build profile, built first: a suite must not test yesterday's program.
fn folder() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(given) = std::env::var_os("BASALT_BIN_DIR") {
            return PathBuf::from(given);
        }
        let mut folder = std::env::current_exe().expect("a process has a program");
        folder.pop();
        if folder.ends_with("deps") {
            folder.pop();
        }
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "-q", "-p", "basalt-node", "-p", "basalt-cli"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let built = build.status().expect("cargo can be run");
        assert!(built.success(), "the programs under test do not build");
        folder
    })
}
