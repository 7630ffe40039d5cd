//! What depends on the upstream: sync tokens, budgets, mirrors and fleets.

use std::time::Duration;

use tagalong::internals::emulator::{Emulator, EmulatorSettings};
use tagalong::internals::fleet::engine::EngineError;
use tagalong::internals::mirror::give_up::GiveUpReason;

use super::ExplainedCases;
use crate::app_configuration::scene::{Scene as Mirrored, write};
use crate::fleet::{Fleet, LEASE, target};
use crate::support::scene::Scene;

const V: &str = "api-version=2026-04-01";

pub(super) async fn all(cases: &mut ExplainedCases) {
    cases.play(sync_tokens).await;
    cases.play(budgets).await;
    cases.play(mirrors).await;
    cases.play(fleets).await;
}

fn key_value(key: &str, tag: &str, token: &str) -> String {
    format!(
        "200\nContent-Type: application/vnd.microsoft.appconfig.kv+json\nETag: \"{tag}\"\nSync-Token: {token}\n\n{{\"key\":\"{key}\",\"etag\":\"{tag}\"}}"
    )
}

async fn sync_tokens(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&[
        "upstream.profile=app-configuration",
        "upstream.credential.kind=none",
        "upstream.freshness=600s",
        "upstream.refresh_ahead=false",
    ]);
    let sidecar = &scene.sidecar;
    let (a, b) = (format!("/kv/a?{V}"), format!("/kv/b?{V}"));
    scene.on(&a, key_value("a", "1", "t=v1;sn=1"));
    cases.hold(sidecar, &format!("GET {a}")).await;
    scene.on(&b, key_value("b", "1", "t=v2;sn=2"));
    cases.hold(sidecar, &format!("GET {b}")).await;
    // The first answer for b shows a change.
    let told = cases.told(sidecar, &format!("GET {a}")).await;
    assert_eq!(told["coverage"]["verdict"], "change", "{told:#}");
    assert_eq!(told["coverage"]["last_change"]["is_after_stored"], true, "{told:#}");
    assert!(told["coverage"]["last_change"]["target"].as_str().unwrap().starts_with("/kv/b"), "{told:#}");
    let needed = told["coverage"]["required"]["newest_version"].as_u64();
    assert!(told["coverage"]["stored"]["newest_version"].as_u64() < needed, "{told:#}");
    scene.on(&a, "304\nETag: \"1\"\nSync-Token: t=v2;sn=2");
    cases.hold(sidecar, &format!("GET {a}")).await;
    // A write of another key: its token is known, and is not required of others.
    scene.on(&b, key_value("b", "2", "t=v5;sn=5"));
    cases.hold(sidecar, &format!("PUT {b}\nContent-Type: application/json\n\n{{\"value\":\"2\"}}")).await;
    assert!(cases.hold(sidecar, &format!("GET {a}")).await.is_hit());
    scene.on(&a, "304\nETag: \"1\"\nSync-Token: t=v5;sn=5");
    cases.hold(sidecar, &format!("GET {a}\nSync-Token: t=v5")).await;
    // The origin does not answer with the id of this one: it stays unknown.
    scene.on(&a, key_value("a", "1", "t=v5;sn=5"));
    let unknown = format!("GET {a}\nSync-Token: other=v9");
    let told = cases.told(sidecar, &unknown).await;
    assert!(told["forward"]["first"].is_string() && told["coverage"]["presented_version"].is_null());
    cases.hold(sidecar, &unknown).await;
}

async fn budgets(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&[
        "upstream.profile=app-configuration",
        "upstream.credential.kind=none",
        "upstream.freshness=2s",
        "upstream.refresh_ahead=false",
        "upstream.budget.requests=10",
        "upstream.budget.window=1h",
        "upstream.budget.reserve=20",
    ]);
    scene.origin.otherwise("200\nContent-Type: application/json\nETag: \"0\"\n\n{\"value\":\"0\"}");
    let request = format!("GET /kv/k?{V}");
    for _ in 0..6 {
        scene.send(&format!("{request}\nCache-Control: no-cache")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = cases.told(&scene.sidecar, &request).await;
    assert!(told["store"]["selected"]["stretched_lifetime_seconds"].as_u64() > Some(2), "{told:#}");
    assert!(cases.hold(&scene.sidecar, &request).await.is_hit());
    // Beyond the reserve, what is stored answers.
    for _ in 0..3 {
        scene.send(&format!("{request}\nCache-Control: no-cache")).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cases.hold(&scene.sidecar, &request).await.status, 200);
}

async fn mirrors(cases: &mut ExplainedCases) {
    let fill = async |emulator: &Emulator| {
        for number in 0..5 {
            write(emulator, &format!("/kv/k{number}?{V}"), r#"{"value":"x"}"#).await;
        }
    };
    for reason in GiveUpReason::all() {
        let scene = Mirrored::loaded(EmulatorSettings::default(), fill, &[]).await;
        let answer = cases.hold(&scene.sidecar, &format!("GET /kv/k1?{V}")).await;
        assert_eq!(answer.cache_status().detail.as_deref(), Some("mirror"));
        let told = cases.told(&scene.sidecar, &format!("GET /kv/k2?{V}")).await;
        assert_eq!(told["upstream"]["mirror"]["ranges"]["count"], 1, "{told:#}");
        scene.sidecar.mirror().give_up(reason);
        cases.hold(&scene.sidecar, &format!("GET /kv/k3?{V}")).await;
    }
}

async fn fleets(cases: &mut ExplainedCases) {
    let fleet = Fleet::of(2, &[]).await;
    fleet.write(0, 1).await;
    fleet.heard().await;
    let request = format!("GET {}", target(1));
    cases.hold(&fleet.sidecars[0], &request).await;
    fleet.heard().await;
    let answer = cases.hold(&fleet.sidecars[1], &request).await;
    assert_eq!(answer.cache_status().detail.as_deref(), Some("fleet"));
    cases.hold(&fleet.sidecars[1], &request).await;
    fleet.engine.fail(Some(EngineError::Away));
    tokio::time::sleep(LEASE * 3).await;
    cases.hold(&fleet.sidecars[0], &request).await;
    let answer = cases.hold(&fleet.sidecars[0], &request).await;
    assert_eq!(answer.cache_status().detail.as_deref(), Some("fleet-lost"));
    let told = cases.told(&fleet.sidecars[0], &request).await;
    assert_eq!(told["upstream"]["fleet"]["has_live_lease"], false, "{told:#}");
}
