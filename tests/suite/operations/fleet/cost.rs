//! What membership costs a process, and what the members cost the engine. By hand:
//!
//! ```text
//! cargo test --release --test suite -- --ignored --nocapture operations::fleet::cost
//! ```

use std::time::Duration;

use super::{Engine, LEASE, MEMBERS, Processes, get, has_engine, metric, put};
use crate::operations::process::{Process, cpu_time, memory_kib};

const WRITES: usize = 2_000;

/// For how long idle processes are watched.
const WATCHED: Duration = Duration::from_secs(30);

/// The memory of its own that a member may have beyond a sidecar without a fleet. The pages of the program, which all sidecars of a machine
/// share, are told beside it.
const MOST_MORE_KIB: u64 = 1_024;

/// Writes and reads through the first process, each read through all of them. Returns the own memory of each and its pages of files, in KiB.
async fn busy_kib(processes: &Processes) -> Vec<(u64, u64)> {
    let mut callers = processes.callers().await;
    for write in 0..WRITES {
        put(&mut callers[0], write % 10).await;
        for caller in &mut callers {
            get(caller, write % 10).await;
        }
    }
    let of = |process: &Process| (memory_kib(process.id(), "RssAnon"), memory_kib(process.id(), "RssFile"));
    processes.members.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; by hand"]
async fn a_member_takes_at_most_a_mebibyte_more() {
    assert!(has_engine());
    let alone = busy_kib(&Processes::start(1, None, &[]).await).await;
    for more in [&["--set", "fleet.second_level=false"][..], &[]] {
        let engine = Engine::start(&[]);
        let of_one = busy_kib(&Processes::start(1, Some(&engine.url()), more).await).await;
        let of_two = busy_kib(&Processes::start(2, Some(&engine.url()), more).await).await;
        eprintln!(
            "after {WRITES} writes, {more:?}: {alone:?} KiB alone, {of_one:?} in a fleet of one, {of_two:?} of two"
        );
        for (member, _) in of_one.into_iter().chain(of_two) {
            assert!(member <= alone[0].0 + MOST_MORE_KIB, "{member} KiB, {alone:?} alone");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; by hand"]
async fn idle_members_take_little_of_a_core() {
    assert!(has_engine());
    let engine = Engine::start(&[]);
    let fleet = Processes::start(MEMBERS, Some(&engine.url()), &[]).await;
    let ids = fleet.members.iter().map(Process::id).chain([engine.process.id()]);
    let ids: Vec<u32> = ids.collect();
    let before: Vec<Duration> = ids.iter().map(|id| cpu_time(*id)).collect();
    tokio::time::sleep(WATCHED).await;
    let shares =
        ids.iter().zip(before).map(|(id, before)| (cpu_time(*id) - before).div_duration_f64(WATCHED));
    let mut shares: Vec<f64> = shares.collect();
    let of_the_engine = shares.pop().unwrap() / MEMBERS as f64;
    eprintln!(
        "idle, of a core: each member {shares:.5?}, the engine {of_the_engine:.5} a member, lease {LEASE:?}"
    );
    assert!(shares.iter().all(|share| *share <= 0.005) && of_the_engine <= 0.005);
}

/// How long an announcement takes, as the member itself counts it, beside what it adds to a write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; by hand"]
async fn a_write_takes_one_question_to_the_engine_longer() {
    assert!(has_engine());
    let engine = Engine::start(&[]);
    let alone = Processes::start(1, None, &[]).await;
    let of_one = Processes::start(1, Some(&engine.url()), &[]).await;
    let mut callers = [alone.callers().await.remove(0), of_one.callers().await.remove(0)];
    let mut latencies = [Vec::new(), Vec::new()];
    for write in 0..WRITES {
        for (caller, latencies) in callers.iter_mut().zip(&mut latencies) {
            let began = tagalong::internals::clock::instant();
            put(caller, write % 10).await;
            latencies.push(began.elapsed());
        }
    }
    let [without, with] = latencies.map(|mut latencies| {
        latencies.sort();
        latencies[WRITES / 2]
    });
    let sum = metric(&of_one.members[0], "tagalong_fleet_announce_seconds_sum{upstream=\"main\"}").unwrap();
    let announce = sum / WRITES as f64 * 1_000.0;
    eprintln!(
        "median of a write {with:?} in a fleet of one, {without:?} without; an announcement {announce:.3} ms on average"
    );
}
