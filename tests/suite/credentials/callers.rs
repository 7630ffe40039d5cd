//! Callers that must authenticate to the sidecar, with their own access keys or with a token.

use super::{UPSTREAM_KEY, assert_signed, key, signed};
use crate::support::scene::Scene;

const APP: &str = "app-a:c2VjcmV0";
const READER: &str = "reader:cmVhZGVy";
const PART: &str = "part:cGFydA==";

struct Guarded {
    scene: Scene,
    _directory: tempfile::TempDir,
}

impl Guarded {
    async fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys");
        std::fs::write(
            &keys,
            "Id=app-a;Secret=c2VjcmV0\nId=reader;Secret=cmVhZGVy;Access=read-only\nId=part;Secret=cGFydA==;Prefix=part/\n",
        )
        .unwrap();
        std::fs::write(directory.path().join("token"), "let-me-in\n").unwrap();
        let (id, secret) = UPSTREAM_KEY.split_once(':').expect("id and secret");
        let mut settings = vec![
            "upstream.profile=app-configuration".to_owned(),
            "upstream.credential.kind=hmac".to_owned(),
            format!("upstream.credential.id={id}"),
            format!("upstream.credential.secret={secret}"),
            format!("listener.local_keys_file={}", keys.display()),
        ];
        settings.extend(more.iter().map(|it| it.replace('@', &format!("{}/", directory.path().display()))));
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Self { scene: Scene::with(&settings).await, _directory: directory }
    }

    async fn send(&self, key_text: &str, request: &str, body: &str) -> crate::support::caller::Response {
        let host = self.scene.sidecar.address.to_string();
        self.scene.send(&signed(&key(key_text), request, body, &host, self.scene.clock.now())).await
    }
}

#[tokio::test]
async fn a_signed_caller_is_served_from_the_store_and_signed_anew_upstream() {
    let guarded = Guarded::start(&[]).await;
    guarded.scene.on("/kv/a", "200\nETag: \"1\"\n\n{\"value\":1}");
    let first = guarded.send(APP, "GET /kv/a", "").await;
    assert_eq!((first.status, first.text()), (200, "{\"value\":1}"));
    let recorded = guarded.scene.last_request("/kv/a");
    assert_signed(&recorded, &key(UPSTREAM_KEY), guarded.scene.clock.now());
    assert!(!String::from_utf8_lossy(&recorded.bytes).contains("app-a"));
    let second = guarded.send(READER, "GET /kv/a", "").await;
    assert!(second.is_hit(), "one shared partition for all known callers");
}

#[tokio::test]
async fn a_stored_response_is_not_given_to_unknown_callers() {
    let guarded = Guarded::start(&[]).await;
    guarded.scene.on("/kv/a", "200\nETag: \"1\"\n\nsecret");
    assert_eq!(guarded.send(APP, "GET /kv/a", "").await.status, 200);
    for stranger in [
        "GET /kv/a".to_owned(),
        "GET /kv/a\nAuthorization: Bearer x".to_owned(),
        "GET /kv/a\nIf-None-Match: \"1\"".to_owned(),
        "HEAD /kv/a".to_owned(),
        signed(&key("app-a:d3Jvbmc="), "GET /kv/a", "", "127.0.0.1:1", guarded.scene.clock.now()),
    ] {
        let response = guarded.scene.send(&stranger).await;
        assert_eq!(response.status, 401, "{stranger}");
        assert!(response.field("www-authenticate").unwrap().starts_with("HMAC-SHA256"), "{stranger}");
        assert!(!response.text().contains("secret") && response.field("etag").is_none());
    }
    assert_eq!(guarded.scene.asked("/kv/a"), 1);
}

#[tokio::test]
async fn a_replayed_signature_covers_no_other_request_and_not_for_long() {
    let guarded = Guarded::start(&[]).await;
    guarded.scene.on("/kv/a", "200\n\n1");
    let host = guarded.scene.sidecar.address.to_string();
    let once = signed(&key(APP), "GET /kv/a", "", &host, guarded.scene.clock.now());
    assert_eq!(guarded.scene.send(&once).await.status, 200);
    assert_eq!(guarded.scene.send(&once.replacen("GET /kv/a", "DELETE /kv/a", 1)).await.status, 401);
    assert_eq!(guarded.scene.send(&once.replacen("/kv/a", "/kv/b", 1)).await.status, 401);
    assert_eq!(guarded.scene.send(&format!("{once}\n\nbody")).await.status / 100, 4);
    guarded.scene.pass_seconds(901);
    let late = guarded.scene.send(&once).await;
    assert_eq!(late.status, 401);
    assert!(late.field("www-authenticate").unwrap().contains("The access token has expired"));
}

