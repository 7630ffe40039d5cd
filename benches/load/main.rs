//! What an origin is asked while many callers read through one sidecar and its sequence numbers rise by themselves.
//!
//! ```text
//! cargo bench --bench load                 every scenario as it is named, three minutes
//! cargo bench --bench load -- --short      the same with shorter intervals, half a minute
//! cargo bench --bench load -- --report     prints, and does not fail for a scenario over its bound
//! BINARY=PATH cargo bench --bench load     the same with another program than the one that is built with it
//! ```
//!
//! The emulator and the sidecar of each scenario are processes of their own, at level `session`; all scenarios run at the
//! same time. The key-values are older than the sidecar. Requests look like those of an SDK: each has a request id of its own.
//! The emulator's `sn` drifts 1.25 a second.
//!
//! **The least.** A key that is read all the time must be asked for at least once when it is first read, once in
//! each further freshness lifetime, and once after each change to it. What the emulator was asked, by its own
//! `/__emulator/counts`, writes left out, must stay within the bound.
//!
//! | scenario | keys | bound |
//! |---|---|---|
//! | `forty`, `forty-tokens` | 40, one read a second each, freshness 10 s, callers without tokens and with | 1.15 × the least and the first round |
//! | `hundred` | 100, one read a second each, freshness 30 s, three minutes | 1.1 ×, and one validation ahead for each key |
//! | `lists-through`, `lists-beside` | 100, 20 callers that poll a list each freshness, one write every 2 s through the sidecar or beside it, two minutes | 1.1 × the least singly |
//! | `outside-change` | 100, one change beside the sidecar that one caller reads with `no-cache`, within one freshness | one validation a key, and that read |
//! | `thousand`, `thousand-beside`, `thousand-through` | one, 1,000 callers that read it every 2 s, freshness 30 s, two minutes; no write, or one every 2 s | the least, and one lifetime more; where it is written through the sidecar, one more a change, for reads while the write is open |
//!
//! In every scenario: answers with a body (200) are at most the first of each resource and one for each change, all
//! others are 304; no caller is shown an older state than any caller was shown before; and nothing older than the level allows is
//! shown: what was written through the sidecar is read from then on, what was written beside it a lifetime later.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and stops at the first surprise"
)]

mod caller;
mod connection;
mod scenario;
mod server;

use std::cell::Cell;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::rc::Rc;

use tokio::task::LocalSet;
use tokio::time::sleep;

use caller::{Seen, Shared, call, write};
use connection::{Connection, target};
use scenario::{SCENARIOS, Scenario, Writes};
use server::{Process, seed};

/// For the scenarios of a thousand callers, in the sidecar.
const CONNECTIONS_LIMIT: usize = 1_100;
/// Open files that three thousand callers need here.
const OPEN_FILES: usize = 4_096;
/// Set in the environment once the limit of open files is raised.
const RAISED: &str = "LOAD_BENCH_RAISED";

