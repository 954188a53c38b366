//! Waiting for guests to end: one task for each, on a descriptor of its monitor.
//!
//! The monitor ends after its guest and its cleaning up, and lives through reboots that the guest does by itself. If
//! it was killed, its init is left, and that one is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use basalt_driver::Event;
use basalt_model::InstanceId;
use basalt_runtime::{OnExit, Supervisor};
use tokio::sync::mpsc;

use crate::process::Process;

/// A guest to wait for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) id: InstanceId,
    /// The monitor, or without one the init.
    pub(crate) process: Process,
    pub(crate) init: Option<Process>,
}

#[derive(Debug)]
pub(crate) struct Watcher {
    supervisor: Supervisor,
    events: mpsc::Sender<Event>,
    /// Whose end is waited for already.
    watched: Arc<Mutex<BTreeMap<InstanceId, Process>>>,
}

impl Watcher {
    pub(crate) fn new(supervisor: Supervisor, events: mpsc::Sender<Event>) -> Self {
        Watcher { supervisor, events, watched: Arc::default() }
    }

    /// Sends an event when it has ended. Asking again for the same process does nothing.
    pub(crate) fn watch(&self, what: Watched) {
        let Watched { id, process, init } = what;
        if self.lock().insert(id, process) == Some(process) {
            return;
        }
        let (events, watched) = (self.events.clone(), Arc::clone(&self.watched));
        let shutdown = self.supervisor.shutdown().token();
        self.supervisor.spawn("lxc watch", OnExit::Log, async move {
            let ended = async {
                process.ended().await?;
                match init {
                    Some(init) => init.ended().await,
                    None => Ok(()),
                }
            };
            // Neither arm loses anything: the process stays ended.
            let ended: std::io::Result<()> = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = ended => ended,
            };
            if let Err(error) = ended {
                tracing::error!(instance = %id, %error, "cannot wait for the guest's end");
            }
            forget(&watched, id, process);
            // Nobody listens: then nobody needs to know.
            let _ = events.send(Event { id }).await;
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, Process>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unless another process took its place.
fn forget(watched: &Mutex<BTreeMap<InstanceId, Process>>, id: InstanceId, process: Process) {
    let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
    if watched.get(&id) == Some(&process) {
        watched.remove(&id);
    }
}
