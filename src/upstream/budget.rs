//! The budget of one upstream: how many requests its quota allows, and how many are sent.
//!
//! ```text
//! every request ──▶ counted: window, rates ──▶ forecast ──▶ stretch, which the look-up and all that validates ahead of time ask for
//!                   reads ── used up but for the reserve ──▶ held: what is stored answers as if the origin throttled
//!                   a second's quota used up ──▶ waits for its turn, up to a second
//! ```
//!
//! [`decide::stretch`](crate::decide::stretch) has the rule. Windows are those of the clock, as the service counts them: hours on the hour,
//! days at midnight UTC. Other clients of the same store are not seen: `share` says how much of the quota is for this sidecar.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Upstream;
use super::result::UpstreamFailure;
use super::throttle::Pause;
use crate::clock::{Timestamp, instant};
use crate::config::budget::BudgetSettings;
use crate::decide::age::current_age;
use crate::decide::stretch::{WindowUse, stretched_lifetime};
use crate::metrics::BudgetMetrics;
use crate::stored_response::StoredResponse;

/// The part of a window over which rates are averaged: a minute of an hour, which is two default lifetimes. Over less, rates would rise
/// and fall where many responses are validated at the same time.
const AVERAGED_PART: f64 = 1.0 / 60.0;

/// How long a request waits for its turn within the quota of a second: one that a stored response may answer, and another.
const TURN_WAIT: Duration = Duration::from_secs(1);
const LONGEST_TURN_WAIT: Duration = Duration::from_secs(5);

/// How many requests of a second's quota may come at once, as a part of it; the rest of the quota is spread. Together they never exceed
/// it within any second.
const BURST_PART: f64 = 0.1;

/// What a request is for the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetedRequest {
    /// It validates what is stored: longer lifetimes save it.
    Validation,
    /// Another read.
    Read,
    /// A write, or a read that resolves unknown sync tokens: the reserve is for these.
    Reserved,
}

/// The budget of one upstream.
#[derive(Debug)]
pub struct Budget {
    settings: BudgetSettings,
    metrics: BudgetMetrics,
    state: Arc<Mutex<BudgetState>>,
}

#[derive(Debug)]
struct BudgetState {
    window_started: Timestamp,
    used: f64,
    /// Those that were sent, and those that longer lifetimes saved.
    validations: EventRate,
    others: EventRate,
    stretch: f64,
    reads: Turns,
    writes: Turns,
}

/// How many steps the time has over which rates are averaged.
const STEPS: usize = 12;

/// Events a second, averaged over the last steps: all of them are forgotten after that.
#[derive(Debug, Default)]
struct EventRate {
    /// Events in each step; the last is under way.
    steps: [f64; STEPS + 1],
    /// When the last step began.
    began: Timestamp,
}

impl EventRate {
    /// Forgets what is older than the time over which rates are averaged.
    fn forget(&mut self, now: Timestamp, averaged: Duration) {
        let step = averaged / u32::try_from(STEPS).unwrap_or(u32::MAX);
        let passed = now.since(self.began).as_micros() / step.as_micros().max(1);
        if passed > STEPS as u128 {
            *self = Self { steps: Default::default(), began: now };
            return;
        }
        for _ in 0..passed {
            self.steps.rotate_left(1);
            self.steps[STEPS] = 0.0;
            self.began = self.began.plus(step);
        }
    }

    fn count(&mut self) {
        self.steps[STEPS] += 1.0;
    }

    fn per_second(&self, now: Timestamp, averaged: Duration) -> f64 {
        let seconds = (averaged + now.since(self.began)).as_secs_f64();
        self.steps.iter().sum::<f64>() / seconds
    }
}

/// Who may go next within the quota of a second: a generic cell rate algorithm.
#[derive(Debug, Default)]
struct Turns {
    next: Option<Instant>,
}

impl Turns {
    /// How long the next request waits. `None` if that is too long; then no turn is taken.
    fn take(&mut self, per_second: usize, longest: Duration, now: Instant) -> Option<Duration> {
        if per_second == 0 {
            return Some(Duration::ZERO);
        }
        let (burst, spread) = (per_second as f64 * BURST_PART, per_second as f64 * (1.0 - BURST_PART));
        let turn = Duration::from_secs_f64(1.0 / spread.max(1.0));
        let next = self.next.unwrap_or(now).max(now);
        let ahead = next.duration_since(now);
        let wait = ahead.saturating_sub(turn.mul_f64((burst - 1.0).max(0.0)));
        if wait > longest {
            return None;
        }
        self.next = Some(next + turn);
        Some(wait)
    }
}

