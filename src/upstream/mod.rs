//! Asking the upstream: the pooled client, collapsing, throttling, and what one upstream is made of.

pub mod collapse;
pub mod hit_for_miss;
pub mod lists;
pub mod outgoing;
pub mod pass_through;
pub mod result_cell;
pub mod retrieval;
pub mod shown;
pub mod slot_table;
pub mod throttle;
pub mod unknown_tokens;

use std::sync::Arc;
use std::time::Duration;

use http::header::ETAG;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response};
use hyper::body::Incoming;

use crate::body::FlowingBody;
use crate::clock::{Clock, Timestamp};
use crate::config::CachingRules;
use crate::credentials::{Credential, Unsigned};
use crate::decide::Unreachable;
use crate::error::ProxyError;
use crate::headers::vary;
use crate::metrics::{OriginCounters, OriginOutcome};
use crate::presented_request::PresentedRequest;
use crate::profile::recognition::Recognition;
use crate::profile::{Footprint, Profile};
use crate::store::{Store, StoreChange, Variants};
use crate::stored_response::{CacheKey, StoredResponse};
use crate::sync_token::aggregate::Presented;
use crate::sync_token::coverage::{Coverage, CoverageVerdict};
use crate::sync_token::session::{Received, Session, Snapshot};
use crate::transport::answer_body::AnswerBody;
use crate::transport::client::{Outgoing, PooledClient};
use collapse::Collapsing;
use hit_for_miss::HitForMiss;
use lists::StoredLists;
use retrieval::{Failure, SharedResult};
use shown::LastShown;
use throttle::{Held, Pause, Throttle};

/// Everything that belongs to one upstream: nothing of it is shared with another.
pub struct Upstream {
    /// Its name in the configuration.
    pub name: String,
    /// The pooled client.
    pub client: PooledClient,
    /// What kind of API it is.
    pub profile: Arc<dyn Profile>,
    /// Whether the profile is the right one, if nobody chose it.
    pub recognition: Recognition,
    /// How the sidecar proves itself there.
    pub credential: Arc<dyn Credential>,
    /// What its answers showed, and the writes that went there.
    pub session: Arc<Session<Footprint>>,
    /// What was shown last of what is not stored.
    pub last_shown: LastShown,
    /// Lists that are stored, and of which items they consist.
    pub lists: StoredLists,
    /// Fetches under way.
    pub collapsing: Arc<Collapsing<SharedResult>>,
    /// Keys whose answers cannot be stored.
    pub hit_for_miss: HitForMiss,
    /// Whether it asked to be left alone.
    pub throttle: Throttle,
    /// Where its responses are stored. Shared with other upstreams; keys begin with the upstream's name.
    pub store: Arc<dyn Store>,
    /// How long an unknown write stays open where no tokens tell, and by how much the origin's clocks may differ.
    pub settle_time: Duration,
    /// How long the answer to a write that carries no token waits for other open writes.
    pub conflict_wait: Duration,
    /// What was asked of it.
    pub metrics: OriginCounters,
    /// How the sidecar names itself in `Via`.
    pub via: HeaderValue,
    /// What time it is.
    pub clock: Clock,
}

impl Upstream {
    /// The stored response for a request: of the variants that its selecting header fields select, the most recent.
    #[must_use]
    pub fn stored(&self, request: &PresentedRequest) -> Option<Arc<StoredResponse>> {
        self.stored_for(&request.key, &request.fields)
    }

    /// The same for a key and the fields of a request.
    #[must_use]
    pub fn stored_for(&self, key: &CacheKey, request_fields: &HeaderMap) -> Option<Arc<StoredResponse>> {
        select(&self.store.variants(key)?, request_fields).cloned()
    }

    /// Who shares a fetch: those who ask for the same variant, as far as the stored ones tell which fields select. Nobody
    /// waits for an answer that was made for others.
    #[must_use]
    pub fn collapse_key(&self, request: &PresentedRequest) -> CacheKey {
        let newest =
            self.store.variants(&request.key).and_then(|variants| variants.as_slice().first().cloned());
        newest
            .and_then(|newest| vary::same_fields(&newest.selecting, &request.fields))
            .map_or_else(|| request.key.clone(), |selecting| request.key.of_variant(&selecting))
    }

