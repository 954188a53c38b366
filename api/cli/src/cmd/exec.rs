//! `basalt exec` and `basalt shell`: a program in a guest, with this terminal or these pipes. Its exit code is ours.

use std::io::{self, IsTerminal};

use anyhow::Result;
use basalt_client::Session;
use clap::{Args, ValueEnum};
use tokio::sync::mpsc;

use basalt_api::dto::instance;

use crate::context::Context;
use crate::pairs;
use crate::terminal::{self, Raw};

/// The best shell that the guest has, as a login shell.
const SHELL: &str = "cd; if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi";

/// Whether the program gets a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Mode {
    /// When this program has one
    #[default]
    Auto,
    Interactive,
    NonInteractive,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The instance
    name: String,
    /// Set a variable of its environment
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Folder to run in
    #[arg(long)]
    cwd: Option<String>,
    /// User ID to run as
    #[arg(long, default_value_t = 0)]
    user: u32,
    /// Group ID to run as
    #[arg(long, default_value_t = 0)]
    group: u32,
    /// Whether it gets a terminal
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["force_interactive", "force_noninteractive"])]
    mode: Mode,
    /// Give it a terminal
    #[arg(short = 't', long, conflicts_with = "force_noninteractive")]
    force_interactive: bool,
    /// Give it no terminal
    #[arg(short = 'T', long)]
    force_noninteractive: bool,
    /// Give it no input
    #[arg(short = 'n', long)]
    disable_stdin: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Shell {
    /// The instance
    name: String,
}

pub(crate) async fn exec(context: &Context, args: Exec) -> Result<u8> {
    let interactive = match (args.mode, args.force_interactive, args.force_noninteractive) {
        (Mode::Interactive, ..) | (_, true, _) => true,
        (Mode::NonInteractive, ..) | (_, _, true) => false,
        (Mode::Auto, false, false) => terminal::is_interactive() && !args.disable_stdin,
    };
    let mut environment = pairs::map(&args.env)?;
    if interactive && let Some(term) = &context.term {
        environment.entry("TERM".to_owned()).or_insert_with(|| term.clone());
    }
    let (width, height) = if interactive { terminal::size() } else { (0, 0) };
    let wanted = instance::Exec {
        command: args.command,
        wait_for_websocket: true,
        interactive,
        environment,
        width,
        height,
        user: args.user,
        group: args.group,
        cwd: args.cwd.unwrap_or_default(),
        ..instance::Exec::default()
    };
    let session = context.client()?.exec(&args.name, &wanted).await?;
    attach(session, interactive, args.disable_stdin).await
}

pub(crate) async fn shell(context: &Context, args: Shell) -> Result<u8> {
    let command = ["sh", "-c", SHELL].map(str::to_owned).to_vec();
    let env = vec!["HOME=/root".to_owned()];
    let exec = Exec {
        name: args.name,
        env,
        cwd: None,
        user: 0,
        group: 0,
        mode: Mode::Auto,
        force_interactive: false,
        force_noninteractive: false,
        disable_stdin: false,
        command,
    };
    Box::pin(self::exec(context, exec)).await
}

async fn attach(session: Session, interactive: bool, no_input: bool) -> Result<u8> {
    let (sender, control) = mpsc::channel(16);
    let (out, err) = (tokio::io::stdout(), tokio::io::stderr());
    let raw = (interactive && io::stdin().is_terminal()).then(Raw::enter).transpose()?;
    let follow = async {
        if interactive { terminal::follow_size(sender).await } else { terminal::follow_signals(sender).await }
    };
    let run = async {
        if no_input {
            session.run(tokio::io::empty(), out, err, control).await
        } else {
            session.run(tokio::io::stdin(), out, err, control).await
        }
    };
    let ended = tokio::select! {
        ended = Box::pin(run) => ended?,
        stopped = follow => { stopped?; unreachable!("it only ends with an error") }
    };
    drop(raw);
    let code = basalt_client::exit_code(&ended)?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}
