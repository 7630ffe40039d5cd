//! Each clause of the rule is needed: taken away, the checker finds a violation within few seeds and shows its smallest part;
//! with all clauses on, the same seeds show none.

use tagalong::sync_token::clauses::Clauses;

use super::origin::Faults;
use super::scenarios::{ABSENT, BESIDE, CONDITIONAL, FAULTS, OF_STATE, RACING, SETTLED};
use super::simulation::{Before, Scenario};
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
    ($($clause:ident in $scenario:ident,)*) => { $(
        #[test]
        fn $clause() {
            is_needed(Clauses { $clause: false, ..ALL }, $scenario);
        }
    )* };
}

clauses_are_needed! {
    covers_required in SETTLED,
    first_answers_show_change in SETTLED,
    exempts_only_dated_singles in SETTLED,
    covers_presented in BESIDE,
    covers_writes in ABSENT,
    unknown_counts_as_happened in LATE,
    unknown_stays_open in LATE,
    news_before_answer in OF_STATE,
    tokenless_answer_waits in CONDITIONAL,
    snapshot_counts_closed in ABSENT,
    freshens_the_one_in_hand in RACING,
    joiner_checks_snapshot in ABSENT,
    callers_never_merged in OF_STATE,
    filters_match_fully in ABSENT,
}
