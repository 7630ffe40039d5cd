//! Retry: whether a request without an answer is sent a second time (RFC 9110 §9.2.2).
//!
//! | request | its attempt ended because | sent again |
//! |---|---|---|
//! | safe, and its body is at hand | its connection was refused | once |
//! | safe, and its body is at hand | its connection, which others had used, closed before a byte of the answer | once |
//! | safe, and its body is at hand | of anything else | no |
//! | unsafe, or with a body that has streamed | of anything | no |
//!
//! An unsafe request may have been executed: sent twice it could undo a write of another client in between. That holds for an
//! idempotent one too. A connection that closes before it was used by another request did not time out while it was idle, so the
//! origin closed it because of this request.

use http::Method;

/// How an attempt ended that brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The origin refused the connection.
    Refused,
    /// The connection had carried other requests, and closed before a byte of the answer.
    ReusedConnectionClosed,
    /// A deadline, a broken answer, or a connection that failed in another way.
    Other,
}

/// Whether a request may be sent a second time at all: what it needs for that is kept then. `has_whole_body`: its body is at hand,
/// or it has none.
pub fn may_be_repeated(method: &Method, has_whole_body: bool) -> bool {
    method.is_safe() && has_whole_body
}

/// Whether a request that may be repeated is sent again after its first attempt ended so.
pub const fn is_sent_again(ended: AttemptEnd) -> bool {
    match ended {
        AttemptEnd::Refused | AttemptEnd::ReusedConnectionClosed => true,
        AttemptEnd::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_safe_request_whose_body_is_at_hand_is_repeated() {
        for (method, has_whole_body, expected) in [
            (Method::GET, true, true),
            (Method::HEAD, true, true),
            (Method::OPTIONS, true, true),
            (Method::GET, false, false),
            (Method::PUT, true, false),
            (Method::DELETE, true, false),
            (Method::POST, true, false),
            (Method::PATCH, true, false),
        ] {
            assert_eq!(may_be_repeated(&method, has_whole_body), expected, "{method} {has_whole_body}");
        }
    }

    #[test]
    fn it_is_sent_again_only_if_the_origin_cannot_have_begun_to_answer() {
        assert!(is_sent_again(AttemptEnd::Refused) && is_sent_again(AttemptEnd::ReusedConnectionClosed));
        assert!(!is_sent_again(AttemptEnd::Other));
    }
}
