//! Waiting for an operation in front of a user: what it is at, and Ctrl-C to cancel it. Only on a terminal, only on
//! standard error: output that a program reads stays clean.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use basalt_client::{Client, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use basalt_api::dto::operation::Operation;

/// Waits for `operation`, saying `doing` meanwhile. Ctrl-C cancels it where that can be done.
pub(crate) async fn follow(client: &Client, operation: &Operation, doing: &str) -> Result<Operation> {
    let bar = spinner(doing);
    let shown = bar.clone();
    let wait = async move {
        if shown.is_hidden() {
            return client.wait(operation).await;
        }
        let tell = |now: &Operation| {
            if let Some(text) = progress_text(now) {
                shown.set_message(format!("{doing}: {text}"));
            }
        };
        client.wait_with_progress(operation, tell).await
    };
    let wait = Box::pin(wait);
    let interrupted = tokio::signal::ctrl_c();
    let result = tokio::select! {
        result = wait => result.map_err(anyhow::Error::from),
        _ = interrupted => cancel(client, operation).await,
    };
    bar.finish_and_clear();
    result
}

async fn cancel(client: &Client, operation: &Operation) -> Result<Operation> {
    let id = &operation.id;
    let now = client.operation(id).await?;
    if !now.may_cancel {
        bail!("it cannot be cancelled and goes on: see `basalt operation show {id}`");
    }
    client.cancel_operation(id).await?;
    tokio::select! {
        ended = Box::pin(client.wait(operation)) => Ok(ended?),
        _ = tokio::signal::ctrl_c() => bail!("it is being cancelled: see `basalt operation show {id}`"),
    }
}

/// What an operation says of its progress, whatever it is called.
fn progress_text(operation: &Operation) -> Option<String> {
    let metadata = operation.metadata.as_ref()?;
    let (_, value) = metadata.iter().find(|(key, _)| key.ends_with("_progress"))?;
    value.as_str().map(str::to_owned)
}

fn spinner(doing: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(doing.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A bar for bytes that are sent or received, and what feeds it.
pub(crate) fn transfer(doing: &str) -> (ProgressBar, Progress) {
    let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(doing.to_owned());
    let shown = Arc::new(Mutex::new(bar.clone()));
    let feed: Progress = Box::new(move |done, all| {
        let bar = shown.lock().expect("nothing panics while it is held");
        bar.set_length(all);
        bar.set_position(done);
    });
    (bar, feed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_key_that_ends_in_progress_is_shown() {
        let metadata =
            serde_json::json!({"fingerprint": "x", "create_instance_from_image_unpack_progress": "Unpacking: 40%"});
        let operation = Operation { metadata: metadata.as_object().cloned(), ..Operation::default() };
        assert_eq!(progress_text(&operation).as_deref(), Some("Unpacking: 40%"));
        assert_eq!(progress_text(&Operation::default()), None);
    }
}
