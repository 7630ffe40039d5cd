//! Explaining: what would happen to one request now, and why. It follows the path with the decisions of the path, and acts in no stage:
//! nothing is asked, stored, counted or noted, and what is stored counts as not used.
//!
//! ```text
//! route → admit → identify ─┬─ passed on: throttled? ──────────────────────────────────────────────┬─▶ Forecast ─▶ Explanation
//!                           └─ look up ─┬─ hit ────────────────────────────────────────────────────┤
//!                                       └─ step: refused, held back, alone, followed, led, listed ─┘
//! ```
//!
//! Where the answer of the origin decides, it says what goes upstream, and what answers if the origin does not.

pub mod because;
pub mod facts;
mod forecast;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;

use super::destination::{self, Destination};
use super::fetch::{fetches_alone, follows};
use super::look_up::LookUp;
use super::outcome::{Hit, Outcome};
use super::request_context::{PassThrough, RequestContext};
use super::retrieval::{RetrievalStep, only_if_cached};
use super::{Caller, Identification, Proxy};
use crate::body::FlowingBody;
use crate::decide::{Decision, ForwardReason, StaleReason};
use crate::error::ProxyError;
use crate::headers::survey::Survey;
use crate::identify::Identified;
use crate::store::Variants;
use crate::stored_response::{CacheKey, StoredResponse};
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::UncoveredReason;
use crate::upstream::Upstream;
use crate::upstream::collapse::Joins;
use crate::upstream::result::UpstreamFailure;
use crate::upstream::retrieval::Validates;
use crate::upstream::store_view::collapse_key_among;
pub use facts::Explanation;
use facts::{ForwardFacts, TargetFacts, UpstreamFacts};
use forecast::Forecast;

/// A request to explain.
#[derive(Debug)]
pub struct ExplainedRequest {
    /// Who would send it.
    pub caller: Caller,
    /// The upstream, where it is not to be found by listener, path and host.
    pub upstream: Option<String>,
    /// Its head.
    pub head: Parts,
    /// Whether content would follow.
    pub has_body: bool,
}

/// What is stored, read without a use of it: the variants of one key at once, the others of the upstream if they are asked for.
struct StorePeek<'a> {
    upstream: &'a Upstream,
    own: HashMap<CacheKey, Variants>,
    all: OnceLock<HashMap<CacheKey, Variants>>,
}

impl<'a> StorePeek<'a> {
    fn of(upstream: &'a Upstream, key: &CacheKey) -> Self {
        Self { upstream, own: upstream.peek(|stored| stored == key), all: OnceLock::new() }
    }

    fn variants(&self, key: &CacheKey) -> Option<Variants> {
        let all = || self.upstream.peek(|stored| stored.upstream() == key.upstream());
        self.own.get(key).or_else(|| self.all.get_or_init(all).get(key)).cloned()
    }
}

impl Proxy {
    /// What would happen to a request now. `None`: no upstream has that name.
    pub async fn explain(&self, request: ExplainedRequest) -> Option<Explanation> {
        let ExplainedRequest { caller, upstream, mut head, has_body } = request;
        let (to, target) = match &upstream {
            None => self.route(&caller, &head).map(|(_, to, target)| (to, target))?,
            Some(name) => {
                let to = self.destinations.iter().find(|to| to.upstream.name() == name)?;
                (to, destination::target_of(&head))
            }
        };
        let mut about = TargetFacts::of(&caller, to, &head, &target);
        let resource = self.callers_resource(&caller, to, &head, &target);
        let known_tag = || self.known_tags.peek(resource.as_ref()?);
        let (survey, refused) = match self.admitted(&caller, to, &mut head, &target).await {
            Ok(survey) => (survey, None),
            Err(error) => (Survey::of(&head.headers), Some(error)),
        };
        let body = if has_body { FlowingBody::Full(Bytes::from_static(b"\0")) } else { FlowingBody::Empty };
        let identified = self.identify(to, &mut head, &survey, body, target, known_tag);
        let forecast = match identified {
            Err(error) => Forecast::of(Err(refused.unwrap_or(error))),
            Ok(Identification::Other(passed)) => {
                self.forecast_passed(to, &caller, &passed).unless_refused(refused)
            }
            Ok(Identification::Retrieval(context, _)) => {
                about.key = Some(String::from_utf8_lossy(context.request.key.as_bytes()).into_owned());
                self.forecast_retrieval(to, &caller, &context).unless_refused(refused)
            }
        };
        let upstream = UpstreamFacts::of(to, self.clock.now());
        Some(forecast.explained(about, upstream))
    }

