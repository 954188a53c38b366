//! Two sides of a row, one of which runs while the other is stopped in its tracks.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;

use super::incus::Incus;
use super::{Bar, Report, Sample};
use crate::api::Api;
use crate::testbed::Node;
use crate::wait;

/// One of the two, as a client sees it.
#[derive(Debug)]
pub struct Side {
    pub api: Api,
    /// `host:port` of its HTTPS socket.
    pub https: String,
    /// It is not ours.
    pub peer: bool,
}

/// Ours on some nodes, and Incus beside them where it is installed.
#[derive(Debug)]
pub struct Pair<'a> {
    pub nodes: &'a [Node],
    pub incus: Option<&'a Incus>,
    /// What the peer is called in rows.
    pub label: String,
    pub ours: Side,
    pub theirs: Option<Side>,
}

/// What both sides gave.
#[derive(Debug, Default)]
pub struct Both {
    pub ours: Sample,
    pub theirs: Option<Sample>,
}

impl Pair<'_> {
    /// Lets one side run and stops the other.
    ///
    /// # Errors
    /// When one is gone.
    pub fn only(&self, peer: bool) -> Result<()> {
        let (nodes, incus) = match peer {
            true => (Signal::SIGSTOP, Signal::SIGCONT),
            false => (Signal::SIGCONT, Signal::SIGSTOP),
        };
        self.nodes.iter().try_for_each(|n| if nodes == Signal::SIGSTOP { n.freeze() } else { n.thaw() })?;
        self.incus.map_or(Ok(()), |i| i.signal(incus))
    }

    /// Takes a figure of both, A-B-B-A, each side warmed by one request.
    ///
    /// # Errors
    /// When a side fails.
    pub fn take(&self, rounds: usize, mut figure: impl FnMut(&Side) -> Result<Vec<f64>>) -> Result<Both> {
        let mut both = Both { ours: Sample::default(), theirs: self.theirs.as_ref().map(|_| Sample::default()) };
        for round in 0..rounds {
            for peer in [round % 2 == 1, round % 2 == 0] {
                let (side, sample) = match (peer, &self.theirs, &mut both.theirs) {
                    (false, ..) => (&self.ours, &mut both.ours),
                    (true, Some(side), Some(sample)) => (side, sample),
                    (true, ..) => continue,
                };
                self.only(peer)?;
                awake(side)?;
                figure(side)?.into_iter().for_each(|value| sample.push(value));
            }
        }
        Ok(both)
    }
}

fn awake(side: &Side) -> Result<()> {
    wait::until_true("it answers and has a leader", Duration::from_secs(60), || {
        side.api.clone().timeout(Duration::from_secs(5)).get("/1.0/profiles/default").map(|_| true)
    })
}

impl Both {
    /// A row with a bar on the ratio.
    pub fn ratio(&self, report: &mut Report, pair: &Pair<'_>, figure: (&str, &str), bar: Bar) {
        match &self.theirs {
            Some(theirs) => report.ratio(figure, &self.ours, (&pair.label, theirs), bar),
            None => report.skip(figure.0, "no peer"),
        }
    }

    /// A row of ours, with or without a bar, and one that shows theirs.
    pub fn bar(&self, report: &mut Report, pair: &Pair<'_>, figure: (&str, &str), bar: Option<Bar>) {
        match bar {
            Some(bar) => report.bar(figure.0, &self.ours, figure.1, bar),
            None => report.note(figure.0, &self.ours, figure.1),
        }
        if let Some(theirs) = &self.theirs {
            report.note(&format!("{}, {}", figure.0, pair.label), theirs, figure.1);
        }
    }
}

/// Milliseconds that `work` took.
///
/// # Errors
/// Those of `work`.
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<Vec<f64>> {
    let begun = Instant::now();
    work()?;
    Ok(vec![begun.elapsed().as_secs_f64() * 1000.0])
}
