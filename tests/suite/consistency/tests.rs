//! The claims, over many seeds.
//!
//! A failing run prints its scenario and seed. To see it again:
//! `SCENARIO="tokens of the state" SEED=123 cargo test --test suite -- --ignored --nocapture consistency::tests::one_seed`.
//! The long form, which also prints what each scenario costs per run, beside the rule under which stored responses must cover
//! `newest`: `SEEDS=20000 cargo test --release --test suite -- --ignored --nocapture consistency::tests::long_form`.

use std::ops::Range;

use tagalong::internals::config::caching::Consistency;

use super::long_form::{Extent, Sums, run_all};
use super::scenarios::{
    BESIDE, DEPLOYED, EMULATED, GENERIC_BESIDE, LEVELS, MIRRORS, OF_STATE, REGISTERS, WRITERS_BESIDE,
};
use super::simulation::{Before, Run, Scenario, run};

/// Seeds of each scenario in the form that always runs: together more than 500.
const SEEDS: u64 = 40;

fn holds(name: &str) {
    let scenario = scenario(name);
    let (mut operations, mut hits, mut origin_requests) = (0, 0, 0);
    for seed in 0..SEEDS {
        let run = run(&scenario, seed);
        assert!(run.violations.is_empty() && run.undecided == 0, "{run}");
        operations += run.operations;
        hits += run.hits;
        origin_requests += run.origin_requests;
    }
    println!("{name}: {operations} operations, {hits} hits, {origin_requests} origin requests");
    assert!(operations > 3_000, "only {operations} operations");
    assert!(
        scenario.level == Consistency::Strong || hits > operations / 200,
        "only {hits} of {operations} from the store"
    );
}

fn scenario(name: &str) -> Scenario {
    *every().find(|scenario| scenario.name == name).unwrap_or_else(|| panic!("no scenario named {name:?}"))
}

/// All scenarios.
pub(crate) fn every() -> impl Iterator<Item = &'static Scenario> {
    REGISTERS.iter().chain(&WRITERS_BESIDE).chain(&GENERIC_BESIDE).chain(&LEVELS).chain(&MIRRORS)
}

macro_rules! scenarios_hold {
    ($($test:ident: $name:literal,)*) => { $(
        #[test]
        fn $test() {
            holds($name);
        }
    )* };
}

scenarios_hold! {
    with_a_mirror: "mirrored",
    with_a_mirror_at_bounded: "mirrored, bounded",
    with_a_mirror_and_writes_on_both_sides: "mirrored, both write",
    with_a_mirror_and_no_tokens: "mirrored, no tokens",
    with_a_mirror_and_many_requests_under_way: "mirrored, racing",
    with_a_mirror_that_is_asked_seldom: "mirrored, asked seldom",
    with_a_mirror_and_own_writes: "mirrored, own writes",
    with_a_mirror_and_own_writes_at_bounded: "mirrored, own writes, bounded",
    with_tokens_of_the_state: "tokens of the state",
    with_tokens_newer_than_the_state: "tokens of the front end",
    without_tokens: "no tokens",
    with_a_constant_token: "a constant token",
    with_the_generic_profile: "generic, no tokens",
    at_level_strong: "strong",
    with_short_lifetimes: "short lifetimes",
    with_conditions_that_the_origin_judges: "conditions",
    with_the_emulator: "emulator, tokens of the state",
    with_the_emulator_and_newer_tokens: "emulator, tokens of the front end",
    with_the_emulator_and_a_constant_token: "emulator, a constant token",
    with_writers_beside: "writers beside the sidecar",
    with_writers_beside_and_no_tokens: "writers beside the sidecar, no tokens",
    at_level_bounded_staleness: "bounded staleness",
    with_many_requests_under_way: "racing, writers beside",
    with_many_requests_under_way_and_no_tokens: "racing, writers beside, no tokens",
    with_the_generic_profile_and_writers_beside: "generic, racing, writers beside, session",
    with_the_generic_profile_and_writers_beside_at_strong: "generic, racing, writers beside, strong",
    with_the_generic_profile_and_writers_beside_at_bounded: "generic, racing, writers beside, bounded",
    with_the_generic_profile_and_several_keys: "generic, several keys, writers beside",
    with_many_requests_under_way_for_several_keys: "racing, several keys",
    with_evictions_while_many_requests_are_under_way: "evicted while racing",
    with_replicas_that_settle_soon: "settled soon",
    with_callers_who_pass_by_the_store: "passing by the store",
    with_callers_who_pass_by_the_store_and_no_tokens: "passing by the store, no tokens",
    with_first_answers_mostly: "many keys",
    with_tokens_that_move_only_with_changes: "without drift",
    with_tokens_handed_over: "handed over, two ids",
    with_304s_that_name_their_tag: "tagged 304s",
    with_own_writes_at_bounded_staleness: "own writes, bounded",
    with_own_writes_without_tokens: "own writes, no tokens",
    at_session_with_rising_tokens: "session, rising tokens",
    at_session_with_tokens_of_the_state: "session, tokens of the state",
    at_session_with_a_constant_token: "session, a constant token",
    at_session_without_tokens: "session, no tokens",
    at_session_with_two_ids: "session, two ids",
    at_strong_with_rising_tokens: "strong, rising tokens",
    at_strong_with_tokens_of_the_state: "strong, tokens of the state",
    at_strong_with_a_constant_token: "strong, a constant token",
    at_strong_without_tokens: "strong, no tokens",
    at_strong_with_two_ids: "strong, two ids",
    at_bounded_with_rising_tokens: "bounded, rising tokens",
    at_bounded_with_tokens_of_the_state: "bounded, tokens of the state",
    at_bounded_with_a_constant_token: "bounded, a constant token",
    at_bounded_without_tokens: "bounded, no tokens",
    at_bounded_with_two_ids: "bounded, two ids",
}

