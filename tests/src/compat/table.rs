//! The table in the README: read, brought up to date with what tests found, compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Client, Outcome, Record};

const BEGIN: &str = "<!-- compat -->\n";
const END: &str = "<!-- /compat -->";
const YES: &str = "yes";
const NO: &str = "**no**";
/// Neither: the client has no such command, or nobody tests it.
const NOTHING: &str = "";

/// Feature and client, and whether they go together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    cells: BTreeMap<(String, Client), bool>,
}

impl Table {
    /// What findings say: a cell works when all tests of it passed.
    pub fn of(records: &[Record]) -> Self {
        let mut table = Self::default();
        for record in records.iter().filter(|r| r.outcome != Outcome::Skipped) {
            let works = record.outcome == Outcome::Works;
            let cell = table.cells.entry((record.feature.clone(), record.client)).or_insert(true);
            *cell = *cell && works;
        }
        table
    }

    /// The table in the text of a README.
    ///
    /// # Errors
    /// When there is none, or it holds something else than such a table.
    pub fn parse(readme: &str) -> Result<Self> {
        let (_, body, _) = split(readme)?;
        let mut table = Self::default();
        for line in body.lines().skip(2) {
            let mut fields = line.trim_matches('|').split('|').map(str::trim);
            let feature = fields.next().context("a row without a feature")?;
            for (client, text) in Client::ALL.into_iter().zip(fields) {
                let works = match text {
                    YES => true,
                    NO => false,
                    NOTHING => continue,
                    other => bail!("{feature} with {client}: {other:?} is no finding"),
                };
                table.cells.insert((feature.to_owned(), client), works);
            }
        }
        Ok(table)
    }

    /// As it stands in the README.
    pub fn render(&self) -> String {
        let titles: Vec<&str> = Client::ALL.iter().map(|c| c.title()).collect();
        let mut text = format!("| feature | {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
        let features: BTreeSet<&String> = self.cells.keys().map(|(feature, _)| feature).collect();
        for feature in features {
            let cell = |client| match self.cells.get(&(feature.clone(), client)) {
                Some(true) => YES,
                Some(false) => NO,
                None => NOTHING,
            };
            let cells: Vec<&str> = Client::ALL.into_iter().map(cell).collect();
            text.push_str(&format!("| {feature} | {} |\n", cells.join(" | ")));
        }
        text
    }

    /// This table where `found` says nothing, `found` elsewhere; without the features that no test declares.
    #[must_use]
    pub fn updated(mut self, found: &Self, declared: impl Fn(&str) -> bool) -> Self {
        self.cells.extend(found.cells.iter().map(|(key, works)| (key.clone(), *works)));
        self.cells.retain(|(feature, _), _| declared(feature));
        self
    }

    /// What is wrong with this table, by what was found; one line each.
    pub fn faults(&self, found: &Self, declared: impl Fn(&str) -> bool) -> Vec<String> {
        let mut faults = Vec::new();
        for ((feature, client), works) in &found.cells {
            let said = self.cells.get(&(feature.clone(), *client));
            if said != Some(works) {
                let word = |w: Option<&bool>| w.map_or("nothing", |w| if *w { "yes" } else { "no" });
                faults.push(format!("{feature} with {client}: it says {}, found {}", word(said), word(Some(works))));
            }
        }
        let features: BTreeSet<&String> = self.cells.keys().map(|(feature, _)| feature).collect();
        faults.extend(features.iter().filter(|f| !declared(f)).map(|f| format!("{f}: no test declares it")));
        faults
    }

    /// Cells that say something which `found` neither confirms nor denies.
    pub fn not_run(&self, found: &Self) -> Vec<String> {
        let open = self.cells.keys().filter(|key| !found.cells.contains_key(key));
        open.map(|(feature, client)| format!("{feature} with {client}")).collect()
    }
}

fn split(readme: &str) -> Result<(&str, &str, &str)> {
    let (head, rest) = readme.split_once(BEGIN).context("no <!-- compat --> in the README")?;
    let (body, tail) = rest.split_once(END).context("no <!-- /compat --> in the README")?;
    Ok((head, body, tail))
}

/// The README with another table.
///
/// # Errors
/// When it has no place for one.
pub fn replace(readme: &str, table: &Table) -> Result<String> {
    let (head, _, tail) = split(readme)?;
    Ok(format!("{head}{BEGIN}{}{END}{tail}", table.render()))
}

/// The sources of the suites, in which every feature stands as a literal.
///
/// # Errors
/// When they cannot be read.
pub fn sources(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            text.push_str(&sources(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "py" || e == "yml") {
            text.push_str(&std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(cells: &[(&str, Client, Outcome)]) -> Table {
        let record = |(feature, client, outcome): &(&str, Client, Outcome)| Record {
            feature: (*feature).into(),
            client: *client,
            outcome: *outcome,
            run: 1,
        };
        Table::of(&cells.iter().map(record).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let table = found(&[
            ("exec: pty", Client::Lxc, Outcome::Works),
            ("exec: pty", Client::Incus, Outcome::Fails),
            ("top", Client::Incus, Outcome::Works),
        ]);
        let readme = replace("# Title\n<!-- compat -->\n<!-- /compat -->\nrest\n", &table).unwrap();
        assert!(readme.starts_with("# Title\n") && readme.ends_with("-->\nrest\n"), "{readme}");
        assert_eq!(Table::parse(&readme).unwrap(), table);
        assert!(Table::parse(&readme.replace("yes", "surely")).is_err(), "typed by hand");
        assert!(Table::parse("nothing").is_err());
    }

    #[test]
    fn one_failing_test_of_two_is_a_no() {
        let both = [("a", Client::Lxc, Outcome::Works), ("a", Client::Lxc, Outcome::Fails)];
        assert_eq!(found(&both), found(&both[1..]));
    }

    #[test]
    fn only_what_ran_can_differ() {
        let readme = found(&[("a", Client::Lxc, Outcome::Works), ("b", Client::Lxc, Outcome::Works)]);
        let ran = found(&[("a", Client::Lxc, Outcome::Works), ("b", Client::Lxc, Outcome::Skipped)]);
        assert_eq!(readme.faults(&ran, |_| true), Vec::<String>::new());
        assert_eq!(readme.not_run(&ran), ["b with lxc"]);
        let ran = found(&[("a", Client::Lxc, Outcome::Fails), ("c", Client::Incus, Outcome::Works)]);
        let faults = readme.faults(&ran, |feature| feature != "b");
        assert_eq!(faults.len(), 3, "{faults:?}");
        let updated = readme.updated(&ran, |feature| feature != "b");
        assert_eq!(updated, ran);
    }
}
