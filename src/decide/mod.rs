//! The decisions of an HTTP cache (RFC 9111), as pure functions: no I/O, no clock, one file a rule.
//!
//! | question | file |
//! |---|---|
//! | May the stored response answer this request? | [`reuse`] |
//! | Which variants, which age, which lifetime? | `headers::vary`, [`age`], [`freshness`] |
//! | May this response be stored, and what of it? | [`storable`], [`stored_fields`] |
//! | What does an answer from upstream mean? | [`absorb`] |
//! | What does a 304, or the answer to a `HEAD`, change? | [`freshen`] |
//! | What does a list say of its items? | [`freshen_by_list`] |
//! | When is a list asked in the place of its items? | [`list_first`] |
//! | Which answers show a change? | [`shows_change`] |
//! | Does the caller have it already (304)? | [`precondition`] |
//! | Which bytes does a `Range` get (206, 416)? | [`range`] |
//! | What completes a stored partial response? | [`complete`] |
//! | What if the origin cannot be reached? | [`disconnected`] |

use http::{HeaderMap, Method, StatusCode};

use crate::clock::Timestamp;
use crate::presented_request::PresentedRequest;
use crate::profile;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::{Coverage, UncoveredReason};

pub mod absorb;
pub mod age;
pub mod collapsing;
pub mod complete;
pub mod disconnected;
pub mod freshen;
pub mod freshen_by_list;
pub mod freshness;
pub mod invalidate;
pub mod list_first;
pub mod newer;
pub mod precondition;
pub mod range;
pub mod reuse;
pub mod shows_change;
pub mod storable;
pub mod stored_fields;
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
    /// When the head had arrived.
    pub response_time: Timestamp,
}

/// What is to be done about a presented request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer from the store.
    Reuse(Reuse),
    /// Ask the origin whether the stored response is still current, with that response in hand. It may have no validator,
    /// or be a part that is to be completed: `decide::validation` says what to send.
    Validate(ForwardReason),
    /// Ask the origin although there is no stored response to validate, unless one has come by the time that the request leaves.
    /// It may lead or join a fetch.
    Fetch(ForwardReason),
    /// Pass the request on by itself: it neither joins a fetch nor leads one. What comes back is absorbed all the same.
    Forward(ForwardReason),
    /// The caller wants a stored response or none (`only-if-cached`), and there is none for it: 504.
    Refuse,
}

/// How a stored response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// Remaining freshness lifetime in seconds, negative when stale: `Cache-Status; ttl=`.
    pub ttl_seconds: i64,
    /// The `Age` to send, in whole seconds.
    pub age_seconds: u64,
    /// Why it may answer although it may be out of date.
    pub staleness: Staleness,
}

/// Why a stored response may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// It is fresh and covers what it must.
    Fresh,
    /// Stale within `stale-while-revalidate` (RFC 5861 §3): answer now and validate in the background.
    WhileRevalidate,
    /// Stale within what the caller allows (`max-stale`).
    MaxStale,
    /// Stale or not known to be current, and the origin gives no better answer.
    Disconnected(Unreachable),
}

impl Staleness {
    /// The word for `Cache-Status; detail=`; `None` for what needs no explanation.
    #[must_use]
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Fresh => None,
            Self::WhileRevalidate => Some("stale-while-revalidate"),
            Self::MaxStale => Some("max-stale"),
            Self::Disconnected(why) => Some(why.as_str()),
        }
    }
}

/// Why the origin gave no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// No connection.
    Connect,
    /// No answer in time.
    TimedOut,
    /// An answer that is none, or one that was cut.
    Broken,
    /// The origin asked for fewer requests (429), or did so a moment ago (503 with a hint too).
    Throttled,
    /// The origin answered 5xx.
    ServerError,
}

impl Unreachable {
    /// What a status says of the origin, if it says that it fails or asks for patience: as good as no answer, and it may pass.
    #[must_use]
    pub const fn of_status(status: StatusCode) -> Option<Self> {
        match status.as_u16() {
            429 => Some(Self::Throttled),
            // These are about the request.
            501 | 505 => None,
            500..=599 => Some(Self::ServerError),
            _ => None,
        }
    }

