//! Every failure of a request, and the one place that maps it to a status.
//!
//! An error answer is `application/problem+json` (RFC 9457): what happened, and what its reader can do about it.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

/// A request that the sidecar answers itself, without reading the store or asking the origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// The status of the answer.
    pub status: StatusCode,
    /// The reason: the word in logs and metrics.
    pub reason: RefusalReason,
    /// What the caller can do about it.
    pub detail: Cow<'static, str>,
    /// Fields that belong to the status: challenges on a 401, `Allow` on a 405.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

impl Refused {
    /// A refusal with the status that belongs to its reason.
    #[cold]
    pub fn new(reason: RefusalReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status: reason.status(), reason, detail: detail.into(), fields: Vec::new() }
    }

    /// The same with one more field on its answer.
    #[must_use]
    pub fn with_field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }
}

/// Declares the reasons for a refusal, each with its word, the status of its answer and the title of its problem.
macro_rules! refusal_reasons {
    ($($(#[$attribute:meta])* $reason:ident = $word:literal, $status:ident, $title:literal;)*) => {
        /// Why a request was refused: the word in logs, metrics and the problem's type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RefusalReason {
            $($(#[$attribute])* $reason,)*
        }

        impl RefusalReason {
            /// Every reason: metrics export each label value from the start.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// The word for logs, metric labels and the problem's type.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => $word,)*
                }
            }

            /// The status of the answer.
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$reason => StatusCode::$status,)*
                }
            }

            const fn title(self) -> &'static str {
                match self {
                    $(Self::$reason => $title,)*
                }
            }
        }
    };
}

refusal_reasons! {
    /// `CONNECT` or `TRACE`.
    Method = "method", NOT_IMPLEMENTED, "The method is not offered";
    /// A malformed target, or one in authority form or with user information.
    Target = "target", BAD_REQUEST, "The request target is not understood";
    /// A target over the limit.
    TargetTooLong = "target-too-long", URI_TOO_LONG, "The request target is too long";
    /// Too many header fields, or too large ones.
    HeaderSectionTooLarge = "header-section-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The header section is too large";
    /// `Host` is missing, repeated or malformed, or differs from an absolute-form target.
    Host = "host", BAD_REQUEST, "The Host field is missing or wrong";
    /// `Host` names a machine that this listener does not answer for: DNS rebinding.
    HostNotAllowed = "host-not-allowed", FORBIDDEN, "This listener does not answer for that host";
    /// A transfer coding other than exactly `chunked`, or one in HTTP/1.0 (RFC 9112 §6.1).
    TransferCoding = "transfer-coding", NOT_IMPLEMENTED, "The transfer coding is not understood";
    /// `Content-Length` on several lines with different values, or malformed.
    ContentLength = "content-length", BAD_REQUEST, "The Content-Length is wrong";
    /// An expectation other than `100-continue`.
    Expectation = "expectation", EXPECTATION_FAILED, "The expectation cannot be met";
    /// A body on `GET` or `HEAD` under `sharing = "guarded"`.
    BodyOnRetrieval = "body-on-retrieval", BAD_REQUEST, "A retrieval must not carry a body";
    /// A browser sent it for a page of another origin.
    CrossOrigin = "cross-origin", FORBIDDEN, "Pages of other origins are not served";
    /// It was forwarded by another proxy.
    Forwarded = "forwarded", FORBIDDEN, "Forwarded requests are not served";
    /// It carries this sidecar's own `Via`.
    Loop = "loop", LOOP_DETECTED, "The request came back to its sender";
    /// `only-if-cached`, and no stored response may be reused.
    OnlyIfCached = "only-if-cached", GATEWAY_TIMEOUT, "Nothing stored may answer";
    /// The caller is not authenticated for this listener.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "The caller is not known";
    /// The upstream refused the caller's signature, which covers the `Host` of this sidecar.
    SignedForSidecar = "signed-for-sidecar", UNAUTHORIZED, "The signature is for another host than the upstream";
    /// The caller has no permission for the request.
    Forbidden = "forbidden", FORBIDDEN, "The caller may not do that";
    /// The method is not on the upstream's list.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    /// A write without `If-Match` where the operator demands one.
    ConditionMissing = "condition-missing", BAD_REQUEST, "The write does not name its concurrency strategy";
    /// A write without `If-Match` to a resource that its caller has not read, where the operator wants optimistic
    /// concurrency.
    EntityTagUnknown = "entity-tag-unknown", PRECONDITION_REQUIRED, "The caller has not read what it would overwrite";
}