impl Budget {
    /// A budget of which nothing is used.
    #[must_use]
    pub fn new(settings: BudgetSettings, metrics: BudgetMetrics) -> Self {
        metrics.stretch.set(1.0);
        let state = BudgetState {
            window_started: Timestamp::default(),
            used: 0.0,
            validations: EventRate::default(),
            others: EventRate::default(),
            stretch: 1.0,
            reads: Turns::default(),
            writes: Turns::default(),
        };
        Self { settings, metrics, state: Arc::new(Mutex::new(state)) }
    }

    /// The same budget with other limits: what was used is used.
    #[must_use]
    pub fn with_settings(&self, settings: BudgetSettings) -> Self {
        Self { settings, metrics: self.metrics.clone(), state: Arc::clone(&self.state) }
    }

    /// The limits.
    #[must_use]
    pub const fn settings(&self) -> &BudgetSettings {
        &self.settings
    }

    /// By which factor the operator's lifetimes are stretched now.
    #[must_use]
    pub fn stretch(&self, now: Timestamp) -> f64 {
        let mut state = self.lock();
        self.bring_up_to(&mut state, now);
        state.stretch
    }

    /// What is left of the window, if reads are held: the reserve alone is left. A read for which nothing is stored may use half of the
    /// reserve.
    #[must_use]
    pub fn holds_reads(&self, has_stored: bool, now: Timestamp) -> Option<Duration> {
        let quota = self.settings.quota()?;
        let mut state = self.lock();
        self.bring_up_to(&mut state, now);
        let reserve = if has_stored { self.settings.reserve() } else { self.settings.reserve() / 2.0 };
        (state.used >= quota * (1.0 - reserve)).then(|| self.remaining(&state, now))
    }

    /// Counts a request, and says how long it waits for its turn. `None`: too long.
    fn count(&self, request: BudgetedRequest, now: Timestamp, moment: Instant) -> Option<Duration> {
        let mut state = self.lock();
        let is_reserved = request == BudgetedRequest::Reserved;
        let longest = if request == BudgetedRequest::Validation { TURN_WAIT } else { LONGEST_TURN_WAIT };
        let wait = if is_reserved {
            // The origin has the last word on a write.
            state.writes.take(self.settings.writes_per_second(), longest, moment).or(Some(longest))
        } else {
            state.reads.take(self.settings.reads_per_second(), longest, moment)
        }?;
        self.bring_up_to(&mut state, now);
        state.used += 1.0;
        if request == BudgetedRequest::Validation {
            state.validations.count();
        } else {
            state.others.count();
        }
        Some(wait)
    }

    /// Counts a validation that was saved: with full lifetimes it would have been sent.
    fn count_saved(&self, now: Timestamp) {
        let mut state = self.lock();
        self.bring_up_to(&mut state, now);
        state.validations.count();
    }

    /// Begins a new window if it is time, and forecasts.
    fn bring_up_to(&self, state: &mut BudgetState, now: Timestamp) {
        let Some(quota) = self.settings.quota() else { return };
        let started = now.window_start(self.settings.window());
        if started != state.window_started {
            state.window_started = started;
            state.used = 0.0;
        }
        let averaged = self.averaged();
        state.validations.forget(now, averaged);
        state.others.forget(now, averaged);
        let window = WindowUse {
            quota,
            used: state.used,
            reserve: self.settings.reserve(),
            remaining: self.remaining(state, now),
            validations_per_second: state.validations.per_second(now, averaged),
            others_per_second: state.others.per_second(now, averaged),
        };
        state.stretch = window.stretch(self.settings.stretch_limit());
        self.metrics.used_ratio.set(state.used / quota);
        self.metrics.forecast_ratio.set(window.forecast());
        self.metrics.stretch.set(state.stretch);
    }

    fn remaining(&self, state: &BudgetState, now: Timestamp) -> Duration {
        state.window_started.plus(self.settings.window()).since(now)
    }

    fn averaged(&self) -> Duration {
        self.settings.window().mul_f64(AVERAGED_PART)
    }

    fn lock(&self) -> MutexGuard<'_, BudgetState> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is used of a budget in the present window.
#[derive(Clone, Copy, Debug)]
pub struct BudgetUse {
    /// Requests that the window allows.
    pub quota: f64,
    /// Requests that were sent.
    pub used: f64,
    /// By which factor lifetimes are stretched.
    pub stretch: f64,
    /// What is left of the window.
    pub window_left: Duration,
}

impl Upstream {
    /// By which factor the operator's lifetimes are stretched now; 1 without a budget.
    #[must_use]
    pub fn stretch(&self, now: Timestamp) -> f64 {
        self.settings.budget.as_ref().map_or(1.0, |budget| budget.stretch(now))
    }

