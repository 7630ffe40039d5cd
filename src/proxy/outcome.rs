//! What came of a request, and how it is told: to its caller in `Cache-Status`, to the operator in metrics and the access log.

use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::Proxy;
use super::destination::Destination;
use super::rewrite::{CallersView, rewritten};
use super::write_strategy::CallersResource;
use crate::body::FlowingBody;
use crate::clock::{Clock, Timestamp};
use crate::credentials::unauthorized::Proof;
use crate::decide::age::current_age;
use crate::decide::precondition::{Evaluation, evaluate_unstored};
use crate::decide::storable::NotStored;
use crate::decide::{ForwardReason, Reuse};
use crate::error::ProxyError;
use crate::headers::cache_status::CacheStatus;
use crate::headers::via::Pseudonym;
use crate::logging::Access;
use crate::metrics::UpstreamMetrics;
use crate::presented_request::PresentedRequest;
use crate::respond::{self, OwnFields};
use crate::stored_response::{CacheKey, StoredResponse};
use crate::upstream::pass_through::PassedAnswer;
use crate::upstream::retrieval::{SharedResponse, UnsharedAnswer};

/// What came of a request.
pub(super) struct Outcome {
    status: CacheStatus<'static>,
    reply: Reply,
    /// Fields for this caller alone.
    withheld: HeaderMap,
    /// The `Sync-Token` line of the answer to the caller's own write, in the place of everyone's.
    own_sync_token: Option<HeaderValue>,
}

enum Reply {
    /// From a stored response, or from one that would be stored.
    Stored {
        request: Arc<PresentedRequest>,
        response: Arc<StoredResponse>,
        came_from_origin: bool,
        /// What was decided with; `None`: as old as it is when it is told.
        age_seconds: Option<u64>,
    },
    /// As it came from upstream.
    Upstream { status: StatusCode, fields: HeaderMap, body: FlowingBody },
    /// About what went wrong on the way forward.
    Failed(ProxyError),
}

impl Outcome {
    /// From the store, without asking the origin.
    pub(super) fn hit(request: Arc<PresentedRequest>, response: Arc<StoredResponse>, reuse: Reuse) -> Self {
        let status = CacheStatus {
            hit: true,
            ttl_seconds: Some(reuse.ttl_seconds),
            detail: reuse.staleness.detail(),
            ..CacheStatus::default()
        };
        Self {
            withheld: HeaderMap::new(),
            own_sync_token: None,
            status,
            reply: Reply::Stored {
                request,
                response,
                came_from_origin: false,
                age_seconds: Some(reuse.age_seconds),
            },
        }
    }

    /// From the store although the origin was to be asked: `reason` says why, if it was asked.
    pub(super) fn stale(
        request: Arc<PresentedRequest>,
        response: Arc<StoredResponse>,
        reuse: Reuse,
        reason: Option<ForwardReason>,
    ) -> Self {
        let mut outcome = Self::hit(request, response, reuse);
        if let Some(reason) = reason {
            outcome.status.hit = false;
            outcome.status.fwd = Some(reason.fwd());
        }
        outcome
    }

    pub(super) fn shared(
        request: Arc<PresentedRequest>,
        shared: SharedResponse,
        reason: ForwardReason,
        collapsed: Option<bool>,
    ) -> Self {
        let status = CacheStatus {
            fwd: Some(reason.fwd()),
            fwd_status: (shared.status != shared.response.status).then_some(shared.status),
            stored: shared.stored,
            collapsed,
            detail: reason.detail(),
            ..CacheStatus::default()
        };
        let came_from_origin = collapsed != Some(true) && shared.status != StatusCode::NOT_MODIFIED;
        Self {
            withheld: HeaderMap::new(),
            own_sync_token: None,
            status,
            reply: Reply::Stored { request, response: shared.response, came_from_origin, age_seconds: None },
        }
    }

    pub(super) fn only(
        request: Arc<PresentedRequest>,
        response: Box<StoredResponse>,
        fwd_status: StatusCode,
        reason: ForwardReason,
        not_stored: NotStored,
    ) -> Self {
        let status = CacheStatus {
            fwd: Some(reason.fwd()),
            fwd_status: (fwd_status != response.status).then_some(fwd_status),
            detail: Some(reason.detail().unwrap_or(not_stored.as_str())),
            ..CacheStatus::default()
        };
        Self {
            withheld: HeaderMap::new(),
            own_sync_token: None,
            status,
            reply: Reply::Stored {
                request,
                response: response.into(),
                came_from_origin: false,
                age_seconds: None,
            },
        }
    }

