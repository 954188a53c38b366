//! `basalt monitor`: events as they happen, until Ctrl-C.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use basalt_api::dto::event::{Event, Kind};

use crate::context::Context;
use crate::output;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// One line each
    #[default]
    Pretty,
    /// One JSON object per line
    Json,
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct Monitor {
    /// Only events of this type: operation, lifecycle, logging, network-acl
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Of all projects
    #[arg(long)]
    all_projects: bool,
    #[arg(short = 'f', long, value_enum, default_value_t)]
    format: Format,
}

pub(crate) async fn monitor(context: &Context, args: Monitor) -> Result<()> {
    let types: Vec<&str> = args.types.iter().map(String::as_str).collect();
    let mut events = context.client()?.events(&types, args.all_projects).await?;
    while let Some(event) = events.next().await {
        let event = event?;
        match args.format {
            Format::Pretty => output::line(pretty(&event))?,
            Format::Json => output::line(serde_json::to_string(&event)?)?,
            Format::Yaml => output::print(&format!("{}---\n", output::yaml(&event)?))?,
        }
    }
    bail!("the member ended the stream of events")
}

fn pretty(event: &Event) -> String {
    let clock = event.timestamp.get(11..19).unwrap_or(&event.timestamp);
    let text = |key: &str| event.metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, what) = match event.kind {
        Kind::Operation => {
            let error = text("err");
            let blank = if error.is_empty() { "" } else { ": " };
            ("operation", format!("{} {}{blank}{error} ({})", text("description"), text("status"), text("id")))
        }
        Kind::Lifecycle => ("lifecycle", format!("{} {}", text("action"), text("source"))),
        Kind::Logging => ("logging", format!("{} {}", text("level"), text("message"))),
        Kind::NetworkAcl => ("network-acl", event.metadata.to_string()),
    };
    format!("{clock} {:<10} {kind:<11} {what}", event.location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_where_and_what() {
        let text = r#"{"type":"lifecycle","timestamp":"2026-11-23T01:02:03.5Z","location":"node1",
            "metadata":{"action":"instance-started","source":"/1.0/instances/c1"}}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(pretty(&event), "01:02:03 node1      lifecycle   instance-started /1.0/instances/c1");
    }
}
