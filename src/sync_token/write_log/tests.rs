//! Rule 3 of coverage, and what asking about it costs.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

fn taken_now(log: &WriteLog<&'static str>) -> Coverage {
    Coverage { closed_position: log.closed_position(), ..Coverage::default() }
}

/// The same by the index and without it, the first time and again.
fn reason(log: &mut WriteLog<&'static str>, covers: Coverage, key: &'static str) -> Option<UncoveredReason> {
    let touches = |footprint: &&str| *footprint == key;
    let (by_key, any) = (IndexLookUp::Key(key.len() as u64), IndexLookUp::Any(key.len() as u64 + 7));
    let reason = log.outdates(covers, by_key, touches);
    assert_eq!(log.outdates(covers, any, touches), reason);
    assert_eq!(log.outdates(covers, any, touches), reason, "what was examined");
    reason
}

#[test]
fn a_write_outdates_from_its_opening_until_a_snapshot_sees_it_closed() {
    let mut log = WriteLog::default();
    let before = taken_now(&log);
    let write = log.open("k");
    let during = taken_now(&log);
    assert_eq!(reason(&mut log, before, "k"), Some(UncoveredReason::OpenWrite));
    assert_eq!(reason(&mut log, during, "k"), Some(UncoveredReason::OpenWrite));
    assert_eq!(reason(&mut log, before, "other"), None);
    log.close(write, |footprint| footprint);
    let after = taken_now(&log);
    assert_eq!(reason(&mut log, before, "k"), Some(UncoveredReason::OwnWrite));
    assert_eq!(reason(&mut log, during, "k"), Some(UncoveredReason::OwnWrite), "opened is not closed");
    assert_eq!(reason(&mut log, after, "k"), None);
}

#[test]
fn a_write_that_did_not_happen_outdates_nothing() {
    let mut log = WriteLog::default();
    let before = taken_now(&log);
    let write = log.open("k");
    log.forget(write);
    assert_eq!(reason(&mut log, before, "k"), None);
}

#[test]
fn what_the_answer_names_is_outdated_too() {
    let mut log = WriteLog::default();
    let before = taken_now(&log);
    let write = log.open("k");
    log.close(write, |_| "location");
    assert_eq!(reason(&mut log, before, "location"), Some(UncoveredReason::OwnWrite));
}

#[test]
fn what_was_sent_before_an_evicted_write_counts_as_touched() {
    let mut log = WriteLog::default();
    let before = taken_now(&log);
    for _ in 0..MAX_CLOSED {
        let write = log.open("k");
        log.close(write, |footprint| footprint);
    }
    assert_eq!(reason(&mut log, before, "other"), None, "nothing evicted yet");
    let first_closed = Coverage { closed_position: 1, ..before };
    let write = log.open("k");
    log.close(write, |footprint| footprint);
    assert_eq!(reason(&mut log, before, "other"), Some(UncoveredReason::OwnWrite));
    assert_eq!(reason(&mut log, first_closed, "other"), None);
}

#[test]
fn what_closed_beside_an_own_write_counts_if_it_touches_the_same() {
    let mut log = WriteLog::default();
    let (own, earlier) = (log.open("k"), log.open("k"));
    log.close(earlier, |footprint| footprint);
    let snapshot = taken_now(&log);
    let other = |log: &WriteLog<&'static str>, key| {
        log.another_closed_since(own, snapshot, |footprint| *footprint == key)
    };
    let unrelated = log.open("other");
    log.close(unrelated, |footprint| footprint);
    log.close(own, |footprint| footprint);
    assert!(!other(&log, "k"), "its own close and what was closed before do not count");
    assert!(other(&log, "other"));
    let late = log.open("k");
    assert!(!other(&log, "k"));
    log.close(late, |footprint| footprint);
    assert!(other(&log, "k"));
    for _ in 0..MAX_CLOSED {
        let write = log.open("x");
        log.close(write, |footprint| footprint);
    }
    assert!(other(&log, "forgotten"));
}

#[test]
fn an_open_write_is_never_evicted() {
    let mut log = WriteLog::default();
    let slow = log.open("slow");
    for _ in 0..2 * MAX_CLOSED {
        let write = log.open("k");
        log.close(write, |footprint| footprint);
    }
    let now = taken_now(&log);
    assert_eq!(reason(&mut log, now, "slow"), Some(UncoveredReason::OpenWrite));
    assert!(log.another_is_open(None, |footprint| *footprint == "slow"));
    assert!(!log.another_is_open(Some(slow), |footprint| *footprint == "slow"));
}

