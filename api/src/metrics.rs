//! The metrics page: instances under LXD's or Incus's names (§4 of the contract), and what is registered under ours.

mod text;

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{HistogramOpts, HistogramVec, Registry};

pub(crate) use text::{Daemon, Names, Sample, page};

/// Time from a request's arrival to the head of its answer.
pub(crate) const REQUEST_SECONDS: &str = "basalt_api_request_duration_seconds";

/// Metrics of the API itself.
#[derive(Debug, Clone)]
pub(crate) struct ApiMetrics {
    requests: Option<HistogramVec>,
}

impl ApiMetrics {
    /// Registers them; a registry that has them already keeps its own.
    pub(crate) fn register(registry: &Registry) -> Self {
        let options = HistogramOpts::new(REQUEST_SECONDS, "Time from a request's arrival to the head of its answer.")
            .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        let requests = HistogramVec::new(options, &["class", "method"])
            .and_then(|requests| registry.register(Box::new(requests.clone())).map(|()| requests))
            .inspect_err(|error| tracing::error!(%error, "API metrics are not available"))
            .ok();
        ApiMetrics { requests }
    }

    pub(crate) fn answered(&self, method: &Method, status: StatusCode, took: Duration) {
        // Closed sets: a caller must not be able to make series.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "PUT" | "POST" | "PATCH" | "DELETE") => known,
            _ => "other",
        };
        let class = match status.as_u16() / 100 {
            2 => "2xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        };
        if let Some(requests) = &self.requests {
            requests.with_label_values(&[class, method]).observe(took.as_secs_f64());
        }
    }
}
