//! `basalt cluster`: members, tokens to join, groups, roles.

use anyhow::Result;
use basalt_client::Token;
use clap::Subcommand;

use basalt_api::dto::cluster::{Group, GroupPut, Member, MemberPut};

use crate::cmd::init;
use crate::context::Context;
use crate::output::{self, Output};
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token with which one machine can join under this name
    #[command(visible_alias = "add")]
    Token { name: String },
    /// Make this machine a member, with a token that a member gave
    Join {
        token: String,
        /// Address of this member's API, HOST or HOST:PORT
        #[arg(long)]
        address: Option<String>,
    },
    /// List members
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show a member
    Show { name: String },
    /// Show load and space of a member
    Info { name: String },
    /// Take a member out of the cluster
    Remove {
        name: String,
        /// It is dead: forget it, and the instances that live on it
        #[arg(short, long)]
        force: bool,
    },
    /// Empty a member for maintenance: its instances are moved, or stopped where they cannot be
    Evacuate {
        name: String,
        /// What becomes of them, whatever their cluster.evacuate says
        #[arg(long, value_name = "WAY", value_parser = ["migrate", "stop", "force-stop"])]
        action: Option<String>,
    },
    /// Bring back what was taken away, and let the member take instances again
    Restore { name: String },
    /// Rename a member
    Rename { name: String, new_name: String },
    /// Edit a member as YAML: roles, failure domain, groups, configuration
    Edit { name: String },
    /// Groups of members
    #[command(subcommand)]
    Group(GroupCommand),
    /// Roles of members: ovn-chassis, database-client
    #[command(subcommand)]
    Role(RoleCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Give a member roles
    Add {
        member: String,
        #[arg(required = true, value_delimiter = ',', value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Take roles from a member
    Remove {
        member: String,
        #[arg(required = true, value_delimiter = ',', value_name = "ROLE")]
        roles: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Make a group
    Create {
        name: String,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Show a group
    Show { name: String },
    /// Edit a group as YAML
    Edit { name: String },
    /// Delete a group
    Delete { name: String },
    /// Put a member into a group
    Add { member: String, group: String },
    /// Take a member out of a group
    Remove { member: String, group: String },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Join { token, address } => {
            let plan = init::join_plan(&token, address.as_deref())?;
            return Box::pin(init::carry_out(context, &context.conf.local(), plan)).await;
        }
        Command::Group(command) => return group(context, command).await,
        Command::Role(command) => return role(context, command).await,
        Command::List { output } => return list(context, output).await,
        Command::Token { .. }
        | Command::Show { .. }
        | Command::Info { .. }
        | Command::Remove { .. }
        | Command::Evacuate { .. }
        | Command::Restore { .. }
        | Command::Rename { .. }
        | Command::Edit { .. } => {}
    }
    member(context, command).await
}

async fn member(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::Token { name } => {
            let token = client.join_token(&name).await?;
            if !context.is_quiet() {
                output::note(format!("Token for {name}, once, until {}:", output::time(&token.expires_at)));
            }
            output::line(token.encode())
        }
        Command::Show { name } => output::print(&output::yaml(&client.member(&name).await?.value)?),
        Command::Info { name } => output::print(&output::yaml(&client.member_state(&name).await?)?),
        Command::Remove { name, force } => {
            client.remove_member(&name, force).await?;
            context.say(format!("Removed {name}"))
        }
        Command::Evacuate { name, action } => {
            let operation = client.member_action(&name, "evacuate", action.as_deref().unwrap_or_default()).await?;
            context.follow(&client, &operation, &format!("Evacuating {name}")).await?;
            context.say(format!("Evacuated {name}"))
        }
        Command::Restore { name } => {
            let operation = client.member_action(&name, "restore", "").await?;
            context.follow(&client, &operation, &format!("Restoring {name}")).await?;
            context.say(format!("Restored {name}"))
        }
        Command::Rename { name, new_name } => Ok(client.rename_member(&name, &new_name).await?),
        Command::Edit { name } => {
            let now = client.member(&name).await?;
            let editable = put(now.value);
            let wanted = crate::edit::edit(&editable, context.editor.as_deref())?;
            Ok(client.replace_member(&name, &wanted, now.etag.as_deref()).await?)
        }
        Command::Join { .. } | Command::Group(_) | Command::Role(_) | Command::List { .. } => {
            unreachable!("dealt with by the caller")
        }
    }
}

async fn list(context: &Context, output: Output) -> Result<()> {
    let mut members = context.client()?.members().await?;
    members.sort_by(|a, b| a.server_name.cmp(&b.server_name));
    output.list(&members, || {
        let headings = ["NAME", "URL", "ROLES", "ARCHITECTURE", "FAILURE DOMAIN", "DESCRIPTION", "STATE", "MESSAGE"];
        let mut table = Table::new(headings);
        for m in &members {
            let (roles, status) = (m.roles.join("\n"), m.status.to_uppercase());
            let row = [&m.server_name, &m.url, &roles, &m.architecture, &m.failure_domain, &m.description, &status];
            table.row(row.into_iter().chain([&m.message]));
        }
        table
    })
}

async fn group(context: &Context, command: GroupCommand) -> Result<()> {
    let client = context.client()?;
    match command {
        GroupCommand::List { output } => {
            let groups = client.groups().await?;
            output.list(&groups, || {
                let mut table = Table::new(["NAME", "DESCRIPTION", "MEMBERS"]);
                for group in &groups {
                    table.row([&group.name, &group.description, &group.members.join("\n")]);
                }
                table
            })
        }
        GroupCommand::Create { name, description } => {
            client.create_group(&Group { name: name.clone(), description, members: Vec::new() }).await?;
            context.say(format!("Created group {name}"))
        }
        GroupCommand::Show { name } => output::print(&output::yaml(&client.group(&name).await?.value)?),
        GroupCommand::Edit { name } => {
            let now = client.group(&name).await?;
            let editable = GroupPut { description: Some(now.value.description), members: Some(now.value.members) };
            let wanted = crate::edit::edit(&editable, context.editor.as_deref())?;
            Ok(client.replace_group(&name, &wanted, now.etag.as_deref()).await?)
        }
        GroupCommand::Delete { name } => {
            client.delete_group(&name).await?;
            context.say(format!("Deleted group {name}"))
        }
        GroupCommand::Add { member, group } => {
            change(context, &member, |member| {
                if !member.groups.contains(&group) {
                    member.groups.push(group);
                }
            })
            .await
        }
        GroupCommand::Remove { member, group } => {
            change(context, &member, |member| member.groups.retain(|g| *g != group)).await
        }
    }
}

async fn role(context: &Context, command: RoleCommand) -> Result<()> {
    match command {
        RoleCommand::Add { member, roles } => {
            change(context, &member, |member| {
                let new: Vec<String> = roles.into_iter().filter(|role| !member.roles.contains(role)).collect();
                member.roles.extend(new);
            })
            .await
        }
        RoleCommand::Remove { member, roles } => {
            change(context, &member, |member| member.roles.retain(|role| !roles.contains(role))).await
        }
    }
}

/// Changes a member and writes it back.
async fn change(context: &Context, name: &str, change: impl FnOnce(&mut Member)) -> Result<()> {
    let client = context.client()?;
    let now = client.member(name).await?;
    let mut member = now.value;
    change(&mut member);
    Ok(client.replace_member(name, &put(member), now.etag.as_deref()).await?)
}

/// What can be written of a member.
fn put(member: Member) -> MemberPut {
    MemberPut {
        roles: Some(member.roles),
        failure_domain: Some(member.failure_domain),
        description: Some(member.description),
        config: Some(member.config),
        groups: Some(member.groups),
    }
}