/// How many footprints are looked at to answer.
fn looked_at(log: &mut WriteLog<u64>, covers: Coverage, look_up: IndexLookUp, touched: u64) -> usize {
    let count = Cell::new(0);
    let reason = log.outdates(covers, look_up, |footprint| {
        count.set(count.get() + 1);
        *footprint == touched
    });
    assert_eq!(reason, None);
    count.get()
}

/// A write to the resource of this number; zero may be anything.
impl Indexed for u64 {
    fn index_keys(&self) -> Option<Vec<u64>> {
        (*self > 0).then(|| vec![*self % 5 + 1])
    }

    fn heap_bytes(&self) -> usize {
        usize::try_from(*self).expect("small")
    }
}

#[test]
fn many_writes_of_others_cost_a_hit_nothing() {
    for closes in [false, true] {
        let mut log = WriteLog::default();
        let covers = Coverage::default();
        for _ in 0..1_000 {
            let write = log.open(1_u64);
            if closes {
                log.close(write, |footprint| footprint);
            }
        }
        assert_eq!(looked_at(&mut log, covers, IndexLookUp::Key(1), 5), 0, "by key");
        assert_eq!(looked_at(&mut log, covers, IndexLookUp::Any(77), 5), 1_000, "each once");
        assert_eq!(looked_at(&mut log, covers, IndexLookUp::Any(77), 5), 0, "and not again");
        let write = log.open(1);
        assert_eq!(looked_at(&mut log, covers, IndexLookUp::Any(77), 5), 1, "the new one");
        log.close(write, |footprint| footprint);
        assert_eq!(looked_at(&mut log, covers, IndexLookUp::Any(77), 5), 1, "it may have become wider");
        assert_eq!(looked_at(&mut log, covers, IndexLookUp::Any(77), 5), 0);
    }
}

#[test]
fn closed_writes_are_bounded_in_bytes() {
    let mut log = WriteLog::default();
    let one = (MAX_CLOSED_BYTES / 4) as u64;
    for _ in 0..6 {
        let write = log.open(one);
        log.close(write, |footprint| footprint);
    }
    assert_eq!((log.closed.len(), log.closed_bytes), (4, MAX_CLOSED_BYTES));
    assert_eq!(log.closed_by_key.len(), 4);
    let forgotten = Coverage { closed_position: 1, ..Coverage::default() };
    assert_eq!(log.outdates(forgotten, IndexLookUp::Key(9), |_| false), Some(UncoveredReason::OwnWrite));
}

proptest! {
    /// Whatever happened before, the index and what was examined lead to the same answer as a look at every write.
    #[test]
    fn the_index_agrees_with_a_look_at_every_write(
        steps in prop::collection::vec((0..5_u8, 0..12_u64, 0..40_usize), 1..200)
    ) {
        let mut log = WriteLog::default();
        let mut open: Vec<WriteId> = Vec::new();
        let mut snapshots = vec![Coverage::default()];
        // What a resource is touched by: the writes of one number and of zero, or, for a list, of all numbers divisible by three.
        let by_key = |resource: u64| move |footprint: &u64| *footprint == resource || *footprint == 0;
        let by_any = |footprint: &u64| footprint.is_multiple_of(3);
        for (step, number, which) in steps {
            match step {
                0 => open.push(log.open(number)),
                1 if !open.is_empty() => {
                    let id = open.swap_remove(which % open.len());
                    log.close(id, |footprint| if which % 4 == 0 { number } else { footprint });
                }
                2 if !open.is_empty() => log.forget(open.swap_remove(which % open.len())),
                3 => snapshots.push(Coverage { closed_position: log.closed_position(), ..Coverage::default() }),
                _ => {}
            }
            let covers = snapshots[which % snapshots.len()];
            let naive = |log: &WriteLog<u64>, touches: &dyn Fn(&u64) -> bool| {
                if log.open.values().any(touches) {
                    return Some(UncoveredReason::OpenWrite);
                }
                let mut later = log.closed.iter().filter(|write| write.position > covers.closed_position);
                later.any(|write| touches(&write.footprint)).then_some(UncoveredReason::OwnWrite)
            };
            let resource = number + 1;
            let expected = naive(&log, &by_key(resource));
            let found = log.outdates(covers, IndexLookUp::Key(resource % 5 + 1), by_key(resource));
            prop_assert_eq!(found, expected);
            let expected = naive(&log, &by_any);
            prop_assert_eq!(log.outdates(covers, IndexLookUp::Any(3), by_any), expected);
        }
    }
}
