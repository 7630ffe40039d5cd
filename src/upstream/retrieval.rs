//! One fetch, from its snapshot to its result. It only acts: [`absorb`] decides what an answer means.
//!
//! The order is the promise: the snapshot is taken before the first byte leaves; what its head says (`Sync-Token`, throttling) is recorded
//! before anything is handed on; a response is in the store before the last byte of it can have reached a caller.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::oneshot;

use super::Upstream;
use super::collapse::{Leader, Role};
use super::outgoing::{OwnFields, outgoing_fields};
use super::shown::Shown;
use super::throttle::{Held, Pause};
use crate::body::{BodyError, FlowingBody};
use crate::config::CachingRules;
use crate::decide::absorb::{Change, absorb};
use crate::decide::hit_for_miss::is_hit_for_miss;
use crate::decide::shows_change::ShownState;
use crate::decide::storable::{NotStored, Storable};
use crate::decide::stored_fields::withheld_fields;
use crate::decide::validation::{ConditionalFields, callers_own, validation};
use crate::decide::{ResponseHead, SentRequest, Unreachable};
use crate::error::ProxyError;
use crate::presented_request::PresentedRequest;
use crate::stored_response::{CacheKey, StoredResponse};
use crate::sync_token::aggregate::Presented;
use crate::sync_token::coverage::{Coverage, CoverageVerdict};
use crate::sync_token::session::{Received, Snapshot};
use crate::transport::answer_body::{AnswerBody, Chained, WholeBody, read_whole, streaming};
use crate::transport::client::Outgoing;

/// How long a queued fetch waits for the one ahead of it.
const QUEUE_WAIT_LIMIT: Duration = Duration::from_secs(1);

/// How long a body may take to be read whole before it is streamed through instead of stored.
pub(super) const STORING_TIME_LIMIT: Duration = Duration::from_secs(30);

/// How long an answer without a waiting caller is still read: small ones are worth storing.
const ABANDONED_GRACE: Duration = Duration::from_millis(500);

/// The result of a fetch for all its followers. Cheap to clone.
#[derive(Clone, Debug)]
pub enum SharedResult {
    /// A response that is stored, or would be if there were room: every follower may be answered from it.
    Response(SharedResponse),
    /// The answer is for the leader alone: ask for yourself.
    NotShared {
        /// It is a failure that may pass: the next answer may be for all.
        may_pass: bool,
    },
    /// There is no answer.
    Failed(Failure),
}

/// A response for all followers.
#[derive(Clone, Debug)]
pub struct SharedResponse {
    /// The response.
    pub response: Arc<StoredResponse>,
    /// The status that came back.
    pub status: StatusCode,
    /// Whether it is in the store: something with a greater coverage may have been there.
    pub stored: bool,
}

/// Why there is no answer, for `decide::disconnected` and for the caller.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What kind of failure.
    pub why: Unreachable,
    /// What to tell the caller if nothing stored may answer.
    pub error: ProxyError,
}

/// The result of a fetch for its leader.
#[derive(Debug)]
pub enum LeaderResult {
    /// The same as for the followers.
    Shared(SharedResult),
    /// The same response as for the followers, with the fields that are for the leader alone.
    Stored {
        /// What the followers get.
        shared: SharedResponse,
        /// The fields that are withheld from all others.
        withheld: HeaderMap,
    },
    /// A response for this caller alone that the store helped to make.
    Only {
        /// The response.
        response: Box<StoredResponse>,
        /// The status that came back.
        status: StatusCode,
        /// Why it is not stored.
        not_stored: NotStored,
    },
    /// An answer for this caller alone, streaming.
    Alone(UnsharedAnswer),
}

/// An answer for one caller alone.
#[derive(Debug)]
pub struct UnsharedAnswer {
    /// Its head as it came.
    pub head: ResponseHead,
    /// Its body, streaming.
    pub body: FlowingBody,
    /// Why it was not stored.
    pub not_stored: NotStored,
}

impl UnsharedAnswer {
    /// Whether it is a failure that may pass: it says nothing of the next answer.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        Unreachable::of_status(self.head.status).is_some()
    }
}

/// What a fetch needs to know.
#[derive(Clone)]
pub struct Retrieval {
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// The request that caused it.
    pub request: Arc<PresentedRequest>,
    /// The target, verbatim.
    pub target: PathAndQuery,
    /// The rules of its route.
    pub rules: Arc<CachingRules>,
    /// Whether what is stored when it starts is validated, if anything is; else it is fetched without conditions.
    pub validate: bool,
}

