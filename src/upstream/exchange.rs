//! One exchange with the upstream: signed, sent, and what its head says recorded before the answer is handed on.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, Response};
use hyper::body::Incoming;

use super::retrieval::Failure;
use super::{Upstream, shown};
use crate::body::FlowingBody;
use crate::clock::Timestamp;
use crate::credentials::Unsigned;
use crate::decide::Unreachable;
use crate::error::ProxyError;
use crate::metrics::OriginOutcome;
use crate::sync_token::coverage::Coverage;
use crate::sync_token::session::{Received, Snapshot};
use crate::transport::answer_body::AnswerBody;
use crate::transport::client::Outgoing;

impl Upstream {
    /// The body of an answer, guarded and counted.
    #[must_use]
    pub fn body(&self, incoming: Incoming) -> AnswerBody {
        AnswerBody::new(incoming, self.client.limits().body_stall_deadline, self.metrics.body_bytes.clone())
    }

    /// Sends a request with the credential, and records what its answer tells everyone before anyone sees the answer. `snapshot`
    /// was taken for this request, and its tokens are among the fields.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer.
    pub async fn send(
        &self,
        mut outgoing: Outgoing,
        target: &PathAndQuery,
        snapshot: &Snapshot,
    ) -> Result<(Response<AnswerBody>, Received), Failure> {
        let identity = self.throttle.identity(&outgoing.fields);
        let body = match &outgoing.body {
            FlowingBody::Full(bytes) => bytes.clone(),
            FlowingBody::Empty | FlowingBody::Streaming(_) => bytes::Bytes::new(),
        };
        let unsigned = Unsigned {
            method: &outgoing.method,
            target: target.as_str(),
            authority: self.client.authority().as_str(),
            body: &body,
            now: self.clock.now(),
        };
        self.credential.authorize(unsigned, &mut outgoing.fields).await.map_err(|error| Failure {
            why: Unreachable::Connect,
            error: ProxyError::Credential {
                upstream: self.client.authority().to_string(),
                cause: error.cause,
            },
        })?;
        let sent = self.clock.now();
        let exchanged = self.client.exchange(outgoing).await;
        let now = self.clock.now();
        self.metrics.asked(outcome(&exchanged), now.since(sent));
        let mut response = exchanged.map_err(Failure::from)?.map(|incoming| self.body(incoming));
        let tokens = if self.session.clauses().news_before_answer {
            self.session.observe(snapshot.covers, response.headers(), now)
        } else {
            self.observe_late(snapshot.covers, response.headers().clone(), now);
            Vec::new()
        };
        let received = Received { tokens, origin_time: shown::origin_time(response.headers()) };
        self.credential.observe_answer(response.status(), response.headers(), now);
        self.recognize(response.headers());
        self.obey(&identity, &mut response, now).await;
        Ok((response, received))
    }

    /// Says once that a profile which nobody chose is the wrong one. It stays: what is stored was made by its rules.
    fn recognize(&self, fields: &HeaderMap) {
        if self.recognition.shows_app_configuration(fields) {
            tracing::warn!(
                upstream = %self.name,
                profile = self.profile.name(),
                "this upstream answers like Azure App Configuration, but runs under the generic profile; start with \
                 --profile app-configuration (upstream.profile), or with --profile generic if that is meant"
            );
        }
    }

    /// The mistake of passing an answer on before its news are recorded, for the test that shows why it is one.
    fn observe_late(&self, sent: Coverage, fields: HeaderMap, now: Timestamp) {
        let session = Arc::clone(&self.session);
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            let _received = session.observe(sent, &fields, now);
        });
    }
}

/// How late the mistake of recording news too late is.
pub(super) const LATE: Duration = Duration::from_millis(500);

fn outcome(exchanged: &Result<Response<Incoming>, ProxyError>) -> OriginOutcome {
    match exchanged {
        Ok(response) => OriginOutcome::Answered(response.status()),
        Err(ProxyError::AnswerTimeout { .. } | ProxyError::ConnectTimeout { .. }) => OriginOutcome::TimedOut,
        Err(ProxyError::Connect { .. }) => OriginOutcome::Connect,
        Err(_) => OriginOutcome::Broken,
    }
}
