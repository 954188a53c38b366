//! `basalt`: the command line of a Basalt cluster.
//!
//! ```text
//!   args (clap) ──> cmd::<family> ──> basalt-client ──> any member
//!                        │
//!                        ├── output, table     tables, JSON, YAML, CSV on standard output
//!                        ├── progress          what operations are at, on standard error, for people only
//!                        └── terminal          raw mode, window size, signals for exec and console
//! ```
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage; `exec` and `shell` give the program's own. Errors go to standard error
//! with their causes and, where known, what to do next.

mod args;
mod cmd;
mod conf;
mod context;
mod edit;
mod output;
mod pairs;
mod progress;
mod table;
mod terminal;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use conf::Environment;
use context::Context;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start")),
    };
    let context = Context::new(Environment::read(), &cli);
    let result = runtime.block_on(Box::pin(cmd::run(&context, cli.command)));
    // A read of standard input may still be blocked in its thread; it must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// The reader of our output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let of_program = match error.downcast_ref::<basalt_client::Error>() {
        Some(basalt_client::Error::Io { source, .. }) => Some(source),
        _ => None,
    };
    let pipe = error.downcast_ref::<io::Error>().or(of_program);
    pipe.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let mut text = format!("Error: {error}");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if cause != last {
            text.push_str(&format!(": {cause}"));
        }
        last = cause;
    }
    output::note(text);
    let next = error.chain().find_map(|cause| cause.downcast_ref::<basalt_client::Error>()?.next_step());
    if let Some(next) = next {
        output::note(format!("Hint: {next}"));
    }
    ExitCode::FAILURE
}
