//! `basalt network acl`.

use anyhow::{Result, bail};
use basalt_client::{Client, Method, Path};
use clap::{Subcommand, ValueEnum};

use basalt_api::dto::Map;
use basalt_api::dto::acl::{Acl, Rule};
use basalt_api::dto::network::Rename;

use super::part;
use crate::context::Context;
use crate::output::{self, Output};
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List access control lists
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Print a list as YAML
    Show { name: String },
    /// Make a list without rules
    Create {
        name: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Edit a list as YAML
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
    /// Rename a list that nothing uses
    Rename { name: String, new_name: String },
    /// Delete a list that nothing uses
    #[command(visible_alias = "rm")]
    Delete { name: String },
    /// Print packets that logged rules of a list were about
    #[command(visible_alias = "show-log")]
    Log { name: String },
    /// Rules of a list
    #[command(subcommand)]
    Rule(RuleCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Add a rule: action=allow source=10.0.0.0/8 protocol=tcp destination_port=80
    Add {
        name: String,
        direction: Direction,
        #[arg(required = true, value_name = "FIELD=VALUE")]
        fields: Vec<String>,
    },
    /// Remove the rule that fits all fields
    Remove {
        name: String,
        direction: Direction,
        #[arg(value_name = "FIELD=VALUE")]
        fields: Vec<String>,
        /// Remove all rules that fit, however many
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    fn of(self, acl: &mut Acl) -> &mut Vec<Rule> {
        match self {
            Direction::Ingress => &mut acl.ingress,
            Direction::Egress => &mut acl.egress,
        }
    }
}

fn path(name: &str) -> Path {
    Path::of("network-acls").segment(name)
}

pub(super) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { output } => list(&client, output).await,
        Command::Show { name } => part::show::<Acl>(&client, path(&name)).await,
        Command::Create { name, pairs, description } => {
            let acl = Acl { name: name.clone(), description, config: pairs::map(&pairs)?, ..Acl::default() };
            part::create(&client, Path::of("network-acls"), &acl).await?;
            context.say(format!("Created network ACL {name}"))
        }
        Command::Edit { name } => part::edit::<Acl>(&client, path(&name), context.editor.as_deref()).await,
        Command::Get { name, key } => part::get::<Acl>(&client, path(&name), &key).await,
        Command::Set { name, pairs } => part::set::<Acl>(&client, path(&name), pairs::map(&pairs)?).await,
        Command::Unset { name, key } => part::unset::<Acl>(&client, path(&name), &key).await,
        Command::Rename { name, new_name } => {
            Ok(client.apply(Method::POST, path(&name), Some(&Rename { name: new_name })).await?)
        }
        Command::Delete { name } => {
            part::delete(&client, path(&name)).await?;
            context.say(format!("Deleted network ACL {name}"))
        }
        Command::Log { name } => {
            let log = client.get_bytes(path(&name).segment("log")).await?;
            output::print(&String::from_utf8_lossy(&log))
        }
        Command::Rule(RuleCommand::Add { name, direction, fields }) => {
            let rule = rule(&pairs::map(&fields)?)?;
            part::change::<Acl>(&client, path(&name), |acl| {
                direction.of(acl).push(rule);
                Ok(())
            })
            .await
        }
        Command::Rule(RuleCommand::Remove { name, direction, fields, force }) => {
            let fields = pairs::map(&fields)?;
            part::change::<Acl>(&client, path(&name), |acl| remove(direction.of(acl), &fields, force)).await
        }
    }
}

async fn list(client: &Client, output: Output) -> Result<()> {
    let acls: Vec<Acl> = client.get(Path::of("network-acls").with("recursion", "1")).await?;
    output.list(&acls, || {
        let mut table = Table::new(["NAME", "DESCRIPTION", "USED BY"]);
        for acl in &acls {
            table.row([&acl.name, &acl.description, &acl.used_by.len().to_string()]);
        }
        table
    })
}

/// The fields of a rule by their names.
fn fields(rule: &mut Rule) -> [(&'static str, &mut String); 10] {
    [
        ("action", &mut rule.action),
        ("source", &mut rule.source),
        ("destination", &mut rule.destination),
        ("protocol", &mut rule.protocol),
        ("source_port", &mut rule.source_port),
        ("destination_port", &mut rule.destination_port),
        ("icmp_type", &mut rule.icmp_type),
        ("icmp_code", &mut rule.icmp_code),
        ("description", &mut rule.description),
        ("state", &mut rule.state),
    ]
}

fn rule(given: &Map) -> Result<Rule> {
    let mut rule = Rule { state: "enabled".into(), ..Rule::default() };
    for (key, value) in given {
        match fields(&mut rule).into_iter().find(|(name, _)| name == key) {
            Some((_, field)) => *field = value.clone(),
            None => bail!("{key:?} is not a field of a rule"),
        }
    }
    Ok(rule)
}

fn remove(rules: &mut Vec<Rule>, wanted: &Map, force: bool) -> Result<()> {
    rule(wanted)?;
    let fits = |rule: &Rule| {
        let mut rule = rule.clone();
        let fields = fields(&mut rule);
        wanted.iter().all(|(key, value)| fields.iter().any(|(name, field)| name == key && *field == value))
    };
    match rules.iter().filter(|rule| fits(rule)).count() {
        0 => bail!("no rule fits"),
        1 => {}
        _ if force => {}
        many => bail!("{many} rules fit: give more fields, or --force to remove them all"),
    }
    rules.retain(|rule| !fits(rule));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn one_rule_is_removed_and_many_only_when_that_is_meant() {
        let web = rule(&map(&[("action", "allow"), ("protocol", "tcp"), ("destination_port", "80")])).unwrap();
        let dns = rule(&map(&[("action", "allow"), ("protocol", "udp")])).unwrap();
        let mut rules = vec![web.clone(), dns.clone()];
        assert!(remove(&mut rules, &map(&[("action", "allow")]), false).is_err());
        assert!(remove(&mut rules, &map(&[("action", "drop")]), true).is_err());
        assert!(remove(&mut rules, &map(&[("colour", "red")]), true).is_err());
        remove(&mut rules, &map(&[("protocol", "udp")]), false).unwrap();
        assert_eq!(rules, [web]);
    }
}
