//! Programs of others that come from Python's package index, each in an environment of its own below cargo's target folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::compat;

/// The interpreter of an environment that has `package` (`name==version`); made when it is not there yet.
///
/// # Errors
/// When it cannot be had, e.g. without a network: a reason to skip.
pub fn with(package: &str) -> Result<PathBuf> {
    let target = compat::folder()?.parent().map(std::path::Path::to_owned).context("the target folder")?;
    let folder = target.join(package.replace("==", "-"));
    let python = folder.join("bin/python");
    // Made last: a run that was killed half way leaves none.
    let whole = folder.join("installed");
    if whole.exists() {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(&python).args(["-m", "pip", "install", "-q", "--disable-pip-version-check", package]))?;
    std::fs::write(&whole, package).context("mark the environment as whole")?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    if !done.status.success() {
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        bail!("{}: {}", command.get_program().display(), text.trim());
    }
    Ok(())
}
