//! One seed, one run: a simulated origin, a sidecar before it, callers, and what the checkers say about it.
//!
//! Everything happens on one thread in simulated time, so a run is the same whenever its seed is run again.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tagalong::internals::config::caching::Consistency;
use tagalong::internals::sync_token::clauses::Clauses;
use tagalong::internals::transport::dial::Dial;

use super::callers::{Environment, Front, Habits, Record, run_caller, run_provider};
use super::checker::{Verdict, check};
use super::foreign_timeline;
use super::fronts;
use super::history::{Event, History, Outcome, print};
use super::issued_tokens::Tokens;
use super::monotonic::{self, Truth};
use super::one_state;
use super::origin::{Faults, OriginPlan, SimulatedOrigin};
use super::shrink::shrink;
use super::timeline::Timeline;
use super::transport::InMemory;

/// What answers the callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// The origin itself: the callers see how it lags.
    Nothing,
    /// The sidecar with these clauses of the coverage rule.
    Sidecar(Clauses),
}

/// What the sidecar takes the origin for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    AppConfiguration,
    Generic,
}

/// What the runs of one test have in common; the rest is drawn from the seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) before: Before,
    pub(crate) api: Api,
    pub(crate) level: Consistency,
    pub(crate) tokens: Tokens,
    /// How fast the sequence number rises by itself, in thousandths of one a second.
    pub(crate) drift_millihertz: u32,
    /// Whether a 304 of App Configuration names its tag.
    pub(crate) tagged_304: bool,
    /// Items on a page of a list.
    pub(crate) page_size: usize,
    /// The sidecar mirrors the whole store.
    pub(crate) mirrored: bool,
    /// The origin is the emulator of this crate.
    pub(crate) emulated: bool,
    pub(crate) habits: Habits,
    pub(crate) faults: Faults,
    /// Keys, of the first letters `a` and `b` in turn; lists are of one letter.
    pub(crate) keys: usize,
    pub(crate) callers: (u16, u16),
    /// Configuration providers among them, whose sentinel is the first key.
    pub(crate) providers: u16,
    pub(crate) operations_each: (usize, usize),
    pub(crate) usual_delay: Duration,
    pub(crate) slow_delay: Duration,
    pub(crate) slow: u32,
    /// Lag of the replicas at most.
    pub(crate) lag: Duration,
    /// Lifetime of what is stored.
    pub(crate) lifetime: Duration,
    pub(crate) restarts: u32,
    /// Longer than any replica lags, and than any effect is late.
    pub(crate) settle_time: Duration,
    /// Writes beside the sidecar: then the claims are monotonic reads of each key, one timeline of foreign writes over all keys, and
    /// bounded staleness.
    pub(crate) writes_beside: u32,
    /// Deployments beside the sidecar: some keys are written, and then the sentinel.
    pub(crate) deployments: u32,
    /// Runs whose store has room for two or three responses, in thousandths.
    pub(crate) tiny_store: u32,
}

/// Deadlines of the sidecar in a simulation.
pub(crate) const HEADER_DEADLINE: Duration = Duration::from_secs(4);

/// What came of one run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) scenario: &'static str,
    pub(crate) history: History,
    /// What the rule forbids, with the smallest part of the history that shows it.
    pub(crate) violations: Vec<String>,
    /// Keys for which the checker gave up.
    pub(crate) undecided: usize,
    pub(crate) operations: usize,
    pub(crate) hits: usize,
    pub(crate) unanswered: usize,
    pub(crate) origin_requests: u64,
    pub(crate) simulated: Duration,
}

impl fmt::Display for Run {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            to,
            "scenario {} seed {}: {} operations in {:?} simulated; {} hits, {} origin requests, {} unanswered",
            self.scenario,
            self.seed,
            self.operations,
            self.simulated,
            self.hits,
            self.origin_requests,
            self.unanswered
        )?;
        if self.undecided > 0 {
            writeln!(to, "{} keys undecided", self.undecided)?;
        }
        self.violations.iter().try_for_each(|violation| writeln!(to, "{violation}"))
    }
}