/// What came back, before its body.
struct Answered {
    sent: ConditionalFields,
    head: ResponseHead,
    received: Received,
    body: AnswerBody,
}

/// What an answer tells the session, with the snapshot of its request.
#[derive(Clone, Copy)]
struct Observation<'a> {
    snapshot: &'a Snapshot,
    received: &'a Received,
}

impl Upstream {
    /// Joins the fetch for a key if `satisfies` its coverage, or leads one. The snapshot is there if it has started.
    pub fn join(
        &self,
        collapse_key: &CacheKey,
        satisfies: impl FnOnce(Coverage) -> bool,
    ) -> (Role<SharedResult>, Option<Snapshot>) {
        let mut snapshot = None;
        let role = self.collapsing.join(collapse_key, satisfies, || {
            let taken = self.session.snapshot(&[]);
            let covers = taken.covers;
            snapshot = Some(taken);
            covers
        });
        (role, snapshot)
    }

    /// Remembers whether the key of a request is hit-for-miss after this result.
    pub fn remember_hit_for_miss(&self, request: &PresentedRequest, result: &LeaderResult) {
        match result {
            LeaderResult::Stored { .. } => self.hit_for_miss.remove(&request.sharing_key()),
            LeaderResult::Alone(unshared) if is_hit_for_miss(unshared.not_stored, unshared.may_pass()) => {
                self.hit_for_miss.insert(&request.sharing_key());
            }
            _ => {}
        }
    }
}

