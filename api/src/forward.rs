//! Sends a request on to the member that can answer it, websockets included. Never a redirect: clients would lose the
//! certificate that they pinned.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use basalt_model::NodeId;
use http::header::HOST;
use http::{HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::auth::FORWARDED;
use crate::call::Call;
use crate::error::Error;
use crate::reply::Reply;

/// How long another member may take to say something of itself, and how much that may be, in bytes.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
const ANSWER: usize = 8 << 20;

impl Call {
    /// Sends `request` on to `node`, with the caller's identity.
    ///
    /// # Errors
    /// The member cannot be reached.
    pub(crate) async fn forward(&self, node: NodeId, mut request: Request) -> Reply {
        if self.who.from_member {
            // The sender thought that the answer is here: two members that disagree must not play ball.
            return Err(Error::Unavailable("it is moving between members: try again".into()));
        }
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let identity = HeaderValue::from_str(&self.who.encode()).map_err(|e| Error::Internal(e.to_string()))?;
        request.headers_mut().insert(FORWARDED, identity);
        let mut response = self.api.ports.peers.forward(node, request).await.map_err(|error| {
            tracing::warn!(%node, %error, "cannot forward a request");
            Error::from(error)
        })?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client) = client
        {
            let server = hyper::upgrade::on(&mut response);
            self.api.tasks.spawn("api proxied stream", async move {
                match tokio::try_join!(client, server) {
                    Ok((client, server)) => {
                        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                        // Either side going away ends the stream; there is nobody to tell.
                        let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 65536, 65536).await;
                    }
                    Err(error) => tracing::debug!(%error, "a proxied stream did not begin"),
                }
            });
        }
        Ok(response)
    }

    /// What another member says of itself, as bytes; it must do so soon.
    ///
    /// # Errors
    /// The member cannot be reached, does not answer in time, or refuses.
    pub(crate) async fn ask(&self, node: NodeId, path: &str) -> Result<Bytes, Error> {
        let asked = async {
            let request = Request::get(path)
                .header(HOST, "basalt")
                .body(Body::empty())
                .map_err(|e| Error::Internal(e.to_string()))?;
            let response = self.forward(node, request).await?;
            if !response.status().is_success() {
                return Err(Error::Internal(format!("the member answered {}", response.status())));
            }
            let bytes = axum::body::to_bytes(response.into_body(), ANSWER).await;
            bytes.map_err(|e| Error::Internal(e.to_string()))
        };
        let late = || Error::Unavailable("the member did not answer in time".into());
        tokio::time::timeout(ANSWER_DEADLINE, asked).await.map_err(|_| late())?
    }

    /// Sends `request` on when `target=` names another member; gives it back when it is meant for this one.
    ///
    /// # Errors
    /// The member does not exist or cannot be reached.
    pub(crate) async fn to_target(&self, request: Request) -> Result<Result<Response, Request>, Error> {
        match self.other_target()? {
            Some(node) if !self.who.from_member => self.forward(node, request).await.map(Ok),
            Some(_) | None => Ok(Err(request)),
        }
    }
}
