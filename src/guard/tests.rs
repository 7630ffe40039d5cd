//! Which requests the guard admits, and the reason of each refusal.

use http::Request;

use super::*;

fn guard() -> Guard {
    guard_with(&GuardSettings {
        allowed_hosts: vec!["Sidecar.svc".to_owned()],
        allowed_origins: vec!["https://ui.test".to_owned()],
        allow_forwarded: false,
    })
}

fn guard_with(settings: &GuardSettings) -> Guard {
    let limits = Limits {
        header_section_bytes: 1_000,
        header_fields: 10,
        target_bytes: 100,
        request_body_bytes: 1_000,
        buffered_request_body_bytes: 1_000,
        buffered_bodies_bytes: 0,
        connections: 10,
        connections_per_caller: 0,
        http2_requests: 10,
        requests: 10,
        requests_per_caller: 0,
    };
    Guard::new(settings, &limits, Pseudonym::new("tagalong-1").expect("a token"))
}

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    request.body(()).expect("a request").into_parts().0
}

fn verdict(guard: &Guard, head: &Parts) -> Option<RefusalReason> {
    guard.admit(head, &Survey::of(&head.headers)).err().map(|refused| refused.reason)
}

fn reason(method: &str, target: &str, fields: &[(&str, &str)]) -> Option<RefusalReason> {
    verdict(&guard(), &head(method, target, fields))
}

#[test]
fn ordinary_requests_pass() {
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "M-SEARCH", "get", "PURGE"] {
        assert_eq!(reason(method, "/a?b=c", &[("host", "127.0.0.1:8484")]), None, "{method}");
    }
    assert_eq!(
        reason("GET", "/", &[("host", "localhost"), ("connection", "Upgrade"), ("upgrade", "h2c")]),
        None
    );
    assert_eq!(reason("OPTIONS", "*", &[("host", "localhost")]), None);
}

#[test]
fn connect_and_trace_are_refused() {
    assert_eq!(reason("TRACE", "/", &[("host", "localhost")]), Some(RefusalReason::Method));
    assert_eq!(reason("CONNECT", "127.0.0.1:80", &[("host", "127.0.0.1:80")]), Some(RefusalReason::Method));
}

#[test]
fn targets() {
    for (method, target, expected) in [
        ("GET", "/", None),
        ("GET", "//evil.example/kv", None),
        ("GET", "http://localhost/a", None),
        ("GET", "https://localhost/a", None),
        ("GET", "ftp://localhost/a", Some(RefusalReason::Target)),
        ("GET", "localhost:80", Some(RefusalReason::Target)),
        ("GET", "*", Some(RefusalReason::Target)),
        ("GET", "http://user@localhost/", Some(RefusalReason::Host)),
    ] {
        let head = head(method, target, &[]);
        let fields: &[(&str, &str)] =
            if head.uri.authority().is_some() { &[] } else { &[("host", "localhost")] };
        assert_eq!(reason(method, target, fields), expected, "{target}");
    }
}