/// Why no answer of the origin can be passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The request was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No connection to the upstream: refused, unreachable, unresolvable, TLS failure.
    #[error("cannot connect to {upstream}: {cause}. {advice}")]
    Connect {
        /// The upstream's authority.
        upstream: String,
        /// What is wrong.
        cause: String,
        /// What the operator can do about it.
        advice: &'static str,
    },
    /// No connection to the upstream within the deadline.
    #[error(
        "no connection to {upstream} within {} ms. Check the network, or raise upstream.connect_deadline",
        deadline.as_millis()
    )]
    ConnectTimeout {
        /// The upstream's authority.
        upstream: String,
        /// The deadline that passed.
        deadline: Duration,
    },
    /// The upstream did not send the head of its answer in time.
    #[error(
        "{upstream} sent no answer within {} ms. Try again, or raise upstream.header_deadline if it is that slow",
        deadline.as_millis()
    )]
    AnswerTimeout {
        /// The upstream's authority.
        upstream: String,
        /// The deadline that passed.
        deadline: Duration,
    },
    /// The upstream began its answer, and then sent no more of its body within the deadline.
    #[error(
        "{upstream} sent no more of its body within {} ms. Try again, or raise upstream.body_stall_deadline if it is that slow",
        deadline.as_millis()
    )]
    BodyTimeout {
        /// The upstream's authority.
        upstream: String,
        /// The deadline that passed.
        deadline: Duration,
    },
    /// The upstream closed the connection before it had answered.
    #[error(
        "{upstream} closed the connection before it answered: {cause}. Try again; its own log may say why"
    )]
    NoAnswer {
        /// The upstream's authority.
        upstream: String,
        /// What the connection said.
        cause: String,
    },
    /// The upstream's answer is not HTTP, breaks its rules, or exceeds a limit.
    #[error(
        "the answer of {upstream} cannot be passed on: {cause}. The operator of that service must repair it"
    )]
    BrokenAnswer {
        /// The upstream's authority.
        upstream: String,
        /// Which rule it breaks.
        cause: Cow<'static, str>,
    },
    /// The sidecar has no usable credential for the upstream at the moment.
    #[error("no credential for {upstream}: {cause}")]
    Credential {
        /// The upstream's authority.
        upstream: String,
        /// What is wrong and what the operator can do about it. Never holds a secret.
        cause: String,
    },
    /// The upstream refuses the sidecar's own credential (401). The caller has done nothing wrong.
    #[error(
        "{upstream} refuses the credential of the sidecar itself ({kind}), not that of the caller: {advice}. Its operator finds more \
         in its log and in tagalong_credential_refusals_total"
    )]
    CredentialRefused {
        /// The upstream's authority.
        upstream: String,
        /// The configuration's word for the kind of credential.
        kind: &'static str,
        /// What is wrong and what the operator can do about it.
        advice: &'static str,
    },
    /// The upstream cannot be asked, and no stored response may answer.
    #[error("the upstream cannot be asked, and nothing stored may answer instead ({reason}): {cause}")]
    Disconnected {
        /// Why no stored response may answer: the word of [`decide::disconnected`](crate::decide::disconnected), and about which item.
        reason: Cow<'static, str>,
        /// Why the upstream cannot be asked.
        cause: Box<ProxyError>,
    },
    /// The upstream asked all callers to slow down.
    #[error("the upstream asked for a pause; try again in {} ms", retry_after.as_millis())]
    Throttled {
        /// The status with which it asked: 429 or 503.
        status: StatusCode,
        /// How much of the pause is left.
        retry_after: Duration,
    },
    /// The caller's body is over the limit.
    #[error("the request body is larger than {limit_bytes} bytes. Send less, or raise limits.request_body")]
    BodyTooLarge {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// The caller's body broke off, is malformed, or came too slowly.
    #[error("the request body did not arrive whole: {cause}. Send it again")]
    BodyBroken {
        /// What was wrong with it.
        cause: String,
        /// The deadline has passed.
        too_slow: bool,
    },
    /// The request is over a limit of the sidecar.
    #[error("the sidecar is at its limit ({limit}). Try again shortly, or raise that limit")]
    Overloaded {
        /// Which limit: its configuration key.
        limit: &'static str,
    },
    /// A fault of this program.
    #[error("the sidecar failed on its own account: {cause}. Please report this")]
    Internal {
        /// What went wrong.
        cause: Cow<'static, str>,
    },
}

/// How long a caller waits before it tries an overloaded sidecar again.
const OVERLOADED_RETRY_AFTER: Duration = Duration::from_secs(1);

