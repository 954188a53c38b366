//! What runs of an instance: from its record, checked against the processes of the host.

use std::time::{Duration, Instant};

use basalt_driver::Error;
use basalt_model::InstanceId;

use super::{LxcDriver, step};
use crate::process::{Process, find_engine, init_of};
use crate::record::{Run, Stamp, Started};
use crate::watch::Watched;

/// How long a monitor may be without an init: while the guest reboots itself, or ends.
const CHANGING: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(10);
const LEFT_BEHIND: Duration = Duration::from_millis(50);
/// How long a start that a crashed agent left behind may take to end.
const CUT_OFF: Duration = Duration::from_secs(60);

/// The processes of an instance, as far as they live.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) last: Option<Started>,
    pub(crate) monitor: Option<Process>,
    pub(crate) init: Option<Process>,
}

impl Seen {
    /// A monitor that keeps being without an init is still at work for the guest.
    pub(crate) fn runs(&self) -> bool {
        self.init.is_some() || self.monitor.is_some()
    }
}

impl LxcDriver {
    /// Finds the processes; adopts those that this driver did not know. Without `wait`, what is changing is told as it is.
    pub(super) async fn look(&self, stamp: &Stamp, wait: bool) -> Result<Seen, Error> {
        let id = stamp.id;
        let folder = self.folder(id);
        let mut run = folder.run().map_err(step(id, "read the record"))?;
        let in_doubt = run.as_ref().is_none_or(|run| run.starting.is_some());
        if in_doubt && wait {
            run = Some(self.settle(stamp, run).await?);
        }
        let Some(mut last) = run.and_then(|run| run.last) else { return Ok(Seen::default()) };
        if last.boot != self.boot {
            return Ok(Seen { last: Some(last), ..Seen::default() });
        }
        let monitor = last.monitor.filter(|monitor| monitor.alive());
        let mut init = last.init.filter(|init| init.alive());
        let deadline = Instant::now() + CHANGING;
        while let (None, Some(monitor)) = (init, monitor) {
            // It rebooted: the monitor has another init now. Or it ends: then the monitor will.
            init = init_of(monitor);
            if init.is_some()
                || !wait
                || Instant::now() > deadline
                || monitor.ended_within(STEP).await.map_err(step(id, "watch"))?
            {
                break;
            }
        }
        let monitor = monitor.filter(|monitor| monitor.alive());
        if let Some(process) = monitor.or(init) {
            self.watcher.watch(Watched { id, process, init });
        }
        if wait && init.is_some() && init != last.init {
            last.init = init;
            folder.write_run(Some(last.clone())).map_err(step(id, "write the record"))?;
        }
        Ok(Seen { last: Some(last), monitor, init })
    }

    /// Ends the doubt that a crash in the middle of a start left, and writes down what is.
    async fn settle(&self, stamp: &Stamp, run: Option<Run>) -> Result<Run, Error> {
        let id = stamp.id;
        let run = run.unwrap_or_default();
        let engine = self.settled_engine(id).await.map_err(step(id, "look for processes"))?;
        let mut settled = Run { last: run.last, starting: None };
        if let Some(monitor) = engine {
            let known = settled.last.as_ref().is_some_and(|last| last.monitor == Some(monitor));
            if !known {
                let start = run.starting.map(|starting| starting.start);
                let start = start.or(settled.last.as_ref().map(|last| last.start)).unwrap_or(0);
                tracing::info!(instance = %id, start, pid = monitor.pid, "adopted a guest whose start was cut off");
                settled.last = Some(self.started(start, Some(monitor), init_of(monitor)));
            }
        }
        self.folder(id).write_run(settled.last.clone()).map_err(step(id, "write the record"))?;
        Ok(settled)
    }

    /// The monitor that is there once no start is under way any more.
    async fn settled_engine(&self, id: InstanceId) -> std::io::Result<Option<Process>> {
        let deadline = Instant::now() + CUT_OFF;
        loop {
            let engine = find_engine(&self.lxc_path, &id.to_string())?;
            // A monitor looks like the start that it came from until it changes its command line.
            let Some(starting) = engine.starting else { return Ok(engine.monitor) };
            if Instant::now() > deadline {
                return Ok(engine.monitor.or(Some(starting).filter(|process| init_of(*process).is_some())));
            }
            tracing::debug!(instance = %id, pid = starting.pid, "waiting for a start that was left behind");
            starting.ended_within(LEFT_BEHIND).await?;
        }
    }
}
