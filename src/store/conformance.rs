//! The tests that every [`Store`] must pass: `conforms!(|capacity_bytes| Box::new(MyStore::new(capacity_bytes)))` in a
//! test module.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::Bytes;

use super::{Store, StoreChange, Variants};
use crate::stored_response::{CacheKey, SelectingKey, StoredPolicy, StoredResponse};
use crate::sync_token::coverage::Coverage;

/// Makes a store of a given capacity in bytes.
pub(crate) type Make = fn(u64) -> Box<dyn Store>;

/// Makes one test of every case of this suite.
macro_rules! conforms {
    ($make:expr) => {
        mod conformance_suite {
            use super::*;
            use $crate::store::conformance::{Make, cases};

            const MAKE: Make = $make;

            $crate::store::conformance::conforms! { @cases
                what_is_put_is_found_at_once,
                an_update_sees_what_is_stored_and_may_keep_it,
                an_update_can_remove,
                variants_live_side_by_side_up_to_the_limit,
                a_late_answer_does_not_replace_greater_coverage,
                concurrent_updates_of_one_key_happen_one_after_the_other,
                a_removal_is_never_lost_to_an_update_under_way,
                the_least_recently_used_go_first,
                a_new_key_is_kept_even_when_full,
                capacity_bounds_the_weight,
                what_exceeds_the_capacity_alone_is_not_kept,
                weight_counts_everything_and_returns_to_zero,
                removing_by_predicate_removes_exactly_those,
                a_reader_keeps_what_it_holds,
                every_key_is_visited_and_changes_are_counted,
            }
        }
    };
    (@cases $($case:ident,)*) => { $(#[test] fn $case() { cases::$case(MAKE); })* };
}
pub(crate) use conforms;

/// A key of the upstream `test`.
pub(crate) fn key(target: &str) -> CacheKey {
    CacheKey::new("test", "shared", target)
}

/// A response with that selecting key and body.
pub(crate) fn response(selecting: &str, body: &[u8]) -> StoredResponse {
    StoredResponse {
        body: Bytes::copy_from_slice(body),
        selecting: SelectingKey(Bytes::copy_from_slice(selecting.as_bytes())),
        policy: StoredPolicy { freshness_lifetime: Duration::from_secs(30), ..StoredPolicy::default() },
        ..StoredResponse::default()
    }
}

/// A coverage of these components.
pub(crate) fn coverage(newest_version: u64, closed_position: u64, sent_order: u64) -> Coverage {
    Coverage { newest_version, closed_position, sent_order, revelation: 0 }
}

/// The cases themselves.
pub(crate) mod cases {
    use super::*;

    const AMPLE_BYTES: u64 = 1 << 24;

    fn bodies(store: &dyn Store, target: &str) -> Vec<Vec<u8>> {
        let variants = store.variants(&key(target));
        variants
            .iter()
            .flat_map(|variants| variants.as_slice())
            .map(|response| response.body.to_vec())
            .collect()
    }

    pub(crate) fn what_is_put_is_found_at_once(make: Make) {
        let store = make(AMPLE_BYTES);
        assert!(store.variants(&key("/a")).is_none());
        assert!(store.is_empty());
        for n in 0..1_000_u32 {
            let target = format!("/{}", n % 50);
            assert!(store.put(&key(&target), response("", &n.to_le_bytes())));
            assert_eq!(bodies(&*store, &target), [n.to_le_bytes()]);
        }
        assert_eq!(store.len(), 50);
        assert!(store.remove(&key("/7")));
        assert!(!store.remove(&key("/7")));
        assert!(store.variants(&key("/7")).is_none());
        assert_eq!(store.len(), 49);
        assert_eq!(store.clear(), 49);
        assert!(store.is_empty());
        assert!(store.variants(&key("/8")).is_none());
    }

    pub(crate) fn an_update_sees_what_is_stored_and_may_keep_it(make: Make) {
        let store = make(AMPLE_BYTES);
        let mut calls = 0;
        store.update(&key("/a"), &mut |current| {
            calls += 1;
            assert!(current.is_none());
            StoreChange::Keep
        });
        assert!(store.variants(&key("/a")).is_none());
        store.put(&key("/a"), response("", b"1"));
        store.update(&key("/a"), &mut |current| {
            calls += 1;
            assert_eq!(current.expect("stored").as_slice()[0].body[..], *b"1");
            StoreChange::Keep
        });
        assert_eq!(calls, 2);
        assert_eq!(bodies(&*store, "/a"), [b"1"]);
    }

    pub(crate) fn an_update_can_remove(make: Make) {
        let store = make(AMPLE_BYTES);
        store.update(&key("/a"), &mut |_| StoreChange::Remove);
        store.put(&key("/a"), response("", b"1"));
        store.update(&key("/a"), &mut |_| StoreChange::Remove);
        assert!(store.variants(&key("/a")).is_none());
        assert_eq!(store.len(), 0);
    }

    pub(crate) fn variants_live_side_by_side_up_to_the_limit(make: Make) {
        let store = make(AMPLE_BYTES);
        for n in 0..40_u8 {
            store.put(&key("/a"), response(&n.to_string(), &[n]));
        }
        let expected: Vec<_> = (8..40_u8).rev().map(|n| vec![n]).collect();
        assert_eq!(bodies(&*store, "/a"), expected);
        assert_eq!(store.len(), 1);
    }

    pub(crate) fn a_late_answer_does_not_replace_greater_coverage(make: Make) {
        let store = make(AMPLE_BYTES);
        let covering = |covers, body: &[u8]| StoredResponse { covers, ..response("", body) };
        assert!(store.put(&key("/a"), covering(coverage(2, 1, 7), b"first")));
        assert!(!store.put(&key("/a"), covering(coverage(1, 1, 6), b"late")));
        assert_eq!(bodies(&*store, "/a"), [b"first"]);
        assert!(store.put(&key("/a"), covering(coverage(2, 1, 8), b"second")));
        assert_eq!(bodies(&*store, "/a"), [b"second"]);
    }

    pub(crate) fn concurrent_updates_of_one_key_happen_one_after_the_other(make: Make) {
        const THREADS: usize = 8;
        const UPDATES: u64 = 500;
        let store: Arc<dyn Store> = make(AMPLE_BYTES).into();
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..UPDATES {
                        store.update(&key("/count"), &mut |current| {
                            let order =
                                current.map_or(0, |variants| variants.as_slice()[0].covers.sent_order);
                            let next =
                                StoredResponse { covers: coverage(0, 0, order + 1), ..response("", b"") };
                            StoreChange::Put(Variants::of(next))
                        });
                    }
                });
            }
        });
        let variants = store.variants(&key("/count")).expect("stored");
        assert_eq!(variants.as_slice()[0].covers.sent_order, THREADS as u64 * UPDATES);
    }

    pub(crate) fn a_removal_is_never_lost_to_an_update_under_way(make: Make) {
        // The update reads what is stored and then waits until the removal has started. Whichever completes second, the
        // response that the update read must be removed.
        let store: Arc<dyn Store> = make(AMPLE_BYTES).into();
        for round in 0..200 {
            let target = format!("/{round}");
            store.put(&key(&target), response("old", b"old"));
            let seen = Barrier::new(2);
            let removed = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    seen.wait();
                    if round % 2 == 0 {
                        store.remove(&key(&target));
                    } else {
                        store.remove_where(&|candidate| *candidate == key(&target));
                    }
                    removed.store(1, Ordering::SeqCst);
                });
                store.update(&key(&target), &mut |current| {
                    seen.wait();
                    for _ in 0..100 {
                        std::thread::yield_now();
                    }
                    let old = current.expect("stored before");
                    StoreChange::Put(old.with(response("new", b"new"), 32))
                });
            });
            assert_eq!(removed.load(Ordering::SeqCst), 1);
            assert!(bodies(&*store, &target).is_empty(), "the removal came after the update had begun");
        }
    }

    pub(crate) fn the_least_recently_used_go_first(make: Make) {
        let store = make(40_000);
        for n in 0..20 {
            store.put(&key(&format!("/{n}")), response("", &[0; 1_000]));
        }
        assert_eq!(store.len(), 20, "all fit");
        for n in 0..5 {
            assert!(store.variants(&key(&format!("/{n}"))).is_some());
        }
        for n in 20..30 {
            store.put(&key(&format!("/{n}")), response("", &[0; 1_000]));
        }
        let left: Vec<_> = (0..30).filter(|n| store.variants(&key(&format!("/{n}"))).is_some()).collect();
        let gone = 30 - left.len();
        assert!((5..=15).contains(&gone), "about as many go as came, not {gone}");
        let expected: Vec<_> = (0..5).chain(5 + gone..30).collect();
        assert_eq!(left, expected);
        assert_eq!(store.evictions(), gone as u64);
    }

    pub(crate) fn a_new_key_is_kept_even_when_full(make: Make) {
        let store = make(20_000);
        for _ in 0..10 {
            for n in 0..8 {
                // Used often: a policy that counts uses would reject the new key.
                store.put(&key(&format!("/{n}")), response("", &[0; 1_000]));
                store.variants(&key(&format!("/{n}")));
            }
        }
        for n in 100..200 {
            store.put(&key(&format!("/{n}")), response("", &[0; 1_000]));
            assert!(store.variants(&key(&format!("/{n}"))).is_some(), "/{n}");
        }
    }

    pub(crate) fn capacity_bounds_the_weight(make: Make) {
        let store = make(1_000_000);
        assert_eq!(store.capacity_bytes(), 1_000_000);
        for n in 0..2_000_usize {
            store.put(&key(&format!("/{n}")), response("", &vec![0; n * 37 % 90_000]));
            assert!(store.weight_bytes() <= 1_000_000);
        }
        assert!(store.evictions() > 0);
        // Growing in place counts as well as newly stored.
        for n in 0..32 {
            store.put(&key("/growing"), response(&n.to_string(), &vec![0; 60_000]));
            assert!(store.weight_bytes() <= 1_000_000);
        }
        // One large new response evicts thousands of small ones.
        store.clear();
        for n in 0..1_500 {
            store.put(&key(&format!("/small/{n}")), response("", b""));
        }
        store.put(&key("/large"), response("", &vec![0; 990_000]));
        assert!(store.weight_bytes() <= 1_000_000);
        assert!(store.variants(&key("/large")).is_some());
    }

    pub(crate) fn what_exceeds_the_capacity_alone_is_not_kept(make: Make) {
        let store = make(100_000);
        store.put(&key("/small"), response("", &[0; 1_000]));
        store.put(&key("/huge"), response("", &vec![0; 200_000]));
        assert!(store.variants(&key("/huge")).is_none());
        assert!(store.variants(&key("/small")).is_some(), "nothing else had to go");
    }

    pub(crate) fn weight_counts_everything_and_returns_to_zero(make: Make) {
        let store = make(AMPLE_BYTES);
        assert_eq!(store.weight_bytes(), 0);
        store.put(&key("/a"), response("", &[0; 10_000]));
        let one = store.weight_bytes();
        assert!((10_000..11_500).contains(&one), "{one} bytes for a body of 10,000");
        store.put(&key("/a"), response("", &[0; 10_000]));
        assert_eq!(store.weight_bytes(), one, "replaced, not added");
        store.put(&key("/a"), response("gzip", &[0; 5_000]));
        assert!(store.weight_bytes() >= one + 5_000);
        store.put(&key(&format!("/{}", "b".repeat(2_000))), response("", b""));
        assert!(store.weight_bytes() >= one + 5_000 + 2_000, "keys count");
        store.clear();
        assert_eq!(store.weight_bytes(), 0);
        assert_eq!(store.evictions(), 0, "purged, not evicted");
    }

    pub(crate) fn removing_by_predicate_removes_exactly_those(make: Make) {
        let store = make(AMPLE_BYTES);
        for n in 0..3_000 {
            store
                .put(&key(&format!("/{}/{n}", if n % 3 == 0 { "kv" } else { "labels" })), response("", b"x"));
        }
        let is_kv = |key: &CacheKey| key.canonical_target().starts_with("/kv/");
        assert_eq!(store.remove_where(&is_kv), 1_000);
        assert_eq!(store.remove_where(&is_kv), 0);
        assert_eq!(store.len(), 2_000);
        assert!(store.variants(&key("/kv/3")).is_none());
        assert!(store.variants(&key("/labels/4")).is_some());
    }

    pub(crate) fn every_key_is_visited_and_changes_are_counted(make: Make) {
        let store = make(AMPLE_BYTES);
        let visited = |store: &dyn Store| {
            let mut visited = Vec::new();
            store.for_each(&mut |key, variants| {
                visited.push((key.canonical_target().to_owned(), variants.as_slice().len()));
            });
            visited.sort();
            visited
        };
        assert!(visited(&*store).is_empty());
        let before = store.changes();
        store.put(&key("/a"), response("", b"1"));
        store.put(&key("/a"), response("gzip", b"2"));
        store.put(&key("/b"), response("", b"3"));
        let after = store.changes();
        assert!(after > before);
        assert_eq!(visited(&*store), [("/a".to_owned(), 2), ("/b".to_owned(), 1)]);
        store.variants(&key("/a"));
        store.update(&key("/a"), &mut |_| StoreChange::Keep);
        store.remove(&key("/c"));
        assert_eq!(store.changes(), after, "neither a use nor what changes nothing is a change");
        store.remove(&key("/a"));
        assert!(store.changes() > after);
        assert_eq!(visited(&*store), [("/b".to_owned(), 1)]);
    }

    pub(crate) fn a_reader_keeps_what_it_holds(make: Make) {
        let store = make(AMPLE_BYTES);
        store.put(&key("/a"), response("", b"held"));
        let held = store.variants(&key("/a")).expect("stored");
        store.put(&key("/a"), response("", b"newer"));
        store.clear();
        assert_eq!(held.as_slice()[0].body[..], *b"held");
    }
}
