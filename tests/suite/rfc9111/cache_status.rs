//! `Cache-Status` on every answer (RFC 9211).

use crate::support::answer::Answer;
use crate::support::scene::Scene;

#[tokio::test]
async fn a_miss_then_a_hit() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\n\nbody");
    let status = scene.get("/a").await.cache_status();
    assert_eq!((status.hit, status.fwd.as_deref(), status.stored), (false, Some("uri-miss"), true));
    scene.pass_seconds(20);
    let status = scene.get("/a").await.cache_status();
    assert_eq!((status.hit, status.fwd, status.ttl), (true, None, Some(40)));
    assert!(status.key.is_none(), "the key is hidden by default");
}

#[tokio::test]
async fn a_validated_stale_response_says_so() {
    let scene = Scene::rfc9111().await;
    scene.store_aged("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nbody", 11).await;
    scene.on("/a", "304\nETag: \"a\"");
    let status = scene.get("/a").await.cache_status();
    assert_eq!((status.fwd.as_deref(), status.fwd_status, status.stored), (Some("stale"), Some(304), true));
}

#[tokio::test]
async fn what_is_not_stored_does_not_say_stored() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: no-store\n\nbody");
    scene.on("/a", "200\n\nput");
    let status = scene.get("/a").await.cache_status();
    assert_eq!((status.fwd.as_deref(), status.stored), (Some("uri-miss"), false));
    let status = scene.send("PUT /a\n\nx").await.cache_status();
    assert_eq!((status.fwd.as_deref(), status.stored), (Some("method"), false));
}

#[tokio::test]
async fn a_field_from_upstream_is_appended_to() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nCache-Status: outer; hit; ttl=5\nCache-Status: nearer; fwd=uri-miss\n\nx");
    for hit in [false, true] {
        let status = scene.get("/a").await.cache_status();
        assert_eq!(status.hit, hit);
        assert_eq!(status.before, ["outer; hit; ttl=5", "nearer; fwd=uri-miss"], "hit {hit}");
    }
}

#[tokio::test]
async fn errors_of_the_sidecar_carry_cache_status() {
    let mut scene = Scene::rfc9111().await;
    scene.on("/bad", Answer::silence());
    let status = scene.get("/bad").await.cache_status();
    assert_eq!((status.hit, status.fwd.as_deref()), (false, Some("uri-miss")));
    assert!(status.detail.is_some());
    let status = scene.send("GET /none\nCache-Control: only-if-cached").await.cache_status();
    assert!(!status.hit && status.detail.is_some(), "{status:?}");
    scene.origin.vanish().await;
    let status = scene.get("/away").await.cache_status();
    assert!(!status.hit && status.detail.is_some(), "{status:?}");
}

#[tokio::test]
async fn the_key_is_shown_only_if_configured() {
    let scene = Scene::with(&["upstream.sharing=rfc9111", "upstream.show_cache_key=true"]).await;
    scene.on("/a?b=\"c\\d", "200\nCache-Control: max-age=60\n\nx");
    scene.on("/kv/a?b=1", "200\nCache-Control: max-age=60\n\nx");
    for target in ["/kv/a?b=1"] {
        for _ in 0..2 {
            let status = scene.get(target).await.cache_status();
            assert!(status.key.as_deref().is_some_and(|key| key.contains(target)), "{status:?}");
        }
    }
}

#[tokio::test]
async fn a_304_to_a_caller_carries_cache_status() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"a\"\n\nx");
    scene.get("/a").await;
    let response = scene.send("GET /a\nIf-None-Match: \"a\"").await;
    assert_eq!(response.status, 304);
    assert!(response.is_hit());
}
