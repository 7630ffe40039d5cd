//! Throttling: when the origin says "later", all callers wait.
//!
//! A 429 or 503 with a hint is obeyed for all callers of that upstream (for those of the same identity, where callers' own
//! credentials go there): reads are answered from the store where allowed, writes are passed on. Where the upstream names
//! `Storage` it is the other way round. The hint is capped, so that a mistaken header cannot silence an upstream for a day.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, header};

use super::Upstream;
use super::retrieval::Failure;
use crate::clock::Timestamp;
use crate::credentials::partition::{Identity, Partitions};
use crate::decide::Unreachable;
use crate::error::ProxyError;
use crate::headers::retry_after::retry_after;
use crate::transport::answer_body::AnswerBody;

/// What a pause holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Reads that the store does not answer. Writes go on: only their sender knows whether they can wait.
    Reads,
    /// Writes alone: the quota that is used up is one of storing.
    Writes,
}

/// What an answer with a hint holds back: the problem body (RFC 9457) of a 429 names the policy that was exceeded, one of
/// `Total Requests`, `Total Bandwidth` and `Storage`.
#[must_use]
pub fn held_back(body: &[u8]) -> Held {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let policy = problem.as_ref().and_then(|problem| problem.get("policy")?.as_str());
    if policy.is_some_and(|policy| policy.trim().eq_ignore_ascii_case("Storage")) {
        Held::Writes
    } else {
        Held::Reads
    }
}

/// Whether a body can name a policy.
fn may_name_policy(status: StatusCode, fields: &HeaderMap) -> bool {
    let media_type =
        fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    status == StatusCode::TOO_MANY_REQUESTS && essence.eq_ignore_ascii_case("application/problem+json")
}

/// Until when one upstream is left alone, and by whom: where callers' own credentials go upstream, each identity has a quota of
/// its own there, and its pause is for itself alone.
#[derive(Debug)]
pub struct Throttle {
    limit: Duration,
    partitions: Option<Partitions>,
    paused: Mutex<HashMap<Cow<'static, str>, Paused>>,
}

/// So many identities are remembered. Forgetting one costs a request that is answered 429 once more.
const MAX_IDENTITIES: usize = 4_096;

/// The pauses of one identity.
#[derive(Clone, Copy, Debug, Default)]
struct Paused {
    reads: Option<Until>,
    writes: Option<Until>,
}

#[derive(Clone, Copy, Debug)]
struct Until {
    time: Timestamp,
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

/// In whose name something was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottledIdentity(Cow<'static, str>);

impl Throttle {
    /// Nothing is throttled. `limit` caps every hint; `partitions` tells callers apart where their own credentials go upstream.
    #[must_use]
    pub fn new(limit: Duration, partitions: Option<Partitions>) -> Self {
        Self { limit, partitions, paused: Mutex::new(HashMap::new()) }
    }

    /// In whose name a request with these fields of its caller goes upstream.
    #[must_use]
    pub fn identity(&self, fields: &HeaderMap) -> ThrottledIdentity {
        let partitions = self.partitions.as_ref();
        ThrottledIdentity(partitions.map_or(Identity::SHARED.partition, |it| it.identity(fields).partition))
    }

    /// Obeys the hint of an answer with this status, as [`retry_after`] found it; a shorter hint never shortens a longer one.
    pub fn obey(
        &self,
        identity: &ThrottledIdentity,
        held: Held,
        status: StatusCode,
        hint: Duration,
        now: Timestamp,
    ) {
        let until = Until { time: now.plus(hint.min(self.limit)), status };
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
        };
        if slot.is_none_or(|earlier| earlier.time <= until.time) {
            *slot = Some(until);
        }
    }

    /// What is left of the pause for a request with these fields of its caller; `None` when the upstream may be asked.
    #[must_use]
    pub fn pause(&self, fields: &HeaderMap, held: Held, now: Timestamp) -> Option<Pause> {
        // Mostly there is no pause, and identities need not be told apart.
        if self.lock().is_empty() {
            return None;
        }
        let ThrottledIdentity(identity) = self.identity(fields);
        let mut all = self.lock();
        let paused = *all.get(&identity)?;
        if paused.ends() <= now {
            all.remove(&identity);
            return None;
        }
        drop(all);
        let until = match held {
            Held::Reads => paused.reads,
            Held::Writes => paused.writes,
        }?;
        // A clock that was set back must not extend the wait beyond the cap.
        let remaining = until.time.since(now).min(self.limit);
        (!remaining.is_zero()).then_some(Pause { status: until.status, remaining })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Cow<'static, str>, Paused>> {
        // Nothing under this lock can panic half way through a change.
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Paused {
    /// When the last of them ends.
    fn ends(&self) -> Timestamp {
        let times = [self.reads, self.writes].into_iter().flatten().map(|until| until.time);
        times.max().unwrap_or(Timestamp::from_unix_seconds(0))
    }
}

impl Upstream {
    /// Why no writes of this caller go upstream at the moment, if it asked for that.
    pub(super) fn writes_throttled(&self, fields: &HeaderMap) -> Option<Failure> {
        let Pause { status, remaining } = self.throttle.pause(fields, Held::Writes, self.clock.now())?;
        let error = ProxyError::Throttled { status, retry_after: remaining };
        Some(Failure { why: Unreachable::Throttled, error })
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
        self.throttle.obey(identity, held, status, hint, now);
    }
}

/// A problem body that is larger, or takes longer, names no policy to us: everything pauses.
const PROBLEM_LIMIT_BYTES: usize = 8 * 1024;
const PROBLEM_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;
    const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_777);

