//! The worked examples of Azure App Configuration's documentation byte for byte, and each error of the verification in
//! its order.

use super::*;
use http::HeaderValue;
use proptest::prelude::*;

const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtMzItYnl0ZXMhISE=";
const EMPTY: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
const DATE_TEXT: &str = "Fri, 21 Nov 2025 10:00:00 GMT";
const NOW: Timestamp = Timestamp::from_unix_seconds(1_763_719_200);
const TARGET: &str = "/kv/app%3Akey1?api-version=2023-11-01&label=%00";

fn key() -> AccessKey {
    format!("test-id:{SECRET}").parse().unwrap()
}

struct Example {
    method: &'static str,
    target: &'static str,
    date: &'static str,
    host: &'static str,
    body: &'static [u8],
    signature: &'static str,
}

const EXAMPLES: [Example; 3] = [
    Example {
        method: "GET",
        target: TARGET,
        date: DATE_TEXT,
        host: "contoso.azconfig.io",
        body: b"",
        signature: "yrQg39ALAmMkXhy0+kr1OaxCgFzt0V+NQLL/V1G7W50=",
    },
    Example {
        method: "PUT",
        target: "/kv/app%3Akey1?api-version=2023-11-01&label=prod",
        date: DATE_TEXT,
        host: "127.0.0.1:8484",
        body: br#"{"value":"hello"}"#,
        signature: "HMEgxhRuDxdwe9F9weOmgtmV3q01jGAFP+StMpAfopc=",
    },
    Example {
        method: "GET",
        target: TARGET,
        date: "Nov, 21 2025 10:00:00.123456 GMT",
        host: "127.0.0.1:8484",
        body: b"",
        signature: "XbfVgGIby8H1rpTp4/ZMzLjxzi9sHEn/yOzq9L8IWCI=",
    },
];

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn signed(example: &Example) -> HeaderMap {
    let hash = content_sha256(example.body);
    let value = authorization(&key(), example.method, example.target, example.date, example.host, &hash);
    headers(&[
        ("authorization", &value),
        ("x-ms-date", example.date),
        ("host", example.host),
        ("x-ms-content-sha256", &hash),
    ])
}

fn check(example: &Example, headers: &HeaderMap, now: Timestamp) -> Result<(), AuthorizationError> {
    let key = key();
    let request = SignedRequest { method: example.method, target: example.target, headers, authority: None };
    verify(&request, now, |id| (id == "test-id").then_some(&key))?.check_content(example.body)
}

#[test]
fn the_worked_examples_have_their_signatures_and_verify() {
    for example in &EXAMPLES {
        let headers = signed(example);
        let value = headers[AUTHORIZATION].to_str().unwrap();
        assert!(value.ends_with(&format!("&Signature={}", example.signature)), "{value}");
        assert_eq!(check(example, &headers, NOW), Ok(()));
    }
    assert_eq!(content_sha256(EXAMPLES[1].body), "XpnXbpRv+YevFAKp71dftPvz0rxmjYvjCtSKrEjMOHg=");
}

#[test]
fn a_request_of_the_real_python_client_verifies() {
    let headers = headers(&[
        (
            "authorization",
            "HMAC-SHA256 Credential=test-id&SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=HS1i2Qu6/U3J0YQ914NX0rj+CHCrZMlwiDfkujvZuPY=",
        ),
        ("x-ms-date", "Nov, 21 2026 21:38:01.991863 GMT"),
        ("host", "127.0.0.1:18901"),
        ("x-ms-content-sha256", EMPTY),
    ]);
    let request = SignedRequest {
        method: "GET",
        target: "/kv/app%3Akey1?api-version=2026-04-01",
        headers: &headers,
        authority: None,
    };
    let (key, now) = (key(), parse_signing_date("Sat, 21 Nov 2026 21:40:00 GMT").unwrap());
    assert!(verify(&request, now, |_| Some(&key)).unwrap().check_content(b"").is_ok());
}

