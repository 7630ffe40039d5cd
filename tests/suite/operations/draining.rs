//! The graceful stop.

use std::time::Duration;

use crate::support::answer::{Answer, Gate};
use crate::support::scene::Scene;

#[tokio::test]
async fn draining_finishes_open_requests_and_accepts_no_new_ones() {
    let mut scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.on("/slow", Answer::held(&gate, "200\nCache-Control: max-age=60\n\nslow"));
    scene.on("/idle", "200\n\nx");
    let mut idle = scene.caller().await;
    idle.send("GET /idle").await;
    let mut busy = scene.caller().await;
    busy.post("GET /slow").await;
    scene.origin.received(2).await;
    let stopped = scene.sidecar.stop();
    // Idle connections are closed at once, although another one is busy.
    assert!(idle.closed().await.is_empty());
    let late = tokio::net::TcpStream::connect(scene.sidecar.address).await;
    assert!(late.is_err(), "the listener is closed");
    gate.open();
    let response = busy.read(false).await;
    assert_eq!((response.status, response.text()), (200, "slow"));
    assert_eq!(response.field("connection"), Some("close"));
    busy.closed().await;
    assert_eq!(stopped.await.expect("ends by itself"), 0, "no connection was cut");
}

#[tokio::test(start_paused = true)]
async fn requests_that_outlast_the_drain_are_cut() {
    let mut scene = Scene::paused(&["upstream.header_deadline=10m", "deadlines.drain=10s"]);
    let never = Gate::closed();
    scene.on("/slow", Answer::held(&never, "200\n\nslow"));
    let mut busy = scene.caller().await;
    busy.post("GET /slow").await;
    scene.origin.received(1).await;
    let before = scene.elapsed();
    let stopped = scene.sidecar.stop();
    assert_eq!(stopped.await.expect("ends by itself"), 1);
    let taken = scene.elapsed() - before;
    assert!(taken >= Duration::from_secs(10) && taken < Duration::from_secs(12), "{taken:?}");
    busy.closed().await;
}
