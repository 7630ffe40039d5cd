//! What is fetched before anybody asks for it, and kept.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use tagalong::internals::emulator::EmulatorSettings;

use super::scene::{EmulatedOrigin, pass, told, write};
use crate::support::sidecar::Sidecar;

const V: &str = "api-version=2026-04-01";
const TARGETS: &str = "upstream.prefetch.targets=/kv/k00?api-version=2026-04-01,/kv?key=k*&api-version=2026-04-01,/kv/none?api-version=2026-04-01";

async fn origin() -> Arc<EmulatedOrigin> {
    let settings = EmulatorSettings { page_size: 3, drift_per_second: 1.25, ..EmulatorSettings::default() };
    let fill = async |emulator: &_| {
        for number in 0..8 {
            write(emulator, &format!("/kv/k{number:02}?{V}"), r#"{"value":"1"}"#).await;
        }
    };
    EmulatedOrigin::filled(settings, fill, None).await
}

/// A first caller, on a connection of its own.
async fn first_hit(sidecar: &Sidecar, target: &str) -> (u16, bool) {
    let answer = sidecar.caller().await.send(&format!("GET {target}&{V}")).await;
    (answer.status, told(&answer).0)
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_gets_a_hit_and_so_does_each_later_one() {
    let origin = origin().await;
    let sidecar = origin.sidecar(&[TARGETS]);
    pass(Duration::from_secs(5)).await;
    // A key, a key that is not there, and a list of three pages; each once more, because those after it showed changes.
    let asked = origin.asked().len();
    assert!((5..=5 + 5).contains(&asked), "{asked}");
    for second in 0..120 {
        pass(Duration::from_secs(1)).await;
        for (target, status) in [("/kv/k00?", 200), ("/kv?key=k*", 200), ("/kv/none?", 404)] {
            assert_eq!(first_hit(&sidecar, target).await, (status, true), "{target} after {second} s");
        }
    }
    let asked = origin.asked();
    let count = |status| asked.iter().filter(|(_, answered)| *answered == status).count();
    // Lifetimes of 30 s for what is there, and of 5 s for what is not; `Date` is up to a second late.
    let (kept, missing) = (count(304), count(404));
    // The list validates the key that it contains.
    assert!((3 * 4..=4 * (4 + 2)).contains(&kept), "{kept} of three pages and a key: {asked:?}");
    assert!((24..=24 * 2).contains(&missing), "{missing} of one that is not there: {asked:?}");
    assert_eq!(kept + missing, asked.len(), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn pages_that_come_and_go_are_followed() {
    let origin = origin().await;
    let sidecar = origin.sidecar(&[TARGETS]);
    pass(Duration::from_secs(5)).await;
    for number in 8..12 {
        write(&origin.emulator, &format!("/kv/k{number:02}?{V}"), r#"{"value":"1"}"#).await;
    }
    pass(Duration::from_secs(31)).await;
    origin.asked();
    let mut caller = sidecar.caller().await;
    let (mut next, mut pages) = (Some(format!("/kv?key=k*&{V}")), 0);
    while let Some(target) = next.take() {
        let answer = caller.send(&format!("GET {target}")).await;
        assert!(told(&answer).0, "page {pages}");
        pages += 1;
        let link = answer.field("link");
        next = link.and_then(|link| Some(link.strip_prefix('<')?.split_once('>')?.0.to_owned()));
    }
    assert_eq!((pages, origin.asked().len()), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_away_is_asked_again_after_a_pause() {
    let origin = origin().await;
    origin.spoil(|_, _| Response::builder().status(503).body("".into()).unwrap());
    let sidecar = origin.sidecar(&[TARGETS]);
    pass(Duration::from_secs(60)).await;
    let asked = origin.asked().len();
    assert!((3..=3 * 13).contains(&asked), "{asked}");
    origin.behave();
    pass(Duration::from_secs(10)).await;
    assert_eq!(first_hit(&sidecar, "/kv/k00?").await, (200, true));
}
