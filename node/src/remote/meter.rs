//! How far a transfer is, in the words that clients show as they are.

use std::time::{Duration, Instant};

use basalt_api::port::remote::Tell;

/// Each change of an operation is an event to every listener: no more often than this.
const PERIOD: Duration = Duration::from_millis(400);

/// Counts the bytes of one file.
pub(super) struct Meter<'a> {
    what: &'static str,
    total: Option<u64>,
    done: u64,
    began: Instant,
    told: Option<Instant>,
    tell: Tell<'a>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(what: &'static str, total: Option<u64>, tell: Tell<'a>) -> Self {
        Meter { what, total: total.filter(|t| *t > 0), done: 0, began: Instant::now(), told: None, tell }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if self.told.is_none_or(|at| at.elapsed() >= PERIOD) {
            self.told = Some(Instant::now());
            (self.tell)(text(self.what, self.done, self.total, self.began.elapsed()));
        }
    }

    /// All has come.
    pub(super) fn end(&self) {
        (self.tell)(text(self.what, self.done, self.total.map(|_| self.done), self.began.elapsed()));
    }
}

fn text(what: &str, done: u64, total: Option<u64>, took: Duration) -> String {
    let rate = size(done as f64 / took.as_secs_f64().max(0.001));
    match total {
        Some(total) => format!("{what}: {}% ({rate}/s)", (done.saturating_mul(100) / total).min(100)),
        None => format!("{what}: {} ({rate}/s)", size(done as f64)),
    }
}

fn size(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.2}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_share_and_speed() {
        let second = Duration::from_secs(1);
        assert_eq!(text("rootfs", 1_230_000, Some(12_300_000), second), "rootfs: 10% (1.23MB/s)");
        assert_eq!(text("rootfs", 999, None, second), "rootfs: 999.00B (999.00B/s)");
        assert_eq!(text("rootfs", 20, Some(10), second), "rootfs: 100% (20.00B/s)");
    }
}
