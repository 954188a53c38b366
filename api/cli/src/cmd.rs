//! One module per command family; each takes its parsed arguments and the [`Context`].

pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod console;
pub(crate) mod create;
pub(crate) mod device;
pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod monitor;
pub(crate) mod network;
pub(crate) mod object;
pub(crate) mod operation;
pub(crate) mod profile;
pub(crate) mod project;
pub(crate) mod publish;
pub(crate) mod query;
pub(crate) mod rebuild;
pub(crate) mod relocate;
pub(crate) mod remote;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod storage;
pub(crate) mod top;
pub(crate) mod trust;
pub(crate) mod version;
pub(crate) mod warning;

use anyhow::Result;

use crate::args::Command;
use crate::context::Context;

/// Runs a command; gives the exit code.
pub(crate) async fn run(context: &Context, command: Command) -> Result<u8> {
    match command {
        Command::Exec(args) => return Box::pin(exec::exec(context, args)).await,
        Command::Shell(args) => return Box::pin(exec::shell(context, args)).await,
        Command::Query(args) => return query::query(context, args).await,
        Command::Network(command) => return Box::pin(network::run(context, command)).await,
        Command::Init(args) => Box::pin(init::init(context, args)).await,
        Command::Cluster(command) => Box::pin(cluster::run(context, command)).await,
        Command::List(args) => list::list(context, &args).await,
        Command::Launch(args) => Box::pin(create::create(context, args, true)).await,
        Command::Create(args) => Box::pin(create::create(context, args, false)).await,
        Command::Start(args) => Box::pin(state::start(context, args)).await,
        Command::Stop(args) => Box::pin(state::stop(context, args)).await,
        Command::Restart(args) => Box::pin(state::restart(context, args)).await,
        Command::Pause(args) => Box::pin(state::pause(context, args)).await,
        Command::Resume(args) => Box::pin(state::resume(context, args)).await,
        Command::Delete(args) => Box::pin(state::delete(context, args)).await,
        Command::Rename(args) => Box::pin(state::rename(context, args)).await,
        Command::Copy(args) => Box::pin(relocate::copy(context, args)).await,
        Command::Move(args) => Box::pin(relocate::relocate(context, args)).await,
        Command::Rebuild(args) => Box::pin(rebuild::rebuild(context, args)).await,
        Command::Snapshot(command) => Box::pin(snapshot::run(context, command)).await,
        Command::Console(args) => Box::pin(console::console(context, args)).await,
        Command::File(command) => Box::pin(file::run(context, command)).await,
        Command::Info(args) => info::info(context, args).await,
        Command::Config(command) => Box::pin(config::run(context, command)).await,
        Command::Profile(command) => Box::pin(profile::run(context, command)).await,
        Command::Project(command) => Box::pin(project::run(context, command)).await,
        Command::Image(command) => Box::pin(image::run(context, command)).await,
        Command::Publish(args) => Box::pin(publish::publish(context, args)).await,
        Command::Storage(command) => Box::pin(storage::run(context, command)).await,
        Command::Operation(command) => Box::pin(operation::run(context, command)).await,
        Command::Warning(command) => Box::pin(warning::run(context, command)).await,
        Command::Monitor(args) => monitor::monitor(context, args).await,
        Command::Top(args) => Box::pin(top::top(context, args)).await,
        Command::Remote(command) => Box::pin(remote::run(context, command)).await,
        Command::Trust(command) => Box::pin(trust::run(context, command)).await,
        Command::Completion(args) => completion::completion(&args),
        Command::Version(args) => version::version(context, args).await,
    }?;
    Ok(0)
}
