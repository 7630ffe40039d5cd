//! The checker of the timeline is checked: histories whose verdict is known, histories of a session that keeps the claim, and
//! changed ones against a comparison of every pair.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;

use super::foreign_timeline::first_violation;
use super::history::{Event, History, Moment, Operation, Outcome, Value};
use super::monotonic::{Truth, Writer};

use Writer::{Foreign, Sidecar};

fn moment(order: u64) -> Moment {
    Moment { order, at: Duration::from_millis(order) }
}

fn event(caller: u16, span: (u64, u64), operation: Operation, outcome: Outcome) -> Event {
    Event { caller, operation, outcome, invoked: moment(span.0), responded: Some(moment(span.1)) }
}

fn read(from: u64, to: u64, shown: impl Into<Option<Value>>) -> Event {
    event(0, (from, to), Operation::Read, Outcome::Shown(shown.into()))
}

fn delete(from: u64, to: u64, removed: Value) -> Event {
    event(0, (from, to), Operation::Delete, Outcome::Shown(Some(removed)))
}

fn put(from: u64, to: u64, value: Value) -> Event {
    event(0, (from, to), Operation::Put(value), Outcome::Done)
}

fn history(events: &[(&str, Event)]) -> History {
    let mut history = History::default();
    for (key, event) in events {
        history.record(key, *event);
    }
    history
}

fn truth(commits: &[(u64, &str, Option<Value>, Writer)]) -> Truth {
    let mut truth = Truth::default();
    for (order, key, value, writer) in commits {
        truth.commit(key, moment(*order), *value, *writer);
    }
    truth
}

/// A deployment by others: `a`, `b`, then the sentinel `s`; then `a` again; at last `b` is removed.
fn deployments() -> Truth {
    truth(&[
        (10, "a", Some(1), Foreign),
        (20, "b", Some(2), Foreign),
        (30, "s", Some(3), Foreign),
        (40, "a", Some(4), Foreign),
        (50, "s", Some(5), Foreign),
        (60, "b", None, Foreign),
    ])
}

fn holds(truth: &Truth, events: &[(&str, Event)]) -> bool {
    first_violation(&history(events), truth).is_none()
}

#[test]
fn before_any_foreign_state_was_seen_each_past_state_is_allowed() {
    assert!(holds(
        &deployments(),
        &[("a", read(70, 71, 1)), ("b", read(72, 73, None)), ("s", read(74, 75, 3))]
    ));
    assert!(holds(&deployments(), &[("a", read(70, 71, None)), ("s", read(72, 73, None))]));
}

#[test]
fn after_the_sentinel_was_seen_all_that_was_written_before_it_is_shown() {
    let seen = ("s", read(70, 71, 3));
    for (key, shown, expected) in [
        ("a", Some(1), true),
        ("a", Some(4), true),
        ("a", None, false),
        ("b", Some(2), true),
        ("b", None, true),
    ] {
        assert_eq!(holds(&deployments(), &[seen, (key, read(72, 73, shown))]), expected, "{key} {shown:?}");
    }
    let seen = ("s", read(70, 71, 5));
    for (key, shown, expected) in
        [("a", Some(1), false), ("a", Some(4), true), ("a", None, false), ("s", Some(3), false)]
    {
        assert_eq!(holds(&deployments(), &[seen, (key, read(72, 73, shown))]), expected, "{key} {shown:?}");
    }
}

#[test]
fn what_one_caller_has_seen_counts_for_all() {
    let other = |event: Event| Event { caller: 7, ..event };
    assert!(!holds(&deployments(), &[("s", read(70, 71, 5)), ("a", other(read(72, 73, 1)))]));
    assert!(!holds(&deployments(), &[("s", other(read(70, 71, 5))), ("a", read(90, 93, 1))]));
}

#[test]
fn requests_under_way_at_once_may_be_answered_in_any_order() {
    assert!(holds(&deployments(), &[("s", read(70, 75, 5)), ("a", read(74, 76, 1))]));
    assert!(holds(&deployments(), &[("a", read(70, 71, 1)), ("s", read(72, 73, 5))]));
    let third = [("s", read(70, 75, 5)), ("a", read(74, 76, 1)), ("a", read(76 + 1, 78, 1))];
    assert!(!holds(&deployments(), &third), "the third was asked after the first was told");
}

