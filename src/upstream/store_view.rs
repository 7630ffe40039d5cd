//! What the store holds for one upstream: looked up by request, put, and taken out.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;

use super::Upstream;
use crate::headers::vary;
use crate::presented_request::PresentedRequest;
use crate::store::{StoreChange, Variants};
use crate::stored_response::{CacheKey, StoredResponse};

impl Upstream {
    /// All that is stored for a key.
    #[must_use]
    pub fn variants(&self, key: &CacheKey) -> Option<Variants> {
        self.state.store.variants(key)
    }

    /// The stored response for a request: of the variants that its selecting header fields select, the most recent.
    #[must_use]
    pub fn stored(&self, request: &PresentedRequest) -> Option<Arc<StoredResponse>> {
        self.stored_for(&request.key, &request.fields)
    }

    /// The same for a key and the fields of a request.
    #[must_use]
    pub fn stored_for(&self, key: &CacheKey, request_fields: &HeaderMap) -> Option<Arc<StoredResponse>> {
        select(&self.variants(key)?, request_fields).cloned()
    }

    /// Which requests share a fetch: those for the same variant, as far as the stored ones tell which fields select. No request
    /// waits for an answer that was made for others.
    #[must_use]
    pub fn collapse_key(&self, request: &PresentedRequest) -> CacheKey {
        collapse_key_among(request, self.state.store.variants(&request.key).as_ref())
    }

    /// All that is stored for the keys of this upstream that `is_wanted` accepts. It counts as no use.
    #[must_use]
    pub fn peek(&self, is_wanted: impl Fn(&CacheKey) -> bool) -> HashMap<CacheKey, Variants> {
        let mut found = HashMap::new();
        self.state.store.for_each(&mut |key, variants| {
            if is_wanted(key) {
                found.insert(key.clone(), variants.clone());
            }
        });
        found
    }

    /// Stores a response unless what is there is newer; says whether it did.
    pub fn put(&self, key: &CacheKey, mut response: StoredResponse) -> bool {
        if response.covers.is_immutable() && self.state.session.is_of_an_earlier_epoch(response.covers) {
            // It was under way at a reset: whatever is there is newer.
            response.covers.newest_version = 0;
        }
        self.state.store.put(key, response)
    }

    /// Takes one stored response out, if it is still the one that is there.
    pub fn outdate(&self, key: &CacheKey, outdated: &StoredResponse) {
        self.state.store.update(key, &mut |current| {
            let Some(variants) = current else { return StoreChange::Keep };
            match variants.selected_by(&outdated.selecting) {
                Some(held) if held.covers == outdated.covers => {
                    variants.without(&outdated.selecting).map_or(StoreChange::Remove, StoreChange::Put)
                }
                _ => StoreChange::Keep,
            }
        });
    }
}

/// [`Upstream::collapse_key`] by what is stored for the request.
#[must_use]
pub fn collapse_key_among(request: &PresentedRequest, variants: Option<&Variants>) -> CacheKey {
    variants
        .and_then(|variants| variants.as_slice().first())
        .and_then(|newest| vary::same_fields(&newest.selecting, &request.fields))
        .map_or_else(|| request.key.clone(), |selecting| request.key.of_variant(&selecting))
}

/// Of the variants that a request selects, the most recent.
#[must_use]
pub fn select<'a>(variants: &'a Variants, request_fields: &HeaderMap) -> Option<&'a Arc<StoredResponse>> {
    variants.as_slice().iter().find(|response| vary::selects(&response.selecting, request_fields))
}
