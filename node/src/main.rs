//! `basaltd`: the Basalt agent.

use std::io::IsTerminal;

use anyhow::Context;
use basalt_node::Config;
use basalt_node::config::{Flags, Raw};
use basalt_runtime::Shutdown;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

const DEFAULT_CONFIG: &str = "/etc/basalt/basaltd.toml";

fn main() -> std::process::ExitCode {
    match start() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes is for the operator; a backtrace is not.
            eprintln!("basaltd: {}", error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": "));
            std::process::ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let config = Config::try_from(flags.over(file(&flags)?))?;
    if flags.check_config {
        println!("{config:#?}");
        return Ok(());
    }
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log).context("log: not a filter")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed before ours"))?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let node = basalt_node::run(config, shutdown.clone());
        tokio::pin!(node);
        loop {
            tokio::select! {
                ended = &mut node => return ended,
                _ = terminate.recv() => shutdown.cancel(),
                _ = interrupt.recv() => shutdown.cancel(),
            }
        }
    })
}

/// Connections are files: the soft limit, which is low for the sake of old programs, goes up to the hard one.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// The file's settings; a file that is named must exist, the default one need not.
fn file(flags: &Flags) -> anyhow::Result<Raw> {
    let (path, named) = match &flags.config {
        Some(path) => (path.clone(), true),
        None => (DEFAULT_CONFIG.into(), false),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{}", path.display())),
        Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => Ok(Raw::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