#[test]
fn hosts() {
    for (host, expected) in [
        ("localhost", None),
        ("LOCALHOST:8484", None),
        ("localhost.", None),
        ("localhost:", None),
        ("app.localhost", None),
        ("127.0.0.1", None),
        ("127.0.0.1:65535", None),
        ("127.8.9.1", None),
        ("[::1]", None),
        ("[::1]:8484", None),
        ("[0:0:0:0:0:0:0:1]", None),
        ("[::ffff:127.0.0.1]", None),
        ("sidecar.svc", None),
        ("SIDECAR.svc.:80", None),
        ("evil.example", Some(RefusalReason::HostNotAllowed)),
        ("evil.example:65000", Some(RefusalReason::HostNotAllowed)),
        ("169.254.169.254", Some(RefusalReason::HostNotAllowed)),
        ("127.0.0.1.evil.example", Some(RefusalReason::HostNotAllowed)),
        ("127.0.0.256", Some(RefusalReason::HostNotAllowed)),
        ("127.1", Some(RefusalReason::HostNotAllowed)),
        ("localhost.evil.example", Some(RefusalReason::HostNotAllowed)),
        ("evillocalhost", Some(RefusalReason::HostNotAllowed)),
        (".localhost", Some(RefusalReason::HostNotAllowed)),
        ("sub.sidecar.svc", Some(RefusalReason::HostNotAllowed)),
        ("[::2]", Some(RefusalReason::HostNotAllowed)),
        ("0.0.0.0", Some(RefusalReason::HostNotAllowed)),
        ("", Some(RefusalReason::Host)),
        (":8484", Some(RefusalReason::Host)),
        ("127.0.0.1/evil", Some(RefusalReason::Host)),
        ("127.0.0.1:65000, evil.example", Some(RefusalReason::Host)),
        ("127.0.0.1:65536", Some(RefusalReason::Host)),
        ("127.0.0.1:+80", Some(RefusalReason::Host)),
        ("127.0.0.1:80:80", Some(RefusalReason::Host)),
        ("127.0.0.1 :80", Some(RefusalReason::Host)),
        ("user@127.0.0.1", Some(RefusalReason::Host)),
        ("http://127.0.0.1", Some(RefusalReason::Host)),
        ("[::1", Some(RefusalReason::Host)),
        ("[::1]x", Some(RefusalReason::Host)),
        ("[localhost]", Some(RefusalReason::Host)),
        ("::1", Some(RefusalReason::Host)),
        ("localhost%00", Some(RefusalReason::Host)),
        ("localhost?", Some(RefusalReason::Host)),
        ("lócalhost", Some(RefusalReason::Host)),
    ] {
        assert_eq!(reason("GET", "/", &[("host", host)]), expected, "{host}");
    }
}

#[test]
fn host_is_one_field_of_every_request_since_http_1_1() {
    assert_eq!(reason("GET", "/", &[]), Some(RefusalReason::Host));
    let twice = [("host", "localhost"), ("host", "localhost")];
    assert_eq!(reason("GET", "/", &twice), Some(RefusalReason::Host));
    let mut old = head("GET", "/", &[]);
    old.version = Version::HTTP_10;
    assert_eq!(verdict(&guard(), &old), None);
    let mut multiplexed = head("GET", "http://localhost:8484/", &[]);
    multiplexed.version = Version::HTTP_2;
    assert_eq!(verdict(&guard(), &multiplexed), None);
    multiplexed.uri = "http://evil.example/".parse().expect("a URI");
    assert_eq!(verdict(&guard(), &multiplexed), Some(RefusalReason::HostNotAllowed));
}

#[test]
fn an_absolute_target_and_host_name_the_same_host() {
    for (target, host, expected) in [
        ("http://127.0.0.1:65000/kv", "127.0.0.1:65000", None),
        ("http://localhost/kv", "LOCALHOST:80", None),
        ("https://localhost/kv", "localhost:443", None),
        ("http://127.0.0.1:65000/kv", "evil.example", Some(RefusalReason::Host)),
        ("http://127.0.0.1:65000/kv", "127.0.0.1:65001", Some(RefusalReason::Host)),
        ("http://localhost/kv", "127.0.0.1", Some(RefusalReason::Host)),
        ("http://169.254.169.254/latest", "169.254.169.254", Some(RefusalReason::HostNotAllowed)),
        ("http://evil.example/kv", "127.0.0.1", Some(RefusalReason::Host)),
    ] {
        assert_eq!(reason("GET", target, &[("host", host)]), expected, "{target} {host}");
    }
}

#[test]
fn a_star_lets_every_host_pass() {
    let guard = guard_with(&GuardSettings {
        allowed_hosts: vec!["*".to_owned()],
        allowed_origins: Vec::new(),
        allow_forwarded: false,
    });
    assert_eq!(verdict(&guard, &head("GET", "/", &[("host", "any.example")])), None);
    assert_eq!(verdict(&guard, &head("GET", "/", &[("host", "a/b")])), Some(RefusalReason::Host));
}

