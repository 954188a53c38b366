//! Address sets, as rows that matches name (`$basalt_set3_net7_ip4`). Each network has its own, as it has its own of
//! everything: a change of a network is one transaction, and what no network uses is not there.

use std::collections::BTreeSet;

use basalt_model::SetName;
use basalt_model::network::acl::{Subject, Terms};

use super::facts::{Facts, List, Network, Set};
use crate::nb::{Rows, Table};

const FAMILIES: [(&str, bool); 2] = [("ip4", true), ("ip6", false)];

/// Adds the sets that the lists of a network name.
pub(super) fn add<'a>(rows: &mut Rows, facts: &Facts, net: &Network, lists: impl Iterator<Item = &'a List>) {
    let used: BTreeSet<&SetName> = lists.flat_map(|list| &list.rules).flat_map(|said| named(&said.terms)).collect();
    for set in used.into_iter().filter_map(|name| facts.sets.get(&net.name.beside(name.clone()))) {
        for (family, v4) in FAMILIES {
            let nets: Vec<String> = of_family(set, v4).collect();
            if !nets.is_empty() {
                rows.add(Table::AddressSet, net.key(&format!("set/{}-{family}", set.number)))
                    .text("name", row_name(set, net, family))
                    .texts("addresses", nets);
            }
        }
    }
}

fn named(terms: &Terms) -> impl Iterator<Item = &SetName> {
    terms.sources.iter().chain(&terms.destinations).filter_map(|subject| match subject {
        Subject::Set(name) => Some(name),
        Subject::Net(_)
        | Subject::Range(..)
        | Subject::Acl(_)
        | Subject::Internal
        | Subject::External
        | Subject::Peer(..) => None,
    })
}

fn of_family(set: &Set, v4: bool) -> impl Iterator<Item = String> {
    set.nets.iter().filter(move |net| net.addr().is_ipv4() == v4).map(ToString::to_string)
}

/// No `-` in it: a match would take it for the end of the name.
fn row_name(set: &Set, net: &Network, family: &str) -> String {
    format!("basalt_set{}_net{}_{family}", set.number, net.number)
}

/// What it is for one end of a packet (`src`, `dst`) to be in the set: one match a family that the set has.
pub(super) fn matches(facts: &Facts, net: &Network, name: &SetName, end: &str) -> Vec<String> {
    let Some(set) = facts.sets.get(&net.name.beside(name.clone())) else { return Vec::new() };
    let there = FAMILIES.into_iter().filter(|(_, v4)| of_family(set, *v4).next().is_some());
    there.map(|(family, _)| format!("{family}.{end} == ${}", row_name(set, net, family))).collect()
}
