//! What the answer to an unsafe request says about earlier stored responses (RFC 9111 §4.4).
//!
//! | answer | outcome |
//! |---|---|
//! | 2xx, 3xx (202 included) | happened |
//! | 4xx | did not happen |
//! | 409, 412 where the API's conflicts reveal a newer state (App Configuration) | counts as happened |
//! | 408, 5xx under `guarded`, a status of no known class, no answer after the first byte was sent | unknown: counts as happened |
//! | 5xx under `rfc9111` | did not happen: RFC 9111 §4.4 speaks of non-error responses only |

use http::StatusCode;

use crate::config::caching::{CachingRules, Sharing};
use crate::sync_token::session::WriteOutcome;

/// The outcome of a write that was answered with `status`.
pub fn write_outcome(status: StatusCode, rules: &CachingRules) -> WriteOutcome {
    match status {
        StatusCode::REQUEST_TIMEOUT => WriteOutcome::Unknown,
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED if rules.conflicts_outdate => {
            WriteOutcome::Happened
        }
        status if status.is_client_error() => WriteOutcome::DidNotHappen,
        status if status.is_server_error() => match rules.sharing {
            Sharing::Guarded => WriteOutcome::Unknown,
            Sharing::Rfc9111 => WriteOutcome::DidNotHappen,
        },
        // A status of no known class says nothing, so the write may have happened.
        status if status.as_u16() >= 600 => WriteOutcome::Unknown,
        _ => WriteOutcome::Happened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_how_a_write_ended() {
        use WriteOutcome::{DidNotHappen, Happened, Unknown};
        let rfc9111 = CachingRules::rfc9111();
        let guarded = CachingRules { sharing: Sharing::Guarded, ..CachingRules::rfc9111() };
        let app_configuration = CachingRules::app_configuration();
        for (status, by_rfc9111, by_guarded, by_app_configuration) in [
            (200, Happened, Happened, Happened),
            (201, Happened, Happened, Happened),
            (202, Happened, Happened, Happened),
            (204, Happened, Happened, Happened),
            (299, Happened, Happened, Happened),
            (302, Happened, Happened, Happened),
            (400, DidNotHappen, DidNotHappen, DidNotHappen),
            (401, DidNotHappen, DidNotHappen, DidNotHappen),
            (404, DidNotHappen, DidNotHappen, DidNotHappen),
            (408, Unknown, Unknown, Unknown),
            (409, DidNotHappen, DidNotHappen, Happened),
            (412, DidNotHappen, DidNotHappen, Happened),
            (429, DidNotHappen, DidNotHappen, DidNotHappen),
            (500, DidNotHappen, Unknown, Unknown),
            (503, DidNotHappen, Unknown, Unknown),
            (599, DidNotHappen, Unknown, Unknown),
            (700, Unknown, Unknown, Unknown),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(write_outcome(status, &rfc9111), by_rfc9111, "{status} under rfc9111");
            assert_eq!(write_outcome(status, &guarded), by_guarded, "{status} under guarded");
            assert_eq!(write_outcome(status, &app_configuration), by_app_configuration, "{status}");
        }
    }
}
