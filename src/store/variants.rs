//! The stored responses of one cache key, told apart by their selecting keys.

use std::sync::Arc;

use bytes::Bytes;

use crate::body::budget::StoredShare;
use crate::decide::newer::replaces;
use crate::stored_response::{SelectingKey, StoredFields, StoredResponse};

/// The variants stored under one cache key, most recent first; never empty. Immutable and cheap to clone: a
/// change makes a new one that shares the responses.
#[derive(Clone, Debug)]
pub struct Variants(Few);

/// Most targets have one variant: that case needs no allocation beside that of the response.
#[derive(Clone, Debug)]
enum Few {
    One(Arc<StoredResponse>),
    Many(Arc<[Arc<StoredResponse>]>),
}

impl Variants {
    /// One variant alone.
    pub fn of(response: StoredResponse) -> Self {
        Self(Few::One(Arc::new(compact(response, &[]))))
    }

    /// All variants, most recent first.
    pub fn as_slice(&self) -> &[Arc<StoredResponse>] {
        match &self.0 {
            Few::One(response) => std::slice::from_ref(response),
            Few::Many(responses) => responses,
        }
    }

    /// The variant with this selecting key.
    pub fn selected_by(&self, selecting: &SelectingKey) -> Option<&Arc<StoredResponse>> {
        self.as_slice().iter().find(|response| response.selecting == *selecting)
    }

    /// These variants with `response` in front, in place of the one with an equal selecting key; of more than `limit`
    /// variants the oldest go.
    pub fn with(&self, response: StoredResponse, limit: usize) -> Self {
        let others =
            self.as_slice().iter().filter(|stored| stored.selecting != response.selecting).map(Arc::clone);
        let others: Vec<_> = others.take(limit.saturating_sub(1)).collect();
        let response = Arc::new(compact(response, self.as_slice()));
        if others.is_empty() {
            Self(Few::One(response))
        } else {
            Self(Few::Many(std::iter::once(response).chain(others).collect()))
        }
    }

    /// The same, unless the one with an equal selecting key is the newer.
    pub fn with_newer(&self, response: StoredResponse, limit: usize) -> Option<Self> {
        let stored = self.selected_by(&response.selecting);
        stored
            .is_none_or(|stored| replaces(stored.covers, response.covers))
            .then(|| self.with(response, limit))
    }

    /// These variants without the one with this selecting key; `None` if no other is left.
    pub fn without(&self, selecting: &SelectingKey) -> Option<Self> {
        let mut others =
            self.as_slice().iter().filter(|stored| stored.selecting != *selecting).map(Arc::clone);
        let first = others.next()?;
        let rest: Vec<_> = others.collect();
        Some(if rest.is_empty() {
            Self(Few::One(first))
        } else {
            Self(Few::Many(std::iter::once(first).chain(rest).collect()))
        })
    }

    /// The bytes that these variants occupy: every allocation, rounded as the allocator does. A body that two variants
    /// share counts twice.
    pub fn occupied_bytes(&self) -> u64 {
        let list = match &self.0 {
            Few::One(_) => 0,
            Few::Many(responses) => allocation_bytes(ARC_COUNTS_BYTES + size_of_val::<[_]>(responses)),
        };
        let responses: u64 = self.as_slice().iter().map(|response| response_bytes(response)).sum();
        list + responses
    }
}

/// The size of the two counts in front of the value of an `Arc`.
const ARC_COUNTS_BYTES: usize = 2 * size_of::<usize>();

/// The size of the count that the clones of a `Bytes` share, allocated by the first clone.
const SHARED_BYTES_COUNT_BYTES: usize = 24;

fn response_bytes(response: &StoredResponse) -> u64 {
    let (head, body) = (response.fields.len_bytes(), response.body.len());
    let head_and_body =
        if is_small(response) { shared_bytes(head + body) } else { shared_bytes(head) + shared_bytes(body) };
    allocation_bytes(ARC_COUNTS_BYTES + size_of::<StoredResponse>())
        + head_and_body
        + shared_bytes(response.selecting.0.len())
}

/// The bytes that a `Bytes` of this length occupies on the heap.
fn shared_bytes(length_bytes: usize) -> u64 {
    if length_bytes == 0 {
        return 0;
    }
    allocation_bytes(length_bytes) + allocation_bytes(SHARED_BYTES_COUNT_BYTES)
}

/// The bytes that the allocator takes: one word more, rounded up to sixteen bytes, at least 32 (glibc; others are
/// similar).
pub(super) fn allocation_bytes(size_bytes: usize) -> u64 {
    (size_bytes as u64 + 8).next_multiple_of(16).max(32)
}

/// Up to this size head and body share one allocation: copying the body costs less than a second allocation.
const SMALL_BODY_BYTES: usize = 16 * 1024;

fn is_small(response: &StoredResponse) -> bool {
    response.body.len() <= SMALL_BODY_BYTES
}

