//! Requests that the cache does not answer: writes, whose outcome is always learned, and reads that bypass the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::Upstream;
use super::apply_change::STORING_TIME_LIMIT;
use super::budget::BudgetedRequest;
use super::fleet::ClosedOwnWrite;
use super::outgoing::{SidecarFields, outgoing_fields};
use super::result::UpstreamFailure;
use super::run_to_end::RunToEnd;
use super::shown::{self, Shown};
use super::told::ComparedState;
use crate::body::FlowingBody;
use crate::body::budget::StoredShare;
use crate::config::CachingRules;
use crate::decide::ResponseHead;
use crate::decide::invalidate::write_outcome;
use crate::decide::storable::storable;
use crate::error::ProxyError;
use crate::headers::conditional::Preconditions;
use crate::headers::survey::FieldSet;
use crate::presented_request::PresentedRequest;
use crate::profile::Footprint;
use crate::stored_response::CacheKey;
use crate::sync_token::coverage::Coverage;
use crate::sync_token::session::{Received, SYNC_TOKEN, SessionSnapshot, WriteClosed, WriteOutcome};
use crate::sync_token::token::PresentedToken;
use crate::sync_token::write_log::WriteId;
use crate::transport::answer_body::{Chained, WholeBody, read_whole, streaming};
use crate::transport::caller_body::CallerBody;
use crate::transport::client::Outgoing;

/// A request as a caller sent it, for the upstream. It is passed in a box, because each future on its way reserves room for it twice.
#[derive(Debug)]
pub struct PassedRequest {
    /// The method.
    pub method: Method,
    /// The target, verbatim.
    pub target: PathAndQuery,
    /// End-to-end fields.
    pub fields: HeaderMap,
    /// The body: whole if it is small, else streaming.
    pub body: CallerBody,
    /// How long a streaming body may take to arrive.
    pub body_deadline: Duration,
    /// Token values of the caller that never passed through this sidecar: they go in the place of ours.
    pub unknown_tokens: Vec<PresentedToken>,
    /// Of which key the answer shows the state, if it is a retrieval that shows a current one.
    pub shows: Option<CacheKey>,
}

impl PassedRequest {
    /// The same request; `None` if its body streams.
    fn to_repeat(&self) -> Option<Box<Self>> {
        let body = self.body.body.to_repeat()?;
        Some(Box::new(Self {
            method: self.method.clone(),
            target: self.target.clone(),
            fields: self.fields.clone(),
            body: CallerBody { body, failure: Arc::clone(&self.body.failure) },
            body_deadline: self.body_deadline,
            unknown_tokens: self.unknown_tokens.clone(),
            shows: self.shows.clone(),
        }))
    }
}

/// An answer, streaming.
#[derive(Debug)]
pub struct PassedAnswer {
    /// The head as it came.
    pub head: ResponseHead,
    /// The body.
    pub body: FlowingBody,
    /// What the answer is known to include.
    pub covers: Coverage,
    /// The line of the caller's own write: it includes that write.
    pub sync_token: Option<HeaderValue>,
}

/// An answer with what it says to the session.
struct Exchanged {
    answer: PassedAnswer,
    snapshot: SessionSnapshot,
    received: Received,
}

impl Upstream {
    /// Passes a safe request on and its answer back; nothing is stored. What the answer shows is recorded first.
    ///
    /// # Errors
    /// [`UpstreamFailure`] when there is no answer.
    pub async fn forward(
        &self,
        forwarded: Box<PassedRequest>,
        rules: &CachingRules,
    ) -> Result<PassedAnswer, UpstreamFailure> {
        let shows = forwarded.shows.clone().map(|key| (key, forwarded.fields.clone()));
        let Exchanged { answer, snapshot, received } = self.exchange(forwarded).await?;
        if let Some((key, request_fields)) = shows {
            let condition = Preconditions::from_fields(&request_fields).if_none_match;
            let shown = Shown::by_head(&key, &request_fields, answer.head.status, &answer.head.fields)
                .to_who_had(condition.as_ref());
            if self.may_be_behind(&ComparedState::of(key.canonical_target(), &shown.state)) {
                return Err(self.behind());
            }
            self.record_shown(shown, &snapshot, &received, rules);
        }
        Ok(answer)
    }

