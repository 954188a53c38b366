//! Reads what `zfs get -Hp` prints: `name <tab> property <tab> value <tab> source`.

use std::collections::BTreeMap;

/// A value and whether it was set on this very dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    text: String,
    local: bool,
}

/// Properties of one dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Properties(BTreeMap<String, Value>);

impl Properties {
    /// A native property; `-` and missing ones are none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.text.as_str()).filter(|text| *text != "-")
    }

    /// A user property that was set here; what comes from above does not count.
    pub(super) fn local(&self, name: &str) -> Option<&str> {
        self.0.get(name).filter(|value| value.local).map(|value| value.text.as_str())
    }

    /// A number of bytes.
    pub(super) fn bytes(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

/// Datasets and snapshots with their properties. Lines that are not of the form are an error: better than a guess.
pub(super) fn properties(output: &str) -> Result<BTreeMap<String, Properties>, String> {
    let mut all: BTreeMap<String, Properties> = BTreeMap::new();
    for line in output.lines().filter(|line| !line.is_empty()) {
        let mut fields = line.split('\t');
        let (Some(name), Some(property), Some(value), Some(source), None) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(format!("zfs get printed {line:?}"));
        };
        let value = Value { text: value.to_owned(), local: source == "local" };
        all.entry(name.to_owned()).or_default().0.insert(property.to_owned(), value);
    }
    Ok(all)
}

/// Direct children of `parent`, without snapshots: the last part of the name, and the properties.
pub(super) fn children<'a>(
    all: &'a BTreeMap<String, Properties>,
    parent: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Properties)> {
    all.iter().filter_map(move |(name, properties)| {
        let child = name.strip_prefix(parent)?.strip_prefix('/')?;
        (!child.contains(['/', '@'])).then_some((child, properties))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
p\tused\t700416\t-\n\
p\tbasalt:pool\tdefault\tlocal\n\
p/images\tused\t1\t-\n\
p/images\tbasalt:pool\tdefault\tinherited from p\n\
p/images/f\torigin\t-\t-\n\
p/images/f@readonly\tused\t0\t-\n\
p/images/f/x\tused\t0\t-\n\
p/images/g\torigin\tp/images/f@readonly\t-\n";

    #[test]
    fn reads_properties() {
        let all = properties(OUTPUT).unwrap();
        assert_eq!(all["p"].bytes("used"), Some(700_416));
        assert_eq!(all["p"].local("basalt:pool"), Some("default"));
        assert_eq!(all["p/images"].local("basalt:pool"), None);
        assert_eq!(all["p/images"].get("basalt:pool"), Some("default"));
        assert_eq!(all["p/images/f"].get("origin"), None);
        let names: Vec<_> = children(&all, "p/images").map(|(name, _)| name).collect();
        assert_eq!(names, ["f", "g"]);
        assert!(properties("p\tused\n").is_err());
        assert!(properties("").unwrap().is_empty());
    }
}
