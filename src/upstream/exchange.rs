//! One exchange with the upstream: signed, sent, and what its head says recorded before the answer is handed on.

use http::uri::PathAndQuery;
use http::{HeaderMap, Response};

use super::result::UpstreamFailure;
use super::{Upstream, shown};
use crate::body::FlowingBody;
use crate::clock::Timestamp;
use crate::credentials::Unsigned;
use crate::decide::Unreachable;
use crate::error::ProxyError;
use crate::metrics::OriginOutcome;
use crate::sync_token::coverage::Coverage;
use crate::sync_token::session::{Received, SessionSnapshot};
use crate::sync_token::token::SyncToken;
use crate::trace::TracedRequest;
use crate::transport::answer_body::AnswerBody;
use crate::transport::client::Outgoing;
use crate::transport::received_body::ReceivedBody;

impl Upstream {
    /// The body of an answer, guarded and counted.
    #[must_use]
    pub fn body(&self, incoming: ReceivedBody) -> AnswerBody {
        AnswerBody::new(
            incoming,
            self.settings.client().limits().body_stall_deadline,
            self.state.metrics.body_bytes.clone(),
        )
    }

    /// Sends a request with the credential, and records what its answer tells all callers before one of them sees it. `snapshot`
    /// was taken for this request, and its tokens are among the fields. `has_substitute` says that a stored response may answer if the
    /// origin does not.
    ///
    /// # Errors
    /// [`UpstreamFailure`] when there is no answer.
    pub async fn send(
        &self,
        mut outgoing: Box<Outgoing>,
        target: &PathAndQuery,
        snapshot: &SessionSnapshot,
        has_substitute: bool,
    ) -> Result<(Response<AnswerBody>, Received), UpstreamFailure> {
        let identity = self.throttled_identity(&outgoing.fields);
        let (position, endpoint) = self.settings.endpoints.active();
        let method = outgoing.method.clone();
        let body = match &outgoing.body {
            FlowingBody::Full(bytes) => bytes.clone(),
            FlowingBody::Empty | FlowingBody::Streaming(_) => bytes::Bytes::new(),
        };
        let traced = TracedRequest {
            method: &method,
            path: target.path(),
            server: Some(endpoint.client.authority().host()),
            upstream: &self.settings.name,
        };
        let span = self.state.tracer.of_origin_request(traced, &mut outgoing.fields);
        let unsigned = Unsigned {
            method: &outgoing.method,
            target: target.as_str(),
            authority: endpoint.client.authority().as_str(),
            body: &body,
            now: self.state.clock.now(),
            has_substitute,
        };
        self.settings.credential.authorize(unsigned, &mut outgoing.fields).await.map_err(|error| {
            UpstreamFailure {
                why: Unreachable::Connect,
                error: ProxyError::Credential {
                    upstream: endpoint.client.authority().to_string(),
                    cause: error.cause,
                },
            }
        })?;
        let sent = self.state.clock.now();
        endpoint.requests.inc();
        let exchanged = endpoint.client.exchange(outgoing).await;
        let now = self.state.clock.now();
        span.end(exchanged.as_ref().ok().map(Response::status), outcome_word(&exchanged));
        self.state.metrics.asked(outcome(&exchanged), now.since(sent));
        self.state.last_failure.note(endpoint.client.authority().as_str(), &exchanged, now);
        self.settings.endpoints.observe(
            position,
            &exchanged,
            |next| self.fail_over(position, next),
            |next| self.state.session.change_endpoint(position, next, now),
        );
        let is_replaced = self.is_replaced(position, snapshot.covers);
        if is_replaced && method.is_safe() {
            // What it shows is of an endpoint that is not asked any more: it may be newer than what the next one shows.
            exchanged.map_err(UpstreamFailure::from)?;
            return Err(self.failed_over());
        }
        let mut response = exchanged.map_err(UpstreamFailure::from)?.map(|incoming| self.body(incoming));
        let tokens =
            if is_replaced { Vec::new() } else { self.observe(snapshot.covers, response.headers(), now) };
        let told = (response.status(), response.headers());
        self.note_own_write(position, (&method, target), told, sent);
        let received =
            Received { tokens, origin_time: shown::origin_time(response.headers()), known_since: None };
        let refusal = self.settings.credential.observe_answer(response.status(), response.headers(), now);
        self.note_answer(refusal);
        self.recognize(response.headers());
        self.obey(&identity, &mut response, now).await;
        Ok((response, received))
    }

    /// What an answer is worth that comes from an endpoint which another one has replaced meanwhile.
    fn failed_over(&self) -> UpstreamFailure {
        let upstream = self.settings.client().authority().to_string();
        ProxyError::BrokenAnswer { upstream, cause: "another replica is asked since".into() }.into()
    }

    /// Says once that a profile which was guessed is the wrong one. It stays: what is stored was made by its rules.
    fn recognize(&self, fields: &HeaderMap) {
        if self.state.recognition.shows_app_configuration(fields) {
            tracing::warn!(
                upstream = %self.settings.name,
                profile = self.settings.profile.name(),
                "this upstream answers like Azure App Configuration, but runs under the generic profile; start with \
                 --profile app-configuration (upstream.profile), or with --profile generic if that is meant"
            );
        }
    }

    /// Records the tokens of an answer, and returns them.
    fn observe(&self, sent: Coverage, fields: &HeaderMap, now: Timestamp) -> Vec<SyncToken> {
        #[cfg(any(test, feature = "internals"))]
        if !self.state.session.clauses().news_before_answer() {
            self.observe_late(sent, fields.clone(), now);
            return Vec::new();
        }
        self.state.session.observe(sent, fields, now)
    }
}

/// What a span says of an exchange: the word of its error, if there is one.
fn outcome_word(exchanged: &Result<Response<ReceivedBody>, ProxyError>) -> &'static str {
    exchanged.as_ref().map_or_else(ProxyError::reason, |_| "answered")
}

fn outcome(exchanged: &Result<Response<ReceivedBody>, ProxyError>) -> OriginOutcome {
    match exchanged {
        Ok(response) => OriginOutcome::Answered(response.status()),
        Err(ProxyError::AnswerTimeout { .. } | ProxyError::ConnectTimeout { .. }) => OriginOutcome::TimedOut,
        Err(ProxyError::Connect { .. }) => OriginOutcome::Connect,
        Err(ProxyError::Overloaded { .. }) => OriginOutcome::Overloaded,
        Err(_) => OriginOutcome::Broken,
    }
}
