//! Heuristic lifetimes (RFC 9111 §4.2.2): a tenth of the age at the origin, up to a configured maximum.

use crate::support::scene::Scene;

async fn is_reused_after(scene: &Scene, target: &str, status: u16, fields: &str, seconds: u64) -> bool {
    scene.on(target, format!("{status}\nLast-Modified: {{now-1000}}\n{fields}\n\n"));
    scene.on(target, "200\nCache-Control: no-store\n\nsecond");
    scene.get(target).await;
    scene.pass_seconds(seconds);
    let second = scene.get(target).await;
    assert_eq!(scene.asked(target), if second.is_hit() { 1 } else { 2 }, "{status} {fields}");
    second.is_hit()
}

#[tokio::test]
async fn heuristically_cacheable_statuses_are_fresh_for_a_tenth_of_their_age() {
    let scene = Scene::rfc9111().await;
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert!(
            is_reused_after(&scene, &format!("/{status}"), status, "X: x", 95).await,
            "{status} after 95 s"
        );
        assert!(
            !is_reused_after(&scene, &format!("/{status}-late"), status, "X: x", 105).await,
            "{status} after 105 s"
        );
    }
}

#[tokio::test]
async fn a_heuristic_lifetime_has_a_configurable_maximum_of_an_hour() {
    let bounded = Scene::with(&["upstream.sharing=rfc9111", "upstream.heuristic_limit=10m"]).await;
    for (scene, limit_seconds) in [(&Scene::rfc9111().await, 3_600), (&bounded, 600)] {
        let file = "200\nLast-Modified: {now-63072000}\n\nof two years ago";
        scene.on("/file", file);
        scene.get("/file").await;
        scene.pass_seconds(limit_seconds - 1);
        assert!(scene.get("/file").await.is_hit(), "{limit_seconds}");
        scene.on("/file", "200\nCache-Control: no-store\n\nasked again");
        scene.pass_seconds(2);
        assert_eq!(scene.get("/file").await.text(), "asked again");
        assert_eq!(scene.asked("/file"), 2, "{limit_seconds}");
    }
}

#[tokio::test]
async fn other_statuses_have_no_heuristic_lifetime_unless_public() {
    let scene = Scene::rfc9111().await;
    for status in [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 299, 499, 599] {
        assert!(!is_reused_after(&scene, &format!("/{status}"), status, "X: x", 0).await, "{status}");
    }
    for status in [201, 202, 403, 499, 502, 503, 504, 599] {
        let target = format!("/{status}-public");
        assert!(
            is_reused_after(&scene, &target, status, "Cache-Control: public", 50).await,
            "public {status}"
        );
    }
}

#[tokio::test]
async fn an_explicit_or_configured_lifetime_replaces_the_heuristic() {
    let scene = Scene::rfc9111().await;
    for (number, fields) in
        ["Cache-Control: max-age=1", "Expires: {now+1}", "Expires: 0"].into_iter().enumerate()
    {
        assert!(!is_reused_after(&scene, &format!("/{number}"), 200, fields, 2).await, "{fields}");
    }
    let configured = Scene::with(&["upstream.sharing=rfc9111", "upstream.freshness=10s"]).await;
    assert!(is_reused_after(&configured, "/a", 200, "X: x", 9).await);
    assert!(!is_reused_after(&configured, "/b", 200, "X: x", 11).await);
}