impl Retrieval {
    /// Runs as the leader of its followers, in a task of its own. `answer` goes to the caller that caused the fetch, if it still waits.
    pub async fn run(
        self,
        mut leader: Leader<SharedResult>,
        mut snapshot: Option<Snapshot>,
        answer: oneshot::Sender<LeaderResult>,
    ) {
        leader
            .start(QUEUE_WAIT_LIMIT, || {
                let taken = self.upstream.session.snapshot(&[]);
                let covers = taken.covers;
                snapshot = Some(taken);
                covers
            })
            .await;
        let Some(snapshot) = snapshot else { return };
        let given_up = async {
            leader.abandoned().await;
            tokio::time::sleep(ABANDONED_GRACE).await;
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

    /// Asks upstream and absorbs the answer. `given_up` resolves when no caller wants the body any more.
    pub async fn ask(&self, mut snapshot: Snapshot, given_up: impl Future<Output = ()>) -> LeaderResult {
        if self.upstream.profile.immutable_for(self.request.key.canonical_target()).is_some() {
            snapshot.covers = snapshot.covers.immutable();
        }
        // Looked up only now: while a fetch was queued, the one ahead may have stored something.
        let in_hand = self.validate.then(|| self.upstream.stored(&self.request)).flatten();
        let answered = match self.exchange(in_hand.as_deref(), &snapshot).await {
            Ok(answered) => answered,
            Err(failure) => return LeaderResult::Shared(SharedResult::Failed(failure)),
        };
        let change = self.absorb(&answered, in_hand.as_deref(), &snapshot);
        if !matches!(change, Change::AskAgain(_)) {
            return self.act(change, in_hand, answered, &snapshot, given_up).await;
        }
        // An answer that proves nothing: once more, without conditions. A retry keeps the older snapshot.
        match Box::pin(self.exchange(None, &snapshot)).await {
            Err(failure) => LeaderResult::Shared(SharedResult::Failed(failure)),
            Ok(answered) => {
                let change = self.absorb(&answered, None, &snapshot);
                Box::pin(self.act(change, None, answered, &snapshot, given_up)).await
            }
        }
    }

    async fn exchange(
        &self,
        in_hand: Option<&StoredResponse>,
        snapshot: &Snapshot,
    ) -> Result<Answered, Failure> {
        let upstream = &self.upstream;
        let mut sent = match in_hand {
            None if upstream.hit_for_miss.contains(&self.request.sharing_key()) => callers_own(&self.request),
            _ => validation(&self.request, in_hand),
        };
        let own = OwnFields {
            conditions: Some(std::mem::take(&mut sent.fields)),
            sync_token: snapshot.sync_token.clone(),
            range: in_hand.is_none(),
            via: Some(upstream.via.clone()),
            callers_authorization: upstream.credential.forwards_callers(),
        };
        let outgoing = Outgoing {
            method: self.method().clone(),
            uri: upstream.client.uri(&self.target),
            fields: outgoing_fields(&self.request.fields, &*upstream.profile, own),
            body: FlowingBody::Empty,
            body_deadline: Duration::ZERO,
        };
        let request_time = upstream.clock.now();
        let (response, received) = upstream.send(outgoing, &self.target, snapshot).await?;
        let (parts, body) = response.into_parts();
        let head = ResponseHead {
            status: parts.status,
            fields: parts.headers,
            request_time,
            response_time: upstream.clock.now(),
        };
        Ok(Answered { sent, head, received, body })
    }

    /// The method that goes upstream.
    fn method(&self) -> &Method {
        let as_get = self.request.method == Method::HEAD && self.upstream.profile.fetches_head_as_get();
        if as_get { &Method::GET } else { &self.request.method }
    }

    fn absorb(&self, answered: &Answered, in_hand: Option<&StoredResponse>, snapshot: &Snapshot) -> Change {
        let upstream = &self.upstream;
        let Answered { sent, head, .. } = answered;
        let covers = upstream.session.covers_as_received(snapshot.covers);
        let asked = SentRequest {
            request: &self.request,
            method: self.method(),
            in_hand,
            conditions: sent.conditions,
            completing: sent.completing,
            covers,
        };
        let verdict = in_hand.map_or(CoverageVerdict::Covered, |stored| {
            upstream.verdict(&self.request, stored.covers, &Presented::NOTHING, &self.rules)
        });
        absorb(&asked, head, verdict, &self.rules, upstream.clock.now())
    }

    async fn act(
        &self,
        change: Change,
        in_hand: Option<Arc<StoredResponse>>,
        answered: Answered,
        snapshot: &Snapshot,
        given_up: impl Future<Output = ()>,
    ) -> LeaderResult {
        let Answered { head, received, body, .. } = answered;
        let observation = Observation { snapshot, received: &received };
        match change {
            Change::Store(storable) => {
                Box::pin(self.store(*storable, None, head, body, observation, given_up)).await
            }
            Change::Complete(completion) => {
                let first = in_hand.map(|stored| stored.body.clone()).unwrap_or_default();
                match completion.storable {
                    Ok(storable) => {
                        let head = completion.head;
                        Box::pin(self.store(storable, Some(first), head, body, observation, given_up)).await
                    }
                    Err(reason) => self.alone(completion.head, joined(first, body), reason, observation),
                }
            }
            Change::Freshened(freshened) => {
                let freshened = self.of_what_the_store_holds(*freshened);
                self.put(freshened, &head, observation)
            }
            Change::AnswerOnly(response, not_stored) => {
                self.record(Shown::whole(&self.request.key, &self.request.fields, &response), observation);
                self.outdate(in_hand);
                LeaderResult::Only { response, status: head.status, not_stored }
            }
            Change::NotModifiedForCaller => {
                self.outdate(in_hand);
                self.alone(head, FlowingBody::Empty, NotStored::Status, observation)
            }
            Change::Outdate(not_stored) => {
                self.outdate(in_hand);
                self.alone(head, streaming(body), not_stored, observation)
            }
            Change::Keep(not_stored) => self.alone(head, streaming(body), not_stored, observation),
            Change::ServeStale(why) => LeaderResult::Shared(SharedResult::Failed(self.failure(why, &head))),
            Change::AskAgain(reason) => self.broken(reason.as_str().into()),
            Change::Reject(reason) => self.broken(reason.as_str().into()),
        }
    }

    /// Stores a body behind the bytes that are already there, if any.
    async fn store(
        &self,
        storable: Storable,
        first: Option<Bytes>,
        head: ResponseHead,
        body: AnswerBody,
        observation: Observation<'_>,
        given_up: impl Future<Output = ()>,
    ) -> LeaderResult {
        let held_bytes = first.as_ref().map_or(0, |first| first.len() as u64);
        let limit_bytes = self.rules.max_stored_body_bytes.saturating_sub(held_bytes);
        match read_whole(streaming(body), limit_bytes, STORING_TIME_LIMIT, given_up).await {
            WholeBody::Complete(rest) => {
                let bytes = match first {
                    None => rest,
                    Some(first) => [first, rest].concat().into(),
                };
                let covers = self.upstream.session.covers_as_received(observation.snapshot.covers);
                match storable.with_body(&head, bytes.clone(), covers, &self.rules) {
                    Ok(response) => self.put(response, &head, observation),
                    Err(NotStored::BodyBroken) => {
                        self.broken("its body has another length than it said".into())
                    }
                    Err(reason) => self.alone(head, bytes.into(), reason, observation),
                }
            }
            WholeBody::Streams(rest) => {
                let body = match first {
                    None => rest,
                    Some(first) => FlowingBody::Streaming(Chained::of(first, rest)),
                };
                self.alone(head, body, NotStored::BodyTooLarge, observation)
            }
            WholeBody::Broken(BodyError::UpstreamStalled { .. }) => {
                let upstream = self.upstream.client.authority().to_string();
                let deadline = self.upstream.client.limits().body_stall_deadline;
                let error = ProxyError::BodyTimeout { upstream, deadline };
                LeaderResult::Shared(SharedResult::Failed(Failure { why: Unreachable::TimedOut, error }))
            }
            WholeBody::Broken(error) => self.broken(error.to_string().into()),
            WholeBody::Abandoned => LeaderResult::Shared(SharedResult::NotShared { may_pass: false }),
        }
    }

    /// An answer for the caller alone. What it shows is recorded for all.
    fn alone(
        &self,
        head: ResponseHead,
        body: FlowingBody,
        not_stored: NotStored,
        observation: Observation<'_>,
    ) -> LeaderResult {
        let request = &self.request;
        let mut shown = Shown::by_head(&request.key, &request.fields, head.status, &head.fields)
            .to_who_had(request.preconditions.if_none_match.as_ref());
        if let FlowingBody::Full(bytes) = &body {
            shown.state.body = Some(bytes);
        }
        self.record(shown, observation);
        LeaderResult::Alone(UnsharedAnswer { head, body, not_stored })
    }

    fn record(&self, shown: Shown<'_>, observation: Observation<'_>) -> u64 {
        self.upstream.record_shown(shown, observation.snapshot, observation.received, &self.rules)
    }

    /// A 304 freshens the response in hand. The mistake under test freshens whatever the store holds by now.
    fn of_what_the_store_holds(&self, freshened: StoredResponse) -> StoredResponse {
        if self.upstream.session.clauses().freshens_the_one_in_hand {
            return freshened;
        }
        match self.upstream.stored(&self.request) {
            Some(held) => {
                StoredResponse { body: held.body.clone(), fields: held.fields.clone(), ..freshened }
            }
            None => freshened,
        }
    }

    fn outdate(&self, in_hand: Option<Arc<StoredResponse>>) {
        if let Some(outdated) = in_hand {
            self.upstream.outdate(&self.request.key, &outdated);
        }
    }

    fn failure(&self, why: Unreachable, head: &ResponseHead) -> Failure {
        let upstream = &self.upstream;
        let error = match upstream.throttle.pause(&self.request.fields, Held::Reads, upstream.clock.now()) {
            Some(Pause { remaining, .. }) if why == Unreachable::Throttled => {
                ProxyError::Throttled { status: head.status, retry_after: remaining }
            }
            _ => ProxyError::BrokenAnswer {
                upstream: upstream.client.authority().to_string(),
                cause: format!("it answered {}", head.status).into(),
            },
        };
        Failure { why, error }
    }

    fn put(
        &self,
        mut response: StoredResponse,
        head: &ResponseHead,
        observation: Observation<'_>,
    ) -> LeaderResult {
        let target = self.request.key.canonical_target();
        let mut items = None;
        if response.status == StatusCode::OK && response.range.is_none() {
            self.upstream.profile.observe_answer(target, &response.body);
            items = self.upstream.profile.list_items(target, &response.body);
            if response.covers.is_immutable()
                && let Some(lifetime) = self.upstream.profile.immutable_for(target)
            {
                response.policy.freshness_lifetime = response.policy.freshness_lifetime.max(lifetime);
            }
        }
        let state = ShownState { items: items.as_deref(), ..ShownState::of_response(&response) };
        let (key, request_fields) = (&self.request.key, &self.request.fields);
        let shown = Shown { key, request_fields, state, is_stored: true };
        let revelation = self.record(shown, observation);
        response.covers.revelation = response.covers.revelation.max(revelation);
        let stored = self.upstream.put(&self.request.key, response.clone());
        if let Some(items) = items {
            self.upstream.validate_items(self, items, &response, stored);
        }
        let withheld = withheld_fields(head, &response.fields);
        let shared = SharedResponse { response: Arc::new(response), status: head.status, stored };
        LeaderResult::Stored { shared, withheld }
    }

    fn broken(&self, cause: std::borrow::Cow<'static, str>) -> LeaderResult {
        let upstream = self.upstream.client.authority().to_string();
        let error = ProxyError::BrokenAnswer { upstream, cause };
        LeaderResult::Shared(SharedResult::Failed(Failure { why: Unreachable::Broken, error }))
    }
}

fn joined(first: Bytes, rest: AnswerBody) -> FlowingBody {
    FlowingBody::Streaming(Chained::of(first, streaming(rest)))
}
