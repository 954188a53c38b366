//! How many connections there may be, and which makes way when one more comes.
//!
//! ```text
//!  accept --> enter --> idle --request--> busy --answer sent--> idle ... --> gone
//!                        '--- the one that is idle longest makes way when all places are taken
//! ```
//! So whoever holds connections open without using them cannot keep others out; only when every place is busy is a
//! newcomer refused. Memory is bounded by the number of places.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long the connection that makes way may take to end.
const MAKES_WAY: Duration = Duration::from_secs(1);

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Crowd {
    places: usize,
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Idle connections, the one that is longest idle first.
    idle: BTreeMap<u64, CancellationToken>,
    next: u64,
}

/// A connection's place; it is free again when this and all that is busy on it are gone.
#[derive(Debug, Clone)]
pub(super) struct Place {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    crowd: Arc<Crowd>,
    makes_way: CancellationToken,
    turn: Mutex<Turn>,
    _permit: OwnedSemaphorePermit,
}

/// Where a connection stands among the idle, and how many requests run on it.
#[derive(Debug)]
struct Turn {
    number: Option<u64>,
    requests: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crowd {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Crowd { places, free: Arc::new(Semaphore::new(places)), state: Mutex::default() })
    }

    /// How many places there are.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// A place for a new connection; `None` when all are taken by requests that run. Only the accept loop calls this.
    pub(super) async fn enter(self: &Arc<Self>) -> Option<Place> {
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let (_, longest) = lock(&self.state).idle.pop_first()?;
                longest.cancel();
                tokio::time::timeout(MAKES_WAY, self.free.clone().acquire_owned()).await.ok()?.ok()?
            }
        };
        let makes_way = CancellationToken::new();
        let number = self.queue(&makes_way);
        let turn = Mutex::new(Turn { number: Some(number), requests: 0 });
        Some(Place { inner: Arc::new(Inner { crowd: self.clone(), makes_way, turn, _permit: permit }) })
    }

    fn queue(&self, token: &CancellationToken) -> u64 {
        let mut state = lock(&self.state);
        state.next += 1;
        let number = state.next;
        state.idle.insert(number, token.clone());
        number
    }
}

impl Place {
    /// Ends when the connection is to make way.
    pub(super) async fn makes_way(&self) {
        self.inner.makes_way.cancelled().await;
    }

    /// A request runs on it until the guard is gone.
    pub(super) fn busy(&self) -> Busy {
        let mut turn = lock(&self.inner.turn);
        turn.requests += 1;
        if let Some(number) = turn.number.take() {
            lock(&self.inner.crowd.state).idle.remove(&number);
        }
        Busy { inner: self.inner.clone() }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(number) = lock(&self.turn).number {
            lock(&self.crowd.state).idle.remove(&number);
        }
    }
}

/// A request that runs, to the last byte of its answer.
#[derive(Debug)]
pub(super) struct Busy {
    inner: Arc<Inner>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut turn = lock(&self.inner.turn);
        turn.requests -= 1;
        if turn.requests == 0 {
            turn.number = Some(self.inner.crowd.queue(&self.inner.makes_way));
        }
    }
}

impl Busy {
    /// Lets the guard live as long as the body does.
    pub(super) fn with(self, body: Body) -> Body {
        Body::new(Guarded { body, _busy: self })
    }
}

struct Guarded {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_idle_makes_way() {
        let crowd = Crowd::new(2);
        let first = crowd.enter().await.unwrap();
        let second = crowd.enter().await.unwrap();
        // The first was used since the second came: the second is idle for longer.
        drop(first.busy());
        let leaving = async {
            tokio::time::timeout(Duration::from_secs(5), second.makes_way()).await.unwrap();
            assert!(!first.inner.makes_way.is_cancelled());
            drop(second);
        };
        let (newcomer, ()) = tokio::join!(crowd.enter(), leaving);
        assert!(newcomer.is_some());
    }

    #[tokio::test]
    async fn the_busy_do_not() {
        let crowd = Crowd::new(1);
        let place = crowd.enter().await.unwrap();
        let (one, two) = (place.busy(), place.busy());
        drop(one);
        assert!(crowd.enter().await.is_none(), "one of its requests runs still");
        let body = two.with(Body::from("x"));
        drop(place);
        assert!(crowd.enter().await.is_none(), "its answer is being sent");
        drop(body);
        assert!(crowd.enter().await.is_some());
        assert!(lock(&crowd.state).idle.is_empty(), "what is gone is not idle");
    }
}
