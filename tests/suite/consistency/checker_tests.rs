//! The checker is checked: histories whose verdict is known, histories of a real atomic register, and broken ones against a
//! search that tries every order.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;

use super::checker::{Verdict, check};
use super::history::{Event, Moment, Operation, Outcome, Value};
use super::shrink::shrink;

fn moment(order: u64) -> Moment {
    Moment { order, at: Duration::from_millis(order) }
}

fn event(span: (u64, u64), operation: Operation, outcome: Outcome) -> Event {
    let responded = (outcome != Outcome::Unknown).then(|| moment(span.1));
    Event { caller: 0, operation, outcome, invoked: moment(span.0), responded }
}

fn put(from: u64, to: u64, value: Value) -> Event {
    event((from, to), Operation::Put(value), Outcome::Done)
}

fn unknown_put(from: u64, value: Value) -> Event {
    event((from, 0), Operation::Put(value), Outcome::Unknown)
}

fn read(from: u64, to: u64, value: Value) -> Event {
    event((from, to), Operation::Read, Outcome::Shown(Some(value)))
}

fn absent(from: u64, to: u64) -> Event {
    event((from, to), Operation::Read, Outcome::Shown(None))
}

fn delete(from: u64, to: u64, removed: Option<Value>) -> Event {
    event((from, to), Operation::Delete, Outcome::Shown(removed))
}

fn put_if(from: u64, to: u64, expected: Value, value: Value, outcome: Outcome) -> Event {
    event((from, to), Operation::PutIf { expected, value }, outcome)
}

#[test]
fn histories_of_a_register_are_accepted() {
    let good: [(&str, Vec<Event>); 12] = [
        ("nothing", vec![]),
        ("absent at first", vec![absent(1, 2)]),
        ("one after the other", vec![put(1, 2, 1), read(3, 4, 1), put(5, 6, 2), read(7, 8, 2)]),
        (
            "a reading beside a put may show either",
            vec![put(1, 2, 1), put(3, 9, 2), read(4, 5, 1), read(6, 7, 2)],
        ),
        ("a put may be read before it is answered", vec![put(1, 9, 1), read(2, 3, 1)]),
        ("puts that overlap take effect in any order", vec![put(1, 5, 1), put(2, 6, 2), read(7, 8, 1)]),
        ("an unknown put late", vec![put(1, 2, 1), unknown_put(3, 2), read(4, 5, 1), read(6, 7, 2)]),
        ("an unknown put never", vec![put(1, 2, 1), unknown_put(3, 2), read(4, 5, 1), read(6, 7, 1)]),
        ("a deletion", vec![put(1, 2, 1), delete(3, 4, Some(1)), absent(5, 6), delete(7, 8, None)]),
        ("a condition that held", vec![put(1, 2, 1), put_if(3, 4, 1, 2, Outcome::Done), read(5, 6, 2)]),
        (
            "of two conditions one held",
            vec![
                put(1, 2, 1),
                put_if(3, 6, 1, 2, Outcome::Refused),
                put_if(4, 7, 1, 3, Outcome::Done),
                read(8, 9, 3),
            ],
        ),
        (
            "an unknown put explains a refusal",
            vec![put(1, 2, 1), unknown_put(3, 2), put_if(4, 5, 1, 3, Outcome::Refused), read(6, 7, 2)],
        ),
    ];
    for (name, events) in good {
        assert_eq!(check(&events), Verdict::Linearizable, "{name}");
        assert!(brute_force(&events), "{name}, by brute force");
    }
}

#[test]
fn histories_that_no_register_explains_are_rejected() {
    let bad: [(&str, Vec<Event>); 11] = [
        ("a value without a put", vec![read(1, 2, 7)]),
        ("a stale reading", vec![put(1, 2, 1), put(3, 4, 2), read(5, 6, 1)]),
        ("backwards", vec![put(1, 2, 1), put(3, 20, 2), read(4, 5, 2), read(6, 7, 1)]),
        (
            "backwards between two that overlap no write",
            vec![put(1, 2, 1), unknown_put(3, 2), read(4, 5, 2), read(6, 7, 1)],
        ),
        ("read before it was put", vec![read(1, 2, 1), put(3, 4, 1)]),
        ("still there after a deletion", vec![put(1, 2, 1), delete(3, 4, Some(1)), read(5, 6, 1)]),
        ("gone without a deletion", vec![put(1, 2, 1), absent(3, 4)]),
        ("two deletions remove one value", vec![put(1, 2, 1), delete(3, 8, Some(1)), delete(4, 9, Some(1))]),
        (
            "both conditions held",
            vec![put(1, 2, 1), put_if(3, 6, 1, 2, Outcome::Done), put_if(4, 7, 1, 3, Outcome::Done)],
        ),
        ("a refusal without cause", vec![put(1, 2, 1), put_if(3, 4, 1, 2, Outcome::Refused)]),
        (
            "a refusal, then the old value",
            vec![put(1, 2, 1), put(3, 20, 2), put_if(4, 5, 1, 3, Outcome::Refused), read(6, 7, 1)],
        ),
    ];
    for (name, events) in bad {
        assert!(matches!(check(&events), Verdict::Violation(_)), "{name}");
        assert!(!brute_force(&events), "{name}, by brute force");
    }
}

#[test]
fn the_event_that_cannot_be_explained_is_named() {
    let events = [put(1, 2, 1), put(3, 4, 2), read(5, 6, 2), read(7, 8, 1), read(9, 10, 2)];
    assert_eq!(check(&events), Verdict::Violation(3));
}

