//! Ranges of which another member of the fleet has seen another state: they are validated at once, most often by that member's record.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::Mirror;
use super::ask::target;
use crate::profile::app_configuration::key_value::KeyValueId;

/// See the module. Each is the index of its collection and its anchor.
#[derive(Default)]
pub(super) struct ChangedRanges {
    ranges: Mutex<Vec<(usize, Option<KeyValueId>)>>,
    are_there: Notify,
}

impl ChangedRanges {
    /// Resolves when there are some.
    pub(super) async fn come(&self) {
        self.are_there.notified().await;
    }

    /// Takes them out.
    pub(super) fn take(&self) -> Vec<(usize, Option<KeyValueId>)> {
        std::mem::take(&mut *self.ranges.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Mirror {
    /// Another member of the fleet has seen another state of this canonical target.
    pub fn heed_change(&self, canonical_target: &str) {
        let found = {
            let state = self.read();
            let mut ranges = state.collections.iter().enumerate().flat_map(|(index, collection)| {
                collection.ranges.iter().map(move |range| (index, collection, range.anchor.as_ref()))
            });
            ranges
                .find(|(_, collection, anchor)| target(&state, collection, *anchor) == canonical_target)
                .map(|(index, _, anchor)| (index, anchor.cloned()))
        };
        if let Some(range) = found {
            self.changed_elsewhere.ranges.lock().unwrap_or_else(PoisonError::into_inner).push(range);
            self.changed_elsewhere.are_there.notify_one();
        }
    }
}
