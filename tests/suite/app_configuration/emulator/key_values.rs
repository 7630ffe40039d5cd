//! `/kv/{key}` and `/locks/{key}`: conditions, labels, locks, `$select`, api-versions, media types, ids and
//! `Accept-Datetime`.

use tagalong::internals::emulator::EmulatorSettings;

use super::{Origin, VERSIONS};

const KEY_VALUE: &str = "application/vnd.microsoft.appconfig.kv+json; charset=utf-8";
const PROBLEM: &str = "application/problem+json; charset=utf-8";

/// The conditions of the matrix; `{e}` is the current tag.
const CONDITIONS: [&str; 11] = [
    "x-none: x",
    "if-match: \"{e}\"",
    "if-match: W/\"{e}\"",
    "if-match: \"other\"",
    "if-match: *",
    "if-match: \"*\"",
    "if-none-match: \"{e}\"",
    "if-none-match: \"other\"",
    "if-none-match: *",
    "if-none-match: \"other\", W/\"{e}\"",
    "if-none-match: \"broken",
];

async fn with_key() -> (Origin, String) {
    let origin = Origin::new(EmulatorSettings::default());
    let created = origin.put("/kv/k", "v").await;
    assert_eq!(created.status, 200);
    let etag = created.json()["etag"].as_str().unwrap().to_owned();
    (origin, etag)
}

#[tokio::test]
async fn reads_follow_the_matrix_in_every_api_version() {
    let expected = [200, 200, 200, 412, 200, 200, 304, 200, 304, 304, 200];
    for version in VERSIONS {
        let (origin, etag) = with_key().await;
        for (condition, expected) in CONDITIONS.iter().zip(expected) {
            let condition = condition.replace("{e}", &etag);
            let target = format!("/kv/k?api-version={version}");
            for method in ["GET", "HEAD"] {
                let reply = origin.send(method, &target, &[&condition], "").await;
                assert_eq!(reply.status, expected, "{method} {version} {condition}");
                assert_eq!(
                    !reply.body.is_empty(),
                    method == "GET" && expected == 200,
                    "{method} {condition}"
                );
                assert_eq!(reply.headers.contains_key("sync-token"), expected != 412, "{condition}");
                let has_tag = reply.header("etag") == format!("\"{etag}\"");
                assert_eq!(has_tag, expected == 200, "{condition}: {reply:?}");
                assert_eq!(reply.headers.contains_key("last-modified"), expected == 200);
                assert_eq!(reply.headers.contains_key("content-type"), expected == 200);
                // A missing key-value gives 404 before any condition is checked.
                let missing =
                    origin.send(method, &format!("/kv/none?api-version={version}"), &[&condition], "").await;
                assert_eq!((missing.status, missing.body.len()), (404, 0), "{condition}");
                assert!(missing.headers.contains_key("sync-token"));
            }
        }
    }
}

#[tokio::test]
async fn writes_follow_the_matrix() {
    let put = [200, 200, 200, 412, 200, 200, 412, 200, 412, 412, 200];
    let put_missing = [200, 412, 412, 412, 412, 412, 200, 200, 200, 200, 200];
    let delete_missing = [204, 412, 412, 412, 412, 412, 204, 204, 204, 204, 204];
    let lock_missing = [404, 412, 412, 412, 412, 412, 404, 404, 404, 404, 404];
    for (index, condition) in CONDITIONS.iter().enumerate() {
        for (method, target, expected) in [
            ("PUT", "/kv/k", put[index]),
            ("DELETE", "/kv/k", put[index]),
            ("PUT", "/locks/k", put[index]),
            ("DELETE", "/locks/k", put[index]),
            ("PUT", "/kv/none", put_missing[index]),
            ("DELETE", "/kv/none", delete_missing[index]),
            ("PUT", "/locks/none", lock_missing[index]),
            ("DELETE", "/locks/none", lock_missing[index]),
        ] {
            let (origin, etag) = with_key().await;
            let condition = condition.replace("{e}", &etag);
            let body = if method == "PUT" && target.starts_with("/kv") { "{\"value\":\"new\"}" } else { "" };
            let before = origin.emulator.sequence_number();
            let reply =
                origin.send(method, target, &[&condition, "content-type: application/json"], body).await;
            assert_eq!(reply.status, expected, "{method} {target} {condition}");
            let unlocked_already = method == "DELETE" && target == "/locks/k";
            let changes = u64::from(expected == 200 && !unlocked_already);
            assert_eq!(origin.emulator.sequence_number(), before + changes, "{method} {target} {condition}");
            assert_eq!(
                reply.headers.contains_key("sync-token"),
                expected != 412,
                "{method} {target} {condition}"
            );
            assert_eq!(reply.body.is_empty(), expected != 200);
        }
    }
}

