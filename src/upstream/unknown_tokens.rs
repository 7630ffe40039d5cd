//! Token values that never passed through this sidecar, handed over from another node: the first of the two steps in which they
//! are learned. The second is the path that every request takes. A value whose id the origin does not answer with stays
//! unknown: its request goes forward each time, alone.

use std::time::Duration;

use http::header::RANGE;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};

use super::Upstream;
use super::pass_through::{PassedAnswer, PassedRequest};
use super::result::UpstreamFailure;
use crate::config::CachingRules;
use crate::decide::Unreachable;
use crate::error::ProxyError;
use crate::headers::conditional::CONDITIONAL_FIELDS;
use crate::stored_response::CacheKey;
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::token::PresentedToken;
use crate::transport::caller_body::CallerBody;

/// What became of the tokens that a caller presented.
#[derive(Debug)]
pub enum ResolvedTokens {
    /// All of them are known, as what a stored response must include.
    Demands(PresentedTokens),
    /// The origin refuses the request, whatever the state: that is the answer.
    Refused(PassedAnswer),
    /// The origin does not answer with the ids of these values. Its answer is as new as they are, and nothing else is known to be.
    StillUnknown {
        /// The answer.
        answer: PassedAnswer,
        /// A value took the place of a token of ours: the answer may be older than what callers here have been shown.
        replaced_ours: bool,
    },
    /// The origin cannot be asked about values that are not known: nothing is known to include them.
    Unknown(PresentedTokens, UpstreamFailure),
}

/// Why asking about values told nothing of what they demand.
#[derive(Debug)]
enum Unresolved {
    Refused(PassedAnswer),
    Failed(UpstreamFailure),
}

impl Upstream {
    /// What the tokens in `fields` demand. Asks the origin if some never passed through here: with the caller's values in the
    /// place of ours, and without conditions, so that the answer shows a state and brings its token.
    pub async fn resolve_tokens(
        &self,
        fields: &HeaderMap,
        method: &Method,
        target: &PathAndQuery,
        shows: Option<&CacheKey>,
        rules: &CachingRules,
    ) -> ResolvedTokens {
        loop {
            let presented = self.state.session.requirement(fields);
            let PresentedTokens::Unknown(values) = &presented else {
                return ResolvedTokens::Demands(presented);
            };
            match self.ask_about(values, fields, method, target, shows, rules).await {
                Ok(answer) if self.learn_from(&answer, values) => {
                    return match self.state.session.requirement(fields) {
                        PresentedTokens::Unknown(values) => ResolvedTokens::StillUnknown {
                            answer,
                            replaced_ours: self.state.session.keeps_id_of(&values),
                        },
                        known => ResolvedTokens::Demands(known),
                    };
                }
                // A reset came in between: what they demand now is a question of its own.
                Ok(_) => {}
                Err(Unresolved::Refused(answer)) => return ResolvedTokens::Refused(answer),
                Err(Unresolved::Failed(failure)) => return ResolvedTokens::Unknown(presented, failure),
            }
        }
    }

    fn learn_from(&self, answer: &PassedAnswer, values: &[PresentedToken]) -> bool {
        self.state.session.learn(answer.covers, values, &answer.head.fields, self.state.clock.now())
    }

    /// An answer that shows a state at least as new as these values.
    async fn ask_about(
        &self,
        values: &[PresentedToken],
        fields: &HeaderMap,
        method: &Method,
        target: &PathAndQuery,
        shows: Option<&CacheKey>,
        rules: &CachingRules,
    ) -> Result<PassedAnswer, Unresolved> {
        if let Some(failure) = self.throttled(fields, self.state.clock.now()) {
            return Err(Unresolved::Failed(failure));
        }
        let mut unconditional = fields.clone();
        for name in CONDITIONAL_FIELDS.iter().chain([&RANGE]) {
            unconditional.remove(name);
        }
        let asked = Box::new(PassedRequest {
            method: method.clone(),
            target: target.clone(),
            fields: unconditional,
            body: CallerBody::empty(),
            body_deadline: Duration::ZERO,
            unknown_tokens: values.to_vec(),
            shows: shows.cloned(),
        });
        let answer = self.forward(asked, rules).await.map_err(Unresolved::Failed)?;
        match answer.head.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(answer),
            status if status.is_success() || status.is_redirection() => Ok(answer),
            status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                Err(Unresolved::Failed(self.no_state(status, fields)))
            }
            status if status.is_server_error() => Err(Unresolved::Failed(self.no_state(status, fields))),
            _ => Err(Unresolved::Refused(answer)),
        }
    }

    fn no_state(&self, status: StatusCode, fields: &HeaderMap) -> UpstreamFailure {
        self.throttled(fields, self.state.clock.now()).unwrap_or_else(|| UpstreamFailure {
            why: Unreachable::ServerError,
            error: ProxyError::BrokenAnswer {
                upstream: self.settings.client().authority().to_string(),
                cause: format!("it answered {status}").into(),
            },
        })
    }
}
