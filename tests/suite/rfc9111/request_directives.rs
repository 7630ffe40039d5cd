//! `Cache-Control` and `Pragma` of callers (RFC 9111 §5.2.1, §5.4).

use crate::support::scene::Scene;

const STORED: &str = "200\nCache-Control: max-age=60\nETag: \"a\"\n\nold";
const NEWER: &str = "200\nCache-Control: max-age=60\nETag: \"b\"\n\nnew";

/// Whether the stored response, `age` seconds old, answers a request with these fields.
async fn answers(age: u64, fields: &str) -> bool {
    let scene = Scene::rfc9111().await;
    scene.on("/a", STORED);
    scene.on("/a", NEWER);
    scene.get("/a").await;
    scene.pass_seconds(age);
    let response = scene.send(&format!("GET /a\n{fields}")).await;
    let status = response.cache_status();
    if !status.hit && age < 60 {
        assert_eq!(status.fwd.as_deref(), Some("request"), "{fields}: {status:?}");
    }
    assert_eq!(response.text(), if status.hit { "old" } else { "new" }, "{fields}");
    assert_eq!(scene.asked("/a"), if status.hit { 1 } else { 2 }, "{fields}");
    status.hit
}

#[tokio::test]
async fn each_directive_is_honoured() {
    let rows = [
        (10, "X: x", true),
        (10, "Cache-Control: no-cache", false),
        (10, "cache-control: NO-CACHE", false),
        (10, "Pragma: no-cache", false),
        (10, "Pragma: no-cache\nCache-Control: max-age=60", true),
        (10, "Pragma: other", true),
        (10, "Cache-Control: max-age=9", false),
        (10, "Cache-Control: max-age=11", true),
        (10, "Cache-Control: max-age=0", false),
        (10, "Cache-Control: min-fresh=40", true),
        (10, "Cache-Control: min-fresh=51", false),
        (70, "X: x", false),
        (70, "Cache-Control: max-stale", true),
        (70, "Cache-Control: max-stale=20", true),
        (70, "Cache-Control: max-stale=5", false),
        (70, "Cache-Control: only-if-cached, max-stale=20", true),
        (10, "Cache-Control: only-if-cached", true),
        (10, "Cache-Control: unknown=1, \"", true),
    ];
    for (age, fields, answered) in rows {
        assert_eq!(answers(age, fields).await, answered, "{age} s: {fields}");
    }
}

#[tokio::test]
async fn only_if_cached_never_asks_the_origin() {
    let scene = Scene::rfc9111().await;
    let response = scene.send("GET /a\nCache-Control: only-if-cached").await;
    assert_eq!(response.status, 504, "{response:?}");
    assert_eq!(scene.origin.requests().len(), 0);
    scene.on("/a", STORED);
    scene.get("/a").await;
    assert_eq!(scene.send("GET /a\nCache-Control: only-if-cached").await.text(), "old");
    scene.pass_seconds(61);
    assert_eq!(scene.send("GET /a\nCache-Control: only-if-cached").await.status, 504);
    assert_eq!(scene.asked("/a"), 1);
}

#[tokio::test]
async fn no_store_of_a_request_keeps_its_answer_out_of_the_store() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", STORED);
    scene.on("/a", NEWER);
    assert_eq!(scene.send("GET /a\nCache-Control: no-store").await.text(), "old");
    assert_eq!(scene.get("/a").await.text(), "new");
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn max_stale_does_not_overrule_must_revalidate() {
    for directive in ["must-revalidate", "proxy-revalidate"] {
        let scene = Scene::rfc9111().await;
        scene
            .store_aged("/a", format!("200\nCache-Control: max-age=60, {directive}\nETag: \"a\"\n\nold"), 70)
            .await;
        scene.on("/a", NEWER);
        assert_eq!(scene.send("GET /a\nCache-Control: max-stale").await.text(), "new", "{directive}");
    }
}

#[tokio::test]
async fn a_reload_that_is_validated_keeps_the_stored_body() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", STORED);
    scene.on("/a", "304\nETag: \"a\"\nCache-Control: max-age=60");
    scene.get("/a").await;
    let response = scene.send("GET /a\nCache-Control: no-cache").await;
    assert_eq!((response.status, response.text()), (200, "old"));
    let status = response.cache_status();
    assert_eq!((status.fwd.as_deref(), status.fwd_status), (Some("request"), Some(304)));
}

#[tokio::test]
async fn the_configuration_can_ignore_request_directives() {
    let scene = Scene::with(&["upstream.sharing=rfc9111", "upstream.honour_request_directives=false"]).await;
    scene.on("/a", STORED);
    scene.get("/a").await;
    for fields in
        ["Cache-Control: no-cache", "Pragma: no-cache", "Cache-Control: max-age=0", "Cache-Control: no-store"]
    {
        assert!(scene.send(&format!("GET /a\n{fields}")).await.is_hit(), "{fields}");
    }
}
