//! Files of guests come to this machine.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use basalt_client::{Client, Content, Download};
use clap::Args;

use super::Guest;
use crate::context::Context;
use crate::progress;

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// What to copy (INSTANCE/PATH), and where to
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
    paths: Vec<String>,
    /// Folders too, with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Make the folder that the target lies in
    #[arg(short = 'p', long)]
    create_dirs: bool,
}

pub(crate) async fn pull(context: &Context, client: &Client, mut args: Pull) -> Result<()> {
    let target = args.paths.pop().unwrap_or_default();
    let sources: Vec<Guest> =
        args.paths.iter().map(|text| text.parse()).collect::<Result<_, String>>().map_err(anyhow::Error::msg)?;
    let target_path = Path::new(&target);
    let into = sources.len() > 1 || target.ends_with('/') || target_path.is_dir();
    if args.create_dirs {
        let folder = if into { Some(target_path) } else { target_path.parent() };
        folder.map(fs::create_dir_all).transpose().with_context(|| format!("cannot make the folder of {target}"))?;
    }
    for source in sources {
        if target == "-" {
            let found = client.guest_file(&source.instance, &source.path).await?;
            let Content::File(content) = found.content else { bail!("{source} is not a regular file") };
            content.write_to(tokio::io::stdout(), Box::new(|_, _| {})).await?;
            continue;
        }
        let to = if into { target_path.join(last(&source.path)?) } else { target_path.to_owned() };
        tree(context, client, &source, &to, args.recursive).await?;
    }
    Ok(())
}

fn last(path: &str) -> Result<&str> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if plain(name) { Ok(name) } else { bail!("{path:?} has no name of its own: give the whole target") }
}

/// A name that is one step down.
fn plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

async fn tree(context: &Context, client: &Client, from: &Guest, to: &Path, recursive: bool) -> Result<()> {
    let mut open = vec![(from.clone(), to.to_owned())];
    // Folders get their permissions last: one that may not be written to could not be filled.
    let mut folders: Vec<(PathBuf, u32)> = Vec::new();
    while let Some((from, to)) = open.pop() {
        let found = client.guest_file(&from.instance, &from.path).await?;
        let writing = || format!("cannot write {}", to.display());
        match found.content {
            Content::Folder(_) if !recursive => bail!("{from} is a folder: add --recursive"),
            Content::Folder(names) => {
                make_folder(&to).with_context(writing)?;
                folders.push((to.clone(), found.mode));
                let names: BTreeSet<String> = names.into_iter().collect();
                for name in names.into_iter().rev() {
                    if !plain(&name) {
                        bail!("{from} has an entry {name:?}, which is no name: not copied");
                    }
                    open.push((from.join(&name), to.join(&name)));
                }
            }
            Content::Symlink(target) => symlink(&target, &to).with_context(writing)?,
            Content::File(content) => file(context, &from, content, &to, found.mode).await?,
        }
    }
    for (folder, mode) in folders.into_iter().rev() {
        fs::set_permissions(&folder, PermissionsExt::from_mode(mode & 0o777)).context("cannot set permissions")?;
    }
    Ok(())
}

/// A folder that is there is taken, a link to one is not: the guest may have made it, in this same copy.
fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(path)?.is_dir() => Ok(()),
        made => made,
    }
}

async fn file(context: &Context, from: &Guest, content: Download, to: &Path, mode: u32) -> Result<()> {
    let writing = || format!("cannot write {}", to.display());
    let mut options = fs::OpenOptions::new();
    // Set-id bits of a guest are not for this machine. Links are not followed, as with folders.
    options.write(true).create(true).truncate(true).mode(mode & 0o777).custom_flags(nix::libc::O_NOFOLLOW);
    let out = options.open(to).with_context(writing)?;
    out.set_permissions(PermissionsExt::from_mode(mode & 0o777)).with_context(writing)?;
    let (bar, feed) = progress::transfer(&from.to_string());
    let feed: basalt_client::Progress = if context.is_quiet() { Box::new(|_, _| {}) } else { feed };
    let copied = content.write_to(tokio::fs::File::from_std(out), feed).await;
    bar.finish_and_clear();
    copied.with_context(writing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_s_names_lead_nowhere_else() {
        for bad in ["", ".", "..", "a/b", "/etc", "x\0"] {
            assert!(!plain(bad), "{bad:?}");
        }
        assert_eq!(last("/srv/tree/").unwrap(), "tree");
        assert!(last("/").is_err());
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("/", &link).unwrap();
        assert!(make_folder(&link).is_err());
        make_folder(&folder.path().join("real")).unwrap();
        make_folder(&folder.path().join("real")).unwrap();
    }
}
