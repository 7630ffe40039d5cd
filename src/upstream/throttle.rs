//! Throttling: when the origin says "later", all callers wait.
//!
//! A 429 or 503 with a hint is obeyed for all callers of that upstream (for those of the same identity, where callers' own
//! credentials go there): reads are answered from the store where allowed, writes are passed on. Where the upstream names
//! `Storage` it is the other way round; where it names `Total Bandwidth`, what brings no body goes on. The hint is capped, so that a mistaken header cannot silence an upstream for a day.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, Response, StatusCode, header};

use super::Upstream;
use super::result::UpstreamFailure;
use crate::clock::Timestamp;
use crate::credentials::partition::{Identity, Partitions};
use crate::decide::Unreachable;
use crate::error::ProxyError;
use crate::headers::retry_after::retry_after;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;
use crate::transport::answer_body::AnswerBody;
use crate::words::words;

words! {
    /// What a pause holds back.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Held {
        /// Reads that the store does not answer. Writes go on: only their sender knows whether they can wait.
        Reads = "reads",
        /// Writes alone: the quota that is used up is one of storing.
        Writes = "writes",
        /// Reads that bring a body: the quota that is used up is one of bandwidth. What a 304 can answer, `HEAD` and `$select` go on.
        Bodies = "bodies",
    }
}

/// What an answer with a hint holds back: the problem body (RFC 9457) of a 429 names the policy that was exceeded, one of
/// `Total Requests`, `Total Bandwidth` and `Storage`.
#[must_use]
pub fn held_back(body: &[u8]) -> Held {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let policy = problem.as_ref().and_then(|problem| problem.get("policy")?.as_str());
    match policy.map(|policy| policy.trim().to_ascii_lowercase()).as_deref() {
        Some("storage") => Held::Writes,
        Some("total bandwidth") => Held::Bodies,
        _ => Held::Reads,
    }
}

/// Whether a body can name a policy.
fn may_name_policy(status: StatusCode, fields: &HeaderMap) -> bool {
    let media_type =
        fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    status == StatusCode::TOO_MANY_REQUESTS && essence.eq_ignore_ascii_case("application/problem+json")
}

/// Until when one upstream is left alone, and by which callers: where callers' own credentials go upstream, each identity has a
/// quota of its own there, and its pause is for itself alone.
#[derive(Debug)]
pub struct Throttle {
    partitions: Partitions,
    paused: Mutex<HashMap<Cow<'static, str>, Paused>>,
}

/// So many identities are remembered. Forgetting one costs a request that is answered 429 once more.
const MAX_IDENTITIES: usize = 4_096;

/// The pauses of one identity.
#[derive(Clone, Copy, Debug, Default)]
struct Paused {
    reads: Option<Until>,
    writes: Option<Until>,
    bodies: Option<Until>,
}

#[derive(Clone, Copy, Debug)]
struct Until {
    time: Timestamp,
    /// How long it was to last from the beginning.
    lasts: Duration,
    status: StatusCode,
}

/// What is left of a pause that an upstream asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The status with which it asked: 429 or 503.
    pub status: StatusCode,
    /// How much longer it is left alone.
    pub remaining: Duration,
}

/// Why a retrieval does not go upstream at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What is left of the pause.
    pub pause: Pause,
    /// The budget of requests demands it, and not the origin.
    pub is_by_budget: bool,
}

/// In whose name something was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottledIdentity(Cow<'static, str>);

impl Throttle {
    /// Nothing is throttled. `partitions` tells callers apart where their own credentials go upstream.
    #[must_use]
    pub fn new(partitions: Partitions) -> Self {
        Self { partitions, paused: Mutex::new(HashMap::new()) }
    }

    /// In whose name a request goes upstream: that of the caller that sent these fields, or of the sidecar if there are none.
    #[must_use]
    pub fn identity(&self, callers: Option<&HeaderMap>) -> ThrottledIdentity {
        let of_caller = |fields| self.partitions.identity(fields).partition;
        ThrottledIdentity(callers.map_or(Identity::SHARED.partition, of_caller))
    }

