//! The budget of requests: how far lifetimes stretch so that a quota lasts, and which response answers then.
//!
//! The forecast of a window is what was used, and what the present rates will use until its end. While it is at most [`RELAXED`] of the
//! quota, nothing is stretched. Above, lifetimes grow so that what validates them fits in what is left above the reserve:
//!
//! ```text
//! stretch = validations that full lifetimes would need until the end ÷ (quota − reserve − margin − used − other requests until the end)
//! ```
//!
//! Only lifetimes that the operator gave (`freshness`) stretch. One that the origin named is a promise to its clients, and what a caller
//! demands (`max-age`, `min-fresh`) is obeyed. The rules of coverage hold as before: stretched is the time within which changes that
//! nobody has shown yet are found.

use std::time::Duration;

use super::age::current_age;
use super::reuse::describe;
use super::{Reuse, Staleness};
use crate::clock::Timestamp;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;

/// The part of the quota up to which a forecast changes nothing.
pub const RELAXED: f64 = 0.8;

/// Rates are estimates: so much of the quota is left unplanned, so that reads are not held at the end of a window.
const MARGIN: f64 = 0.02;

/// What is known of a window of a quota.
#[derive(Clone, Copy, Debug)]
pub struct WindowUse {
    /// Requests that the window allows.
    pub quota: f64,
    /// Requests of them that were sent.
    pub used: f64,
    /// How much of the quota is kept for writes and unknown sync tokens, as a part of it.
    pub reserve: f64,
    /// What is left of the window.
    pub remaining: Duration,
    /// Validations a second that there would be if no lifetime were stretched.
    pub validations_per_second: f64,
    /// Other requests a second.
    pub others_per_second: f64,
}

impl WindowUse {
    /// What will have been used at the end, as a part of the quota, if nothing is stretched.
    #[must_use]
    pub fn forecast(&self) -> f64 {
        let rates = self.validations_per_second + self.others_per_second;
        (self.used + rates * self.remaining.as_secs_f64()) / self.quota
    }

    /// By which factor lifetimes stretch: from 1 to `limit`.
    #[must_use]
    pub fn stretch(&self, limit: f64) -> f64 {
        let forecast = self.forecast();
        if forecast <= RELAXED {
            return 1.0;
        }
        let remaining_seconds = self.remaining.as_secs_f64();
        let others = self.others_per_second * remaining_seconds;
        let left = self.quota * (1.0 - self.reserve - MARGIN) - self.used - others;
        // Sets in gently: just above what is relaxed, little is taken.
        let taken = 1.0 - (1.0 - RELAXED / (1.0 - self.reserve)).max(0.0) * RELAXED / forecast;
        let needed = self.validations_per_second * remaining_seconds;
        if needed <= 0.0 {
            1.0
        } else if left <= 0.0 {
            limit
        } else {
            (needed / (left * taken)).clamp(1.0, limit)
        }
    }
}

/// The lifetime of a stored response under this stretch.
#[must_use]
pub fn stretched_lifetime(stored: &StoredResponse, stretch: f64) -> Duration {
    let lifetime = stored.policy.freshness_lifetime;
    if stored.policy.configured { lifetime.mul_f64(stretch) } else { lifetime }
}

/// How a response answers that would be validated because its lifetime is over, if its stretched lifetime is not.
#[must_use]
pub fn within_stretched_lifetime(
    request: &PresentedRequest,
    stored: &StoredResponse,
    stretch: f64,
    now: Timestamp,
) -> Option<Reuse> {
    let (age, lifetime) = (current_age(stored, now), stretched_lifetime(stored, stretch));
    let directives = &request.directives;
    let is_bounded = directives.max_age.is_some() || directives.min_fresh.is_some();
    (age < lifetime && !is_bounded).then(|| describe(age, lifetime, Staleness::Stretched))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, get, stored};
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The whole hour lies ahead; demand as a part of the quota.
    fn at_start(demand: f64) -> WindowUse {
        WindowUse {
            quota: 30_000.0,
            used: 0.0,
            reserve: 0.1,
            remaining: HOUR,
            validations_per_second: demand * 30_000.0 / 3600.0,
            others_per_second: 0.0,
        }
    }

    #[test]
    fn nothing_stretches_up_to_four_fifths_of_the_quota() {
        assert_eq!(at_start(0.8).stretch(6.0), 1.0);
        let stretch = at_start(0.85).stretch(6.0);
        assert!((1.0..1.1).contains(&stretch), "{stretch}");
        let nothing = WindowUse { validations_per_second: 0.0, used: 29_000.0, ..at_start(0.0) };
        assert_eq!(nothing.stretch(6.0), 1.0);
    }

    #[test]
    fn at_five_times_the_quota_lifetimes_stretch_less_than_six_fold() {
        let stretch = at_start(5.0).stretch(6.0);
        assert!((5.5..6.0).contains(&stretch), "{stretch}");
        assert_eq!(at_start(50.0).stretch(6.0), 6.0, "and never more");
    }

    #[test]
    fn what_is_left_counts_and_writes_come_first() {
        let late = WindowUse { used: 24_500.0, remaining: Duration::from_secs(300), ..at_start(0.5) };
        assert_eq!(late.stretch(6.0), 1.0, "what is left suffices");
        let exhausted = WindowUse { used: 27_500.0, ..late };
        assert_eq!(exhausted.stretch(6.0), 6.0);
        let writing = WindowUse { others_per_second: 0.4 * 30_000.0 / 3600.0, ..at_start(1.0) };
        assert!(writing.stretch(6.0) > at_start(1.0).stretch(6.0));
    }

    #[test]
    fn only_the_operators_lifetimes_stretch_and_callers_demands_are_obeyed() {
        let mut response = stored(200, &[("cache-control", "max-age=10")]);
        let then = NOW.plus(Duration::from_secs(15));
        assert!(within_stretched_lifetime(&get(&[]), &response, 2.0, then).is_none(), "the origin's own");
        response.policy.configured = true;
        let reuse = within_stretched_lifetime(&get(&[]), &response, 2.0, then).unwrap();
        assert_eq!((reuse.ttl_seconds, reuse.staleness), (5, Staleness::Stretched));
        assert!(within_stretched_lifetime(&get(&[]), &response, 1.0, then).is_none());
        let demanding = get(&[("cache-control", "max-age=60")]);
        assert!(within_stretched_lifetime(&demanding, &response, 2.0, then).is_none());
    }
}
