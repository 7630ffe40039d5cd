//! All states of one resource in their order, and the view of a request that selects one of them.

use crate::clock::Timestamp;

/// Selects the state that a request sees: the state after the change `sequence_number` and, for a request with
/// `Accept-Datetime`, strictly older than `before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The last change that the request sees.
    pub sequence_number: u64,
    /// The time in `Accept-Datetime`.
    pub before: Option<Timestamp>,
}

impl View {
    /// The state after every change.
    pub const NEWEST: Self = Self { sequence_number: u64::MAX, before: None };

    fn shows<T>(self, revision: &Revision<T>) -> bool {
        revision.sequence_number <= self.sequence_number
            && self.before.is_none_or(|before| revision.at < before)
    }
}

/// One state; `None` after a deletion.
#[derive(Debug, Clone)]
pub struct Revision<T> {
    /// The number of the change that made it.
    pub sequence_number: u64,
    /// The time of that change.
    pub at: Timestamp,
    /// The state.
    pub state: Option<T>,
}

/// The states of one resource, oldest first.
#[derive(Debug, Clone)]
pub struct History<T>(Vec<Revision<T>>);

impl<T> Default for History<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> History<T> {
    /// The state that a view selects.
    pub fn at(&self, view: View) -> Option<&T> {
        // Nearly every request sees the newest state, so the search starts at the end.
        self.0.iter().rev().find(|revision| view.shows(revision))?.state.as_ref()
    }

    /// Every present or past state that a view shows, newest first, without deletions.
    pub fn revisions(&self, view: View) -> impl Iterator<Item = (u64, &T)> {
        self.0
            .iter()
            .rev()
            .filter(move |revision| view.shows(revision))
            .filter_map(|revision| revision.state.as_ref().map(|state| (revision.sequence_number, state)))
    }

    /// Adds the newest state.
    pub fn push(&mut self, revision: Revision<T>) {
        self.0.push(revision);
    }

    /// Drops states that were replaced before `horizon`. The state at the horizon stays.
    pub fn forget_before(&mut self, horizon: Timestamp) {
        let standing = self.0.iter().rposition(|revision| revision.at <= horizon).unwrap_or(0);
        self.0.drain(..standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History<&'static str> {
        let mut history = History::default();
        for (sequence_number, state) in [(2, Some("a")), (5, Some("b")), (7, None), (9, Some("c"))] {
            let at = Timestamp::from_unix_seconds(i64::try_from(sequence_number).unwrap() * 10);
            history.push(Revision { sequence_number, at, state });
        }
        history
    }

    #[test]
    fn a_view_shows_the_last_change_up_to_it() {
        for (sequence_number, expected) in [
            (1, None),
            (2, Some("a")),
            (4, Some("a")),
            (5, Some("b")),
            (7, None),
            (9, Some("c")),
            (99, Some("c")),
        ] {
            assert_eq!(
                history().at(View { sequence_number, before: None }).copied(),
                expected,
                "{sequence_number}"
            );
        }
    }

    #[test]
    fn time_travel_is_strictly_older() {
        let at = |seconds| {
            let before = Some(Timestamp::from_unix_seconds(seconds));
            history().at(View { before, ..View::NEWEST }).copied()
        };
        assert_eq!(
            [at(20), at(21), at(50), at(51), at(71), at(91)],
            [None, Some("a"), Some("a"), Some("b"), None, Some("c")]
        );
    }

    #[test]
    fn revisions_are_newest_first_without_deletions() {
        let states: Vec<_> =
            history().revisions(View::NEWEST).map(|(number, state)| (number, *state)).collect();
        assert_eq!(states, [(9, "c"), (5, "b"), (2, "a")]);
        assert_eq!(history().revisions(View { sequence_number: 5, before: None }).count(), 2);
    }

    #[test]
    fn dropping_old_states_keeps_the_state_at_the_horizon() {
        let mut short = history();
        short.forget_before(Timestamp::from_unix_seconds(60));
        assert_eq!(short.revisions(View::NEWEST).map(|(number, _)| number).collect::<Vec<_>>(), [9, 5]);
        short.forget_before(Timestamp::from_unix_seconds(1_000));
        assert_eq!(short.revisions(View::NEWEST).count(), 1);
        assert_eq!(short.at(View::NEWEST), Some(&"c"));
    }
}