#[tokio::test]
async fn a_write_is_compared_with_its_signed_hash_before_the_origin_hears_of_it() {
    let guarded = Guarded::start(&[]).await;
    let host = guarded.scene.sidecar.address.to_string();
    let now = guarded.scene.clock.now();
    let good = signed(&key(APP), "PUT /kv/a", "{\"value\":\"1\"}", &host, now);
    let tampered = good.replace("{\"value\":\"1\"}", "{\"value\":\"2\"}");
    let refused = guarded.scene.send(&tampered).await;
    assert_eq!(refused.status, 401);
    assert!(refused.field("www-authenticate").unwrap().contains("Invalid request content hash"));
    assert_eq!(guarded.scene.asked("/kv/a"), 0);
    guarded.scene.on("/kv/a", "200\n\n{}");
    assert_eq!(guarded.scene.send(&good).await.status, 200);
    assert_eq!(guarded.scene.last_request("/kv/a").body, b"{\"value\":\"1\"}");
}

#[tokio::test]
async fn keys_have_the_permissions_of_their_line() {
    let guarded = Guarded::start(&[]).await;
    assert_eq!(guarded.send(READER, "PUT /kv/a", "{}").await.status, 403);
    assert_eq!(guarded.send(READER, "DELETE /kv/a", "").await.status, 403);
    assert_eq!(guarded.send(PART, "GET /kv/other", "").await.status, 403);
    assert_eq!(guarded.send(PART, "GET /kv?key=*", "").await.status, 403);
    assert_eq!(guarded.scene.origin.requests().len(), 0);
    guarded.scene.on("/kv/part%2Fa", "200\n\n1");
    assert_eq!(guarded.send(PART, "GET /kv/part%2Fa", "").await.status, 200);
}

#[tokio::test]
async fn the_advice_names_the_trailing_slash() {
    let guarded = Guarded::start(&[]).await;
    let host = guarded.scene.sidecar.address.to_string();
    let request = signed(&key(APP), "GET kv/a", "", &host, guarded.scene.clock.now());
    let response = guarded.scene.send(&request.replacen("GET kv/a", "GET /kv/a", 1)).await;
    assert_eq!(response.status, 401);
    assert!(response.text().contains("slash at the end of Endpoint"), "{}", response.text());
}

#[tokio::test]
async fn the_local_bearer_token_authenticates_and_is_not_forwarded() {
    let guarded = Guarded::start(&[
        "listener.local_keys_file=",
        "listener.bearer_file=@token",
        "upstream.profile=generic",
    ])
    .await;
    guarded.scene.on("/a", "200\n\n1");
    assert_eq!(guarded.scene.get("/a").await.status, 401);
    assert_eq!(guarded.scene.send("GET /a\nAuthorization: Bearer let-me-out").await.status, 401);
    assert_eq!(guarded.scene.send("GET /a\nAuthorization: Bearer let-me-in").await.status, 200);
    let recorded = guarded.scene.last_request("/a");
    assert!(!String::from_utf8_lossy(&recorded.bytes).contains("let-me-in"));
    assert_signed(&recorded, &key(UPSTREAM_KEY), guarded.scene.clock.now());
}

#[tokio::test]
async fn a_local_token_in_its_own_field_is_not_forwarded_and_authorization_is() {
    let guarded = Guarded::start(&[
        "listener.local_keys_file=",
        "listener.bearer_file=@token",
        "listener.bearer_field=X-Sidecar-Token",
        "upstream.profile=generic",
        "upstream.credential.kind=forward",
    ])
    .await;
    guarded.scene.on("/a", "200\n\n1");
    let response =
        guarded.scene.send("GET /a\nX-Sidecar-Token: let-me-in\nAuthorization: Bearer for-the-origin").await;
    assert_eq!(response.status, 200);
    let recorded = guarded.scene.last_request("/a");
    assert_eq!(recorded.field("authorization"), Some("Bearer for-the-origin"));
    assert!(!String::from_utf8_lossy(&recorded.bytes).contains("let-me-in"));
}
