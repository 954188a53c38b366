//! `basalt project`.

use anyhow::Result;
use basalt_client::Client;
use clap::Subcommand;

use basalt_api::dto::project::Project;

use crate::cmd::object;
use crate::conf::LOCAL;
use crate::context::Context;
use crate::output::Output;
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List projects
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Print a project as YAML
    Show { name: String },
    /// Print limits and use of a project
    Info {
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Make a project
    Create {
        name: String,
        #[arg(long, default_value = "")]
        description: String,
        #[arg(short, long, value_name = "KEY=VALUE")]
        config: Vec<String>,
    },
    /// Edit a project as YAML
    Edit { name: String },
    /// Print the value of a key
    Get { name: String, key: String },
    /// Set keys
    Set {
        name: String,
        #[arg(required = true, value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// Remove a key
    Unset { name: String, key: String },
    /// Rename a project
    Rename { name: String, new_name: String },
    /// Delete an empty project
    #[command(visible_alias = "rm")]
    Delete { name: String },
    /// Work in this project from now on (remotes only; BASALT_PROJECT or --project for this machine)
    Switch { name: String },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { output } => list(&client, output).await,
        Command::Show { name } => object::show::<Project>(&client, &name).await,
        Command::Info { name, output } => info(&client, &name, output).await,
        Command::Create { name, description, config } => {
            let wanted =
                Project { name: name.clone(), description, config: pairs::map(&config)?, ..Project::default() };
            client.create::<Project>(&wanted).await?;
            context.say(format!("Created project {name}"))
        }
        Command::Edit { name } => object::edit::<Project>(&client, &name, context.editor.as_deref()).await,
        Command::Get { name, key } => object::get::<Project>(&client, &name, &key).await,
        Command::Set { name, pairs } => object::set::<Project>(&client, &name, pairs::map(&pairs)?).await,
        Command::Unset { name, key } => object::unset::<Project>(&client, &name, &key).await,
        Command::Rename { name, new_name } => Ok(client.rename::<Project>(&name, &new_name).await?),
        Command::Delete { name } => {
            client.delete::<Project>(&name).await?;
            context.say(format!("Deleted project {name}"))
        }
        Command::Switch { name } => switch(context, &client, &name).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<()> {
    let projects = client.list::<Project>().await?;
    output.list(&projects, || {
        let mut table = Table::new(["NAME", "DESCRIPTION", "USED BY"]);
        for project in &projects {
            let current = if project.name == client.project() { " (current)" } else { "" };
            let name = format!("{}{current}", project.name);
            table.row([&name, &project.description, &project.used_by.len().to_string()]);
        }
        table
    })
}

async fn info(client: &Client, name: &str, output: Output) -> Result<()> {
    let state = client.project_state(name).await?;
    output.list(&[&state], || {
        let mut table = Table::new(["RESOURCE", "LIMIT", "USAGE"]);
        for (resource, numbers) in &state.resources {
            let limit = if numbers.limit < 0 { "UNLIMITED".to_owned() } else { numbers.limit.to_string() };
            table.row([resource.to_uppercase(), limit, numbers.usage.to_string()]);
        }
        table
    })
}

async fn switch(context: &Context, client: &Client, name: &str) -> Result<()> {
    client.object::<Project>(name).await?;
    let mut remotes = context.conf.remotes()?;
    let remote = context.remote_name(&remotes);
    let Some(known) = remotes.remotes.get_mut(&remote) else {
        anyhow::bail!("the remote {LOCAL} remembers no project: set BASALT_PROJECT={name}, or use --project");
    };
    known.project = (name != "default").then(|| name.to_owned());
    context.conf.save(&remotes)
}
