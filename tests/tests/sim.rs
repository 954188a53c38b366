//! Many seeds of the simulation. `SIM_SEEDS` says how many (200), `SIM_SEED` replays one of them with its trace.

use std::time::Instant;

use basalt_tests::sim;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Things of which a run over many seeds must have seen plenty: else the simulation has gone blind.
const SEEN: [&str; 22] = [
    "committed",
    "requests",
    "starts",
    "unknown outcomes",
    "late commits",
    "elections",
    "crashes",
    "reboots",
    "partitions",
    "guests exited",
    "failed steps",
    "stray commands",
    "leftovers",
    "machines lost",
    "members removed",
    "snapshots restored",
    "snapshots",
    "restores",
    "copies",
    "volumes moved",
    "orders done",
    "came back",
];

#[test]
fn all_seeds_hold() {
    if let Some(seed) = number("SIM_SEED") {
        match sim::run(seed, true) {
            Ok(counts) => println!("seed {seed} holds: {counts:?}"),
            Err(failure) => panic!("{failure}"),
        }
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(200);
    let fresh: u64 = SmallRng::from_os_rng().random();
    println!("seeds 0 to {}, and a fresh one: SIM_SEED={fresh}", seeds.saturating_sub(1));
    let begin = Instant::now();
    let mut seen = sim::Counts::new();
    for seed in (0..seeds).chain([fresh]) {
        match sim::run(seed, false) {
            Ok(counts) => {
                for (what, count) in counts {
                    *seen.entry(what).or_default() += count;
                }
            }
            Err(failure) => panic!("{}", sim::run(seed, true).err().unwrap_or(failure)),
        }
    }
    println!("{} seeds held in {:?}: {seen:?}", seeds + 1, begin.elapsed());
    for what in SEEN.iter().filter(|_| seeds >= 50) {
        assert!(seen.get(what).is_some_and(|count| *count >= 10), "hardly any {what}: {seen:?}");
    }
}

/// The same seed does the same again: without it, a seed would be no replay.
#[test]
fn a_seed_is_a_replay() {
    for seed in [3, 1 << 40] {
        let (first, again) = (sim::run(seed, true), sim::run(seed, true));
        match (first, again) {
            (Ok(first), Ok(again)) => assert_eq!(first, again),
            (Err(failure), _) | (_, Err(failure)) => panic!("{failure}"),
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}
