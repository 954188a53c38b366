//! Counts of values by their magnitude, in place of the registry's crate of the same name.
//!
//! **Purpose.** openraft counts how many entries go into a message with that crate, whose tables for all precisions are
//! computed with its first histogram and stay: 27 MB of memory in each member, for a count that nobody reads as long as
//! openraft's `runtime-stats` feature is off. `[patch.crates-io]` puts this crate there.
//!
//! ```text
//!   value   0   1   2 3   4 5 6 7   8 ... 15    ...   2^63 ...
//!   count [ . | . | .  | .       | .         | ... | .        ]
//! ```
//! **Invariants.** What openraft uses without that feature is here under the same names; a percentile is the smallest
//! value of the range in which it lies. **Failure.** None; counts saturate.

use std::fmt;
use std::marker::PhantomData;

/// One for zero, one for each power of two.
const RANGES: usize = 65;

/// How often values of each magnitude were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; RANGES],
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// An empty one.
    pub fn new() -> Self {
        Histogram { counts: [0; RANGES], slots: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that was seen `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let range = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[range] = self.counts[range].saturating_add(count);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.per_mille(1),
            p1: self.per_mille(10),
            p5: self.per_mille(50),
            p10: self.per_mille(100),
            p50: self.per_mille(500),
            p90: self.per_mille(900),
            p99: self.per_mille(990),
            p99_9: self.per_mille(999),
        }
    }

    /// Start of the range below whose end that share of the values lies; 0 when there are none.
    fn per_mille(&self, share: u64) -> u64 {
        let wanted = u128::from(self.total()) * u128::from(share);
        let mut seen = 0_u128;
        for (range, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if *count > 0 && seen * 1000 >= wanted {
                return range.checked_sub(1).map_or(0, |power| 1 << power);
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Values at some percentiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    /// A thousandth is smaller.
    pub p0_1: u64,
    /// A hundredth is smaller.
    pub p1: u64,
    /// A twentieth is smaller.
    pub p5: u64,
    /// A tenth is smaller.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// A tenth is larger.
    pub p90: u64,
    /// A hundredth is larger.
    pub p99: u64,
    /// A thousandth is larger.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PercentileStats { samples, p10, p50, p90, p99, .. } = self;
        write!(f, "{samples} values, p10 {p10}, p50 {p50}, p90 {p90}, p99 {p99}")
    }
}

/// Histograms under their names, as text.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more line.
    #[must_use]
    pub fn add<T>(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.0.push((name.to_owned(), histogram.percentile_stats()));
        self
    }

    /// What can be printed.
    #[must_use]
    pub fn detailed(&self) -> &Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_start_of_its_range() {
        let mut counts = Histogram::<()>::new();
        assert_eq!(counts.percentile_stats().p50, 0);
        for value in [0, 1, 5, 5, 5, 5, 5, 5, 5, u64::MAX] {
            counts.record(value);
        }
        let stats = counts.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p10, stats.p50, stats.p90), (10, 0, 0, 4, 4));
        assert_eq!(stats.p99_9, 1 << 63);
    }
}
