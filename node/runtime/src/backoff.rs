//! Exponential backoff with jitter, so that many retries of one cause do not arrive together.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Doubling delays between `min` and `max`; each is drawn from the upper half of its step.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    step: Duration,
    rng: SmallRng,
}

impl Backoff {
    /// A backoff that starts at `min` and never exceeds `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self::with_rng(min, max, SmallRng::from_os_rng())
    }

    /// The same with a chosen seed: for simulations that must replay.
    pub fn seeded(min: Duration, max: Duration, seed: u64) -> Self {
        Self::with_rng(min, max, SmallRng::seed_from_u64(seed))
    }

    fn with_rng(min: Duration, max: Duration, rng: SmallRng) -> Self {
        let max = max.max(min);
        Self { min, max, step: min, rng }
    }

    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.step;
        self.step = step.saturating_mul(2).min(self.max);
        step.mul_f64(self.rng.random_range(0.5..=1.0))
    }

    /// After a success: the next delay is a short one again.
    pub fn reset(&mut self) {
        self.step = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_limit_and_resets() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::seeded(min, max, 7);
        for step in [100u64, 200, 400, 800, 1000, 1000, 1000] {
            let (delay, step) = (backoff.next_delay(), Duration::from_millis(step));
            assert!(delay <= step && delay >= step / 2, "{delay:?} for {step:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= min);
    }

    #[test]
    fn one_seed_one_sequence() {
        let make = || Backoff::seeded(Duration::from_millis(3), Duration::from_secs(9), 42);
        let (mut a, mut b) = (make(), make());
        assert!((0..20).all(|_| a.next_delay() == b.next_delay()));
    }
}