#[test]
fn long_histories_with_many_overlaps_are_decided() {
    // Ten callers, each with a put under way half of the time, and a reading of what one of them put.
    let mut events = Vec::new();
    for round in 0..20 {
        let base = round * 100;
        for caller in 0..10 {
            events.push(put(
                base + caller,
                base + 50 + caller,
                u32::try_from(round * 10 + caller).expect("small"),
            ));
        }
        events.push(read(base + 90, base + 91, u32::try_from(round * 10 + 7).expect("small")));
    }
    assert_eq!(check(&events), Verdict::Linearizable);
    let stale = events.len() - 1;
    events[stale] = read(19 * 100 + 90, 19 * 100 + 91, 7);
    assert_eq!(check(&events), Verdict::Violation(stale));
}

#[test]
fn a_violation_shrinks_to_its_core() {
    let mut events = vec![put(1, 2, 1), put(100, 101, 2), read(102, 103, 1)];
    events.extend((0..30).map(|n| read(3 + 2 * n, 4 + 2 * n, 1)));
    events.extend([put(70, 71, 8), read(72, 73, 8), put_if(74, 75, 8, 9, Outcome::Done), put(76, 77, 1_000)]);
    events.extend([unknown_put(78, 55), read(110, 111, 2), put(112, 113, 4)]);
    let core = shrink(&events);
    assert!(matches!(check(&core), Verdict::Violation(_)));
    assert_eq!(core, [put(1, 2, 1), put(100, 101, 2), read(102, 103, 1)]);
}

/// Wing and Gong as first published: every order that respects time is tried, with nothing remembered.
fn brute_force(events: &[Event]) -> bool {
    fn search(remaining: &[Event], state: Option<Value>) -> bool {
        if remaining.iter().all(|event| event.outcome == Outcome::Unknown) {
            return true;
        }
        (0..remaining.len()).any(|next| {
            let first = remaining[next];
            let comes_after = |other: &Event| other.responded.is_some_and(|end| end < first.invoked);
            if remaining.iter().any(comes_after) {
                return false;
            }
            let mut rest = remaining.to_vec();
            rest.remove(next);
            first.step(state).is_some_and(|state| search(&rest, state))
        })
    }
    search(events, None)
}

/// Runs a register: each operation takes effect at a point between its invocation and its answer.
fn register_history(plan: &[(u8, u8, u64, u64, u64)]) -> Vec<Event> {
    let mut effects: Vec<(u64, usize)> = Vec::new();
    let mut spans = Vec::new();
    for (index, (_, _, start, before, after)) in plan.iter().enumerate() {
        let invoked = start * 1_000 + index as u64 * 3;
        let effect = invoked + 1 + before * 400;
        effects.push((effect, index));
        spans.push((invoked, effect + 1 + after * 400));
    }
    effects.sort_unstable();
    let mut state = None;
    let mut puts: Vec<Value> = vec![9_999];
    let mut events = vec![None; plan.len()];
    for (_, index) in effects {
        let (kind, pick, ..) = plan[index];
        let value = Value::try_from(index).expect("few operations") + 1;
        let expected =
            if pick % 2 == 0 { state.unwrap_or(9_999) } else { puts[usize::from(pick) % puts.len()] };
        let operation = match kind % 9 {
            0..=2 => Operation::Read,
            3 => Operation::Put(value),
            4 => Operation::PutIf { expected, value },
            5 => Operation::PutIfAbsent(value),
            6 => Operation::Delete,
            7 => Operation::Lock(value),
            _ => Operation::ReadIf(expected),
        };
        let told = [Outcome::Shown(state), Outcome::Done, Outcome::Refused]
            .into_iter()
            .map(|outcome| event(spans[index], operation, outcome))
            .find(|event| event.step(state).is_some() && fits(event));
        let told = told.expect("a register answers everything");
        state = told.step(state).expect("it was found by this");
        puts.extend(told.operation.puts());
        // Some writes lose their answer after their effect; some never have one.
        let lost = pick >= 13 && !told.only_reads();
        events[index] = Some(if lost { event(spans[index], operation, Outcome::Unknown) } else { told });
    }
    events.into_iter().flatten().collect()
}

/// Readings and deletions are shown something, puts are done.
fn fits(event: &Event) -> bool {
    match event.outcome {
        Outcome::Done => event.operation.puts().is_some(),
        Outcome::Shown(_) => event.operation.puts().is_none(),
        Outcome::Refused | Outcome::Unknown => true,
    }
}

fn plan(most: usize) -> impl Strategy<Value = Vec<(u8, u8, u64, u64, u64)>> {
    prop::collection::vec((any::<u8>(), 0_u8..16, 0_u64..12, 0_u64..8, 0_u64..8), 1..most)
}

fn configured(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::ChaCha,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(configured(512))]

    #[test]
    fn what_an_atomic_register_does_is_accepted(plan in plan(60)) {
        prop_assert_eq!(check(&register_history(&plan)), Verdict::Linearizable);
    }

    #[test]
    fn small_histories_get_the_verdict_of_brute_force(
        plan in plan(8),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..9), 0..3),
    ) {
        let mut events = register_history(&plan);
        for (which, shown) in changes {
            let changed = which.get(&events).outcome;
            let shown = (shown > 0).then_some(shown);
            let which = which.index(events.len());
            events[which].outcome = match changed {
                Outcome::Shown(_) => Outcome::Shown(shown),
                Outcome::Done if shown.is_none() => Outcome::Refused,
                other => other,
            };
            // A deletion on condition of a value cannot have removed another; no history contains such an answer.
        }
        let accepted = check(&events) == Verdict::Linearizable;
        prop_assert_eq!(accepted, brute_force(&events));
        if !accepted {
            let core = shrink(&events);
            prop_assert!(core.len() <= events.len());
            prop_assert!(!brute_force(&core));
        }
    }
}
