//! Ending guests: asking an init in its own language, and waiting until the engine has cleaned up.

use std::io;
use std::time::{Duration, Instant};

use basalt_driver::Error;
use basalt_model::InstanceId;
use basalt_runtime::Invocation;
use rustix::process::Signal;

use crate::driver::{LxcDriver, step};
use crate::init::Init;
use crate::process::Process;

/// How long a monitor may take to remove its things once its guest is gone.
const CLEAN_UP: Duration = Duration::from_secs(15);
/// How long a killed process may take to end.
const DIE: Duration = Duration::from_secs(30);
/// How long an init may take from its start until it listens to signals.
const LISTEN: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(10);

impl LxcDriver {
    /// Tells the guest to shut down, and waits until its init has ended. Cancel-safe.
    pub(crate) async fn ask_to_stop(&self, id: InstanceId, init: Process) -> Result<(), Error> {
        let manner = listening(init).await;
        match manner {
            // A real-time signal: the engine sends the one that its config names.
            Some(Init::Systemd) => {
                let invocation = Invocation::new(self.programs.stop.to_string_lossy())
                    .args([
                        "-P".to_owned(),
                        self.lxc_path.to_string_lossy().into_owned(),
                        "-n".to_owned(),
                        id.to_string(),
                    ])
                    .args(["--nowait", "--nokill"]);
                if let Err(error) = self.runner.run(invocation).await {
                    // It may be gone by now; if not, the time runs out.
                    tracing::warn!(instance = %id, %error, "lxc-stop failed");
                }
            }
            Some(Init::Busybox) => self.signal(id, init, Signal::USR2)?,
            Some(Init::Other) => self.signal(id, init, other_signal(init))?,
            None => return Ok(()),
        }
        init.ended().await.map_err(step(id, "stop"))
    }

    fn signal(&self, id: InstanceId, init: Process, signal: Signal) -> Result<(), Error> {
        let handle = init.open().map_err(step(id, "stop"))?;
        handle.map_or(Ok(()), |handle| handle.signal(signal)).map_err(step(id, "stop"))
    }
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// An init that is no system manager takes SIGTERM, if it takes anything.
fn other_signal(init: Process) -> Signal {
    let handled = init.handled_signals();
    if handled & bit(nix::libc::SIGPWR) == 0 && handled & bit(nix::libc::SIGTERM) != 0 {
        Signal::TERM
    } else {
        Signal::POWER
    }
}

/// The kernel throws away what an init does not handle, and a fresh one does not handle anything yet: waits until it
/// does, or for a moment. `None` when it has ended.
async fn listening(init: Process) -> Option<Init> {
    let deadline = Instant::now() + LISTEN;
    loop {
        if !init.alive() {
            return None;
        }
        let program = init.program().unwrap_or_default();
        let kind = Init::named(&program);
        // The engine's child becomes the init only at its exec.
        let ready = !program.starts_with("lxc-start") && init.handled_signals() & relevant(kind) != 0;
        if ready || Instant::now() > deadline {
            return Some(kind);
        }
        tokio::time::sleep(STEP).await;
    }
}

fn relevant(kind: Init) -> u64 {
    match kind {
        // Blocked for its signalfd.
        Init::Systemd => bit(37),
        // It fetches its signals in a way that the kernel does not show; this handler it sets at the same time.
        Init::Busybox => bit(nix::libc::SIGTSTP) | bit(nix::libc::SIGUSR2),
        Init::Other => bit(nix::libc::SIGPWR) | bit(nix::libc::SIGTERM),
    }
}

/// Waits for a killed init.
pub(crate) async fn end_init(init: Process) -> io::Result<()> {
    if init.ended_within(DIE).await? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("init {} does not die: it hangs in the kernel", init.pid)))
}

/// Waits for the monitor of a guest that is gone.
pub(crate) async fn end_monitor(monitor: Process) -> io::Result<()> {
    if monitor.ended_within(CLEAN_UP).await? {
        return Ok(());
    }
    tracing::warn!(pid = monitor.pid, "the monitor of an ended guest hangs; killing it");
    monitor.kill()?;
    if monitor.ended_within(DIE).await? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("monitor {} does not die", monitor.pid)))
}

/// Waits until the host ends of a guest's interfaces are gone: the kernel removes them some time after the guest.
pub(crate) async fn wait_for_links(names: &[String]) -> io::Result<()> {
    let deadline = Instant::now() + CLEAN_UP;
    while let Some(name) = names.iter().find(|name| nix::net::if_::if_nametoindex(name.as_str()).is_ok()) {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("interface {name} is still there")));
        }
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}