    /// Sends a request; once more where another endpoint is asked since and the first cannot have got it, or it does no harm.
    async fn exchange(&self, forwarded: Box<PassedRequest>) -> Result<Exchanged, UpstreamFailure> {
        let endpoints = &self.settings.endpoints;
        let again = if endpoints.has_replicas() { forwarded.to_repeat() } else { None };
        let endpoint = endpoints.position();
        match self.exchange_once(forwarded).await {
            Err(failure) if endpoints.position() != endpoint => match again {
                Some(again) if again.method.is_safe() || !failure.error.may_have_reached_origin() => {
                    Box::pin(self.exchange_once(again)).await
                }
                _ => Err(failure),
            },
            exchanged => exchanged,
        }
    }

    async fn exchange_once(&self, forwarded: Box<PassedRequest>) -> Result<Exchanged, UpstreamFailure> {
        let snapshot = self.state.session.snapshot(&forwarded.unknown_tokens);
        let own = SidecarFields {
            conditions: None,
            sync_token: snapshot.sync_token.clone(),
            range: true,
            via: Some(self.settings.via.clone()),
            callers_authorization: self.settings.credential.forwards_callers(),
        };
        let outgoing = Box::new(Outgoing {
            target: forwarded.target.clone(),
            fields: outgoing_fields(forwarded.fields, &*self.settings.profile, own),
            method: forwarded.method,
            body: forwarded.body.body,
            body_deadline: forwarded.body_deadline,
        });
        let is_reserved = !outgoing.method.is_safe() || !forwarded.unknown_tokens.is_empty();
        let budgeted = if is_reserved { BudgetedRequest::Reserved } else { BudgetedRequest::Read };
        self.take_turn(budgeted).await?;
        let request_time = self.state.clock.now();
        let (response, received) =
            self.send(outgoing, &forwarded.target, &snapshot, false).await.map_err(|failure| {
                // A body that broke is the caller's failure; what the upstream made of the rest is of no interest.
                match forwarded.body.failure.get() {
                    Some(error) => UpstreamFailure { why: failure.why, error: error.clone() },
                    None => failure,
                }
            })?;
        let (parts, body) = response.into_parts();
        let head = ResponseHead {
            status: parts.status,
            fields: parts.headers,
            request_time,
            response_time: self.state.clock.now(),
        };
        let body = streaming(body);
        let answer = PassedAnswer { head, body, covers: snapshot.covers, sync_token: None };
        Ok(Exchanged { answer, snapshot, received })
    }

    /// Passes a safe request on, and its answer back once its caller cannot be shown an older state afterwards: a 412
    /// without a token may tell of a write that is still open.
    ///
    /// # Errors
    /// [`UpstreamFailure`] when there is no answer.
    pub async fn forward_safe(
        &self,
        forwarded: Box<PassedRequest>,
        rules: &CachingRules,
    ) -> Result<PassedAnswer, UpstreamFailure> {
        let (method, target) = (forwarded.method.clone(), forwarded.target.clone());
        let answer = self.forward(forwarded, rules).await?;
        if answer.head.status == StatusCode::PRECONDITION_FAILED && self.tells_of_others(&answer.head) {
            Box::pin(self.others_closed(None, &method, &target)).await;
        }
        Ok(answer)
    }

    /// Passes a write on, to its end: its outcome is learned even when its caller leaves. The write is open
    /// from before its first byte until its answer has arrived, and closed before the answer is handed on.
    ///
    /// # Errors
    /// [`UpstreamFailure`] when there is no answer.
    ///
    /// `post` is the request as the cache sees it, where its answer may answer later retrievals: a 200 with explicit freshness and
    /// a `Content-Location` that names the target (RFC 9110 §9.3.3).
    pub async fn write(
        self: Arc<Self>,
        forwarded: Box<PassedRequest>,
        rules: Arc<CachingRules>,
        post: Option<PresentedRequest>,
    ) -> Result<PassedAnswer, UpstreamFailure> {
        if let Some(failure) = self.writes_throttled(&forwarded.fields) {
            return Err(failure);
        }
        RunToEnd::new(async move { self.write_to_its_end(forwarded, &rules, post).await }).await
    }