#[test]
fn framing() {
    let coding = |lines: &[&'static str]| {
        let mut fields = vec![("host", "localhost")];
        fields.extend(lines.iter().map(|line| ("transfer-encoding", *line)));
        reason("POST", "/", &fields)
    };
    assert_eq!(coding(&["chunked"]), None);
    assert_eq!(coding(&["Chunked"]), None);
    for lines in [
        &["xchunked"][..],
        &["identity"],
        &["identity, chunked"],
        &["chunked, chunked"],
        &["chunked, identity"],
        &[",chunked"],
        &["chunked,"],
        &["chunked;q=1"],
        &["gzip"],
        &[""],
        &["x", "chunked"],
        &["chunked", "chunked"],
        &["\u{ff}chunked"],
    ] {
        assert_eq!(coding(lines), Some(RefusalReason::TransferCoding), "{lines:?}");
    }
    let mut old = head("POST", "/", &[("transfer-encoding", "chunked")]);
    old.version = Version::HTTP_10;
    assert_eq!(verdict(&guard(), &old), Some(RefusalReason::TransferCoding));

    let lengths = |one, other| {
        reason("POST", "/", &[("host", "localhost"), ("content-length", one), ("content-length", other)])
    };
    assert_eq!(lengths("5", "5"), None);
    assert_eq!(lengths("5", "6"), Some(RefusalReason::ContentLength));
}

#[test]
fn expectations() {
    let expect = |value| reason("PUT", "/", &[("host", "localhost"), ("expect", value)]);
    assert_eq!(expect("100-continue"), None);
    assert_eq!(expect("100-Continue"), None);
    assert_eq!(expect("200-ok"), Some(RefusalReason::Expectation));
    let twice = [("host", "localhost"), ("expect", "100-continue"), ("expect", "100-continue")];
    assert_eq!(reason("PUT", "/", &twice), None);
}

#[test]
fn forwarded_requests_and_loops() {
    let allowing = guard_with(&GuardSettings {
        allowed_hosts: Vec::new(),
        allowed_origins: Vec::new(),
        allow_forwarded: true,
    });
    for (name, value, strict, lenient) in [
        ("x-forwarded-for", "203.0.113.7", Some(RefusalReason::Forwarded), None),
        ("forwarded", "for=203.0.113.7", Some(RefusalReason::Forwarded), None),
        ("via", "1.1 other", Some(RefusalReason::Forwarded), None),
        ("via", "1.1 other, 1.1 tagalong-1", Some(RefusalReason::Loop), Some(RefusalReason::Loop)),
        ("x-forwarded-host", "evil.example", None, None),
        ("x-original-url", "/evil", None, None),
    ] {
        let head = head("GET", "/", &[("host", "localhost"), (name, value)]);
        assert_eq!(verdict(&guard(), &head), strict, "{name}: {value}");
        assert_eq!(verdict(&allowing, &head), lenient, "{name}: {value}");
    }
}

#[test]
fn browsers_are_served_for_their_own_pages_only() {
    for (site, origin, expected) in [
        (Some("same-origin"), None, None),
        (Some("none"), None, None),
        (Some("cross-site"), None, Some(RefusalReason::CrossOrigin)),
        (Some("same-site"), None, Some(RefusalReason::CrossOrigin)),
        (Some("Same-Origin"), None, Some(RefusalReason::CrossOrigin)),
        (Some(""), None, Some(RefusalReason::CrossOrigin)),
        (None, Some("http://127.0.0.1:8484"), None),
        (Some("same-origin"), Some("http://127.0.0.1:8484"), None),
        (None, Some("https://127.0.0.1:8484"), None),
        (None, Some("http://127.0.0.1"), Some(RefusalReason::CrossOrigin)),
        (None, Some("http://localhost:8484"), Some(RefusalReason::CrossOrigin)),
        (None, Some("http://evil.example"), Some(RefusalReason::CrossOrigin)),
        (None, Some("http://127.0.0.1:8484@evil.example"), Some(RefusalReason::CrossOrigin)),
        (None, Some("null"), Some(RefusalReason::CrossOrigin)),
        (None, Some("file://"), Some(RefusalReason::CrossOrigin)),
        (None, Some(""), Some(RefusalReason::CrossOrigin)),
        (Some("cross-site"), Some("http://127.0.0.1:8484"), Some(RefusalReason::CrossOrigin)),
        (Some("cross-site"), Some("https://ui.test"), None),
        (None, Some("https://UI.test"), None),
        (None, Some("http://ui.test"), Some(RefusalReason::CrossOrigin)),
    ] {
        let mut fields = vec![("host", "127.0.0.1:8484")];
        fields.extend(site.map(|site| ("sec-fetch-site", site)));
        fields.extend(origin.map(|origin| ("origin", origin)));
        assert_eq!(reason("GET", "/", &fields), expected, "{site:?} {origin:?}");
    }
    let two = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://localhost")];
    assert_eq!(reason("GET", "/", &two), Some(RefusalReason::CrossOrigin));
}

