//! What a snapshot keeps of a mirror.

use std::sync::atomic::Ordering;

use super::Mirror;
use super::collection::{Collection, CollectionShape, Range};
use super::give_up::GiveUpReason;
use crate::profile::app_configuration::api_version::ApiVersion;

impl Mirror {
    /// The collections and the api-version that they were loaded with, if all are loaded.
    #[must_use]
    pub fn loaded_collections(&self) -> Option<(ApiVersion, Vec<Collection>)> {
        let state = self.read();
        let is_loaded = !state.collections.is_empty() && state.collections.iter().all(|it| it.is_loaded);
        is_loaded.then(|| (state.version, state.collections.clone()))
    }

    /// Takes a collection from a snapshot, if it is one of its own, and returns how many items it has. To be called before
    /// [`Mirror::run`], which then validates its ranges in place of loading them.
    pub fn restore(
        &self,
        (query, version): (&str, &str),
        shape: CollectionShape,
        ranges: Vec<Range>,
        is_one_state: bool,
    ) -> usize {
        let position = self.selectors.iter().position(|selector| &*selector.query == query);
        let Some((index, version)) = position.zip(ApiVersion::from_values([version]).ok()) else { return 0 };
        let clauses = self.upstream().session().clauses();
        let mut state = self.write();
        if state.collections.is_empty() {
            state.collections = self.unloaded_collections();
        }
        let Some(collection) = state.collections.get_mut(index) else { return 0 };
        let selector = collection.selector.clone();
        *collection = Collection::restored(selector, clauses, shape, ranges, is_one_state);
        let items = collection.items();
        state.version = version;
        if self.weigh(&state).is_err() {
            // It has outgrown its bounds: the load finds that again.
            state.collections.clear();
            return 0;
        }
        items
    }

    /// Gives up if anything that is held was restored and not validated since.
    pub fn give_up_restored(&self, reason: GiveUpReason) {
        let has_restored = {
            let state = self.read();
            let mut ranges = state.collections.iter().flat_map(|collection| &collection.ranges);
            ranges.any(|range| range.covers.is_nothing())
        };
        if has_restored {
            self.give_up(reason);
        }
    }

    /// How many answers about ranges were taken in so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// The most bytes that its items may occupy.
    #[must_use]
    pub fn bytes_limit(&self) -> u64 {
        self.setup().bounds.bytes as u64
    }
}