    /// Admits it, or says why not. Takes what proves its caller out of the head.
    async fn admitted(
        &self,
        caller: &Caller,
        to: &Destination,
        head: &mut Parts,
        target: &PathAndQuery,
    ) -> Result<Survey, ProxyError> {
        if !self.admission.asks_who_calls(caller) {
            return self.admission.admit(to, head, target);
        }
        let now = self.clock.now();
        self.admission.check_permit(&caller.peer)?;
        let permit = |name: &Arc<str>| self.admission.check_permit(name);
        Ok(self.admission.prove(caller, to, head, target, now, permit).await?.survey)
    }

    /// A permit is needed for what goes beyond the store; a caller that proves itself has one by then.
    fn permitted(&self, caller: &Caller) -> Result<(), ProxyError> {
        if self.admission.asks_who_calls(caller) { Ok(()) } else { self.admission.check_permit(&caller.peer) }
    }

    fn forecast_passed(&self, to: &Destination, caller: &Caller, passed: &PassThrough) -> Forecast {
        let reason = passed.reason();
        let (method, fields) = match &passed.identified {
            Identified::Cacheable(post) => (&post.method, &post.fields),
            Identified::Bypass(bypassed) => (&bypassed.method, &bypassed.fields),
        };
        if let Err(error) = self.permitted(caller) {
            return Forecast::of(Err(error));
        }
        let asks_about_tokens =
            matches!(to.upstream.session().requirement(fields), PresentedTokens::Unknown(_));
        let failure = if passed.is_write() {
            to.upstream.writes_throttled(fields)
        } else if asks_about_tokens {
            to.upstream.throttled(fields, self.clock.now())
        } else {
            None
        };
        if let Some(failure) = failure {
            return Forecast::of(Ok(Outcome::failed(failure.error, reason))).because_of(reason);
        }
        let forward = ForwardFacts::passed(to, method, &passed.target, fields);
        let if_no_answer = Forecast::of(Ok(Outcome::failed(no_answer(to).error, reason)));
        Forecast::forwarded(to, reason, forward).or_else(if_no_answer)
    }

    fn forecast_retrieval(&self, to: &Destination, caller: &Caller, context: &RequestContext) -> Forecast {
        let peek = StorePeek::of(&to.upstream, &context.request.key);
        let variants = peek.variants(&context.request.key);
        let found = self.look_up_among(to, context, variants.as_ref());
        let forecast = match (&context.presented, &found.stored, found.decision) {
            (PresentedTokens::Known { .. }, Some(stored), Decision::Reuse(reuse)) => {
                let (request, stored) = (Arc::clone(&context.request), Arc::clone(stored));
                let outcome = Hit { request, stored, reuse }.outcome(to);
                Forecast::of(Ok(outcome)).stale(reuse.staleness)
            }
            _ => match self.permitted(caller) {
                Err(error) => Forecast::of(Err(error)),
                Ok(()) => self.forecast_beyond(to, context, &found, &peek),
            },
        };
        let variants = variants.as_ref().map_or(0, |variants| variants.as_slice().len());
        forecast.looked_up(to, context, &found, variants, self.clock.now())
    }

