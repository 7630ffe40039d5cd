//! How the sidecar authenticates to the upstream, and how callers authenticate to the sidecar, end to end.

mod callers;
mod entra;
mod forwarded;
mod hmac;
mod limits;
mod permissions;
mod secrets;
mod unauthorized;

use tagalong::internals::clock::Timestamp;
use tagalong::internals::headers::access_key::{AccessKey, content_sha256};
use tagalong::internals::headers::hmac_authorization::{SignedRequest, authorization, verify};

use crate::support::origin::Recorded;

/// The id and secret of the access key of the upstream.
const UPSTREAM_KEY: &str = "test-id:c2VjcmV0LXNlY3JldC1zZWNyZXQtMzItYnl0ZXMhISE=";

fn key(text: &str) -> AccessKey {
    text.parse().expect("an access key")
}

/// Fails unless the signature of this request is valid for that key at that time.
fn assert_signed(recorded: &Recorded, key: &AccessKey, now: Timestamp) {
    let mut headers = http::HeaderMap::new();
    for (name, value) in &recorded.head.fields {
        let name: http::HeaderName = name.parse().expect("a field name");
        headers.append(name, value.parse().expect("a field value"));
    }
    let request = SignedRequest {
        method: &recorded.method,
        target: &recorded.target,
        headers: &headers,
        authority: None,
    };
    let verified = verify(&request, now, |id| (id == key.id()).then_some(key)).expect("a valid signature");
    verified.check_content(&recorded.body).expect("the hash of the body");
}

/// A request in the short form, signed by a caller that dials `host`.
fn signed(key: &AccessKey, request: &str, body: &str, host: &str, now: Timestamp) -> String {
    let date = httpdate::fmt_http_date(now.to_system_time());
    let (first, others) = request.split_once('\n').unwrap_or((request, ""));
    let (method, target) = first.split_once(' ').expect("method and target");
    let hash = content_sha256(body.as_bytes());
    let value = authorization(key, method, target, &date, host, &hash);
    let others = if others.is_empty() { String::new() } else { format!("\n{others}") };
    let body = if body.is_empty() { String::new() } else { format!("\n\n{body}") };
    format!("{first}\nx-ms-date: {date}\nx-ms-content-sha256: {hash}\nAuthorization: {value}{others}{body}")
}
