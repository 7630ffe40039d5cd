//! The budget of requests: an origin with a quota, and callers who ask for five times as much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tagalong::internals::clock::instant;

use crate::support::answer::Answer;
use crate::support::scene::Scene;

const APP: [&str; 2] = ["upstream.profile=app-configuration", "upstream.freshness=2s"];

fn message(number: usize) -> String {
    format!("200\nContent-Type: application/json\nETag: \"{number}\"\n\n{{\"value\":\"{number}\"}}")
}

/// What an origin saw of a load.
#[derive(Debug)]
struct Found {
    origin_requests: usize,
    answers: usize,
    refused: usize,
    most_age_seconds: u64,
    most_stretch: f64,
    used_ratio: f64,
    avoided: f64,
}

/// `keys` are read twice in each `lifetime` for `seconds`, and one is written every `seconds / writes`.
async fn load(scene: &Arc<Scene>, keys: usize, lifetime: Duration, seconds: u64, writes: u64) -> Found {
    let ends = instant() + Duration::from_secs(seconds);
    let (answers, refused, oldest) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let before = scene.origin.requests().len();
    let readers: Vec<_> = (0..keys)
        .map(|key| {
            let (scene, answers) = (Arc::clone(scene), Arc::clone(&answers));
            let (refused, oldest) = (Arc::clone(&refused), Arc::clone(&oldest));
            tokio::spawn(async move {
                tokio::time::sleep(lifetime.mul_f64(key as f64 / keys as f64 / 2.0)).await;
                let mut caller = scene.caller().await;
                while instant() < ends {
                    let answer = caller.send(&format!("GET /kv/k{key}?api-version=1.0")).await;
                    let counted = if answer.status == 200 { &answers } else { &refused };
                    counted.fetch_add(1, Ordering::Relaxed);
                    let age = usize::try_from(answer.age().unwrap_or_default()).unwrap();
                    oldest.fetch_max(age, Ordering::Relaxed);
                    tokio::time::sleep(lifetime / 2).await;
                }
            })
        })
        .collect();
    let mut most_stretch = 0.0_f64;
    for number in 0..writes {
        tokio::time::sleep(Duration::from_secs_f64(seconds as f64 / writes as f64)).await;
        let put = format!(
            "PUT /kv/w{number}?api-version=1.0\nContent-Type: application/json\n\n{{\"value\":\"w\"}}"
        );
        let status = scene.caller().await.send(&put).await.status;
        assert_eq!(status, 200, "a write is never refused for the quota");
        most_stretch = most_stretch.max(metric(scene, "stretch"));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    Found {
        origin_requests: scene.origin.requests().len() - before,
        answers: answers.load(Ordering::Relaxed),
        refused: refused.load(Ordering::Relaxed),
        most_age_seconds: oldest.load(Ordering::Relaxed) as u64,
        most_stretch,
        used_ratio: metric(scene, "used_ratio"),
        avoided: metric(scene, "requests_avoided_total"),
    }
}

fn metric(scene: &Scene, name: &str) -> f64 {
    scene.sidecar.metric(&format!("tagalong_budget_{name}{{upstream=\"main\"}}")).unwrap()
}

/// An origin with a quota of `quota` requests in `window`, filled with key-values.
fn scene(keys: usize, budget: &[&str]) -> Arc<Scene> {
    let settings: Vec<&str> = APP.iter().chain(&["limits.connections=4000"]).chain(budget).copied().collect();
    let scene = Scene::paused(&settings);
    for key in 0..keys {
        scene.on(&format!("/kv/k{key}?api-version=1.0"), Answer::from(&*message(key)));
    }
    scene.origin.otherwise(Answer::from(&*message(0)));
    Arc::new(scene)
}

async fn five_times_the_quota(budget: &[&str], quota: usize, window_seconds: u64, lifetime_seconds: u64) {
    // Each key is validated once in its lifetime.
    let [window, lifetime] = [window_seconds, lifetime_seconds].map(|it| usize::try_from(it).unwrap());
    let keys = 5 * quota * lifetime / window;
    let scene = scene(keys, budget);
    let (writes, lifetime) = (window_seconds / 10, Duration::from_secs(lifetime_seconds));
    let over = load(&scene, keys, lifetime, window_seconds - 1, writes).await;
    eprintln!("at five times the quota: {over:?}");
    assert!(over.origin_requests <= quota, "{}", over.origin_requests);
    assert!(over.used_ratio <= 1.0 && over.avoided > over.origin_requests as f64);
    assert!(over.most_stretch <= 6.0 && over.most_stretch > 4.0, "{}", over.most_stretch);
    assert_eq!((over.refused, over.answers > 0), (0, true));
    assert!(over.most_age_seconds <= 6 * lifetime_seconds, "{}", over.most_age_seconds);
    // The next window, at half of the quota, for two lifetimes.
    let normal = load(&scene, keys / 10, lifetime, 2 * lifetime_seconds + 1, 4).await;
    eprintln!("at half of it: {normal:?}");
    let stretch = metric(&scene, "stretch");
    assert!(stretch <= 1.01, "back to normal within two intervals: {stretch}");
}

#[tokio::test(start_paused = true)]
async fn at_five_times_the_quota_lifetimes_stretch_and_no_write_is_refused() {
    let budget = ["upstream.budget.requests=2000", "upstream.budget.window=4m"];
    five_times_the_quota(&budget, 2_000, 240, 2).await;
}

/// `cargo test --release --test suite -- --ignored --nocapture budget::the_standard_tier`
#[tokio::test(start_paused = true)]
#[ignore = "by hand: an hour of the Standard tier"]
async fn the_standard_tier() {
    five_times_the_quota(&["upstream.budget.tier=standard", "upstream.freshness=30s"], 30_000, 3_600, 30)
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_stretched_says_so_and_callers_may_ask_for_more() {
    let scene = scene(
        1,
        &["upstream.budget.requests=10", "upstream.budget.window=1h", "upstream.refresh_ahead=false"],
    );
    let mut caller = scene.caller().await;
    let target = "GET /kv/k0?api-version=1.0";
    for _ in 0..8 {
        caller.send(&format!("{target}\nCache-Control: no-cache")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let answer = caller.send(target).await;
    assert!(answer.is_hit());
    let status = answer.field("cache-status").unwrap();
    assert!(status.contains("detail=stretched") && status.contains("ttl="), "{status}");
    let asked = scene.origin.requests().len();
    assert_eq!(caller.send(&format!("{target}\nCache-Control: max-age=1")).await.status, 200);
    assert_eq!(scene.origin.requests().len(), asked + 1, "what a caller demands is obeyed");
}

#[tokio::test(start_paused = true)]
async fn beyond_the_reserve_what_is_stored_answers_and_writes_go_on() {
    let scene =
        scene(2, &["upstream.budget.requests=10", "upstream.budget.window=1h", "upstream.budget.reserve=20"]);
    let mut caller = scene.caller().await;
    let target = "GET /kv/k0?api-version=1.0";
    for _ in 0..9 {
        caller.send(&format!("{target}\nCache-Control: max-age=0")).await;
    }
    assert_eq!(scene.origin.requests().len(), 8, "the reserve is a fifth of ten");
    tokio::time::sleep(Duration::from_secs(50)).await;
    let answer = caller.send(target).await;
    assert_eq!(answer.status, 200);
    assert!(answer.field("cache-status").unwrap().contains("detail=throttled"));
    // What is not stored may use half of the reserve.
    assert_eq!(caller.send("GET /kv/k1?api-version=1.0").await.status, 200);
    let refused = caller.send("GET /kv/k2?api-version=1.0").await;
    assert!(refused.status == 429 || refused.status == 503, "{}", refused.status);
    assert!(refused.field("retry-after").is_some());
    let put = "PUT /kv/k0?api-version=1.0\nContent-Type: application/json\n\n{\"value\":\"w\"}";
    assert_eq!(caller.send(put).await.status, 200);
    // The next hour.
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(scene.caller().await.send("GET /kv/k2?api-version=1.0").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_quota_of_a_second_is_kept_by_waiting() {
    let scene = scene(0, &["upstream.budget.reads_per_second=50"]);
    let began = instant();
    let asked: Vec<_> = (0..60)
        .map(|number| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.get(&format!("/kv/m{number}?api-version=1.0")).await.status })
        })
        .collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert!(instant() - began >= Duration::from_millis(1_000), "{:?}", instant() - began);
    assert_eq!(scene.origin.requests().len(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_bandwidth_holds_bodies_alone() {
    let scene = scene(1, &[]);
    let mut caller = scene.caller().await;
    assert_eq!(caller.send("GET /kv/k0?api-version=1.0").await.status, 200);
    let problem = "429\nContent-Type: application/problem+json\nretry-after-ms: 30000\n\n{\"policy\":\"Total Bandwidth\"}";
    scene.on("/kv/x?api-version=1.0", Answer::from(problem));
    assert_eq!(caller.send("GET /kv/x?api-version=1.0").await.status, 429);
    let asked = || scene.origin.requests().len();
    let before = asked();
    assert_ne!(caller.send("GET /kv/y?api-version=1.0").await.status, 200, "a body");
    assert_eq!(asked(), before);
    assert_eq!(caller.send("GET /kv/y?$select=value&api-version=1.0").await.status, 200);
    assert_eq!(caller.send("HEAD /kv/z?api-version=1.0").await.status, 200);
    assert!(scene.origin.requests().last().unwrap().method == "HEAD");
    assert_eq!(asked(), before + 2);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(caller.send("GET /kv/k0?api-version=1.0").await.status, 200);
    assert_eq!(asked(), before + 3, "what is stored is validated");
}
