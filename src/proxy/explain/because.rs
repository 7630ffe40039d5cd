//! The words of `Cache-Status` in sentences: why it is so, and what can be done about it.

use crate::decide::{BypassReason, ForwardReason, RequestReason, StaleReason, Staleness};
use crate::profile::UnkeyedReason;
use crate::sync_token::coverage::UncoveredReason;

/// Why a request goes upstream. It follows "because".
#[must_use]
pub const fn of_forward(reason: ForwardReason) -> &'static str {
    match reason {
        ForwardReason::Method => "this method is not answered from the store",
        ForwardReason::UriMiss => "nothing is stored for the target",
        ForwardReason::VaryMiss => {
            "what is stored for the target was made for other values of the fields that Vary names"
        }
        ForwardReason::Partial => "only a part of the representation is stored",
        ForwardReason::Bypass(reason) => of_bypass(reason),
        ForwardReason::Request(reason) => of_request(reason),
        ForwardReason::Stale(reason) => of_stale(reason),
    }
}

const fn of_bypass(reason: BypassReason) -> &'static str {
    match reason {
        BypassReason::Cookie => {
            "the request names its caller (Cookie), and no stored response says `public` (sharing = guarded)"
        }
        BypassReason::Precondition => {
            "only the origin can evaluate If-Match or If-Unmodified-Since against the current state"
        }
        BypassReason::Unkeyed(reason) => match reason {
            UnkeyedReason::Method => "this method is not answered from the store",
            UnkeyedReason::UnknownPath => "the profile does not know this path",
            UnkeyedReason::UncachedPath => "the profile does not store answers for this path",
            UnkeyedReason::InvalidEscape => "the target has an invalid percent-encoding",
            UnkeyedReason::AmbiguousParameter => {
                "a query parameter is malformed, or stands twice with different values"
            }
            UnkeyedReason::AcceptDatetime => "the request asks for another time (Accept-Datetime)",
            UnkeyedReason::Range => "the request asks for several ranges, or for a range of another unit",
            UnkeyedReason::Body => "the request is a retrieval with a body",
        },
    }
}

const fn of_request(reason: RequestReason) -> &'static str {
    match reason {
        RequestReason::NoCache => "the caller sent Cache-Control: no-cache (or Pragma)",
        RequestReason::NoStore => "the caller sent Cache-Control: no-store",
        RequestReason::MaxAge => "the stored response is older than the caller's max-age allows",
        RequestReason::MinFresh => {
            "the stored response will not be fresh for as long as the caller's min-fresh demands"
        }
        RequestReason::UnprovenCaller => {
            "only the origin can check the caller's signature, so it must see this request first"
        }
    }
}

const fn of_stale(reason: StaleReason) -> &'static str {
    match reason {
        StaleReason::Lifetime => "the lifetime of the stored response is over",
        StaleReason::NoCache => "the origin demands validation at each use (no-cache)",
        StaleReason::Strong => "consistency = strong validates at each use",
        StaleReason::Uncovered(reason) => match reason {
            UncoveredReason::Change => "an answer has shown a change since the stored response was asked for",
            UncoveredReason::Snapshot => {
                "a snapshot restored it, and the origin has not confirmed it in this process"
            }
            UncoveredReason::SyncToken => {
                "the caller's Sync-Token demands a state newer than the stored response is known to include"
            }
            UncoveredReason::UnknownSyncToken => {
                "the caller's Sync-Token never passed through this sidecar, so that only the origin knows what it stands for"
            }
            UncoveredReason::OwnWrite => {
                "a write that may have changed it has gone through this sidecar, or its fleet, since it was asked for"
            }
            UncoveredReason::OpenWrite => "a write that may change it is under way",
        },
    }
}

/// Why the store answers. It follows "because".
#[must_use]
pub const fn of_staleness(staleness: Staleness) -> &'static str {
    match staleness {
        Staleness::Fresh => "it is fresh, and includes all that is required",
        Staleness::WhileRevalidate => {
            "it is stale within stale-while-revalidate: it is validated in the background"
        }
        Staleness::MaxStale => "it is stale within the caller's max-stale",
        Staleness::Stretched => "the budget of requests stretches the configured lifetime",
        Staleness::Disconnected(_) => "the origin gives no better answer",
    }
}

/// What can be done about it; `None` where nothing is to be done.
#[must_use]
pub const fn next(reason: ForwardReason) -> Option<&'static str> {
    match reason {
        ForwardReason::VaryMiss => Some("Send the same values each time, or see upstream.ignored_fields"),
        ForwardReason::Bypass(BypassReason::Cookie) => {
            Some("Leave the cookie out, or let the origin say `public`")
        }
        ForwardReason::Bypass(BypassReason::Unkeyed(
            UnkeyedReason::UnknownPath
            | UnkeyedReason::AmbiguousParameter
            | UnkeyedReason::InvalidEscape
            | UnkeyedReason::Body,
        )) => Some("Spell the request as the API documents it"),
        ForwardReason::Request(
            RequestReason::NoCache | RequestReason::NoStore | RequestReason::MaxAge | RequestReason::MinFresh,
        ) => Some("Leave the directive out, or set upstream.honour_request_directives = false"),
        ForwardReason::Stale(StaleReason::Lifetime) => {
            Some("Nothing, if that is meant: a 304 starts the lifetime again. upstream.freshness names it")
        }
        ForwardReason::Stale(StaleReason::Strong) => Some("See upstream.consistency"),
        ForwardReason::Stale(StaleReason::Uncovered(_)) => {
            Some("Nothing: it is validated once, and answers again after that")
        }
        ForwardReason::Bypass(_)
        | ForwardReason::Method
        | ForwardReason::UriMiss
        | ForwardReason::Partial
        | ForwardReason::Request(RequestReason::UnprovenCaller)
        | ForwardReason::Stale(StaleReason::NoCache) => None,
    }
}