#[test]
fn a_list_is_judged_key_by_key() {
    let list = |a, b, s| {
        [("a", read(72, 73, a)), ("b", read(72, 73, b)), ("s", read(72, 73, s)), ("s", read(70, 71, Some(5)))]
    };
    assert!(holds(&deployments(), &list(Some(4), Some(2), Some(5))));
    assert!(holds(&deployments(), &list(Some(4), None, Some(5))));
    assert!(!holds(&deployments(), &list(Some(1), Some(2), Some(5))));
    let then_single = [("a", read(70, 71, 4)), ("s", read(70, 71, 3)), ("s", read(72, 73, None))];
    assert!(!holds(&deployments(), &then_single), "what a list has shown counts for single readings");
}

#[test]
fn an_absence_left_by_others_is_seen_and_an_older_state_after_it_is_not() {
    let gone = truth(&[
        (5, "a", Some(1), Foreign),
        (10, "a", Some(2), Foreign),
        (20, "b", Some(3), Foreign),
        (30, "b", None, Foreign),
    ]);
    // It may have been absent from the beginning.
    assert!(holds(&gone, &[("b", read(70, 71, None)), ("a", read(72, 73, 1))]));
    let seen = [("b", read(70, 71, 3)), ("b", read(72, 73, None))];
    assert!(!holds(&gone, &[seen[0], seen[1], ("b", read(74, 75, 3))]));
    let after_removal = truth(&[
        (10, "b", Some(1), Foreign),
        (20, "b", None, Foreign),
        (30, "a", Some(2), Foreign),
        (40, "a", Some(3), Foreign),
    ]);
    assert!(
        !holds(&after_removal, &[("a", read(70, 71, 2)), ("b", read(72, 73, 1))]),
        "the list still shows what is gone"
    );
}

#[test]
fn an_absence_shows_no_deletion_of_a_key_that_no_answer_had_shown() {
    let came_and_went = truth(&[
        (10, "b", Some(1), Foreign),
        (20, "a", Some(2), Foreign),
        (30, "a", Some(3), Foreign),
        (40, "b", None, Foreign),
    ]);
    let (seen, absent, after) = (("a", read(72, 73, 2)), ("b", read(74, 75, None)), ("a", read(76, 77, 2)));
    assert!(holds(&came_and_went, &[seen, absent, after]));
    assert!(!holds(&came_and_went, &[("b", read(70, 71, 1)), seen, absent, after]));
    assert!(!holds(&came_and_went, &[seen, ("b", read(15, 16, None)), ("a", read(18, 19, 2))]), "not yet");
}

#[test]
fn what_a_deletion_says_it_removed_was_seen() {
    let removed = truth(&[
        (10, "a", Some(1), Foreign),
        (20, "a", Some(2), Foreign),
        (30, "b", Some(3), Foreign),
        (40, "b", None, Sidecar),
    ]);
    assert!(!holds(&removed, &[("b", delete(39, 41, 3)), ("a", read(72, 73, 1))]));
    assert!(holds(&removed, &[("b", delete(39, 41, 3)), ("a", read(72, 73, 2))]));
}

#[test]
fn own_writes_show_nothing_of_what_is_foreign_and_may_be_seen_before_it() {
    let mixed = truth(&[
        (10, "a", Some(1), Foreign),
        (20, "a", Some(2), Foreign),
        (30, "b", Some(3), Sidecar),
        (40, "a", Some(4), Sidecar),
    ]);
    assert!(holds(&mixed, &[("b", put(29, 31, 3)), ("a", read(32, 33, 1))]));
    assert!(holds(&mixed, &[("b", put(29, 31, 3)), ("b", read(32, 33, 3)), ("a", read(34, 35, 1))]));
}

#[test]
fn an_own_state_that_a_foreign_write_replaced_is_older_than_that() {
    let mixed = truth(&[
        (10, "a", Some(1), Sidecar),
        (20, "a", Some(2), Foreign),
        (30, "a", Some(3), Sidecar),
        (40, "b", Some(4), Foreign),
    ]);
    assert!(!holds(&mixed, &[("b", read(50, 51, 4)), ("a", read(52, 53, 1))]));
    assert!(
        holds(&mixed, &[("b", read(50, 51, 4)), ("a", read(52, 53, 2))]),
        "for `checker` and `monotonic` to judge"
    );
    assert!(holds(&mixed, &[("b", read(50, 51, 4)), ("a", read(52, 53, 3))]));
}

