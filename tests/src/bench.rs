//! Measuring: the parts of `make bench`. See the program for the rules.

pub mod cluster;
pub mod disk;
pub mod engine;
pub mod etcd;
pub mod front;
pub mod incus;
pub mod listen;
pub mod moves;
pub mod northbound;
pub mod ovsdb;
pub mod pair;
pub mod raft;
pub mod same;
pub mod tls;

use std::time::Duration;

/// Numbers of one kind, of which the median counts.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// In milliseconds.
    pub fn push_time(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1000.0);
    }

    /// The value below which that share lies; `0.5` is the median. NaN when empty.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // an index
        let at = (share * sorted.len() as f64) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    fn spread(&self) -> String {
        format!("{:.1}..{:.1}, n={}", self.quantile(0.0), self.quantile(1.0), self.0.len())
    }
}

/// One line of the result.
#[derive(Debug)]
struct Row {
    figure: String,
    text: String,
    verdict: Option<bool>,
}

/// What is printed in the end.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    raw: Vec<String>,
}

impl Report {
    /// A figure without a bar.
    pub fn note(&mut self, figure: &str, sample: &Sample, unit: &str) {
        eprintln!("  {figure}: {:.2} {unit}", sample.median());
        self.keep(figure, sample, unit);
        let text = format!("{:.2} {unit} ({})", sample.median(), sample.spread());
        self.rows.push(Row { figure: figure.into(), text, verdict: None });
    }

    /// A figure with a bar of its own: at most, or at least.
    pub fn bar(&mut self, figure: &str, sample: &Sample, unit: &str, bar: Bar) {
        eprintln!("  {figure}: {:.2} {unit}", sample.median());
        self.keep(figure, sample, unit);
        let text = format!("{:.2} {unit} ({}); bar {bar}", sample.median(), sample.spread());
        self.rows.push(Row { figure: figure.into(), text, verdict: Some(bar.holds(sample.median())) });
    }

    /// Ours over theirs, with a bar on the ratio. `figure` is its name and its unit.
    pub fn ratio(&mut self, figure: (&str, &str), ours: &Sample, theirs: (&str, &Sample), bar: Bar) {
        let (figure, unit) = figure;
        let (name, other) = theirs;
        let ratio = ours.median() / other.median();
        eprintln!("  {figure}: {:.2} {unit}, {name} {:.2} {unit}, ratio {ratio:.2}", ours.median(), other.median());
        self.keep(figure, ours, unit);
        self.keep(&format!("{figure}, {name}"), other, unit);
        let text = format!(
            "{ratio:.2}x = {:.2} {unit} ({}) / {name} {:.2} {unit} ({}); bar {bar}",
            ours.median(),
            ours.spread(),
            other.median(),
            other.spread()
        );
        self.rows.push(Row { figure: figure.into(), text, verdict: Some(bar.holds(ratio)) });
    }

    /// Something that could not be measured.
    pub fn skip(&mut self, figure: &str, why: &str) {
        self.rows.push(Row { figure: figure.into(), text: format!("skipped: {why}"), verdict: None });
    }

    /// A comparison that would not be fair: ours lacks what theirs has.
    pub fn refuse(&mut self, figure: &str, lacks: &str) {
        eprintln!("  {figure}: not compared, ours lacks {lacks}");
        let text = format!("not compared: ours lacks {lacks}");
        self.rows.push(Row { figure: figure.into(), text, verdict: Some(false) });
    }

    fn keep(&mut self, figure: &str, sample: &Sample, unit: &str) {
        const SHOWN: usize = 120;
        let mut values: Vec<String> = sample.0.iter().take(SHOWN).map(|v| format!("{v:.2}")).collect();
        if sample.0.len() > SHOWN {
            values.push(format!("and {} more", sample.0.len() - SHOWN));
        }
        self.raw.push(format!("{figure} [{unit}]: {}", values.join(" ")));
    }

    pub fn print(&self) {
        println!("\nraw rows");
        self.raw.iter().for_each(|row| println!("  {row}"));
        println!("\nmedians (min..max)");
        for row in &self.rows {
            let verdict = match row.verdict {
                Some(true) => "reached",
                Some(false) => "MISSED",
                None => "",
            };
            println!("  {:7} {:34} {}", verdict, row.figure, row.text);
        }
    }
}

/// What is to be reached.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Bar::AtMost(limit) => value <= limit,
            Bar::AtLeast(limit) => value >= limit,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bar::AtMost(limit) => write!(f, "<= {limit}"),
            Bar::AtLeast(limit) => write!(f, ">= {limit}"),
        }
    }
}