    /// The lifetime of a stored response, stretched if the budget demands it.
    #[must_use]
    pub fn lifetime(&self, stored: &StoredResponse, now: Timestamp) -> Duration {
        match &self.settings.budget {
            Some(budget) if stored.policy.configured => stretched_lifetime(stored, budget.stretch(now)),
            _ => stored.policy.freshness_lifetime,
        }
    }

    /// The pause of reads that the budget demands; `None`: none. Counts nothing.
    pub(super) fn budget_pause(&self, has_stored: impl FnOnce() -> bool, now: Timestamp) -> Option<Pause> {
        let budget = self.settings.budget.as_ref()?;
        // Without a quota of requests nothing is looked up.
        budget.settings.quota()?;
        let remaining = budget.holds_reads(has_stored(), now)?;
        Some(Pause { status: http::StatusCode::TOO_MANY_REQUESTS, remaining })
    }

    /// Counts a read that the budget held back.
    pub(super) fn count_held_by_budget(&self) {
        if let Some(budget) = &self.settings.budget {
            budget.metrics.held.inc();
        }
    }

    /// What is used of the budget; `None` without a quota.
    #[must_use]
    pub fn budget_use(&self, now: Timestamp) -> Option<BudgetUse> {
        let budget = self.settings.budget.as_ref()?;
        let quota = budget.settings.quota()?;
        let mut state = budget.lock();
        budget.bring_up_to(&mut state, now);
        let window_left = budget.remaining(&state, now);
        Some(BudgetUse { quota, used: state.used, stretch: state.stretch, window_left })
    }

    /// Notes that a response answers past its own lifetime. In each lifetime that has passed since its validation, the first such use is a
    /// validation that was saved.
    pub fn note_stretched_use(&self, stored: &StoredResponse, now: Timestamp) {
        let Some(budget) = &self.settings.budget else { return };
        let lifetimes =
            current_age(stored, now).as_micros() / stored.policy.freshness_lifetime.as_micros().max(1);
        if stored.in_use.enter_lifetime(u8::try_from(lifetimes).unwrap_or(u8::MAX)) {
            budget.metrics.avoided.inc();
            budget.count_saved(now);
        }
    }

    /// Counts a request, and waits for its turn.
    pub(super) async fn take_turn(&self, request: BudgetedRequest) -> Result<(), UpstreamFailure> {
        let Some(budget) = &self.settings.budget else { return Ok(()) };
        let now = self.state.clock.now();
        match budget.count(request, now, instant()) {
            Some(wait) if wait.is_zero() => {}
            Some(wait) => tokio::time::sleep(wait).await,
            None => {
                let pause = Pause { status: http::StatusCode::TOO_MANY_REQUESTS, remaining: TURN_WAIT };
                budget.metrics.held.inc();
                return Err(pause.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_its_quota() {
        let mut turns = Turns::default();
        let began = instant();
        let mut sent: Vec<Duration> = Vec::new();
        // Twice as many as allowed, for five seconds.
        for number in 0..3_000_u32 {
            let at = Duration::from_millis(u64::from(number) * 5 / 3);
            if let Some(wait) = turns.take(300, TURN_WAIT, began + at) {
                sent.push(at + wait);
            }
        }
        sent.sort();
        for (position, first) in sent.iter().enumerate() {
            let within =
                sent[position..].iter().take_while(|at| **at < *first + Duration::from_secs(1)).count();
            assert!(within <= 300, "{within} from {first:?} on");
        }
        assert!(sent.len() > 5 * 260, "{}", sent.len());
    }

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let (mut rate, averaged) = (EventRate::default(), Duration::from_secs(60));
        let at = |second| Timestamp::from_unix_seconds(1_000_000_i64 + second);
        for second in 0..600 {
            rate.forget(at(second), averaged);
            // All of ten seconds at once.
            if second % 10 == 0 {
                (0..50).for_each(|_| rate.count());
            }
            if second > 60 {
                let per_second = rate.per_second(at(second), averaged);
                assert!((4.0..=6.0).contains(&per_second), "{per_second} after {second} s");
            }
        }
        rate.forget(at(600 + 65), averaged);
        assert!(rate.per_second(at(600 + 65), averaged) < 0.01);
    }

    #[test]
    fn without_a_quota_nobody_waits() {
        let mut turns = Turns::default();
        let now = instant();
        assert!((0..10_000).all(|_| turns.take(0, TURN_WAIT, now) == Some(Duration::ZERO)));
    }
}