    /// Obeys the hint of an answer, as [`retry_after`] found it, up to `limit`; a shorter hint never shortens a longer one.
    pub fn obey(
        &self,
        identity: &ThrottledIdentity,
        held: Held,
        hint: Pause,
        limit: Duration,
        now: Timestamp,
    ) {
        let lasts = hint.remaining.min(limit);
        let until = Until { time: now.plus(lasts), lasts, status: hint.status };
        let mut paused = self.lock();
        if paused.len() >= MAX_IDENTITIES && !paused.contains_key(&identity.0) {
            paused.retain(|_, it| it.ends() > now);
            let first_to_end =
                paused.iter().min_by_key(|(_, it)| it.ends()).map(|(identity, _)| identity.clone());
            if let Some(first_to_end) = first_to_end.filter(|_| paused.len() >= MAX_IDENTITIES) {
                paused.remove(&first_to_end);
            }
        }
        let paused = paused.entry(identity.0.clone()).or_default();
        let slot = match held {
            Held::Reads => &mut paused.reads,
            Held::Writes => &mut paused.writes,
            Held::Bodies => &mut paused.bodies,
        };
        if slot.is_none_or(|earlier| earlier.time <= until.time) {
            *slot = Some(until);
        }
    }

    /// What is left of the pause for a request, in the name that [`Throttle::identity`] finds; `None` when the upstream may be
    /// asked.
    #[must_use]
    pub fn pause(&self, callers: Option<&HeaderMap>, held: Held, now: Timestamp) -> Option<Pause> {
        // Mostly there is no pause, and identities need not be told apart.
        if self.lock().is_empty() {
            return None;
        }
        let ThrottledIdentity(identity) = self.identity(callers);
        let mut all = self.lock();
        let paused = *all.get(&identity)?;
        if paused.ends() <= now {
            all.remove(&identity);
            return None;
        }
        drop(all);
        paused.of(held)?.left(now)
    }

    /// What is left of the longest pause of each kind, over all identities.
    #[must_use]
    pub fn pauses(&self, now: Timestamp) -> Vec<(Held, Pause)> {
        let paused = self.lock();
        let longest = |held: Held| {
            let left = paused.values().filter_map(|it| it.of(held)?.left(now));
            left.max_by_key(|pause| pause.remaining).map(|pause| (held, pause))
        };
        [Held::Reads, Held::Writes, Held::Bodies].into_iter().filter_map(longest).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Cow<'static, str>, Paused>> {
        // Nothing under this lock can panic half way through a change.
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Pause> for UpstreamFailure {
    fn from(Pause { status, remaining }: Pause) -> Self {
        let error = ProxyError::Throttled { status, retry_after: remaining };
        Self { why: Unreachable::Throttled, error }
    }
}

impl Until {
    /// What is left of it.
    fn left(self, now: Timestamp) -> Option<Pause> {
        // A clock that was set back must not extend the wait.
        let remaining = self.time.since(now).min(self.lasts);
        (!remaining.is_zero()).then_some(Pause { status: self.status, remaining })
    }
}

impl Paused {
    const fn of(&self, held: Held) -> Option<Until> {
        match held {
            Held::Reads => self.reads,
            Held::Writes => self.writes,
            Held::Bodies => self.bodies,
        }
    }

    /// When the last of them ends.
    fn ends(&self) -> Timestamp {
        let times = [self.reads, self.writes, self.bodies].into_iter().flatten().map(|until| until.time);
        times.max().unwrap_or(Timestamp::from_unix_seconds(0))
    }
}

impl Upstream {
    /// What is left of the longest pause of each kind that it asked for.
    #[must_use]
    pub fn pauses(&self, now: Timestamp) -> Vec<(Held, Pause)> {
        self.state.throttle.pauses(now)
    }

    /// Why this upstream is not asked for a caller with these fields at the moment, if it asked to be left alone.
    #[must_use]
    pub fn throttled(&self, fields: &HeaderMap, now: Timestamp) -> Option<UpstreamFailure> {
        self.pause(fields, Held::Reads, now).map(UpstreamFailure::from)
    }

    /// Why a retrieval does not go upstream at the moment: the origin asked for that, or the budget does.
    #[must_use]
    pub fn held(&self, request: &PresentedRequest, now: Timestamp) -> Option<UpstreamFailure> {
        self.hold(request, || self.stored(request), now).map(|hold| self.heed(hold))
    }

    /// What is held back counts as such.
    #[must_use]
    pub fn heed(&self, hold: Hold) -> UpstreamFailure {
        if hold.is_by_budget {
            self.count_held_by_budget();
        }
        hold.pause.into()
    }

    /// Why the ranges of a mirror are not asked for at the moment.
    #[must_use]
    pub fn hold_of_ranges(&self, now: Timestamp) -> Option<Hold> {
        let by_origin = self.pause(&HeaderMap::new(), Held::Reads, now);
        by_origin
            .map(|pause| Hold { pause, is_by_budget: false })
            .or_else(|| self.budget_pause(|| true, now).map(|pause| Hold { pause, is_by_budget: true }))
    }

    /// The same, which counts nothing. `stored` reads the stored response for the request.
    #[must_use]
    pub fn hold(
        &self,
        request: &PresentedRequest,
        stored: impl Fn() -> Option<Arc<StoredResponse>>,
        now: Timestamp,
    ) -> Option<Hold> {
        if let Some(pause) = self.pause(&request.fields, Held::Reads, now) {
            return Some(Hold { pause, is_by_budget: false });
        }
        if let Some(pause) = self.pause(&request.fields, Held::Bodies, now)
            && !brings_no_body(request, stored().as_deref())
        {
            return Some(Hold { pause, is_by_budget: false });
        }
        let pause = self.budget_pause(|| stored().is_some(), now)?;
        Some(Hold { pause, is_by_budget: true })
    }

    /// Whether the origin asked for fewer bodies, so that a `HEAD` goes upstream as such.
    pub(super) fn saves_bandwidth(&self, request: &PresentedRequest) -> bool {
        self.pause(&request.fields, Held::Bodies, self.state.clock.now()).is_some()
    }

    /// Why no writes of this caller go upstream at the moment, if it asked for that.
    #[must_use]
    pub fn writes_throttled(&self, fields: &HeaderMap) -> Option<UpstreamFailure> {
        self.pause(fields, Held::Writes, self.state.clock.now()).map(UpstreamFailure::from)
    }

    /// What is left of the pause for a caller with these fields.
    #[must_use]
    pub fn pause(&self, fields: &HeaderMap, held: Held, now: Timestamp) -> Option<Pause> {
        self.state.throttle.pause(self.with_own_quota(fields), held, now)
    }

    /// In whose name a request with these fields of its caller goes upstream.
    pub(super) fn throttled_identity(&self, fields: &HeaderMap) -> ThrottledIdentity {
        self.state.throttle.identity(self.with_own_quota(fields))
    }

    /// The fields of a caller whose own credential goes upstream: only then it has a quota of its own there.
    fn with_own_quota<'a>(&self, fields: &'a HeaderMap) -> Option<&'a HeaderMap> {
        self.settings.credential.forwards_callers().then_some(fields)
    }