    pub(super) fn alone(
        request: &PresentedRequest,
        alone: UnsharedAnswer,
        reason: ForwardReason,
        collapsed: Option<bool>,
    ) -> Self {
        let mut status = CacheStatus {
            fwd: Some(reason.fwd()),
            collapsed,
            detail: Some(reason.detail().unwrap_or(alone.not_stored.as_str())),
            ..CacheStatus::default()
        };
        let UnsharedAnswer { head, body, .. } = alone;
        if evaluate_unstored(request, &head) == Evaluation::NotModified {
            status.fwd_status = Some(head.status);
            let mut fields = head.fields;
            respond::keep_what_a_304_carries(&mut fields);
            let reply = upstream(&request.method, StatusCode::NOT_MODIFIED, fields, FlowingBody::Empty);
            return Self { withheld: HeaderMap::new(), own_sync_token: None, status, reply };
        }
        let reply = upstream(&request.method, head.status, head.fields, body);
        Self { withheld: HeaderMap::new(), own_sync_token: None, status, reply }
    }

    pub(super) fn passed(method: &Method, answer: PassedAnswer, reason: ForwardReason) -> Self {
        let status =
            CacheStatus { fwd: Some(reason.fwd()), detail: reason.detail(), ..CacheStatus::default() };
        Self {
            withheld: HeaderMap::new(),
            own_sync_token: answer.sync_token,
            status,
            reply: upstream(method, answer.head.status, answer.head.fields, answer.body),
        }
    }

    /// The origin was to be asked and brought no answer; nothing stored may answer either.
    pub(super) fn failed(error: ProxyError, reason: ForwardReason) -> Self {
        let status =
            CacheStatus { fwd: Some(reason.fwd()), detail: Some(error.reason()), ..CacheStatus::default() };
        Self { withheld: HeaderMap::new(), own_sync_token: None, status, reply: Reply::Failed(error) }
    }

    /// The same, where the origin had to be asked before the store could answer: no hit.
    pub(super) fn after_asking(mut self, reason: ForwardReason) -> Self {
        self.status.hit = false;
        self.status.fwd = Some(reason.fwd());
        self.status.detail = reason.detail();
        self
    }

    /// With the fields that only the caller whose request fetched the answer gets to see.
    pub(super) fn with_own_fields(self, withheld: HeaderMap) -> Self {
        Self { withheld, ..self }
    }

    /// What a caller is told in the place of a 401 that it would not understand.
    fn explanation(&self, proof: Proof, to: &Destination) -> Option<ProxyError> {
        match &self.reply {
            Reply::Upstream { status, fields, .. } => {
                proof.explains(*status, fields, to.upstream.client.authority())
            }
            Reply::Stored { response, .. } if response.status == StatusCode::UNAUTHORIZED => {
                let fields = response.fields.to_header_map();
                proof.explains(response.status, &fields, to.upstream.client.authority())
            }
            Reply::Stored { .. } | Reply::Failed(_) => None,
        }
    }

    /// The status of an answer that came as it is from upstream.
    pub(super) const fn status(&self) -> Option<StatusCode> {
        match &self.reply {
            Reply::Upstream { status, .. } => Some(*status),
            Reply::Stored { .. } | Reply::Failed(_) => None,
        }
    }
}

fn upstream(method: &Method, status: StatusCode, fields: HeaderMap, body: FlowingBody) -> Reply {
    // A `HEAD` may have been fetched as a `GET`.
    let body = if method == Method::HEAD { FlowingBody::Empty } else { body };
    Reply::Upstream { status, fields, body }
}

/// Who is told, and what is known from the start.
pub(super) struct Told {
    /// Index of the destination.
    destination: usize,
    via: HeaderValue,
    view: Option<CallersView>,
    proof: Proof,
    access: Option<Box<AccessFacts>>,
    /// What the answer shows of which resource to whom, and the method of the request.
    shown: Option<Box<(CallersResource, Method)>>,
}

/// Kept only if somebody reads the access log.
struct AccessFacts {
    started: Timestamp,
    method: Method,
    path: String,
    traceparent: Option<HeaderValue>,
}

impl Told {
    pub(super) fn new(
        head: &Parts,
        is_encrypted: bool,
        destination: usize,
        to: &Destination,
        shown: Option<CallersResource>,
        pseudonym: &Pseudonym,
        clock: &Clock,
    ) -> Self {
        let access = Access::is_wanted().then(|| {
            Box::new(AccessFacts {
                started: clock.now(),
                method: head.method.clone(),
                path: head.uri.path().to_owned(),
                traceparent: head.headers.get("traceparent").cloned(),
            })
        });
        // Retrievals name no new places.
        let view = (!head.method.is_safe()).then(|| head.headers.get(HOST)).flatten().map(|host| {
            CallersView { is_encrypted, host: host.clone(), path_prefix: to.path_prefix.clone() }
        });
        let upstream = &to.upstream;
        let proof = Proof::of(&*upstream.credential, &head.headers, upstream.client.authority());
        let shown = shown.map(|shown| Box::new((shown, head.method.clone())));
        Self { destination, via: pseudonym.value(head.version), view, proof, access, shown }
    }

    /// Index of the destination.
    pub(super) const fn destination(&self) -> usize {
        self.destination
    }

    /// What the answer shows of which resource to whom.
    pub(super) fn shown(&self) -> Option<&CallersResource> {
        self.shown.as_ref().map(|shown| &shown.0)
    }

