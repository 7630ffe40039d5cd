//! What a mirror costs the origin, and when callers see what.

use std::time::Duration;

use tagalong::internals::emulator::{Emulator, EmulatorSettings};

use super::scene::{Scene, pass, told, write};

const V: &str = "api-version=2026-04-01";

/// `count` key-values `k000` and so on.
async fn numbered(emulator: &Emulator, count: usize) {
    for number in 0..count {
        write(emulator, &format!("/kv/k{number:05}?{V}"), r#"{"value":"1"}"#).await;
    }
}

fn settings() -> EmulatorSettings {
    EmulatorSettings { drift_per_second: 1.25, ..EmulatorSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn an_interval_costs_one_304_for_each_range_and_no_body() {
    let scene = Scene::loaded(settings(), async |emulator| numbered(emulator, 1_000).await, &[]).await;
    for _ in 0..5 {
        pass(Duration::from_secs(30)).await;
        let asked = scene.origin.asked();
        assert!(asked.iter().all(|(_, status)| *status == 304), "{asked:?}");
        assert!((10..=16).contains(&asked.len()), "{} requests", asked.len());
    }
}
