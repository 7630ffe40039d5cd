//! Lists validate the stored responses of their items, and are asked first where that saves many validations.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::uri::PathAndQuery;

use super::Upstream;
use super::retrieval::Retrieval;
use crate::config::CachingRules;
use crate::decide::freshen_by_list::{ItemChange, freshen_by_list};
use crate::presented_request::PresentedRequest;
use crate::profile::ItemState;
use crate::store::StoreChange;
use crate::stored_response::{CacheKey, StoredResponse};

/// How many lists are remembered. Forgetting one costs validations, never a wrong answer.
const MAX_LISTS: usize = 64;

/// The lists that were stored last, oldest first.
#[derive(Debug, Default)]
pub struct StoredLists(Mutex<VecDeque<Arc<StoredList>>>);

/// A list as it was stored last, and how to ask for it again.
#[derive(Debug)]
pub struct StoredList {
    /// The request that it was the answer to.
    pub request: Arc<PresentedRequest>,
    /// The target, verbatim.
    pub target: PathAndQuery,
    /// The rules of its route.
    pub rules: Arc<CachingRules>,
    /// The entity tag of each item, by the item's own canonical target.
    items: HashMap<String, String>,
}

impl StoredList {
    /// The canonical targets of its items.
    pub fn item_targets(&self) -> impl Iterator<Item = &str> {
        self.items.keys().map(String::as_str)
    }
}

impl StoredLists {
    /// The list stored last that contains the item with this canonical target and entity tag.
    fn containing(&self, canonical_target: &str, entity_tag: &[u8]) -> Option<Arc<StoredList>> {
        let lists = self.lock();
        let holds = |list: &&Arc<StoredList>| {
            list.items.get(canonical_target).is_some_and(|tag| tag.as_bytes() == entity_tag)
        };
        lists.iter().rev().find(holds).cloned()
    }

    fn remember(&self, list: StoredList) {
        let mut lists = self.lock();
        lists.retain(|other| other.request.key != list.request.key);
        if lists.len() >= MAX_LISTS {
            lists.pop_front();
        }
        lists.push_back(Arc::new(list));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<StoredList>>> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// The list stored last that contains the item with this canonical target and entity tag.
    #[must_use]
    pub fn list_containing(&self, canonical_target: &str, entity_tag: &[u8]) -> Option<Arc<StoredList>> {
        self.state.lists.containing(canonical_target, entity_tag)
    }

    /// Does for the stored responses of these items what the list says of them. `list` is the response that shows the items, and
    /// is stored itself if `is_stored`.
    pub(super) fn validate_items(
        &self,
        plan: &Retrieval,
        items: Vec<ItemState>,
        list: &StoredResponse,
        is_stored: bool,
    ) {
        for item in &items {
            let key = plan.request.key.of_target(&item.canonical_target);
            self.validate_item(&key, &item.entity_tag, list);
        }
        if is_stored {
            self.state.lists.remember(StoredList {
                request: Arc::clone(&plan.request),
                target: plan.target.clone(),
                rules: Arc::clone(&plan.rules),
                items: items.into_iter().map(|item| (item.canonical_target, item.entity_tag)).collect(),
            });
        }
    }

    fn validate_item(&self, key: &CacheKey, tag: &str, list: &StoredResponse) {
        self.state.last_shown.heed_item(key, tag);
        if self.state.store.variants(key).is_none() {
            return;
        }
        self.state.store.update(key, &mut |current| {
            let Some(variants) = current else { return StoreChange::Keep };
            let mut left = Some(variants.clone());
            let mut changed = false;
            for stored in variants.as_slice() {
                let Some(others) = &left else { break };
                #[cfg(any(test, feature = "internals"))]
                let tag = self.mistaken_item_tag(stored, tag);
                match freshen_by_list(stored, tag, list) {
                    ItemChange::Keep => {}
                    ItemChange::Outdated => {
                        left = others.without(&stored.selecting);
                        changed = true;
                    }
                    ItemChange::Freshened(response) => {
                        if let Some(freshened) =
                            others.with_newer(*response, self.state.store.variants_limit())
                        {
                            left = Some(freshened);
                            changed = true;
                        }
                    }
                }
            }
            if changed { left.map_or(StoreChange::Remove, StoreChange::Put) } else { StoreChange::Keep }
        });
    }
}
