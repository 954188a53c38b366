//! Console sessions: one at a time for each instance; a new one may take over with force.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::WebSocket;
use basalt_model::InstanceId;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::exec::{self, ATTACH_DEADLINE, Controlled};
use super::fd::Fd;
use super::socket;
use crate::api::Api;
use crate::error::Error;
use crate::port::GuestIo;

/// Who is attached to which console.
#[derive(Debug, Default)]
pub(crate) struct Consoles(Mutex<BTreeMap<InstanceId, CancellationToken>>);

impl Consoles {
    fn sessions(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the console of an instance.
    ///
    /// # Errors
    /// Somebody else holds it and `force` was not given.
    pub(crate) fn take(&self, id: InstanceId, force: bool) -> Result<CancellationToken, Error> {
        let mut sessions = self.sessions();
        if let Some(held) = sessions.get(&id).filter(|s| !s.is_cancelled()) {
            if !force {
                return Err(Error::Refused(
                    "This console is already connected. Force is required to take it over.".into(),
                ));
            }
            held.cancel();
        }
        let session = CancellationToken::new();
        sessions.insert(id, session.clone());
        Ok(session)
    }
}

/// A console to attach.
pub(crate) struct Session {
    pub(crate) id: InstanceId,
    pub(crate) size: (u16, u16),
    pub(crate) data: oneshot::Receiver<WebSocket>,
    pub(crate) control: oneshot::Receiver<WebSocket>,
    /// Cancelled when somebody else takes the console.
    pub(crate) taken: CancellationToken,
}

/// Runs one console session until the client goes, the guest's console ends, or somebody takes it over.
pub(crate) async fn run(api: Arc<Api>, session: Session) -> Result<Map<String, Value>, Error> {
    let taken = session.taken.clone();
    let ended = attached(&api, session).await;
    taken.cancel();
    ended.map(|()| Map::new())
}

async fn attached(api: &Arc<Api>, session: Session) -> Result<(), Error> {
    let socket = tokio::time::timeout(ATTACH_DEADLINE, session.data)
        .await
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Error::Refused("Timed out waiting for websockets to connect".into()))?;
    let (io, mut process) = api.ports.guests.console(session.id).await?;
    let GuestIo::Terminal(terminal) = io else {
        return Err(Error::Internal("a console is a terminal".into()));
    };
    let _ = process.resize(session.size.0, session.size.1);
    let terminal = Arc::new(Fd::new(terminal).map_err(|e| Error::Internal(e.to_string()))?);
    let (sink, stream) = socket::split(socket);
    let gone = CancellationToken::new();
    // Stock clients detach by closing it; the other socket they leave to us.
    let control = exec::control(session.control, gone.clone());
    let output = socket::pump_out(terminal.clone(), sink, CancellationToken::new());
    let input = socket::pump_in(stream, terminal);
    tokio::pin!(output, input);
    let mut control = Controlled::new(control);
    loop {
        tokio::select! {
            () = session.taken.cancelled() => break,
            _ = &mut output => break,
            _ = &mut input => break,
            _ = process.wait() => {
                // What the guest wrote last is still in the terminal.
                let _ = tokio::time::timeout(Duration::from_millis(500), &mut output).await;
                break;
            }
            () = gone.cancelled() => break,
            command = control.next() => exec::obey(process.as_ref(), command),
        }
    }
    Ok(())
}
