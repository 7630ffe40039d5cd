//! Limits of staleness by prefix, for the lists that show such items, too.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use tagalong::internals::emulator::EmulatorSettings;

use super::scene::{EmulatedOrigin, pass, write};
use crate::support::caller;
use crate::support::sidecar::Sidecar;

const V: &str = "api-version=2026-04-01";
const SWITCHES: [&str; 2] =
    ["upstream.routes.switches.path_prefix=/kv/kill:", "upstream.routes.switches.stale_limit=20s"];

async fn origin() -> Arc<EmulatedOrigin> {
    let fill = async |emulator: &_| {
        for key in ["a", "b", "kill%3Acheckout"] {
            write(emulator, &format!("/kv/{key}?{V}"), r#"{"value":"1"}"#).await;
        }
    };
    EmulatedOrigin::filled(EmulatorSettings::default(), fill, None).await
}

async fn get(sidecar: &Sidecar, target: &str) -> caller::Response {
    sidecar.caller().await.send(&format!("GET {target}{V}")).await
}

const TARGETS: [&str; 6] =
    ["/kv/a?", "/kv/kill%3Acheckout?", "/kv?", "/kv?key=kill%3A*&", "/kv?key=a&", "/kv?$select=value&"];

/// Which targets are answered after the origin was away for so many seconds past the lifetime of 30.
async fn answered(keys: &[&str], seconds: u64) -> [bool; 6] {
    let origin = origin().await;
    let sidecar = origin.sidecar(keys);
    for target in TARGETS {
        assert_eq!(get(&sidecar, target).await.status, 200, "{target}");
    }
    origin.spoil(|_, _| Response::builder().status(503).body("".into()).unwrap());
    pass(Duration::from_secs(30 + seconds)).await;
    let mut answered = [false; 6];
    for (answered, target) in answered.iter_mut().zip(TARGETS) {
        *answered = get(&sidecar, target).await.status == 200;
    }
    answered
}

#[tokio::test(start_paused = true)]
async fn a_list_with_an_item_past_its_limit_is_refused() {
    assert_eq!(answered(&SWITCHES, 10).await, [true; 6]);
    // What does not name its items may show any.
    assert_eq!(answered(&SWITCHES, 25).await, [true, false, false, false, true, false]);
    assert_eq!(answered(&[], 25).await, [true; 6]);
}

#[tokio::test(start_paused = true)]
async fn the_refusal_names_the_item_and_the_origin_ends_it() {
    let origin = origin().await;
    let sidecar = origin.sidecar(&SWITCHES);
    assert_eq!(get(&sidecar, "/kv?").await.status, 200);
    origin.spoil(|_, _| Response::builder().status(503).body("".into()).unwrap());
    pass(Duration::from_secs(60)).await;
    let refused = get(&sidecar, "/kv?").await;
    let body = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(body.contains("item-too-stale: /kv/kill%3Acheckout"), "{body}");
    origin.behave();
    // The failure asked for no pause.
    assert_eq!(get(&sidecar, "/kv?").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_mirror_fails_closed_as_well() {
    let origin = origin().await;
    let keys = [&SWITCHES[..], &["upstream.mirror.enabled=true"]].concat();
    let sidecar = origin.sidecar(&keys);
    sidecar.mirror().loaded().await;
    assert_eq!(get(&sidecar, "/kv?").await.status, 200);
    assert_eq!(get(&sidecar, "/kv/kill%3Acheckout?").await.status, 200);
    origin.spoil(|_, _| Response::builder().status(503).body("".into()).unwrap());
    pass(Duration::from_secs(70)).await;
    assert_eq!(get(&sidecar, "/kv/a?").await.status, 200);
    // The last is made of the same items for the first time.
    for target in ["/kv/kill%3Acheckout?", "/kv?", "/kv?key=kill%3A*&"] {
        assert!(get(&sidecar, target).await.status > 500, "{target}");
    }
    assert_eq!(get(&sidecar, "/kv?key=b&").await.status, 200);
}
