//! Applies what [`absorb`](crate::decide::absorb) decided: a response is stored, freshened or taken out, and what the answer shows
//! is recorded, before any caller sees it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::result::{
    ArrivingResponse, LeaderResult, SharedResponse, SharedResult, UnsharedAnswer, UpstreamFailure,
};
use super::retrieval::{Answered, Retrieval, Validates};
use super::shown::{ComparedWith, Shown};
use super::throttle::{Held, Pause};
use super::told::ComparedState;
use crate::body::budget::StoredShare;
use crate::body::{BodyError, FlowingBody};
use crate::decide::absorb::Change;
use crate::decide::shows_change::ShownState;
use crate::decide::storable::{NotStored, Storable};
use crate::decide::stored_fields::withheld_fields;
use crate::decide::{ResponseHead, Unreachable};
use crate::error::ProxyError;
use crate::stored_response::{StoredResponse, UseMark};
use crate::sync_token::session::{Received, SessionSnapshot};
use crate::transport::answer_body::{AnswerBody, Chained, NotReadWhole, WholeBody, read_whole, streaming};
use crate::transport::shared_body::SharedBody;

/// How long a body may take to be read whole before it is streamed through instead of stored.
pub(super) const STORING_TIME_LIMIT: Duration = Duration::from_secs(30);

/// What an answer tells the session, with the snapshot of its request.
#[derive(Clone, Copy)]
struct Observation<'a> {
    snapshot: &'a SessionSnapshot,
    received: &'a Received,
}