fn main() -> ExitCode {
    if std::env::var_os(RAISED).is_none() {
        return run_with_more_files();
    }
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let (short, report) = (has("--short"), has("--report"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let held = runtime.block_on(LocalSet::new().run_until(async {
        let running = SCENARIOS.map(|scenario| {
            let scenario = if short { scenario.shortened() } else { scenario };
            tokio::task::spawn_local(measure(scenario))
        });
        let mut held = true;
        for scenario in running {
            held &= scenario.await.expect("a scenario that ends");
        }
        held
    }));
    if held || report { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Becomes this program anew under a higher limit of open files, where the system allows it; many start with 1,024.
fn run_with_more_files() -> ExitCode {
    let script =
        format!("[ $(ulimit -n) -ge {OPEN_FILES} ] || ulimit -S -n {OPEN_FILES}; exec \"$0\" \"$@\"");
    let own = std::env::current_exe().expect("the path of this program");
    let error = Command::new("sh")
        .args(["-c", &script])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(RAISED, "1")
        .exec();
    panic!("sh does not start: {error}")
}

/// Runs a scenario, prints what was found, and says whether it is within its bound.
async fn measure(scenario: Scenario) -> bool {
    let seed = seed(scenario.keys);
    let (_emulator, [origin_port, origin_admin_port]) = Process::start(|[port, admin_port]| {
        format!(
            "emulator --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin_port} --drift 1.25 --seed {}",
            seed.path().display()
        )
    })
    .await;
    let (_sidecar, [port, _]) = Process::start(|[port, admin_port]| {
        format!(
            "run --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin_port} --upstream http://127.0.0.1:{origin_port} \
             --profile app-configuration --credential none --consistency session --freshness {}s",
            scenario.freshness.as_secs()
        )
    })
    .await;
    let beside = Connection::open(origin_port, false).await;
    let shared =
        Rc::new(Shared { scenario, port, over: Cell::new(false), seen: Seen::nothing(scenario.keys) });
    if scenario.writes == Writes::Once {
        // All keys are in use, and validated not long ago, before the change: what follows it is its doing.
        let mut reader = Connection::open(port, false).await;
        for key in 0..scenario.keys {
            reader.get(&target(key)).await;
        }
    }
    let mut counts = Connection::open(origin_admin_port, false).await;
    counts.exchange("DELETE /__emulator/counts", "").await;
    let callers: Vec<_> = (0..scenario.callers)
        .map(|number| tokio::task::spawn_local(call(number, Rc::clone(&shared))))
        .collect();
    let through = Connection::open(port, false).await;
    let writer = if scenario.writes == Writes::Through { through } else { beside };
    let writer = tokio::task::spawn_local(write(writer, Rc::clone(&shared)));
    sleep(scenario.duration).await;
    shared.over.set(true);
    for caller in callers {
        caller.await.expect("a caller that ends");
    }
    writer.await.expect("a writer that ends");
    let report = counts.exchange("GET /__emulator/counts", "").await;
    conclude(&shared, &report)
}

fn conclude(shared: &Shared, report: &str) -> bool {
    let (scenario, seen) = (shared.scenario, &shared.seen);
    let (_, report) = report.split_once("\r\n\r\n").expect("a body");
    let report: serde_json::Value = serde_json::from_str(report).expect("JSON");
    let of = |kind: &str, status: &str| report["requests"][kind][status].as_u64().unwrap_or(0);
    let all_of = |kind: &str| {
        let statuses = report["requests"][kind].as_object();
        statuses
            .into_iter()
            .flat_map(|statuses| statuses.values())
            .filter_map(serde_json::Value::as_u64)
            .sum::<u64>()
    };
    let (single, list) = ("GET /kv/{key}", "GET /kv");
    let (singles, lists) = (all_of(single), all_of(list));
    let asked = singles + lists;
    let (bodies, list_bodies) = (of(single, "200"), of(list, "200"));
    let validated = of(single, "304") + of(list, "304");
    let changes = seen.changes.get();
    let least = scenario.least(changes);
    let ratio = asked as f64 / least as f64;
    let allowed_more = scenario.allowed_more + changes * scenario.allowed_per_change;
    let bound = scenario.allowed_ratio * least as f64 + allowed_more as f64;
    // A resource comes whole when it is first asked for and after a change; one that was read before counting began, after changes.
    let firsts = if scenario.writes == Writes::Once { 0 } else { scenario.keys as u64 };
    let bodies_are_due =
        bodies <= firsts + changes && list_bodies <= u64::from(scenario.polls_lists) + changes;
    // A change that no caller was shown would cost nothing, and the run would prove nothing.
    let is_shown = scenario.writes == Writes::None || seen.newest.borrow().iter().any(|newest| *newest > 0);
    let held = asked as f64 <= bound
        && bodies_are_due
        && asked == bodies + list_bodies + validated
        && is_shown
        && seen.went_back.get() == 0
        && seen.too_old.get() == 0
        && seen.requests.get() > asked;
    println!(
        "{:<16} {asked} origin requests ({lists} of lists; {bodies} and {list_bodies} with a body) for {} of {} callers; \
         least {least}; ratio {ratio:.3}; bound {bound:.0}; {changes} changes; {} went back; {} too old; {}",
        scenario.name,
        seen.requests.get(),
        scenario.callers,
        seen.went_back.get(),
        seen.too_old.get(),
        if held { "held" } else { "NOT HELD" },
    );
    held
}
