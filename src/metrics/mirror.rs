//! The metrics of mirrors.

use std::time::Duration;

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::families::{
    MIRROR_AUDITS, MIRROR_BYTES, MIRROR_GIVE_UPS, MIRROR_ITEMS, MIRROR_LOAD, MIRROR_OLDEST, MIRROR_RANGES,
    MIRROR_VALIDATIONS,
};
use super::{Registrar, at_zero};

/// The metrics of the mirror of one upstream.
#[derive(Clone, Debug)]
pub struct MirrorMetrics {
    /// Ranges that were as they are held.
    pub unchanged: IntCounter,
    /// Ranges of which a body came.
    pub changed: IntCounter,
    /// Ranges that were asked for in vain.
    pub failed: IntCounter,
    /// Audits that found what is held.
    pub audits_same: IntCounter,
    /// Audits that found something else.
    pub audits_different: IntCounter,
    ranges: IntGauge,
    items: IntGauge,
    bytes: IntGauge,
    oldest_seconds: IntGauge,
    load_seconds: Gauge,
    give_ups: IntCounterVec,
    upstream: Box<str>,
}

impl MirrorMetrics {
    /// Sets what is held.
    pub fn observe(&self, ranges: usize, items: usize, bytes: usize) {
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.ranges.set(whole(ranges));
        self.items.set(whole(items));
        self.bytes.set(whole(bytes));
    }

    /// Sets how long ago the least recent validation was.
    pub fn observe_oldest(&self, age: Duration) {
        self.oldest_seconds.set(whole_seconds(age));
    }

    /// Sets how long a load took.
    pub fn observe_load(&self, took: Duration) {
        self.load_seconds.set(took.as_secs_f64());
    }

    /// Counts that the mirror gave up.
    pub fn gave_up(&self, reason: &'static str) {
        self.give_ups.with_label_values(&[&*self.upstream, reason]).inc();
    }

    /// Puts these reasons at zero.
    pub fn count_from_zero(&self, reasons: &[&'static str]) {
        at_zero(&self.give_ups, &self.upstream, reasons);
    }
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The families, from which those of each upstream are made.
pub(super) struct MirrorFamilies {
    ranges: IntGaugeVec,
    items: IntGaugeVec,
    bytes: IntGaugeVec,
    validations: IntCounterVec,
    audits: IntCounterVec,
    oldest_seconds: IntGaugeVec,
    load_seconds: GaugeVec,
    give_ups: IntCounterVec,
}

impl MirrorFamilies {
    pub(super) fn new(registrar: &Registrar) -> Self {
        Self {
            ranges: registrar.gauges(&MIRROR_RANGES),
            items: registrar.gauges(&MIRROR_ITEMS),
            bytes: registrar.gauges(&MIRROR_BYTES),
            validations: registrar.counters(&MIRROR_VALIDATIONS),
            audits: registrar.counters(&MIRROR_AUDITS),
            oldest_seconds: registrar.gauges(&MIRROR_OLDEST),
            load_seconds: registrar.register(GaugeVec::new(
                Opts::new(MIRROR_LOAD.name, MIRROR_LOAD.meaning),
                MIRROR_LOAD.labels,
            )),
            give_ups: registrar.counters(&MIRROR_GIVE_UPS),
        }
    }

    pub(super) fn of(&self, upstream: &str) -> MirrorMetrics {
        let validations = |outcome| self.validations.with_label_values(&[upstream, outcome]);
        let audits = |outcome| self.audits.with_label_values(&[upstream, outcome]);
        MirrorMetrics {
            unchanged: validations("unchanged"),
            changed: validations("changed"),
            failed: validations("failed"),
            audits_same: audits("same"),
            audits_different: audits("different"),
            ranges: self.ranges.with_label_values(&[upstream]),
            items: self.items.with_label_values(&[upstream]),
            bytes: self.bytes.with_label_values(&[upstream]),
            oldest_seconds: self.oldest_seconds.with_label_values(&[upstream]),
            load_seconds: self.load_seconds.with_label_values(&[upstream]),
            give_ups: self.give_ups.clone(),
            upstream: upstream.into(),
        }
    }
}
