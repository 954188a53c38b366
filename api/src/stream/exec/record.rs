//! Programs without websockets: their output is thrown away, or recorded in memory until it is fetched. Bounded, and
//! gone when the agent restarts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use basalt_model::InstanceId;
use bytes::Bytes;

use super::super::fd::Fd;
use crate::api::Api;
use crate::error::Error;
use crate::port::{ExecRequest, GuestIo};

/// Bytes kept of one stream; what is more is cut off.
const MAX_BYTES: usize = 4 << 20;
/// Streams kept of all instances; older ones are forgotten.
const MAX_STREAMS: usize = 64;

/// Recorded output of programs.
#[derive(Debug, Default)]
pub(crate) struct Recordings(Mutex<VecDeque<(InstanceId, String, Bytes)>>);

impl Recordings {
    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<(InstanceId, String, Bytes)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, id: InstanceId, name: String, bytes: Bytes) {
        let mut kept = self.kept();
        if kept.len() >= MAX_STREAMS {
            kept.pop_front();
        }
        kept.push_back((id, name, bytes));
    }

    /// Names of an instance's recordings.
    pub(crate) fn list(&self, id: InstanceId) -> Vec<String> {
        self.kept().iter().filter(|(owner, ..)| *owner == id).map(|(_, name, _)| name.clone()).collect()
    }

    pub(crate) fn get(&self, id: InstanceId, name: &str) -> Option<Bytes> {
        self.kept().iter().find(|(owner, n, _)| *owner == id && n == name).map(|(.., bytes)| bytes.clone())
    }

    pub(crate) fn remove(&self, id: InstanceId, name: &str) -> bool {
        let mut kept = self.kept();
        let before = kept.len();
        kept.retain(|(owner, n, _)| *owner != id || n != name);
        kept.len() < before
    }
}

/// Runs a program without websockets. With `record` says the names of what was recorded of stdout and stderr.
pub(crate) async fn run_recorded(
    api: Arc<Api>,
    id: InstanceId,
    request: ExecRequest,
    record: Option<String>,
) -> Result<(i32, Option<[String; 2]>), Error> {
    let (io, mut process) = api.ports.guests.exec(id, ExecRequest { terminal: None, ..request }).await?;
    let GuestIo::Pipes { stdin, stdout, stderr } = io else {
        return Err(Error::Internal("a program without a terminal has pipes".into()));
    };
    // Nobody writes to it: the program reads the end at once.
    drop(stdin);
    let read = |fd| async move {
        let fd = Fd::new(fd).map_err(|e| Error::Internal(e.to_string()))?;
        Ok::<Bytes, Error>(read_bounded(&fd).await)
    };
    let outputs = async { tokio::try_join!(read(stdout), read(stderr)) };
    tokio::pin!(outputs);
    let code = tokio::select! {
        code = process.wait() => code?,
        both = &mut outputs => {
            let code = process.wait().await?;
            return Ok((code, keep(&api, id, record, both?)));
        }
    };
    // What a child left behind still writes is not waited for long.
    let quiet = std::time::Duration::from_millis(500);
    let both = tokio::time::timeout(quiet, outputs).await.unwrap_or_else(|_| Ok(Default::default()))?;
    Ok((code, keep(&api, id, record, both)))
}

fn keep(api: &Api, id: InstanceId, record: Option<String>, (out, err): (Bytes, Bytes)) -> Option<[String; 2]> {
    let name = record?;
    let names = [format!("exec_{name}.stdout"), format!("exec_{name}.stderr")];
    api.recordings.keep(id, names[0].clone(), out);
    api.recordings.keep(id, names[1].clone(), err);
    Some(names)
}

async fn read_bounded(fd: &Fd) -> Bytes {
    let mut all = Vec::new();
    let mut buffer = vec![0u8; 16 * 1024];
    while let Ok(count) = fd.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        let room = MAX_BYTES.saturating_sub(all.len()).min(count);
        all.extend_from_slice(&buffer[..room]);
    }
    all.into()
}
