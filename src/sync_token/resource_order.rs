//! The order of sending, resource by resource: for an API whose resources are not known to belong together, where tokens do not
//! tell its states apart. A change of one resource then outdates what was sent for it before the change was shown, and nothing
//! else.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::coverage::Coverage;

/// How far an answer that shows a change reaches where tokens do not tell states apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderScope {
    /// The resources of this upstream belong together: it outdates all of them.
    Upstream,
    /// It outdates the one resource that has this hash.
    Resource(u64),
}

/// A mebibyte, from the first change on.
const PLACES: usize = 65_536;

/// The last change of each resource, in the place that its hash names. Two resources in one place outdate each other, which costs
/// a validation.
#[derive(Debug, Default)]
pub(super) struct ResourceOrders {
    places: OnceLock<Box<[Place]>>,
}

#[derive(Debug, Default)]
struct Place {
    /// Everything sent at or before this position lacks the change.
    required_order: AtomicU64,
    /// The number of the answer that showed it.
    revelation: AtomicU64,
}

impl ResourceOrders {
    /// Whether what has this coverage was sent after the last change of the resource had been shown, or showed it.
    pub(super) fn covers(&self, resource: u64, covers: Coverage) -> bool {
        let Some(place) = self.places.get().and_then(|places| places.get(index(resource))) else {
            // Nothing has changed: whatever this process asked for is covered.
            return covers.sent_order > 0;
        };
        covers.sent_order > place.required_order.load(Ordering::SeqCst)
            || (covers.revelation != 0 && covers.revelation == place.revelation.load(Ordering::SeqCst))
    }

    /// Up to which place in the order of sending everything lacks the last change of the resource.
    pub(super) fn required_order(&self, resource: u64) -> u64 {
        let place = self.places.get().and_then(|places| places.get(index(resource)));
        place.map_or(0, |place| place.required_order.load(Ordering::SeqCst))
    }

    /// Whether what was sent at this position was sent after the last change of the resource had been shown.
    pub(super) fn was_sent_after(&self, resource: u64, sent_order: u64) -> bool {
        self.covers(resource, Coverage { sent_order, ..Coverage::default() })
    }

    /// Records a change of the resource, when everything up to `sent_order` had been sent. To be called under the lock of the
    /// session.
    pub(super) fn reveal(&self, resource: u64, sent_order: u64, revelation: u64) {
        let places =
            self.places.get_or_init(|| std::iter::repeat_with(Place::default).take(PLACES).collect());
        if let Some(place) = places.get(index(resource)) {
            place.required_order.fetch_max(sent_order, Ordering::SeqCst);
            place.revelation.store(revelation, Ordering::SeqCst);
        }
    }
}

fn index(resource: u64) -> usize {
    usize::try_from(resource % PLACES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sent_order: u64, revelation: u64) -> Coverage {
        Coverage { sent_order, revelation, ..Coverage::default() }
    }

    #[test]
    fn a_change_outdates_what_was_sent_before_it_was_shown_for_the_same_resource() {
        let orders = ResourceOrders::default();
        assert!(orders.covers(1, sent(1, 0)), "nothing has changed");
        orders.reveal(1, 5, 7);
        assert!(!orders.covers(1, sent(5, 0)));
        assert!(orders.covers(1, sent(3, 7)), "it showed the change itself");
        assert!(orders.covers(1, sent(6, 0)));
        assert!(!orders.was_sent_after(1, 5) && orders.was_sent_after(1, 6));
        assert!(orders.covers(2, sent(3, 0)), "another resource");
        assert!(!orders.covers(1 + PLACES as u64, sent(3, 0)), "one in the same place");
        orders.reveal(1, 9, 8);
        assert!(!orders.covers(1, sent(3, 7)), "no longer the last change");
    }
}
