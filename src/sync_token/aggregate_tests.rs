use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_777);

fn token(id: &str, value: &str, sequence_number: u64) -> SyncToken {
    SyncToken::new(id, value, sequence_number).expect("a well-formed token")
}

fn presented(id: &str, value: &str) -> PresentedToken {
    PresentedToken::new(id, value).expect("a well-formed token")
}

fn known(required_version: u64) -> PresentedTokens {
    PresentedTokens::Known { required_version }
}

fn observed(tokens: &[SyncToken]) -> Aggregate {
    let mut aggregate = Aggregate::default();
    for token in tokens {
        aggregate.observe(std::slice::from_ref(token), NOW);
    }
    aggregate
}

#[test]
fn the_highest_sequence_number_of_an_id_wins_and_a_tie_keeps_the_old_value() {
    let mut aggregate = Aggregate::default();
    assert!(aggregate.observe(&[token("a", "one", 5)], NOW));
    assert!(!aggregate.observe(&[token("a", "older", 4)], NOW));
    assert!(!aggregate.observe(&[token("a", "tie", 5)], NOW));
    assert_eq!(aggregate.request_line(&[]), "a=one");
    assert!(aggregate.observe(&[token("a", "two", 6), token("b", "x", 1)], NOW));
    assert_eq!(aggregate.request_line(&[]), "a=two,b=x");
}

#[test]
fn required_rises_apart_from_newest_and_is_what_callers_are_given() {
    let mut aggregate = observed(&[token("a", "one", 5), token("a", "two", 6), token("a", "three", 7)]);
    assert_eq!(aggregate.required_version(), 0);
    assert_eq!(aggregate.response_line(&[]), "a=three;sn=7", "while nothing is required: newest");
    assert!(aggregate.require(&[token("a", "two", 6)]));
    assert_eq!((aggregate.required_version(), aggregate.version()), (2, 3));
    assert_eq!(aggregate.response_line(&[]), "a=two;sn=6");
    assert_eq!(aggregate.response_line_as_presented(), "a=two");
    assert_eq!(aggregate.response_line(&[token("a", "own", 9)]), "a=own;sn=9", "after an own write");
    assert_eq!(aggregate.response_line(&[token("a", "own", 2)]), "a=two;sn=6");
    assert!(!aggregate.require(&[token("a", "one", 5)]), "it never falls");
    assert_eq!(aggregate.required_version(), 2);
}

#[test]
fn a_late_token_requires_no_more_than_the_version_that_first_included_it() {
    let mut aggregate = observed(&[token("a", "one", 5), token("a", "two", 9), token("a", "three", 12)]);
    aggregate.observe(&[token("a", "late", 7)], NOW);
    assert!(aggregate.require(&[token("a", "late", 7)]));
    assert_eq!(aggregate.required_version(), 2);
}

#[test]
fn a_value_that_passed_through_demands_what_includes_it() {
    let mut aggregate = observed(&[token("a", "one", 5), token("a", "two", 6)]);
    aggregate.observe(&[token("a", "late", 3)], NOW);
    let requirement = |value| aggregate.requirement(vec![presented("a", value)]);
    assert_eq!([requirement("one"), requirement("two"), requirement("late")], [known(1), known(2), known(1)]);
    assert_eq!(requirement("forged"), PresentedTokens::Unknown(vec![presented("a", "forged")]));
}

#[test]
fn a_callers_unknown_value_is_sent_in_the_place_of_ours() {
    let aggregate = observed(&[token("a", "one", 5), token("b", "x", 1)]);
    assert_eq!(aggregate.request_line(&[]), "a=one,b=x");
    assert_eq!(aggregate.request_line(&[presented("a", "theirs")]), "b=x,a=theirs");
    assert_eq!(aggregate.response_line(&[]), "a=one;sn=5,b=x;sn=1", "and never enters newest");
}

#[test]
fn an_unknown_value_demands_from_then_on_what_its_answer_came_with() {
    let mut aggregate = observed(&[token("a", "one", 5)]);
    let theirs = [presented("a", "theirs")];
    assert!(aggregate.learn(&theirs, &[token("a", "two", 7)], NOW));
    assert_eq!(aggregate.requirement(theirs.to_vec()), known(2));
    assert_eq!(aggregate.response_line(&[]), "a=two;sn=7", "and is never handed on as the origin's");
}

