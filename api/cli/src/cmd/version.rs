//! `basalt version`: of this program, and of the member that it talks to.

use anyhow::Result;
use clap::Args;

use crate::context::Context;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Only this program's
    #[arg(long)]
    client: bool,
}

pub(crate) async fn version(context: &Context, args: Version) -> Result<()> {
    output::line(format!("Client: {}", env!("CARGO_PKG_VERSION")))?;
    if args.client {
        return Ok(());
    }
    let server = context.client()?.server().await;
    let environment = server.map(|server| server.value.environment.unwrap_or_default());
    match environment {
        Ok(environment) => output::line(format!("Server: {}", environment.basalt_version)),
        Err(error) => {
            output::line("Server: unreachable")?;
            Err(error.into())
        }
    }
}
