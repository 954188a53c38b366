//! A deterministic simulation of the replicated state and everything that works on it: one thread, one seed, no clock.
//!
//! ```text
//!   client --propose--+                         +--> replica 1..n: apply, each at its own pace --view--> agent: real planner
//!   controllers ------+--> log (the oracle of --+                                           |--view--> controllers: real scheduler
//!   agents -----------+     what is committed)                                              +--view--> client
//!      ^                                                                                                |
//!      +------------------------- host: guests and volumes, which outlive the agent <--one effect at a time
//! ```
//!
//! Real: the state machine, the scheduler, the planner and what it wants. Simulated: consensus (an append-only list with
//! a leader that comes and goes), the host, and the few lines that carry plans out (they mirror `agent/{task,execute}`).
//!
//! **Faults.** Proposals that are lost, or whose answer is lost, or that get through much later than their answer;
//! replicas that lag, restart from a snapshot, or are cut off with a minority; agents killed between any two effects;
//! hosts that reboot or burn down; guests that exit by themselves; steps that fail; leftovers of an earlier stay on a
//! host; reports and other commands under an epoch that is not theirs.
//!
//! **Oracle.** See `oracle`: after every step, and once more when the faults have stopped and all has come to rest.
//!
//! **Failure.** [`run`] returns what went wrong with the seed and the last things that happened; the same seed does the
//! same again.

mod act;
mod agent;
mod client;
mod host;
mod landing;
mod log;
mod node;
mod oracle;
mod rest;
mod world;

use std::collections::BTreeMap;
use std::fmt;

/// How many random actions a run takes before the faults stop.
const STEPS: u64 = 1800;

/// What happened in a run, by name: a simulation in which nothing happens proves nothing.
pub type Counts = BTreeMap<&'static str, u64>;

/// A run that went wrong.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub step: u64,
    pub what: String,
    /// The last things that happened, oldest first; empty unless asked for.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {} went wrong at step {}: {}", self.seed, self.step, self.what)?;
        write!(f, "replay: SIM_SEED={} cargo test --workspace --test sim -- --nocapture", self.seed)
    }
}

/// Runs one seed to its end.
///
/// # Errors
/// What was found wrong, and when.
pub fn run(seed: u64, trace: bool) -> Result<Counts, Box<Failure>> {
    let mut world = world::World::new(seed, trace);
    let outcome = play(&mut world);
    match outcome {
        Ok(()) => Ok(world.counts),
        Err(what) => {
            Err(Box::new(Failure { seed, step: world.now, what, trace: world.trace.map_or_else(Vec::new, Into::into) }))
        }
    }
}

fn play(world: &mut world::World) -> Result<(), String> {
    for _ in 0..STEPS {
        world.now += 1;
        act::any(world)?;
        oracle::after_step(world)?;
    }
    rest::come_to_rest(world)?;
    oracle::at_rest(world)
}
