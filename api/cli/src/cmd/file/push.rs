//! Files of this machine go into a guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use basalt_client::{Attributes, Client, Content, NewFile, Source};
use clap::Args;

use super::{Guest, Set, write};
use crate::context::Context;
use crate::progress;

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// What to copy, and where to
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
    paths: Vec<String>,
    /// Folders too, with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Make the folders that the target lies in
    #[arg(short = 'p', long)]
    create_dirs: bool,
    #[command(flatten)]
    set: Set,
}

pub(crate) async fn push(context: &Context, client: &Client, mut args: Push) -> Result<()> {
    let target: Guest = args.paths.pop().unwrap_or_default().parse().map_err(anyhow::Error::msg)?;
    let into = args.paths.len() > 1 || target.path.ends_with('/') || is_folder(client, &target).await;
    if args.create_dirs {
        let folder = if into { target.path.as_str() } else { parent(&target.path) };
        make_folders(client, &target.instance, folder).await?;
    }
    for source in &args.paths {
        if source == "-" {
            let input = Source::Reader(Box::new(tokio::io::stdin()));
            write(client, &target, args.set.into(), input).await?;
            continue;
        }
        let source = Path::new(source);
        let name = own_name(source)?;
        let to = if into { target.join(&name) } else { target.clone() };
        if source.is_dir() && !args.recursive {
            bail!("{} is a folder: add --recursive", source.display());
        }
        tree(context, client, source, &to, args.set.into()).await?;
    }
    Ok(())
}

/// The last part of a path; of `.` and the like, that of what it is.
fn own_name(path: &Path) -> Result<String> {
    let whole = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().or_else(|| whole.file_name()).and_then(|name| name.to_str());
    Ok(name.with_context(|| format!("{} has no name that is text", path.display()))?.to_owned())
}

async fn is_folder(client: &Client, guest: &Guest) -> bool {
    let found = client.guest_file(&guest.instance, &guest.path).await;
    found.is_ok_and(|file| matches!(file.content, Content::Folder(_)))
}

pub(super) fn parent(path: &str) -> &str {
    path.trim_end_matches('/').rsplit_once('/').map_or("/", |(folder, _)| folder)
}

/// Each folder on the way that is not there.
pub(super) async fn make_folders(client: &Client, instance: &str, path: &str) -> Result<()> {
    let mut so_far = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        so_far = format!("{so_far}/{name}");
        let folder = Guest { instance: instance.to_owned(), path: so_far.clone() };
        if client.guest_file(instance, &so_far).await.is_err() {
            let new = Attributes { mode: Some(0o755), ..Attributes::default() };
            write(client, &folder, new, Source::Folder).await?;
        }
    }
    Ok(())
}

/// A file, or a folder with all that is in it: outer before inner. Permissions are those here, unless others are given.
async fn tree(context: &Context, client: &Client, from: &Path, to: &Guest, set: Attributes) -> Result<()> {
    // A link that is named on the command line is followed; inside a tree it is copied as one.
    let whole = from.canonicalize().with_context(|| format!("cannot read {}", from.display()))?;
    let mut open = vec![(whole, to.clone())];
    while let Some((from, to)) = open.pop() {
        let reading = || format!("cannot read {}", from.display());
        let facts = fs::symlink_metadata(&from).with_context(reading)?;
        let with = Attributes { mode: set.mode.or(Some(facts.permissions().mode() & 0o7777)), ..set };
        if facts.is_dir() {
            write(client, &to, with, Source::Folder).await?;
            let mut entries: Vec<PathBuf> =
                fs::read_dir(&from).with_context(reading)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
            entries.sort();
            for entry in entries.into_iter().rev() {
                let name = entry.file_name().and_then(|name| name.to_str());
                let name = name.with_context(|| format!("the name of {} is not text", entry.display()))?;
                let inner = to.join(name);
                open.push((entry, inner));
            }
        } else if facts.is_symlink() {
            let target = fs::read_link(&from).with_context(reading)?;
            let target = target.to_str().with_context(|| format!("the target of {} is not text", from.display()))?;
            write(client, &to, Attributes::default(), Source::Symlink(target.to_owned())).await?;
        } else {
            file(context, client, &from, &to, with).await?;
        }
    }
    Ok(())
}

async fn file(context: &Context, client: &Client, from: &Path, to: &Guest, with: Attributes) -> Result<()> {
    let (bar, feed) = progress::transfer(&to.to_string());
    let feed: basalt_client::Progress = if context.is_quiet() { Box::new(|_, _| {}) } else { feed };
    let new = NewFile { attributes: with, source: Source::File(from.to_owned()) };
    let sent = client.write_guest_file(&to.instance, &to.path, new, feed).await;
    bar.finish_and_clear();
    Ok(sent?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_path() {
        assert_eq!(parent("/a/b/c"), "/a/b");
        assert_eq!(parent("/a/b/"), "/a");
        assert_eq!(parent("/a"), "");
    }
}
