//! Names of the node's own metrics. Units are in the names; registered by argument, never global.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn seconds(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Histogram> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

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
        let counter = |name, help| counter(registry, name, help);
        Ok(AgentMetrics {
            passes: counter("basalt_agent_passes_total", "Full passes over this host.")?,
            pass_seconds: seconds(registry, "basalt_agent_pass_seconds", "Time that a full pass over this host took.")?,
            steps: counter("basalt_agent_steps_total", "Steps carried out on this host.")?,
            failures: counter("basalt_agent_step_failures_total", "Steps that failed and were reported.")?,
            deferred: counter("basalt_agent_deferred_total", "Passes put off because something else was in the way.")?,
            orphans: counter("basalt_agent_orphans_total", "Instances removed because they have no home here.")?,
        })
    }
}

/// What the leader's scheduler counts. A member that does not lead adds nothing.
#[derive(Debug, Clone)]
pub struct SchedulerMetrics {
    pub passes: IntCounter,
    pub pass_seconds: Histogram,
    pub placed: IntCounter,
    pub refused: IntCounter,
    pub failures: IntCounter,
}

impl SchedulerMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name that is registered already: two members were given one registry.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| counter(registry, name, help);
        Ok(SchedulerMetrics {
            passes: counter("basalt_scheduler_passes_total", "Passes in which instances waited for a home.")?,
            pass_seconds: seconds(
                registry,
                "basalt_scheduler_pass_seconds",
                "Time that such a pass took, with its proposals.",
            )?,
            placed: counter("basalt_scheduler_placed_total", "Instances that were given a home.")?,
            refused: counter("basalt_scheduler_refused_total", "Instances for which no member was fit.")?,
            failures: counter("basalt_scheduler_failures_total", "Decisions that could not be committed.")?,
        })
    }
}

/// What the leader's network controller counts. A member that does not lead adds nothing.
#[derive(Debug, Clone)]
pub struct NetworkMetrics {
    pub passes: IntCounter,
    pub pass_seconds: Histogram,
    pub transactions: IntCounter,
    pub refusals: IntCounter,
    pub repairs: RepairMetrics,
}

/// Rows of logical networks that somebody had a hand in, by what was wrong with them.
#[derive(Debug, Clone)]
pub struct RepairMetrics {
    pub missing: IntCounter,
    pub altered: IntCounter,
    pub reference: IntCounter,
    pub surplus: IntCounter,
}

impl NetworkMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name that is registered already: two members were given one registry.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| counter(registry, name, help);
        let repairs = IntCounterVec::new(
            Opts::new(
                "basalt_network_repairs_total",
                "Northbound rows that were not as they had been written, by fault.",
            ),
            &["fault"],
        )?;
        registry.register(Box::new(repairs.clone()))?;
        let repairs = |fault: &str| repairs.get_metric_with_label_values(&[fault]);
        Ok(NetworkMetrics {
            passes: counter("basalt_network_passes_total", "Comparisons of logical networks with the database.")?,
            pass_seconds: seconds(
                registry,
                "basalt_network_pass_seconds",
                "Time that such a comparison took, with its transactions.",
            )?,
            transactions: counter("basalt_network_transactions_total", "Northbound transactions that were committed.")?,
            refusals: counter("basalt_network_refusals_total", "Northbound transactions that the database refused.")?,
            repairs: RepairMetrics {
                missing: repairs("missing")?,
                altered: repairs("altered")?,
                reference: repairs("reference")?,
                surplus: repairs("surplus")?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts are written against these.
    #[test]
    fn names_are_what_they_were() {
        let registry = Registry::new();
        AgentMetrics::register(&registry).unwrap();
        SchedulerMetrics::register(&registry).unwrap();
        NetworkMetrics::register(&registry).unwrap();
        let names: Vec<String> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        let golden = [
            "basalt_agent_deferred_total",
            "basalt_agent_orphans_total",
            "basalt_agent_pass_seconds",
            "basalt_agent_passes_total",
            "basalt_agent_step_failures_total",
            "basalt_agent_steps_total",
            "basalt_network_pass_seconds",
            "basalt_network_passes_total",
            "basalt_network_refusals_total",
            "basalt_network_repairs_total",
            "basalt_network_transactions_total",
            "basalt_scheduler_failures_total",
            "basalt_scheduler_pass_seconds",
            "basalt_scheduler_passes_total",
            "basalt_scheduler_placed_total",
            "basalt_scheduler_refused_total",
        ];
        assert_eq!(names, golden);
    }
}
