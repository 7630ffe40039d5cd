//! Throttling: a pause that the origin asks for applies to all callers.

use crate::support::scene::Scene;

#[tokio::test]
async fn each_hint_is_obeyed_for_all_callers() {
    for (status, hint) in [
        (429, "retry-after-ms: 5000"),
        (429, "x-ms-retry-after-ms: 5000"),
        (429, "Retry-After: 5"),
        (503, "retry-after-ms: 5000"),
        (503, "x-ms-retry-after-ms: 5000"),
        (503, "Retry-After: 5"),
        (429, "Retry-After: {now+5}"),
        (429, "Retry-After: 3600\nretry-after-ms: 5000"),
    ] {
        let scene = Scene::rfc9111().await;
        scene.on("/a", format!("{status}\n{hint}\n\nslow down"));
        let first = scene.get("/a").await;
        assert_eq!(first.status, status, "{hint}");
        // A request of another caller for another key is not sent either.
        scene.pass_seconds(2);
        let other = scene.get("/b").await;
        assert_eq!(other.status, status, "the status of the origin, {hint}: {other:?}");
        assert_eq!(other.field("retry-after"), Some("3"), "{hint}: {other:?}");
        assert_eq!(other.field("retry-after-ms"), Some("3000"), "{hint}: {other:?}");
        assert_eq!(scene.origin.requests().len(), 1, "{status} {hint}");
        scene.pass_seconds(3);
        scene.on("/b", "200\n\nback");
        assert_eq!(scene.get("/b").await.text(), "back", "{hint}");
    }
}

#[tokio::test]
async fn an_answer_without_a_hint_does_not_throttle() {
    for answer in [
        "429\n\nx",
        "503\n\nx",
        "429\nRetry-After: soon\n\nx",
        "429\nRetry-After: -5\n\nx",
        "500\nRetry-After: 5\n\nx",
    ] {
        let scene = Scene::rfc9111().await;
        scene.on("/a", answer);
        scene.get("/a").await;
        scene.on("/b", "200\n\nasked");
        assert_eq!(scene.get("/b").await.text(), "asked", "{answer}");
    }
}

#[tokio::test]
async fn during_a_pause_stale_responses_answer_and_writes_are_forwarded() {
    let scene = Scene::rfc9111().await;
    scene.on("/fresh", "200\nCache-Control: max-age=600\n\nfresh");
    scene.on("/stale", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nstale");
    scene.on("/strict", "200\nCache-Control: max-age=10, must-revalidate\nETag: \"a\"\n\nstrict");
    for target in ["/fresh", "/stale", "/strict"] {
        scene.get(target).await;
    }
    scene.pass_seconds(11);
    scene.on("/throttle", "429\nRetry-After: 30\n\nslow down");
    scene.get("/throttle").await;
    let asked = scene.origin.requests().len();
    assert!(scene.get("/fresh").await.is_hit());
    let stale = scene.get("/stale").await;
    assert_eq!((stale.status, stale.text()), (200, "stale"));
    assert!(stale.cache_status().detail.is_some(), "marked: {:?}", stale.head);
    let strict = scene.get("/strict").await;
    assert_eq!((strict.status, strict.field("retry-after")), (429, Some("30")));
    assert_eq!(scene.origin.requests().len(), asked);
    scene.on("/write", "204");
    assert_eq!(scene.send("PUT /write\n\nx").await.status, 204);
}

#[tokio::test]
async fn a_stale_response_replaces_the_answer_that_throttles() {
    let scene = Scene::rfc9111().await;
    scene.store_aged("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nold", 11).await;
    scene.on("/a", "429\nRetry-After: 30\n\nslow down");
    let response = scene.get("/a").await;
    assert_eq!((response.status, response.text()), (200, "old"));
}

#[tokio::test]
async fn a_hint_is_obeyed_up_to_the_limit() {
    let scene = Scene::rfc9111().await;
    scene.store_aged("/a", "429\nRetry-After: 86400\n\nslow down", 59).await;
    assert_eq!(scene.get("/b").await.status, 429);
    scene.pass_seconds(2);
    scene.on("/b", "200\n\nback");
    assert_eq!(scene.get("/b").await.text(), "back");
}

const STORAGE: &str =
    "429\nRetry-After: 30\nContent-Type: application/problem+json; charset=utf-8\n\n{\"policy\":\"Storage\"}";

#[tokio::test]
async fn a_storage_quota_pauses_writes_and_not_reads() {
    let scene = Scene::rfc9111().await;
    scene.on("/write", STORAGE);
    let first = scene.send("PUT /write\n\nx").await;
    assert_eq!((first.status, first.text()), (429, "{\"policy\":\"Storage\"}"), "the body of the origin");
    scene.on("/read", "200\n\nread");
    assert_eq!(scene.get("/read").await.text(), "read");
    scene.pass_seconds(10);
    let asked = scene.origin.requests().len();
    for request in ["PUT /other\n\nx", "POST /other\n\nx", "DELETE /other"] {
        let refused = scene.send(request).await;
        assert_eq!((refused.status, refused.field("retry-after")), (429, Some("20")), "{request}");
    }
    assert_eq!(scene.origin.requests().len(), asked, "nothing left");
    scene.pass_seconds(20);
    scene.on("/other", "204");
    assert_eq!(scene.send("PUT /other\n\nx").await.status, 204);
}

#[tokio::test]
async fn a_429_without_a_readable_storage_policy_pauses_reads() {
    let long = format!("{{\"policy\":\"Storage\",\"detail\":\"{}\"}}", "x".repeat(8 * 1024));
    for (content_type, body) in [
        ("application/problem+json", "{\"policy\":\"Total Requests\"}"),
        ("application/json", "{\"policy\":\"Storage\"}"),
        ("application/problem+json", "{\"policy\":\"Stor"),
        ("application/problem+json", long.as_str()),
    ] {
        let scene = Scene::rfc9111().await;
        scene.on("/a", format!("429\nRetry-After: 30\nContent-Type: {content_type}\n\n{body}"));
        let first = scene.get("/a").await;
        assert_eq!((first.text(), first.complete), (body, true), "every byte reaches the caller");
        assert_eq!(scene.get("/b").await.status, 429, "{content_type} {body}");
        scene.on("/write", "204");
        assert_eq!(scene.send("PUT /write\n\nx").await.status, 204, "{content_type} {body}");
    }
}

#[tokio::test]
async fn a_forwarded_identity_is_paused_alone() {
    let scene = Scene::guarded().await;
    scene.on("/a", "429\nRetry-After: 30\n\nslow down");
    assert_eq!(scene.send("GET /a\nAuthorization: Bearer alice").await.status, 429);
    assert_eq!(scene.send("GET /b\nAuthorization: Bearer alice").await.status, 429);
    assert_eq!(scene.asked("/b"), 0);
    for (other, body) in [("\nAuthorization: Bearer bob", "for bob"), ("", "for all")] {
        scene.on("/b", format!("200\nCache-Control: no-store\n\n{body}"));
        assert_eq!(scene.send(&format!("GET /b{other}")).await.text(), body);
    }
    scene.on("/w", STORAGE);
    assert_eq!(scene.send("PUT /w\nAuthorization: Bearer carol\n\nx").await.status, 429);
    scene.on("/w", "204");
    assert_eq!(scene.send("PUT /w\nAuthorization: Bearer alice\n\nx").await.status, 204);
    assert_eq!(scene.send("PUT /w\nAuthorization: Bearer carol\n\nx").await.status, 429);
}