    /// The word for `Cache-Status; detail=`, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "disconnected",
            Self::TimedOut => "timed-out",
            Self::Broken => "broken-answer",
            Self::Throttled => "throttled",
            Self::ServerError => "server-error",
        }
    }
}

/// Why a request went upstream: the words of RFC 9211 §2.2 with our detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForwardReason {
    /// The cache is not to handle this request.
    Bypass(BypassReason),
    /// The method is not answered from the store.
    Method,
    /// Nothing is stored for the target.
    UriMiss,
    /// Something is stored for the target, but not for these selecting header fields.
    VaryMiss,
    /// The caller's directives demand it, or who the caller is.
    Request(RequestReason),
    /// What is stored may not answer without validation.
    Stale(StaleReason),
    /// Only a part of the representation is stored.
    Partial,
}

/// Why the cache does not handle a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BypassReason {
    /// It carries `Cookie`, and nothing says that the answer is the same for all (`Sharing::Guarded`).
    Cookie,
    /// It carries a condition that only the origin may judge: `If-Match`, `If-Unmodified-Since` (RFC 9111 §4.3.2).
    Precondition,
    /// It is not identified as one that the store could answer.
    Unidentified(profile::BypassReason),
}

/// What about the request made it go upstream although what is stored could answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestReason {
    /// `no-cache`, or `Pragma: no-cache`.
    NoCache,
    /// `no-store`.
    NoStore,
    /// The stored response is older than `max-age` allows.
    MaxAge,
    /// The stored response will not be fresh for as long as `min-fresh` demands.
    MinFresh,
    /// Only the origin can judge whether the caller is who he says (a signature that is passed on).
    UnprovenCaller,
}

/// Why a stored response may not answer without validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StaleReason {
    /// Its lifetime is over.
    Lifetime,
    /// Its origin demands validation on each use (`no-cache`).
    NoCache,
    /// The operator chose `strong` consistency.
    Strong,
    /// It is not known to include what it must: see [`crate::sync_token`].
    Uncovered(UncoveredReason),
}

impl ForwardReason {
    /// The token for `Cache-Status; fwd=`.
    #[must_use]
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

    /// The word for `Cache-Status; detail=`, where there is more to say than [`ForwardReason::fwd`] does.
    #[must_use]
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::Bypass(reason) => Some(reason.as_str()),
            Self::Request(reason) => Some(reason.as_str()),
            Self::Stale(reason) => reason.as_str(),
            Self::Method | Self::UriMiss | Self::VaryMiss | Self::Partial => None,
        }
    }
}

impl BypassReason {
    /// The word for `Cache-Status; detail=`, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Precondition => "precondition",
            Self::Unidentified(reason) => reason.as_str(),
        }
    }
}

impl RequestReason {
    /// The word for `Cache-Status; detail=`, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCache => "no-cache",
            Self::NoStore => "no-store",
            Self::MaxAge => "max-age",
            Self::MinFresh => "min-fresh",
            Self::UnprovenCaller => "unproven-caller",
        }
    }
}

impl StaleReason {
    /// The word for `Cache-Status; detail=`; `None` for plain staleness.
    #[must_use]
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Lifetime => None,
            Self::NoCache => Some("no-cache"),
            Self::Strong => Some("strong"),
            Self::Uncovered(reason) => Some(reason.as_str()),
        }
    }
}

/// Which conditions a request upstream carried, so that a 304 can be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentConditions {
    /// The validators of the stored response in hand: its entity tag, its `Last-Modified`, or both.
    pub own: bool,
    /// Conditions of the caller that ask something else: entity tags beside our own, or any when nothing was in hand.
    pub callers: bool,
}

/// A request upstream as far as it helps to understand the answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request on whose behalf it was sent.
    pub request: &'a PresentedRequest,
    /// The method that was sent: a `HEAD` may be fetched as `GET`, so that its answer can be stored.
    pub method: &'a Method,
    /// The stored response whose validators, or whose missing bytes, it was about. Held from the decision on, whatever the
    /// store does meanwhile.
    pub in_hand: Option<&'a StoredResponse>,
    /// Which conditions it carried.
    pub conditions: SentConditions,
    /// It asked for the bytes that the stored part in hand lacks, and for nothing else.
    pub completing: bool,
    /// Its snapshot: what its answer is known to include.
    pub covers: Coverage,
}

#[cfg(test)]
mod tests;
