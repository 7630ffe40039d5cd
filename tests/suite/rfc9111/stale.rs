//! Stale responses (RFC 9111 §4.2.4, RFC 5861): when they may answer, and when an error must.

use crate::support::answer::{Answer, Gate};
use crate::support::scene::Scene;

#[tokio::test]
async fn stale_while_revalidate_answers_at_once_and_validates_in_the_background() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene
        .store_aged("/a", "200\nCache-Control: max-age=10, stale-while-revalidate=20\nETag: \"a\"\n\nold", 15)
        .await;
    scene.on("/a", Answer::held(&gate, "200\nCache-Control: max-age=60\nETag: \"b\"\n\nnew"));
    // The origin holds its answer, so this answer is the stored one.
    let stale = scene.get("/a").await;
    assert_eq!((stale.status, stale.text(), stale.age()), (200, "old", Some(15)));
    scene.origin.received(2).await;
    assert_eq!(scene.last_request("/a").field("if-none-match"), Some("\"a\""));
    // Further requests start no further validation.
    for _ in 0..5 {
        assert_eq!(scene.get("/a").await.text(), "old");
    }
    assert_eq!(scene.asked("/a"), 2);
    // After the window a caller waits for the running validation.
    scene.pass_seconds(30);
    let mut waiting = scene.caller().await;
    waiting.post("GET /a").await;
    gate.open();
    assert_eq!(waiting.read(false).await.text(), "new");
    assert_eq!(scene.get("/a").await.text(), "new");
}

#[tokio::test]
async fn outside_the_window_of_stale_while_revalidate_the_caller_waits() {
    let scene = Scene::rfc9111().await;
    scene
        .store_aged("/a", "200\nCache-Control: max-age=10, stale-while-revalidate=20\nETag: \"a\"\n\nold", 31)
        .await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"b\"\n\nnew");
    assert_eq!(scene.get("/a").await.text(), "new");
}

#[tokio::test]
async fn stale_if_error_answers_for_5xx_inside_its_window() {
    for (status, seconds, answered) in [
        (500, 15, true),
        (502, 15, true),
        (503, 15, true),
        (504, 15, true),
        (500, 31, false),
        (404, 15, false),
    ] {
        let scene = Scene::rfc9111().await;
        scene.on("/a", "200\nCache-Control: max-age=10, stale-if-error=20\nETag: \"a\"\n\nold");
        scene.on("/a", format!("{status}\n\nerror"));
        scene.get("/a").await;
        scene.pass_seconds(seconds);
        let response = scene.get("/a").await;
        let expected = if answered { (200, "old") } else { (status, "error") };
        assert_eq!((response.status, response.text()), expected, "{status} after {seconds} s");
    }
}

#[tokio::test]
async fn a_5xx_is_replaced_by_the_stale_response_unless_that_is_forbidden() {
    for (directives, status, body) in [
        ("max-age=10", 200, "old"),
        ("max-age=10, must-revalidate", 500, "error"),
        ("s-maxage=10", 500, "error"),
        ("max-age=10, stale-if-error=1", 500, "error"),
    ] {
        let scene = Scene::rfc9111().await;
        scene.store_aged("/a", format!("200\nCache-Control: {directives}\nETag: \"a\"\n\nold"), 15).await;
        scene.on("/a", "500\n\nerror");
        let response = scene.get("/a").await;
        assert_eq!((response.status, response.text()), (status, body), "{directives}");
        if status == 200 {
            let status = response.cache_status();
            assert_eq!(
                (status.fwd.as_deref(), status.detail.as_deref()),
                (Some("stale"), Some("server-error"))
            );
        }
    }
}

#[tokio::test]
async fn a_stale_response_answers_when_the_origin_closes_or_cannot_be_reached() {
    for away in [false, true] {
        let mut scene = Scene::rfc9111().await;
        scene.on("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nold");
        for _ in 0..3 {
            scene.on("/a", Answer::silence());
        }
        scene.get("/a").await;
        scene.pass_seconds(15);
        if away {
            scene.origin.vanish().await;
        }
        let response = scene.get("/a").await;
        assert_eq!((response.status, response.text(), response.age()), (200, "old", Some(15)), "away {away}");
        let status = response.cache_status();
        assert_eq!(status.ttl, Some(-5), "away {away}: {status:?}");
        assert!(status.detail.is_some(), "marked as such, away {away}: {status:?}");
    }
}

#[tokio::test]
async fn no_stale_response_answers_past_the_stale_limit() {
    let mut scene = Scene::with(&["upstream.sharing=rfc9111", "upstream.stale_limit=60s"]).await;
    scene.on("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nold");
    scene.get("/a").await;
    scene.origin.vanish().await;
    scene.pass_seconds(69);
    assert_eq!(scene.get("/a").await.text(), "old");
    scene.pass_seconds(2);
    let response = scene.get("/a").await;
    assert_eq!(response.status, 504, "{response:?}");
}

#[tokio::test]
async fn responses_that_forbid_it_are_never_served_stale() {
    for directives in [
        "max-age=10, must-revalidate",
        "max-age=10, proxy-revalidate",
        "max-age=10, no-cache",
        "s-maxage=10",
        "max-age=10, must-revalidate, stale-if-error=600, stale-while-revalidate=600",
    ] {
        for setting in ["unless-outdated", "available"] {
            let when = format!("upstream.when_disconnected={setting}");
            let mut scene = Scene::with(&["upstream.sharing=rfc9111", &when]).await;
            scene.on("/a", format!("200\nCache-Control: {directives}\nETag: \"a\"\n\nold"));
            for _ in 0..3 {
                scene.on("/a", Answer::silence());
            }
            scene.get("/a").await;
            scene.pass_seconds(15);
            let response = scene.get("/a").await;
            assert_eq!(response.status, 504, "closing, {directives}: {response:?}");
            scene.origin.vanish().await;
            let response = scene.get("/a").await;
            assert_eq!(response.status, 504, "away, {directives}: {response:?}");
            assert_eq!(response.field("content-type"), Some("application/problem+json"));
            let problem: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
            assert_eq!(problem["status"], 504);
        }
    }
}

#[tokio::test]
async fn without_a_stored_response_an_error_answers_and_the_connection_stays_open() {
    let mut scene = Scene::rfc9111().await;
    scene.on("/silent", Answer::silence());
    scene.on("/garbage", Answer::raw("garbage\r\n\r\n").then_close());
    let mut caller = scene.caller().await;
    assert_eq!(caller.send("GET /silent").await.status, 504);
    assert_eq!(caller.send("GET /garbage").await.status, 502);
    scene.origin.vanish().await;
    let away = caller.send("GET /away").await;
    assert_eq!(away.status, 504, "{away:?}");
    assert_eq!(away.field("content-type"), Some("application/problem+json"));
}

#[tokio::test]
async fn a_bad_answer_to_a_validation_is_replaced_by_the_stale_response() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nold");
    scene.on("/a", Answer::raw("garbage\r\n\r\n").then_close());
    scene.on("/b", "200\nCache-Control: max-age=10, must-revalidate\nETag: \"a\"\n\nold");
    scene.on("/b", Answer::raw("garbage\r\n\r\n").then_close());
    scene.get("/a").await;
    scene.get("/b").await;
    scene.pass_seconds(15);
    assert_eq!(scene.get("/a").await.text(), "old");
    assert_eq!(scene.get("/b").await.status, 502);
}
