//! Every malformed request gets its 4xx, and no request makes the emulator panic. A 400 has a problem document that
//! names the parameter.

use proptest::prelude::*;
use tagalong::internals::emulator::EmulatorSettings;

use super::Origin;

const INVALID: &str = "https://azconfig.io/errors/invalid-argument";

#[tokio::test]
async fn filters_and_positions_are_refused_by_name_and_place() {
    let origin = Origin::new(EmulatorSettings::default());
    for (target, name, detail, position) in [
        ("/kv?key=ab*c", "key", "key(2): Invalid character", Some(2)),
        ("/kv?key=a*,b", "key", "key(1): Invalid character", Some(1)),
        ("/kv?key=a%5C", "key", "key(1): Invalid character", Some(1)),
        ("/kv?key=%00", "key", "key(0): Invalid character", Some(0)),
        ("/kv?key=a,b,c,d,e,f", "key", "key(9): Too many values", Some(9)),
        ("/kv?label=a,,b", "label", "label(2): Invalid character", Some(2)),
        ("/kv?label=%00a", "label", "label(1): Invalid character", Some(1)),
        ("/kv?tags=novalue", "tags", "tags(7): Tag value separator '=' is required", Some(7)),
        ("/kv?tags=%3Dv", "tags", "tags(0): Tag name is required", Some(0)),
        ("/kv?tags=a%3Db%3Dc", "tags", "tags(3): Invalid character", Some(3)),
        (
            "/kv?tags=a=b&tags=a=b&tags=a=b&tags=a=b&tags=a=b&tags=a=b",
            "tags",
            "tags(0): Too many values",
            Some(0),
        ),
        ("/revisions?key=ab*c", "key", "key(2): Invalid character", Some(2)),
        ("/keys?name=a*b", "name", "name(1): Invalid character", Some(1)),
        ("/labels?name=a*b", "name", "name(1): Invalid character", Some(1)),
        ("/snapshots?name=a*b", "name", "name(1): Invalid character", Some(1)),
        ("/kv?key=a&key=b", "key", "key: Ambiguous value; send the parameter once", None),
        ("/kv/k?label=a&label=b", "label", "label: Ambiguous value; send the parameter once", None),
    ] {
        let reply = origin.get(target).await;
        let mut expected = serde_json::json!({"type": INVALID, "title": format!("Invalid request parameter '{name}'"),
            "name": name, "detail": detail, "status": 400});
        if let Some(position) = position {
            expected["pos"] = position.into();
        }
        assert_eq!((reply.status, reply.json()), (400, expected), "{target}");
        assert_eq!(reply.header("content-type"), "application/problem+json; charset=utf-8");
        assert!(!reply.headers.contains_key("sync-token"), "a 400 has no token");
        assert_eq!(origin.send("HEAD", target, &[], "").await.body.len(), 0);
    }
    for path in ["/kv", "/revisions", "/keys", "/labels"] {
        for after in ["%21%21", "a", "____", "AA", "Zm9v%0A"] {
            let reply = origin.get(&format!("{path}?after={after}")).await;
            assert_eq!(reply.status, 400, "{path} {after}");
            assert_eq!(reply.json()["name"], "after");
        }
    }
}

#[tokio::test]
async fn api_versions_are_refused_by_their_mistake() {
    let origin = Origin::new(EmulatorSettings::default());
    for (query, title) in [
        ("", "API version is not specified"),
        ("?api-version=", "API version is not specified"),
        ("?api-version=2.0", "Unsupported API version"),
        ("?api-version=2023-10-01-preview", "Unsupported API version"),
        ("?api-version=latest", "Invalid API version"),
        ("?api-version=1.0&api-version=2023-10-01", "Ambiguous API version"),
    ] {
        for (method, path) in
            [("GET", "/kv"), ("GET", "/kv/k"), ("PUT", "/kv/k"), ("GET", "/labels"), ("PUT", "/locks/k")]
        {
            let reply = origin.send_exactly(method, &format!("{path}{query}"), &[], b"").await;
            assert_eq!(reply.status, 400, "{path}{query}");
            assert_eq!(
                (reply.json()["title"].as_str(), reply.json()["name"].as_str()),
                (Some(title), Some("api-version"))
            );
        }
    }
    assert_eq!(origin.send_exactly("GET", "/kv?API-VERSION=1.0&api-version=1.0", &[], b"").await.status, 200);
}

