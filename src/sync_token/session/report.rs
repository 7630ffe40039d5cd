//! What an operator is told of a session. Nothing here decides anything.

use std::sync::atomic::Ordering;

use super::Session;
use crate::clock::Timestamp;
use crate::sync_token::token::SyncToken;

/// The tokens of a session, and what is open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionReport {
    /// The newest tokens, each with the time at which an answer last brought its id.
    pub newest: Vec<(SyncToken, Timestamp)>,
    /// Those that stored responses must cover.
    pub required: Vec<SyncToken>,
    /// The origin's time in the answer to which `required` last rose.
    pub required_since: Option<Timestamp>,
    /// Whether tokens tell states apart, as far as was seen.
    pub tokens_tell_states_apart: bool,
    /// Writes whose answers have not arrived.
    pub open_writes: u64,
}

impl<F> Session<F> {
    /// The tokens, and what is open.
    pub fn report(&self) -> SessionReport {
        let state = self.lock();
        SessionReport {
            newest: state.aggregate.newest_seen().map(|(token, seen_at)| (token.clone(), seen_at)).collect(),
            required: state.aggregate.required().cloned().collect(),
            required_since: state.raised_at,
            tokens_tell_states_apart: state.aggregate.moved(),
            open_writes: self.open_writes.load(Ordering::SeqCst),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::sync_token::session::SYNC_TOKEN;

    #[test]
    fn a_report_has_the_newest_token_and_when_it_was_seen() {
        let session = Session::<()>::default();
        assert_eq!(session.report(), SessionReport::default());
        let at = Timestamp::from_unix_seconds(7);
        for line in ["id=a;sn=3", "id=b;sn=4"] {
            let fields = HeaderMap::from_iter([(SYNC_TOKEN, HeaderValue::from_static(line))]);
            session.observe(session.snapshot(&[]).covers, &fields, at);
        }
        let report = session.report();
        assert_eq!((report.newest[0].0.sequence_number(), report.newest[0].1), (4, at));
        assert!(report.tokens_tell_states_apart && report.required.is_empty(), "{report:?}");
    }
}
