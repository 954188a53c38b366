//! `basalt operation`.

use anyhow::Result;
use clap::Subcommand;

use basalt_api::dto::operation::Class;

use crate::context::Context;
use crate::output::{self, Output};
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List operations that go on
    #[command(visible_alias = "ls")]
    List {
        /// Of all projects
        #[arg(long)]
        all_projects: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Show one
    Show { id: String },
    /// Cancel one
    #[command(visible_alias = "cancel")]
    Delete { id: String },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { all_projects, output } => {
            let mut operations = client.operations(all_projects).await?;
            operations.sort_by(|a, b| a.created_at.cmp(&b.created_at));
            output.list(&operations, || {
                let mut table =
                    Table::new(["ID", "TYPE", "DESCRIPTION", "STATUS", "CANCELABLE", "CREATED", "LOCATION"]);
                for o in &operations {
                    let cancel = if o.may_cancel { "YES" } else { "NO" };
                    let created = output::time(&o.created_at);
                    let row = [&o.id, class(o.class), &o.description, &o.status, cancel, &created, &o.location];
                    table.row(row);
                }
                table
            })
        }
        Command::Show { id } => output::print(&output::yaml(&client.operation(&id).await?)?),
        Command::Delete { id } => {
            client.cancel_operation(&id).await?;
            context.say(format!("Cancelled {id}"))
        }
    }
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Task => "TASK",
        Class::Websocket => "WEBSOCKET",
        Class::Token => "TOKEN",
    }
}
