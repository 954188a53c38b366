//! `basalt warning`.

use anyhow::Result;
use basalt_client::{Client, Method, Path};
use clap::Subcommand;

use basalt_api::dto::warning::{Put, Warning};

use crate::context::Context;
use crate::output::{self, Output};
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what is wrong and nobody has seen yet
    #[command(visible_alias = "ls")]
    List {
        /// What was seen, and what is over, as well
        #[arg(short, long)]
        all: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Print one as YAML, with what it says
    Show { uuid: String },
    /// Mark as seen
    #[command(visible_alias = "ack")]
    Acknowledge {
        #[arg(required = true, value_name = "UUID")]
        uuids: Vec<String>,
    },
    /// Forget; what is still wrong comes back
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "UUID")]
        uuids: Vec<String>,
        #[arg(short, long)]
        all: bool,
    },
}

fn path(uuid: &str) -> Path {
    Path::of("warnings").segment(uuid)
}

async fn all(client: &Client) -> Result<Vec<Warning>> {
    Ok(client.in_project(None).get(Path::of("warnings").with("recursion", "1")).await?)
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { all, output } => list(&client, all, output).await,
        Command::Show { uuid } => output::print(&output::yaml(&client.get::<Warning>(path(&uuid)).await?)?),
        Command::Acknowledge { uuids } => {
            let seen = Put { status: "acknowledged".into() };
            for uuid in uuids {
                client.replace(path(&uuid), &seen, None).await?;
                context.say(format!("Acknowledged {uuid}"))?;
            }
            Ok(())
        }
        Command::Delete { uuids, all: every } => {
            let uuids = match every {
                true => all(&client).await?.into_iter().map(|warning| warning.uuid).collect(),
                false => uuids,
            };
            for uuid in uuids {
                client.apply(Method::DELETE, path(&uuid), None::<&()>).await?;
                context.say(format!("Deleted {uuid}"))?;
            }
            Ok(())
        }
    }
}

async fn list(client: &Client, every: bool, output: Output) -> Result<()> {
    let mut warnings = all(client).await?;
    warnings.retain(|warning| every || warning.status == "new");
    warnings.sort_by(|a, b| b.last_seen_at.cmp(&a.last_seen_at));
    output.list(&warnings, || {
        let mut table =
            Table::new(["UUID", "TYPE", "ABOUT", "STATUS", "SEVERITY", "COUNT", "PROJECT", "LOCATION", "LAST SEEN"]);
        for w in &warnings {
            let (count, seen) = (w.count.to_string(), output::time(&w.last_seen_at));
            let about = w.entity_url.strip_prefix("/1.0/").unwrap_or(&w.entity_url);
            let (status, severity) = (w.status.to_uppercase(), w.severity.to_uppercase());
            table.row([&w.uuid, &w.kind, about, &status, &severity, &count, &w.project, &w.location, &seen]);
        }
        table
    })
}
