//! Each clause of the rule is needed: taken away, the checker finds a violation within few seeds and shows its smallest part;
//! with all clauses on, the same seeds show none.

use tagalong::sync_token::clauses::Clauses;

use super::origin::Faults;
use super::scenarios::{
    ABSENT, BESIDE, CONDITIONAL, FAULTS, LEVELS, OF_FRONT_END, OF_STATE, RACING, RACING_WITHOUT_TOKENS,
    REGISTERS, WRITERS_BESIDE,
};
use super::simulation::{Before, Scenario, run};
use super::tests::first_violation;

const ALL: Clauses = Clauses::ALL;

/// Within how many seeds a violation must show.
const SEEDS: u64 = 200;

/// Writes that take effect after their sender was told that nobody knows.
const LATE: Scenario =
    Scenario { name: "late effects, no tokens", faults: Faults { late_effect: 200, ..FAULTS }, ..ABSENT };

fn is_needed(clauses: Clauses, scenario: Scenario) {
    assert_ne!(clauses, ALL);
    let without = Scenario { before: Before::Sidecar(clauses), ..scenario };
    let found = first_violation(&without, 0..SEEDS).expect("without the clause a violation shows");
    println!("{found}");
    if let Some(with_all) = first_violation(&scenario, 0..found.seed + 1) {
        panic!("with all clauses:\n{with_all}");
    }
}

macro_rules! clauses_are_needed {
    ($($clause:ident in $scenario:ident,)*) => {
        fn without(clause: &str) -> Clauses {
            match clause {
                $(stringify!($clause) => Clauses { $clause: false, ..ALL },)*
                _ => panic!("no clause named {clause:?}"),
            }
        }

        $(
        #[test]
        fn $clause() {
            is_needed(without(stringify!($clause)), $scenario);
        }
    )* };
}

clauses_are_needed! {
    covers_observed in OF_STATE,
    covers_presented in BESIDE,
    covers_writes in ABSENT,
    unknown_counts_as_happened in LATE,
    unknown_stays_open in LATE,
    news_before_answer in OF_STATE,
    tokenless_answer_waits in CONDITIONAL,
    snapshot_counts_closed in ABSENT,
    sent_not_received in OF_FRONT_END,
    freshens_the_one_in_hand in RACING,
    joiner_checks_snapshot in ABSENT,
    late_never_replaces in RACING_WITHOUT_TOKENS,
    callers_never_merged in OF_STATE,
    filters_match_fully in ABSENT,
}

/// For the table above: within how many seeds each scenario shows a clause needed.
/// `CLAUSE=freshens_the_one_in_hand SEEDS=200 cargo test --test suite -- --ignored --nocapture consistency::clauses::where_it_shows`
#[test]
#[ignore = "by hand, to choose scenarios"]
fn where_it_shows() {
    let text = |name| std::env::var(name).ok();
    let clause = text("CLAUSE").expect("set CLAUSE");
    let seeds = text("SEEDS").map_or(SEEDS, |text| text.parse().expect("a number"));
    let clauses = without(&clause);
    for scenario in every() {
        let off = Scenario { before: Before::Sidecar(clauses), ..*scenario };
        let shown = (0..seeds).find(|seed| {
            !run(&off, *seed).violations.is_empty() && run(scenario, *seed).violations.is_empty()
        });
        println!("{:<45} {shown:?}", scenario.name);
    }
}

fn every() -> impl Iterator<Item = &'static Scenario> {
    REGISTERS.iter().chain(&WRITERS_BESIDE).chain(&LEVELS).chain(&[LATE])
}