#[tokio::test]
async fn a_written_key_value_is_shown_whole_and_identity_comes_from_the_url() {
    let origin = Origin::new(EmulatorSettings::default());
    let body = r#"{"key":"other","label":"other","etag":"x","locked":true,"last_modified":"2000-01-01T00:00:00Z",
        "value":"h\u00e9llo","content_type":"text/plain","tags":{"a":"b"},"description":"d"}"#;
    for content_type in ["application/json", "application/vnd.microsoft.appconfig.kv+json; charset=utf-8"] {
        let field = format!("content-type: {content_type}");
        let reply = origin.send("PUT", "/kv/new%2Fkey%201?label=prod", &[&field], body).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, KEY_VALUE));
        let mut json = reply.json();
        let etag = json["etag"].take();
        assert_eq!(reply.header("etag"), format!("\"{}\"", etag.as_str().unwrap()));
        assert_eq!(reply.header("last-modified"), "Fri, 21 Nov 2025 10:00:00 GMT");
        assert_eq!(
            json,
            serde_json::json!({"etag": null, "key": "new/key 1", "label": "prod", "content_type": "text/plain",
                "value": "héllo", "tags": {"a": "b"}, "description": "d", "locked": false,
                "last_modified": "2025-11-21T10:00:00+00:00"})
        );
    }
    // Raw and encoded slashes are the same key. The key without a label is another key-value.
    assert_eq!(origin.get("/kv/new/key%201?label=prod").await.status, 200);
    assert_eq!(origin.get("/kv/new/key%201").await.status, 404);
}

#[tokio::test]
async fn absent_empty_and_nul_labels_are_one() {
    let (origin, etag) = with_key().await;
    for target in ["/kv/k", "/kv/k?label=", "/kv/k?label=%00", "/kv/k?Label=%00", "/kv/%6B"] {
        assert_eq!(origin.get(target).await.json()["etag"], etag.as_str(), "{target}");
    }
    assert_eq!(
        origin.get("/kv/k?label=*").await.status,
        404,
        "the label of a single key-value is not a filter"
    );
}

#[tokio::test]
async fn keys_with_reserved_characters_are_written_read_and_deleted() {
    let origin = Origin::new(EmulatorSettings::default());
    for key in [
        "a*b",
        "a,b",
        "a%5Cb",
        "a%3Fb%23c",
        ".appconfig.featureflag%2FBeta",
        "%C3%A9%F0%9F%98%80",
        "a+b",
        "..a",
    ] {
        let target = format!("/kv/{key}?label=L%2C%2A%5Cx");
        assert_eq!(origin.put(&target, "v").await.status, 200, "{key}");
        assert_eq!(origin.get(&target).await.status, 200, "{key}");
        assert_eq!(origin.send("DELETE", &target, &[], "").await.status, 200, "{key}");
        assert_eq!(origin.get(&target).await.status, 404, "{key}");
    }
}

#[tokio::test]
async fn a_no_op_keeps_tag_and_revision_and_a_change_does_not() {
    let (origin, etag) = with_key().await;
    let again = origin.put("/kv/k", "v").await;
    assert_eq!((again.status, again.json()["etag"].as_str()), (200, Some(etag.as_str())));
    assert_eq!(again.sequence_number(), 1);
    let other = origin.put("/kv/k", "w").await;
    assert_ne!(other.json()["etag"], etag.as_str());
    assert_eq!(other.sequence_number(), 2);
    assert_eq!(origin.get("/revisions?key=k").await.items("value"), ["w", "v"]);
}

#[tokio::test]
async fn locks_protect_and_change_the_tag_once() {
    let (origin, etag) = with_key().await;
    let locked = origin.send("PUT", "/locks/k", &[], "").await;
    assert_eq!((locked.status, locked.json()["locked"].as_bool()), (200, Some(true)));
    assert_ne!(locked.json()["etag"], etag.as_str());
    let again = origin.send("PUT", "/locks/k", &[], "").await;
    assert_eq!(again.json()["etag"], locked.json()["etag"]);
    for (method, body) in [("PUT", "{\"value\":\"x\"}"), ("PUT", "{\"value\":\"v\"}"), ("DELETE", "")] {
        let refused = origin.send(method, "/kv/k", &["content-type: application/json"], body).await;
        assert_eq!((refused.status, refused.header("content-type")), (409, PROBLEM));
        assert_eq!(
            refused.json(),
            serde_json::json!({"type": "https://azconfig.io/errors/key-locked", "name": "k", "status": 409,
                "title": "Modifing key 'k' is not allowed",
                "detail": "The key is read-only. To allow modification unlock it first."})
        );
        assert!(refused.headers.contains_key("sync-token"));
    }
    // The condition is checked before the lock.
    let stale = origin.send("DELETE", "/kv/k", &["if-match: \"x\""], "").await;
    assert_eq!(stale.status, 412);
    let unlocked = origin.send("DELETE", "/locks/k", &[], "").await;
    assert_eq!((unlocked.status, unlocked.json()["locked"].as_bool()), (200, Some(false)));
    assert_eq!(origin.put("/kv/k", "x").await.status, 200);
}

