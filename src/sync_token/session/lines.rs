//! The `Sync-Token` field lines of one session: those that it sends and answers with, and what those of a caller demand.

use http::{HeaderMap, HeaderValue};

use super::{SYNC_TOKEN, Session};
use crate::sync_token::aggregate::{Aggregate, PresentedTokens};
use crate::sync_token::token::{self, SyncToken};

/// The printed forms of the aggregate, made when it changes and not when it is used.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// What the response line demands of a caller that presents it.
    pub(super) response_version: u64,
    pub(super) request: Option<HeaderValue>,
    pub(super) response: Option<HeaderValue>,
    pub(super) response_as_presented: Option<HeaderValue>,
}

impl Lines {
    /// Those of the aggregate as it is.
    pub(super) fn of(aggregate: &Aggregate) -> Self {
        Self {
            response_version: aggregate.response_line_version(),
            request: line(aggregate.request_line(&[])),
            response: line(aggregate.response_line(&[])),
            response_as_presented: line(aggregate.response_line_as_presented()),
        }
    }
}

impl<F> Session<F> {
    /// What the `Sync-Token` lines of a caller's request demand (rule 2).
    pub fn requirement(&self, fields: &HeaderMap) -> PresentedTokens {
        let mut lines = fields.get_all(SYNC_TOKEN).iter();
        let Some(first) = lines.next().filter(|_| self.clauses.covers_presented()) else {
            return PresentedTokens::NOTHING;
        };
        let published = self.lines.load();
        if published.response_as_presented.as_ref() == Some(first) && lines.next().is_none() {
            // The usual case: the caller returns exactly what the last answer carried.
            return PresentedTokens::Known { required_version: published.response_version };
        }
        drop(published);
        let presented = token::parse_request(fields.get_all(SYNC_TOKEN).iter().map(HeaderValue::as_bytes));
        #[cfg(any(test, feature = "internals"))]
        self.merge_callers_tokens(&presented);
        self.lock().aggregate.requirement(presented)
    }

    /// The `Sync-Token` line of every answer to a caller, if the origin has ever sent a token.
    pub fn response_line(&self) -> Option<HeaderValue> {
        self.lines.load().response.clone()
    }

    /// The line of the answer to a caller's own write: what it demands of later reads includes that write.
    pub fn response_line_after_write(&self, received: &[SyncToken]) -> Option<HeaderValue> {
        line(self.lock().aggregate.response_line(received))
    }
}

/// A field line; `None` where there is nothing to say.
pub(super) fn line(text: String) -> Option<HeaderValue> {
    if text.is_empty() { None } else { HeaderValue::from_maybe_shared(text).ok() }
}