    /// What rules 1 to 3 of coverage say about answering this request from what has this coverage.
    #[must_use]
    pub fn verdict(
        &self,
        request: &PresentedRequest,
        covers: Coverage,
        presented: &Presented,
        rules: &CachingRules,
    ) -> CoverageVerdict {
        self.session.verdict(covers, presented, rules.related, |write| {
            self.profile.touches(write, request.key.canonical_target())
        })
    }

    /// The body of an answer, guarded and counted.
    #[must_use]
    pub fn body(&self, incoming: Incoming) -> AnswerBody {
        AnswerBody::new(incoming, self.client.limits().body_stall_deadline, self.metrics.body_bytes.clone())
    }

    /// Stores a response unless what is there covers more; says whether it did.
    ///
    /// Where no tokens tell states apart, two answers that were under way at once and differ may have been made in either
    /// order. Then nothing that was sent before now may be reused, as if a write had just closed: else somebody could be
    /// shown the older state after the newer.
    pub fn put(&self, key: &CacheKey, mut response: StoredResponse) -> bool {
        if response.covers.is_immutable() && self.session.is_of_an_earlier_epoch(response.covers) {
            // It was under way at a reset: whatever is there is newer.
            response.covers.newest_version = 0;
        }
        let late_replaces = !self.session.clauses().late_never_replaces;
        let tokens_tell = self.session.tokens_tell_states_apart();
        let (mut stored, mut either_is_newer) = (false, false);
        self.store.update(key, &mut |current| {
            let current = match current {
                // The mistake under test: what comes back late replaces whatever is there.
                Some(variants) if late_replaces => variants.without(&response.selecting),
                // Only a write makes what was immutable be asked for again; then nothing compares with its coverage.
                Some(variants) if !response.covers.is_immutable() && holds_immutable(variants, &response) => {
                    variants.without(&response.selecting)
                }
                other => other.cloned(),
            };
            let Some(variants) = current else {
                stored = true;
                return StoreChange::Put(Variants::of(response.clone()));
            };
            either_is_newer = !tokens_tell
                && variants.selected_by(&response.selecting).is_some_and(|held| {
                    held.response_time > response.request_time && show_different_states(held, &response)
                });
            if either_is_newer {
                return variants.without(&response.selecting).map_or(StoreChange::Remove, StoreChange::Put);
            }
            let put = variants.with(response.clone(), self.store.variants_limit());
            stored = put.is_some();
            put.map_or(StoreChange::Keep, StoreChange::Put)
        });
        if either_is_newer {
            let footprint = match PathAndQuery::try_from(key.canonical_target()) {
                Ok(target) => self.profile.footprint(&Method::PUT, &target),
                Err(_) => Footprint::Everything,
            };
            self.session.outdate_what_was_sent(footprint);
        }
        stored
    }

    /// Takes one stored response out, if it is still the one that is there.
    pub fn outdate(&self, key: &CacheKey, outdated: &StoredResponse) {
        self.store.update(key, &mut |current| {
            let Some(variants) = current else { return StoreChange::Keep };
            match variants.selected_by(&outdated.selecting) {
                Some(held) if held.covers == outdated.covers => {
                    variants.without(&outdated.selecting).map_or(StoreChange::Remove, StoreChange::Put)
                }
                _ => StoreChange::Keep,
            }
        });
    }

    /// Why this upstream is not asked for a caller with these fields at the moment, if it asked to be left alone.
    #[must_use]
    pub fn throttled(&self, fields: &http::HeaderMap, now: Timestamp) -> Option<Failure> {
        let Pause { status, remaining } = self.throttle.pause(fields, Held::Reads, now)?;
        let error = ProxyError::Throttled { status, retry_after: remaining };
        Some(Failure { why: Unreachable::Throttled, error })
    }

