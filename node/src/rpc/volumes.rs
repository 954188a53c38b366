//! Volumes between members: one request, one stream; whoever takes it on sets the pace.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use basalt_model::NodeId;
use basalt_runtime::chain;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, StatusCode};
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use super::peers::PeerClient;
use crate::agent::carry::{Ask, Carry, Shipper};

/// How long the next piece of a stream may take: whoever sends may have to walk a large tree before it.
const PIECE: Duration = Duration::from_secs(120);
/// Bytes of one piece.
const SIZE: usize = 256 << 10;
/// A refusal is a line of text.
const REFUSAL: usize = 64 << 10;

/// Serves this member's volumes.
pub fn routes(shipper: Arc<Shipper>) -> Router {
    async fn ship(State(shipper): State<Arc<Shipper>>, Json(ask): Json<Ask>) -> Response {
        match shipper.ship(ask).await {
            Ok(stream) => Body::from_stream(ReaderStream::with_capacity(stream, SIZE)).into_response(),
            Err(why) => (StatusCode::CONFLICT, why).into_response(),
        }
    }
    Router::new().route(super::VOLUMES, post(ship)).with_state(shipper)
}

/// Fetches volumes from other members.
#[derive(Debug)]
pub struct PeerCarry(pub Arc<PeerClient>);

#[async_trait]
impl Carry for PeerCarry {
    async fn open(&self, home: NodeId, ask: &Ask) -> Result<Box<dyn AsyncRead + Send + Unpin>, String> {
        let json = serde_json::to_vec(ask).map_err(|e| chain(&e))?;
        let request = Request::post(super::VOLUMES)
            .header("host", "member")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::from(json))
            .map_err(|e| chain(&e))?;
        let answer = self.0.send(home, request).await.map_err(|e| chain(&e))?;
        let status = answer.status();
        let body = Body::new(answer.into_body());
        if status != StatusCode::OK {
            let text = axum::body::to_bytes(body, REFUSAL).await.unwrap_or_default();
            return Err(format!("member {home} does not send the volume: {}", String::from_utf8_lossy(&text)));
        }
        Ok(Box::new(StreamReader::new(Box::pin(patient(body)))))
    }
}

/// The body's pieces, each within its time.
fn patient(body: Body) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some(body.into_data_stream()), |body| async {
        let mut body = body?;
        match tokio::time::timeout(PIECE, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
            Err(_) => Some((Err(io::Error::new(io::ErrorKind::TimedOut, "the sending member stalls")), None)),
        }
    })
}
