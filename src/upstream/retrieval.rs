//! One fetch, from its snapshot to its result. It only acts: [`absorb`] decides what an answer means.
//!
//! The order is the promise: the snapshot is taken before the first byte leaves; what its head says (`Sync-Token`, throttling) is recorded
//! before anything is handed on; a response is in the store before the last byte of it can have reached a caller.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::Method;
use http::uri::PathAndQuery;
use tokio::sync::oneshot;

use super::Upstream;
use super::budget::BudgetedRequest;
use super::collapse::{Joins, Leader, Role};
use super::outgoing::{SidecarFields, outgoing_fields};
use super::result::{LeaderResult, SharedResult, UpstreamFailure};
use super::second_level::{Observed, RecordDemand, SecondLevel};
use crate::body::FlowingBody;
use crate::config::CachingRules;
use crate::decide::absorb::{Change, absorb};
use crate::decide::hit_for_miss::is_hit_for_miss;
use crate::decide::validation::{ConditionalFields, callers_own, validation};
use crate::decide::{ResponseHead, SentRequest};
use crate::presented_request::PresentedRequest;
use crate::stored_response::{CacheKey, StoredResponse};
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::{Coverage, CoverageVerdict};
use crate::sync_token::session::{Received, SessionSnapshot};
use crate::transport::answer_body::AnswerBody;
use crate::transport::client::Outgoing;

/// How long a queued fetch waits for the one ahead of it.
const QUEUE_WAIT_LIMIT: Duration = Duration::from_secs(1);

/// How long a fetch without a waiting caller goes on: what is nearly there is cheaper to finish and store than to ask for again.
/// After that it ends, and its place among the exchanges under way is free.
const ABANDONED_GRACE: Duration = Duration::from_millis(500);

/// What a fetch needs to know.
#[derive(Clone)]
pub struct Retrieval {
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// The request that caused it.
    pub request: Arc<PresentedRequest>,
    /// The target as it goes upstream.
    pub target: PathAndQuery,
    /// The rules of its route.
    pub rules: Arc<CachingRules>,
    /// What is validated.
    pub validates: Validates,
    /// What a record of the fleet must be to answer in the place of the origin; `None`: none may.
    pub demand: Option<RecordDemand>,
}

/// What a fetch validates.
#[derive(Clone, Debug)]
pub enum Validates {
    /// Nothing: it is fetched without conditions.
    Nothing,
    /// What is stored when the fetch starts, if anything is.
    Stored,
    /// This page, which a mirror holds; what comes back is not stored either.
    Mirrored(Option<Arc<StoredResponse>>),
}

/// What came back, before its body.
pub(super) struct Answered {
    sent: ConditionalFields,
    pub(super) head: ResponseHead,
    pub(super) received: Received,
    pub(super) body: AnswerBody,
}

impl Upstream {
    /// Joins the fetch for a key if `satisfies` its coverage, or leads one. The snapshot is there if it has started.
    pub fn join(
        &self,
        collapse_key: &CacheKey,
        satisfies: impl FnOnce(Coverage) -> bool,
    ) -> (Role<SharedResult>, Option<SessionSnapshot>) {
        let mut snapshot = None;
        let role = self.state.collapsing.join(collapse_key, satisfies, || {
            let taken = self.state.session.snapshot(&[]);
            let covers = taken.covers;
            snapshot = Some(taken);
            covers
        });
        (role, snapshot)
    }

    /// What a request would be to the fetches for a key if it joined now. It does not join.
    #[must_use]
    pub fn would_join(&self, collapse_key: &CacheKey, satisfies: impl FnOnce(Coverage) -> bool) -> Joins {
        self.state.collapsing.would_join(collapse_key, satisfies)
    }

    /// Remembers whether the key of a request is hit-for-miss after this result.
    pub fn remember_hit_for_miss(&self, request: &PresentedRequest, result: &LeaderResult) {
        match result {
            LeaderResult::Stored { .. } => self.state.hit_for_miss.remove(&request.sharing_key()),
            LeaderResult::Alone(unshared) if is_hit_for_miss(unshared.not_stored, unshared.may_pass()) => {
                self.state.hit_for_miss.insert(&request.sharing_key(), unshared.not_stored);
            }
            _ => {}
        }
    }
}