#[test]
fn what_was_never_there_or_not_yet_is_a_violation() {
    assert!(!holds(&deployments(), &[("a", read(70, 71, 9))]));
    assert!(!holds(&deployments(), &[("a", read(38, 39, 4))]));
    assert!(!holds(&deployments(), &[("z", read(38, 39, 1))]));
}

#[test]
fn answers_without_a_state_tell_nothing() {
    let refused = event(0, (70, 71), Operation::ReadIf(3), Outcome::Refused);
    assert!(holds(&deployments(), &[("s", refused), ("a", read(72, 73, 1))]));
    let unknown = Event { responded: None, outcome: Outcome::Unknown, ..put(70, 71, 9) };
    assert!(holds(&deployments(), &[("s", unknown), ("a", read(72, 73, 1))]));
}

#[test]
fn the_text_names_what_had_been_seen_and_what_was_shown_after_it() {
    let events = [("s", read(70, 71, 5)), ("a", read(72, 73, 1))];
    let text = first_violation(&history(&events), &deployments()).expect("it lags");
    for part in ["s had shown the foreign write #50", "read -> 5", "read -> 1", "#40    4 (Foreign)"] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
}

const KEYS: [&str; 3] = ["a", "b", "c"];

/// Commits without deletions, so that every value names one state.
fn commits(plan: &[(u8, bool)]) -> Truth {
    let mut truth = Truth::default();
    for (value, (key, foreign)) in (1..).zip(plan) {
        let writer = if *foreign { Foreign } else { Sidecar };
        truth.commit(KEYS[usize::from(key % 3)], moment(u64::from(value) * 10), Some(value), writer);
    }
    truth
}

/// Readings of a session: each shows its key as of a moment that no reading told before it was asked lies behind.
fn readings(plan: &[(u8, u64, u64, u64)], truth: &Truth) -> Vec<(&'static str, Event)> {
    let mut events: Vec<(&str, Event, u64)> = Vec::new();
    let mut plan: Vec<_> = plan.to_vec();
    plan.sort_by_key(|(_, from, length, _)| from + length);
    for (index, (key, from, length, lag)) in plan.into_iter().enumerate() {
        let key = KEYS[usize::from(key % 3)];
        let (invoked, responded) =
            (from * 40 + index as u64 % 7, (from + length) * 40 + 11 + index as u64 % 17);
        let told = events.iter().filter(|(_, event, _)| event.responded < Some(moment(invoked)));
        let floor = told.map(|(.., as_of)| *as_of).max().unwrap_or(0);
        let as_of = responded.saturating_sub(lag * 10).max(floor).min(responded);
        let shown = truth.states(key)[truth.position_at(key, as_of)].value;
        events.push((key, read(invoked, responded, shown), as_of));
    }
    events.into_iter().map(|(key, event, _)| (key, event)).collect()
}

/// The claim as it is written, pair by pair.
fn violates(events: &[(&str, Event)], truth: &Truth) -> bool {
    let state_of = |key: &str, event: &Event| {
        let Outcome::Shown(shown) = event.outcome else { panic!("readings only") };
        let position = truth.states(key).iter().position(|state| state.value == shown);
        position.filter(|position| truth.states(key)[*position].moment <= event.responded.unwrap())
    };
    events.iter().any(|(key, later)| {
        let Some(position) = state_of(key, later) else { return true };
        events.iter().any(|(other, earlier)| {
            let Some(seen) = state_of(other, earlier).map(|position| truth.states(other)[position]) else {
                return true;
            };
            let replaced = truth.states(key)[position + 1..]
                .iter()
                .any(|state| state.writer == Foreign && state.moment <= seen.moment);
            earlier.responded.unwrap() < later.invoked && seen.writer == Foreign && replaced
        })
    })
}

fn configured() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::ChaCha,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(configured())]

    #[test]
    fn a_session_that_never_goes_back_is_accepted_and_a_changed_one_as_every_pair_says(
        written in prop::collection::vec(any::<(u8, bool)>(), 1..30),
        asked in prop::collection::vec((any::<u8>(), 0_u64..8, 0_u64..3, 0_u64..20), 1..25),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..30), 0..3),
    ) {
        let truth = commits(&written);
        let mut events = readings(&asked, &truth);
        prop_assert!(!violates(&events, &truth));
        prop_assert!(holds(&truth, &events));
        for (which, shown) in changes {
            let which = which.index(events.len());
            events[which].1.outcome = Outcome::Shown((shown > 0).then_some(shown));
        }
        prop_assert_eq!(!holds(&truth, &events), violates(&events, &truth));
    }
}
