//! A retrieval that the store does not answer: what its sync tokens demand is resolved, what was decided is done, and where the
//! origin cannot be reached, what is stored may answer all the same.
//!
//! ```text
//! unknown sync tokens? ── resolve ──▶ look up ──▶ Reuse     from the store
//!                                                 Refuse    504: the caller forbids asking
//!                                                 Forward   by itself (no-store), or passed on (a condition for the origin)
//!                                                 Validate  a list that contains it first, or itself ──▶ fetch
//!                                                 Fetch     ──▶ fetch
//! ```

use std::sync::Arc;

use http::StatusCode;
use http::header::ETAG;

use super::Proxy;
use super::destination::Destination;
use super::look_up::LookUp;
use super::outcome::{Hit, Outcome};
use super::pass_through::Passing;
use super::request_context::RequestContext;
use crate::body::FlowingBody;
use crate::clock::Timestamp;
use crate::decide::age::current_age;
use crate::decide::disconnected::{DisconnectedRefusal, disconnected, items_within_limits};
use crate::decide::list_first::validates_list_first;
use crate::decide::storable::NotStored;
use crate::decide::{BypassReason, Decision, ForwardReason, Reuse, StaleReason, Staleness, Unreachable};
use crate::error::{ProxyError, RefusalReason, Refused};
use crate::profile::ItemState;
use crate::store::Variants;
use crate::stored_response::{CacheKey, StoredResponse};
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::{CoverageVerdict, UncoveredReason};
use crate::upstream::pass_through::PassedAnswer;
use crate::upstream::result::{UnsharedAnswer, UpstreamFailure};
use crate::upstream::retrieval::Validates;
use crate::upstream::store_view::select;
use crate::upstream::unknown_tokens::ResolvedTokens;

/// What is done for a retrieval that the store does not answer.
pub(super) enum RetrievalStep {
    /// It is refused: its caller forbids asking.
    Refuse,
    /// It is passed on with its condition.
    Pass(ForwardReason),
    /// The origin is asked for this request alone, without conditions.
    Alone(ForwardReason),
    /// The ranges of a mirror that it depends on are validated.
    ValidateMirror(ForwardReason),
    /// This list is validated, which contains what is asked for.
    ValidateList(ForwardReason, Box<RequestContext>),
    /// It is fetched, or validated.
    Fetch(ForwardReason),
    /// Nothing: the store answers.
    Reuse,
}

impl Proxy {
    /// Answers from the store. What may be stale while it is validated is validated in the background.
    pub(super) fn hit(
        &self,
        to: &Destination,
        context: &RequestContext,
        stored: Arc<StoredResponse>,
        reuse: Reuse,
    ) -> Hit {
        if reuse.staleness == Staleness::WhileRevalidate {
            self.validate_in_background(to, context);
        }
        if reuse.staleness == Staleness::Stretched {
            to.upstream.note_stretched_use(&stored, self.clock.now());
        }
        self.note_use(to, context, &stored);
        Hit { request: Arc::clone(&context.request), stored, reuse }
    }

