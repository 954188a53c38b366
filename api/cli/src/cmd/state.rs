//! Starting, stopping, pausing, deleting and renaming instances. Several at once are done side by side; each
//! failure is told, and the first decides the exit code.

use anyhow::{Result, bail};
use basalt_client::Client;
use clap::Args;
use futures_util::future::join_all;

use basalt_api::dto::instance::{self, StatePut};
use basalt_api::dto::state::Action;

use crate::context::Context;
use crate::output;

/// Patience of a clean stop when the user names none, in seconds: for ever.
const FOR_EVER: i64 = -1;
const STOPPED: u16 = 102;
const RUNNING: u16 = 103;
const FROZEN: u16 = 110;
const ERROR: u16 = 112;

#[derive(Debug, Args)]
pub(crate) struct Names {
    /// The instances
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// All instances of the project
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    names: Names,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    names: Names,
    /// Kill at once
    #[arg(short, long)]
    force: bool,
    /// Seconds to wait for a clean stop; waits for ever otherwise
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The instances
    #[arg(required = true)]
    names: Vec<String>,
    /// Running ones too: kill them first
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rename {
    name: String,
    new_name: String,
}

pub(crate) async fn start(context: &Context, args: Start) -> Result<()> {
    let client = context.client()?;
    let jobs = resolve(&client, args.names, Action::Start)
        .await?
        .into_iter()
        .map(|name| start_one(context, client.clone(), name));
    all(join_all(jobs).await)
}

async fn start_one(context: &Context, client: Client, name: String) -> Result<()> {
    let frozen = client.instance(&name).await.map_err(|e| of(&name, e))?.value.status_code == FROZEN;
    let action = if frozen { Action::Unfreeze } else { Action::Start };
    change(context, &client, &name, put(action), "Starting").await
}

pub(crate) async fn stop(context: &Context, args: Stop) -> Result<()> {
    each(context, args, Action::Stop, "Stopping").await
}

pub(crate) async fn restart(context: &Context, args: Stop) -> Result<()> {
    each(context, args, Action::Restart, "Restarting").await
}

pub(crate) async fn pause(context: &Context, names: Names) -> Result<()> {
    each(context, Stop { names, force: false, timeout: None }, Action::Freeze, "Pausing").await
}

pub(crate) async fn resume(context: &Context, names: Names) -> Result<()> {
    each(context, Stop { names, force: false, timeout: None }, Action::Unfreeze, "Resuming").await
}

async fn each(context: &Context, args: Stop, action: Action, doing: &str) -> Result<()> {
    let client = context.client()?;
    let timeout = args.timeout.map_or(FOR_EVER, i64::from);
    let wanted = StatePut { force: args.force, timeout, ..put(action) };
    let names = resolve(&client, args.names, action).await?;
    all(join_all(names.iter().map(|name| change(context, &client, name, wanted.clone(), doing))).await)
}

pub(crate) async fn delete(context: &Context, args: Delete) -> Result<()> {
    let client = context.client()?;
    all(join_all(args.names.iter().map(|name| delete_one(context, &client, name, args.force))).await)
}

async fn delete_one(context: &Context, client: &Client, name: &str, force: bool) -> Result<()> {
    let status = client.instance(name).await.map_err(|e| of(name, e))?.value.status_code;
    if runs(status) {
        if !force {
            bail!("{name} is running: stop it first, or use --force");
        }
        kill(context, client, name).await?;
    }
    // An ephemeral instance is gone once it has stopped.
    match client.delete_instance(name).await {
        Ok(operation) => match context.follow(client, &operation, &format!("Deleting {name}")).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.context(name.to_owned())),
        },
        Err(error) if force && error.is_not_found() => Ok(()),
        Err(error) => Err(of(name, error)),
    }
}

pub(crate) async fn rename(context: &Context, args: Rename) -> Result<()> {
    let client = context.client()?;
    let wanted = instance::Rename { name: args.new_name, ..instance::Rename::default() };
    let operation = client.move_instance(&args.name, &wanted).await?;
    context.follow(&client, &operation, &format!("Renaming {}", args.name)).await.map(drop)
}

/// The instances that are meant; with `--all` those that the action makes sense for.
async fn resolve(client: &Client, wanted: Names, action: Action) -> Result<Vec<String>> {
    if !wanted.all {
        return Ok(wanted.names);
    }
    let mut all = client.instances(None, false).await?;
    all.retain(|full| concerns(action, full.instance.status_code));
    Ok(all.into_iter().map(|full| full.instance.name).collect())
}

fn concerns(action: Action, status: u16) -> bool {
    match action {
        Action::Start => status != RUNNING,
        Action::Stop | Action::Restart => status == RUNNING || status == FROZEN,
        Action::Freeze => status == RUNNING,
        Action::Unfreeze => status == FROZEN,
    }
}

/// Whether an instance with this code has to be stopped first.
pub(super) fn runs(code: u16) -> bool {
    code != STOPPED && code != ERROR
}

/// Stops it at once.
pub(super) async fn kill(context: &Context, client: &Client, name: &str) -> Result<()> {
    change(context, client, name, StatePut { force: true, ..put(Action::Stop) }, "Stopping").await
}

/// Starts one that was killed for something.
pub(super) async fn start_again(context: &Context, client: &Client, name: &str) -> Result<()> {
    change(context, client, name, put(Action::Start), "Starting").await
}

fn put(action: Action) -> StatePut {
    StatePut { action: Some(action), timeout: FOR_EVER, ..StatePut::default() }
}

async fn change(context: &Context, client: &Client, name: &str, wanted: StatePut, doing: &str) -> Result<()> {
    let operation = client.set_instance_state(name, &wanted).await.map_err(|e| of(name, e))?;
    let ended = context.follow(client, &operation, &format!("{doing} {name}")).await;
    ended.map(drop).map_err(|error| error.context(name.to_owned()))
}

fn of(name: &str, error: basalt_client::Error) -> anyhow::Error {
    anyhow::Error::from(error).context(name.to_owned())
}

/// Tells every failure but the first, which the caller tells.
fn all(results: Vec<Result<()>>) -> Result<()> {
    let mut failed = results.into_iter().filter_map(Result::err);
    let first = failed.next();
    for error in failed {
        output::note(format!("Error: {error:#}"));
    }
    first.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_means_those_that_it_makes_sense_for() {
        let chosen = |action| [STOPPED, RUNNING, FROZEN, ERROR].map(|status| concerns(action, status));
        assert_eq!(chosen(Action::Start), [true, false, true, true]);
        assert_eq!(chosen(Action::Stop), [false, true, true, false]);
        assert_eq!(chosen(Action::Freeze), [false, true, false, false]);
        assert_eq!(chosen(Action::Unfreeze), [false, false, true, false]);
    }
}
