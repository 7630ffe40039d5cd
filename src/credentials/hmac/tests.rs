use std::path::Path;
use std::time::Duration;

use http::Method;

use super::*;
use crate::clock::Timestamp;
use crate::config::{Config, Layers};
use crate::headers::hmac_authorization::{SignedRequest, verify};
use crate::metrics::Metrics;

/// Fri, 21 Nov 2025 10:00:00 GMT.
const NOW: Timestamp = Timestamp::from_unix_seconds(1_763_719_200);
/// The secret of the worked examples.
const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtMzItYnl0ZXMhISE=";
const OTHER_SECRET: &str = "b3RoZXI=";

fn settings(assignments: &[&str]) -> config::UpstreamSettings {
    let layers = assignments.iter().fold(Layers::new(), |layers, assignment| {
        layers.setting(&format!("upstream.credential.{assignment}"))
    });
    Config::unvalidated(layers.setting("upstream.url=https://x")).unwrap().upstreams.remove(0)
}

fn credential(assignments: &[&str]) -> Result<HmacCredential, KeyError> {
    let variable = |name: &str| match name {
        "KEY_STRING" => Some(format!("Endpoint=https://x;Id=test-id;Secret={SECRET}")),
        "KEY" => Some(SECRET.to_owned()),
        _ => None,
    };
    let metrics = Metrics::new(["main"]).upstream(0).origin.clone();
    HmacCredential::new(&settings(assignments), variable, Refusals::new("main".to_owned(), metrics))
}

async fn signed(
    credential: &HmacCredential,
    (method, target, authority, body): (Method, &str, &str, &[u8]),
    now: Timestamp,
) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let request = Unsigned { method: &method, target, authority, body, now, has_substitute: false };
    credential.authorize(request, &mut fields).await.unwrap();
    fields
}

fn signature(fields: &HeaderMap) -> String {
    let value = fields[AUTHORIZATION].to_str().unwrap();
    value.split_once("Signature=").unwrap().1.to_owned()
}

#[tokio::test]
async fn signs_the_worked_examples_byte_for_byte() {
    let credential = credential(&["id=test-id", &format!("secret={SECRET}")]).unwrap();
    let a = (Method::GET, "/kv/app%3Akey1?api-version=2023-11-01&label=%00", "contoso.azconfig.io", &b""[..]);
    let fields = signed(&credential, a, NOW).await;
    assert_eq!(fields["x-ms-date"], "Fri, 21 Nov 2025 10:00:00 GMT");
    assert_eq!(fields["x-ms-content-sha256"], "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(
        fields["authorization"],
        "HMAC-SHA256 Credential=test-id&SignedHeaders=x-ms-date;host;x-ms-content-sha256&\
         Signature=yrQg39ALAmMkXhy0+kr1OaxCgFzt0V+NQLL/V1G7W50="
    );
    let b = (
        Method::PUT,
        "/kv/app%3Akey1?api-version=2023-11-01&label=prod",
        "127.0.0.1:8484",
        &br#"{"value":"hello"}"#[..],
    );
    let fields = signed(&credential, b, NOW).await;
    assert_eq!(fields["x-ms-content-sha256"], "XpnXbpRv+YevFAKp71dftPvz0rxmjYvjCtSKrEjMOHg=");
    assert_eq!(signature(&fields), "HMEgxhRuDxdwe9F9weOmgtmV3q01jGAFP+StMpAfopc=");
}

#[tokio::test]
async fn the_key_may_come_from_every_place() {
    let directory = tempfile::tempdir().unwrap();
    let (string, secret) = (directory.path().join("string"), directory.path().join("secret"));
    std::fs::write(&string, format!("Endpoint=https://x;Id=test-id;Secret={SECRET}\n")).unwrap();
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let request = || (Method::GET, "/kv", "h", &b""[..]);
    let mut signatures = Vec::new();
    for assignments in [
        vec![format!("connection_string=Endpoint=https://x;Id=test-id;Secret={SECRET}")],
        vec![format!("connection_string_file={}", string.display())],
        vec!["connection_string_variable=KEY_STRING".to_owned()],
        vec!["id=test-id".to_owned(), format!("secret={SECRET}")],
        vec!["id=test-id".to_owned(), format!("secret_file={}", secret.display())],
        vec!["id=test-id".to_owned(), "secret_variable=KEY".to_owned()],
    ] {
        let assignments: Vec<&str> = assignments.iter().map(String::as_str).collect();
        let fields = signed(&credential(&assignments).unwrap(), request(), NOW).await;
        signatures.push(fields["authorization"].clone());
    }
    assert!(signatures.iter().all(|value| *value == signatures[0]), "{signatures:?}");
}

#[test]
fn a_key_of_another_store_is_refused() {
    let string = |endpoint: &str| format!("connection_string={endpoint}Id=test-id;Secret={SECRET}");
    let refused = credential(&[&string("Endpoint=https://y;")]).unwrap_err().to_string();
    assert!(refused.contains("is not the upstream https://x/") && !refused.contains(SECRET), "{refused}");
    assert!(credential(&[&string("Endpoint=HTTPS://X:443/;")]).is_ok());
    assert!(credential(&[&string("")]).is_ok(), "a string without Endpoint belongs to any store");
}

#[tokio::test]
async fn a_rotated_file_signs_with_the_new_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("string");
    let write = |path: &Path, id: &str, secret: &str| {
        std::fs::write(path, format!("Endpoint=https://x;Id={id};Secret={secret}")).unwrap();
    };
    write(&path, "old", SECRET);
    let credential = credential(&[&format!("connection_string_file={}", path.display())]).unwrap();
    let request = || (Method::GET, "/kv", "h", &b""[..]);
    assert!(
        signed(&credential, request(), NOW).await["authorization"]
            .to_str()
            .unwrap()
            .contains("Credential=old&")
    );
    write(&path, "new-id", OTHER_SECRET);
    let now = NOW.plus(Duration::from_secs(1));
    let mut fields = signed(&credential, request(), now).await;
    fields.insert("host", HeaderValue::from_static("h"));
    let key = from_parts("new-id", OTHER_SECRET).unwrap();
    let presented = SignedRequest { method: "GET", target: "/kv", headers: &fields, authority: None };
    let verified = verify(&presented, now, |id| (id == "new-id").then_some(&key)).unwrap();
    verified.check_content(b"").unwrap();
}

#[test]
fn what_is_missing_is_named_and_no_secret_shown() {
    let nowhere = credential(&["connection_string_file=/nowhere/at/all"]).unwrap_err().to_string();
    assert!(nowhere.contains("/nowhere/at/all"), "{nowhere}");
    let unset = credential(&["secret_variable=UNSET", "id=a"]).unwrap_err().to_string();
    assert!(unset.contains("UNSET"), "{unset}");
    let broken = credential(&["connection_string=Id=a;Secret=hunter2!"]).unwrap_err().to_string();
    assert!(broken.contains("base64") && !broken.contains("hunter2"), "{broken}");
    let held = credential(&["id=test-id", &format!("secret={SECRET}")]).unwrap();
    assert!(!format!("{held:?}").contains(SECRET));
}

#[tokio::test]
async fn the_signature_does_not_print() {
    let credential = credential(&["id=test-id", &format!("secret={SECRET}")]).unwrap();
    let fields = signed(&credential, (Method::GET, "/kv", "h", b""), NOW).await;
    assert!(!format!("{fields:?}").contains("Signature="));
}
