//! The budget of an upstream: what its quota allows.

use std::time::Duration;

use clap::ValueEnum;

use super::key::DAY;
use super::section::section;
use super::values::Word;

/// The tiers of Azure App Configuration, which have quotas of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StoreTier {
    /// None: the numbers count.
    #[default]
    None,
    /// 1,000 requests a day.
    Free,
    /// 6,000 requests an hour.
    Developer,
    /// 30,000 requests an hour, 300 reads and 60 writes a second.
    Standard,
    /// 450 reads and 100 writes a second.
    Premium,
}

impl Word for StoreTier {}

section! {
    /// What the origin's quota allows. Zero is no limit.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BudgetSettings in "upstream.budget" {
        /// A tier with its numbers.
        pub tier: StoreTier = "none", not_inherited();
        /// Requests in each window.
        pub(crate) configured_requests as "requests": usize = "0", within(0, 1_000_000_000), not_inherited();
        /// The length of a window; windows are those of the clock.
        pub(crate) configured_window as "window": Duration = "1h", within(1_000, DAY);
        /// Reads a second.
        pub(crate) configured_reads as "reads_per_second": usize = "0", within(0, 1_000_000), not_inherited();
        /// Writes a second.
        pub(crate) configured_writes as "writes_per_second": usize = "0", within(0, 1_000_000), not_inherited();
        /// How many percent of all these are for this sidecar.
        pub share_percent as "share": usize = "100", within(1, 100), not_inherited();
        /// How many percent are kept for writes and unknown sync tokens.
        pub reserve_percent as "reserve": usize = "5", within(0, 50);
        /// How many times longer a lifetime may become.
        pub(crate) configured_stretch_limit as "stretch_limit": usize = "6", within(1, 100);
    }
}

impl BudgetSettings {
    /// Requests that this sidecar may send in each window; `None` is no limit.
    #[must_use]
    pub fn quota(&self) -> Option<f64> {
        let requests = match self.tier {
            StoreTier::None | StoreTier::Premium => self.configured_requests,
            StoreTier::Free => 1_000,
            StoreTier::Developer => 6_000,
            StoreTier::Standard => 30_000,
        };
        (requests > 0).then(|| requests as f64 * self.share())
    }

    /// The length of a window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        match self.tier {
            StoreTier::Free => Duration::from_secs(24 * 3600),
            StoreTier::Developer | StoreTier::Standard => Duration::from_secs(3600),
            StoreTier::None | StoreTier::Premium => self.configured_window,
        }
    }

    /// Reads a second that this sidecar may send; 0 is no limit.
    #[must_use]
    pub const fn reads_per_second(&self) -> usize {
        self.shared(match self.tier {
            StoreTier::Standard => 300,
            StoreTier::Premium => 450,
            StoreTier::None | StoreTier::Free | StoreTier::Developer => self.configured_reads,
        })
    }

    /// Writes a second that this sidecar may send; 0 is no limit.
    #[must_use]
    pub const fn writes_per_second(&self) -> usize {
        self.shared(match self.tier {
            StoreTier::Standard => 60,
            StoreTier::Premium => 100,
            StoreTier::None | StoreTier::Free | StoreTier::Developer => self.configured_writes,
        })
    }

    /// The part that is kept for writes and unknown sync tokens.
    #[must_use]
    pub fn reserve(&self) -> f64 {
        self.reserve_percent as f64 / 100.0
    }

    /// By which factor lifetimes may stretch.
    #[must_use]
    pub fn stretch_limit(&self) -> f64 {
        self.configured_stretch_limit as f64
    }

    /// Whether there is any limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.quota().is_some() || self.reads_per_second() > 0 || self.writes_per_second() > 0
    }

    fn share(&self) -> f64 {
        self.share_percent as f64 / 100.0
    }

    const fn shared(&self, per_second: usize) -> usize {
        // At least one, where there is a limit at all.
        (per_second * self.share_percent).div_ceil(100)
    }
}