#[test]
fn sizes() {
    let long_target = format!("/{}", "a".repeat(100));
    assert_eq!(reason("GET", &long_target, &[("host", "localhost")]), Some(RefusalReason::TargetTooLong));
    assert_eq!(reason("GET", &long_target[..100], &[("host", "localhost")]), None);
    let names: Vec<String> = (0..10).map(|number| format!("x-{number}")).collect();
    let mut fields: Vec<(&str, &str)> = vec![("host", "localhost")];
    fields.extend(names.iter().map(|name| (name.as_str(), "1")));
    assert_eq!(reason("GET", "/", &fields), Some(RefusalReason::HeaderSectionTooLarge));
    assert_eq!(reason("GET", "/", &fields[..10]), None);
    let large = "a".repeat(1_000);
    let fields = [("host", "localhost"), ("x-large", large.as_str())];
    assert_eq!(reason("GET", "/", &fields), Some(RefusalReason::HeaderSectionTooLarge));
}

#[test]
fn a_refusal_tells_what_to_do() {
    let head = head("GET", "/", &[("host", "evil.example")]);
    let refused = guard().admit(&head, &Survey::of(&head.headers)).expect_err("refused");
    assert_eq!(refused.status, http::StatusCode::FORBIDDEN);
    assert!(refused.detail.contains("guard.allowed_hosts"), "{}", refused.detail);
    assert!(!refused.detail.contains("evil.example"), "what an attacker sent is not repeated");
}

#[test]
fn doubtful_framing_closes_the_connection() {
    assert!(closes_connection(RefusalReason::TransferCoding));
    assert!(closes_connection(RefusalReason::BodyOnRetrieval));
    assert!(!closes_connection(RefusalReason::OnlyIfCached));
    assert!(!closes_connection(RefusalReason::HostNotAllowed));
}

/// A guard remembers a `Host` that it admitted: what it says of any request is the same as before.
#[test]
fn a_remembered_host_admits_nothing_else() {
    let same = ("host", "127.0.0.1:8484");
    let warm = guard();
    assert_eq!(verdict(&warm, &head("GET", "/", &[same])), None);
    for (target, fields) in [
        ("/", &[same][..]),
        ("/", &[]),
        ("/", &[("host", "127.0.0.1:8485")]),
        ("/", &[("host", "127.0.0.1:8484.evil.example")]),
        ("/", &[("host", "evil.example")]),
        ("/", &[("host", "127.0.0.1:84844")]),
        ("/", &[same, same]),
        ("/", &[same, ("host", "evil.example")]),
        ("/", &[("host", "evil.example"), same]),
        ("http://evil.example/", &[same]),
        ("http://127.0.0.1:8484/", &[same]),
        ("/", &[same, ("origin", "https://evil.example")]),
        ("/", &[same, ("origin", "http://127.0.0.1:8484")]),
        ("/", &[same, ("sec-fetch-site", "cross-site")]),
        ("/", &[same, ("expect", "something")]),
        ("/", &[same, ("x-forwarded-for", "192.0.2.1")]),
    ] {
        let request = head("GET", target, fields);
        assert_eq!(verdict(&warm, &request), verdict(&guard(), &request), "{target} {fields:?}");
    }
}