/// The response in memory of exactly its own size. A received body is a slice that keeps the whole read buffer alive:
/// many times larger than the body, and invisible to the weigher. So it is copied. A large body is not copied if it was read into
/// memory of its own, or if a stored variant already shares it, as after freshening.
fn compact(mut response: StoredResponse, stored: &[Arc<StoredResponse>]) -> StoredResponse {
    if is_small(&response) {
        let head = response.fields.as_packed();
        let mut both = Vec::with_capacity(head.len() + response.body.len());
        both.extend_from_slice(head);
        both.extend_from_slice(&response.body);
        let both = Bytes::from(both);
        response.fields = StoredFields::from_packed(both.slice(..head.len()));
        response.body = both.slice(response.fields.len_bytes()..);
        response.share = StoredShare::default();
        return response;
    }
    if response.share.enter_store(response.body.len() as u64) {
        return response;
    }
    let same = |other: &Bytes| other.as_ptr() == response.body.as_ptr() && other.len() == response.body.len();
    if !stored.iter().any(|variant| same(&variant.body)) {
        response.body = Bytes::copy_from_slice(&response.body);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{coverage, response};
    use super::*;

    fn bodies(variants: &Variants) -> Vec<&[u8]> {
        variants.as_slice().iter().map(|response| &response.body[..]).collect()
    }

    #[test]
    fn a_new_variant_stands_in_front_of_the_others() {
        let variants = Variants::of(response("en", b"hello"));
        let variants = variants.with(response("de", b"hallo"), 32);
        assert_eq!(bodies(&variants), [b"hallo", b"hello"]);
        let variants = variants.with(response("en", b"howdy"), 32);
        assert_eq!(bodies(&variants), [b"howdy", b"hallo"]);
    }

    #[test]
    fn the_oldest_variants_go_at_the_limit() {
        let mut variants = Variants::of(response("0", b"0"));
        for n in 1..40_u8 {
            variants = variants.with(response(&n.to_string(), &[n]), 32);
        }
        assert_eq!(variants.as_slice().len(), 32);
        assert_eq!(variants.as_slice()[0].body[..], [39]);
        assert_eq!(variants.as_slice()[31].body[..], [8]);
        let alone = variants.with(response("x", b"x"), 1);
        assert_eq!(bodies(&alone), [b"x"]);
    }

    #[test]
    fn only_a_newer_response_takes_the_place_of_its_own_variant() {
        let with_coverage = |covers, body: &[u8]| StoredResponse { covers, ..response("", body) };
        let stored = Variants::of(with_coverage(coverage(3, 5, 9), b"stored"));
        assert!(stored.with_newer(with_coverage(coverage(2, 5, 8), b"late"), 32).is_none());
        let later = stored.with_newer(with_coverage(coverage(3, 5, 10), b"later"), 32).expect("newer");
        assert_eq!(bodies(&later), [b"later"]);
        let other = StoredResponse { covers: coverage(1, 1, 1), ..response("other", b"other") };
        let both = stored.with_newer(other, 32).expect("another variant is not in its way");
        assert_eq!(both.as_slice().len(), 2);
    }

    #[test]
    fn without_leaves_the_others_or_nothing() {
        let one = Variants::of(response("en", b"hello"));
        assert!(one.without(&response("en", b"").selecting).is_none());
        let two = one.with(response("de", b"hallo"), 32);
        let left = two.without(&response("de", b"").selecting).expect("one left");
        assert_eq!(bodies(&left), [b"hello"]);
        assert_eq!(
            bodies(&two.without(&response("fr", b"").selecting).expect("both left")),
            [b"hallo", b"hello"]
        );
    }

    #[test]
    fn a_body_from_a_network_buffer_is_copied_and_a_large_stored_one_is_shared() {
        let network_buffer = Bytes::from(vec![b'x'; 1 << 20]);
        let elsewhere = |body: &Bytes| !network_buffer.as_ptr_range().contains(&body.as_ptr());
        for length in [10, 100_000] {
            let sliced = StoredResponse { body: network_buffer.slice(10..10 + length), ..response("", b"") };
            let variants = Variants::of(sliced);
            let held = &variants.as_slice()[0].body;
            assert!(held.iter().all(|byte| *byte == b'x') && held.len() == length);
            assert!(elsewhere(held));

            let freshened = StoredResponse { covers: coverage(1, 1, 1), ..(*variants.as_slice()[0]).clone() };
            let again = variants.with(freshened, 32);
            let shared = again.as_slice()[0].body.as_ptr() == held.as_ptr();
            assert_eq!(shared, length > SMALL_BODY_BYTES, "{length}");
        }
    }

    #[test]
    fn head_and_body_of_a_small_response_lie_side_by_side() {
        let mut fields = http::HeaderMap::new();
        fields.insert("etag", http::HeaderValue::from_static("\"1\""));
        let stored = StoredResponse { fields: StoredFields::pack(&fields), ..response("", b"body") };
        let variants = Variants::of(stored);
        let held = &variants.as_slice()[0];
        assert_eq!(held.fields.to_header_map(), fields);
        assert_eq!(held.body[..], *b"body");
        assert_eq!(held.fields.as_packed().as_ptr_range().end, held.body.as_ptr());
    }

    #[test]
    fn weight_grows_with_everything_that_is_held() {
        let small = Variants::of(response("", b"")).occupied_bytes();
        assert!(Variants::of(response("", &[0; 1_000])).occupied_bytes() >= small + 1_000);
        assert!(Variants::of(response("a", b"")).occupied_bytes() > small);
        let two = Variants::of(response("a", b"1")).with(response("b", b"2"), 32);
        assert!(two.occupied_bytes() > 2 * small - 100);
    }
}
