//! `basalt remote`: clusters that this client knows by name.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Result, bail};
use basalt_client::{Client, Token};
use clap::Subcommand;

use basalt_api::dto::certificate::AddToken;

use crate::conf::{LOCAL, Remote, SIMPLESTREAMS};
use crate::context::Context;
use crate::output::Output;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Know a cluster by name: with a trust token, or by the address of a member
    Add {
        name: String,
        /// A token of `basalt trust token`, or HOST, HOST:PORT, https://HOST:PORT
        #[arg(value_name = "TOKEN|URL")]
        target: String,
        /// Token to become trusted with, when an address is given
        #[arg(long)]
        token: Option<String>,
        /// Accept whatever certificate the address serves now
        #[arg(long)]
        accept_certificate: bool,
        /// How it speaks: simplestreams for an image server
        #[arg(long, value_parser = [SIMPLESTREAMS], conflicts_with_all = ["token", "switch"])]
        protocol: Option<String>,
        /// Make it the one that is meant when none is named
        #[arg(long)]
        switch: bool,
    },
    /// List them
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Choose the one that is meant when none is named
    Switch { name: String },
    /// Rename one
    Rename { name: String, new_name: String },
    /// Forget one
    #[command(visible_alias = "rm")]
    Remove { name: String },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let mut remotes = context.conf.remotes()?;
    match command {
        Command::Add { name, target, token, accept_certificate, protocol, switch } => {
            if name == LOCAL || remotes.remotes.contains_key(&name) {
                bail!("there is a remote {name:?} already");
            }
            let remote = match AddToken::decode(&target) {
                _ if protocol.is_some() => image_server(&target, protocol)?,
                Ok(_) => by_token(context, &target).await?,
                Err(_) => by_address(context, &target, token.as_deref(), accept_certificate).await?,
            };
            context.say(format!("{name} is {}", remote.address))?;
            if switch {
                remotes.default = Some(name.clone());
            }
            remotes.remotes.insert(name, remote);
        }
        Command::List { output } => return list(context, output),
        Command::Switch { name } => {
            known(&remotes.remotes, &name)?;
            if remotes.remotes.get(&name).is_some_and(|remote| remote.protocol.is_some()) {
                bail!("{name} is an image server, no cluster");
            }
            remotes.default = (name != LOCAL).then_some(name);
        }
        Command::Rename { name, new_name } => {
            if new_name == LOCAL || remotes.remotes.contains_key(&new_name) {
                bail!("there is a remote {new_name:?} already");
            }
            let Some(remote) = remotes.remotes.remove(&name) else { bail!("there is no remote {name:?}") };
            if remotes.default.as_deref() == Some(&name) {
                remotes.default = Some(new_name.clone());
            }
            remotes.remotes.insert(new_name, remote);
        }
        Command::Remove { name } => {
            if remotes.remotes.remove(&name).is_none() {
                bail!("there is no remote {name:?}");
            }
            remotes.default = remotes.default.filter(|default| *default != name);
        }
    }
    context.conf.save(&remotes)
}

fn known(remotes: &std::collections::BTreeMap<String, Remote>, name: &str) -> Result<()> {
    if name == LOCAL || remotes.contains_key(name) { Ok(()) } else { bail!("there is no remote {name:?}") }
}

fn image_server(url: &str, protocol: Option<String>) -> Result<Remote> {
    if !url.starts_with("https://") {
        bail!("{url:?} is not the URL of an image server: it begins with https://");
    }
    let address = url.trim_end_matches('/').to_owned();
    Ok(Remote { address, fingerprint: String::new(), protocol, project: None })
}

async fn by_token(context: &Context, token: &str) -> Result<Remote> {
    let redeemed = basalt_client::redeem(token, &context.conf.identity()?).await?;
    let address = redeemed.client.endpoint();
    Ok(Remote { address, fingerprint: redeemed.fingerprint, protocol: None, project: None })
}

async fn by_address(context: &Context, address: &str, token: Option<&str>, accept: bool) -> Result<Remote> {
    let certificate = basalt_client::server_certificate(address).await?;
    let fingerprint = basalt_client::pem_fingerprint(&certificate)?;
    if !accept {
        confirm(address, &fingerprint)?;
    }
    let client = Client::https(address, &fingerprint, Some(&context.conf.identity()?))?;
    if let Some(token) = token {
        client.redeem_trust_token(token).await?;
    }
    if client.server().await?.value.auth != "trusted" {
        bail!(
            "{address} does not trust this client: make a token there with `basalt trust token NAME`, then use it here"
        );
    }
    Ok(Remote { address: client.endpoint(), fingerprint, protocol: None, project: None })
}

fn confirm(address: &str, fingerprint: &str) -> Result<()> {
    if !io::stdin().is_terminal() {
        bail!("nobody can confirm the certificate of {address}: use a token, or --accept-certificate");
    }
    print!("{address} has certificate {fingerprint}. Is that right (yes/no)? ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "yes") { Ok(()) } else { bail!("not added") }
}

fn list(context: &Context, output: Output) -> Result<()> {
    let remotes = context.conf.remotes()?;
    let current = context.remote_name(&remotes);
    output.list(&[&remotes], || {
        let mut table = Table::new(["NAME", "ADDRESS", "FINGERPRINT", "PROJECT", "CURRENT"]);
        let mark = |name: &str| if name == current { "YES" } else { "" };
        table.row([LOCAL, &context.conf.local().endpoint(), "", "", mark(LOCAL)]);
        for (name, remote) in &remotes.remotes {
            let short = remote.fingerprint.get(..12).unwrap_or_default();
            table.row([name, &remote.address, short, remote.project.as_deref().unwrap_or_default(), mark(name)]);
        }
        table
    })
}
