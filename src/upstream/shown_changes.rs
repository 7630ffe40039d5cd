//! Which answers showed a change last: for the operator who asks why a stored response does not count. No decision reads it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;

use crate::clock::Timestamp;
use crate::sync_token::coverage::Coverage;
use crate::sync_token::resource_order::OrderScope;

/// How many are remembered.
const MOST_CHANGES: usize = 64;

/// How much of a target is remembered.
const MOST_TARGET_CHARACTERS: usize = 512;

/// An answer that showed a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownChange {
    /// The canonical target of its request; cut if it is long.
    pub target: String,
    /// The status of the state that it showed.
    pub status: StatusCode,
    /// When it was taken in.
    pub at: Timestamp,
    /// The place of its request in the order of sending.
    pub sent_order: u64,
    /// How many requests had been sent when it was taken in.
    pub arrived: u64,
    /// What it outdates where tokens do not tell states apart.
    pub scope: OrderScope,
}

/// The answers that showed a change last, the oldest first.
#[derive(Debug, Default)]
pub(super) struct ShownChanges(Mutex<VecDeque<ShownChange>>);

impl ShownChange {
    /// Whether it was taken in after a response with this coverage had been asked for, by another request.
    #[must_use]
    pub const fn is_news_to(&self, covers: Coverage) -> bool {
        self.arrived >= covers.sent_order && self.sent_order != covers.sent_order
    }
}

impl ShownChanges {
    pub(super) fn note(&self, change: ShownChange) {
        let target = change.target.chars().take(MOST_TARGET_CHARACTERS).collect();
        let mut changes = self.lock();
        if changes.len() >= MOST_CHANGES {
            changes.pop_front();
        }
        changes.push_back(ShownChange { target, ..change });
    }

    /// The last one that bears upon resources of this scope, as far as it is remembered.
    pub(super) fn last(&self, scope: OrderScope) -> Option<ShownChange> {
        self.lock().iter().rev().find(|change| change.scope == scope).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<ShownChange>> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(target: &str, scope: OrderScope) -> ShownChange {
        let (status, at) = (StatusCode::OK, Timestamp::default());
        ShownChange { target: target.to_owned(), status, at, sent_order: 1, arrived: 1, scope }
    }

    #[test]
    fn a_change_is_no_news_to_what_showed_it_or_was_asked_for_later() {
        let change = ShownChange { sent_order: 4, arrived: 6, ..change("/a", OrderScope::Upstream) };
        let sent = |sent_order| Coverage { sent_order, ..Coverage::default() };
        let news: Vec<u64> = (1..9).filter(|order| change.is_news_to(sent(*order))).collect();
        assert_eq!(news, [1, 2, 3, 5, 6]);
    }

    #[test]
    fn the_last_change_of_a_scope_is_found_and_memory_is_bounded() {
        let changes = ShownChanges::default();
        changes.note(change("/a", OrderScope::Resource(1)));
        changes.note(change("/b", OrderScope::Resource(2)));
        changes.note(change("/a2", OrderScope::Resource(1)));
        let last = |scope| changes.last(scope).map(|change| change.target);
        assert_eq!(last(OrderScope::Resource(1)).as_deref(), Some("/a2"));
        assert_eq!(last(OrderScope::Resource(2)).as_deref(), Some("/b"));
        assert_eq!(last(OrderScope::Upstream), None);
        (0..2 * MOST_CHANGES).for_each(|_| changes.note(change(&"x".repeat(10_000), OrderScope::Upstream)));
        assert_eq!(changes.lock().len(), MOST_CHANGES);
        assert_eq!(last(OrderScope::Resource(1)), None);
        assert_eq!(last(OrderScope::Upstream).map(|target| target.len()), Some(MOST_TARGET_CHARACTERS));
    }
}
