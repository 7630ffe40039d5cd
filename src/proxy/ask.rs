//! Asking the origin for a retrieval: with all who ask for the same, or alone; and what answers when it does not.

use super::destination::Destination;
use super::outcome::Outcome;
use super::{Proxy, RequestContext};
use crate::decide::ForwardReason;
use crate::decide::collapsing::{may_be_handed, may_collapse, may_join};
use crate::decide::disconnected::{DisconnectedRefusal, disconnected};
use crate::error::ProxyError;
use crate::stored_response::CacheKey;
use crate::sync_token::coverage::CoverageVerdict;
use crate::sync_token::session::Snapshot;
use crate::upstream::collapse::Role;
use crate::upstream::retrieval::{Failure, LeaderResult, SharedResult};

impl Proxy {
    /// Asks upstream, together with everyone who asks for the same.
    pub(super) async fn fetch(
        &self,
        to: &Destination,
        context: RequestContext,
        reason: ForwardReason,
    ) -> Result<Outcome, ProxyError> {
        if !context.proven
            || !may_collapse(&context.request, to.upstream.profile.fetches_head_as_get())
            || to.upstream.hit_for_miss.contains(&context.request.sharing_key())
        {
            return self.fetch_unshared(to, context, reason, true, None).await;
        }
        let mut joined: Option<CacheKey> = None;
        let mut collapsed = None;
        // Twice at most: who was on the fetch of another variant has seen by then which fields select, and takes his own. And a
        // failure is for its leader alone (RFC 9111 §4), but it may pass: one of those who waited asks again, not all at once. After
        // a second failure each asks for himself: to go on would serve them one after the other.
        for _ in 0..2 {
            if let Some(failure) = to.upstream.throttled(&context.request.fields, self.clock.now()) {
                return self.without_origin(to, context, failure, None);
            }
            let collapse_key = to.upstream.collapse_key(&context.request);
            if joined.as_ref() == Some(&collapse_key) {
                break;
            }
            match self.join(to, &context, &collapse_key) {
                (Role::Lead(leader), snapshot) => {
                    let (answer, answered) = tokio::sync::oneshot::channel();
                    // Held while this caller waits, so that the fetch knows that somebody does.
                    let _follower = leader.follow();
                    tokio::spawn(to.plan(&context, true).run(leader, snapshot, answer));
                    return match answered.await {
                        Ok(answer) => self.led(to, context, answer, reason, collapsed),
                        Err(_) => {
                            Err(ProxyError::Internal { cause: "a fetch ended without a result".into() })
                        }
                    };
                }
                (Role::Follow(follower), _) => {
                    let starts_later = follower.starts_later;
                    match follower.result().await {
                        Some(SharedResult::Response(shared))
                            if may_be_handed(&context.request, &shared.response, starts_later) =>
                        {
                            return Ok(Outcome::shared(context.request, shared, reason, Some(true)));
                        }
                        Some(SharedResult::Failed(failure)) => {
                            return self.without_origin(to, context, failure, Some(reason));
                        }
                        Some(SharedResult::Response(_)) => joined = Some(collapse_key),
                        Some(SharedResult::NotShared { may_pass: true }) => {}
                        Some(SharedResult::NotShared { may_pass: false }) | None => break,
                    }
                    collapsed = Some(false);
                }
            }
        }
        self.fetch_unshared(to, context, reason, true, Some(false)).await
    }

    fn join(
        &self,
        to: &Destination,
        context: &RequestContext,
        collapse_key: &CacheKey,
    ) -> (Role<SharedResult>, Option<Snapshot>) {
        let joins_anything = !to.upstream.session.clauses().joiner_checks_snapshot;
        let mut snapshot = None;
        let role = to.upstream.collapsing.join(
            collapse_key,
            |covers| {
                joins_anything || may_join(&context.request, context.verdict(to, covers), &context.rules)
            },
            || {
                let taken = to.upstream.session.snapshot(&[]);
                let covers = taken.covers;
                snapshot = Some(taken);
                covers
            },
        );
        (role, snapshot)
    }

    /// Asks upstream for this request alone.
    pub(super) async fn fetch_unshared(
        &self,
        to: &Destination,
        context: RequestContext,
        reason: ForwardReason,
        validate: bool,
        collapsed: Option<bool>,
    ) -> Result<Outcome, ProxyError> {
        if let Some(failure) = to.upstream.throttled(&context.request.fields, self.clock.now()) {
            return self.without_origin(to, context, failure, None);
        }
        let snapshot = to.upstream.session.snapshot(&[]);
        let answer = to.plan(&context, validate).ask(snapshot, std::future::pending()).await;
        self.led(to, context, answer, reason, collapsed)
    }

    /// What the one who asked upstream gets.
    fn led(
        &self,
        to: &Destination,
        context: RequestContext,
        answer: LeaderResult,
        reason: ForwardReason,
        collapsed: Option<bool>,
    ) -> Result<Outcome, ProxyError> {
        let hit_for_miss = &to.upstream.hit_for_miss;
        match &answer {
            LeaderResult::Stored { .. } => hit_for_miss.remove(&context.request.sharing_key()),
            LeaderResult::Alone(alone) if alone.not_stored.is_lasting() && !alone.may_pass() => {
                hit_for_miss.insert(&context.request.sharing_key());
            }
            _ => {}
        }
        match answer {
            LeaderResult::Shared(SharedResult::Response(shared)) => {
                Ok(Outcome::shared(context.request, shared, reason, collapsed))
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
            LeaderResult::Alone(alone) => Ok(Outcome::alone(&context.request, alone, reason, collapsed)),
        }
    }

    /// What may answer although the origin does not (design, section 3, `when_disconnected`).
    pub(super) fn without_origin(
        &self,
        to: &Destination,
        context: RequestContext,
        failure: Failure,
        reason: Option<ForwardReason>,
    ) -> Result<Outcome, ProxyError> {
        let stored = to.upstream.stored(&context.request).filter(|_| context.proven);
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
            Ok(reuse) => match stored {
                Some(stored) => return Ok(Outcome::stale(context.request, stored, reuse, reason)),
                None => failure.error,
            },
            Err(DisconnectedRefusal::NothingStored | DisconnectedRefusal::Method) => failure.error,
            Err(refusal) => {
                ProxyError::Disconnected { reason: refusal.as_str(), cause: Box::new(failure.error) }
            }
        };
        match reason {
            Some(reason) => Ok(Outcome::failed(error, reason)),
            None => Err(error),
        }
    }

    pub(super) fn validate_in_background(&self, to: &Destination, context: &RequestContext) {
        if to.upstream.throttled(&context.request.fields, self.clock.now()).is_some() {
            return;
        }
        let mut snapshot = None;
        let role = to.upstream.collapsing.join(
            &to.upstream.collapse_key(&context.request),
            |_| true,
            || {
                let taken = to.upstream.session.snapshot(&[]);
                let covers = taken.covers;
                snapshot = Some(taken);
                covers
            },
        );
        if let Role::Lead(leader) = role {
            let plan = to.plan(context, true);
            tokio::spawn(async move {
                let (answer, _answered) = tokio::sync::oneshot::channel();
                // Nobody waits for it, and still it is to be read to its end.
                let _follower = leader.follow();
                plan.run(leader, snapshot, answer).await;
            });
        }
    }
}