/// Runs one seed.
pub(crate) fn run(scenario: &Scenario, seed: u64) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs no resources");
    runtime.block_on(simulate(scenario, seed))
}

async fn simulate(scenario: &Scenario, seed: u64) -> Run {
    let mut rng = fastrand::Rng::with_seed(seed);
    let timeline = Arc::new(Timeline::begin());
    let lag = |rng: &mut fastrand::Rng| match micros(scenario.lag) {
        0 => Duration::ZERO,
        most => Duration::from_micros(rng.u64(0..=most)),
    };
    let plan = OriginPlan {
        tokens: scenario.tokens,
        drift_millihertz: scenario.drift_millihertz,
        // RFC 9110 §15.4.5 demands it of other APIs.
        tagged_304: scenario.tagged_304 || scenario.api == Api::Generic,
        emulated: scenario.emulated,
        page_size: scenario.page_size,
        lags: [lag(&mut rng), lag(&mut rng), lag(&mut rng)],
        usual_delay: scenario.usual_delay,
        slow_delay: scenario.slow_delay,
        slow: scenario.slow,
        faults: scenario.faults,
        beyond_deadlines: HEADER_DEADLINE * 2,
        latest_effect: scenario.settle_time - Duration::from_secs(1),
        max_age: (scenario.api == Api::Generic)
            .then(|| u32::try_from(scenario.lifetime.as_secs()).unwrap_or(0)),
    };
    let origin = Arc::new(SimulatedOrigin::new(plan, Arc::clone(&timeline), rng.u64(..)));
    let dial: Arc<dyn Dial> =
        Arc::new(InMemory { origin: Arc::clone(&origin), timeline: Arc::clone(&timeline) });
    let store_limit_bytes = if rng.u32(0..1000) < scenario.tiny_store { 3 * 1024 } else { 1 << 20 };
    let front: Arc<dyn Front> = match scenario.before {
        Before::Nothing => Arc::new(fronts::Directly::new(dial, HEADER_DEADLINE)),
        Before::Sidecar(clauses) => {
            Arc::new(fronts::Sidecar::new(scenario, clauses, store_limit_bytes, dial, &timeline))
        }
    };
    let keys = (0..scenario.keys).map(|n| format!("{}{}", if n % 3 == 2 { 'b' } else { 'a' }, n)).collect();
    let around = Arc::new(Environment {
        front,
        origin: Arc::clone(&origin),
        timeline: Arc::clone(&timeline),
        keys,
        habits: scenario.habits,
        record: Mutex::new(Record::default()),
    });

    let callers = rng.u16(scenario.callers.0..=scenario.callers.1);
    let running: Vec<_> = (0..callers)
        .map(|number| {
            let operations = rng.usize(scenario.operations_each.0..=scenario.operations_each.1);
            let (seed, around) = (rng.u64(..), Arc::clone(&around));
            if number < scenario.providers {
                tokio::spawn(run_provider(number, operations, seed, around))
            } else {
                tokio::spawn(run_caller(number, operations, seed, around))
            }
        })
        .collect();
    let weather = tokio::spawn(weather(*scenario, rng.fork(), Arc::clone(&around)));
    for caller in running {
        caller.await.expect("a caller does not panic");
    }
    weather.abort();
    let simulated = timeline.now().at;
    judge(scenario, seed, &around, simulated)
}

/// Restarts of the origin, and writers beside the sidecar.
async fn weather(scenario: Scenario, mut rng: fastrand::Rng, around: Arc<Environment>) {
    let mut value = 1_000_000;
    loop {
        tokio::time::sleep(Duration::from_micros(rng.u64(1_000..400_000))).await;
        if rng.u32(0..1000) < scenario.restarts {
            around.origin.restart(Duration::from_millis(rng.u64(0..1_500)));
        }
        if rng.u32(0..1000) < scenario.writes_beside {
            value += 1;
            let key = &around.keys[rng.usize(0..around.keys.len())];
            around.origin.write_beside(key, (rng.u32(0..6) > 0).then_some(value));
        }
        if rng.u32(0..1000) < scenario.deployments {
            for _ in 0..rng.u32(1..4) {
                value += 1;
                let key = &around.keys[rng.usize(1..around.keys.len().max(2)) % around.keys.len()];
                around.origin.write_beside(key, (rng.u32(0..6) > 0).then_some(value));
                tokio::time::sleep(Duration::from_micros(rng.u64(0..50_000))).await;
            }
            value += 1;
            around.origin.write_beside(&around.keys[0], Some(value));
        }
    }
}