    /// The answer.
    pub(super) fn respond(
        self,
        proxy: &Proxy,
        outcome: Result<Outcome, ProxyError>,
    ) -> Response<FlowingBody> {
        let Some(to) = proxy.destinations.get(self.destination) else { return without_destination() };
        let metrics = proxy.metrics.upstream(self.destination);
        Telling { told: self, proxy, to, metrics }.respond(outcome)
    }
}

/// What is told, and by what of the proxy.
struct Telling<'a> {
    told: Told,
    proxy: &'a Proxy,
    to: &'a Destination,
    metrics: &'a UpstreamMetrics,
}

impl Telling<'_> {
    fn respond(self, outcome: Result<Outcome, ProxyError>) -> Response<FlowingBody> {
        let (response, word) = match outcome {
            Ok(outcome) => self.answer(outcome),
            Err(error) => {
                let status = CacheStatus { detail: Some(error.reason()), ..CacheStatus::default() };
                self.fail(&error, status)
            }
        };
        if let Some(facts) = &self.told.access {
            self.log(facts, response.status(), word);
        }
        if let Some(shown) = self.told.shown {
            let (resource, method) = *shown;
            self.proxy.known_tags.note(resource, &method, response.status(), response.headers());
        }
        response
    }

    fn answer(&self, outcome: Outcome) -> (Response<FlowingBody>, &'static str) {
        if let Some(error) = outcome.explanation(self.told.proof, self.to) {
            let fwd_status = Some(StatusCode::UNAUTHORIZED);
            let status = CacheStatus { detail: Some(error.reason()), fwd_status, ..outcome.status };
            return self.fail(&error, status);
        }
        let Outcome { status, reply, withheld, own_sync_token } = outcome;
        if let Reply::Failed(error) = &reply {
            return self.fail(error, status);
        }
        self.count(&status, &reply);
        let key = match &reply {
            Reply::Stored { request, .. } if self.to.show_cache_key => Some(request.key.clone()),
            _ => None,
        };
        let cache_status = CacheStatus { key: key.as_ref().map(CacheKey::as_bytes), ..status };
        let sync_token = own_sync_token.or_else(|| self.to.upstream.session.response_line());
        let own = OwnFields { cache_status, sync_token, via: self.told.via.clone() };
        let mut answer = self.reply(reply, own);
        if !withheld.is_empty() {
            respond::add_withheld(answer.headers_mut(), withheld);
        }
        (answer, status.fwd.unwrap_or("hit"))
    }

    fn fail(
        &self,
        error: &ProxyError,
        cache_status: CacheStatus<'_>,
    ) -> (Response<FlowingBody>, &'static str) {
        self.proxy.metrics.refused(error.reason());
        tracing::info!(upstream = %self.to.upstream.name, reason = error.reason(), %error, "no answer");
        let sync_token = self.to.upstream.session.response_line();
        let own = OwnFields { cache_status, sync_token, via: self.told.via.clone() };
        let mut answer = respond::from_error(error, own);
        self.to.upstream.profile.describe_answer(&HeaderMap::new(), answer.headers_mut());
        (answer, error.reason())
    }

    fn reply(&self, reply: Reply, own: OwnFields<'_>) -> Response<FlowingBody> {
        let profile = &*self.to.upstream.profile;
        match reply {
            Reply::Stored { request, response, age_seconds, .. } => {
                let now = || self.proxy.clock.now();
                let age_seconds = age_seconds.unwrap_or_else(|| current_age(&response, now()).as_secs());
                self.proxy.heads.answer(&request, &response, age_seconds, own, profile)
            }
            Reply::Upstream { status, mut fields, body } => {
                for name in profile.absolute_fields() {
                    if let (Some(value), Some(view)) = (fields.get(name), &self.told.view)
                        && let Some(through_here) = rewritten(value, &self.to.origin, view)
                    {
                        fields.insert(name, through_here);
                    }
                }
                respond::from_upstream(status, fields, body, own)
            }
            Reply::Failed(error) => respond::from_error(&error, own),
        }
    }

    fn count(&self, status: &CacheStatus<'_>, reply: &Reply) {
        let requests = &self.metrics.requests;
        match status.fwd {
            None => requests.hit.inc(),
            Some(word) => requests.forwarded(word),
        }
        if status.collapsed == Some(true) {
            requests.collapsed.inc();
        } else if status.stored {
            requests.stored.inc();
        }
        if let Some(detail) = status.detail {
            requests.detail(detail);
        }
        if let Reply::Stored { response, came_from_origin: false, .. } = reply {
            requests.body_bytes_saved.inc_by(response.body.len() as u64);
        }
    }

    fn log(&self, facts: &AccessFacts, status: StatusCode, word: &str) {
        Access {
            upstream: &self.to.upstream.name,
            method: &facts.method,
            path: &facts.path,
            status,
            cache_status: word,
            took: self.proxy.clock.now().since(facts.started),
            traceparent: facts.traceparent.as_ref().and_then(|value| value.to_str().ok()),
        }
        .log();
    }
}

/// A configuration always has an upstream; this answers all the same if it has none.
pub(super) fn without_destination() -> Response<FlowingBody> {
    let mut response = Response::new(FlowingBody::Empty);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
