//! Refusing to compare what is not the same: leaving work out is the usual way to be fast.

use std::collections::BTreeSet;

use serde_json::Value;

/// What both answers must have in common, said so that the report can show it: `Err` lists what ours lacks.
pub type Verdict = Result<(), String>;

/// Compares two lists of objects: as many on both sides, and every field that theirs has anywhere with a value, ours has
/// too (a null says nothing). Fields are named by path; elements of arrays and members of `free` objects (configuration, devices, interfaces) have no
/// name of their own.
pub fn lists(ours: &Value, theirs: &Value) -> Verdict {
    let (mine, other) = (ours.as_array().map_or(0, Vec::len), theirs.as_array().map_or(0, Vec::len));
    if mine != other {
        return Err(format!("{mine} objects against {other}"));
    }
    objects(ours, theirs)
}

/// The same for one object.
pub fn objects(ours: &Value, theirs: &Value) -> Verdict {
    let (mine, other) = (paths(ours), paths(theirs));
    verdict(other.difference(&mine).cloned().collect())
}

/// Compares two scrapes: every metric of theirs about instances is among ours, for as many instances.
pub fn metrics(ours: &str, theirs: &str) -> Verdict {
    let (mine, other) = (samples(ours), samples(theirs));
    verdict(other.difference(&mine).cloned().collect())
}

fn verdict(lacks: BTreeSet<String>) -> Verdict {
    match lacks.is_empty() {
        true => Ok(()),
        false => Err(lacks.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// Objects whose keys are names that somebody chose, not fields.
const FREE: [&str; 5] = ["config", "expanded_config", "devices", "expanded_devices", "network"];

fn paths(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, at: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Array(all) => all.iter().for_each(|v| walk(v, at, found)),
            Value::Object(all) => {
                let free = FREE.iter().any(|name| at == *name || at.ends_with(&format!(".{name}")));
                for (key, value) in all.iter().filter(|(_, value)| !value.is_null()) {
                    let path = match (free, at.is_empty()) {
                        (true, _) => format!("{at}.*"),
                        (false, true) => key.clone(),
                        (false, false) => format!("{at}.{key}"),
                    };
                    walk(value, &path, found);
                    found.insert(path);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    walk(value, "", &mut found);
    found
}

/// Metrics with a `name` label, as `METRIC of COUNT`; the prefix says whose dialect it is and is left out.
fn samples(text: &str) -> BTreeSet<String> {
    let mut seen: std::collections::BTreeMap<&str, BTreeSet<&str>> = std::collections::BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let Some((metric, labels)) = line.split_once('{') else { continue };
        let Some((_, name)) =
            labels.split_once("name=\"").filter(|(before, _)| !before.ends_with(|c| c != ',' && c != ' '))
        else {
            continue;
        };
        let metric = metric.strip_prefix("incus_").or_else(|| metric.strip_prefix("lxd_")).unwrap_or(metric);
        seen.entry(metric).or_default().insert(name.split('"').next().unwrap_or_default());
    }
    seen.into_iter().map(|(metric, names)| format!("{metric} of {}", names.len())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_is_found() {
        let theirs = json!([{"name": "a", "config": {"x": "1"}, "state": {"pid": 1, "network": {"eth0": {"mtu": 1}}}}]);
        let ours = json!([{"name": "b", "config": {"y": "1"}, "state": {"pid": 2, "network": {"lo": {"mtu": 9}}}}]);
        assert_eq!(lists(&ours, &theirs), Ok(()));
        let lean = json!([{"name": "b", "config": {"y": "1"}, "state": {"pid": 2}}]);
        assert_eq!(lists(&lean, &theirs), Err("state.network, state.network.*, state.network.*.mtu".into()));
        assert_eq!(lists(&json!([]), &theirs), Err("0 objects against 1".into()));
    }

    #[test]
    fn a_scrape_must_have_each_metric_for_each_instance() {
        let theirs = "# TYPE\nincus_cpu{name=\"a\",cpu=\"0\"} 1\nincus_cpu{cpu=\"0\",name=\"b\"} 1\nincus_go 1\n";
        let ours = "incus_cpu{name=\"c\"} 1\nincus_cpu{name=\"d\"} 1\n";
        assert_eq!(metrics(ours, theirs), Ok(()));
        assert_eq!(metrics("incus_cpu{name=\"c\"} 1\n", theirs), Err("cpu of 2".into()));
    }
}
