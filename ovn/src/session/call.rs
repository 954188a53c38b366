//! One request, from the caller's side: queued, sent, answered, with a deadline over all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Session;
use crate::ovsdb::op::{Answer, OpResult, Operation};
use crate::{Error, Refusal};

/// A request on its way to a link.
#[derive(Debug)]
pub(super) struct Request {
    /// The message without its beginning, `{"id":N,`.
    pub(super) body: Vec<u8>,
    /// The only link it may be sent over.
    pub(super) epoch: Option<u64>,
    pub(super) ticket: Ticket,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Result<Bytes, Bytes>),
    NotSent(String),
    Lost(String),
}

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Decides who was first: the link that takes a request, or the caller that gives it up. So a caller whose deadline passed
/// knows whether it was sent.
#[derive(Debug, Clone)]
pub(super) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    pub(super) fn new() -> Self {
        Ticket(Arc::new(AtomicU8::new(QUEUED)))
    }

    /// The link's: true if it is to be sent.
    pub(super) fn take(&self) -> bool {
        self.move_to(TAKEN)
    }

    /// The caller's: true if it will never be sent.
    fn give_up(&self) -> bool {
        self.move_to(GIVEN_UP)
    }

    fn move_to(&self, stage: u8) -> bool {
        self.0.compare_exchange(QUEUED, stage, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A caller that is dropped while its request waits takes it along.
struct Waiting(Ticket);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Session {
    pub(super) async fn call(&self, epoch: Option<u64>, operations: &[Operation]) -> Result<Vec<OpResult>, Error> {
        let body =
            transaction(self.database(), operations).map_err(|e| Error::invalid("transaction", e.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket::new();
        let waiting = Waiting(ticket.clone());
        let request = Request { body, epoch, ticket, reply };
        let deadline = self.inner.shared.options.deadline;
        let outcome = match timeout(deadline, round(&self.inner.queue, request, answer)).await {
            Ok(outcome) => outcome,
            Err(_) if waiting.0.give_up() => Outcome::NotSent(self.no_link(deadline)),
            Err(_) => Outcome::Lost(format!("no answer within {deadline:?}")),
        };
        match outcome {
            Outcome::Answered(Ok(result)) => self.read(&result, operations),
            Outcome::Answered(Err(error)) => Err(self.whole(&error)),
            Outcome::NotSent(why) => Err(self.not_sent(&why)),
            Outcome::Lost(why) => Err(self.unknown(why)),
        }
    }

    fn read(&self, result: &[u8], operations: &[Operation]) -> Result<Vec<OpResult>, Error> {
        let answers: Vec<Option<Answer>> =
            serde_json::from_slice(result).map_err(|e| self.unknown(format!("its answer is not understood: {e}")))?;
        let mut results = Vec::with_capacity(operations.len());
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Some(Answer { error: Some(error), details, .. }) => {
                    // One more than there are operations speaks of all of them.
                    let operation = operations.get(number);
                    return Err(self.refused(Refusal {
                        operation: operation.map(|_| number),
                        about: operation.map_or_else(|| "the transaction".to_owned(), about),
                        error,
                        details: details.unwrap_or_default(),
                    }));
                }
                Some(answer) => results.push(answer.into_result()),
                None => return Err(self.unknown("an operation has no result")),
            }
        }
        match results.len() == operations.len() {
            true => Ok(results),
            false => Err(self.unknown(format!("{} results of {} operations", results.len(), operations.len()))),
        }
    }

    /// An error of the request as a whole: it was not even tried, unless it was called off in the middle.
    fn whole(&self, error: &[u8]) -> Error {
        let refusal = refusal(error);
        match refusal.error == "canceled" {
            true => self.unknown("the server called it off"),
            false => self.refused(refusal),
        }
    }
}

async fn round(queue: &mpsc::Sender<Request>, request: Request, answer: oneshot::Receiver<Outcome>) -> Outcome {
    if queue.send(request).await.is_err() {
        return Outcome::NotSent("the session has ended".into());
    }
    answer.await.unwrap_or_else(|_| Outcome::Lost("the session has ended".into()))
}

/// `"method":"transact","params":[DATABASE,OPERATION,..]}`
fn transaction(database: &str, operations: &[Operation]) -> serde_json::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(128 + operations.len() * 128);
    body.extend_from_slice(b"\"method\":\"transact\",\"params\":[");
    serde_json::to_writer(&mut body, database)?;
    for operation in operations {
        body.push(b',');
        serde_json::to_writer(&mut body, operation)?;
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

fn about(operation: &Operation) -> String {
    match operation.table() {
        Some(table) => format!("{} {table}", operation.name()),
        None => operation.name().to_owned(),
    }
}

/// What an error says, whichever form it has: an object, or a text.
pub(super) fn refusal(error: &[u8]) -> Refusal {
    #[derive(Deserialize)]
    struct Said {
        error: String,
        details: Option<String>,
    }
    if let Ok(said) = serde_json::from_slice::<Said>(error) {
        return Refusal { error: said.error, details: said.details.unwrap_or_default(), ..Refusal::default() };
    }
    let text = serde_json::from_slice::<String>(error).unwrap_or_else(|_| String::from_utf8_lossy(error).into_owned());
    Refusal { error: text, ..Refusal::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_sent_or_given_up_never_both() {
        let ticket = Ticket::new();
        assert!(ticket.take() && !ticket.give_up());
        let ticket = Ticket::new();
        drop(Waiting(ticket.clone()));
        assert!(!ticket.take());
    }

    #[test]
    fn errors_have_two_forms() {
        let said = refusal(br#"{"error":"unknown database","details":"no X"}"#);
        assert_eq!((said.error.as_str(), said.details.as_str()), ("unknown database", "no X"));
        assert_eq!(refusal(b"\"unknown method\"").error, "unknown method");
        assert_eq!(refusal(b"[1]").error, "[1]");
    }
}
