//! The event stream of the cluster: any member sends the events of all.

use std::time::Duration;

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Message;

use basalt_api::dto::event::Event;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::path::Path;
use crate::transport::WebSocket;

/// Members ping every 10 s; this long without a frame means that the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// A stream of events. Dropping it ends it.
pub struct Events {
    socket: WebSocket,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Client {
    /// Listens to events of these types (all, when none is named).
    pub async fn events(&self, types: &[&str], all_projects: bool) -> Result<Events> {
        let mut path = Path::of("events");
        if !types.is_empty() {
            path = path.with("type", &types.join(","));
        }
        path = if all_projects { path.with("all-projects", "true") } else { path.with("project", self.project()) };
        let socket = self.transport.websocket(&path.to_string()).await?;
        Ok(Events { socket })
    }
}

impl Events {
    /// The next event; `None` when the member closed the stream. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        loop {
            let message = match tokio::time::timeout(SILENCE, self.socket.next()).await {
                Ok(message) => message?,
                Err(_) => return Some(Err(Error::Deadline { doing: "events".to_owned(), after: SILENCE })),
            };
            match message {
                Ok(Message::Text(text)) => {
                    let event = serde_json::from_str(&text);
                    return Some(event.map_err(|e| Error::protocol("events", e.to_string())));
                }
                Ok(Message::Close(_)) => return None,
                Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(error) => return Some(Err(Error::transport("events", error))),
            }
        }
    }
}
