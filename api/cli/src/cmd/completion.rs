//! `basalt completion`: scripts for shells.

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell that the script is for
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn completion(args: &Completion) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "basalt", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
