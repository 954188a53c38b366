//! `basalt console`: the guest's console on this terminal.

use std::io::{self, IsTerminal};

use anyhow::{Result, bail};
use clap::Args;
use tokio::sync::mpsc;

use basalt_api::dto::instance;

use crate::context::Context;
use crate::output;
use crate::terminal::{self, Detachable, Raw};

#[derive(Debug, Args)]
pub(crate) struct Console {
    /// The instance
    name: String,
    /// Print what the console showed so far, and attach to nothing
    #[arg(long)]
    show_log: bool,
    /// Take the console from another user
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn console(context: &Context, args: Console) -> Result<()> {
    let client = context.client()?;
    if args.show_log {
        return output::print(&String::from_utf8_lossy(&client.console_log(&args.name).await?));
    }
    if !io::stdin().is_terminal() {
        bail!("the console needs a terminal: use `basalt exec` for programs, --show-log for what it showed");
    }
    let (width, height) = terminal::size();
    let wanted = instance::Console { width, height, kind: "console".to_owned(), force: args.force };
    let session = client.console(&args.name, &wanted).await?;
    output::note("Attached. Ctrl-A q detaches.");
    let (sender, control) = mpsc::channel(16);
    let (input, left) = Detachable::new(tokio::io::stdin());
    let raw = Raw::enter()?;
    let ended = tokio::select! {
        ended = Box::pin(session.run(input, tokio::io::stdout(), tokio::io::sink(), control)) => ended.map(drop),
        _ = left => Ok(()),
        stopped = terminal::follow_size(sender) => { stopped?; unreachable!("it only ends with an error") }
    };
    drop(raw);
    output::note("");
    Ok(ended?)
}