    /// Sends a request with the credential, and records what its answer tells everyone before anyone sees the answer. `snapshot`
    /// was taken for this request, and its tokens are among the fields.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer.
    pub async fn send(
        &self,
        mut outgoing: Outgoing,
        target: &PathAndQuery,
        snapshot: &Snapshot,
    ) -> Result<(Response<AnswerBody>, Received), Failure> {
        let asker = self.throttle.asker(&outgoing.fields);
        let body = match &outgoing.body {
            FlowingBody::Full(bytes) => bytes.clone(),
            FlowingBody::Empty | FlowingBody::Streaming(_) => bytes::Bytes::new(),
        };
        let unsigned = Unsigned {
            method: &outgoing.method,
            target: target.as_str(),
            authority: self.client.authority().as_str(),
            body: &body,
            now: self.clock.now(),
        };
        self.credential.authorize(unsigned, &mut outgoing.fields).await.map_err(|error| Failure {
            why: Unreachable::Connect,
            error: ProxyError::Credential {
                upstream: self.client.authority().to_string(),
                cause: error.cause,
            },
        })?;
        let sent = self.clock.now();
        let exchanged = self.client.exchange(outgoing).await;
        let now = self.clock.now();
        self.metrics.asked(outcome(&exchanged), now.since(sent));
        let mut response = exchanged.map_err(Failure::from)?.map(|incoming| self.body(incoming));
        let tokens = if self.session.clauses().news_before_answer {
            self.session.observe(snapshot.covers, response.headers(), now)
        } else {
            self.observe_late(snapshot.covers, response.headers().clone(), now);
            Vec::new()
        };
        let received = Received { tokens, origin_time: shown::origin_time(response.headers()) };
        self.credential.observe_answer(response.status(), response.headers(), now);
        self.recognize(response.headers());
        self.obey(&asker, &mut response, now).await;
        Ok((response, received))
    }

    /// Says once that a profile which nobody chose is the wrong one. It stays: what is stored was made by its rules.
    fn recognize(&self, fields: &HeaderMap) {
        if self.recognition.shows_app_configuration(fields) {
            tracing::warn!(
                upstream = %self.name,
                profile = self.profile.name(),
                "this upstream answers like Azure App Configuration, but runs under the generic profile; start with \
                 --profile app-configuration (upstream.profile), or with --profile generic if that is meant"
            );
        }
    }

    /// The mistake of passing an answer on before its news are recorded, for the test that shows why it is one.
    fn observe_late(&self, sent: Coverage, fields: HeaderMap, now: Timestamp) {
        let session = Arc::clone(&self.session);
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            let _received = session.observe(sent, &fields, now);
        });
    }
}

/// How late the mistake of recording news too late is.
const LATE: Duration = Duration::from_millis(500);

fn holds_immutable(variants: &Variants, response: &StoredResponse) -> bool {
    variants.selected_by(&response.selecting).is_some_and(|held| held.covers.is_immutable())
}

fn outcome(exchanged: &Result<Response<Incoming>, ProxyError>) -> OriginOutcome {
    match exchanged {
        Ok(response) => OriginOutcome::Answered(response.status()),
        Err(ProxyError::AnswerTimeout { .. } | ProxyError::ConnectTimeout { .. }) => OriginOutcome::TimedOut,
        Err(ProxyError::Connect { .. }) => OriginOutcome::Connect,
        Err(_) => OriginOutcome::Broken,
    }
}

/// Told by their entity tags if either has one, else by what they hold.
fn show_different_states(one: &StoredResponse, other: &StoredResponse) -> bool {
    match (one.fields.get(&ETAG), other.fields.get(&ETAG)) {
        (None, None) => one.status != other.status || one.body != other.body,
        (one, other) => one != other,
    }
}

/// Of the variants that a request selects, the most recent.
#[must_use]
pub fn select<'a>(variants: &'a Variants, request_fields: &HeaderMap) -> Option<&'a Arc<StoredResponse>> {
    variants.as_slice().iter().find(|response| vary::selects(&response.selecting, request_fields))
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        let why = match &error {
            ProxyError::AnswerTimeout { .. }
            | ProxyError::BodyTimeout { .. }
            | ProxyError::ConnectTimeout { .. } => Unreachable::TimedOut,
            ProxyError::BrokenAnswer { .. } | ProxyError::NoAnswer { .. } => Unreachable::Broken,
            ProxyError::Throttled { .. } => Unreachable::Throttled,
            _ => Unreachable::Connect,
        };
        Self { why, error }
    }
}
