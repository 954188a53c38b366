//! Waiting for a condition, with a deadline. The only place of the harness that sleeps: between two looks.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Looks again and again until `look` finds something, and once more when time is up. An error of `look` counts as "not
/// yet" and is shown in the end.
///
/// # Errors
/// When `within` has passed.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        // Taken before the look: a slow one, or a machine that stood still, must not hide what has come true.
        let late = begun.elapsed() > within;
        let last = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if late {
            bail!("{what}: not within {within:?} ({last})");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The same for a plain condition.
///
/// # Errors
/// When `within` has passed.
pub fn until_true(what: &str, within: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, within, || Ok(look()?.then_some(())))
}
