//! The metrics of fleets.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::families::{
    FLEET_ANNOUNCE_SECONDS, FLEET_ANNOUNCEMENTS, FLEET_ENTRIES, FLEET_EPOCHS, FLEET_FAILURES, FLEET_LIVE,
    FLEET_RECORDS,
};
use super::{Registrar, at_zero};

/// The metrics of one upstream's membership.
#[derive(Clone, Debug)]
pub struct FleetMetrics {
    /// Whether the lease is live.
    pub live: IntGauge,
    /// Own writes that the engine has.
    pub announced: IntCounter,
    /// Own writes that it has not.
    pub unannounced: IntCounter,
    /// Own writes that not every member confirmed before its lease ran out.
    pub unconfirmed: IntCounter,
    /// How long an announcement took.
    pub announce_seconds: Histogram,
    /// How often everything stored was to be validated.
    pub epochs: IntCounter,
    failures: IntCounterVec,
    entries: IntCounterVec,
    records: IntCounterVec,
    upstream: Box<str>,
}

impl FleetMetrics {
    /// The name of the upstream.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Counts a failure of the engine.
    pub fn failed(&self, reason: &'static str) {
        self.failures.with_label_values(&[&*self.upstream, reason]).inc();
    }

    /// Counts an entry of another member.
    pub fn heard(&self, what: &'static str) {
        self.entries.with_label_values(&[&*self.upstream, what]).inc();
    }

    /// Counts what became of a look at a record.
    pub fn record(&self, outcome: &'static str) {
        self.records.with_label_values(&[&*self.upstream, outcome]).inc();
    }

    /// Puts these reasons of failures at zero, and what is heard and recorded.
    pub fn count_from_zero(&self, reasons: &[&'static str]) {
        at_zero(&self.failures, &self.upstream, reasons);
        at_zero(&self.entries, &self.upstream, &["write", "change", "tokens", "anything", "refused"]);
        at_zero(&self.records, &self.upstream, &["taken", "asked", "alone", "published", "refused"]);
    }
}

/// The families, from which those of each upstream are made.
pub(super) struct FleetFamilies {
    live: IntGaugeVec,
    announcements: IntCounterVec,
    announce_seconds: HistogramVec,
    epochs: IntCounterVec,
    failures: IntCounterVec,
    entries: IntCounterVec,
    records: IntCounterVec,
}

/// Bounds in seconds, from an engine on the same machine to the longest lease.
const BOUNDS: [f64; 11] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.0, 10.0];

impl FleetFamilies {
    pub(super) fn new(registrar: &Registrar) -> Self {
        let seconds = HistogramOpts::new(FLEET_ANNOUNCE_SECONDS.name, FLEET_ANNOUNCE_SECONDS.meaning);
        let seconds = seconds.buckets(BOUNDS.to_vec());
        Self {
            live: registrar.gauges(&FLEET_LIVE),
            announcements: registrar.counters(&FLEET_ANNOUNCEMENTS),
            announce_seconds: registrar.register(HistogramVec::new(seconds, FLEET_ANNOUNCE_SECONDS.labels)),
            epochs: registrar.counters(&FLEET_EPOCHS),
            failures: registrar.counters(&FLEET_FAILURES),
            entries: registrar.counters(&FLEET_ENTRIES),
            records: registrar.counters(&FLEET_RECORDS),
        }
    }

    pub(super) fn of(&self, upstream: &str) -> FleetMetrics {
        let announcements = |outcome| self.announcements.with_label_values(&[upstream, outcome]);
        FleetMetrics {
            live: self.live.with_label_values(&[upstream]),
            announced: announcements("announced"),
            unannounced: announcements("failed"),
            unconfirmed: announcements("unconfirmed"),
            announce_seconds: self.announce_seconds.with_label_values(&[upstream]),
            epochs: self.epochs.with_label_values(&[upstream]),
            failures: self.failures.clone(),
            entries: self.entries.clone(),
            records: self.records.clone(),
            upstream: upstream.into(),
        }
    }
}