#[test]
fn every_check_has_its_answer_in_the_documented_order() {
    use AuthorizationError as Error;
    let with = |authorization: &str, rest: &[(&'static str, &str)]| {
        let mut all = vec![("authorization", authorization)];
        all.extend_from_slice(rest);
        headers(&all)
    };
    let complete =
        [("x-ms-date", DATE_TEXT), ("host", "contoso.azconfig.io"), ("x-ms-content-sha256", EMPTY)];
    let all = "SignedHeaders=x-ms-date;host;x-ms-content-sha256";
    let cases: Vec<(HeaderMap, Error, Option<&str>)> = vec![
        (headers(&complete), Error::Missing, None),
        (with("Bearer abc", &complete), Error::Missing, None),
        (
            with("HMAC-SHA256", &complete),
            Error::SignedHeadersMissing,
            Some("SignedHeaders parameter is required"),
        ),
        (
            with("HMAC-SHA256 SignedHeaders=", &complete),
            Error::SignedHeadersMissing,
            Some("SignedHeaders parameter is required"),
        ),
        (
            with("HMAC-SHA256 SignedHeaders=host;;x-ms-date", &complete),
            Error::SignedHeadersInvalid,
            Some("Invalid SignedHeaders parameter"),
        ),
        (
            with("HMAC-SHA256 SignedHeaders=host;x-other", &complete),
            Error::HeaderNotFound("x-other".into()),
            Some("Required signing request header 'x-other' not found"),
        ),
        (
            with("HMAC-SHA256 SignedHeaders=host;x-ms-content-sha256", &complete),
            Error::HeaderNotFound("x-ms-date".into()),
            Some("Required signing request header 'x-ms-date' not found"),
        ),
        (
            with("HMAC-SHA256 SignedHeaders=x-ms-date;x-ms-content-sha256", &complete),
            Error::HeaderNotFound("host".into()),
            Some("Required signing request header 'host' not found"),
        ),
        (
            with("HMAC-SHA256 SignedHeaders=x-ms-date;host", &complete),
            Error::HeaderNotFound("x-ms-content-sha256".into()),
            Some("Required signing request header 'x-ms-content-sha256' not found"),
        ),
        (
            with(&format!("HMAC-SHA256 {all}"), &[("x-ms-date", "soon"), complete[1], complete[2]]),
            Error::DateInvalid,
            Some("Invalid access token date"),
        ),
        (
            with(
                &format!("HMAC-SHA256 {all}"),
                &[("x-ms-date", "Fri, 21 Nov 2025 09:44:59 GMT"), complete[1], complete[2]],
            ),
            Error::Expired,
            Some("The access token has expired"),
        ),
        (
            with(&format!("HMAC-SHA256 Credential=other&{all}&Signature=AAAA"), &complete),
            Error::CredentialUnknown,
            Some("Invalid Credential"),
        ),
        (
            with(&format!("HMAC-SHA256 Credential=test-id&{all}"), &complete),
            Error::SignatureMissing,
            Some("Signature is required"),
        ),
        (
            with(&format!("HMAC-SHA256 Credential=test-id&{all}&Signature=AAAA"), &complete),
            Error::SignatureInvalid,
            Some("Invalid Signature"),
        ),
    ];
    for (headers, error, description) in cases {
        let found = check(&EXAMPLES[0], &headers, NOW).unwrap_err();
        assert_eq!(found, error);
        assert_eq!(found.description().as_deref(), description);
    }
    let wrong_body = Example { body: b"other", ..EXAMPLES[1] };
    let found = check(&wrong_body, &signed(&EXAMPLES[1]), NOW).unwrap_err();
    assert_eq!(
        found.challenge(),
        "HMAC-SHA256 error=\"invalid_token\", error_description=\"Invalid request content hash\""
    );
}

#[test]
fn names_are_bounded_in_number_and_length_and_each_is_listed_once() {
    let names = |count: usize| -> Vec<String> { (0..count).map(|number| format!("x-{number}")).collect() };
    let needed = "x-ms-date;host;x-ms-content-sha256";
    let within = names(MAX_SIGNED_HEADERS - 3);
    let long = "x".repeat(MAX_SIGNED_NAME_BYTES);
    for (list, is_bounded) in [
        (format!("{needed};{}", within.join(";")), true),
        (format!("{needed};{};one-more", within.join(";")), false),
        (format!("{needed};host"), false),
        (format!("{needed};X-MS-Date"), false),
        (format!("{needed};{long}"), true),
        (format!("{needed};{long}x"), false),
    ] {
        let mut headers = headers(&[("x-ms-date", DATE_TEXT), ("host", "h"), ("x-ms-content-sha256", EMPTY)]);
        for name in within.iter().chain([&long]) {
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), "v".parse().unwrap());
        }
        for id in ["test-id", "unknown"] {
            let value = format!("HMAC-SHA256 Credential={id}&SignedHeaders={list}&Signature=AAAA");
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            let error = check(&EXAMPLES[0], &headers, NOW).unwrap_err();
            assert_eq!(error != AuthorizationError::SignedHeadersExcessive, is_bounded, "{list}: {error}");
        }
    }
}

