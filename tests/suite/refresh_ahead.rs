//! Refresh ahead: callers of what is in use do not wait for the origin, and what is not in use costs nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tagalong::internals::clock::instant;

use crate::support::answer::{Answer, Step};
use crate::support::scene::Scene;

const ORIGIN_TAKES: Duration = Duration::from_millis(20);
const OFF: [&str; 1] = ["upstream.refresh_ahead=false"];

/// An origin that takes 20 ms for each answer.
fn slow(message: &str) -> Answer {
    Answer { steps: vec![Step::Delay(ORIGIN_TAKES), Step::Message(message.to_owned())] }
}

struct Load {
    keys: usize,
    callers: usize,
    requests_per_second: f64,
    seconds: f64,
    seed: u64,
}

/// What a load found: the latencies in order, and the requests that the origin got for it.
struct Found {
    latencies: Vec<Duration>,
    origin_requests: usize,
}

impl Found {
    /// The latency that so many thousandths of the requests did not exceed.
    fn permille(&self, thousandths: usize) -> Duration {
        self.latencies[(self.latencies.len() - 1) * thousandths / 1_000]
    }
}

/// Callers that ask at random times for random keys, after a first lifetime that is not counted.
async fn run(scene: Scene, message: &str, load: &Load) -> Found {
    let scene = Arc::new(scene);
    scene.origin.otherwise(slow(message));
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let (began, warm) = (instant(), Duration::from_secs(1));
    let (counted_from, ends) = (began + warm, began + warm + Duration::from_secs_f64(load.seconds));
    let callers = (0..load.callers).map(|number| {
        let (scene, latencies) = (Arc::clone(&scene), Arc::clone(&latencies));
        let mut draw = fastrand::Rng::with_seed(load.seed + number as u64);
        let (keys, mean) = (load.keys, load.callers as f64 / load.requests_per_second);
        tokio::spawn(async move {
            let mut caller = scene.caller().await;
            let (mut due, mut answered) = (began, began);
            loop {
                due += Duration::from_secs_f64(-mean * (1.0 - draw.f64()).ln());
                tokio::time::sleep_until(due).await;
                // A timer may be late, and is not counted; an earlier answer that is late delays this request, and is.
                let sent = if answered > due { due } else { instant() };
                if due >= ends {
                    return;
                }
                let answer = caller.send(&format!("GET /{}", draw.usize(..keys))).await;
                assert_eq!(answer.status, 200);
                answered = instant();
                if due >= counted_from {
                    latencies.lock().unwrap().push(answered - sent);
                }
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    tokio::time::sleep_until(counted_from).await;
    let before = scene.origin.requests().len();
    for caller in callers {
        caller.await.unwrap();
    }
    let origin_requests = scene.origin.requests().len() - before;
    let mut latencies = std::mem::take(&mut *latencies.lock().unwrap());
    latencies.sort();
    Found { latencies, origin_requests }
}

async fn compared(message: &str, load: &Load) -> (Found, Found) {
    let with = run(Scene::paused(&[]), message, load).await;
    told(load, with, run(Scene::paused(&OFF), message, load).await)
}

fn told(load: &Load, with: Found, without: Found) -> (Found, Found) {
    eprintln!(
        "seed {}: p50 {:?} and {:?}, p99 {:?} and {:?}, origin requests {} and {} with and without refresh ahead",
        load.seed,
        with.permille(500),
        without.permille(500),
        with.permille(990),
        without.permille(990),
        with.origin_requests,
        without.origin_requests
    );
    (with, without)
}

#[tokio::test(start_paused = true)]
async fn callers_of_what_is_in_use_do_not_wait() {
    let load = Load { keys: 100, callers: 50, requests_per_second: 2_000.0, seconds: 10.0, seed: 1 };
    let (with, without) = compared("200\nCache-Control: max-age=1\nETag: \"a\"\n\nvalue", &load).await;
    assert!(with.permille(990) <= Duration::from_millis(1), "{:?}", with.permille(990));
    assert!(without.permille(990) >= Duration::from_millis(10), "{:?}", without.permille(990));
    assert!(with.origin_requests as f64 <= 1.1 * without.origin_requests as f64);
}

/// `cargo test --release --test suite -- --ignored --nocapture refresh_ahead::in_real_time`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "by hand: it measures time"]
async fn in_real_time() {
    let load = Load { keys: 100, callers: 50, requests_per_second: 2_000.0, seconds: 20.0, seed: 4 };
    let message = "200\nCache-Control: max-age=1\nETag: \"a\"\n\nvalue";
    let with = run(Scene::in_real_time(&[]).await, message, &load).await;
    let without = run(Scene::in_real_time(&OFF).await, message, &load).await;
    let (with, without) = told(&load, with, without);
    // The same load where nothing is ever validated: what this machine adds to each answer.
    let lasting = "200\nCache-Control: max-age=1000\nETag: \"a\"\n\nvalue";
    let hits_alone = run(Scene::in_real_time(&[]).await, lasting, &load).await.permille(990);
    eprintln!("p99 of hits alone {hits_alone:?}");
    assert!(with.permille(990) <= hits_alone + Duration::from_millis(1), "{:?}", with.permille(990));
    assert!(without.permille(990) >= Duration::from_millis(10));
    assert!(with.origin_requests as f64 <= 1.1 * without.origin_requests as f64);
}

#[tokio::test(start_paused = true)]
async fn so_it_is_under_stale_while_revalidate() {
    let load = Load { keys: 100, callers: 50, requests_per_second: 2_000.0, seconds: 10.0, seed: 2 };
    let message = "200\nCache-Control: max-age=1, stale-while-revalidate=5\nETag: \"a\"\n\nvalue";
    let (with, without) = compared(message, &load).await;
    assert!(with.permille(999) <= Duration::from_millis(1));
    assert!(with.origin_requests as f64 <= 1.1 * without.origin_requests as f64);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_seldom_costs_no_more() {
    // Each key about once in a lifetime and a quarter.
    let load = Load { keys: 200, callers: 20, requests_per_second: 160.0, seconds: 20.0, seed: 3 };
    let (with, without) = compared("200\nCache-Control: max-age=1\nETag: \"a\"\n\nvalue", &load).await;
    assert!(with.origin_requests as f64 <= 1.1 * without.origin_requests as f64);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_any_more_costs_nothing() {
    let scene = Scene::paused(&[]);
    scene.origin.otherwise(slow("200\nCache-Control: max-age=10\nETag: \"a\"\n\nvalue"));
    let mut caller = scene.caller().await;
    for _ in 0..30 {
        caller.send("GET /a").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let asked = scene.origin.requests().len();
    assert!((3..=5).contains(&asked), "{asked}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(scene.origin.requests().len() <= asked + 1, "one validation may have been due");
}

#[tokio::test(start_paused = true)]
async fn a_credential_of_a_caller_is_not_used_later() {
    let scene = Scene::paused(&["upstream.credential.kind=forward"]);
    scene.origin.otherwise(slow("200\nCache-Control: private, max-age=10\nETag: \"a\"\n\nvalue"));
    let mut caller = scene.caller().await;
    for _ in 0..9 {
        caller.send("GET /a\nAuthorization: Bearer callers").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(scene.origin.requests().len(), 1);
}
