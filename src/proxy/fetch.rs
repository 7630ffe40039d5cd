//! Fetching from the origin: one fetch for all requests with the same collapse key, or one for a single request.

use super::Proxy;
use super::destination::Destination;
use super::outcome::Outcome;
use super::request_context::RequestContext;
use crate::decide::collapsing::{may_collapse, may_follow, may_share_result};
use crate::decide::{Decision, ForwardReason};
use crate::error::ProxyError;
use crate::stored_response::CacheKey;
use crate::sync_token::coverage::Coverage;
use crate::upstream::collapse::Role;
use crate::upstream::result::{LeaderResult, SharedResponse, SharedResult};
use crate::upstream::retrieval::Validates;

/// Whether a request goes upstream by itself: it neither leads others nor follows one.
pub(super) fn fetches_alone(to: &Destination, context: &RequestContext) -> bool {
    !context.proven
        || !may_collapse(&context.request, to.upstream.profile().fetches_head_as_get())
        || to.upstream.hit_for_miss(&context.request).is_some()
}

/// Whether a request may follow a fetch that has started with this coverage.
pub(super) fn follows(to: &Destination, context: &RequestContext, covers: Coverage) -> bool {
    let follows_any = !to.upstream.session().clauses().joiner_checks_snapshot();
    follows_any || may_follow(&context.request, context.verdict(to, covers), &context.rules)
}

impl Proxy {
    /// Asks upstream. Requests for the same collapse key share one fetch.
    pub(super) async fn fetch(
        &self,
        to: &Destination,
        context: RequestContext,
        reason: ForwardReason,
    ) -> Result<Outcome, ProxyError> {
        if fetches_alone(to, &context) {
            return Box::pin(self.fetch_unshared(to, context, reason, Validates::Stored, None)).await;
        }
        let mut joined: Option<CacheKey> = None;
        let mut collapsed = None;
        // At most twice. A request that followed the fetch of another variant knows by then which fields select, and joins that of its
        // own. A failure is for its leader alone (RFC 9111 §4), but it may pass: one of the followers asks again, not all at once.
        // After a second failure each asks for itself: going on would serve them one after the other.
        for _ in 0..2 {
            if let Some(failure) = to.upstream.held(&context.request, self.clock.now()) {
                return self.without_origin(to, context, failure, None);
            }
            let collapse_key = to.upstream.collapse_key(&context.request);
            if joined.as_ref() == Some(&collapse_key) {
                break;
            }
            let satisfies = |covers| follows(to, &context, covers);
            match to.upstream.join(&collapse_key, satisfies) {
                (Role::Lead(leader), snapshot) => {
                    return match context.retrieval(to, Validates::Stored).lead(leader, snapshot).await {
                        Some(answer) => self.led(to, context, answer, reason, collapsed),
                        None => Err(ProxyError::Internal { cause: "a fetch ended without a result".into() }),
                    };
                }
                (Role::Follow(follower), _) => {
                    let starts_later = follower.starts_later;
                    match follower.result().await {
                        Some(SharedResult::Response(shared))
                            if may_share_result(&context.request, &shared.response, starts_later)
                                && self.may_share_record(to, &context, &shared) =>
                        {
                            return Ok(Outcome::shared(context.request, shared, reason, Some(true)));
                        }
                        Some(SharedResult::Arriving(arriving))
                            if may_share_result(&context.request, &arriving.head, starts_later) =>
                        {
                            let answer = arriving.into_unshared();
                            return Ok(Outcome::unshared(&context.request, answer, reason, Some(true)));
                        }
                        Some(SharedResult::Failed(failure)) => {
                            return self.without_origin(to, context, failure, Some(reason));
                        }
                        Some(SharedResult::Response(_) | SharedResult::Arriving(_)) => {
                            joined = Some(collapse_key)
                        }
                        Some(SharedResult::NotShared { may_pass: true }) => {}
                        Some(SharedResult::NotShared { may_pass: false }) | None => break,
                    }
                    collapsed = Some(false);
                }
            }
        }
        Box::pin(self.fetch_unshared(to, context, reason, Validates::Stored, Some(false))).await
    }

    /// Whether a result may answer a follower, where it is a record of the fleet: unlike an answer of the origin it may have been asked for
    /// before the follower came.
    fn may_share_record(&self, to: &Destination, context: &RequestContext, shared: &SharedResponse) -> bool {
        shared.known_since.is_none()
            || matches!(self.decide(to, context, Some(&shared.response), true), Decision::Reuse(_))
    }

    /// Asks upstream for this request alone.
    pub(super) async fn fetch_unshared(
        &self,
        to: &Destination,
        context: RequestContext,
        reason: ForwardReason,
        validates: Validates,
        collapsed: Option<bool>,
    ) -> Result<Outcome, ProxyError> {
        if let Some(failure) = to.upstream.held(&context.request, self.clock.now()) {
            return self.without_origin(to, context, failure, None);
        }
        let snapshot = to.upstream.session().snapshot(&[]);
        let answer = context.retrieval(to, validates).ask(snapshot, std::future::pending()).await;
        self.led(to, context, answer, reason, collapsed)
    }

    /// What the leader of a fetch gets.
    fn led(
        &self,
        to: &Destination,
        context: RequestContext,
        answer: LeaderResult,
        reason: ForwardReason,
        collapsed: Option<bool>,
    ) -> Result<Outcome, ProxyError> {
        to.upstream.remember_hit_for_miss(&context.request, &answer);
        match answer {
            LeaderResult::Shared(SharedResult::Response(shared)) => {
                Ok(Outcome::shared(context.request, shared, reason, collapsed))
            }
            LeaderResult::Shared(SharedResult::Arriving(arriving)) => {
                Ok(Outcome::unshared(&context.request, arriving.into_unshared(), reason, collapsed))
            }
            LeaderResult::Stored { shared, withheld } => {
                Ok(Outcome::shared(context.request, shared, reason, collapsed).with_own_fields(withheld))
            }
            LeaderResult::Shared(SharedResult::Failed(failure)) => {
                self.without_origin(to, context, failure, Some(reason))
            }
            LeaderResult::Shared(SharedResult::NotShared { .. }) => {
                Err(ProxyError::Internal { cause: "a fetch ended without an answer".into() })
            }
            LeaderResult::Only { response, status, not_stored } => {
                Ok(Outcome::only(context.request, response, status, reason, not_stored))
            }
            LeaderResult::Alone(alone) => Ok(Outcome::unshared(&context.request, alone, reason, collapsed)),
        }
    }

    /// Validates in the background, unless a fetch for the same key is under way or the upstream is throttled. Says whether it does.
    pub(super) fn validate_in_background(&self, to: &Destination, context: &RequestContext) -> bool {
        if to.upstream.held(&context.request, self.clock.now()).is_some() {
            return false;
        }
        let collapse_key = to.upstream.collapse_key(&context.request);
        let (Role::Lead(leader), snapshot) = to.upstream.join(&collapse_key, |_| true) else { return false };
        let retrieval = context.retrieval(to, Validates::Stored);
        tokio::spawn(async move {
            let (answer, _answered) = tokio::sync::oneshot::channel();
            // No caller waits for it, and still it is read to its end.
            let _follower = leader.follow();
            retrieval.run(leader, snapshot, answer).await;
        });
        true
    }
}