    async fn write_to_its_end(
        self: Arc<Self>,
        forwarded: Box<PassedRequest>,
        rules: &CachingRules,
        post: Option<PresentedRequest>,
    ) -> Result<PassedAnswer, UpstreamFailure> {
        let method = forwarded.method.clone();
        let footprint = self.settings.profile.footprint(&method, &forwarded.target);
        let target = forwarded.target.clone();
        // A streaming body that breaks has already shown the origin a part of the write.
        let streams = matches!(forwarded.body.body, FlowingBody::Streaming(_));
        self.settings.profile.observe_write(&footprint);
        let write = self.state.session.open_write(footprint);
        let shows = forwarded.shows.clone();
        let exchanged = self.exchange(forwarded).await;
        let outcome = match &exchanged {
            Ok(exchanged) => write_outcome(exchanged.answer.head.status, rules),
            Err(failure) if failure.error.may_have_reached_origin() || streams => WriteOutcome::Unknown,
            Err(_) => WriteOutcome::DidNotHappen,
        };
        if let Ok(exchanged) = &exchanged {
            self.heed_own_write(&method, shows.as_ref(), exchanged, rules);
        }
        let closed = self.state.session.close_write(write, outcome, |footprint| match &exchanged {
            Ok(Exchanged { answer, .. }) => {
                self.settings.profile.footprint_of_answer(footprint, answer.head.status, &answer.head.fields)
            }
            Err(_) => footprint,
        });
        if self.fleet().is_some() && outcome != WriteOutcome::DidNotHappen {
            let answered = exchanged.as_ref().ok();
            let head = answered.map(|exchanged| &exchanged.answer.head);
            let tokens = answered.map_or(&[][..], |exchanged| &exchanged.received.tokens);
            let answer = head.map(|head| (head.status, &head.fields));
            let closed = ClosedOwnWrite { write, method: &method, target: &target, answer, tokens };
            Box::pin(self.announce_write(closed)).await;
        }
        let answered = exchanged.map(|Exchanged { answer, received, .. }| PassedAnswer {
            sync_token: self.state.session.response_line_after_write(&received.tokens),
            ..answer
        });
        if closed == WriteClosed::StaysOpen {
            let (upstream, method, target) = (Arc::clone(&self), method.clone(), target.clone());
            tokio::spawn(async move {
                tokio::time::sleep(upstream.settings.settle_time).await;
                upstream.state.session.settle_write(write);
                let write = write.settled();
                let settled =
                    ClosedOwnWrite { write, method: &method, target: &target, answer: None, tokens: &[] };
                upstream.announce_write(settled).await;
            });
        }
        if let Ok(answer) = &answered
            && self.tells_of_others(&answer.head)
        {
            Box::pin(self.others_closed(Some(write), &method, &target)).await;
        }
        match (answered, post, closed) {
            (Ok(answer), Some(post), WriteClosed::Closed { position }) => {
                Box::pin(self.feed(&post, answer, write, position, rules)).await
            }
            (answered, ..) => answered,
        }
    }

    /// Remembers the state of which the answer to an own write tells. A `DELETE` tells of the state before it, which may be the
    /// news of another writer: a state with a tag, or that there was nothing to delete.
    fn heed_own_write(
        &self,
        method: &Method,
        shows: Option<&CacheKey>,
        exchanged: &Exchanged,
        rules: &CachingRules,
    ) {
        let head = &exchanged.answer.head;
        let state_before = match (head.status.is_success(), shown::tag_of(&head.fields)) {
            (true, Some(tag)) if *method != Method::DELETE => {
                self.state.session.remember_own_tag(tag);
                if let Some(key) = shows {
                    self.state.appearances.note(self.state.session.sent_order(), key.canonical_target());
                }
                return;
            }
            (true, Some(_)) => StatusCode::OK,
            _ if self.settings.profile.found_nothing_to_delete(method, head.status) => StatusCode::NOT_FOUND,
            _ => return,
        };
        if let Some(key) = shows {
            let no_fields = HeaderMap::new();
            let before = Shown::by_head(key, &no_fields, state_before, &head.fields);
            let before = Shown { is_told_by_write: true, ..before };
            self.record_shown(before, &exchanged.snapshot, &exchanged.received, rules);
        }
    }

