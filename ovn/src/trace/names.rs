//! What is called how: ports, datapaths and rules of ours, by the names that people gave.

use std::collections::BTreeMap;

use crate::nb::{Rows, Table, Value};
use crate::ovsdb::value::Datum;
use crate::topology::Facts;

/// What northd adds to the priority of a rule.
const OFFSET: i64 = 1000;

/// Names for one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Of logical ports: `eth0 of c1`.
    pub ports: BTreeMap<String, String>,
    datapaths: BTreeMap<String, String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    priority: i64,
    about: String,
    name: String,
}

impl Names {
    /// Of what `rows` make of `facts`. Ports are to be added by whoever knows who may know them.
    pub fn new(facts: &Facts, rows: &Rows) -> Self {
        let mut datapaths = BTreeMap::new();
        for net in &facts.networks {
            let (prefix, name) = (net.prefix(), &net.name);
            datapaths.insert(format!("{prefix}-lr"), format!("router of {name}"));
            datapaths.insert(format!("{prefix}-ls-int"), format!("switch of {name}"));
            datapaths.insert(format!("{prefix}-ls-ext"), format!("outer switch of {name}"));
        }
        let rules = rows.iter().filter(|(id, _)| id.table == Table::Acl);
        let rules = rules.filter_map(|(id, row)| {
            let plain = |column: &str| match row.value(column) {
                Some(Value::Plain(datum)) => Some(datum),
                Some(Value::Refs(_)) | None => None,
            };
            let priority = plain("priority").and_then(Datum::as_integer)? + OFFSET;
            let about = plain("match").and_then(Datum::as_str)?.to_owned();
            Some(Rule { priority, about, name: rule(facts, &id.key)? })
        });
        let mut rules: Vec<Rule> = rules.collect();
        // Of two that are in the text, the one that says more is meant.
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.about.len()));
        Names { ports: BTreeMap::new(), datapaths, rules }
    }

    /// A logical port's name for people, or its own.
    pub fn port(&self, port: &str) -> String {
        self.ports.get(port).cloned().unwrap_or_else(|| port.to_owned())
    }

    /// A datapath's.
    pub fn datapath(&self, datapath: &str) -> String {
        self.datapaths.get(datapath).cloned().unwrap_or_else(|| datapath.to_owned())
    }

    /// The rule that a flow was made of.
    pub(super) fn rule(&self, priority: i64, about: &str) -> Option<&str> {
        let is = |rule: &&Rule| rule.priority == priority && about.contains(&rule.about);
        self.rules.iter().find(is).map(|rule| rule.name.as_str())
    }
}

/// By the key of its row: see [`crate::topology`].
fn rule(facts: &Facts, key: &str) -> Option<String> {
    let mut parts = key.split('/').skip(1);
    match (parts.next()?, parts.next()?, parts.next()) {
        ("acl", number, Some(word)) => {
            let number: u32 = number.parse().ok()?;
            let list = facts.lists.values().find(|list| list.number == number)?;
            Some(format!("ACL {}, {word} rule {}", list.name, parts.next()?))
        }
        ("acl-default", _, Some(_)) => {
            let word = parts.next()?;
            Some(format!("no rule is about it, and so decides security.acls.default.{word}.action"))
        }
        ("acl-baseline", word, _) => Some(format!("what no network lives without ({word})")),
        ("isolated", ..) => Some("security.port_isolation of both interfaces".into()),
        _ => None,
    }
}