    fn forecast_beyond(
        &self,
        to: &Destination,
        context: &RequestContext,
        found: &LookUp,
        peek: &StorePeek<'_>,
    ) -> Forecast {
        let now = self.clock.now();
        let variants = peek.variants(&context.request.key);
        // What a mirror makes is stored before the origin is asked.
        let stored = found.stored.clone();
        let in_place = |failure, reason| {
            self.stored_in_place_of_origin(to, context.clone(), stored.clone(), failure, reason)
        };
        let in_hand = stored.as_deref();
        if let PresentedTokens::Unknown(_) = context.presented {
            let reason = ForwardReason::Stale(StaleReason::Uncovered(UncoveredReason::UnknownSyncToken));
            if let Some(failure) = to.upstream.throttled(&context.request.fields, now) {
                return Forecast::of(in_place(failure, None)).because_of(reason);
            }
            let first = "the origin is asked first what the caller's Sync-Token stands for".to_owned();
            let forward = ForwardFacts { first: Some(first), ..self.fetched(to, context, None) };
            let if_no_answer = Forecast::of(in_place(no_answer(to), None));
            return Forecast::forwarded(to, reason, forward).or_else(if_no_answer);
        }
        let step = self.step(to, context, found, &|key| peek.variants(key));
        let (reason, forward, hold) = match step {
            RetrievalStep::Refuse | RetrievalStep::Reuse => return Forecast::of(Err(only_if_cached())),
            RetrievalStep::Pass(reason) => {
                let request = &context.request;
                let forward = ForwardFacts::passed(to, &request.method, &context.target, &request.fields);
                let if_no_answer = Forecast::of(Ok(Outcome::failed(no_answer(to).error, reason)));
                return Forecast::forwarded(to, reason, forward).or_else(if_no_answer);
            }
            RetrievalStep::ValidateMirror(reason) => {
                if let Some(hold) = to.mirror.as_ref().and_then(|mirror| mirror.hold()) {
                    return Forecast::of(in_place(hold.pause.into(), Some(reason))).because_of(reason);
                }
                let first = "the ranges of the mirror that it depends on are validated".to_owned();
                let forward = ForwardFacts { first: Some(first), ..self.fetched(to, context, in_hand) };
                (reason, forward, None)
            }
            RetrievalStep::Alone(reason) => {
                let hold = to.upstream.hold(&context.request, || stored.clone(), now);
                (reason, self.fetched_alone(to, context, Validates::Nothing, None), hold)
            }
            RetrievalStep::ValidateList(reason, list) => {
                let first =
                    format!("the list {} is validated in its place", list.request.key.canonical_target());
                let hold = to.upstream.hold(&context.request, || stored.clone(), now);
                let forward = ForwardFacts { first: Some(first), ..self.fetched(to, context, in_hand) };
                (reason, forward, hold)
            }
            RetrievalStep::Fetch(reason) => {
                let hold = to.upstream.hold(&context.request, || stored.clone(), now);
                if fetches_alone(to, context) {
                    (reason, self.fetched_alone(to, context, Validates::Stored, in_hand), hold)
                } else {
                    let key = collapse_key_among(&context.request, variants.as_ref());
                    let joins = to.upstream.would_join(&key, |covers| follows(to, context, covers));
                    let forward = ForwardFacts { joins: Some(joins), ..self.fetched(to, context, in_hand) };
                    (reason, forward, hold)
                }
            }
        };
        if let Some(hold) = hold {
            return Forecast::of(in_place(hold.pause.into(), None)).because_of(reason);
        }
        let if_no_answer = Forecast::of(in_place(no_answer(to), Some(reason)));
        Forecast::forwarded(to, reason, forward).or_else(if_no_answer)
    }

    /// What goes upstream for a retrieval that may share its fetch.
    fn fetched(
        &self,
        to: &Destination,
        context: &RequestContext,
        in_hand: Option<&StoredResponse>,
    ) -> ForwardFacts {
        ForwardFacts::fetched(to, &context.retrieval(to, Validates::Stored), in_hand)
    }

    fn fetched_alone(
        &self,
        to: &Destination,
        context: &RequestContext,
        validates: Validates,
        in_hand: Option<&StoredResponse>,
    ) -> ForwardFacts {
        let forward = ForwardFacts::fetched(to, &context.retrieval(to, validates), in_hand);
        ForwardFacts { is_alone: true, ..forward }
    }
}

/// What an origin that cannot be reached comes to.
fn no_answer(to: &Destination) -> UpstreamFailure {
    let (_, authority) = to.upstream.active_endpoint();
    let upstream = authority.to_string();
    ProxyError::Connect { upstream, cause: "it does not answer".into(), advice: "Start it" }.into()
}

/// Whether a request that joins so answers with the fetch of another.
const fn is_follower(joins: Joins) -> bool {
    matches!(joins, Joins::FollowsCurrent { .. } | Joins::FollowsQueued)
}
