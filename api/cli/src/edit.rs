//! Editing an object as YAML: in the user's editor, or from standard input when that is no terminal.

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::output;

/// What the user makes of `object`.
pub(crate) fn edit<T: Serialize + DeserializeOwned>(object: &T, editor: Option<&str>) -> Result<T> {
    if !io::stdin().is_terminal() {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return output::from_yaml(&text);
    }
    let draft = Draft::write(output::yaml(object)?.as_bytes())?;
    loop {
        run(editor.unwrap_or("vi"), &draft.path)?;
        let text = std::fs::read_to_string(&draft.path).context("cannot read the edited file")?;
        match output::from_yaml(&text) {
            Ok(object) => return Ok(object),
            Err(error) => {
                output::note(format!("{error:#}\nPress Enter to edit again, or Ctrl-C to give up."));
                if io::stdin().read_line(&mut String::new())? == 0 {
                    return Err(error);
                }
            }
        }
    }
}

/// What the user makes of a file's content.
pub(crate) fn bytes(content: &[u8], editor: Option<&str>) -> Result<Vec<u8>> {
    let draft = Draft::write(content)?;
    run(editor.unwrap_or("vi"), &draft.path)?;
    std::fs::read(&draft.path).context("cannot read the edited file")
}

/// A file with the text, removed in the end.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn write(content: &[u8]) -> Result<Self> {
        let stamp = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
        let path = std::env::temp_dir().join(format!("basalt-{}-{stamp}.yaml", std::process::id()));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content)?;
        Ok(Self { path })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // A draft that cannot be removed is only litter in a temporary folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "an editor is the user's own program on the user's own terminal, not a host command"
)]
fn run(editor: &str, path: &Path) -> Result<()> {
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = std::process::Command::new(program).args(words).arg(path).status();
    let status = status.with_context(|| format!("cannot run the editor {program:?}: set EDITOR"))?;
    if !status.success() {
        bail!("the editor {program:?} failed: {status}");
    }
    Ok(())
}