#[test]
fn without_the_sidecar_callers_see_stale_states() {
    for scenario in [OF_STATE, EMULATED] {
        let directly = Scenario { name: "directly", before: Before::Nothing, ..scenario };
        let shown = first_violation(&directly, 0..20).expect("lagging replicas show stale states");
        println!("{shown}");
    }
}

#[test]
fn without_the_sidecar_foreign_writes_are_no_timeline() {
    let directly = Scenario { name: "directly", before: Before::Nothing, ..DEPLOYED };
    let shown = (0..20).find_map(|seed| {
        run(&directly, seed).violations.into_iter().find(|text| text.contains("timeline of foreign writes"))
    });
    println!("{}", shown.expect("lagging replicas show keys as of different times"));
}

#[test]
fn a_seed_means_the_same_run_every_time() {
    for scenario in REGISTERS.iter().chain(&[BESIDE, DEPLOYED]) {
        let (first, second) = (run(scenario, 7), run(scenario, 7));
        assert_eq!(in_lines(&first), in_lines(&second), "{}", scenario.name);
        assert_eq!(first.to_string(), second.to_string());
        assert!(first.history.len() > 20);
    }
}

fn in_lines(run: &Run) -> String {
    let keys = run.history.keys.iter();
    keys.map(|(key, events)| format!("{key}\n{}", super::history::print(events))).collect()
}

/// The first seed of a scenario that shows a violation.
pub(crate) fn first_violation(scenario: &Scenario, mut seeds: Range<u64>) -> Option<Run> {
    seeds.find_map(|seed| Some(run(scenario, seed)).filter(|run| !run.violations.is_empty()))
}

#[test]
#[ignore = "by hand, for a seed that failed"]
fn one_seed() {
    let text = |name| std::env::var(name).unwrap_or_else(|_| panic!("set {name}"));
    let run = run(&scenario(&text("SCENARIO")), text("SEED").parse().expect("a number"));
    println!("{run}");
    for (key, events) in &run.history.keys {
        println!("{key}\n{}", super::history::print(events));
    }
    assert!(run.violations.is_empty());
}

#[test]
#[ignore = "by hand: many minutes"]
fn long_form() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get() as u64);
    let extent = Extent {
        first_seed: number("FIRST_SEED", 0),
        seeds: number("SEEDS", 20_000),
        threads: usize::try_from(number("THREADS", cores)).expect("few"),
        compared_each: number("COMPARED", 10),
    };
    let outcome = run_all(&every().collect::<Vec<_>>(), extent);
    println!("{} seeds from {}:\n{outcome}", extent.seeds, extent.first_seed);
    assert_eq!(outcome.failed, Vec::<String>::new());
}

#[test]
fn demanding_newest_of_what_is_stored_costs_hits() {
    let extent = Extent { first_seed: 0, seeds: 20, threads: 2, compared_each: 20 };
    let Sums { rule, newest_required, .. } = run_all(&[&DEPLOYED], extent).by_scenario[0].1;
    println!("{rule} beside {newest_required}");
    assert_eq!((rule.runs, newest_required.runs), (20, 20));
    assert!(4 * rule.hits > 5 * newest_required.hits, "{rule} beside {newest_required}");
    assert!(rule.forwards < newest_required.forwards, "{rule} beside {newest_required}");
}