    /// Resolves first what the caller's unknown token values include, then looks up and retrieves.
    pub(super) async fn resolve_and_retrieve(
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
                let found = LookUp::of(Decision::Forward(reason), None);
                return Box::pin(self.retrieve(to, context, found, body)).await;
            }
            ResolvedTokens::StillUnknown { replaced_ours: true, .. } => {
                return Box::pin(self.fetch_unshared(to, context, reason, Validates::Stored, None)).await;
            }
            ResolvedTokens::StillUnknown { answer, replaced_ours: false } => {
                let PassedAnswer { head, body, .. } = answer;
                let unshared = UnsharedAnswer { head, body, not_stored: NotStored::UnknownSyncToken };
                return Ok(Outcome::unshared(&context.request, unshared, reason, None));
            }
        };
        match self.answer_after_asking(to, &context, reason) {
            Ok(answer) => Ok(answer),
            Err(found) => Box::pin(self.retrieve(to, context, found, body)).await,
        }
    }

    /// What the store answers once the origin was asked, for `reason`: this is not a hit. Else what was found.
    fn answer_after_asking(
        &self,
        to: &Destination,
        context: &RequestContext,
        reason: ForwardReason,
    ) -> Result<Outcome, LookUp> {
        let found = self.look_up(to, context);
        found.keep_made(to, context);
        match found {
            LookUp { decision: Decision::Reuse(reuse), stored: Some(stored), .. } => {
                Ok(self.hit(to, context, stored, reuse).outcome(to).after_asking(reason))
            }
            found => Err(found),
        }
    }

    /// Does what was decided for a retrieval that the store does not answer.
    pub(super) async fn retrieve(
        &self,
        to: &Destination,
        context: RequestContext,
        found: LookUp,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        let variants = |key: &CacheKey| to.upstream.variants(key);
        match self.step(to, &context, &found, &variants) {
            RetrievalStep::Refuse => Err(only_if_cached()),
            RetrievalStep::Pass(reason) => {
                let RequestContext { request, target, rules, .. } = context;
                let shows = Some(request.key.clone());
                let (method, fields) = (request.method.clone(), request.fields.clone());
                let passing = Passing { method, target, fields, shows, body };
                let answer = Box::pin(self.pass(to, passing, reason, &rules)).await?;
                if let Some(stored) = found.stored
                    && answer.status() == Some(StatusCode::PRECONDITION_FAILED)
                {
                    // It tells of a newer state than the stored one.
                    to.upstream.outdate(&request.key, &stored);
                }
                Ok(answer)
            }
            RetrievalStep::Alone(reason) => {
                Box::pin(self.fetch_unshared(to, context, reason, Validates::Nothing, None)).await
            }
            RetrievalStep::ValidateMirror(reason) => match self.validate_mirror(to, &context).await {
                Err(failure) => self.without_origin(to, context, failure, Some(reason)),
                Ok(()) => match self.answer_after_asking(to, &context, reason) {
                    Ok(answer) => Ok(answer),
                    Err(_) => Box::pin(self.fetch(to, context, reason)).await,
                },
            },
            RetrievalStep::ValidateList(reason, list) => {
                // What became of the list is told by what is stored now.
                let _list = Box::pin(self.fetch(to, *list, reason)).await;
                match self.answer_after_asking(to, &context, reason) {
                    Ok(answer) => Ok(answer),
                    Err(_) => Box::pin(self.fetch(to, context, reason)).await,
                }
            }
            RetrievalStep::Fetch(reason) => Box::pin(self.fetch(to, context, reason)).await,
            RetrievalStep::Reuse => Err(ProxyError::Internal { cause: "a hit went beyond the store".into() }),
        }
    }

    /// What is to be done for a retrieval after this decision. `variants` reads the store.
    pub(super) fn step(
        &self,
        to: &Destination,
        context: &RequestContext,
        found: &LookUp,
        variants: &dyn Fn(&CacheKey) -> Option<Variants>,
    ) -> RetrievalStep {
        match found.decision {
            Decision::Refuse => RetrievalStep::Refuse,
            Decision::Forward(reason @ ForwardReason::Bypass(BypassReason::Precondition)) => {
                RetrievalStep::Pass(reason)
            }
            Decision::Forward(reason) => RetrievalStep::Alone(reason),
            Decision::Validate(reason) | Decision::Fetch(reason)
                if found.is_mirrored && reason.is_about_stored() =>
            {
                RetrievalStep::ValidateMirror(reason)
            }
            Decision::Validate(reason) => {
                let stored = found.stored.as_deref();
                match stored
                    .and_then(|stored| self.list_to_validate(to, context, stored, reason, 1.0, variants))
                {
                    Some(list) => RetrievalStep::ValidateList(reason, Box::new(list)),
                    None => RetrievalStep::Fetch(reason),
                }
            }
            Decision::Fetch(reason) => RetrievalStep::Fetch(reason),
            Decision::Reuse(_) => RetrievalStep::Reuse,
        }
    }

    /// Validates the ranges of a mirror that a request depends on.
    async fn validate_mirror(
        &self,
        to: &Destination,
        context: &RequestContext,
    ) -> Result<(), UpstreamFailure> {
        let Some(mirror) = &to.mirror else { return Ok(()) };
        let satisfies = |covers| context.verdict(to, covers) == CoverageVerdict::Covered;
        Box::pin(mirror.validate(&context.request, &context.presented, satisfies)).await
    }

    /// The list to validate in place of a stored item. `None` where callers' own credentials go upstream: the caller of the item
    /// may not be allowed to read the list. Only the first `fresh_part` of a lifetime counts as fresh. `variants` reads the store.
    pub(super) fn list_to_validate(
        &self,
        to: &Destination,
        item: &RequestContext,
        stored: &StoredResponse,
        reason: ForwardReason,
        fresh_part: f64,
        variants: &dyn Fn(&CacheKey) -> Option<Variants>,
    ) -> Option<RequestContext> {
        let upstream = &to.upstream;
        if upstream.credential().forwards_callers() {
            return None;
        }
        let list =
            upstream.list_containing(item.request.key.canonical_target(), stored.fields.get(&ETAG)?)?;
        let now = self.clock.now();
        let answers = |key: &CacheKey| {
            let stored = select(&variants(key)?, &item.request.fields).cloned()?;
            let verdict = upstream.verdict_of_key(key, stored.covers, &PresentedTokens::NOTHING, &item.rules);
            let is_fresh = current_age(&stored, now) < upstream.lifetime(&stored, now).mul_f64(fresh_part);
            Some(is_fresh && verdict == CoverageVerdict::Covered)
        };
        let stale_items = list
            .item_targets()
            .filter(|target| answers(&list.request.key.of_target(target)) == Some(false))
            .count();
        // A list that is not stored any more would be fetched with its body.
        let list_answers = answers(&list.request.key)?;
        validates_list_first(reason, list_answers, stale_items).then(|| RequestContext {
            request: Arc::new(list.request.as_validation()),
            target: list.target.clone(),
            rules: Arc::clone(&list.rules),
            presented: PresentedTokens::NOTHING,
            proven: true,
        })
    }

    /// What may answer although the origin does not (`when_disconnected`).
    pub(super) fn without_origin(
        &self,
        to: &Destination,
        context: RequestContext,
        failure: UpstreamFailure,
        reason: Option<ForwardReason>,
    ) -> Result<Outcome, ProxyError> {
        let stored = to.upstream.stored(&context.request);
        self.stored_in_place_of_origin(to, context, stored, failure, reason)
    }

    /// The same for what is stored for the request.
    pub(super) fn stored_in_place_of_origin(
        &self,
        to: &Destination,
        context: RequestContext,
        stored: Option<Arc<StoredResponse>>,
        failure: UpstreamFailure,
        reason: Option<ForwardReason>,
    ) -> Result<Outcome, ProxyError> {
        let stored = stored.filter(|_| context.proven);
        let verdict =
            stored.as_ref().map_or(CoverageVerdict::Covered, |stored| context.verdict(to, stored.covers));
        let now = self.clock.now();
        let error = match disconnected(
            &context.request,
            stored.as_deref(),
            verdict,
            failure.why,
            &context.rules,
            now,
        ) {
            Ok(_)
                if stored
                    .as_ref()
                    .is_some_and(|stored| to.upstream.is_behind_told(&context.request.key, stored)) =>
            {
                let reason = Unreachable::Behind.as_str().into();
                ProxyError::Disconnected { reason, cause: Box::new(failure.error) }
            }
            Ok(reuse) => match stored {
                Some(stored) => match items_past_limits(to, &context, &stored, now) {
                    None => return Ok(Outcome::stale(context.request, stored, reuse, reason)),
                    Some(reason) => {
                        ProxyError::Disconnected { reason: reason.into(), cause: Box::new(failure.error) }
                    }
                },
                None => failure.error,
            },
            Err(DisconnectedRefusal::NothingStored | DisconnectedRefusal::Method) => failure.error,
            Err(refusal) => {
                ProxyError::Disconnected { reason: refusal.as_str().into(), cause: Box::new(failure.error) }
            }
        };
        match reason {
            Some(reason) => Ok(Outcome::failed(error, reason)),
            None => Err(error),
        }
    }
}