impl Retrieval {
    pub(super) async fn apply(
        &self,
        change: Change,
        in_hand: Option<Arc<StoredResponse>>,
        answered: Answered,
        snapshot: &SessionSnapshot,
        given_up: impl Future<Output = ()>,
    ) -> LeaderResult {
        let Answered { head, received, body, .. } = answered;
        let observation = Observation { snapshot, received: &received };
        match change {
            // Boxed, so that other changes do not carry the room for it.
            Change::Store(storable) => {
                Box::pin(self.store(*storable, Bytes::new(), head, body, observation, given_up)).await
            }
            Change::Complete(completion) => {
                let first = in_hand.map(|stored| stored.body.clone()).unwrap_or_default();
                match completion.storable {
                    Ok(storable) => {
                        let head = completion.head;
                        Box::pin(self.store(storable, first, head, body, observation, given_up)).await
                    }
                    Err(reason) => {
                        let body = Chained::of(first, streaming(body));
                        self.alone(completion.head, body, reason, observation)
                    }
                }
            }
            Change::Freshened(freshened) => {
                let freshened = *freshened;
                #[cfg(any(test, feature = "internals"))]
                let freshened = self.of_what_the_store_holds(freshened);
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

    /// Stores a body behind the bytes that are already there.
    async fn store(
        &self,
        storable: Storable,
        first: Bytes,
        head: ResponseHead,
        body: AnswerBody,
        observation: Observation<'_>,
        given_up: impl Future<Output = ()>,
    ) -> LeaderResult {
        let buffers = &self.upstream.state.buffers;
        let body = Chained::of(first, streaming(body));
        match read_whole(body, self.rules.max_stored_body_bytes, STORING_TIME_LIMIT, buffers, given_up).await
        {
            WholeBody::Complete(bytes) => {
                let covers = observation.snapshot.covers;
                #[cfg(any(test, feature = "internals"))]
                let covers = self.upstream.state.session.covers_as_received(covers);
                match storable.with_body(&head, bytes.clone(), covers, &self.rules) {
                    Ok(mut response) => {
                        response.share = StoredShare::of(Arc::clone(buffers));
                        self.put(response, &head, observation)
                    }
                    Err(NotStored::BodyBroken) => {
                        self.broken("its body has another length than it said".into())
                    }
                    Err(reason) => self.alone(head, bytes.into(), reason, observation),
                }
            }
            WholeBody::Partly { read, rest, why: NotReadWhole::TooSlow } => {
                self.share_arriving(storable, head, read, rest, observation)
            }
            WholeBody::Partly { read, rest, why } => {
                self.alone(head, Chained::of(read, rest), not_stored(why), observation)
            }
            WholeBody::Broken(BodyError::UpstreamStalled { .. }) => {
                let upstream = self.upstream.settings.client().authority().to_string();
                let deadline = self.upstream.settings.client().limits().body_stall_deadline;
                let error = ProxyError::BodyTimeout { upstream, deadline };
                LeaderResult::Shared(SharedResult::Failed(UpstreamFailure {
                    why: Unreachable::TimedOut,
                    error,
                }))
            }
            WholeBody::Broken(error) => self.broken(error.to_string().into()),
            WholeBody::Abandoned => LeaderResult::Shared(SharedResult::NotShared { may_pass: false }),
        }
    }

    /// A response whose body takes too long to be stored. All that wait for it get the body as it arrives: each asking for itself
    /// would cost the origin as many slow answers. Where it has fields for its leader alone it is for the leader alone, and so is
    /// a part of a representation.
    fn share_arriving(
        &self,
        storable: Storable,
        head: ResponseHead,
        read: Bytes,
        rest: FlowingBody,
        observation: Observation<'_>,
    ) -> LeaderResult {
        let not_stored = NotStored::BodyTooSlow;
        if storable.range.is_some() || !withheld_fields(&head, &storable.fields).is_empty() {
            return self.alone(head, Chained::of(read, rest), not_stored, observation);
        }
        let limit_bytes = self.rules.max_stored_body_bytes;
        let body = match SharedBody::new(read, rest, limit_bytes, &self.upstream.state.buffers) {
            Ok(body) => body,
            Err(body) => return self.alone(head, body, not_stored, observation),
        };
        self.record(
            Shown::by_head(&self.request.key, &self.request.fields, head.status, &head.fields),
            observation,
        );
        let head = StoredResponse {
            status: head.status,
            fields: storable.fields,
            body: Bytes::new(),
            share: StoredShare::default(),
            selecting: storable.selecting,
            request_time: head.request_time,
            response_time: head.response_time,
            covers: observation.snapshot.covers,
            policy: storable.policy,
            range: None,
            is_mirrored: false,
            in_use: UseMark::default(),
        };
        LeaderResult::Shared(SharedResult::Arriving(ArrivingResponse { head: Arc::new(head), body }))
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
        if self.upstream.may_be_behind(&ComparedState::of(request.key.canonical_target(), &shown.state)) {
            return LeaderResult::Shared(SharedResult::Failed(self.upstream.behind()));
        }
        self.record(shown, observation);
        LeaderResult::Alone(UnsharedAnswer { head, body, not_stored })
    }

    fn record(&self, shown: Shown<'_>, observation: Observation<'_>) -> u64 {
        self.upstream.record_shown(shown, observation.snapshot, observation.received, &self.rules)
    }

    fn outdate(&self, in_hand: Option<Arc<StoredResponse>>) {
        if let Some(outdated) = in_hand {
            self.upstream.outdate(&self.request.key, &outdated);
        }
    }

    fn failure(&self, why: Unreachable, head: &ResponseHead) -> UpstreamFailure {
        let upstream = &self.upstream;
        let error = match upstream.pause(&self.request.fields, Held::Reads, upstream.state.clock.now()) {
            Some(Pause { remaining, .. }) if why == Unreachable::Throttled => {
                ProxyError::Throttled { status: head.status, retry_after: remaining }
            }
            _ => ProxyError::BrokenAnswer {
                upstream: upstream.settings.client().authority().to_string(),
                cause: format!("it answered {}", head.status).into(),
            },
        };
        UpstreamFailure { why, error }
    }

    /// Takes in a record of the fleet as if the origin had answered it.
    pub(super) fn put_of_fleet(
        &self,
        response: StoredResponse,
        head: &ResponseHead,
        snapshot: &SessionSnapshot,
        received: &Received,
    ) -> LeaderResult {
        self.put(response, head, Observation { snapshot, received })
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
            self.upstream.settings.profile.observe_answer(target, &response.body);
            items = self.upstream.settings.profile.list_items(target, &response.body);
            if response.covers.is_immutable()
                && let Some(lifetime) = self.upstream.settings.profile.immutable_for(target)
            {
                response.policy.freshness_lifetime = response.policy.freshness_lifetime.max(lifetime);
            }
        }
        let shown = ShownState::of_response(&response);
        if self.upstream.may_be_behind(&ComparedState::of(target, &shown)) {
            return LeaderResult::Shared(SharedResult::Failed(self.upstream.behind()));
        }
        let continues = items.is_some() && self.upstream.settings.profile.continues(target, &response.body);
        let state = ShownState { items: items.as_deref(), continues, ..shown };
        let (key, request_fields) = (&self.request.key, &self.request.fields);
        let compared_with = match &self.validates {
            Validates::Mirrored(held) => ComparedWith::Mirrored(held.as_ref()),
            Validates::Nothing | Validates::Stored => ComparedWith::Stored,
        };
        let shown =
            Shown { key, request_fields, state, compared_with, is_stored: true, is_told_by_write: false };
        let revelation = self.record(shown, observation);
        response.covers.revelation = response.covers.revelation.max(revelation);
        let stored = matches!(compared_with, ComparedWith::Stored)
            && self.upstream.put(&self.request.key, response.clone());
        if let Some(items) = items {
            self.upstream.validate_items(self, items, &response, stored);
        }
        let withheld = withheld_fields(head, &response.fields);
        let shared =
            SharedResponse { response: Arc::new(response), status: head.status, stored, known_since: None };
        LeaderResult::Stored { shared, withheld }
    }

    fn broken(&self, cause: std::borrow::Cow<'static, str>) -> LeaderResult {
        let upstream = self.upstream.settings.client().authority().to_string();
        let error = ProxyError::BrokenAnswer { upstream, cause };
        LeaderResult::Shared(SharedResult::Failed(UpstreamFailure { why: Unreachable::Broken, error }))
    }
}

const fn not_stored(why: NotReadWhole) -> NotStored {
    match why {
        NotReadWhole::TooLarge => NotStored::BodyTooLarge,
        NotReadWhole::TooSlow => NotStored::BodyTooSlow,
        NotReadWhole::NoBudget => NotStored::BuffersFull,
    }
}
