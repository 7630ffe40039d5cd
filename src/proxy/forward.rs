//! What the store does not answer: passed on as it is, written through, or asked upstream.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};

use super::destination::Destination;
use super::outcome::Outcome;
use super::{Found, OnPath, Proxy};
use crate::body::FlowingBody;
use crate::config::CachingRules;
use crate::decide::{BypassReason, Decision, ForwardReason, RequestReason, StaleReason};
use crate::error::{ProxyError, RefusalReason, Refused};
use crate::fetch::caller_body::take_in;
use crate::fetch::forward::Forwarded;
use crate::fetch::learn::Learned;
use crate::identify::Identified;
use crate::presented_request::PresentedRequest;
use crate::profile;
use crate::stored_response::StoredResponse;
use crate::sync_token::aggregate::Presented;
use crate::sync_token::coverage::UncoveredReason;

impl Proxy {
    /// Learns first what the caller's unknown token values include, then walks on.
    pub(super) async fn learn_and_answer(
        &self,
        to: &Destination,
        on_path: OnPath,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        let OnPath { request, target, .. } = &on_path;
        let on_path = match to.upstream.learn(&request.fields, &request.method, target).await {
            Learned::Demands(presented) => OnPath { presented, ..on_path },
            Learned::Unknown(presented, failure) => {
                return self.without_origin(to, OnPath { presented, ..on_path }, failure, None);
            }
            Learned::Refused(answer) => {
                let reason = ForwardReason::Stale(StaleReason::Uncovered(UncoveredReason::UnknownSyncToken));
                return Ok(Outcome::passed(&on_path.request.method, answer, reason));
            }
        };
        match self.look_up(to, on_path) {
            Found::Hit(hit) => Ok(hit),
            Found::Other(on_path, decision, stored) => {
                self.go_forward(to, on_path, decision, stored, body).await
            }
        }
    }

    /// What was decided for a retrieval that is no hit. `stored` is what the decision was about.
    pub(super) async fn go_forward(
        &self,
        to: &Destination,
        on_path: OnPath,
        decision: Decision,
        stored: Option<Arc<StoredResponse>>,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        match decision {
            Decision::Refuse => Err(only_if_cached()),
            Decision::Forward(reason @ ForwardReason::Bypass(BypassReason::Precondition)) => {
                let OnPath { request, target, .. } = on_path;
                let answer = self
                    .pass(to, request.method.clone(), target, request.fields.clone(), reason, body)
                    .await?;
                if let Some(stored) = stored
                    && answer.status() == Some(StatusCode::PRECONDITION_FAILED)
                {
                    // It tells of a newer state than the stored one.
                    to.upstream.outdate(&request.key, &stored);
                }
                Ok(answer)
            }
            Decision::Forward(reason) => self.ask_alone(to, on_path, reason, false, None).await,
            Decision::Reuse(_) => {
                let reason = ForwardReason::Request(RequestReason::UnprovenCaller);
                self.ask_alone(to, on_path, reason, true, None).await
            }
            Decision::Validate(reason) | Decision::Fetch(reason) => self.fetch(to, on_path, reason).await,
        }
    }

    /// A request that is no retrieval, or none that the cache understands.
    pub(super) async fn pass_on(
        &self,
        to: &Destination,
        identified: Identified,
        target: PathAndQuery,
        rules: Arc<CachingRules>,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        match identified {
            Identified::Cacheable(post) => {
                let (method, fields) = (post.method.clone(), post.fields.clone());
                self.write(to, method, target, fields, Some(post), rules, body).await
            }
            Identified::Bypass(bypassed) if !bypassed.method.is_safe() => {
                self.write(to, bypassed.method, target, bypassed.fields, None, rules, body).await
            }
            Identified::Bypass(bypassed) => {
                let reason = match bypassed.reason {
                    profile::BypassReason::Method => ForwardReason::Method,
                    reason => ForwardReason::Bypass(BypassReason::Unidentified(reason)),
                };
                self.pass(to, bypassed.method, target, bypassed.fields, reason, body).await
            }
        }
    }

    /// Passes a request on that the cache has no part in.
    async fn pass(
        &self,
        to: &Destination,
        method: Method,
        target: PathAndQuery,
        fields: HeaderMap,
        reason: ForwardReason,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        // Its own answer must be as new as its tokens too.
        match to.upstream.learn(&fields, &method, &target).await {
            Learned::Demands(_) => {}
            Learned::Unknown(_, failure) => return Ok(Outcome::failed(failure.error, reason)),
            Learned::Refused(answer) => return Ok(Outcome::passed(&method, answer, reason)),
        }
        let forwarded = self.forwarded(to, method.clone(), target, fields, body).await?;
        Ok(match to.upstream.forward_safe(forwarded).await {
            Ok(answer) => Outcome::passed(&method, answer, reason),
            Err(failure) => Outcome::failed(failure.error, reason),
        })
    }

    /// Passes a write on and learns its outcome, whatever becomes of its caller. A `POST` whose answer describes its own target may
    /// feed later retrievals (`caching.md` rule 20).
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, taken apart once")]
    async fn write(
        &self,
        to: &Destination,
        method: Method,
        target: PathAndQuery,
        fields: HeaderMap,
        post: Option<PresentedRequest>,
        rules: Arc<CachingRules>,
        body: FlowingBody,
    ) -> Result<Outcome, ProxyError> {
        let forwarded = self.forwarded(to, method.clone(), target, fields, body).await?;
        let written = Arc::clone(&to.upstream).write(forwarded, rules, post).await;
        Ok(match written {
            Ok(answer) => Outcome::passed(&method, answer, ForwardReason::Method),
            Err(failure) => Outcome::failed(failure.error, ForwardReason::Method),
        })
    }

    async fn forwarded(
        &self,
        to: &Destination,
        method: Method,
        target: PathAndQuery,
        fields: HeaderMap,
        body: FlowingBody,
    ) -> Result<Forwarded, ProxyError> {
        let mut limits = self.body_limits;
        if to.upstream.credential.signs_body() {
            limits.buffered_bytes = limits.limit_bytes;
        }
        let unknown_tokens = match to.upstream.session.requirement(&fields) {
            Presented::Unknown(values) => values,
            Presented::Known { .. } => Vec::new(),
        };
        let body = take_in(body, limits).await?;
        Ok(Forwarded { method, target, fields, body, body_deadline: limits.deadline, unknown_tokens })
    }
}

fn only_if_cached() -> ProxyError {
    ProxyError::Refused(Refused::new(
        RefusalReason::OnlyIfCached,
        "Nothing stored may answer this, and only-if-cached forbids asking upstream. Send the request without it",
    ))
}
