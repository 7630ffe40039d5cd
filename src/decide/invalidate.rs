//! What the answer to an unsafe request says about what was stored before it (RFC 9111 §4.4; `caching.md` rule 17).

use http::StatusCode;

use crate::config::caching::{CachingRules, Sharing};
use crate::sync_token::session::WriteOutcome;

/// How a write ended that was answered with `status`.
///
/// A success or a redirection happened, 202 included. A client error did not, save where it reveals a newer state than the
/// stored one (409 and 412 at App Configuration) and save 408, after which nobody knows. A server error may have happened:
/// `guarded` takes it so, `rfc9111` keeps to the letter of RFC 9111 §4.4, which speaks of non-error responses only.
#[must_use]
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
        // What is no known class may have happened.
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