    /// Stores the answer to a `POST` that describes its own target. It includes that very write, and so covers the log up to it; if
    /// another write that can have touched the same closed meanwhile, it is not known in which order they happened.
    async fn feed(
        &self,
        post: &PresentedRequest,
        answer: PassedAnswer,
        write: WriteId,
        position: u64,
        rules: &CachingRules,
    ) -> Result<PassedAnswer, UpstreamFailure> {
        let touches_same =
            |other: &Footprint| self.settings.profile.touches(other, post.key.canonical_target());
        let closed_since = || self.state.session.another_closed_since(write, answer.covers, touches_same);
        let storable = match storable(post, &answer.head, rules) {
            Ok(storable) if !closed_since() => storable,
            _ => return Ok(answer),
        };
        let (mut answer, whole) =
            self.read_body(answer, rules.max_stored_body_bytes, STORING_TIME_LIMIT).await?;
        if let Some(bytes) = whole {
            answer.covers = Coverage { closed_position: position, ..answer.covers };
            if let Ok(mut response) = storable.with_body(&answer.head, bytes, answer.covers, rules) {
                response.share = StoredShare::of(Arc::clone(&self.state.buffers));
                self.put(&post.key, response);
            }
        }
        Ok(answer)
    }

    /// Reads the body of an answer before it is handed on. The bytes are there if it was read whole, within the limit and in time.
    ///
    /// # Errors
    /// [`UpstreamFailure`] when it breaks off.
    pub async fn read_body(
        &self,
        answer: PassedAnswer,
        limit_bytes: u64,
        patience: Duration,
    ) -> Result<(PassedAnswer, Option<Bytes>), UpstreamFailure> {
        let PassedAnswer { head, body, covers, sync_token } = answer;
        let buffers = &self.state.buffers;
        let (body, whole) =
            match read_whole(body, limit_bytes, patience, buffers, std::future::pending()).await {
                WholeBody::Complete(bytes) => (bytes.clone().into(), Some(bytes)),
                WholeBody::Partly { read, rest, .. } => (Chained::of(read, rest), None),
                WholeBody::Broken(error) => {
                    let upstream = self.settings.client().authority().to_string();
                    let cause = error.to_string().into();
                    return Err(ProxyError::BrokenAnswer { upstream, cause }.into());
                }
                WholeBody::Abandoned => {
                    return Err(ProxyError::Internal { cause: "a body was abandoned".into() }.into());
                }
            };
        Ok((PassedAnswer { head, body, covers, sync_token }, whole))
    }

    /// Waits after an answer that another caller's write caused and that carries no token of it: the caller that gets it must
    /// not read an older state afterwards.
    async fn others_closed(&self, own: Option<WriteId>, method: &Method, target: &PathAndQuery) {
        let profile = &self.settings.profile;
        let canonical = profile.canonical_target(method, target, FieldSet::default()).ok();
        let touches_same = |other: &Footprint| {
            canonical.as_ref().is_none_or(|canonical| profile.touches(other, canonical.as_ref()))
        };
        let others = self.state.session.others_closed(own, touches_same);
        let _in_time = tokio::time::timeout(self.settings.conflict_wait, others).await;
    }

    fn tells_of_others(&self, head: &ResponseHead) -> bool {
        self.state.session.clauses().tokenless_answer_waits()
            && !head.fields.contains_key(SYNC_TOKEN)
            // An origin without tokens is consistent by itself: there a success tells of no other write.
            && (!head.status.is_success() || self.state.session.response_line().is_some())
    }
}
