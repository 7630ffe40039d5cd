//! Fleets of 2 to 50 sidecars under load, while their engine is slow, loses what it acknowledged, is cut off, and repeats itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tagalong::internals::clock::Timestamp;

use super::{Fleet, LEASE, put, target, version};

const KEYS: usize = 8;

/// What callers were told: of each key the last writes, each with the time at which its caller was answered.
#[derive(Default)]
struct Told {
    writes: Mutex<[Vec<(u64, Timestamp)>; KEYS]>,
}

impl Told {
    fn tell(&self, key: usize, version: u64, at: Timestamp) {
        self.writes.lock().unwrap()[key].push((version, at));
    }

    /// The newest version of a key that was told by then.
    fn floor(&self, key: usize, by: Timestamp) -> u64 {
        let writes = self.writes.lock().unwrap();
        writes[key].iter().filter(|(_, at)| *at <= by).map(|(version, _)| *version).max().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Counts {
    operations: usize,
    reads: usize,
    /// Reads through a member whose lease was live all the while.
    judged: usize,
    older: usize,
    errors: usize,
    failovers: usize,
}

#[derive(Clone, Copy)]
struct Load {
    members: usize,
    operations: usize,
    seed: u64,
    /// A write counts for others once its caller was answered, else this much later.
    slack: Duration,
    announce: &'static str,
}

async fn simulate(load: Load) -> Counts {
    let announce = format!("fleet.announce={}", load.announce);
    let fleet =
        Fleet::of(load.members, &[&announce, "upstream.freshness=5s", "upstream.settle_time=5s"]).await;
    let fleet = Arc::new(fleet);
    fastrand::seed(load.seed);
    fleet.store.set_way(15);
    fleet.engine.add_twice(5);
    for key in 0..KEYS {
        fleet.store.write(key, true);
    }
    tokio::time::sleep(super::LAG).await;
    let (told, counts) = (Arc::new(Told::default()), Arc::new(Mutex::new(Counts::default())));
    let mut draw = fastrand::Rng::with_seed(load.seed);
    // After a failover what was lost is known again beyond a lease and the second announcement.
    let unsettled_until = Arc::new(Mutex::new(fleet.clock.now()));
    let trouble = {
        let (fleet, counts, unsettled, mut draw) =
            (Arc::clone(&fleet), Arc::clone(&counts), Arc::clone(&unsettled_until), draw.fork());
        let loses = load.announce == "engine";
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(draw.u64(4_000..12_000))).await;
                match draw.u8(..4) {
                    0 => {
                        let member = draw.usize(..load.members);
                        fleet.engine.cut_off(member, true);
                        tokio::time::sleep(Duration::from_millis(draw.u64(100..4_000))).await;
                        fleet.engine.cut_off(member, false);
                    }
                    1 => {
                        fleet.engine.fail(Some(tagalong::internals::fleet::engine::EngineError::Away));
                        tokio::time::sleep(Duration::from_millis(draw.u64(100..3_000))).await;
                        fleet.engine.fail(None);
                    }
                    _ => {
                        fleet.engine.fail_over(draw.u64(..20), 30);
                        counts.lock().unwrap().failovers += 1;
                        if loses {
                            *unsettled.lock().unwrap() = fleet.clock.now().plus(LEASE * 3);
                        }
                    }
                }
            }
        })
    };
    let callers = (0..load.members.max(8)).map(|caller| {
        let (fleet, told, counts) = (Arc::clone(&fleet), Arc::clone(&told), Arc::clone(&counts));
        let (unsettled, mut draw) = (Arc::clone(&unsettled_until), draw.fork());
        tokio::spawn(async move {
            for _ in 0..load.operations / load.members.max(8) {
                tokio::time::sleep(Duration::from_millis(draw.u64(..400))).await;
                let (member, key) = ((caller + draw.usize(..3)) % load.members, draw.usize(..KEYS));
                if draw.u8(..40) == 0 {
                    fleet.store.write(draw.usize(..KEYS), true);
                }
                let sidecar = &fleet.sidecars[member];
                let began = fleet.clock.now();
                let is_write = draw.u8(..10) == 0;
                let request = if is_write { put(key) } else { format!("GET {}", target(key)) };
                let mut is_live = sidecar.member().is_live();
                let was_live = *is_live.borrow_and_update() && sidecar.member().has_live_lease();
                let floor = told.floor(key, began.minus(load.slack));
                let answer = sidecar.caller().await.send(&request).await;
                let is_judged = was_live && sidecar.member().has_live_lease() && !is_live.has_changed().unwrap();
                let mut counts = counts.lock().unwrap();
                counts.operations += 1;
                if answer.status != 200 {
                    eprintln!("{request} {} {} {:?}", answer.status, answer.text(), answer.field("cache-status"));
                    counts.errors += 1;
                    continue;
                }
                let version = version(&answer).unwrap();
                if is_write {
                    // Of what a member without a live lease writes the others learn when it is there again.
                    if is_judged {
                        told.tell(key, version, fleet.clock.now());
                    }
                    continue;
                }
                counts.reads += 1;
                if !is_judged || began < *unsettled.lock().unwrap() {
                    continue;
                }
                counts.judged += 1;
                if version < floor {
                    counts.older += 1;
                    if counts.older <= 3 {
                        eprintln!(
                            "seed {}: {began:?}: member {member} shows {version} of key {key}, told was {floor}: {:?}",
                            load.seed,
                            answer.field("cache-status")
                        );
                    }
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    trouble.abort();
    std::mem::take(&mut *counts.lock().unwrap())
}

fn check(load: Load, counts: &Counts) {
    eprintln!("seed {}, {} members, {}: {counts:?}", load.seed, load.members, load.announce);
    assert_eq!((counts.older, counts.errors), (0, 0), "seed {}", load.seed);
    assert!(counts.judged * 4 > counts.reads, "{counts:?}");
}

/// The loads of so many operations: fleets of all sizes.
fn loads(announce: &'static str, runs: u64, operations: usize) -> impl Iterator<Item = Load> {
    let slack = if announce == "all" { Duration::ZERO } else { LEASE };
    let sizes = [2, 3, 5, 9, 20, 50].into_iter().cycle();
    (1..=runs).zip(sizes).map(move |(seed, members)| Load { members, operations, seed, slack, announce })
}

#[tokio::test(start_paused = true)]
async fn with_announce_all_no_member_with_a_live_lease_shows_anything_older() {
    for load in loads("all", 4, 1_500) {
        check(load, &simulate(load).await);
    }
}

#[tokio::test(start_paused = true)]
async fn with_announce_engine_nothing_is_older_than_the_lease() {
    for load in loads("engine", 4, 1_500) {
        check(load, &simulate(load).await);
    }
}

/// `cargo test --release --test suite -- --ignored --nocapture fleet::simulation::a_million_operations`
#[tokio::test(start_paused = true)]
#[ignore = "by hand: two million operations"]
async fn a_million_operations() {
    for announce in ["all", "engine"] {
        let mut all = Counts::default();
        for load in loads(announce, 100, 10_000) {
            let counts = simulate(load).await;
            check(load, &counts);
            all.operations += counts.operations;
            all.reads += counts.reads;
            all.judged += counts.judged;
            all.failovers += counts.failovers;
        }
        eprintln!("announce = {announce:?}: {all:?}");
    }
}

/// How many requests reach the origin when so many callers, spread over so many members, ask for a few keys once a second.
async fn origin_requests(members: usize, callers: usize, seconds: u64) -> usize {
    let fleet = Arc::new(Fleet::of(members, &["upstream.freshness=5s"]).await);
    fleet.store.set_way(10);
    for key in 0..KEYS {
        fleet.store.write(key, true);
    }
    // Long ago, as most values are.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let callers = (0..callers).map(|caller| {
        let (fleet, member) = (Arc::clone(&fleet), caller % members);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..1_000))).await;
            for _ in 0..seconds {
                for key in 0..KEYS {
                    assert_eq!(fleet.read(member, key).await.1.status, 200);
                }
                tokio::time::sleep(Duration::from_millis(fastrand::u64(900..1_100))).await;
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    // The first reads of all keys are another matter.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = fleet.store.requests().0;
    for caller in callers {
        caller.await.unwrap();
    }
    fleet.store.requests().0 - before
}

async fn compare_origin_requests(members: usize, seconds: u64) {
    let one = origin_requests(1, members, seconds).await;
    let many = origin_requests(members, members, seconds).await;
    eprintln!(
        "origin requests of one sidecar {one}, of {members} {many}, ratio {:.3}",
        many as f64 / one as f64
    );
    assert!(many as f64 <= 1.1 * one as f64, "{many} and {one}");
}

#[tokio::test(start_paused = true)]
async fn fifteen_sidecars_ask_the_origin_as_often_as_one() {
    compare_origin_requests(15, 90).await;
}

/// `cargo test --release --test suite -- --ignored --nocapture fleet::simulation::a_thousand_sidecars`
#[tokio::test(start_paused = true)]
#[ignore = "by hand: a thousand sidecars"]
async fn a_thousand_sidecars_ask_the_origin_as_often_as_one() {
    compare_origin_requests(1_000, 90).await;
}