impl ProxyError {
    /// The status of the answer. The one place where an error becomes a status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refused) => refused.status,
            Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::AnswerTimeout { .. }
            | Self::BodyTimeout { .. }
            | Self::NoAnswer { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::BrokenAnswer { .. } | Self::Credential { .. } | Self::CredentialRefused { .. } => {
                StatusCode::BAD_GATEWAY
            }
            Self::Disconnected { cause, .. } => match **cause {
                Self::BrokenAnswer { .. } => StatusCode::BAD_GATEWAY,
                Self::Throttled { status, .. } => status,
                Self::Overloaded { .. } => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::GATEWAY_TIMEOUT,
            },
            Self::Throttled { status, .. } => *status,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyBroken { too_slow: true, .. } => StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken { too_slow: false, .. } => StatusCode::BAD_REQUEST,
            Self::Overloaded { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The hint for `Retry-After` and `retry-after-ms`. Only on 429 and 503: on a 4xx such as 412 some clients would
    /// repeat a request that must not be repeated.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => Some(*retry_after),
            Self::Disconnected { cause, .. } => cause.retry_after(),
            Self::Overloaded { .. } => Some(OVERLOADED_RETRY_AFTER),
            _ => None,
        }
    }

    /// Whether the origin may have acted on a request that failed in this way: then a write counts as happened.
    pub const fn may_have_reached_origin(&self) -> bool {
        matches!(
            self,
            Self::AnswerTimeout { .. }
                | Self::BodyTimeout { .. }
                | Self::NoAnswer { .. }
                | Self::BrokenAnswer { .. }
                | Self::Internal { .. }
        )
    }

    /// The words of [`ProxyError::reason`], but for those of [`RefusalReason`].
    pub const REASONS: [&'static str; 14] = [
        "connect",
        "connect-timeout",
        "answer-timeout",
        "body-timeout",
        "no-answer",
        "broken-answer",
        "credential",
        "credential-refused",
        "disconnected",
        "throttled",
        "body-too-large",
        "body-broken",
        "overloaded",
        "internal",
    ];

    /// The word for logs, metric labels and the problem's type.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.reason.as_str(),
            Self::Connect { .. } => "connect",
            Self::ConnectTimeout { .. } => "connect-timeout",
            Self::AnswerTimeout { .. } => "answer-timeout",
            Self::BodyTimeout { .. } => "body-timeout",
            Self::NoAnswer { .. } => "no-answer",
            Self::BrokenAnswer { .. } => "broken-answer",
            Self::Credential { .. } => "credential",
            Self::CredentialRefused { .. } => "credential-refused",
            Self::Disconnected { .. } => "disconnected",
            Self::Throttled { .. } => "throttled",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::BodyBroken { .. } => "body-broken",
            Self::Overloaded { .. } => "overloaded",
            Self::Internal { .. } => "internal",
        }
    }

    const fn title(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.reason.title(),
            Self::Connect { .. } | Self::ConnectTimeout { .. } => "The upstream cannot be reached",
            Self::AnswerTimeout { .. } | Self::BodyTimeout { .. } | Self::NoAnswer { .. } => {
                "The upstream did not answer"
            }
            Self::BrokenAnswer { .. } => "The upstream's answer is broken",
            Self::Credential { .. } => "No credential for the upstream",
            Self::CredentialRefused { .. } => "The upstream refuses the credential of the sidecar",
            Self::Disconnected { .. } => "The upstream cannot be asked, and nothing stored may answer",
            Self::Throttled { .. } => "The upstream asked for a pause",
            Self::BodyTooLarge { .. } => "The request body is too large",
            Self::BodyBroken { .. } => "The request body did not arrive whole",
            Self::Overloaded { .. } => "The sidecar is at its limit",
            Self::Internal { .. } => "The sidecar failed",
        }
    }

    /// What the caller is told.
    pub fn problem(&self) -> ProblemDetails {
        ProblemDetails {
            reason: self.reason(),
            title: self.title(),
            status: self.status(),
            detail: self.to_string(),
        }
    }
}

/// The content of a problem details body (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemDetails {
    /// The word that names the kind of problem: last part of `type`.
    pub reason: &'static str,
    /// The kind of problem, for people.
    pub title: &'static str,
    /// The status of the answer.
    pub status: StatusCode,
    /// This occurrence of it, and what to do next.
    pub detail: String,
}

