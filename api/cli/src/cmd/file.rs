//! `basalt file`: files of guests, to and from this machine.
//!
//! A path in a guest is `INSTANCE/PATH`. Like `cp`, a push or pull to a folder that is there goes into it. What a guest
//! says is not trusted: no name of its folders leads out of the target, and no link of its making is followed.

mod pull;
mod push;

use std::io::{self, IsTerminal};

use anyhow::{Context as _, Result, bail};
use basalt_client::{Attributes, Client, Content, NewFile, Source};
use clap::{Args, Subcommand, ValueEnum};

use crate::context::Context;
use crate::{edit, output};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy files into an instance; `-` is standard input
    Push(push::Push),
    /// Copy files out of instances; to `-`, standard output
    Pull(pull::Pull),
    /// Edit a file of an instance, or replace it by what comes from standard input
    Edit {
        #[arg(value_name = "INSTANCE/PATH")]
        file: Guest,
    },
    /// Delete files, and folders that are empty
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(value_name = "INSTANCE/PATH", required = true)]
        files: Vec<Guest>,
    },
    /// Make an empty file, a folder, or a symbolic link
    Create {
        #[arg(value_name = "INSTANCE/PATH")]
        file: Guest,
        /// Where a symbolic link leads
        #[arg(required_if_eq("kind", "symlink"))]
        target: Option<String>,
        /// What to make
        #[arg(long = "type", id = "kind", value_enum, default_value_t)]
        kind: Kind,
        /// Make the folders that it lies in
        #[arg(short = 'p', long)]
        create_dirs: bool,
        #[command(flatten)]
        set: Set,
    },
    /// List a folder of an instance
    #[command(visible_alias = "ls")]
    List {
        #[arg(value_name = "INSTANCE/PATH")]
        folder: Guest,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Kind {
    #[default]
    File,
    Directory,
    Symlink,
}

/// `INSTANCE/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) instance: String,
    /// Absolute.
    pub(crate) path: String,
}

impl std::str::FromStr for Guest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((instance, path)) if !instance.is_empty() => {
                Ok(Self { instance: instance.to_owned(), path: format!("/{path}") })
            }
            _ => Err("write it as INSTANCE/PATH, such as c1/etc/hosts".into()),
        }
    }
}

impl Guest {
    /// What lies in this folder under that name.
    fn join(&self, name: &str) -> Self {
        Self { instance: self.instance.clone(), path: format!("{}/{name}", self.path.trim_end_matches('/')) }
    }
}

impl std::fmt::Display for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.instance, self.path)
    }
}

/// Attributes on the command line.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Set {
    /// Permissions, octal
    #[arg(long, value_parser = octal)]
    mode: Option<u32>,
    /// Owner
    #[arg(long)]
    uid: Option<u32>,
    /// Group
    #[arg(long)]
    gid: Option<u32>,
}

impl From<Set> for Attributes {
    fn from(set: Set) -> Self {
        Self { mode: set.mode, uid: set.uid, gid: set.gid }
    }
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "give permissions as an octal number, such as 0644".to_owned())
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::Push(args) => Box::pin(push::push(context, &client, args)).await,
        Command::Pull(args) => Box::pin(pull::pull(context, &client, args)).await,
        Command::Edit { file } => edit_file(context, &client, &file).await,
        Command::Delete { files } => {
            for file in files {
                client.delete_guest_file(&file.instance, &file.path).await?;
                context.say(format!("Deleted {file}"))?;
            }
            Ok(())
        }
        Command::Create { file, target, kind, create_dirs, set } => {
            if kind != Kind::Symlink && target.is_some() {
                bail!("only a symbolic link has a target: use --type symlink");
            }
            let source = match kind {
                Kind::File => Source::Bytes(Vec::new()),
                Kind::Directory => Source::Folder,
                Kind::Symlink => Source::Symlink(target.unwrap_or_default()),
            };
            if create_dirs {
                push::make_folders(&client, &file.instance, push::parent(&file.path)).await?;
            }
            if kind == Kind::File && client.guest_file(&file.instance, &file.path).await.is_ok() {
                bail!("{file} exists: use `basalt file push` or `basalt file edit` to change it");
            }
            write(&client, &file, set.into(), source).await?;
            context.say(format!("Created {file}"))
        }
        Command::List { folder } => match client.guest_file(&folder.instance, &folder.path).await?.content {
            Content::Folder(names) => names.iter().try_for_each(output::line),
            Content::Symlink(_) | Content::File(_) => bail!("{folder} is not a folder"),
        },
    }
}

/// Writes without a bar.
async fn write(client: &Client, file: &Guest, attributes: Attributes, source: Source) -> Result<()> {
    let new = NewFile { attributes, source };
    Ok(client.write_guest_file(&file.instance, &file.path, new, Box::new(|_, _| {})).await?)
}

async fn edit_file(context: &Context, client: &Client, file: &Guest) -> Result<()> {
    if !io::stdin().is_terminal() {
        let input = Source::Reader(Box::new(tokio::io::stdin()));
        return write(client, file, Attributes::default(), input).await;
    }
    let found = client.guest_file(&file.instance, &file.path).await?;
    let Content::File(content) = found.content else { bail!("{file} is not a regular file") };
    let mut before = Vec::new();
    content.write_to(&mut before, Box::new(|_, _| {})).await.context("cannot read the file")?;
    let after = edit::bytes(&before, context.editor.as_deref())?;
    if after == before {
        return context.say(format!("{file} is as it was"));
    }
    // Its attributes stay: none are given.
    write(client, file, Attributes::default(), Source::Bytes(after)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_guests_have_two_parts() {
        let guest: Guest = "c1/etc/hosts".parse().unwrap();
        assert_eq!((guest.instance.as_str(), guest.path.as_str()), ("c1", "/etc/hosts"));
        assert_eq!(guest.join("x").to_string(), "c1/etc/hosts/x");
        assert_eq!("c1/".parse::<Guest>().unwrap().join("x").path, "/x");
        for bad in ["c1", "/etc", ""] {
            assert!(bad.parse::<Guest>().is_err(), "{bad}");
        }
        assert_eq!(octal("0640"), Ok(0o640));
        assert!(octal("9").is_err() && octal("17777").is_err());
    }
}
