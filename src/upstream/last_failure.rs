//! The last time that the origin gave no usable answer: for the operator who asks why a stale response, or an error, was given. No decision
//! reads it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Response, StatusCode};

use crate::clock::Timestamp;
use crate::decide::Unreachable;
use crate::error::ProxyError;

/// A request that the origin gave no usable answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginFailure {
    /// What kind of failure.
    pub why: Unreachable,
    /// What happened, and what the operator can do about it.
    pub detail: String,
    /// When it was known.
    pub at: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LastFailure(Mutex<Option<OriginFailure>>);

impl LastFailure {
    /// Remembers what came of a request to `endpoint`, if that was a failure.
    pub(super) fn note<B>(&self, endpoint: &str, exchanged: &Result<Response<B>, ProxyError>, at: Timestamp) {
        let failure = match exchanged {
            Ok(response) => failure_of_status(endpoint, response.status()),
            Err(error) => Some((Unreachable::from(error), error.to_string())),
        };
        if let Some((why, detail)) = failure {
            *self.lock() = Some(OriginFailure { why, detail, at });
        }
    }

    /// The last one.
    pub(super) fn get(&self) -> Option<OriginFailure> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<OriginFailure>> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure_of_status(endpoint: &str, status: StatusCode) -> Option<(Unreachable, String)> {
    let why = Unreachable::of_status(status)?;
    Some((why, format!("{endpoint} answered with {}", status.as_u16())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Result<Response<()>, ProxyError> {
        Ok(Response::builder().status(status).body(()).unwrap())
    }

    #[test]
    fn the_last_failure_is_remembered_and_answers_do_not_end_it() {
        let last = LastFailure::default();
        let at = Timestamp::from_unix_seconds;
        for status in [200, 304, 404, 412, 501] {
            last.note("origin", &answer(status), at(1));
            assert_eq!(last.get(), None, "{status}");
        }
        let noted = |exchanged, seconds| {
            last.note("origin", &exchanged, at(seconds));
            last.get().map(|failure| (failure.why, failure.detail, failure.at))
        };
        let server_error = Some((Unreachable::ServerError, "origin answered with 500".to_owned(), at(2)));
        assert_eq!(noted(answer(500), 2), server_error);
        assert_eq!(noted(answer(200), 3), server_error);
        let throttled = Some((Unreachable::Throttled, "origin answered with 429".to_owned(), at(4)));
        assert_eq!(noted(answer(429), 4), throttled);
        let error = ProxyError::NoAnswer { upstream: "origin".to_owned(), cause: "reset".to_owned() };
        assert_eq!(noted(Err(error.clone()), 5), Some((Unreachable::Broken, error.to_string(), at(5))));
    }
}
