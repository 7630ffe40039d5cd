//! The metrics of reloads.

use prometheus::{IntCounter, IntGauge};

use super::Registrar;
use super::families::{RELOAD_SUCCESSFUL, RELOADED_AT, RELOADS};
use crate::clock::Timestamp;

/// What is counted of reloads of the configuration.
#[derive(Clone, Debug)]
pub struct ReloadMetrics {
    applied: IntCounter,
    refused: IntCounter,
    unchanged: IntCounter,
    is_last_successful: IntGauge,
    applied_at: IntGauge,
}

impl ReloadMetrics {
    pub(super) fn new(registrar: &Registrar) -> Self {
        let reloads = registrar.counters(&RELOADS);
        let is_last_successful = registrar.gauge(&RELOAD_SUCCESSFUL);
        is_last_successful.set(1);
        Self {
            applied: reloads.with_label_values(&["applied"]),
            refused: reloads.with_label_values(&["refused"]),
            unchanged: reloads.with_label_values(&["unchanged"]),
            is_last_successful,
            applied_at: registrar.gauge(&RELOADED_AT),
        }
    }

    /// Counts a reload that changed something.
    pub fn applied(&self, now: Timestamp) {
        self.applied.inc();
        self.is_last_successful.set(1);
        self.applied_at.set(now.as_unix_seconds());
    }

    /// Counts a reload that found what was in force already.
    pub fn unchanged(&self) {
        self.unchanged.inc();
        self.is_last_successful.set(1);
    }

    /// Counts a reload that was refused.
    pub fn refused(&self) {
        self.refused.inc();
        self.is_last_successful.set(0);
    }
}