#[tokio::test]
async fn keys_bodies_and_types_are_checked() {
    let origin = Origin::new(EmulatorSettings::default());
    let json = "content-type: application/json";
    let long = "k".repeat(257);
    for target in [
        "/kv/.".to_owned(),
        "/kv/..".to_owned(),
        "/kv/a%00b".to_owned(),
        "/kv/%0A".to_owned(),
        format!("/kv/{long}"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let reply = origin.send(method, &target, &[json], "{}").await;
            assert_eq!(
                (reply.status, reply.json()["name"].as_str()),
                (400, Some("key")),
                "{method} {target}"
            );
        }
    }
    assert_eq!(
        origin.send("PUT", &format!("/kv/k?label={long}"), &[json], "{}").await.json()["name"],
        "label"
    );
    for target in ["/kv/a%25b", "/kv/a%d", "/kv/k?label=%d", "/kv/%ff"] {
        let reply = origin.get(target).await;
        assert_eq!((reply.status, reply.body.len()), (400, 0), "{target}");
    }
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"v\"",
        "{\"value\":1}",
        "{\"tags\":[]}",
        "{\"tags\":{\"a\":1}}",
        "{} x",
        "\u{feff}{}",
    ] {
        let reply = origin.send("PUT", "/kv/k", &[json], body).await;
        assert_eq!((reply.status, reply.json()["name"].as_str()), (400, Some("body")), "{body:?}");
    }
    let not_utf8 =
        origin.send_exactly("PUT", "/kv/k?api-version=1.0", &[json], b"{\"value\":\"\xff\"}").await;
    assert_eq!(not_utf8.status, 400);
    let tag = format!("{{\"tags\":{{\"{long}\":\"v\"}}}}");
    assert_eq!(origin.send("PUT", "/kv/k", &[json], &tag).await.json()["name"], "tags");
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/vnd.microsoft.appconfig.kvset+json"]
    {
        let reply = origin.send("PUT", "/kv/k", &[&format!("content-type: {content_type}")], "{}").await;
        assert_eq!((reply.status, reply.body.len()), (415, 0), "{content_type}");
    }
    assert_eq!(origin.send("PUT", "/kv/k", &[], "{}").await.status, 415);
    assert_eq!(origin.emulator.sequence_number(), 0, "nothing was written");
    assert_eq!(origin.send("PUT", "/kv/k", &[json], "{}").await.json()["value"], serde_json::Value::Null);
}

#[tokio::test]
async fn dates_are_checked() {
    let origin = Origin::new(EmulatorSettings::default());
    for date in ["yesterday", "2025-13-01", "", "21/11/2025"] {
        let reply = origin.send("GET", "/kv", &[&format!("accept-datetime: {date}")], "").await;
        assert_eq!((reply.status, reply.json()["name"].as_str()), (400, Some("Accept-Datetime")), "{date}");
    }
}

#[tokio::test]
async fn sizes_are_limited() {
    let origin = Origin::new(EmulatorSettings::default());
    let json = "content-type: application/json";
    let body = |length: usize| format!("{{\"value\":\"{}\"}}", "v".repeat(length));
    assert_eq!(origin.send("PUT", "/kv/k", &[json], &body(10_000)).await.status, 200);
    assert_eq!(origin.send("PUT", "/kv/k", &[json], &body(10_230)).await.status, 413, "the body");
    let key = "k".repeat(256);
    assert_eq!(
        origin.send("PUT", &format!("/kv/{key}"), &[json], &body(10_000)).await.status,
        413,
        "all attributes"
    );
    assert_eq!(origin.get(&format!("/kv?key={}", "k".repeat(9_000))).await.status, 414);
    let field = format!("x-large: {}", "v".repeat(33_000));
    let reply = origin.send("GET", "/kv", &[&field], "").await;
    assert_eq!((reply.status, reply.body.len()), (431, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_request_panics_or_is_an_error_of_the_server(
        method in "(GET|HEAD|PUT|DELETE|PATCH|POST)",
        path in "/(kv|locks|keys|labels|revisions|snapshots|operations)(/[a-c%0-9*,]{0,6})?",
        query in "((key|label|tags|after|snapshot|\\$select|name|status|api-version)=[a-c%0-9*,=\\\\+-]{0,6}&){0,4}",
        field in "(if-match|if-none-match|accept-datetime|sync-token|authorization|range|content-type|accept): [ -~]{0,24}",
        body in prop::option::of("[\\{\\}\\[\\]\":,a-z0-9\\\\]{0,30}"),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let target = format!("{path}?{query}api-version=2026-04-01");
        prop_assume!(target.parse::<http::Uri>().is_ok());
        let reply = runtime.block_on(async {
            let origin = Origin::new(EmulatorSettings::default());
            origin.put("/kv/a", "v").await;
            origin.send_exactly(&method, &target, &[&field, "content-type: application/json"], body.unwrap_or_default().as_bytes()).await
        });
        prop_assert!(reply.status < 500, "{method} {target} {field}: {reply:?}");
        prop_assert!(reply.headers.contains_key("x-ms-request-id"));
    }
}
