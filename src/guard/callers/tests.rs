use std::path::PathBuf;
use std::time::Duration;

use http::Request;

use super::*;
use crate::headers::access_key::content_sha256;
use crate::headers::hmac_authorization::authorization;

/// Fri, 21 Nov 2025 10:00:00 GMT.
const NOW: Timestamp = Timestamp::from_unix_seconds(1_763_719_200);
const DATE: &str = "Fri, 21 Nov 2025 10:00:00 GMT";
const TARGET: &str = "/kv/app%3Akey1?api-version=2023-11-01&label=%00";

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("keys"),
            "Id=app-a;Secret=c2VjcmV0\nId=reader;Secret=cmVhZGVy;Access=read-only\n",
        )
        .unwrap();
        std::fs::write(directory.path().join("token"), "let-me-in\n").unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn callers(&self, assignments: &[&str]) -> Callers {
        let layers = assignments.iter().fold(
            config::Layers::new().assignment("upstream.url=http://origin"),
            |layers, assignment| {
                layers.assignment(&assignment.replace('@', &format!("{}/", self.directory.path().display())))
            },
        );
        let listener = config::Config::unvalidated(layers).unwrap().listeners.remove(0);
        Callers::new(&listener, Absent::Create).unwrap().unwrap()
    }
}

const KEYS: &str = "listener.local_keys_file=@keys";
const BEARER: &str = "listener.bearer_file=@token";

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// Signed as by a client that was told `host` and sends `sent_host`.
fn signed_head(key: &str, method: &str, signed_target: &str, host: (&str, &str), body: &[u8]) -> Parts {
    let key = key.parse().unwrap();
    let hash = content_sha256(body);
    let authorization = authorization(&key, method, signed_target, DATE, host.0, &hash);
    head(
        method,
        TARGET,
        &[
            ("host", host.1),
            ("x-ms-date", DATE),
            ("x-ms-content-sha256", &hash),
            ("authorization", &authorization),
        ],
    )
}

const HOST: (&str, &str) = ("127.0.0.1:8484", "127.0.0.1:8484");