impl Retrieval {
    /// Leads, in a task of its own, and waits for the result. `None` if the task ended without one.
    pub async fn lead(
        self,
        leader: Leader<SharedResult>,
        snapshot: Option<SessionSnapshot>,
    ) -> Option<LeaderResult> {
        let (answer, answered) = oneshot::channel();
        // Held while the caller waits, so that the fetch is not abandoned.
        let _follower = leader.follow();
        // Boxed once: a task is moved several times while it is made.
        tokio::spawn(Box::pin(self.run(leader, snapshot, answer)));
        answered.await.ok()
    }

    /// Runs as the leader of its followers, in a task of its own. `answer` goes to the caller that caused the fetch, if it still waits.
    pub async fn run(
        self,
        mut leader: Leader<SharedResult>,
        mut snapshot: Option<SessionSnapshot>,
        answer: oneshot::Sender<LeaderResult>,
    ) {
        leader
            .start(QUEUE_WAIT_LIMIT, || {
                let taken = self.upstream.state.session.snapshot(&[]);
                let covers = taken.covers;
                snapshot = Some(taken);
                covers
            })
            .await;
        let Some(snapshot) = snapshot else { return };
        let given_up = async {
            loop {
                leader.abandoned().await;
                tokio::time::sleep(ABANDONED_GRACE).await;
                // Another request may have joined.
                if leader.abandoned().now_or_never().is_some() {
                    return;
                }
            }
        };
        match self.ask(snapshot, given_up).await {
            LeaderResult::Shared(result) => {
                // Either of the two may be gone; the store has it in any case.
                let _gone = answer.send(LeaderResult::Shared(result.clone()));
                leader.share(result);
            }
            LeaderResult::Stored { shared, withheld } => {
                leader.share(SharedResult::Response(shared.clone()));
                let _gone = answer.send(LeaderResult::Stored { shared, withheld });
            }
            LeaderResult::Alone(alone) => {
                leader.share(SharedResult::NotShared { may_pass: alone.may_pass() });
                let _gone = answer.send(LeaderResult::Alone(alone));
            }
            only @ LeaderResult::Only { .. } => {
                leader.share(SharedResult::NotShared { may_pass: false });
                let _gone = answer.send(only);
            }
        }
    }

    /// Asks upstream and absorbs the answer. `given_up` resolves when no caller wants it any more.
    pub async fn ask(
        &self,
        mut snapshot: SessionSnapshot,
        given_up: impl Future<Output = ()>,
    ) -> LeaderResult {
        self.mark_immutable(&mut snapshot);
        self.upstream.settings.profile.observe_fields(&self.request.fields);
        // Looked up only now: while a fetch was queued, the one ahead may have stored something.
        let in_hand = match &self.validates {
            Validates::Nothing => None,
            Validates::Stored => self.upstream.stored(&self.request),
            Validates::Mirrored(held) => held.clone(),
        };
        let mut permit = None;
        if self.upstream.fleet().is_some() {
            match Box::pin(self.second_level(in_hand.as_ref())).await {
                SecondLevel::Taken(result) => return result,
                SecondLevel::Ask(given) => permit = given,
            }
            // What was read meanwhile is included.
            snapshot = self.snapshot();
        }
        let mut given_up = std::pin::pin!(given_up);
        let answered = loop {
            let endpoint = self.upstream.settings.endpoints.position();
            let exchanged = tokio::select! {
                biased;
                exchanged = self.exchange(in_hand.as_deref(), &snapshot) => exchanged,
                () = &mut given_up => return LeaderResult::Shared(SharedResult::NotShared { may_pass: false }),
            };
            match exchanged {
                Ok(answered) => break answered,
                // Another endpoint is asked since: each fails at most once before it backs off.
                Err(_) if self.upstream.is_replaced(endpoint, snapshot.covers) => {
                    snapshot = self.snapshot();
                }
                Err(failure) => return LeaderResult::Shared(SharedResult::Failed(failure)),
            }
        };
        let change = self.absorb(&answered, in_hand.as_deref(), &snapshot);
        if !matches!(change, Change::AskAgain(_)) {
            let observed = permit.is_some().then(|| Observed::of(&snapshot, &answered.received));
            let result = self.apply(change, in_hand, answered, &snapshot, given_up).await;
            if let Some((permit, observed)) = permit.zip(observed) {
                self.publish(permit, &result, observed);
            }
            return result;
        }
        // An answer that proves nothing: once more, without conditions. A retry keeps the older snapshot. The first exchange is over:
        // it must not hold the place that the second one waits for.
        drop(answered);
        match Box::pin(self.exchange(None, &snapshot)).await {
            Err(failure) => LeaderResult::Shared(SharedResult::Failed(failure)),
            Ok(answered) => {
                let change = self.absorb(&answered, None, &snapshot);
                Box::pin(self.apply(change, None, answered, &snapshot, given_up)).await
            }
        }
    }