fn judge(scenario: &Scenario, seed: u64, around: &Environment, simulated: Duration) -> Run {
    let mut record = std::mem::take(&mut *around.record.lock().expect("no panic under it"));
    let truth = around.origin.truth();
    let mut run = Run {
        seed,
        scenario: scenario.name,
        violations: Vec::new(),
        undecided: 0,
        operations: record.operations,
        hits: record.hits,
        unanswered: record.unanswered,
        origin_requests: around.origin.requests(),
        simulated,
        history: std::mem::take(&mut record.history),
    };
    if scenario.before != Before::Nothing {
        run.violations.extend(record.oddities);
        run.violations.extend(one_state::first_torn(&record.lists, &truth));
    }
    if scenario.writes_beside + scenario.deployments > 0 {
        run.violations.extend(monotonic::first_step_backwards(&run.history, &truth));
        // Resources that are not declared as related have each a timeline of its own.
        if scenario.api == Api::AppConfiguration {
            run.violations.extend(foreign_timeline::first_violation(&run.history, &truth));
        }
        let bound = scenario.lifetime.max(HEADER_DEADLINE * 2) + scenario.lag;
        run.violations.extend(monotonic::first_beyond(&run.history, &truth, bound));
    } else {
        judge_as_registers(scenario, around, &mut run);
    }
    // At bounded staleness a token that is known already demands nothing.
    let demands = record.demands.iter().filter(|_| scenario.level != Consistency::BoundedStaleness);
    let unheeded = demands.into_iter().find(|demand| ignored(demand, &truth, &around.origin));
    run.violations.extend(unheeded.map(|demand| {
        format!("{}: a presented token was not respected\n{}", demand.key, print(&[demand.event]))
    }));
    run
}

fn judge_as_registers(scenario: &Scenario, around: &Environment, run: &mut Run) {
    for (key, events) in &run.history.keys {
        let provable = provable(scenario, around, key, events);
        match check(&provable) {
            Verdict::Linearizable => {}
            Verdict::Undecided => run.undecided += 1,
            Verdict::Violation(_) => {
                let core = print(&shrink(&provable));
                run.violations.push(format!("{key} is not a register:\n{core}"));
            }
        }
    }
}

/// Without the refusals that stay outside the proof (see config/GUIDE.md): after a write of which the sidecar itself never learned
/// the outcome, nothing says whether a 412 tells of it.
fn provable(scenario: &Scenario, around: &Environment, key: &str, events: &[Event]) -> Vec<Event> {
    let outside = |event: &Event| {
        let Some(responded) = event.responded else { return false };
        event.outcome == Outcome::Refused
            && scenario.tokens.tell_states_apart()
            && around.origin.gave_up_before(key, responded.order)
    };
    events.iter().filter(|event| !outside(event)).copied().collect()
}

/// Whether a reading shows an earlier state than the token that came with it demands, although no front end that was asked
/// with it meanwhile failed to understand it.
fn ignored(demand: &super::callers::Demand, truth: &Truth, origin: &SimulatedOrigin) -> bool {
    let (Outcome::Shown(shown), Some(responded)) = (demand.event.outcome, demand.event.responded) else {
        return false;
    };
    if origin.ignored_within(&demand.token, demand.event.invoked.order, responded.order) {
        return false;
    }
    let least = truth.position_at(&demand.key, demand.includes);
    truth.latest_position(&demand.key, shown, responded.order).is_none_or(|position| position < least)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("short")
}
