//! Allow-lists of an upstream: other requests are refused before the store and the origin are asked.

use crate::support::scene::Scene;

#[tokio::test]
async fn a_read_only_upstream_is_never_written_to() {
    let scene = Scene::with(&["upstream.read_only=true"]).await;
    for request in ["PUT /a\n\nx", "POST /a\n\nx", "DELETE /a", "PATCH /a\n\nx", "LOCK /a"] {
        let response = scene.send(request).await;
        assert_eq!(response.status, 403, "{request}");
        assert!(response.text().contains("read-only"), "{request}");
    }
    assert_eq!(scene.origin.requests().len(), 0);
    scene.on("/a", "200\n\n1");
    assert_eq!(scene.get("/a").await.status, 200);
}

#[tokio::test]
async fn methods_and_paths_that_are_not_listed_are_refused() {
    let scene = Scene::with(&["upstream.allowed_methods=GET,HEAD", "upstream.allowed_paths=/kv,/keys"]).await;
    let refused = scene.send("DELETE /kv/a").await;
    assert_eq!((refused.status, refused.field("allow")), (405, Some("GET, HEAD")));
    for path in [
        "/",
        "/secrets",
        "/kvx",
        "/kv/../secrets",
        "/kv/%2e%2e/secrets",
        "/kv/..%2fsecrets",
        "//kv",
        "/%6bv%2fa",
    ] {
        assert_eq!(scene.get(path).await.status, 403, "{path}");
    }
    assert_eq!(scene.send("GET http://127.0.0.1/secrets\nHost: 127.0.0.1").await.status, 403);
    assert_eq!(scene.origin.requests().len(), 0);
    scene.on("/kv/a", "200\n\n1");
    assert_eq!(scene.get("/kv/a").await.status, 200);
}
