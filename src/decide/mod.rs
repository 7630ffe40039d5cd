//! The decisions of an HTTP cache (RFC 9111), as pure functions: no I/O and no clock. One file holds one rule.
//!
//! # The decisions
//!
//! ```text
//! request, stored response, verdict of coverage, now ── reuse ──► Decision
//!     Reuse            answer from the store: precondition (304), then range (206, 416)
//!     Validate, Fetch  collapsing: lead an exchange, or follow one; validation: what to send
//!     Forward          one exchange for this request alone
//!     Refuse           504
//!
//! request as sent, head of the answer, stored response in hand, now ── absorb ──► Change
//!     Store                   200 and the like        storable, freshness, stored_fields
//!     Freshened, AnswerOnly   304, the answer to HEAD freshen
//!     Complete                206 with missing bytes  complete
//!     ServeStale              429, 5xx                disconnected
//!     AskAgain, Reject        an answer that cannot be used
//!     Keep, Outdate           an answer that is passed on and not stored
//!
//! unsafe request, status of its answer ── invalidate ──► WriteOutcome
//! list, stored response for one item   ── freshen_by_list ──► ItemChange
//! stored response, response that came  ── newer ──► which of the two is stored
//! answer that is not stored            ── hit_for_miss ──► whether later requests wait for one another
//! request, end of its first attempt    ── retry ──► whether it is sent again
//! fields of a request                  ── connection_bound ──► whether it needs a connection of its own
//! answer, state that was shown before  ── shows_change ──► Revelation
//! no answer, stored response, now      ── disconnected ──► Reuse, or the reason for the 504
//! ```
//!
//! # The rules
//!
//! | file | rule | source |
//! |---|---|---|
//! | [`reuse`] | A stored response answers if it is shareable with the caller, holds the bytes, is covered, and is fresh or stale within a permission. | RFC 9111 §4, §5.2.1; RFC 5861 §3 |
//! | [`age`] | The age is the age at receipt plus the time in the store. | RFC 9111 §4.2.3 |
//! | [`freshness`] | `s-maxage`, `max-age`, `Expires`, the operator's lifetime, and the heuristic name the lifetime, in this order. | RFC 9111 §4.2.1, §4.2.2; RFC 9213 §2.2 |
//! | [`storable`] | A response is stored unless the method, the status, a directive, the sharing or its body forbids it. | RFC 9111 §3, §3.3, §3.5, §5.2.2 |
//! | [`stored_fields`] | All fields are stored except those of one connection, of one exchange or of one caller. | RFC 9111 §3.1 |
//! | [`collapsing`] | A request follows an exchange only if the snapshot of the exchange covers what the request demands. | RFC 9111 §4 |
//! | [`hit_for_miss`] | A request does not wait for another of its key if the last answer could not be stored for a reason that lasts. | RFC 9111 §4 |
//! | [`validation`] | A validation carries the stored validators as they were received, and the caller's entity tags. | RFC 9111 §4.3.1, §4.3.2 |
//! | [`retry`] | A safe request is sent again once if its connection was refused, or was reused and closed before a byte of the answer. | RFC 9110 §9.2.2 |
//! | [`connection_bound`] | A request that authenticates its connection gets one of its own. | RFC 4559 |
//! | [`list_first`] | A list is validated in the place of its items if many of them need validation. | |
//! | [`absorb`] | The head of an answer decides what happens to the stored response and what the caller gets. | RFC 9111 §3, §4.3.3; RFC 9110 §15 |
//! | [`freshen`] | A 304 freshens the response in hand only if it is about its version. | RFC 9111 §3.2, §4.3.4, §4.3.5 |
//! | [`freshen_by_list`] | A list validates the stored response for an item with an equal strong entity tag. | RFC 9111 §4.3.4 |
//! | [`complete`] | A stored first part and a 206 with the rest join if they have the same strong entity tag. | RFC 9111 §3.3, §3.4 |
//! | [`newer`] | Of two responses the one with the greater coverage stays stored; on a tie the one that was requested later. | RFC 9111 §4 |
//! | [`shows_change`] | An answer that shows a state that was not shown before raises `required`. | [`sync_token`](crate::sync_token) |
//! | [`invalidate`] | A write that may have happened outdates what it may have changed. | RFC 9111 §4.4 |
//! | [`precondition`] | A caller that has the stored version gets a 304. | RFC 9110 §13.2; RFC 9111 §4.3.2 |
//! | [`range`] | One byte range of a stored response is answered with 206 or 416. | RFC 9110 §14.2 |
//! | [`disconnected`] | A stale response answers in the place of a failed origin, unless a directive, coverage or the stale limit forbids it. | RFC 9111 §4.2.4; RFC 5861 §4 |
//!
//! Which of several stored variants a request selects (RFC 9111 §4.1) is in [`headers::vary`](crate::headers::vary).
//!
//! # Invariants
//!
//! - The time is a parameter. The same arguments give the same decision.
//! - Each refusal is an enum variant. Its `as_str` is the word in `Cache-Status; detail=`, in logs and in metric
//!   labels.
//! - Coverage and freshness are independent: a response answers without the origin only if both hold.
//! - `must-revalidate`, `proxy-revalidate`, `s-maxage` and `no-cache` win over every permission to serve a stale
//!   response.
//! - The response in hand is the one whose validators were sent. A 304 is about that response, whatever the store holds
//!   now.
//! - A caller that sent no condition never gets a 304 (RFC 9110 §15.4.5).

