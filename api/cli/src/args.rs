//! The commands and their families.

use clap::{Parser, Subcommand};

use crate::cmd::{
    cluster, completion, config, console, create, exec, file, image, info, init, list, monitor, network, operation,
    profile, project, publish, query, rebuild, relocate, remote, snapshot, state, storage, top, trust, version,
    warning,
};

/// Command line of Basalt, a clustered hypervisor
#[derive(Debug, Parser)]
#[command(name = "basalt", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// The cluster to talk to, as `basalt remote list` names it
    #[arg(long, global = true, env = "BASALT_REMOTE", value_name = "NAME")]
    pub(crate) remote: Option<String>,
    /// The project to work in
    #[arg(long, global = true, env = "BASALT_PROJECT", value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// Say nothing but errors and what was asked for
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make this machine a cluster, or part of one
    Init(init::Init),
    /// Members of the cluster, and their groups
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// List instances
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Make an instance and start it
    Launch(create::Create),
    /// Make an instance
    Create(create::Create),
    /// Start instances, or let paused ones go on
    Start(state::Start),
    /// Stop instances
    Stop(state::Stop),
    /// Restart instances
    Restart(state::Stop),
    /// Pause instances
    Pause(state::Names),
    /// Let paused instances go on
    Resume(state::Names),
    /// Delete instances
    #[command(visible_alias = "rm")]
    Delete(state::Delete),
    /// Rename a stopped instance
    Rename(state::Rename),
    /// Copy an instance, or one of its snapshots
    #[command(visible_alias = "cp")]
    Copy(relocate::Copy),
    /// Move a stopped instance to another member, pool or project, or give it another name
    #[command(visible_alias = "mv")]
    Move(relocate::Move),
    /// Make the root of an instance anew, from an image or empty; what it holds is lost
    Rebuild(rebuild::Rebuild),
    /// Snapshots of instances
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Run a program in an instance
    Exec(exec::Exec),
    /// Open a shell in an instance
    Shell(exec::Shell),
    /// Attach to the console of an instance
    Console(console::Console),
    /// Files of instances
    #[command(subcommand)]
    File(file::Command),
    /// Show an instance, or the server
    Info(info::Info),
    /// Configuration of instances and of the server
    #[command(subcommand)]
    Config(config::Command),
    /// Profiles: configuration that instances share
    #[command(subcommand)]
    Profile(profile::Command),
    /// Projects: namespaces with limits
    #[command(subcommand)]
    Project(project::Command),
    /// Images that instances are made from
    #[command(subcommand)]
    Image(image::Command),
    /// Make an image of a stopped instance, or of a snapshot
    Publish(publish::Publish),
    /// Networks
    #[command(subcommand)]
    Network(network::Command),
    /// Storage pools
    #[command(subcommand)]
    Storage(storage::Command),
    /// Operations that go on in the cluster
    #[command(subcommand)]
    Operation(operation::Command),
    /// What is wrong with the cluster
    #[command(subcommand)]
    Warning(warning::Command),
    /// Print events as they happen
    Monitor(monitor::Monitor),
    /// Show members and instances live
    Top(top::Top),
    /// Clusters that this client knows
    #[command(subcommand)]
    Remote(remote::Command),
    /// Clients that the cluster trusts
    #[command(subcommand)]
    Trust(trust::Command),
    /// Print a completion script for a shell
    Completion(completion::Completion),
    /// Send any request to the API
    Query(query::Query),
    /// Show versions of client and server
    Version(version::Version),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_program_s_own_options_are_not_ours() {
        let cli =
            Cli::try_parse_from(["basalt", "exec", "c1", "--env", "A=b", "--", "ls", "-l", "--project", "x"]).unwrap();
        let Command::Exec(exec) = cli.command else { panic!("not exec") };
        assert_eq!(exec.command, ["ls", "-l", "--project", "x"]);
        assert_eq!(cli.project, None);
        // Without the two dashes, as many type it.
        let cli = Cli::try_parse_from(["basalt", "exec", "c1", "ls", "-l"]).unwrap();
        let Command::Exec(exec) = cli.command else { panic!("not exec") };
        assert_eq!(exec.command, ["ls", "-l"]);
    }

    #[test]
    fn launch_takes_what_it_is_given() {
        let line = "basalt launch debian c1 -c limits.cpu=2 -d root,size=1GiB -p default -p web --target node2 --empty";
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "an empty instance has no image");
        let line = "basalt launch debian c1 -c limits.cpu=2 -d root,size=1GiB -p default -p web --target node2";
        let Command::Launch(create) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("not launch")
        };
        assert_eq!((create.image.as_deref(), create.name.as_deref()), (Some("debian"), Some("c1")));
        assert_eq!(create.profiles, ["default", "web"]);
    }

    #[test]
    fn wrong_usage_is_exit_code_2() {
        let error = Cli::try_parse_from(["basalt", "start"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
