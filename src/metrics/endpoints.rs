//! The metrics of the endpoints of upstreams.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Registrar;
use super::families::{ENDPOINT_ACTIVE, ENDPOINT_REQUESTS, FAILOVERS};

/// The metrics of the endpoints of one upstream.
#[derive(Clone, Debug)]
pub struct EndpointMetrics {
    /// How often another endpoint became the active one.
    pub failovers: IntCounter,
    requests: IntCounterVec,
    active: IntGaugeVec,
    upstream: Box<str>,
}

impl EndpointMetrics {
    /// Those of the endpoint with this authority, which the configuration names: its requests, and whether it is the active one.
    #[must_use]
    pub fn of(&self, authority: &str) -> (IntCounter, IntGauge) {
        let labels = [&*self.upstream, authority];
        (self.requests.with_label_values(&labels), self.active.with_label_values(&labels))
    }
}

/// The families, from which those of each upstream are made.
pub(super) struct EndpointFamilies {
    failovers: IntCounterVec,
    requests: IntCounterVec,
    active: IntGaugeVec,
}

impl EndpointFamilies {
    pub(super) fn new(registrar: &Registrar) -> Self {
        Self {
            failovers: registrar.counters(&FAILOVERS),
            requests: registrar.counters(&ENDPOINT_REQUESTS),
            active: registrar.gauges(&ENDPOINT_ACTIVE),
        }
    }

    pub(super) fn of(&self, upstream: &str) -> EndpointMetrics {
        EndpointMetrics {
            failovers: self.failovers.with_label_values(&[upstream]),
            requests: self.requests.clone(),
            active: self.active.clone(),
            upstream: upstream.into(),
        }
    }
}
