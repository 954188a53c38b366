//! Steps that must happen together become one transaction.

use std::collections::BTreeMap;

use super::{Step, Transaction};

/// One transaction for each unit, or for several that cannot be taken apart. Those that only delete come first: what they
/// remove may have a name that another row is to get.
pub(super) fn transactions(steps: Vec<Step<'_>>) -> Vec<Transaction> {
    let mut heads: BTreeMap<&str, &str> = BTreeMap::new();
    for step in &steps {
        for other in &step.with {
            let (a, b) = (head(&heads, step.unit), head(&heads, other));
            if a != b {
                // The lesser name leads, so that the plan does not depend on the order of steps.
                heads.insert(a.max(b), a.min(b));
            }
        }
    }
    let mut groups: BTreeMap<String, Transaction> = BTreeMap::new();
    for step in steps {
        let group = groups.entry(head(&heads, step.unit).to_owned()).or_insert_with(|| Transaction {
            units: Vec::new(),
            operations: Vec::new(),
            changes: Vec::new(),
        });
        if !group.units.iter().any(|unit| unit == step.unit) {
            group.units.push(step.unit.to_owned());
        }
        group.operations.extend(step.operations);
        group.changes.extend(step.changes);
    }
    let deletes = |t: &Transaction| t.operations.iter().all(|o| o.name() == "delete");
    let (first, then): (Vec<_>, Vec<_>) = groups.into_values().partition(deletes);
    first.into_iter().chain(then).collect()
}

fn head<'a>(heads: &BTreeMap<&'a str, &'a str>, mut unit: &'a str) -> &'a str {
    while let Some(up) = heads.get(unit) {
        unit = up;
    }
    unit
}
