//! Operations: looking, waiting, cancelling.
//!
//! Waiting asks in rounds of bounded length, so that a dead connection is noticed; progress comes from the event
//! stream beside it and is a courtesy: without it the wait goes on all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;

use basalt_api::dto::event::{Event, Kind};
use basalt_api::dto::operation::Operation;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::path::Path;

/// One round of waiting, and what its answer may take beyond that.
const ROUND: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(30);
/// Broken rounds in a row before giving up.
const TRIES: u32 = 5;

impl Client {
    /// An operation is found by its id alone, on whichever member it is: a target would only mislead.
    fn anywhere(&self) -> Self {
        self.at(None)
    }

    /// One operation.
    pub async fn operation(&self, id: &str) -> Result<Operation> {
        self.anywhere().get(Path::of("operations").segment(id)).await
    }

    /// All operations of the project, or of all projects.
    pub async fn operations(&self, all_projects: bool) -> Result<Vec<Operation>> {
        let mut path = Path::of("operations").with("recursion", "1");
        if all_projects {
            path = path.with("all-projects", "true");
        }
        let by_status: BTreeMap<String, Vec<Operation>> = self.get(path).await?;
        Ok(by_status.into_values().flatten().collect())
    }

    /// Cancels an operation, or revokes a token.
    pub async fn cancel_operation(&self, id: &str) -> Result<()> {
        self.anywhere().apply(Method::DELETE, Path::of("operations").segment(id), None::<&()>).await
    }

    /// Waits until the operation is final. A failed or cancelled one is [`Error::Operation`].
    pub async fn wait(&self, operation: &Operation) -> Result<Operation> {
        let mut broken = 0;
        loop {
            match self.wait_round(&operation.id).await {
                Ok(now) if now.is_final() => return ended(now),
                Ok(_) => broken = 0,
                Err(error @ (Error::Transport { .. } | Error::Deadline { .. } | Error::Connect { .. })) => {
                    broken += 1;
                    if broken >= TRIES {
                        return Err(error);
                    }
                    tokio::time::sleep(Duration::from_millis(300) * broken).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn wait_round(&self, id: &str) -> Result<Operation> {
        let path = Path::of("operations").segment(id).segment("wait").with("timeout", &ROUND.as_secs().to_string());
        let client = self.anywhere();
        client.reply(client.call(Method::GET, path).deadline(ROUND + GRACE)).await?.metadata()
    }

    /// Waits like [`Self::wait`] and tells `progress` each state of the operation that becomes known meanwhile.
    pub async fn wait_with_progress(
        &self,
        operation: &Operation,
        mut progress: impl FnMut(&Operation),
    ) -> Result<Operation> {
        progress(operation);
        let follow = async {
            let Ok(mut events) = self.events(&["operation"], true).await else { return };
            while let Some(Ok(event)) = events.next().await {
                if let Some(now) = of_operation(&event, &operation.id) {
                    progress(&now);
                }
            }
        };
        tokio::pin!(follow);
        let wait = self.wait(operation);
        tokio::pin!(wait);
        // Both futures live on across the branches; nothing is lost when the other wins.
        tokio::select! {
            ended = &mut wait => return ended,
            () = &mut follow => {}
        }
        wait.await
    }
}

fn of_operation(event: &Event, id: &str) -> Option<Operation> {
    if event.kind != Kind::Operation {
        return None;
    }
    let now: Operation = serde_json::from_value(event.metadata.clone()).ok()?;
    (now.id == id).then_some(now)
}

fn ended(operation: Operation) -> Result<Operation> {
    if operation.succeeded() { Ok(operation) } else { Err(Error::Operation(Box::new(operation))) }
}