#[tokio::test]
async fn a_deletion_answers_with_the_deleted_state() {
    let (origin, etag) = with_key().await;
    let deleted = origin.send("DELETE", "/kv/k", &[], "").await;
    assert_eq!((deleted.status, deleted.header("etag")), (200, format!("\"{etag}\"").as_str()));
    assert_eq!((deleted.json()["value"].as_str(), deleted.sequence_number()), (Some("v"), 2));
    let nothing = origin.send("DELETE", "/kv/k", &[], "").await;
    assert_eq!((nothing.status, nothing.body.len(), nothing.sequence_number()), (204, 0, 2));
}

#[tokio::test]
async fn select_shapes_the_body_and_not_the_tag() {
    let (origin, etag) = with_key().await;
    for (select, keys) in [
        ("key,value", &["key", "value"][..]),
        ("Value", &["value"]),
        ("nonsense", &[]),
        ("nonsense,locked", &["locked"]),
    ] {
        let reply = origin.get(&format!("/kv/k?%24select={select}")).await;
        let json = reply.json();
        assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), keys, "{select}");
        assert_eq!(reply.header("etag"), format!("\"{etag}\""));
    }
    assert_eq!(origin.get("/kv/k?$select=*").await.body, origin.get("/kv/k").await.body);
}

#[tokio::test]
async fn descriptions_and_tag_filters_belong_to_their_versions() {
    let origin = Origin::new(EmulatorSettings::default());
    let body = r#"{"value":"v","description":"d","tags":{"env":"dev"}}"#;
    for (position, version) in VERSIONS.iter().enumerate() {
        let target = format!("/kv/k{position}?api-version={version}");
        let reply = origin.send("PUT", &target, &["content-type: application/json"], body).await;
        let described = position >= 6;
        assert_eq!(
            reply.json().get("description").map(|text| text == "d"),
            described.then_some(true),
            "{version}"
        );
        let newest = origin.get(&format!("/kv/k{position}?api-version=2026-04-01")).await;
        assert_eq!(newest.json()["description"] == "d", described, "{version}");
        let other_tag = origin.get(&format!("{target}&tags=env%3Dtest")).await;
        assert_eq!(other_tag.status, if position >= 4 { 404 } else { 200 }, "{version}");
        assert_eq!(origin.get(&format!("{target}&tags=env%3Ddev")).await.status, 200, "{version}");
    }
}

#[tokio::test]
async fn the_media_type_follows_accept_and_the_bytes_do_not() {
    let (origin, _) = with_key().await;
    let plain = origin.send("GET", "/kv/k", &["accept: application/json"], "").await;
    assert_eq!(plain.header("content-type"), "application/json; charset=utf-8");
    for accept in ["*/*", "application/vnd.microsoft.appconfig.kv+json, application/problem+json"] {
        let reply = origin.send("GET", "/kv/k", &[&format!("accept: {accept}")], "").await;
        assert_eq!((reply.header("content-type"), &reply.body), (KEY_VALUE, &plain.body));
    }
}

#[tokio::test]
async fn every_answer_has_ids_and_the_client_gets_its_own_back_on_request() {
    let (origin, _) = with_key().await;
    for target in ["/kv/k", "/kv/none", "/nowhere", "/kv?key=a*b"] {
        let reply = origin.get(target).await;
        let id = reply.header("x-ms-request-id").to_owned();
        assert_eq!(id.len(), 36, "{target}");
        assert_eq!(reply.header("x-ms-correlation-request-id"), id);
        assert!(!reply.headers.contains_key("x-ms-client-request-id"));
    }
    let fields = ["x-ms-client-request-id: mine", "x-ms-correlation-request-id: both"];
    let silent = origin.send("GET", "/kv/k", &fields, "").await;
    assert_eq!(silent.header("x-ms-correlation-request-id"), "both");
    assert!(!silent.headers.contains_key("x-ms-client-request-id"));
    let wanted = [fields[0], fields[1], "x-ms-return-client-request-id: true"];
    let echoed = origin.send("GET", "/kv/k", &wanted, "").await;
    assert_eq!(echoed.header("x-ms-client-request-id"), "mine");
}

