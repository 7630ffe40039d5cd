//! What a caller is shown after the sidecar was killed and started again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tagalong::internals::emulator::EmulatorSettings;

use super::scene::{EmulatedOrigin, pass, write};
use crate::support::caller::Caller;

const V: &str = "api-version=2026-04-01";

/// Replicas that lag three seconds behind what a token demands. All have the key-value `k`.
async fn lagging_origin() -> Arc<EmulatedOrigin> {
    let settings = EmulatorSettings {
        replicas: 3,
        settle: Duration::from_secs(3),
        drift_per_second: 1.25,
        ..EmulatorSettings::default()
    };
    let fill = async |emulator: &_| write(emulator, &format!("/kv/k?{V}"), r#"{"value":"0"}"#).await;
    let origin = EmulatedOrigin::filled(settings, fill, None).await;
    pass(Duration::from_secs(4)).await;
    origin
}

async fn value(caller: &mut Caller) -> usize {
    let answer = caller.send(&format!("GET /kv/k?{V}")).await;
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("a key-value");
    body["value"].as_str().and_then(|value| value.parse().ok()).expect("a number")
}

/// How many of `rounds` reads after a restart were older than what was shown before it.
async fn older(rounds: usize, keys: &[&str]) -> usize {
    let origin = lagging_origin().await;
    let mut older = 0;
    for round in 1..=rounds {
        let sidecar = origin.sidecar(keys);
        let mut caller = sidecar.caller().await;
        let put = format!("PUT /kv/k?{V}\nContent-Type: application/json\n\n{{\"value\":\"{round}\"}}");
        assert_eq!(caller.send(&put).await.status, 200);
        let shown = value(&mut caller).await;
        assert_eq!(shown, round);
        // Nothing is awaited: as if it had been killed.
        drop(sidecar);
        let sidecar = origin.sidecar(keys);
        older += usize::from(value(&mut sidecar.caller().await).await < shown);
        pass(Duration::from_millis(200)).await;
    }
    older
}

fn key(directory: &Path) -> String {
    format!("upstream.sync_token_file={}", directory.join("tokens").display())
}

#[tokio::test(start_paused = true)]
async fn nothing_older_than_shown_is_shown_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let rounds = std::env::var("RESTARTS").map_or(50, |rounds| rounds.parse().expect("a number"));
    assert_eq!(older(rounds, &[&key(directory.path())]).await, 0);
    // Without the file the origin is asked without tokens, and any replica answers.
    assert!(older(30, &[]).await > 10);
}

#[tokio::test(start_paused = true)]
async fn a_reset_of_the_tokens_survives_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let keys = [&*key(directory.path())];
    let origin = lagging_origin().await;
    let sidecar = origin.sidecar(&keys);
    value(&mut sidecar.caller().await).await;
    let tokens = || std::fs::read_to_string(directory.path().join("tokens")).unwrap();
    assert!(tokens().contains(";sn="), "{}", tokens());
    sidecar.reset_sync_tokens();
    assert!(!tokens().contains(";sn="), "{}", tokens());
}

#[tokio::test(start_paused = true)]
async fn a_hit_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let keys = [&*key(directory.path())];
    let origin = lagging_origin().await;
    let sidecar = origin.sidecar(&keys);
    let mut caller = sidecar.caller().await;
    value(&mut caller).await;
    std::fs::remove_file(directory.path().join("tokens")).unwrap();
    for _ in 0..10 {
        value(&mut caller).await;
    }
    assert!(!directory.path().join("tokens").exists());
    pass(Duration::from_secs(31)).await;
    value(&mut sidecar.caller().await).await;
    assert!(directory.path().join("tokens").exists(), "the drift of the store is news");
}
