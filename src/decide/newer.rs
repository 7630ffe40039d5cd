//! Which of two responses is the newer, and so stays stored: the order of arrival says nothing, because an answer can be late.
//!
//! ```text
//! stored is immutable, arrived is not   → arrived: only a write makes the content of a snapshot be asked for again
//! coverage of stored > that of arrived  → stored
//! else                                  → arrived: on a tie the one sent later, which the order of sending in a coverage tells
//! ```
//!
//! Of two coverages of one upstream the later is at least as great in every component. So the derived order of [`Coverage`]
//! (component by component, the order of sending last) agrees with the componentwise one.

use crate::sync_token::coverage::Coverage;

/// Whether a response that arrived with one coverage takes the place of the stored one with the same selecting key.
pub fn replaces(stored: Coverage, arrived: Coverage) -> bool {
    (stored.is_immutable() && !arrived.is_immutable()) || stored <= arrived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_late_replaces_nothing_that_covers_more() {
        let coverage = |newest_version, closed_position, sent_order| Coverage {
            newest_version,
            closed_position,
            sent_order,
            ..Coverage::default()
        };
        let stored = coverage(2, 2, 5);
        for late in [coverage(1, 2, 4), coverage(2, 1, 4), coverage(2, 2, 4), coverage(0, 0, 0)] {
            assert!(!replaces(stored, late), "{late:?}");
        }
        for later in [coverage(2, 2, 5), coverage(2, 2, 6), coverage(2, 3, 6), coverage(3, 2, 6)] {
            assert!(replaces(stored, later), "{later:?}");
        }
    }

    #[test]
    fn what_may_change_again_replaces_what_was_immutable() {
        let (plain, immutable) = (Coverage::default(), Coverage::default().immutable());
        assert!(replaces(immutable, plain) && replaces(plain, immutable) && replaces(immutable, immutable));
    }
}
