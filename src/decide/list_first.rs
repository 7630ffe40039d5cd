//! Whether a list is validated in the place of one of its items: one request then validates them all (see
//! [`freshen_by_list`](super::freshen_by_list)). It pays if many items need validation at about the same time.

use super::{ForwardReason, StaleReason};
use crate::sync_token::coverage::UncoveredReason;

/// The number of stale stored items from which the list is validated first. Below it items are validated singly,
/// because a list that has changed costs a body.
const ENOUGH_ITEMS: usize = 4;

/// Whether to validate the list that contains an item with its stored entity tag. `reason` is why the item itself needs
/// validation. `list_answers` says that the stored list could be reused: then its validation would bring nothing new.
/// `stale_items` counts its stored items that could not be reused.
pub const fn validates_list_first(reason: ForwardReason, list_answers: bool, stale_items: usize) -> bool {
    let concerns_all = matches!(
        reason,
        ForwardReason::Stale(
            StaleReason::Lifetime
                | StaleReason::Uncovered(UncoveredReason::Change | UncoveredReason::Snapshot)
        )
    );
    concerns_all && !list_answers && stale_items >= ENOUGH_ITEMS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::RequestReason;

    #[test]
    fn a_list_is_asked_first_where_many_items_need_validation() {
        let change = ForwardReason::Stale(StaleReason::Uncovered(UncoveredReason::Change));
        let lifetime = ForwardReason::Stale(StaleReason::Lifetime);
        assert!(validates_list_first(change, false, 4));
        assert!(validates_list_first(lifetime, false, 100));
        assert!(!validates_list_first(change, false, 3), "a few are validated singly");
        assert!(
            !validates_list_first(change, true, 100),
            "the list is known to be current, and so are its items"
        );
        for reason in [
            ForwardReason::Stale(StaleReason::Uncovered(UncoveredReason::OwnWrite)),
            ForwardReason::Stale(StaleReason::Uncovered(UncoveredReason::SyncToken)),
            ForwardReason::Stale(StaleReason::Strong),
            ForwardReason::Request(RequestReason::NoCache),
            ForwardReason::UriMiss,
        ] {
            assert!(!validates_list_first(reason, false, 100), "{reason:?} is about this request alone");
        }
    }
}