#[test]
fn a_value_whose_id_is_not_answered_stays_unknown() {
    let mut aggregate = observed(&[token("a", "one", 5)]);
    let theirs = [presented("b", "elsewhere")];
    aggregate.learn(&theirs, &[token("a", "two", 7)], NOW);
    assert_eq!(aggregate.requirement(theirs.to_vec()), PresentedTokens::Unknown(theirs.to_vec()));
}

#[test]
fn a_constant_token_does_not_move() {
    let mut aggregate = observed(&[token("kv", "MA==", 1), token("kv", "MA==", 1), token("other", "v", 1)]);
    assert!(!aggregate.moved());
    aggregate.observe(&[token("kv", "MQ==", 2)], NOW);
    assert!(aggregate.moved());
    aggregate.reset();
    assert!(!aggregate.moved(), "what comes after a reset is another origin");
}

fn too_many_ids() -> Aggregate {
    let mut aggregate = Aggregate::default();
    for number in 0..=MAX_IDS {
        aggregate.observe(&[token(&format!("id{number}"), "v", 1)], NOW);
    }
    aggregate
}

#[test]
fn at_the_bound_of_ids_nothing_counts_as_covering() {
    let mut aggregate = too_many_ids();
    assert!(aggregate.overflowed());
    assert_eq!(aggregate.ids.len(), MAX_IDS);
    aggregate.observe(&[token("id0", "w", 2)], NOW);
    assert!(aggregate.request_line(&[]).starts_with("id0=w,"), "ids that are kept still move");
}

#[test]
fn ids_unseen_for_an_hour_are_dropped() {
    let mut aggregate = too_many_ids();
    aggregate.require(&[token("id1", "v", 1)]);
    let later = NOW.plus(ID_IDLE_TIME);
    assert!(aggregate.observe(&[token("id0", "w", 2)], later));
    assert!(!aggregate.overflowed());
    assert_eq!(aggregate.request_line(&[]), "id0=w");
    assert!(matches!(aggregate.requirement(vec![presented("id1", "v")]), PresentedTokens::Unknown(_)));
    let before = aggregate.version();
    aggregate.observe(&[token("id1", "v", 1)], later);
    aggregate.require(&[token("id1", "v", 1)]);
    assert!(aggregate.required_version() > before, "nothing sent before covers an id that comes back");
}

#[test]
fn a_reset_forgets_everything_but_never_repeats_a_version() {
    let mut aggregate = observed(&[token("a", "one", 5)]);
    aggregate.require(&[token("a", "one", 5)]);
    aggregate.reset();
    assert_eq!((aggregate.version(), aggregate.required_version()), (2, 2), "no older coverage holds");
    assert_eq!(aggregate.response_line(&[]), "");
    assert!(aggregate.observe(&[token("a", "restored", 2)], NOW), "a restored store may count lower");
    assert!(matches!(aggregate.requirement(vec![presented("a", "one")]), PresentedTokens::Unknown(_)));
}

#[test]
fn a_version_can_be_written_as_tokens_and_found_again() {
    let mut one = observed(&[token("a", "one", 5), token("b", "x", 1), token("a", "two", 9)]);
    let numbers = |tokens: &[SyncToken]| {
        tokens.iter().map(|token| (token.id().to_owned(), token.sequence_number())).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&one.written(0)), []);
    assert_eq!(numbers(&one.written(2)), [("a".to_owned(), 5), ("b".to_owned(), 1)]);
    for version in 0..=3 {
        assert_eq!(one.version_of(&one.written(version)), version);
    }
    // Another process that saw other things in another order.
    let other = observed(&[token("b", "x", 1), token("a", "late", 7), token("a", "two", 9)]);
    assert_eq!(other.version_of(&one.written(3)), 3);
    assert_eq!(other.version_of(&one.written(2)), 1, "5 of a includes nothing that is known of a");
    assert_eq!(other.version_of(&one.written(1)), 0, "without b even the first version is not included");
    one.observe(&[token("c", "new", 1)], NOW);
    assert_eq!(other.version_of(&one.written(4)), 3, "more than enough");
}
