//! Tables of nftables, each replaced as a whole in one transaction.
//!
//! nft prints rules in its own words, so they are not compared with our text: kept are the text
//! that we loaded and the listing that it gave. While both still hold, nothing is touched.
//! The text is kept before it is loaded, the listing after: a kill in between loads it again.

use std::fmt::Write;

use basalt_runtime::{CommandRunner, ExecError, Invocation};

use crate::{Error, IfName, error::command, state::State};

const TEXT: &str = "firewall.nft";
const LISTED: &str = "firewall.listed";

/// One table of ours, and where we keep what is known of it.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) state: &'a State,
    /// Whom errors name.
    pub(crate) of: &'a IfName,
}

impl Table<'_> {
    /// Makes the table hold these chains; with none it goes.
    pub(crate) async fn ensure(&self, runner: &dyn CommandRunner, chains: &[String]) -> Result<(), Error> {
        if chains.is_empty() {
            return match self.state.read(TEXT)? {
                Some(_) => self.remove(runner).await,
                None => Ok(()),
            };
        }
        let text = self.text(chains);
        let listed = self.list(runner).await?;
        let known = self.state.read(TEXT)?.as_deref() == Some(text.as_str()) && self.state.read(LISTED)? == listed;
        if listed.is_some() && known {
            return Ok(());
        }
        self.state.forget(LISTED)?;
        self.state.write(TEXT, &text)?;
        self.load(runner, &text, "load firewall rules").await?;
        if let Some(listed) = self.list(runner).await? {
            self.state.write(LISTED, &listed)?;
        }
        Ok(())
    }

    /// Removes the table, whether it is there or not.
    pub(crate) async fn remove(&self, runner: &dyn CommandRunner) -> Result<(), Error> {
        match self.load(runner, &self.absent(), "remove firewall rules").await {
            // Without the program no table of ours was ever loaded.
            Err(Error::MissingProgram { .. }) if self.state.read(TEXT)?.is_none() => {}
            other => other?,
        }
        self.state.forget(LISTED)?;
        self.state.forget(TEXT)
    }

    /// What takes the table's place, whatever it is now.
    pub(crate) fn text(&self, chains: &[String]) -> String {
        let (family, name) = (self.family, &self.name);
        format!("{}table {family} {name} {{\n{}}}\n", self.absent(), chains.join("\n"))
    }

    /// Deleting alone fails when there is nothing to delete; naming the table first makes it.
    fn absent(&self) -> String {
        let (family, name) = (self.family, &self.name);
        format!("table {family} {name}\ndelete table {family} {name}\n")
    }

    async fn load(&self, runner: &dyn CommandRunner, text: &str, step: &'static str) -> Result<(), Error> {
        let nft = Invocation::new("nft").args(["-f", "-"]).stdin(text);
        runner.run(nft).await.map(drop).map_err(|source| command(self.of, step, source))
    }

    /// The table as nft shows it, without counters; `None` when there is none.
    async fn list(&self, runner: &dyn CommandRunner) -> Result<Option<String>, Error> {
        let nft = Invocation::new("nft").args(["-s", "list", "table", self.family, &self.name]);
        match runner.run(nft).await {
            Ok(done) => Ok(Some(done.text())),
            Err(error @ ExecError::Failed { .. }) if error.stderr().contains("No such file or directory") => Ok(None),
            Err(error) => Err(command(self.of, "list firewall rules", error)),
        }
    }
}

/// A chain that the kernel enters by itself; none without rules.
pub(crate) fn hooked(name: &str, hook: &str, rules: &[String]) -> Option<String> {
    (!rules.is_empty()).then(|| written(name, &format!("\t\ttype {hook}; policy accept;\n"), rules))
}

/// A chain that others jump to.
pub(crate) fn chain(name: &str, rules: &[String]) -> String {
    written(name, "", rules)
}

fn written(name: &str, head: &str, rules: &[String]) -> String {
    let mut text = format!("\tchain {name} {{\n{head}");
    for rule in rules {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
    text
}
