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

/// What they may occupy together. A list that alone is larger is not remembered.
const MAX_LISTS_BYTES: usize = 4 * 1024 * 1024;

/// The lists that were stored last, oldest first.
#[derive(Debug, Default)]
pub struct StoredLists(Mutex<VecDeque<Arc<StoredList>>>);

/// A list as it was stored last, and how to ask for it again.
#[derive(Debug)]
pub struct StoredList {
    /// The request that it was the answer to.
    pub request: Arc<PresentedRequest>,
    /// The target as it went upstream.
    pub target: PathAndQuery,
    /// The rules of its route.
    pub rules: Arc<CachingRules>,
    /// The entity tag of each item, by the item's own canonical target.
    items: HashMap<String, String>,
}

impl StoredList {
    /// About what it occupies.
    fn weight_bytes(&self) -> usize {
        // Two strings and their place in the map.
        const ITEM_BYTES: usize = 96;
        let items = self.items.iter().map(|(target, tag)| ITEM_BYTES + target.len() + tag.len());
        let fields =
            self.request.fields.iter().map(|(name, value)| ITEM_BYTES + name.as_str().len() + value.len());
        let targets = 3 * self.target.as_str().len();
        size_of::<PresentedRequest>() + targets + items.sum::<usize>() + fields.sum::<usize>()
    }

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
        let mut left_bytes = MAX_LISTS_BYTES.saturating_sub(list.weight_bytes());
        if left_bytes == 0 {
            return;
        }
        lists.push_back(Arc::new(list));
        // The latest ones that fit.
        let fits = |list: &Arc<StoredList>| {
            left_bytes = left_bytes.checked_sub(list.weight_bytes())?;
            Some(())
        };
        let kept = 1 + lists.iter().rev().skip(1).take(MAX_LISTS - 1).map_while(fits).count();
        let forgotten = lists.len() - kept;
        lists.drain(..forgotten);
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
                request: Arc::new(plan.request.to_remember()),
                target: plan.target.as_str().parse().unwrap_or_else(|_| plan.target.clone()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::request;

    fn list(number: usize, item_bytes: usize) -> StoredList {
        let mut request = request("GET", &[]);
        request.key = CacheKey::new("main", "", &format!("/kv?key={number}*"));
        StoredList {
            request: Arc::new(request),
            target: PathAndQuery::from_static("/kv"),
            rules: Arc::new(CachingRules::rfc9111()),
            items: HashMap::from([("/kv/a".to_owned(), "t".repeat(item_bytes))]),
        }
    }

    #[test]
    fn lists_are_bounded_in_number_and_bytes() {
        let lists = StoredLists::default();
        for number in 0..2 * MAX_LISTS {
            lists.remember(list(number, 10));
        }
        assert_eq!(lists.lock().len(), MAX_LISTS);
        for number in 0..10 {
            lists.remember(list(number, MAX_LISTS_BYTES / 4));
            let bytes: usize = lists.lock().iter().map(|list| list.weight_bytes()).sum();
            assert!(bytes <= MAX_LISTS_BYTES, "{bytes}");
        }
        assert_eq!(lists.lock().len(), 3);
        assert_eq!(
            lists.lock().back().map(|list| list.request.key.clone()),
            Some(list(9, 0).request.key.clone())
        );
        lists.remember(list(11, MAX_LISTS_BYTES));
        assert_eq!(lists.lock().len(), 3, "a larger one is not remembered, and pushes out no other");
    }
}