/// Why a list may not answer for its items; `None` if it may, or is no list.
fn items_past_limits(
    to: &Destination,
    context: &RequestContext,
    stored: &StoredResponse,
    now: Timestamp,
) -> Option<String> {
    let strictest = to.strictest_stale_limit()?;
    let (profile, target) = (to.upstream.profile(), context.request.key.canonical_target());
    if stored.status != StatusCode::OK || !profile.shows_items(target) {
        return None;
    }
    let stale_for = current_age(stored, now).saturating_sub(stored.policy.freshness_lifetime);
    let items = profile.list_items(target, &stored.body);
    let limit_of = |item: &ItemState| {
        let path = item.canonical_target.split('?').next().unwrap_or_default();
        to.rules(path).stale_limit
    };
    let limits =
        items.as_ref().map(|items| items.iter().map(|item| (item.canonical_target.as_str(), limit_of(item))));
    let (refusal, item) = items_within_limits(stale_for, limits, strictest).err()?;
    Some(item.map_or_else(|| refusal.as_str().to_owned(), |item| format!("{}: {item}", refusal.as_str())))
}

/// The refusal where the caller forbids to ask.
pub(super) fn only_if_cached() -> ProxyError {
    ProxyError::Refused(Refused::new(
        RefusalReason::OnlyIfCached,
        "Nothing stored may answer this, and only-if-cached forbids asking upstream. Send the request without it",
    ))
}