#[tokio::test]
async fn methods_that_are_not_offered_are_405_without_a_body() {
    let (origin, _) = with_key().await;
    for (method, target) in [
        ("POST", "/kv/k"),
        ("PATCH", "/kv/k"),
        ("PUT", "/kv"),
        ("DELETE", "/kv"),
        ("PUT", "/keys"),
        ("DELETE", "/labels"),
        ("POST", "/revisions"),
        ("GET", "/locks/k"),
        ("HEAD", "/locks/k"),
        ("DELETE", "/snapshots/s"),
        ("PUT", "/operations?snapshot=s"),
    ] {
        let reply = origin.send(method, target, &[], "").await;
        assert_eq!((reply.status, reply.body.len()), (405, 0), "{method} {target}");
        assert!(!reply.header("allow").is_empty());
    }
    for target in ["/", "/kv/", "/KV/k", "/nowhere", "/kv2"] {
        assert_eq!(origin.get(target).await.status, 404, "{target}");
    }
}

#[tokio::test]
async fn accept_datetime_shows_the_state_strictly_before() {
    let (origin, _) = with_key().await;
    origin.clock.advance(std::time::Duration::from_secs(60));
    origin.put("/kv/k", "later").await;
    origin.clock.advance(std::time::Duration::from_secs(60));
    origin.send("DELETE", "/kv/k", &[], "").await;
    for (date, status, value) in [
        ("Fri, 21 Nov 2025 10:00:00 GMT", 404, None),
        ("Fri, 21 Nov 2025 10:00:01 GMT", 200, Some("v")),
        ("2025-11-21T10:00:01.000Z", 200, Some("v")),
        ("2025-11-21 10:01:00+00:00", 200, Some("v")),
        ("2025-11-21 10:01:01+00:00", 200, Some("later")),
        ("2025-11-21T11:02:00.000+01:00", 200, Some("later")),
    ] {
        let reply = origin.send("GET", "/kv/k", &[&format!("accept-datetime: {date}")], "").await;
        assert_eq!(reply.status, status, "{date}");
        assert_eq!(
            value,
            (status == 200).then(|| reply.json()["value"].as_str().unwrap().to_owned()).as_deref()
        );
        assert!(reply.header("memento-datetime").ends_with(" GMT"), "{date}");
        assert_eq!(reply.header("link"), "</kv/k?api-version=2026-04-01>; rel=\"original\"");
    }
    let future = origin.send("GET", "/kv/k", &["accept-datetime: Sat, 21 Nov 2099 10:00:00 GMT"], "").await;
    assert_eq!(future.status, 404);
    assert!(!future.headers.contains_key("memento-datetime") && !future.headers.contains_key("link"));
}

#[tokio::test]
async fn require_if_match_demands_a_strategy_for_every_write() {
    let origin = Origin::new(EmulatorSettings { require_if_match: true, ..EmulatorSettings::default() });
    let json = "content-type: application/json";
    let body = "{\"value\":\"1\"}";
    for (method, target) in
        [("PUT", "/kv/k"), ("DELETE", "/kv/k"), ("PUT", "/locks/k"), ("DELETE", "/locks/k")]
    {
        for fields in [&[json][..], &[json, "if-match: \"broken"]] {
            let refused = origin.send(method, target, fields, body).await;
            assert_eq!((refused.status, refused.header("content-type")), (400, PROBLEM), "{method} {target}");
            let detail = refused.json()["detail"].as_str().unwrap().to_owned();
            assert!(
                detail.contains("Optimistic concurrency") && detail.contains("Last writer wins"),
                "{detail}"
            );
        }
    }
    let created = origin.send("PUT", "/kv/k", &[json, "if-none-match: *"], body).await;
    assert_eq!(created.status, 200);
    let optimistic = format!("if-match: {}", created.header("etag"));
    let changed = origin.send("PUT", "/kv/k", &[json, &optimistic], "{\"value\":\"2\"}").await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), created.header("etag"));
    assert_eq!(origin.send("PUT", "/kv/k", &[json, &optimistic], "{\"value\":\"3\"}").await.status, 412);
    assert_eq!(origin.send("PUT", "/kv/k", &[json, "if-match: *"], "{\"value\":\"4\"}").await.status, 200);
    assert_eq!(origin.get("/kv/k").await.status, 200, "reads need no strategy");
    let created = origin.send("PUT", "/kv/absent", &[json, "if-match: *"], body).await;
    assert_eq!(created.status, 200, "`If-Match: *` creates a missing key-value too");
    let deleted = origin.send("DELETE", "/kv/none", &["if-match: *"], "").await;
    assert_eq!(deleted.status, 204);
    assert_eq!(origin.send("PUT", "/kv/other", &[json, "if-match: \"x\""], body).await.status, 412);
    let ordinary = Origin::new(EmulatorSettings::default());
    let refused = ordinary.send("PUT", "/kv/absent", &[json, "if-match: *"], body).await;
    assert_eq!(refused.status, 412, "without --require-if-match the condition needs an existing key-value");
}
