//! `basalt list`: instances as a table, columns of the user's choice.

use anyhow::{Result, bail};
use clap::Args;

use basalt_api::dto::instance::Full;

use crate::context::Context;
use crate::output::{self, Output};
use crate::table::Table;

/// How a location is written when there is a single member.
const NOWHERE: &str = "none";

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only these: the beginning of a name, or KEY=VALUE of status, type, location, project, image or a configuration key
    filters: Vec<String>,
    /// Columns: n name, s state, 4 IPv4, 6 IPv6, t type, S snapshots, L location, p pid, P profiles, m memory, D disk,
    /// N processes, c created, l last used, a architecture, d description, e project
    #[arg(short, long)]
    columns: Option<String>,
    /// Of all projects
    #[arg(long)]
    all_projects: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn list(context: &Context, args: &List) -> Result<()> {
    let mut instances = context.client()?.instances(None, args.all_projects).await?;
    instances.retain(|instance| args.filters.iter().all(|filter| matches(instance, filter)));
    instances.sort_by(|a, b| (&a.instance.project, &a.instance.name).cmp(&(&b.instance.project, &b.instance.name)));
    let located = instances.iter().any(|i| !i.instance.location.is_empty() && i.instance.location != NOWHERE);
    let columns = columns(args, located)?;
    args.output.list(&instances, || {
        let mut table = Table::new(columns.iter().map(|column| column.heading));
        for instance in &instances {
            table.row(columns.iter().map(|column| (column.cell)(instance)));
        }
        table
    })
}

struct Column {
    letter: char,
    heading: &'static str,
    cell: fn(&Full) -> String,
}

const COLUMNS: &[Column] = &[
    Column { letter: 'n', heading: "NAME", cell: |i| i.instance.name.clone() },
    Column { letter: 's', heading: "STATE", cell: |i| i.instance.status.to_uppercase() },
    Column { letter: '4', heading: "IPV4", cell: |i| addresses(i, "inet") },
    Column { letter: '6', heading: "IPV6", cell: |i| addresses(i, "inet6") },
    Column { letter: 't', heading: "TYPE", cell: kind },
    Column { letter: 'S', heading: "SNAPSHOTS", cell: |i| i.snapshots.len().to_string() },
    Column { letter: 'L', heading: "LOCATION", cell: |i| i.instance.location.clone() },
    Column { letter: 'p', heading: "PID", cell: |i| number(i.state.pid) },
    Column { letter: 'P', heading: "PROFILES", cell: |i| i.instance.profiles.join("\n") },
    Column { letter: 'm', heading: "MEMORY USAGE", cell: |i| size(i.state.memory.usage) },
    Column { letter: 'D', heading: "DISK USAGE", cell: |i| size(i.state.disk.get("root").map_or(0, |d| d.usage)) },
    Column { letter: 'N', heading: "PROCESSES", cell: |i| number(i.state.processes) },
    Column { letter: 'c', heading: "CREATED AT", cell: |i| output::time(&i.instance.created_at) },
    Column { letter: 'l', heading: "LAST USED AT", cell: |i| output::time(&i.instance.last_used_at) },
    Column { letter: 'a', heading: "ARCHITECTURE", cell: |i| i.instance.architecture.clone() },
    Column { letter: 'd', heading: "DESCRIPTION", cell: |i| i.instance.description.clone() },
    Column { letter: 'e', heading: "PROJECT", cell: |i| i.instance.project.clone() },
];

fn columns(args: &List, located: bool) -> Result<Vec<&'static Column>> {
    let usual = format!("{}ns46tS{}", if args.all_projects { "e" } else { "" }, if located { "L" } else { "" });
    let letters = args.columns.as_deref().unwrap_or(&usual);
    let mut columns = Vec::new();
    for letter in letters.chars().filter(|&c| c != ',') {
        match COLUMNS.iter().find(|column| column.letter == letter) {
            Some(column) => columns.push(column),
            None => bail!("there is no column {letter:?}: see `basalt list --help`"),
        }
    }
    Ok(columns)
}

fn kind(instance: &Full) -> String {
    let kind = instance.instance.kind.replace('-', " ").to_uppercase();
    if instance.instance.ephemeral { format!("{kind} (EPHEMERAL)") } else { kind }
}

/// Addresses that others can reach, one per line, with their interface.
fn addresses(instance: &Full, family: &str) -> String {
    let mut lines = Vec::new();
    for (name, interface) in &instance.state.network {
        let global = interface.addresses.iter().filter(|a| a.family == family && a.scope == "global");
        lines.extend(global.map(|a| format!("{} ({name})", a.address)));
    }
    lines.join("\n")
}

fn number(value: i64) -> String {
    if value > 0 { value.to_string() } else { String::new() }
}

fn size(value: i64) -> String {
    u64::try_from(value).ok().filter(|&v| v > 0).map_or_else(String::new, output::bytes)
}

fn matches(instance: &Full, filter: &str) -> bool {
    let Some((key, value)) = filter.split_once('=') else {
        return instance.instance.name.starts_with(filter);
    };
    let is = |text: &str| text.eq_ignore_ascii_case(value);
    let plain = &instance.instance;
    match key {
        "name" => is(&plain.name),
        "status" | "state" => is(&plain.status),
        "type" => is(&plain.kind),
        "location" => is(&plain.location),
        "project" => is(&plain.project),
        "architecture" => is(&plain.architecture),
        "profile" => plain.profiles.iter().any(|profile| is(profile)),
        "image" => {
            plain.config.get("volatile.base_image").is_some_and(|image| image.starts_with(value))
                || plain.config.get("image.description").is_some_and(|text| is(text))
        }
        key => plain.expanded_config.get(key).is_some_and(|text| is(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Full {
        let text = r#"{"name":"web1","status":"Running","type":"container","location":"node1","ephemeral":false,
            "expanded_config":{"user.role":"front"},
            "state":{"status":"Running","pid":7,"network":{
                "lo":{"addresses":[{"family":"inet","address":"127.0.0.1","scope":"local"}]},
                "eth0":{"addresses":[{"family":"inet","address":"10.0.0.2","scope":"global"},
                                     {"family":"inet6","address":"fe80::1","scope":"link"}]}}}}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn filters_by_name_state_and_configuration() {
        for good in ["web", "status=running", "type=CONTAINER", "location=node1", "user.role=front"] {
            assert!(matches(&web(), good), "{good}");
        }
        for bad in ["db", "status=stopped", "user.role=back", "user.none=x"] {
            assert!(!matches(&web(), bad), "{bad}");
        }
    }

    #[test]
    fn only_reachable_addresses_are_shown() {
        assert_eq!(addresses(&web(), "inet"), "10.0.0.2 (eth0)");
        assert_eq!(addresses(&web(), "inet6"), "");
    }
}