    /// Obeys the hint of an answer, if there is one. A problem body is read before, within bounds, and stays readable.
    pub(super) async fn obey(
        &self,
        identity: &ThrottledIdentity,
        response: &mut Response<AnswerBody>,
        now: Timestamp,
    ) {
        let status = response.status();
        let Some(hint) = retry_after(status, response.headers(), now) else { return };
        let mut held = Held::Reads;
        if may_name_policy(status, response.headers()) {
            let read = response.body_mut().read_ahead(PROBLEM_LIMIT_BYTES);
            if let Ok(Some(body)) = tokio::time::timeout(PROBLEM_PATIENCE, read).await {
                held = held_back(&body);
            }
        }
        let hint = Pause { status, remaining: hint };
        self.state.throttle.obey(identity, held, hint, self.settings.retry_after_limit, now);
    }
}

/// Whether an answer to a retrieval has no body, or a part of one.
fn brings_no_body(request: &PresentedRequest, stored: Option<&StoredResponse>) -> bool {
    let has_validator = |stored: &StoredResponse| {
        stored.fields.contains(&header::ETAG) || stored.fields.contains(&header::LAST_MODIFIED)
    };
    request.method == Method::HEAD
        || ["?$select=", "&$select=", "?%24select=", "&%24select="]
            .iter()
            .any(|parameter| request.key.canonical_target().contains(parameter))
        || stored.is_some_and(has_validator)
}

