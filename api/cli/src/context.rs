//! What every command needs: the way to the cluster, and how to talk to the user.

use anyhow::Result;
use basalt_client::Client;

use basalt_api::dto::operation::Operation;

use crate::args::Cli;
use crate::conf::{Conf, Environment, LOCAL, Remotes};
use crate::{output, progress};

/// One run of the program.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) conf: Conf,
    pub(crate) term: Option<String>,
    pub(crate) editor: Option<String>,
    remote: Option<String>,
    project: Option<String>,
    quiet: bool,
}

impl Context {
    pub(crate) fn new(environment: Environment, cli: &Cli) -> Self {
        Self {
            conf: Conf::new(&environment),
            term: environment.term,
            editor: environment.editor,
            remote: cli.remote.clone(),
            project: cli.project.clone(),
            quiet: cli.quiet,
        }
    }

    /// A client of the chosen remote and project.
    pub(crate) fn client(&self) -> Result<Client> {
        let client = self.conf.connect(self.remote.as_deref())?;
        Ok(if self.project.is_some() { client.in_project(self.project.as_deref()) } else { client })
    }

    /// The same user at another remote.
    pub(crate) fn at_remote(&self, remote: &str) -> Self {
        Self { remote: Some(remote.to_owned()), ..self.clone() }
    }

    /// The same user in another project, if one is named.
    pub(crate) fn in_project(&self, project: Option<&str>) -> Self {
        let project = project.map(str::to_owned).or_else(|| self.project.clone());
        Self { project, ..self.clone() }
    }

    /// The remote that is meant.
    pub(crate) fn remote_name(&self, remotes: &Remotes) -> String {
        self.remote.as_ref().or(remotes.default.as_ref()).map_or(LOCAL, String::as_str).to_owned()
    }

    /// Waits for an operation, showing what it is at.
    pub(crate) async fn follow(&self, client: &Client, operation: &Operation, doing: &str) -> Result<Operation> {
        if self.quiet { Ok(client.wait(operation).await?) } else { progress::follow(client, operation, doing).await }
    }

    /// Says what was done, unless the user wants quiet.
    pub(crate) fn say(&self, text: impl AsRef<str>) -> Result<()> {
        if self.quiet { Ok(()) } else { output::line(text) }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }
}
