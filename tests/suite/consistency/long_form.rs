//! Many seeds over all scenarios, on all cores, and what the rule costs beside the one that it replaced: a rule under which every
//! stored response must cover `newest`.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tagalong::internals::sync_token::clauses::Clauses;

use super::simulation::{Before, Run, Scenario, run};

/// Takes the place of the rule: whatever an answer brings is required of everything that is stored.
pub(crate) const NEWEST_REQUIRED: Clauses = Clauses { required_apart_from_newest: false, ..Clauses::ALL };

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) first_seed: u64,
    /// Spread over the scenarios in turn.
    pub(crate) seeds: u64,
    pub(crate) threads: usize,
    /// How many seeds of each scenario are run under the old rule as well.
    pub(crate) compared_each: u64,
}

/// What some runs came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) runs: u64,
    pub(crate) operations: u64,
    pub(crate) hits: u64,
    pub(crate) forwards: u64,
}

/// What the runs of one scenario came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) rule: Sum,
    /// Some of the same seeds, with all clauses.
    pub(crate) compared: Sum,
    /// Those under the old rule.
    pub(crate) newest_required: Sum,
}

/// Everything that came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) by_scenario: Vec<(&'static str, Sums)>,
    /// Runs with a violation, or that the checker gave up on, as they were printed.
    pub(crate) failed: Vec<String>,
}

impl Sum {
    fn add(&mut self, run: &Run) {
        self.runs += 1;
        self.operations += run.operations as u64;
        self.hits += run.hits as u64;
        self.forwards += run.origin_requests;
    }
}

impl fmt::Display for Sum {
    /// Each per run.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_run = |number: u64| number.checked_div(self.runs).unwrap_or(0);
        let (operations, hits, forwards) =
            (per_run(self.operations), per_run(self.hits), per_run(self.forwards));
        write!(to, "{operations:>5} {hits:>5} {forwards:>5}")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            to,
            "{:<45}  runs | per run: operations, hits, forwards | the same seeds | newest required",
            ""
        )?;
        for (name, Sums { rule, compared, newest_required }) in &self.by_scenario {
            writeln!(to, "{name:<45} {:>5} | {rule} | {compared} | {newest_required}", rule.runs)?;
        }
        write!(to, "{} runs with a violation or undecided", self.failed.len())
    }
}

/// Runs all of it. What fails is printed at once.
pub(crate) fn run_all(scenarios: &[&Scenario], extent: Extent) -> Outcome {
    let next = AtomicU64::new(0);
    let of_scenario = |scenario: &&Scenario| (scenario.name, Sums::default());
    let outcome =
        Mutex::new(Outcome { by_scenario: scenarios.iter().map(of_scenario).collect(), failed: Vec::new() });
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= extent.seeds {
                return;
            }
            let seed = extent.first_seed + number;
            let (round, which) = (number / scenarios.len() as u64, number % scenarios.len() as u64);
            let which = usize::try_from(which).expect("few scenarios");
            let scenario = scenarios[which];
            let done = run(scenario, seed);
            let old = (round < extent.compared_each)
                .then(|| run(&Scenario { before: Before::Sidecar(NEWEST_REQUIRED), ..*scenario }, seed));
            let mut outcome = outcome.lock().expect("no panic under it");
            let sums = &mut outcome.by_scenario[which].1;
            sums.rule.add(&done);
            if let Some(old) = old {
                sums.compared.add(&done);
                sums.newest_required.add(&old);
            }
            if !done.violations.is_empty() || done.undecided > 0 {
                println!("{done}");
                outcome.failed.push(done.to_string());
            }
        }
    };
    thread::scope(|scope| (0..extent.threads).for_each(|_| drop(scope.spawn(work))));
    outcome.into_inner().expect("no panic under it")
}