fn challenges(refused: &Refused) -> Vec<&str> {
    refused.fields.iter().map(|(_, value)| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn a_signed_request_is_known_and_its_proof_taken_out() {
    let files = Files::new();
    let callers = files.callers(&[KEYS]);
    let mut head = signed_head("app-a:c2VjcmV0", "PUT", TARGET, HOST, b"body");
    let known = callers.authenticate(&mut head, NOW).await.unwrap();
    assert_eq!(&*known.name, "app-a");
    let content = known.content.unwrap();
    callers.check_content(&content, b"body").unwrap();
    let refused = callers.check_content(&content, b"bodY").unwrap_err();
    assert_eq!(
        challenges(&refused),
        ["HMAC-SHA256 error=\"invalid_token\", error_description=\"Invalid request content hash\""]
    );
    let left: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["host"]);
}

#[tokio::test]
async fn the_hosts_that_clients_sign_oddly_are_accepted() {
    let files = Files::new();
    let callers = files.callers(&[KEYS]);
    for (signed, sent) in [
        ("LOCALHOST:8484", "localhost:8484"),
        ("LocalHost:8484", "localhost:8484"),
        ("Localhost:8484", "localhost:8484"),
        ("localhost:8484", "localhost:8484"),
        ("SIDECAR.SVC", "sidecar.svc"),
    ] {
        let mut head = signed_head("app-a:c2VjcmV0", "GET", TARGET, (signed, sent), b"");
        assert!(callers.authenticate(&mut head, NOW).await.is_ok(), "{signed}");
    }
    for (signed, sent) in [("127.0.0.1:8484", "localhost:8484"), ("localhost", "localhost:8484")] {
        let mut head = signed_head("app-a:c2VjcmV0", "GET", TARGET, (signed, sent), b"");
        assert!(callers.authenticate(&mut head, NOW).await.is_err(), "{signed}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_as_the_service_does_with_advice() {
    let files = Files::new();
    let callers = files.callers(&[KEYS]);
    let cases = [
        (head("GET", TARGET, &[("host", "h")]), "HMAC-SHA256", "connection string"),
        (signed_head("app-a:b3RoZXI=", "GET", TARGET, HOST, b""), "Invalid Signature", "Secret"),
        (signed_head("nobody:c2VjcmV0", "GET", TARGET, HOST, b""), "Invalid Credential", "Id of"),
        (
            signed_head("app-a:c2VjcmV0", "GET", &TARGET[1..], HOST, b""),
            "Invalid Signature",
            "remove the slash at the end of Endpoint",
        ),
        (head("GET", TARGET, &[("host", "h"), ("authorization", "Bearer x")]), "HMAC-SHA256", "signed"),
    ];
    for (mut head, challenge, advice) in cases {
        let refused = callers.authenticate(&mut head, NOW).await.unwrap_err();
        assert_eq!(refused.status, 401);
        assert!(challenges(&refused)[0].contains(challenge), "{refused:?}");
        assert!(refused.detail.contains(advice), "{}", refused.detail);
    }
    for offset in [Duration::from_secs(901), Duration::from_secs(86_400)] {
        for now in [NOW.plus(offset), NOW.minus(offset)] {
            let mut head = signed_head("app-a:c2VjcmV0", "GET", TARGET, HOST, b"");
            let refused = callers.authenticate(&mut head, now).await.unwrap_err();
            assert!(challenges(&refused)[0].contains("The access token has expired"), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn two_authorizations_are_one_too_many() {
    let files = Files::new();
    let callers = files.callers(&[KEYS, BEARER]);
    let mut head = signed_head("app-a:c2VjcmV0", "GET", TARGET, HOST, b"");
    head.headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer let-me-in"));
    assert!(callers.authenticate(&mut head, NOW).await.unwrap_err().detail.contains("several lines"));
}

#[tokio::test]
async fn the_token_lets_in_and_nothing_like_it() {
    let files = Files::new();
    let callers = files.callers(&[BEARER]);
    for accepted in ["Bearer let-me-in", "bearer  let-me-in "] {
        let mut head = head("GET", TARGET, &[("authorization", accepted)]);
        assert_eq!(&*callers.authenticate(&mut head, NOW).await.unwrap().name, "bearer", "{accepted}");
        assert!(head.headers.is_empty());
    }
    for presented in
        ["Bearer let-me", "Bearer let-me-in2", "Bearer ", "Bearer", "let-me-in", "Basic let-me-in"]
    {
        let mut head = head("GET", TARGET, &[("authorization", presented)]);
        let refused = callers.authenticate(&mut head, NOW).await.unwrap_err();
        assert_eq!((refused.status.as_u16(), challenges(&refused)), (401, vec!["Bearer"]), "{presented}");
    }
}

#[tokio::test]
async fn a_field_of_its_own_carries_the_token_bare_and_leaves_authorization_alone() {
    let files = Files::new();
    let callers = files.callers(&[BEARER, "listener.bearer_field=X-Sidecar-Token"]);
    let mut good =
        head("GET", TARGET, &[("x-sidecar-token", "let-me-in"), ("authorization", "Bearer theirs")]);
    callers.authenticate(&mut good, NOW).await.unwrap();
    assert!(!good.headers.contains_key("x-sidecar-token"));
    assert_eq!(good.headers["authorization"], "Bearer theirs");
    let mut bad = head("GET", TARGET, &[("authorization", "Bearer let-me-in")]);
    assert!(callers.authenticate(&mut bad, NOW).await.is_err());
}

#[tokio::test]
async fn with_both_either_will_do_and_both_are_offered() {
    let files = Files::new();
    let callers = files.callers(&[KEYS, BEARER]);
    let mut by_key = signed_head("reader:cmVhZGVy", "GET", TARGET, HOST, b"");
    assert_eq!(&*callers.authenticate(&mut by_key, NOW).await.unwrap().name, "reader");
    let mut by_token = head("GET", TARGET, &[("authorization", "Bearer let-me-in")]);
    assert!(callers.authenticate(&mut by_token, NOW).await.is_ok());
    let mut neither = head("GET", TARGET, &[]);
    let refused = callers.authenticate(&mut neither, NOW).await.unwrap_err();
    assert_eq!(challenges(&refused), ["HMAC-SHA256", "Bearer"]);
}

#[tokio::test]
async fn rotated_keys_and_tokens_hold_a_second_later() {
    let files = Files::new();
    let callers = files.callers(&[KEYS, BEARER]);
    let mut head = signed_head("app-a:c2VjcmV0", "GET", TARGET, HOST, b"");
    callers.authenticate(&mut head, NOW).await.unwrap();
    std::fs::write(files.path("keys"), "Id=app-b;Secret=c2VjcmV0\n").unwrap();
    std::fs::write(files.path("token"), "another-token\n").unwrap();
    let now = NOW.plus(Duration::from_secs(1));
    let mut old = signed_head("app-a:c2VjcmV0", "GET", TARGET, HOST, b"");
    assert!(callers.authenticate(&mut old, now).await.is_err());
    let mut new = signed_head("app-b:c2VjcmV0", "GET", TARGET, HOST, b"");
    assert!(callers.authenticate(&mut new, now).await.is_ok());
    let mut old = self::head("GET", TARGET, &[("authorization", "Bearer let-me-in")]);
    assert!(callers.authenticate(&mut old, now).await.is_err());
}

#[test]
fn an_open_listener_asks_for_nothing_and_a_missing_token_is_made() {
    let files = Files::new();
    let layers = config::Layers::new().assignment("upstream.url=http://origin");
    let listener = config::Config::unvalidated(layers).unwrap().listeners.remove(0);
    assert!(Callers::new(&listener, Absent::Create).unwrap().is_none());
    let _callers = files.callers(&["listener.bearer_file=@new-token"]);
    assert!(files.path("new-token").exists());
}