use http::{HeaderMap, Method, StatusCode};

use crate::clock::Timestamp;
use crate::presented_request::PresentedRequest;
use crate::profile;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::{Coverage, UncoveredReason};
use crate::words::words;

pub mod absorb;
pub mod age;
pub mod collapsing;
pub mod complete;
pub mod connection_bound;
pub mod disconnected;
pub mod freshen;
pub mod freshen_by_list;
pub mod freshness;
pub mod hit_for_miss;
pub mod invalidate;
pub mod list_first;
pub mod newer;
pub mod precondition;
pub mod range;
pub mod refresh_ahead;
pub mod retry;
pub mod reuse;
pub mod shows_change;
pub mod storable;
pub mod stored_fields;
pub mod stretch;
pub mod told;
pub mod validation;

/// The head of an answer from upstream, before its body.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The final status.
    pub status: StatusCode,
    /// The fields as received.
    pub fields: HeaderMap,
    /// When the request was sent (RFC 9111 §4.2.3).
    pub request_time: Timestamp,
    /// When its head arrived.
    pub response_time: Timestamp,
}

/// What to do about a presented request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer from the store.
    Reuse(Reuse),
    /// Ask the origin whether the stored response is still current. That response is held in hand until the answer
    /// arrives. It may have no validator, or be a part that needs completion: [`validation`] says what to send.
    Validate(ForwardReason),
    /// Ask the origin without a stored response to validate, unless one is stored before the request is sent. The
    /// request may lead or follow an exchange.
    Fetch(ForwardReason),
    /// Pass the request on alone: it neither leads nor follows an exchange. [`absorb`] judges its answer all the same.
    Forward(ForwardReason),
    /// The caller said `only-if-cached` and no stored response may answer: 504 (RFC 9111 §5.2.1.7).
    Refuse,
}

/// How a stored response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// Remaining freshness lifetime in seconds, negative when stale: `Cache-Status; ttl=`.
    pub ttl_seconds: i64,
    /// The `Age` to send, in whole seconds.
    pub age_seconds: u64,
    /// Which permission it answers under.
    pub staleness: Staleness,
}

/// The permission under which a stored response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// It is fresh and covered.
    Fresh,
    /// Stale within `stale-while-revalidate` (RFC 5861 §3): answer now, validate in the background.
    WhileRevalidate,
    /// Stale within the caller's `max-stale` (RFC 9111 §5.2.1.2).
    MaxStale,
    /// Past the operator's lifetime, which the budget of requests stretches.
    Stretched,
    /// Stale or unverified, and the origin gives no better answer.
    Disconnected(Unreachable),
}

impl Staleness {
    /// Those with words of their own; [`Unreachable`] has the others.
    pub const SERVED_STALE: [Self; 3] = [Self::WhileRevalidate, Self::MaxStale, Self::Stretched];

    /// The word for `Cache-Status; detail=`; `None` if the response is fresh.
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Fresh => None,
            Self::WhileRevalidate => Some("stale-while-revalidate"),
            Self::MaxStale => Some("max-stale"),
            Self::Stretched => Some("stretched"),
            Self::Disconnected(why) => Some(why.as_str()),
        }
    }
}

words! {
    /// Why the origin gave no usable answer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Unreachable {
        /// No connection.
        Connect = "disconnected",
        /// No answer in time.
        TimedOut = "timed-out",
        /// The answer is malformed or was cut off.
        Broken = "broken-answer",
        /// The origin asked for fewer requests: 429, or 503 with `Retry-After`, now or a moment ago.
        Throttled = "throttled",
        /// The origin answered 5xx.
        ServerError = "server-error",
        /// As many exchanges as the operator allows are under way: the origin was not asked.
        Overloaded = "overloaded",
        /// A replica answered that may lag behind what callers were told by another one.
        Behind = "replica-behind",
    }
}

impl Unreachable {
    /// Whether a status says that the origin fails or throttles for the moment: then it is as good as no answer.
    pub const fn of_status(status: StatusCode) -> Option<Self> {
        match status.as_u16() {
            429 => Some(Self::Throttled),
            // 501 and 505 are about the request, not about the condition of the origin.
            501 | 505 => None,
            500..=599 => Some(Self::ServerError),
            _ => None,
        }
    }
}

