//! Every deadline at its full length, with paused time and streams in memory.

use std::time::Duration;

use crate::support::answer::{Answer, Gate, Step};
use crate::support::scene::Scene;

fn within(elapsed: Duration, deadline: Duration) -> bool {
    // Connections are checked at intervals, and never cut early.
    elapsed >= deadline && elapsed <= deadline + Duration::from_secs(2)
}

const SECONDS_2: Duration = Duration::from_secs(2);
const SECONDS_10: Duration = Duration::from_secs(10);
const SECONDS_30: Duration = Duration::from_secs(30);
const SECONDS_60: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn an_origin_that_does_not_answer_in_time_becomes_504() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    let never = Gate::closed();
    scene.on("/a", Answer::held(&never, "200\n\nx"));
    let response = scene.get("/a").await;
    assert_eq!(response.status, 504);
    assert!(within(scene.elapsed(), SECONDS_10), "{:?}", scene.elapsed());
    assert_eq!(response.field("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(problem["status"], 504);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("10000 ms")), "{problem}");
    // The sidecar closes the upstream connection.
    scene.origin.left_alone(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_head_is_cut_by_the_same_deadline() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    let mut drip = Answer::raw("HTTP/1.1 200 OK\r\nX-Slow: ");
    for _ in 0..100 {
        drip = drip.then(Step::Delay(Duration::from_secs(1))).then_bytes("d");
    }
    scene.on("/a", drip);
    assert_eq!(scene.get("/a").await.status, 504);
    assert!(within(scene.elapsed(), SECONDS_10), "{:?}", scene.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_cut() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    let never = Gate::closed();
    let begin = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nhalf";
    scene.on("/a", Answer::raw(begin).then_hold(&never));
    let mut caller = scene.caller().await;
    caller.post("GET /a").await;
    let response = caller.try_read(false).await;
    assert!(response.is_none_or(|response| !response.complete || response.status == 504));
    assert!(within(scene.elapsed(), SECONDS_30), "{:?}", scene.elapsed());
    scene.on("/a", "200\n\nwhole");
    assert_eq!(scene.get("/a").await.text(), "whole");
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_answers_once_the_deadline_is_over() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    let never = Gate::closed();
    scene.on("/a", "200\nCache-Control: max-age=1\nETag: \"a\"\n\nold");
    scene.on("/a", Answer::held(&never, "200\n\nx"));
    scene.get("/a").await;
    tokio::time::advance(SECONDS_2).await;
    let response = scene.get("/a").await;
    assert_eq!((response.status, response.text()), (200, "old"));
    assert!(within(scene.elapsed(), SECONDS_10), "{:?}", scene.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    let mut caller = scene.caller().await;
    caller.closed().await;
    assert!(within(scene.elapsed(), SECONDS_10), "{:?}", scene.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_header_section_is_closed() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    let mut caller = scene.caller().await;
    caller.write("GET /a HTTP/1.1\r\nHost: 127.0.0.1:9\r\nX-Slow: ").await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        caller.write("d").await;
    }
    caller.closed().await;
    assert!(within(scene.elapsed(), SECONDS_10), "{:?}", scene.elapsed());
    assert_eq!(scene.origin.requests().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_at_a_byte_a_second_gets_408() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    let mut caller = scene.caller().await;
    caller.write("PUT /a HTTP/1.1\r\nHost: 127.0.0.1:9\r\nContent-Length: 1000\r\n\r\n").await;
    for _ in 0..58 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        caller.write("d").await;
    }
    let response = caller.read(false).await;
    assert_eq!(response.status, 408);
    assert!(within(scene.elapsed(), SECONDS_60), "{:?}", scene.elapsed());
    assert_eq!(response.field("content-type"), Some("application/problem+json"));
    caller.closed().await;
    assert_eq!(scene.origin.requests().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    scene.on("/a", "200\nCache-Control: max-age=600\n\nx");
    let mut caller = scene.caller().await;
    caller.send("GET /a").await;
    tokio::time::sleep(SECONDS_30).await;
    assert!(caller.send("GET /a").await.is_hit());
    caller.closed().await;
    assert!(within(scene.elapsed(), SECONDS_30 + SECONDS_60), "{:?}", scene.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_its_answer_is_not_idle() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111", "upstream.header_deadline=10m"]);
    scene.on("/a", Answer::delayed(Duration::from_secs(300), "200\n\nlate"));
    assert_eq!(scene.get("/a").await.text(), "late");
}