#[test]
fn several_lines_of_a_signed_field_are_joined_by_commas() {
    let mut headers = headers(&[("x-ms-date", DATE_TEXT), ("host", "h"), ("x-ms-content-sha256", EMPTY)]);
    for value in ["a", "b"] {
        headers.append("x-twice", value.parse().unwrap());
    }
    let mut mac = key().mac();
    mac.update(format!("GET\n{TARGET}\na,b;{DATE_TEXT};h;{EMPTY}").as_bytes());
    let list = "x-twice;x-ms-date;host;x-ms-content-sha256";
    let value = format!("HMAC-SHA256 Credential=test-id&SignedHeaders={list}&Signature={}", mac.signature());
    headers.insert(AUTHORIZATION, value.parse().unwrap());
    assert_eq!(check(&EXAMPLES[0], &headers, NOW), Ok(()));
    headers.append("x-ms-date", DATE_TEXT.parse().unwrap());
    assert_eq!(check(&EXAMPLES[0], &headers, NOW), Err(AuthorizationError::DateInvalid));
}

#[test]
fn fifteen_minutes_either_way_are_allowed() {
    let headers = signed(&EXAMPLES[0]);
    for (offset, allowed) in [(-901, false), (-900, true), (900, true), (901, false)] {
        let now = Timestamp::from_unix_seconds(NOW.as_unix_seconds() + offset);
        assert_eq!(check(&EXAMPLES[0], &headers, now).is_ok(), allowed, "{offset}");
    }
}

#[test]
fn the_standard_date_signs_too_and_the_other_one_wins() {
    for (list, date, other, expected) in [
        ("date;host;x-ms-content-sha256", DATE_TEXT, "soon", Ok(())),
        ("date;x-ms-date;host;x-ms-content-sha256", DATE_TEXT, "soon", Err(AuthorizationError::DateInvalid)),
        ("date;x-ms-date;host;x-ms-content-sha256", "soon", DATE_TEXT, Ok(())),
    ] {
        let mut headers =
            headers(&[("date", date), ("x-ms-date", other), ("host", "h"), ("x-ms-content-sha256", EMPTY)]);
        let values: Vec<&str> = list.split(';').map(|name| headers[name].to_str().unwrap()).collect();
        let mut mac = key().mac();
        mac.update(format!("GET\n{TARGET}\n{}", values.join(";")).as_bytes());
        let value =
            format!("HMAC-SHA256 Credential=test-id, SignedHeaders={list}, Signature={}", mac.signature());
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        assert_eq!(check(&EXAMPLES[0], &headers, NOW), expected, "{list} {date}");
    }
}

#[test]
fn odd_hosts_of_clients_are_recognised() {
    let example = Example { host: "LOCALHOST:8484", ..EXAMPLES[0] };
    let mut headers = signed(&example);
    headers.insert(HOST, "localhost:8484".parse().unwrap());
    let key = key();
    let request = SignedRequest { method: "GET", target: TARGET, headers: &headers, authority: None };
    assert!(verify(&request, NOW, |_| Some(&key)).is_ok(), "the host was signed in capitals");

    let slash = Example { target: "kv/a?api-version=1.0", ..EXAMPLES[0] };
    let request = SignedRequest {
        method: "GET",
        target: "/kv/a?api-version=1.0",
        headers: &signed(&slash),
        authority: None,
    };
    let error = verify(&request, NOW, |_| Some(&key)).unwrap_err();
    assert_eq!(error, AuthorizationError::SlashNotSigned);
    assert!(error.to_string().contains("slash at the end of Endpoint"), "{error}");
}

#[test]
fn the_authority_stands_in_for_host() {
    let mut headers = signed(&EXAMPLES[0]);
    headers.remove(HOST);
    let key = key();
    let request = SignedRequest {
        method: "GET",
        target: TARGET,
        headers: &headers,
        authority: Some("contoso.azconfig.io"),
    };
    assert!(verify(&request, NOW, |_| Some(&key)).is_ok());
}

proptest! {
    #[test]
    fn no_authorization_panics(value in "(HMAC-SHA256 )?[ -~]{0,120}", date in "[ -~]{0,40}") {
        let headers = headers(&[("authorization", &value), ("x-ms-date", &date), ("host", "h")]);
        prop_assert!(check(&EXAMPLES[0], &headers, NOW).is_err());
    }

    #[test]
    fn a_changed_byte_never_verifies(at in 0usize..200, to in any::<u8>()) {
        let headers = signed(&EXAMPLES[0]);
        let mut target = TARGET.as_bytes().to_vec();
        let at = at % target.len();
        prop_assume!(to.is_ascii_graphic() && target[at] != to);
        target[at] = to;
        let target = String::from_utf8(target).unwrap();
        let key = key();
        let request = SignedRequest { method: "GET", target: &target, headers: &headers, authority: None };
        prop_assert!(verify(&request, NOW, |_| Some(&key)).is_err());
    }
}
