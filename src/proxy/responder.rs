//! Responding: the answer with the fields of the sidecar, counted and logged.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::Proxy;
use super::destination::Destination;
use super::outcome::{Outcome, Reply, UpstreamReply, unanswered};
use super::rewrite::{CallersView, rewritten};
use super::write_strategy::CallersResource;
use crate::body::FlowingBody;
use crate::clock::{Clock, Timestamp};
use crate::credentials::unauthorized::SentCredential;
use crate::decide::age::current_age;
use crate::error::ProxyError;
use crate::headers::cache_status::CacheStatus;
use crate::headers::via::Pseudonym;
use crate::logging::{Access, log_failure};
use crate::metrics::UpstreamMetrics;
use crate::metrics::last_refusals::LastRefusal;
use crate::respond::{self, OwnFields};
use crate::stored_response::CacheKey;
use crate::trace::RequestSpan;

/// Makes the answer to one request: what is known of it before it is judged.
pub(super) struct Responder {
    /// Index of the destination.
    destination: usize,
    via: HeaderValue,
    view: Option<Box<CallersView>>,
    proof: SentCredential,
    access: Option<Box<AccessFacts>>,
    /// What the answer shows of which resource to whom, and the method of the request.
    shown: Option<Box<(CallersResource, Method)>>,
    span: RequestSpan,
}

/// Kept only if the access log is on.
struct AccessFacts {
    started: Timestamp,
    method: Method,
    path: String,
    traceparent: Option<HeaderValue>,
}

impl Responder {
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
        // Only answers to unsafe requests name URLs of the origin.
        let view = (!head.method.is_safe()).then(|| head.headers.get(HOST)).flatten().map(|host| {
            Box::new(CallersView { is_encrypted, host: host.clone(), path_prefix: to.path_prefix.clone() })
        });
        let upstream = &to.upstream;
        let proof = SentCredential::of(upstream.credential(), &head.headers, upstream.authority());
        let shown = shown.map(|shown| Box::new((shown, head.method.clone())));
        let via = pseudonym.value(head.version);
        Self { destination, via, view, proof, access, shown, span: RequestSpan::default() }
    }

    /// With the span that ends with the answer.
    pub(super) fn with_span(self, span: RequestSpan) -> Self {
        Self { span, ..self }
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
        let responding = Responding { responder: &self, proxy, to, metrics };
        let mut word = "hit";
        let response = match outcome {
            Ok(outcome) => responding.answer(outcome, &mut word),
            Err(error) => responding.fail(&error, unanswered(&error), &mut word),
        };
        if let Some(facts) = &self.access {
            responding.log(facts, response.status(), word);
        }
        if let Some(shown) = self.shown {
            let (resource, method) = *shown;
            proxy.known_tags.note(resource, &method, response.status(), response.headers());
        }
        self.span.end(Some(response.status()), word);
        response
    }
}

/// A responder with what it needs of the proxy.
struct Responding<'a> {
    responder: &'a Responder,
    proxy: &'a Proxy,
    to: &'a Destination,
    metrics: &'a UpstreamMetrics,
}

impl Responding<'_> {
    /// Makes the answer, and sets the word for it in logs. It returns the response alone, so that the response is built in place. Code that a
    /// hit does not run has functions of its own, so that the instructions of a hit lie together.
    fn answer(&self, outcome: Outcome, word: &mut &'static str) -> Response<FlowingBody> {
        if let Some(error) = outcome.explanation(self.responder.proof, self.to) {
            let fwd_status = Some(StatusCode::UNAUTHORIZED);
            let status = CacheStatus { detail: Some(error.reason()), fwd_status, ..outcome.status };
            return self.fail(&error, status, word);
        }
        let Outcome { status, reply, withheld, own_sync_token } = outcome;
        if let Reply::Failed(error) = &reply {
            return self.fail(error, status, word);
        }
        *word = status.fwd.unwrap_or("hit");
        self.count(&status, &reply);
        let key = match (&reply, &self.to.key_use) {
            (Reply::Stored { request, .. }, Some(key_use)) => key_use.note(&request.key, status.hit),
            _ => None,
        };
        let cache_status = CacheStatus { key: key.as_ref().map(CacheKey::as_bytes), ..status };
        let sync_token = own_sync_token.or_else(|| self.to.upstream.session().response_line());
        let own = OwnFields { cache_status, sync_token, via: self.responder.via.clone() };
        let mut answer = self.reply(reply, own);
        if let Some(withheld) = withheld {
            respond::add_withheld(answer.headers_mut(), *withheld);
        }
        answer
    }

    #[cold]
    fn fail(
        &self,
        error: &ProxyError,
        cache_status: CacheStatus<'_>,
        word: &mut &'static str,
    ) -> Response<FlowingBody> {
        *word = error.reason();
        let (at, upstream) = (self.proxy.clock.now(), self.responder.destination);
        let (status, reason) = (error.status(), error.reason());
        self.proxy.metrics.refused(LastRefusal { at, upstream, status, reason });
        log_failure(self.to.upstream.name(), error);
        let sync_token = self.to.upstream.session().response_line();
        let own = OwnFields { cache_status, sync_token, via: self.responder.via.clone() };
        let mut answer = respond::from_error(error, own);
        self.to.upstream.profile().describe_answer(&HeaderMap::new(), answer.headers_mut());
        answer
    }

    fn reply(&self, reply: Reply, own: OwnFields<'_>) -> Response<FlowingBody> {
        let profile = &**self.to.upstream.profile();
        match reply {
            Reply::Stored { request, response, age_seconds, .. } => {
                let now = || self.proxy.clock.now();
                let age_seconds = age_seconds.unwrap_or_else(|| current_age(&response, now()).as_secs());
                self.proxy.heads.answer(&request, &response, age_seconds, &own, profile)
            }
            Reply::Upstream(reply) => self.pass_on(*reply, own),
            Reply::Failed(error) => respond::from_error(&error, own),
        }
    }

    #[inline(never)]
    fn pass_on(&self, reply: UpstreamReply, own: OwnFields<'_>) -> Response<FlowingBody> {
        let UpstreamReply { status, mut fields, body } = reply;
        for name in self.to.upstream.profile().absolute_fields() {
            if let (Some(value), Some(view)) = (fields.get(name), &self.responder.view)
                && let Some(through_here) = rewritten(value, &self.to.origin, view)
            {
                fields.insert(name, through_here);
            }
        }
        respond::from_upstream(status, fields, body, own)
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

    #[cold]
    fn log(&self, facts: &AccessFacts, status: StatusCode, word: &str) {
        Access {
            upstream: self.to.upstream.name(),
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
#[cold]
pub(super) fn without_destination() -> Response<FlowingBody> {
    let mut response = Response::new(FlowingBody::Empty);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
