//! What the store does not answer: passed on as it is, written through, or asked upstream.

use std::sync::Arc;

use http::header::{ETAG, RANGE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::destination::Destination;
use super::outcome::Outcome;
use super::{Found, Proxy, RequestContext};
use crate::body::FlowingBody;
use crate::config::CachingRules;
use crate::decide::age::current_age;
use crate::decide::list_first::asks_list_first;
use crate::decide::storable::NotStored;
use crate::decide::{BypassReason, Decision, ForwardReason, RequestReason, StaleReason};
use crate::error::{ProxyError, RefusalReason, Refused};
use crate::headers::survey::FieldSet;
use crate::identify::{Bypassed, Identified};
use crate::presented_request::PresentedRequest;
use crate::profile;
use crate::stored_response::{CacheKey, StoredResponse};
use crate::sync_token::aggregate::Presented;
use crate::sync_token::coverage::{CoverageVerdict, UncoveredReason};
use crate::transport::caller_body::take_in;
use crate::upstream::pass_through::{PassedAnswer, PassedRequest};
use crate::upstream::retrieval::UnsharedAnswer;
use crate::upstream::unknown_tokens::ResolvedTokens;

impl Proxy {
    /// Learns first what the caller's unknown token values include, then walks on.
    pub(super) async fn learn_and_answer(
        &self,
        to: &Destination,
        context: RequestContext,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        let reason = ForwardReason::Stale(StaleReason::Uncovered(UncoveredReason::UnknownSyncToken));
        let RequestContext { request, target, rules, .. } = &context;
        let resolved = to
            .upstream
            .resolve_tokens(&request.fields, &request.method, target, Some(&request.key), rules)
            .await;
        let context = match resolved {
            ResolvedTokens::Demands(presented) => RequestContext { presented, ..context },
            ResolvedTokens::Unknown(presented, failure) => {
                return self.without_origin(to, RequestContext { presented, ..context }, failure, None);
            }
            ResolvedTokens::Refused(answer) => {
                return Ok(Outcome::passed(&context.request.method, answer, reason));
            }
            ResolvedTokens::StillUnknown { .. } if context.request.preconditions.is_for_origin() => {
                // That answer was asked for without the caller's condition.
                let reason = ForwardReason::Bypass(BypassReason::Precondition);
                return self.go_forward(to, context, Decision::Forward(reason), None, body).await;
            }
            ResolvedTokens::StillUnknown { replaced_ours: true, .. } => {
                return self.fetch_unshared(to, context, reason, true, None).await;
            }
            ResolvedTokens::StillUnknown { answer, replaced_ours: false } => {
                let PassedAnswer { head, body, .. } = answer;
                let alone = UnsharedAnswer { head, body, not_stored: NotStored::UnknownSyncToken };
                return Ok(Outcome::alone(&context.request, alone, reason, None));
            }
        };
        match self.look_up(to, context) {
            // The origin was asked for it.
            Found::Hit(hit) => Ok(hit.after_asking(reason)),
            Found::Other(context, decision, stored) => {
                self.go_forward(to, context, decision, stored, body).await
            }
        }
    }

    /// What was decided for a retrieval that is no hit. `stored` is what the decision was about.
    pub(super) async fn go_forward(
        &self,
        to: &Destination,
        context: RequestContext,
        decision: Decision,
        stored: Option<Arc<StoredResponse>>,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        match decision {
            Decision::Refuse => Err(only_if_cached()),
            Decision::Forward(reason @ ForwardReason::Bypass(BypassReason::Precondition)) => {
                let RequestContext { request, target, rules, .. } = context;
                let shows = Some(request.key.clone());
                let (method, fields) = (request.method.clone(), request.fields.clone());
                let answer = self.pass(to, method, target, fields, shows, reason, &rules, body).await?;
                if let Some(stored) = stored
                    && answer.status() == Some(StatusCode::PRECONDITION_FAILED)
                {
                    // It tells of a newer state than the stored one.
                    to.upstream.outdate(&request.key, &stored);
                }
                Ok(answer)
            }
            Decision::Forward(reason) => self.fetch_unshared(to, context, reason, false, None).await,
            Decision::Reuse(_) => {
                let reason = ForwardReason::Request(RequestReason::UnprovenCaller);
                self.fetch_unshared(to, context, reason, true, None).await
            }
            Decision::Validate(reason) => {
                let Some(list) = stored.and_then(|stored| self.list_to_ask(to, &context, &stored, reason))
                else {
                    return self.fetch(to, context, reason).await;
                };
                // What became of the list is told by what is stored now.
                let _asked = self.fetch(to, list, reason).await;
                match self.look_up(to, context) {
                    Found::Hit(hit) => Ok(hit.after_asking(reason)),
                    Found::Other(context, ..) => self.fetch(to, context, reason).await,
                }
            }
            Decision::Fetch(reason) => self.fetch(to, context, reason).await,
        }
    }

    /// The list to validate in the place of a stored item. Not where callers prove themselves: a list may not be theirs to see.
    fn list_to_ask(
        &self,
        to: &Destination,
        item: &RequestContext,
        stored: &StoredResponse,
        reason: ForwardReason,
    ) -> Option<RequestContext> {
        let upstream = &to.upstream;
        if upstream.credential.forwards_callers() {
            return None;
        }
        let list =
            upstream.lists.containing(item.request.key.canonical_target(), stored.fields.get(&ETAG)?)?;
        let now = self.clock.now();
        let answers = |key: &CacheKey| {
            let stored = upstream.stored_for(key, &item.request.fields)?;
            let scope = upstream.order_scope(key, &item.rules);
            let verdict = upstream.session.verdict(stored.covers, &Presented::NOTHING, scope, |write| {
                upstream.profile.touches(write, key.canonical_target())
            });
            let is_fresh = current_age(&stored, now) < stored.policy.freshness_lifetime;
            Some(is_fresh && verdict == CoverageVerdict::Covered)
        };
        let stale_items = list
            .item_targets()
            .filter(|target| answers(&list.request.key.of_target(target)) == Some(false))
            .count();
        // What is no longer stored would be fetched anew, with its body.
        let list_answers = answers(&list.request.key)?;
        asks_list_first(reason, list_answers, stale_items).then(|| RequestContext {
            request: Arc::new(list.request.as_validation()),
            target: list.target.clone(),
            rules: Arc::clone(&list.rules),
            presented: Presented::NOTHING,
            proven: true,
        })
    }

    /// A request that is no retrieval, or none that the cache understands.
    pub(super) async fn pass_on(
        &self,
        to: &Destination,
        identified: Identified,
        target: PathAndQuery,
        rules: Arc<CachingRules>,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        match identified {
            Identified::Cacheable(post) => {
                let (method, fields) = (post.method.clone(), post.fields.clone());
                self.write(to, method, target, fields, Some(Arc::unwrap_or_clone(post)), rules, body).await
            }
            Identified::Bypass(bypassed) if !bypassed.method.is_safe() => {
                self.write(to, bypassed.method, target, bypassed.fields, None, rules, body).await
            }
            Identified::Bypass(bypassed) => {
                let reason = match bypassed.reason {
                    profile::BypassReason::Method => ForwardReason::Method,
                    reason => ForwardReason::Bypass(BypassReason::Unidentified(reason)),
                };
                let shows = shown_by_bypassed(to, &bypassed, &target);
                self.pass(to, bypassed.method, target, bypassed.fields, shows, reason, &rules, body).await
            }
        }
    }

    /// Passes a request on that the cache has no part in. `shows` is the key of which its answer shows the state.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, taken apart once")]
    async fn pass(
        &self,
        to: &Destination,
        method: Method,
        target: PathAndQuery,
        fields: HeaderMap,
        shows: Option<CacheKey>,
        reason: ForwardReason,
        rules: &CachingRules,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        // Its own answer must be as new as its tokens too. Where the origin does not answer with their ids, they go along.
        match to.upstream.resolve_tokens(&fields, &method, &target, None, rules).await {
            ResolvedTokens::Demands(_) | ResolvedTokens::StillUnknown { .. } => {}
            ResolvedTokens::Unknown(_, failure) => return Ok(Outcome::failed(failure.error, reason)),
            ResolvedTokens::Refused(answer) => return Ok(Outcome::passed(&method, answer, reason)),
        }
        let forwarded = self.forwarded(to, method.clone(), target, fields, shows, body).await?;
        Ok(match to.upstream.forward_safe(forwarded, rules).await {
            Ok(answer) => Outcome::passed(&method, answer, reason),
            Err(failure) => Outcome::failed(failure.error, reason),
        })
    }

    /// Passes a write on and learns its outcome, whatever becomes of its caller. A `POST` whose answer describes its own target may
    /// feed later retrievals (`caching.md` rule 20).
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, taken apart once")]
    async fn write(
        &self,
        to: &Destination,
        method: Method,
        target: PathAndQuery,
        fields: HeaderMap,
        post: Option<PresentedRequest>,
        rules: Arc<CachingRules>,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        let shows = post.as_ref().map(|post| post.key.clone()).or_else(|| shown_key(to, &fields, &target));
        let forwarded = self.forwarded(to, method.clone(), target, fields, shows, body).await?;
        let written = Arc::clone(&to.upstream).write(forwarded, rules, post).await;
        Ok(match written {
            Ok(answer) => Outcome::passed(&method, answer, ForwardReason::Method),
            Err(failure) => Outcome::failed(failure.error, ForwardReason::Method),
        })
    }

    async fn forwarded(
        &self,
        to: &Destination,
        method: Method,
        target: PathAndQuery,
        fields: HeaderMap,
        shows: Option<CacheKey>,
        body: FlowingBody,
    ) -> Result<PassedRequest, ProxyError> {
        let mut limits = self.body_limits;
        if to.upstream.credential.signs_body() {
            limits.buffered_bytes = limits.limit_bytes;
        }
        let unknown_tokens = match to.upstream.session.requirement(&fields) {
            Presented::Unknown(values) => values,
            Presented::Known { .. } => Vec::new(),
        };
        let body = take_in(body, limits).await?;
        let body_deadline = limits.deadline;
        Ok(PassedRequest { method, target, fields, body, body_deadline, unknown_tokens, shows })
    }
}

/// The key of the plain retrieval of a target.
fn shown_key(to: &Destination, fields: &HeaderMap, target: &PathAndQuery) -> Option<CacheKey> {
    let canonical = to.upstream.profile.canonical_target(&Method::GET, target, FieldSet::default()).ok()?;
    let identity = to.identity(fields);
    Some(CacheKey::new(&to.upstream.name, &identity.partition, &canonical))
}

/// Of which key the answer to a bypassed retrieval shows the state. None of what it shows of another time; and what shows some
/// items of a list, or is not understood, shows a state of its own. A range of bytes has the validators of the whole (RFC 9110
/// §15.3.7), and an origin may answer it with the whole (§14.2).
fn shown_by_bypassed(to: &Destination, bypassed: &Bypassed, target: &PathAndQuery) -> Option<CacheKey> {
    let is_retrieval = matches!(bypassed.method, Method::GET | Method::HEAD);
    if !is_retrieval || bypassed.reason == profile::BypassReason::AcceptDatetime {
        return None;
    }
    let plain = shown_key(to, &bypassed.fields, target);
    match (plain, bypassed.fields.get(RANGE)) {
        (Some(key), Some(range))
            if !is_of_bytes(range) && !to.upstream.profile.is_dated(key.canonical_target()) =>
        {
            let part = format!("{}\0{}", key.canonical_target(), String::from_utf8_lossy(range.as_bytes()));
            Some(key.of_target(&part))
        }
        (Some(key), _) => Some(key),
        (None, _) => {
            let identity = to.identity(&bypassed.fields);
            Some(CacheKey::new(&to.upstream.name, &identity.partition, target.as_str()))
        }
    }
}

fn is_of_bytes(range: &HeaderValue) -> bool {
    let unit = range.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
    unit.trim_ascii().eq_ignore_ascii_case(b"bytes")
}

fn only_if_cached() -> ProxyError {
    ProxyError::Refused(Refused::new(
        RefusalReason::OnlyIfCached,
        "Nothing stored may answer this, and only-if-cached forbids asking upstream. Send the request without it",
    ))
}
