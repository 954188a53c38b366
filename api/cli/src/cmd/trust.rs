//! `basalt trust`: clients that the cluster trusts, and tokens to become one.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use basalt_client::{Client, Token};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;

use basalt_api::dto::certificate::Post;

use crate::context::Context;
use crate::output::{self, Output};
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token with which one client becomes trusted: `basalt remote add NAME TOKEN` there
    #[command(visible_alias = "add")]
    Token {
        /// What the client is called here
        name: String,
        /// Let it see only these projects
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        projects: Vec<String>,
    },
    /// List trusted clients
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Trust the certificate in a PEM file
    AddCertificate {
        file: PathBuf,
        /// What the client is called here; the file's name when left out
        #[arg(long)]
        name: Option<String>,
        /// Let it see only these projects
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        projects: Vec<String>,
        /// client, or metrics: may read metrics only
        #[arg(long = "type", value_name = "TYPE", default_value = "client", value_parser = ["client", "metrics"])]
        kind: String,
    },
    /// Trust a client no longer
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name, its fingerprint or the beginning of it
        client: String,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::Token { name, projects } => {
            let token = client.trust_token(&name, &projects).await?;
            if !context.is_quiet() {
                output::note(format!("Token for {name}, once:"));
            }
            output::line(token.encode())
        }
        Command::List { output } => list(&client, output).await,
        Command::AddCertificate { file, name, projects, kind } => {
            let pem = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("client").to_owned();
            let wanted = Post {
                name: name.unwrap_or(stem),
                kind,
                certificate: der_base64(&pem)?,
                restricted: !projects.is_empty(),
                projects,
                ..Post::default()
            };
            client.add_certificate(&wanted).await?;
            context.say(format!("Trusted {}", wanted.name))
        }
        Command::Remove { client: wanted } => {
            let fingerprint = find(&client, &wanted).await?;
            client.remove_certificate(&fingerprint).await?;
            context.say(format!("No longer trusted: {wanted}"))
        }
    }
}

async fn list(client: &Client, output: Output) -> Result<()> {
    let certificates = client.certificates().await?;
    output.list(&certificates, || {
        let mut table = Table::new(["NAME", "TYPE", "FINGERPRINT", "DESCRIPTION", "PROJECTS"]);
        for c in &certificates {
            let projects = if c.restricted { c.projects.join("\n") } else { "(all)".to_owned() };
            let short = c.fingerprint.get(..12).unwrap_or(&c.fingerprint);
            table.row([&c.name, &c.kind, short, &c.description, &projects]);
        }
        table
    })
}

async fn find(client: &Client, wanted: &str) -> Result<String> {
    let certificates = client.certificates().await?;
    let mut found = certificates.iter().filter(|c| c.name == wanted || c.fingerprint.starts_with(wanted));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.fingerprint.clone()),
        (None, _) => bail!("no trusted client is called {wanted:?}: see `basalt trust list`"),
        (Some(_), Some(_)) => bail!("{wanted:?} is more than one client: give the whole fingerprint"),
    }
}

/// The base64 between the lines of a PEM certificate.
fn der_base64(pem: &str) -> Result<String> {
    let mut lines = pem.lines().map(str::trim).skip_while(|line| *line != "-----BEGIN CERTIFICATE-----").skip(1);
    let body: String = lines.by_ref().take_while(|line| *line != "-----END CERTIFICATE-----").collect();
    STANDARD.decode(&body).ok().filter(|der| !der.is_empty()).context("the file holds no PEM certificate")?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pem_file_gives_its_der() {
        let pem = "garbage\n-----BEGIN CERTIFICATE-----\nAQID\nBAUG\n-----END CERTIFICATE-----\n";
        assert_eq!(der_base64(pem).unwrap(), "AQIDBAUG");
        assert!(der_base64("-----BEGIN PRIVATE KEY-----\nAQID\n").is_err());
    }
}
