//! Each clause of the rule is needed: taken away, the checker finds a violation within few seeds and shows its smallest part;
//! with all clauses on, the same seeds show none. (`required_apart_from_newest` is about cost: `tests` shows what it saves.)

use tagalong::internals::sync_token::clauses::Clauses;

use super::origin::Faults;
use super::scenarios::{
    ABSENT, BESIDE, CONDITIONAL, DEPLOYED, DEPLOYED_BOUNDED, DEPLOYED_CONSTANT, DEPLOYED_WITHOUT_TOKENS,
    FAULTS, GENERIC, GENERIC_RACING, HANDED_OVER, MANY_KEYS, MIRRORED, MIRRORED_BOTH_WRITE, OF_STATE,
    OWN_WRITES_BOUNDED, OWN_WRITES_WITHOUT_TOKENS, PASSING_BY, PASSING_BY_WITHOUT_TOKENS, RACING, SELDOM,
    SELDOM_WITHOUT_DRIFT, SETTLED, WITHOUT_DRIFT,
};
use super::simulation::{Before, Scenario, run};
use super::tests::{every, first_violation};

const ALL: Clauses = Clauses::ALL;

/// Within how many seeds a violation must show.
const SEEDS: u64 = 200;

/// Writes that take effect after their sender was told that the outcome is unknown.
const LATE: Scenario =
    Scenario { name: "late effects, no tokens", faults: Faults { late_effect: 200, ..FAULTS }, ..ABSENT };

fn is_needed(clauses: Clauses, scenario: Scenario) {
    assert_ne!(clauses, ALL);
    let without = Scenario { before: Before::Sidecar(clauses), ..scenario };
    let found = first_violation(&without, 0..SEEDS)
        .unwrap_or_else(|| panic!("without the clause no violation shows in {:?}", scenario.name));
    println!("{found}");
    if let Some(with_all) = first_violation(&scenario, 0..found.seed + 1) {
        panic!("with all clauses:\n{with_all}");
    }
}

macro_rules! clauses_are_needed {
    ($($clause:ident in { $($scenario:ident),+ },)*) => {
        fn without(clause: &str) -> Clauses {
            match clause {
                $(stringify!($clause) => Clauses { $clause: false, ..ALL },)*
                _ => panic!("no clause named {clause:?}"),
            }
        }

        $(
        #[test]
        fn $clause() {
            for scenario in [$($scenario),+] {
                is_needed(without(stringify!($clause)), scenario);
            }
        }
    )* };
}

// Rule 1, and what raises `required`. Rising tokens, with drift, are the usual case; where there are none, sending order stands in.
clauses_are_needed! {
    covers_required in { DEPLOYED, DEPLOYED_BOUNDED, DEPLOYED_WITHOUT_TOKENS },
    first_answers_show_change in { MANY_KEYS },
    unstored_answers_show_change in { PASSING_BY, PASSING_BY_WITHOUT_TOKENS },
    exempts_only_dated_singles in { SETTLED },
    exempted_are_revelations in { SELDOM },
    latest_revelation_by_counter in { WITHOUT_DRIFT },
    order_stands_in_for_tokens in { DEPLOYED_WITHOUT_TOKENS, DEPLOYED_CONSTANT, GENERIC_RACING },
    list_validation_needs_equal_tag in { DEPLOYED, DEPLOYED_WITHOUT_TOKENS },

    // Rule 2: tokens that callers present.
    covers_presented in { BESIDE },
    unanswered_id_stays_unknown in { HANDED_OVER },
    callers_never_merged in { OF_STATE },

    // Rule 3, each where neither rule 1 nor a validation hides it: at bounded staleness, or without tokens.
    covers_writes in { OWN_WRITES_BOUNDED, OWN_WRITES_WITHOUT_TOKENS },
    filters_match_fully in { OWN_WRITES_BOUNDED, OWN_WRITES_WITHOUT_TOKENS },
    unknown_counts_as_happened in { GENERIC },
    unknown_stays_open in { LATE },
    tokenless_answer_waits in { CONDITIONAL },
    snapshot_counts_closed in { ABSENT },

    // All rules.
    sent_not_received in { SELDOM, SELDOM_WITHOUT_DRIFT },
    news_before_answer in { OF_STATE, DEPLOYED },
    freshens_the_one_in_hand in { OWN_WRITES_BOUNDED, RACING },
    joiner_checks_snapshot in { ABSENT },

    // Mirrors.
    mirrored_lists_cover_least in { MIRRORED },
    prediction_keeps_coverage in { MIRRORED_BOTH_WRITE },
}

/// For the table above: within how many seeds each scenario shows a clause needed.
/// `CLAUSE=freshens_the_one_in_hand SCENARIO=racing SEEDS=200 cargo test --test suite -- --ignored --nocapture consistency::clauses::where_it_shows`
#[test]
#[ignore = "by hand, to choose scenarios"]
fn where_it_shows() {
    let text = |name| std::env::var(name).ok();
    let clause = text("CLAUSE").expect("set CLAUSE");
    let seeds = text("SEEDS").map_or(SEEDS, |text| text.parse().expect("a number"));
    let clauses = without(&clause);
    let part = text("SCENARIO").unwrap_or_default();
    for scenario in every().chain(&[LATE]).filter(|scenario| scenario.name.contains(&part)) {
        let off = Scenario { before: Before::Sidecar(clauses), ..*scenario };
        let shown = (0..seeds).find(|seed| {
            !run(&off, *seed).violations.is_empty() && run(scenario, *seed).violations.is_empty()
        });
        println!("{:<45} {shown:?}", scenario.name);
    }
}