impl ProblemDetails {
    /// The body, as JSON.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "type": format!("urn:tagalong:problem:{}", self.reason),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn upstream() -> String {
        "origin.test".to_owned()
    }

    fn one_of_each() -> Vec<ProxyError> {
        let deadline = Duration::from_secs(2);
        vec![
            Refused::new(RefusalReason::Host, "Send one Host field").into(),
            ProxyError::Connect { upstream: upstream(), cause: "refused".into(), advice: "Start it" },
            ProxyError::ConnectTimeout { upstream: upstream(), deadline },
            ProxyError::AnswerTimeout { upstream: upstream(), deadline },
            ProxyError::BodyTimeout { upstream: upstream(), deadline },
            ProxyError::NoAnswer { upstream: upstream(), cause: "closed".into() },
            ProxyError::BrokenAnswer {
                upstream: upstream(),
                cause: "a 304 to an unconditional request".into(),
            },
            ProxyError::Throttled { status: StatusCode::TOO_MANY_REQUESTS, retry_after: deadline },
            ProxyError::CredentialRefused { upstream: upstream(), kind: "hmac", advice: "check it" },
            ProxyError::BodyTooLarge { limit_bytes: 1 },
            ProxyError::BodyBroken { cause: "closed".into(), too_slow: false },
            ProxyError::Overloaded { limit: "limits.connections" },
            ProxyError::Internal { cause: "a task ended".into() },
            ProxyError::Disconnected {
                reason: "own-write".into(),
                cause: Box::new(ProxyError::Connect {
                    upstream: upstream(),
                    cause: "refused".into(),
                    advice: "Start it",
                }),
            },
        ]
    }

    #[test]
    fn every_reason_is_in_the_list() {
        let mut reasons: HashSet<&str> = one_of_each().iter().map(ProxyError::reason).collect();
        assert!(reasons.remove(RefusalReason::Host.as_str()));
        let credential = ProxyError::Credential { upstream: upstream(), cause: "none".into() };
        reasons.insert(credential.reason());
        assert_eq!(reasons, ProxyError::REASONS.into_iter().collect());
    }

    #[test]
    fn statuses() {
        let statuses: Vec<u16> = one_of_each().iter().map(|error| error.status().as_u16()).collect();
        assert_eq!(statuses, [400, 504, 504, 504, 504, 504, 502, 429, 502, 413, 400, 503, 500, 504]);
        let slow = ProxyError::BodyBroken { cause: "slow".into(), too_slow: true };
        assert_eq!(slow.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[test]
    fn being_disconnected_has_the_status_of_its_cause() {
        for (cause, status, retry_after) in [
            (ProxyError::BrokenAnswer { upstream: upstream(), cause: "x".into() }, 502, None),
            (ProxyError::NoAnswer { upstream: upstream(), cause: "x".into() }, 504, None),
            (
                ProxyError::Throttled {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    retry_after: Duration::from_millis(700),
                },
                503,
                Some(Duration::from_millis(700)),
            ),
        ] {
            let error = ProxyError::Disconnected { reason: "stale-limit".into(), cause: Box::new(cause) };
            assert_eq!(error.status().as_u16(), status);
            assert_eq!(error.retry_after(), retry_after);
            assert!(error.to_string().contains("stale-limit"), "{error}");
        }
    }

    #[test]
    fn a_retry_hint_stands_on_429_and_503_only() {
        for error in one_of_each() {
            let hinted = matches!(error.status().as_u16(), 429 | 503);
            assert_eq!(error.retry_after().is_some(), hinted, "{error}");
        }
    }

    #[test]
    fn a_problem_says_what_happened() {
        for error in one_of_each() {
            let problem = error.problem();
            let json: serde_json::Value = serde_json::from_str(&problem.to_json()).expect("JSON");
            assert_eq!(json["status"], error.status().as_u16());
            assert_eq!(json["type"], format!("urn:tagalong:problem:{}", error.reason()));
            assert_eq!(json["detail"], error.to_string());
            assert!(!json["title"].as_str().expect("text").is_empty());
        }
    }

    #[test]
    fn text_from_outside_cannot_break_out_of_the_json() {
        let error = ProxyError::Connect {
            upstream: "a\"b\\c\n".into(),
            cause: "\u{0}\u{7f}é".into(),
            advice: "Start it",
        };
        let json: serde_json::Value = serde_json::from_str(&error.problem().to_json()).expect("JSON");
        assert_eq!(json["detail"], error.to_string());
    }

    #[test]
    fn reasons_are_distinct_words() {
        let words: HashSet<&str> = RefusalReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), RefusalReason::ALL.len());
        for reason in RefusalReason::ALL {
            assert!(reason.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
            assert!(reason.status().is_client_error() || reason.status().is_server_error());
            assert!(!reason.title().is_empty());
        }
    }
}
