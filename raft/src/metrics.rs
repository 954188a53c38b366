//! What the group tells of itself, in the registry that is given.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Names are part of the interface; a golden test guards them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) term: IntGauge,
    pub(crate) leader: IntGauge,
    pub(crate) is_leader: IntGauge,
    pub(crate) applied_index: IntGauge,
    pub(crate) last_log_index: IntGauge,
    pub(crate) log_entries: IntGauge,
    pub(crate) voters: IntGauge,
    pub(crate) learners: IntGauge,
    pub(crate) leader_changes: IntCounter,
    pub(crate) snapshots: IntCounter,
    pub(crate) snapshot_failures: IntCounter,
    pub(crate) proposals_failed: IntCounter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) fsync_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let seconds = |name: &str, help: &str| -> prometheus::Result<Histogram> {
            let buckets = prometheus::exponential_buckets(0.000_1, 2.0, 16)?;
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        Ok(Metrics {
            term: gauge("basalt_raft_term", "Term of the group, as this member knows it.")?,
            leader: gauge("basalt_raft_leader", "Node id of the leader; 0 when none is known.")?,
            is_leader: gauge("basalt_raft_is_leader", "1 when this member leads.")?,
            applied_index: gauge("basalt_raft_applied_index", "Index of the last entry that was applied here.")?,
            last_log_index: gauge("basalt_raft_last_log_index", "Index of the last entry in this member's log.")?,
            log_entries: gauge("basalt_raft_log_entries", "Entries in this member's log that are not purged.")?,
            voters: gauge("basalt_raft_voters", "Members that vote.")?,
            learners: gauge("basalt_raft_learners", "Members that follow without a vote.")?,
            leader_changes: counter("basalt_raft_leader_changes_total", "Changes of the leader seen by this member.")?,
            snapshots: counter("basalt_raft_snapshots_total", "Snapshots written by this member.")?,
            snapshot_failures: counter("basalt_raft_snapshot_failures_total", "Snapshots that could not be written.")?,
            proposals_failed: counter(
                "basalt_raft_proposals_failed_total",
                "Proposals of this member that were not acknowledged (refusals by apply are answers and not counted).",
            )?,
            commit_seconds: seconds("basalt_raft_commit_seconds", "From proposal to applied here.")?,
            fsync_seconds: seconds("basalt_raft_fsync_seconds", "Writing and syncing one group commit.")?,
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
        Metrics::register(&registry).unwrap();
        let names: Vec<String> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        let golden = [
            "basalt_raft_applied_index",
            "basalt_raft_commit_seconds",
            "basalt_raft_fsync_seconds",
            "basalt_raft_is_leader",
            "basalt_raft_last_log_index",
            "basalt_raft_leader",
            "basalt_raft_leader_changes_total",
            "basalt_raft_learners",
            "basalt_raft_log_entries",
            "basalt_raft_proposals_failed_total",
            "basalt_raft_snapshot_failures_total",
            "basalt_raft_snapshots_total",
            "basalt_raft_term",
            "basalt_raft_voters",
        ];
        assert_eq!(names, golden);
        assert!(Metrics::register(&registry).is_err(), "one member, one registry");
    }
}
