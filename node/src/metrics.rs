//! Names of the node's own metrics. Units are in the names; registered by argument, never global.

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};

/// What the agent counts.
#[derive(Debug, Clone)]
pub struct AgentMetrics {
    pub passes: IntCounter,
    pub pass_seconds: Histogram,
    pub steps: IntCounter,
    pub failures: IntCounter,
    pub deferred: IntCounter,
    pub orphans: IntCounter,
}

impl AgentMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name that is registered already: two agents were given one registry.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let pass_seconds = Histogram::with_opts(HistogramOpts::new(
            "basalt_agent_pass_seconds",
            "Time that a full pass over this host took.",
        ))?;
        registry.register(Box::new(pass_seconds.clone()))?;
        Ok(AgentMetrics {
            passes: counter("basalt_agent_passes_total", "Full passes over this host.")?,
            pass_seconds,
            steps: counter("basalt_agent_steps_total", "Steps carried out on this host.")?,
            failures: counter("basalt_agent_step_failures_total", "Steps that failed and were reported.")?,
            deferred: counter("basalt_agent_deferred_total", "Passes put off because something else was in the way.")?,
            orphans: counter("basalt_agent_orphans_total", "Instances removed because they have no home here.")?,
        })
    }
}
