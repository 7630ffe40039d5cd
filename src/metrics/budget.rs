//! The metrics of budgets.

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, Opts};

use super::Registrar;
use super::families::{BUDGET_AVOIDED, BUDGET_FORECAST, BUDGET_HELD, BUDGET_STRETCH, BUDGET_USED};

/// The metrics of the budget of one upstream.
#[derive(Clone, Debug)]
pub struct BudgetMetrics {
    /// What was used of the window, as a part of the quota.
    pub used_ratio: Gauge,
    /// What will have been used at its end if nothing is stretched.
    pub forecast_ratio: Gauge,
    /// By which factor lifetimes are stretched.
    pub stretch: Gauge,
    /// Validations that longer lifetimes saved.
    pub avoided: IntCounter,
    /// Reads that were not sent.
    pub held: IntCounter,
}

/// The families, from which those of each upstream are made.
pub(super) struct BudgetFamilies {
    used_ratio: GaugeVec,
    forecast_ratio: GaugeVec,
    stretch: GaugeVec,
    avoided: IntCounterVec,
    held: IntCounterVec,
}

impl BudgetFamilies {
    pub(super) fn new(registrar: &Registrar) -> Self {
        let gauges = |family: &super::Family| {
            registrar.register(GaugeVec::new(Opts::new(family.name, family.meaning), family.labels))
        };
        Self {
            used_ratio: gauges(&BUDGET_USED),
            forecast_ratio: gauges(&BUDGET_FORECAST),
            stretch: gauges(&BUDGET_STRETCH),
            avoided: registrar.counters(&BUDGET_AVOIDED),
            held: registrar.counters(&BUDGET_HELD),
        }
    }

    pub(super) fn of(&self, upstream: &str) -> BudgetMetrics {
        BudgetMetrics {
            used_ratio: self.used_ratio.with_label_values(&[upstream]),
            forecast_ratio: self.forecast_ratio.with_label_values(&[upstream]),
            stretch: self.stretch.with_label_values(&[upstream]),
            avoided: self.avoided.with_label_values(&[upstream]),
            held: self.held.with_label_values(&[upstream]),
        }
    }
}
