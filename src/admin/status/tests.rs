use std::sync::Arc;

use super::*;
use crate::admin::tests::{Port, ask, port, text};
use crate::metrics::Metrics;
use crate::mirror::give_up::GiveUpReason;
use crate::stored_response::CacheKey;
use crate::upstream::throttle::{Held, Pause};

async fn status(port: &Port, fields: &[(&str, &str)]) -> Status {
    let (status, answer) = ask(port, "GET", "/admin/status", fields, "");
    assert_eq!(status, 200);
    serde_json::from_str(&text(answer).await).unwrap()
}

#[test]
fn the_root_leads_to_the_page() {
    let port = port(&[]);
    for path in ["/", "/admin"] {
        let (status, answer) = ask(&port, "GET", path, &[], "");
        assert_eq!((status, answer.headers()["location"].to_str().unwrap()), (302, "/admin/"), "{path}");
    }
    let (status, answer) = ask(&port, "GET", "/admin/", &[], "");
    assert_eq!((status, answer.headers()["cache-control"].to_str().unwrap()), (200, "no-store"));
    assert_eq!(ask(&port, "GET", "/admin/", &[("host", "attacker.test")], "").0, 403);
}

#[tokio::test]
async fn keys_are_named_only_where_that_is_allowed_and_to_who_has_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = format!("admin.token_file={}", directory.path().join("token").display());
    let key = CacheKey::new("main", "secret-partition", "/kv/<b>?label=x");
    let count = |port: &Port| (0..1_000).for_each(|_| port.hot_keys.as_ref().unwrap().note(&key));
    let off = status(&port(&[]), &[]).await.hottest_keys;
    assert!(!off.are_shown && off.why_not.unwrap().contains("admin.show_keys"));
    let without_token = port(&["admin.show_keys=true"]);
    count(&without_token);
    let shown = status(&without_token, &[]).await.hottest_keys;
    assert_eq!((shown.keys.len(), shown.keys[0].key.as_str()), (1, "/kv/<b>?label=x"));
    assert!((shown.keys[0].share - 1.0).abs() < 1e-9 && shown.counted > 0);
    let with_token = port(&["admin.show_keys=true", &file]);
    count(&with_token);
    let hidden = status(&with_token, &[]).await.hottest_keys;
    assert!(hidden.keys.is_empty() && hidden.why_not.unwrap().contains("admin.token_file"));
    let token = std::fs::read_to_string(directory.path().join("token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let shown = status(&with_token, &[("authorization", &bearer)]).await.hottest_keys;
    assert_eq!(shown.keys.len(), 1);
}

/// A port of one upstream of which this is true.
fn port_with(live: impl Fn() -> LiveState + Send + Sync + 'static) -> (Port, Metrics) {
    let mut port = port(&[]);
    port.state.upstreams[0].live_state = Arc::new(move |_| live());
    let metrics = port.state.metrics.clone();
    (port, metrics)
}

#[tokio::test]
async fn what_is_switched_off_is_null() {
    let (port, _) = port_with(LiveState::default);
    let status = status(&port, &[]).await;
    let upstream = &status.upstreams[0];
    assert!(upstream.mirror.is_none() && upstream.fleet.is_none() && upstream.budget.is_none());
    assert!(status.snapshot.is_none() && upstream.throttle.is_empty());
    assert_eq!(upstream.requests.hit_ratio, None, "no requests have no ratio");
    assert_eq!((status.ready, status.reasons), (false, vec!["starting".to_owned()]));
}

#[tokio::test]
async fn a_fleet_a_mirror_and_a_pause_are_told() {
    let (port, metrics) = port_with(|| LiveState {
        pauses: vec![(
            Held::Bodies,
            Pause { status: StatusCode::TOO_MANY_REQUESTS, remaining: HISTORY_STEP },
        )],
        mirror: Some((false, Some(GiveUpReason::Bound))),
        has_fleet: true,
        ..LiveState::default()
    });
    let counted = metrics.upstream(0);
    counted.fleet.live.set(1);
    counted.fleet.announced.inc_by(3);
    counted.fleet.unconfirmed.inc();
    (0..4).for_each(|_| counted.fleet.announce_seconds.observe(0.002));
    counted.fleet.heard("write");
    counted.fleet.failed("away");
    counted.fleet.record("taken");
    counted.fleet.epochs.inc();
    counted.mirror.observe(2, 30, 4_000);
    counted.mirror.gave_up("mirror-bound");
    let status = status(&port, &[]).await;
    let upstream = &status.upstreams[0];
    let fleet = upstream.fleet.as_ref().unwrap();
    assert!(fleet.is_live);
    let count = |counts: &BTreeMap<String, u64>, word: &str| counts.get(word).copied();
    assert_eq!(count(&fleet.announcements, "announced"), Some(3));
    assert_eq!(count(&fleet.announcements, "unconfirmed"), Some(1));
    assert_eq!(count(&fleet.announcements, "failed"), Some(0));
    assert_eq!((count(&fleet.entries, "write"), count(&fleet.failures, "away")), (Some(1), Some(1)));
    assert_eq!((count(&fleet.records, "taken"), fleet.epochs), (Some(1), 1));
    // The bucket from 1 ms to 2.5 ms.
    assert_eq!(fleet.announce_latency.count, 4);
    assert!((fleet.announce_latency.p50_seconds.unwrap() - 0.00175).abs() < 1e-9);
    let mirror = upstream.mirror.as_ref().unwrap();
    assert_eq!((mirror.ranges, mirror.items, mirror.bytes), (2, 30, 4_000));
    assert_eq!((mirror.is_loaded, mirror.gave_up.as_deref()), (false, Some("mirror-bound")));
    assert_eq!(count(&mirror.give_ups, "mirror-bound"), Some(1));
    let pause = &upstream.throttle[0];
    assert_eq!((pause.held.as_str(), pause.status), ("bodies", 429));
}