impl Decision {
    /// The same for a caller that has not proved that it may see what is stored: it must ask under its own credential.
    #[must_use]
    pub fn for_unproven_caller(self) -> Self {
        match self {
            Self::Reuse(_) => Self::Validate(ForwardReason::Request(RequestReason::UnprovenCaller)),
            other => other,
        }
    }
}

/// Why a request went upstream: the parameter `fwd` of RFC 9211 §2.2, with the detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForwardReason {
    /// The cache does not handle this request.
    Bypass(BypassReason),
    /// The method is not answered from the store.
    Method,
    /// Nothing is stored for the target.
    UriMiss,
    /// Something is stored for the target, but not for these selecting header fields.
    VaryMiss,
    /// A directive of the caller demands it, or the caller is not proven.
    Request(RequestReason),
    /// The stored response may not answer without validation.
    Stale(StaleReason),
    /// Only a part of the representation is stored.
    Partial,
}

words! {
    /// Why the cache does not handle a request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum BypassReason {
        /// It carries `Cookie`, and no stored response says `public` (`Sharing::Guarded`).
        Cookie = "cookie",
        /// It carries `If-Match` or `If-Unmodified-Since`: only the origin knows the current state (RFC 9111 §4.3.2).
        Precondition = "precondition",
        /// The profile gives it no cache key.
        Unkeyed(profile::UnkeyedReason),
    }
}

words! {
    /// What about the request sent it upstream although a stored response could have answered.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum RequestReason {
        /// `no-cache`, or `Pragma: no-cache`.
        NoCache = "no-cache",
        /// `no-store`.
        NoStore = "no-store",
        /// The stored response is older than `max-age` allows.
        MaxAge = "max-age",
        /// The stored response will not be fresh for as long as `min-fresh` demands.
        MinFresh = "min-fresh",
        /// Only the origin can authenticate the caller: the caller's own signature is passed on.
        UnprovenCaller = "unproven-caller",
    }
}

/// Why a stored response may not answer without validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StaleReason {
    /// Its lifetime is over.
    Lifetime,
    /// The origin demands validation on each use (`no-cache`).
    NoCache,
    /// The operator chose `strong` consistency.
    Strong,
    /// It does not satisfy the rules of coverage: see [`crate::sync_token`].
    Uncovered(UncoveredReason),
}

impl ForwardReason {
    /// Whether it is about what is stored, or that nothing is: another response may answer in its place.
    pub const fn is_about_stored(self) -> bool {
        matches!(self, Self::UriMiss | Self::Stale(StaleReason::Lifetime | StaleReason::Uncovered(_)))
    }

    /// The token for `Cache-Status; fwd=`.
    pub const fn fwd(self) -> &'static str {
        match self {
            Self::Bypass(_) => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request(_) => "request",
            Self::Stale(_) => "stale",
            Self::Partial => "partial",
        }
    }

    /// The word for `Cache-Status; detail=`, if there is one beside [`ForwardReason::fwd`].
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Bypass(reason) => Some(reason.as_str()),
            Self::Request(reason) => Some(reason.as_str()),
            Self::Stale(reason) => reason.as_str(),
            Self::Method | Self::UriMiss | Self::VaryMiss | Self::Partial => None,
        }
    }
}

impl StaleReason {
    /// The word for `Cache-Status; detail=`; `None` if only the lifetime is over.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Lifetime => None,
            Self::NoCache => Some("no-cache"),
            Self::Strong => Some("strong"),
            Self::Uncovered(reason) => Some(reason.as_str()),
        }
    }
}

/// Which conditions a request upstream carried: they decide what a 304 means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentConditions {
    /// The validators of the stored response in hand: its entity tag, its `Last-Modified`, or both.
    pub own: bool,
    /// Conditions of the caller: entity tags beside the stored one, or any condition when no stored response is in
    /// hand.
    pub callers: bool,
}

/// A request that was sent upstream, as far as the meaning of its answer depends on it.
#[derive(Clone, Copy, Debug)]
pub struct SentRequest<'a> {
    /// The request on whose behalf it was sent.
    pub request: &'a PresentedRequest,
    /// The method that was sent: a `HEAD` may be sent as `GET`, so that its answer can be stored.
    pub method: &'a Method,
    /// The stored response whose validators, or whose missing bytes, the request was about. It is held from the
    /// decision on and does not change when the store does.
    pub in_hand: Option<&'a StoredResponse>,
    /// Which conditions it carried.
    pub conditions: SentConditions,
    /// It asked only for the bytes that the stored part in hand lacks.
    pub completing: bool,
    /// Its snapshot: the coverage of its answer.
    pub covers: Coverage,
}

#[cfg(test)]
pub(crate) mod tests;
