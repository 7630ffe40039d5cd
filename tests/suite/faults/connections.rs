//! Connections to the origin: reuse, bounds, exchanges under way, and what ends them early.

use std::time::Duration;

use crate::support::answer::{Answer, Gate, Step};
use crate::support::caller::Caller;
use crate::support::scene::Scene;

const NOT_STORED: &str = "200\nCache-Control: no-store\n\nbody";

/// Sends requests, each on its own connection, until the origin has all of them, and then lets it answer.
async fn ask_at_once(scene: &Scene, count: usize) {
    let gate = Gate::closed();
    scene.origin.otherwise(Answer::held(&gate, NOT_STORED));
    let mut callers: Vec<Caller> = Vec::new();
    for number in 0..count {
        let mut caller = scene.caller().await;
        caller.post(&format!("GET /{number}")).await;
        callers.push(caller);
    }
    scene.origin.received(count).await;
    gate.open();
    for caller in &mut callers {
        assert_eq!(caller.read(false).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_until_it_was_idle_for_its_time() {
    let scene = Scene::paused(&["upstream.pool_idle_time=20s"]);
    scene.origin.otherwise(NOT_STORED);
    for target in ["/1", "/2", "/3"] {
        assert_eq!(scene.get(target).await.text(), "body");
    }
    assert_eq!(scene.origin.connections(), 1);
    scene.origin.left_alone(0).await;
    assert_eq!(scene.elapsed().as_secs(), 20);
    assert_eq!(scene.get("/4").await.text(), "body");
    assert_eq!(scene.origin.connections(), 2);
}

#[tokio::test]
async fn idle_connections_are_bounded() {
    let scene = Scene::with(&["upstream.pool_idle_limit=2"]).await;
    ask_at_once(&scene, 6).await;
    assert_eq!(scene.origin.connections(), 6);
    scene.origin.closed(4).await;
    scene.origin.otherwise(NOT_STORED);
    assert_eq!(scene.get("/again").await.text(), "body");
    assert_eq!(scene.origin.connections(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_used_again_before_its_answer_was_read_to_the_end() {
    let scene = Scene::paused(&[]);
    let gate = Gate::closed();
    let head = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 4\r\n\r\nbo".to_vec();
    let steps = vec![Step::Bytes(head), Step::Hold(gate.clone()), Step::Bytes(b"dy".to_vec())];
    scene.on("/slow", Answer { steps });
    let mut caller = scene.caller().await;
    caller.post("GET /slow").await;
    scene.origin.received(1).await;
    scene.settled().await;
    scene.origin.otherwise(NOT_STORED);
    assert_eq!(scene.get("/other").await.text(), "body");
    assert_eq!(scene.origin.requests()[1].connection, 1);
    gate.open();
    assert_eq!(caller.read(false).await.text(), "body");
}

#[tokio::test(start_paused = true)]
async fn an_exchange_over_the_limit_waits_briefly_and_is_refused() {
    let scene = Scene::paused(&["upstream.exchange_limit=2"]);
    let gate = Gate::closed();
    scene.origin.otherwise(Answer::held(&gate, NOT_STORED));
    let mut waiting: Vec<Caller> = Vec::new();
    for target in ["/1", "/2"] {
        let mut caller = scene.caller().await;
        caller.post(&format!("GET {target}")).await;
        waiting.push(caller);
    }
    scene.origin.received(2).await;
    let refused = scene.get("/3").await;
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("upstream.exchange_limit"), "{}", refused.text());
    assert_eq!(scene.elapsed(), Duration::from_secs(1));
    assert_eq!(scene.origin.requests().len(), 2);
    let mut patient = scene.caller().await;
    patient.post("GET /4").await;
    gate.open();
    assert_eq!(patient.read(false).await.status, 200);
    for caller in &mut waiting {
        assert_eq!(caller.read(false).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_response_answers_where_no_exchange_may_begin() {
    let scene = Scene::paused(&["upstream.exchange_limit=1"]);
    scene.on("/a", "200\nCache-Control: max-age=1\n\nstored");
    assert_eq!(scene.get("/a").await.text(), "stored");
    tokio::time::advance(Duration::from_secs(2)).await;
    scene.origin.otherwise(Answer::held(&Gate::closed(), NOT_STORED));
    let mut holder = scene.caller().await;
    holder.post("PUT /other\n\nx").await;
    scene.origin.received(2).await;
    let answer = scene.get("/a").await;
    assert_eq!(answer.text(), "stored");
    let status = answer.field("cache-status").unwrap_or_default();
    assert!(status.contains("detail=overloaded"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn a_write_holds_its_place_after_its_caller_has_left() {
    let scene = Scene::paused(&["upstream.exchange_limit=1"]);
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, "204"));
    let mut writer = scene.caller().await;
    writer.post("PUT /a\n\nx").await;
    scene.origin.received(1).await;
    drop(writer);
    scene.settled().await;
    scene.origin.otherwise(NOT_STORED);
    assert_eq!(scene.get("/b").await.status, 503);
    gate.open();
    assert_eq!(scene.get("/b").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_safe_request_without_a_caller_ends_early() {
    for (request, at_most) in [("GET /a", 500), ("OPTIONS /a", 0)] {
        let scene = Scene::paused(&[]);
        scene.origin.otherwise(Answer::held(&Gate::closed(), NOT_STORED));
        let mut caller = scene.caller().await;
        caller.post(request).await;
        scene.origin.received(1).await;
        drop(caller);
        scene.origin.left_alone(0).await;
        assert!(scene.elapsed() <= Duration::from_millis(at_most), "{request}: {:?}", scene.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_joins_an_abandoned_fetch_keeps_it_going() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, "200\nCache-Control: max-age=60\n\nbody"));
    let mut first = scene.caller().await;
    first.post("GET /a").await;
    scene.origin.received(1).await;
    drop(first);
    scene.settled().await;
    let mut second = scene.caller().await;
    second.post("GET /a").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    gate.open();
    assert_eq!(second.read(false).await.text(), "body");
    assert_eq!(scene.origin.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_carries_an_identity_is_never_shared() {
    for scheme in ["Negotiate YII=", "NTLM TlRM", "kerberos YII="] {
        let scene = Scene::paused(&["upstream.credential.kind=forward"]);
        scene.origin.otherwise(NOT_STORED);
        let bound = format!("GET /a\nAuthorization: {scheme}");
        let requests = ["GET /a", &bound, "GET /a", &bound, "GET /a"];
        for request in requests {
            assert_eq!(scene.send(request).await.text(), "body");
        }
        let connections: Vec<_> = scene.origin.requests().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 1, 0, 2, 0], "{scheme}");
        // Closed with its answer: nothing waits for the idle time.
        scene.origin.left_alone(1).await;
        assert_eq!(scene.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn informational_answers_without_end_are_cut_off() {
    let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
    for (times, expected) in [(20, 200), (21, 502), (100_000, 502)] {
        let scene = Scene::paused(&[]);
        let steps = vec![Step::Repeat(hint.clone(), times), Step::Message(NOT_STORED.to_owned())];
        scene.on("/a", Answer { steps });
        let answer = scene.get("/a").await;
        assert_eq!(answer.status, expected, "{times}: {}", answer.text());
        assert!(expected == 200 || answer.text().contains("informational"), "{}", answer.text());
        assert_eq!(scene.elapsed(), Duration::ZERO, "no deadline was waited for");
    }
}