    fn snapshot(&self) -> SessionSnapshot {
        let mut snapshot = self.upstream.state.session.snapshot(&[]);
        self.mark_immutable(&mut snapshot);
        snapshot
    }

    fn mark_immutable(&self, snapshot: &mut SessionSnapshot) {
        if self.upstream.settings.profile.immutable_for(self.request.key.canonical_target()).is_some() {
            snapshot.covers = snapshot.covers.immutable();
        }
    }

    async fn exchange(
        &self,
        in_hand: Option<&StoredResponse>,
        snapshot: &SessionSnapshot,
    ) -> Result<Answered, UpstreamFailure> {
        let upstream = &self.upstream;
        let mut sent = self.conditions(in_hand);
        let own = SidecarFields {
            conditions: Some(std::mem::take(&mut sent.fields)),
            sync_token: snapshot.sync_token.clone(),
            range: in_hand.is_none(),
            via: Some(upstream.settings.via.clone()),
            callers_authorization: upstream.settings.credential.forwards_callers(),
        };
        let outgoing = Box::new(Outgoing {
            method: self.method().clone(),
            target: self.target.clone(),
            fields: outgoing_fields(self.request.fields.clone(), &*upstream.settings.profile, own),
            body: FlowingBody::Empty,
            body_deadline: Duration::ZERO,
        });
        let budgeted = if in_hand.is_some() { BudgetedRequest::Validation } else { BudgetedRequest::Read };
        upstream.take_turn(budgeted).await?;
        let request_time = upstream.state.clock.now();
        let (response, received) = upstream.send(outgoing, &self.target, snapshot, in_hand.is_some()).await?;
        let (parts, body) = response.into_parts();
        let head = ResponseHead {
            status: parts.status,
            fields: parts.headers,
            request_time,
            response_time: upstream.state.clock.now(),
        };
        Ok(Answered { sent, head, received, body })
    }

    /// The conditions that go upstream.
    #[must_use]
    pub fn conditions(&self, in_hand: Option<&StoredResponse>) -> ConditionalFields {
        match in_hand {
            None if self.upstream.hit_for_miss(&self.request).is_some() => callers_own(&self.request),
            _ => validation(&self.request, in_hand),
        }
    }

    /// The method that goes upstream.
    #[must_use]
    pub fn method(&self) -> &Method {
        let as_get = self.request.method == Method::HEAD
            && self.upstream.settings.profile.fetches_head_as_get()
            && !self.upstream.saves_bandwidth(&self.request);
        if as_get { &Method::GET } else { &self.request.method }
    }

    fn absorb(
        &self,
        answered: &Answered,
        in_hand: Option<&StoredResponse>,
        snapshot: &SessionSnapshot,
    ) -> Change {
        let upstream = &self.upstream;
        let Answered { sent, head, .. } = answered;
        let covers = snapshot.covers;
        #[cfg(any(test, feature = "internals"))]
        let covers = upstream.state.session.covers_as_received(covers);
        let asked = SentRequest {
            request: &self.request,
            method: self.method(),
            in_hand,
            conditions: sent.conditions,
            completing: sent.completing,
            covers,
        };
        let verdict = in_hand.map_or(CoverageVerdict::Covered, |stored| {
            upstream.verdict(&self.request, stored.covers, &PresentedTokens::NOTHING, &self.rules)
        });
        absorb(&asked, head, verdict, &self.rules, upstream.state.clock.now())
    }
}