/// A problem body that is larger, or takes longer, names no policy to us: everything pauses.
const PROBLEM_LIMIT_BYTES: usize = 8 * 1024;
const PROBLEM_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;
    const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_777);

    const LIMIT: Duration = Duration::from_secs(60);

    fn throttle() -> Throttle {
        Throttle::new(Partitions::new([7; 32]))
    }

    fn hint(status: StatusCode, seconds: u64) -> Pause {
        Pause { status, remaining: Duration::from_secs(seconds) }
    }

    fn bearer(number: usize) -> HeaderMap {
        let value = format!("Bearer {number}").parse().expect("a field value");
        [(header::AUTHORIZATION, value)].into_iter().collect()
    }

    #[test]
    fn the_policy_says_what_is_held_back() {
        for (body, expected) in [
            (r#"{"policy":"Storage"}"#, Held::Writes),
            (r#"{"title":"x","policy":" storage "}"#, Held::Writes),
            (r#"{"policy":"Total Requests"}"#, Held::Reads),
            (r#"{"policy":"Total Bandwidth"}"#, Held::Bodies),
            (r#"{"policy":["Storage"]}"#, Held::Reads),
            (r#"{"policy":"Storage""#, Held::Reads),
            ("", Held::Reads),
        ] {
            assert_eq!(held_back(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn pauses_of_reads_and_of_writes_end_each_in_its_time() {
        let throttle = throttle();
        let identity = throttle.identity(None);
        throttle.obey(&identity, Held::Writes, hint(TOO_MANY, 9), LIMIT, NOW);
        assert_eq!(throttle.pause(None, Held::Reads, NOW), None);
        throttle.obey(&identity, Held::Reads, hint(TOO_MANY, 3), LIMIT, NOW);
        let is_paused =
            |held, after| throttle.pause(None, held, NOW.plus(Duration::from_secs(after))).is_some();
        assert!(is_paused(Held::Reads, 2) && !is_paused(Held::Reads, 3));
        let told = |after| throttle.pauses(NOW.plus(Duration::from_secs(after)));
        assert_eq!(told(0), [(Held::Reads, hint(TOO_MANY, 3)), (Held::Writes, hint(TOO_MANY, 9))]);
        assert_eq!(told(3), [(Held::Writes, hint(TOO_MANY, 6))]);
        assert!(is_paused(Held::Writes, 8) && !is_paused(Held::Writes, 9));
    }

    #[test]
    fn a_pause_is_that_of_its_identity_and_their_number_is_bounded() {
        let throttle = throttle();
        for number in 0..=MAX_IDENTITIES {
            let hint = hint(TOO_MANY, if number == 1 { 1 } else { 50 });
            throttle.obey(&throttle.identity(Some(&bearer(number))), Held::Reads, hint, LIMIT, NOW);
        }
        let is_paused = |fields: &HeaderMap| throttle.pause(Some(fields), Held::Reads, NOW).is_some();
        assert!(is_paused(&bearer(0)) && is_paused(&bearer(MAX_IDENTITIES)));
        assert!(!is_paused(&bearer(1)), "what ends first gave way");
        assert!(!is_paused(&bearer(MAX_IDENTITIES + 1)) && !is_paused(&HeaderMap::new()));
        assert_eq!(throttle.lock().len(), MAX_IDENTITIES);
    }

    #[test]
    fn the_longest_hint_counts_up_to_the_cap() {
        let throttle = throttle();
        let remaining = |after| {
            throttle
                .pause(None, Held::Reads, NOW.plus(Duration::from_secs(after)))
                .map(|left| left.remaining.as_secs())
        };
        let obey = |seconds| {
            throttle.obey(&throttle.identity(None), Held::Reads, hint(TOO_MANY, seconds), LIMIT, NOW);
        };
        assert_eq!(remaining(0), None);
        obey(10);
        obey(2);
        assert_eq!((remaining(4), remaining(10)), (Some(6), None));
        obey(u64::MAX);
        assert_eq!(remaining(0), Some(60));
        let set_back = Timestamp::from_unix_seconds(0);
        let left = throttle.pause(None, Held::Reads, set_back).map(|left| left.remaining);
        assert_eq!(left, Some(LIMIT), "a clock that was set back does not extend it");
    }

    #[test]
    fn a_pause_has_the_status_of_the_hint_that_counts() {
        let throttle = throttle();
        let after = |status, seconds| {
            throttle.obey(&throttle.identity(None), Held::Reads, hint(status, seconds), LIMIT, NOW);
            throttle.pause(None, Held::Reads, NOW).map(|pause| pause.status)
        };
        assert_eq!(after(StatusCode::SERVICE_UNAVAILABLE, 5), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(after(TOO_MANY, 2), Some(StatusCode::SERVICE_UNAVAILABLE), "the longer one still");
        assert_eq!(after(TOO_MANY, 9), Some(TOO_MANY));
    }
}
