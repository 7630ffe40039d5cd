//! The sidecar has an access key: it signs every upstream request with it, with or without a credential of the caller.

use std::time::Duration;

use super::{UPSTREAM_KEY, assert_signed, key};
use crate::support::scene::Scene;

fn settings(more: &[&str]) -> Vec<String> {
    let (id, secret) = UPSTREAM_KEY.split_once(':').expect("id and secret");
    let mut settings = vec![
        "upstream.profile=app-configuration".to_owned(),
        "upstream.credential.kind=hmac".to_owned(),
        format!("upstream.credential.connection_string=Id={id};Secret={secret}"),
    ];
    settings.extend(more.iter().map(|&setting| setting.to_owned()));
    settings
}

async fn scene(more: &[&str]) -> Scene {
    let settings = settings(more);
    Scene::with(&settings.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test]
async fn every_request_is_signed_anew_with_the_sidecars_key_and_clock() {
    let scene = scene(&[]).await;
    for target in ["/kv/app%3Akey1?api-version=2023-11-01&label=x", "/kv?key=a%2A&api-version=1.0", "/else?x"]
    {
        scene.on(target, "200\n\n{}");
        let response = scene
            .send(&format!(
                "GET {target}\nAuthorization: HMAC-SHA256 Credential=app&SignedHeaders=x-ms-date;host&Signature=AAAA\n\
                 x-ms-date: Mon, 01 Jan 2001 00:00:00 GMT\nx-ms-content-sha256: AAAA"
            ))
            .await;
        assert_eq!(response.status, 200, "{target}");
        let recorded = scene.last_request(target);
        assert_signed(&recorded, &key(UPSTREAM_KEY), scene.clock.now());
        assert!(!String::from_utf8_lossy(&recorded.bytes).contains("Credential=app&"), "{target}");
        scene.pass_seconds(3_600);
    }
}

#[tokio::test]
async fn a_body_is_hashed_whole_even_if_it_came_in_chunks_and_is_large() {
    let scene = scene(&["limits.buffered_request_body=1KiB"]).await;
    let body = "x".repeat(5_000);
    for (target, framing) in [("/kv/a", ""), ("/kv/b", "\nTransfer-Encoding: chunked")] {
        scene.on(target, "200\n\n{}");
        let sent = if framing.is_empty() { body.clone() } else { format!("1388\r\n{body}\r\n0\r\n\r\n") };
        let response = scene.send(&format!("PUT {target}{framing}\n\n{sent}")).await;
        assert_eq!(response.status, 200);
        let recorded = scene.last_request(target);
        assert_eq!(recorded.body, body.as_bytes());
        assert_eq!(recorded.field("content-length"), Some("5000"));
        assert_signed(&recorded, &key(UPSTREAM_KEY), scene.clock.now());
    }
}

#[tokio::test]
async fn validations_are_signed_too() {
    let scene = scene(&["upstream.freshness=1s"]).await;
    scene.on("/kv/a", "200\nETag: \"1\"\n\n{}");
    assert_eq!(scene.get("/kv/a").await.status, 200);
    scene.pass_seconds(1_000);
    scene.on("/kv/a", "304\nETag: \"1\"");
    assert_eq!(scene.get("/kv/a").await.status, 200);
    let validation = scene.last_request("/kv/a");
    assert_eq!(validation.field("if-none-match"), Some("\"1\""));
    assert_signed(&validation, &key(UPSTREAM_KEY), scene.clock.now());
}

#[tokio::test]
async fn a_rotated_connection_string_is_used_without_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connection-string");
    std::fs::write(&path, "Id=old;Secret=b2xk").unwrap();
    let file = format!("upstream.credential.connection_string_file={}", path.display());
    let scene = Scene::with(&["upstream.credential.kind=hmac", &file]).await;
    scene.on("/a", "200\n\n1");
    scene.get("/a").await;
    assert_signed(&scene.last_request("/a"), &key("old:b2xk"), scene.clock.now());
    std::fs::write(&path, "Id=new-one;Secret=bmV3").unwrap();
    scene.clock.advance(Duration::from_secs(1));
    scene.on("/b", "200\n\n1");
    scene.get("/b").await;
    assert_signed(&scene.last_request("/b"), &key("new-one:bmV3"), scene.clock.now());
    // The connection string of another store is not used.
    std::fs::write(&path, "Endpoint=http://elsewhere.test;Id=other;Secret=b3RoZXI=").unwrap();
    scene.clock.advance(Duration::from_secs(1));
    scene.on("/c", "200\n\n1");
    scene.get("/c").await;
    assert_signed(&scene.last_request("/c"), &key("new-one:bmV3"), scene.clock.now());
}
