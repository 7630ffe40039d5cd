//! The metrics of the snapshot file.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::Registrar;
use super::families::{
    SNAPSHOT_BYTES, SNAPSHOT_REFUSALS, SNAPSHOT_RESTORED, SNAPSHOT_WRITES, SNAPSHOT_WRITTEN,
};
use crate::clock::Timestamp;

/// What is counted of the snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotMetrics {
    writes: IntCounter,
    failures: IntCounter,
    size_bytes: IntGauge,
    written_at: IntGauge,
    restored_responses: IntGauge,
    restored_items: IntGauge,
    refusals: IntCounterVec,
}

impl SnapshotMetrics {
    pub(super) fn new(registrar: &Registrar) -> Self {
        let writes = registrar.counters(&SNAPSHOT_WRITES);
        let restored = registrar.gauges(&SNAPSHOT_RESTORED);
        Self {
            failures: writes.with_label_values(&["failed"]),
            writes: writes.with_label_values(&["written"]),
            size_bytes: registrar.gauge(&SNAPSHOT_BYTES),
            written_at: registrar.gauge(&SNAPSHOT_WRITTEN),
            restored_items: restored.with_label_values(&["mirrored"]),
            restored_responses: restored.with_label_values(&["stored"]),
            refusals: registrar.counters(&SNAPSHOT_REFUSALS),
        }
    }

    /// Counts a write of so many bytes.
    pub fn written(&self, size_bytes: u64, now: Timestamp) {
        self.writes.inc();
        self.size_bytes.set(i64::try_from(size_bytes).unwrap_or(i64::MAX));
        self.written_at.set(now.as_unix_seconds());
    }

    /// Counts a write that failed.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// Sets what was restored.
    pub fn restored(&self, responses: usize, items: usize) {
        self.restored_responses.set(i64::try_from(responses).unwrap_or(i64::MAX));
        self.restored_items.set(i64::try_from(items).unwrap_or(i64::MAX));
    }

    /// Counts a refusal at the start.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Puts these reasons at zero.
    pub fn count_from_zero(&self, reasons: &[&'static str]) {
        for reason in reasons {
            self.refusals.with_label_values(&[reason]);
        }
    }
}