    fn throttle() -> Throttle {
        Throttle::new(Duration::from_secs(60), Some(Partitions::new([7; 32])))
    }

    fn bearer(number: usize) -> HeaderMap {
        let value = format!("Bearer {number}").parse().expect("a field value");
        [(header::AUTHORIZATION, value)].into_iter().collect()
    }

    #[test]
    fn only_storage_holds_back_writes_alone() {
        for (body, expected) in [
            (r#"{"policy":"Storage"}"#, Held::Writes),
            (r#"{"title":"x","policy":" storage "}"#, Held::Writes),
            (r#"{"policy":"Total Requests"}"#, Held::Reads),
            (r#"{"policy":"Total Bandwidth"}"#, Held::Reads),
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
        let anonymous = HeaderMap::new();
        let identity = throttle.identity(&anonymous);
        throttle.obey(&identity, Held::Writes, TOO_MANY, Duration::from_secs(9), NOW);
        assert_eq!(throttle.pause(&anonymous, Held::Reads, NOW), None);
        throttle.obey(&identity, Held::Reads, TOO_MANY, Duration::from_secs(3), NOW);
        let is_paused =
            |held, after| throttle.pause(&anonymous, held, NOW.plus(Duration::from_secs(after))).is_some();
        assert!(is_paused(Held::Reads, 2) && !is_paused(Held::Reads, 3));
        assert!(is_paused(Held::Writes, 8) && !is_paused(Held::Writes, 9));
    }

    #[test]
    fn a_pause_is_that_of_its_identity_and_their_number_is_bounded() {
        let throttle = throttle();
        for number in 0..=MAX_IDENTITIES {
            let lasts = Duration::from_secs(if number == 1 { 1 } else { 50 });
            throttle.obey(&throttle.identity(&bearer(number)), Held::Reads, TOO_MANY, lasts, NOW);
        }
        let is_paused = |fields: &HeaderMap| throttle.pause(fields, Held::Reads, NOW).is_some();
        assert!(is_paused(&bearer(0)) && is_paused(&bearer(MAX_IDENTITIES)));
        assert!(!is_paused(&bearer(1)), "what ends first gave way");
        assert!(!is_paused(&bearer(MAX_IDENTITIES + 1)) && !is_paused(&HeaderMap::new()));
        assert_eq!(throttle.lock().len(), MAX_IDENTITIES);
        let one = Throttle::new(Duration::from_secs(60), None);
        one.obey(&one.identity(&bearer(0)), Held::Reads, TOO_MANY, Duration::from_secs(5), NOW);
        assert!(
            one.pause(&bearer(1), Held::Reads, NOW).is_some(),
            "the sidecar's own credential is one identity"
        );
    }

    #[test]
    fn the_longest_hint_counts_up_to_the_cap() {
        let throttle = throttle();
        let remaining = |after| {
            throttle
                .pause(&HeaderMap::new(), Held::Reads, NOW.plus(Duration::from_secs(after)))
                .map(|left| left.remaining)
        };
        assert_eq!(remaining(0), None);
        throttle.obey(
            &throttle.identity(&HeaderMap::new()),
            Held::Reads,
            StatusCode::TOO_MANY_REQUESTS,
            Duration::from_secs(10),
            NOW,
        );
        throttle.obey(
            &throttle.identity(&HeaderMap::new()),
            Held::Reads,
            StatusCode::TOO_MANY_REQUESTS,
            Duration::from_secs(2),
            NOW,
        );
        assert_eq!(remaining(4), Some(Duration::from_secs(6)));
        assert_eq!(remaining(10), None);
        throttle.obey(
            &throttle.identity(&HeaderMap::new()),
            Held::Reads,
            StatusCode::TOO_MANY_REQUESTS,
            Duration::MAX,
            NOW,
        );
        assert_eq!(remaining(0), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_pause_has_the_status_of_the_hint_that_counts() {
        let throttle = throttle();
        let status =
            || throttle.pause(&HeaderMap::new(), Held::Reads, NOW).map(|pause| pause.status.as_u16());
        throttle.obey(
            &throttle.identity(&HeaderMap::new()),
            Held::Reads,
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs(5),
            NOW,
        );
        assert_eq!(status(), Some(503));
        throttle.obey(
            &throttle.identity(&HeaderMap::new()),
            Held::Reads,
            StatusCode::TOO_MANY_REQUESTS,
            Duration::from_secs(2),
            NOW,
        );
        assert_eq!(status(), Some(503), "the longer one still");
        throttle.obey(
            &throttle.identity(&HeaderMap::new()),
            Held::Reads,
            StatusCode::TOO_MANY_REQUESTS,
            Duration::from_secs(9),
            NOW,
        );
        assert_eq!(status(), Some(429));
    }
}
