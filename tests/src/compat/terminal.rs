//! A program on a terminal, as a user has it: it can be typed at, resized, and read.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::pty::{OpenptyResult, Winsize, openpty};

use crate::{host, wait};

/// See the head of this file. Dropped, the program is killed.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    /// Of the side that the program has.
    path: String,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    /// How much of it was matched already.
    read: usize,
}

impl Terminal {
    /// Starts a command on a terminal of its own.
    ///
    /// # Errors
    /// When there is none to be had, or the program cannot be started.
    pub fn start(command: &Command, columns: u16, rows: u16) -> Result<Self> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).context("a pseudo terminal")?;
        let path = nix::unistd::ttyname(&slave).context("the terminal's name")?.display().to_string();
        let mut on_terminal = Command::new("setsid");
        on_terminal.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => on_terminal.env(name, value),
                None => on_terminal.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            on_terminal.current_dir(folder);
        }
        let side = || slave.try_clone().map(Stdio::from).context("share the terminal");
        let child = on_terminal.stdin(side()?).stdout(side()?).stderr(side()?).spawn().context("start setsid")?;
        // The command holds copies of the program's side, too: the end is seen only when all are closed.
        drop((on_terminal, slave));
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut output, seen) = (master.try_clone().context("share the terminal")?, shown.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end of a terminal is an error (EIO).
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Ok(Self { child, master, path, shown, reader, read: 0 })
    }

    /// Everything that was shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until `text` is shown, after what was waited for before.
    ///
    /// # Errors
    /// When it does not come in time; the error holds what did.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        let found = wait::until(&format!("{text:?} on the terminal"), Duration::from_secs(60), || {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let at = shown[self.read..].windows(text.len()).position(|part| part == text.as_bytes());
            Ok(at.map(|at| self.read + at + text.len()))
        });
        match found {
            Ok(at) => self.read = at,
            Err(error) => bail!("{error:#}; it shows {:?}", self.shown()),
        }
        Ok(())
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        self.master.write_all(text.as_bytes()).context("type")
    }

    /// Makes the window another size; the program is told as usual.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        host::run(&["stty", "-F", self.path.as_str(), "cols", columns.as_str(), "rows", rows.as_str()]).map(drop)
    }

    /// How the program ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the program's end, and for the last of what it showed.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn end(&mut self) -> Result<ExitStatus> {
        let ended =
            wait::until("the program on the terminal ends", Duration::from_secs(60), || Ok(self.child.try_wait()?));
        let status = ended.with_context(|| format!("it shows {:?}", self.shown()))?;
        // Whoever else has the terminal may keep it open: then there is no end to wait for.
        let _ = wait::until_true("all is read", Duration::from_secs(5), || Ok(self.reader.is_finished()));
        Ok(status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_a_terminal_with_size_and_keys() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "test -t 0 && test -t 1 && stty size; trap 'echo got it; exit 3' INT; while :; do read x; stty size; done",
        ]);
        let mut terminal = Terminal::start(&command, 90, 30).unwrap();
        terminal.expect("30 90").unwrap();
        terminal.resize(100, 40).unwrap();
        terminal.type_in("\r").unwrap();
        terminal.expect("40 100").unwrap();
        // Again and again: a shell that was just about to read notices a signal only with the next one.
        wait::until_true("the signal arrives", Duration::from_secs(20), || {
            terminal.type_in("\x03")?;
            Ok(terminal.shown().contains("got it"))
        })
        .unwrap();
        assert_eq!(terminal.end().unwrap().code(), Some(3));
    }
}
