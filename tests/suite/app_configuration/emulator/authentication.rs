//! Authentication: access keys (HMAC-SHA256), bearer tokens and read-only credentials. A 401 has one challenge for each
//! configured scheme; a write with a read-only credential gets 403.

use tagalong::internals::clock::{Clock, Timestamp};
use tagalong::internals::emulator::{Emulator, EmulatorSettings};
use tagalong::internals::headers::access_key::{AccessKey, SecretBytes, content_sha256};
use tagalong::internals::headers::hmac_authorization::authorization;

use super::{Origin, Reply, START};

const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtMzItYnl0ZXMhISE=";
const DATE: &str = "Fri, 21 Nov 2025 10:00:00 GMT";

fn key(id: &str) -> AccessKey {
    format!("{id}:{SECRET}").parse().unwrap()
}

fn guarded() -> Origin {
    Origin::new(EmulatorSettings {
        hmac: vec![key("test-id")],
        hmac_read_only: vec![key("reader")],
        bearer: vec![SecretBytes::new(b"token".to_vec())],
        ..EmulatorSettings::default()
    })
}

fn signed(id: &str, method: &str, target: &str, date: &str, body: &str) -> Vec<String> {
    let hash = content_sha256(body.as_bytes());
    let value = authorization(&key(id), method, target, date, "127.0.0.1:8483", &hash);
    vec![
        format!("authorization: {value}"),
        format!("x-ms-date: {date}"),
        format!("x-ms-content-sha256: {hash}"),
        "content-type: application/json".to_owned(),
    ]
}

async fn send(origin: &Origin, method: &str, target: &str, fields: &[String], body: &str) -> Reply {
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    origin.send(method, target, &fields, body).await
}

fn challenges(reply: &Reply) -> Vec<&str> {
    reply.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn a_signed_request_is_answered_with_every_form_of_date() {
    let origin = guarded();
    let put = "/kv/k%20%C3%A9?api-version=1.0&label=%00";
    let written = send(
        &origin,
        "PUT",
        put,
        &signed("test-id", "PUT", put, DATE, "{\"value\":\"v\"}"),
        "{\"value\":\"v\"}",
    )
    .await;
    assert_eq!(written.status, 200);
    for date in [
        DATE,
        "Friday, 21-Nov-25 10:14:59 GMT",
        "Fri Nov 21 09:45:00 2025",
        "Nov, 21 2025 10:00:00.123456 GMT",
    ] {
        let target = "/kv?api-version=1.0&key=k%20*";
        let reply = send(&origin, "GET", target, &signed("test-id", "GET", target, date, ""), "").await;
        assert_eq!(reply.status, 200, "{date}");
    }
}

#[tokio::test]
async fn refusals_are_empty_with_one_challenge_for_each_scheme_and_no_token() {
    let origin = guarded();
    let target = "/kv/k?api-version=1.0";
    let described = |text: &str| format!("HMAC-SHA256 error=\"invalid_token\", error_description=\"{text}\"");
    let changed = |index: usize, field: &str| {
        let mut fields = signed("test-id", "GET", target, DATE, "");
        fields[index] = field.to_owned();
        fields
    };
    for (fields, challenge) in [
        (vec![], "HMAC-SHA256".to_owned()),
        (changed(0, "authorization: Basic abc"), "HMAC-SHA256".to_owned()),
        (
            changed(0, "authorization: HMAC-SHA256 Credential=test-id"),
            described("SignedHeaders parameter is required"),
        ),
        (changed(1, "x-ms-date: soon"), described("Invalid access token date")),
        (changed(1, "x-ms-date: Fri, 21 Nov 2025 11:00:00 GMT"), described("The access token has expired")),
        (changed(1, "x-ms-date: Fri, 21 Nov 2025 10:00:01 GMT"), described("Invalid Signature")),
        (changed(1, "x-other: y"), described("Required signing request header 'x-ms-date' not found")),
        (signed("unknown", "GET", target, DATE, ""), described("Invalid Credential")),
        (signed("test-id", "PUT", target, DATE, ""), described("Invalid Signature")),
        (signed("test-id", "GET", target, DATE, "body"), described("Invalid request content hash")),
    ] {
        let reply = send(&origin, "GET", target, &fields, "").await;
        assert_eq!((reply.status, reply.body.len()), (401, 0), "{fields:?}");
        assert_eq!(challenges(&reply), [challenge.as_str(), "Bearer"], "{fields:?}");
        assert!(!reply.headers.contains_key("sync-token") && reply.headers.contains_key("x-ms-request-id"));
    }
    // The credential is checked before the rest of the request.
    assert_eq!(send(&origin, "POST", "/nowhere", &[], "").await.status, 401);
}

#[tokio::test]
async fn bearer_tokens_and_read_only_credentials() {
    let origin = guarded();
    let target = "/kv/k?api-version=1.0";
    let bearer = |token: &str| {
        vec![format!("authorization: Bearer {token}"), "content-type: application/json".to_owned()]
    };
    assert_eq!(send(&origin, "PUT", target, &bearer("token"), "{\"value\":\"v\"}").await.status, 200);
    let refused = send(&origin, "GET", target, &bearer("other"), "").await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        challenges(&refused),
        [
            "HMAC-SHA256",
            "Bearer error=\"invalid_token\", error_description=\"Authorization token failed validation\""
        ]
    );
    assert_eq!(
        send(&origin, "GET", target, &signed("reader", "GET", target, DATE, ""), "").await.status,
        200
    );
    for (method, target) in [
        ("PUT", target),
        ("DELETE", target),
        ("PUT", "/locks/k?api-version=1.0"),
        ("PATCH", "/snapshots/s?api-version=2023-10-01"),
    ] {
        let reply = send(&origin, method, target, &signed("reader", method, target, DATE, ""), "").await;
        assert_eq!((reply.status, reply.body.len()), (403, 0), "{method} {target}");
    }
    assert_eq!(origin.emulator.sequence_number(), 1);
}

#[tokio::test]
async fn the_recorded_request_of_the_python_client_is_answered() {
    let now = Timestamp::from_unix_seconds(1_795_297_081);
    assert!(now > START);
    let settings = EmulatorSettings { hmac_read_only: vec![key("test-id")], ..EmulatorSettings::default() };
    let request = http::Request::get("/kv/app%3Akey1?api-version=2026-04-01")
        .header("Host", "127.0.0.1:18901")
        .header("x-ms-date", "Nov, 21 2026 21:38:01.991863 GMT")
        .header("x-ms-content-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
        .header("Authorization", "HMAC-SHA256 Credential=test-id&SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=HS1i2Qu6/U3J0YQ914NX0rj+CHCrZMlwiDfkujvZuPY=")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let reply = Emulator::new(settings, Clock::manual(now), 1).respond(request).await;
    assert_eq!(reply.status(), 404, "authenticated; the key-value is missing");
}
