//! `/snapshots`, `/operations` and `/kv?snapshot=`: the life cycle of a snapshot, its conditions, its composition and
//! its items.

use std::time::Duration;

use tagalong::internals::emulator::EmulatorSettings;

use super::{Origin, Reply, VERSIONS};

const JSON: &str = "content-type: application/json";

async fn origin(provisioning: Duration) -> Origin {
    let origin =
        Origin::new(EmulatorSettings { snapshot_provisioning: provisioning, ..EmulatorSettings::default() });
    for target in ["/kv/app:a", "/kv/app:a?label=prod", "/kv/app:b?label=prod", "/kv/other"] {
        origin.put(target, "v").await;
    }
    origin
}

async fn create(origin: &Origin, name: &str, body: &str) -> Reply {
    origin.send("PUT", &format!("/snapshots/{name}"), &[JSON], body).await
}

const PROD: &str = r#"{"filters":[{"key":"app:*","label":"prod"}]}"#;

#[tokio::test]
async fn a_snapshot_lives_from_provisioning_to_its_end() {
    let origin = origin(Duration::from_secs(2)).await;
    let created = create(&origin, "s1", PROD).await;
    assert_eq!(created.status, 201);
    assert_eq!(
        created.header("content-type"),
        "application/vnd.microsoft.appconfig.snapshot+json; charset=utf-8"
    );
    assert_eq!(
        created.header("operation-location"),
        "http://127.0.0.1:8483/operations?snapshot=s1&api-version=2026-04-01"
    );
    assert_eq!(created.json()["status"], "provisioning");
    assert_eq!(created.sequence_number(), 5);
    assert_eq!(create(&origin, "s1", PROD).await.json()["type"], "https://azconfig.io/errors/already-exists");

    // An empty list while the snapshot is provisioning.
    let early = origin.get("/kv?snapshot=s1").await;
    assert_eq!((early.status, early.items("key").len()), (200, 0));
    let operation = origin.get("/operations?snapshot=s1").await;
    assert_eq!(
        (operation.json()["status"].as_str(), operation.header("retry-after")),
        (Some("Running"), "2")
    );
    let refused = origin.send("PATCH", "/snapshots/s1", &[JSON], r#"{"status":"archived"}"#).await;
    assert_eq!(
        (refused.status, refused.json()["type"].as_str()),
        (409, Some("https://azconfig.io/errors/invalid-state"))
    );

    origin.clock.advance(Duration::from_secs(2));
    let operation = origin.get("/operations?snapshot=s1").await;
    assert_eq!(
        (operation.json()["status"].as_str(), operation.header("retry-after")),
        (Some("Succeeded"), "")
    );
    let ready = origin.get("/snapshots/s1").await;
    assert_eq!(ready.header("link"), "</kv?snapshot=s1&api-version=2026-04-01>; rel=\"items\"");
    let json = ready.json();
    assert_eq!((json["status"].as_str(), json["items_count"].as_u64()), (Some("ready"), Some(2)));
    assert_eq!(json["retention_period"], 2_592_000);
    assert!(json.get("expires").is_none());
    assert_ne!(json["etag"], created.json()["etag"]);

    // The items never change.
    origin.put("/kv/app:a?label=prod", "changed").await;
    let items = origin.get("/kv?snapshot=s1").await;
    assert_eq!(
        (items.items("key"), items.items("value")),
        (vec!["app:a".into(), "app:b".into()], vec!["v".into(); 2])
    );

    let archived = origin
        .send(
            "PATCH",
            "/snapshots/s1",
            &["content-type: application/merge-patch+json"],
            r#"{"status":"archived"}"#,
        )
        .await;
    assert_eq!((archived.status, archived.json()["status"].as_str()), (200, Some("archived")));
    assert_eq!(archived.json()["expires"], "2025-12-21T10:00:02+00:00");
    assert_ne!(archived.json()["etag"], json["etag"]);
    assert_eq!(origin.get("/kv?snapshot=s1").await.body, items.body);
    let recovered = origin.send("PATCH", "/snapshots/s1", &[JSON], r#"{"status":"ready"}"#).await;
    assert_eq!((recovered.status, recovered.json()["status"].as_str()), (200, Some("ready")));

    origin.send("PATCH", "/snapshots/s1", &[JSON], r#"{"status":"archived"}"#).await;
    origin.clock.advance(Duration::from_secs(2_592_000));
    assert_eq!(origin.get("/snapshots/s1").await.status, 404);
    assert_eq!(create(&origin, "s1", PROD).await.status, 201, "the name is free again");
}

#[tokio::test]
async fn conditions_on_a_snapshot_follow_the_matrix() {
    let origin = origin(Duration::ZERO).await;
    let etag = create(&origin, "s", PROD).await.header("etag").to_owned();
    for (condition, read, patch) in [
        ("x: y".to_owned(), 200, 200),
        (format!("if-match: {etag}"), 200, 200),
        ("if-match: \"x\"".to_owned(), 412, 412),
        ("if-match: *".to_owned(), 200, 200),
        (format!("if-none-match: {etag}"), 304, 412),
        ("if-none-match: *".to_owned(), 304, 412),
        ("if-none-match: \"x\"".to_owned(), 200, 200),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = origin.send(method, "/snapshots/s", &[&condition], "").await;
            assert_eq!(reply.status, read, "{method} {condition}");
            assert_eq!(reply.header("etag"), if read == 412 { "" } else { &etag });
        }
        // The requested status is the current one, so the snapshot does not change and serves every row.
        let patched =
            origin.send("PATCH", "/snapshots/s", &[JSON, &condition], r#"{"status":"ready"}"#).await;
        assert_eq!(patched.status, patch, "{condition}");
        let missing =
            origin.send("PATCH", "/snapshots/none", &[JSON, &condition], r#"{"status":"ready"}"#).await;
        assert_eq!(missing.status, 404, "{condition}");
    }
}

#[tokio::test]
async fn composition_decides_which_label_of_a_key_stays() {
    let origin = origin(Duration::ZERO).await;
    let labels = async |name: &str, body: &str| {
        assert_eq!(create(&origin, name, body).await.status, 201, "{body}");
        origin.get(&format!("/kv?snapshot={name}")).await.items("label")
    };
    let null = serde_json::Value::Null;
    let last_wins =
        r#"{"filters":[{"key":"app:a"},{"key":"app:*","label":"prod"}],"composition_type":"key"}"#;
    assert_eq!(labels("a", last_wins).await, ["prod", "prod"]);
    let other_order = r#"{"filters":[{"key":"app:*","label":"prod"},{"key":"app:a"}]}"#;
    assert_eq!(labels("b", other_order).await, [null.clone(), "prod".into()]);
    let both = r#"{"filters":[{"key":"app:a","label":"*"}],"composition_type":"key_label"}"#;
    assert_eq!(labels("c", both).await, [null, "prod".into()]);
}

#[tokio::test]
async fn lists_of_snapshots_filter_and_page() {
    let origin = origin(Duration::ZERO).await;
    for name in ["a1", "a2", "b1"] {
        create(&origin, name, PROD).await;
    }
    origin.send("PATCH", "/snapshots/a2", &[JSON], r#"{"status":"archived"}"#).await;
    for (query, expected) in [
        ("", &["a1", "a2", "b1"][..]),
        ("name=a*", &["a1", "a2"]),
        ("name=a1,b1", &["a1", "b1"]),
        ("status=ready", &["a1", "b1"]),
        ("status=archived", &["a2"]),
        ("status=Ready,archived", &["a1", "a2", "b1"]),
        ("status=*", &["a1", "a2", "b1"]),
        ("status=failed", &[]),
    ] {
        assert_eq!(origin.get(&format!("/snapshots?{query}")).await.items("name"), expected, "{query}");
    }
    let reply = origin.get("/snapshots?$select=name,status").await;
    assert_eq!(
        reply.body,
        r#"{"items":[{"name":"a1","status":"ready"},{"name":"a2","status":"archived"},{"name":"b1","status":"ready"}]}"#
    );
    assert_eq!(
        reply.header("content-type"),
        "application/vnd.microsoft.appconfig.snapshotset+json; charset=utf-8"
    );
    assert!(!reply.headers.contains_key("etag"));
}

#[tokio::test]
async fn a_failed_snapshot_stays_empty() {
    let settings = EmulatorSettings {
        snapshots_fail: true,
        snapshot_provisioning: Duration::ZERO,
        ..EmulatorSettings::default()
    };
    let origin = Origin::new(settings);
    origin.put("/kv/app:a?label=prod", "v").await;
    create(&origin, "s", PROD).await;
    assert_eq!(origin.get("/snapshots/s").await.json()["status"], "failed");
    let operation = origin.get("/operations?snapshot=s").await.json();
    assert!(operation["status"] == "Failed" && operation["error"]["code"].is_string(), "{operation}");
    assert!(origin.get("/kv?snapshot=s").await.items("key").is_empty());
    let refused = origin.send("PATCH", "/snapshots/s", &[JSON], r#"{"status":"archived"}"#).await;
    assert_eq!(refused.status, 409);
}

#[tokio::test]
async fn snapshots_exist_from_their_api_version_on() {
    for (position, version) in VERSIONS.iter().enumerate() {
        let origin = origin(Duration::ZERO).await;
        let target =
            |path: &str| format!("{path}{}api-version={version}", if path.contains('?') { "&" } else { "?" });
        let created = origin.send("PUT", &target("/snapshots/s"), &[JSON], PROD).await;
        assert_eq!(created.status, if position >= 1 { 201 } else { 400 }, "{version}");
        for path in ["/snapshots", "/snapshots/s", "/operations?snapshot=s"] {
            let reply = origin.get(&target(path)).await;
            assert_eq!(reply.status, if position >= 1 { 200 } else { 400 }, "{version} {path}");
            if position == 0 {
                assert_eq!(reply.json()["title"], "Unsupported API version");
            }
        }
        let items = origin.get(&target("/kv?snapshot=s")).await.items("key");
        assert_eq!(items.len(), if position >= 1 { 2 } else { 4 }, "{version}");
    }
}

#[tokio::test]
async fn drafts_are_checked() {
    let origin = origin(Duration::ZERO).await;
    for (body, name) in [
        ("", "body"),
        ("{}", "body"),
        (r#"{"filters":[]}"#, "filters"),
        (r#"{"filters":[{"key":"a"},{"key":"b"},{"key":"c"},{"key":"d"}]}"#, "filters"),
        (r#"{"filters":[{"label":"x"}]}"#, "body"),
        (r#"{"filters":[{"key":""}]}"#, "filters"),
        (r#"{"filters":[{"key":"a*b"}]}"#, "filters"),
        (r#"{"filters":[{"key":"a","label":"x*"}]}"#, "filters"),
        (r#"{"filters":[{"key":"a","label":"x,y"}]}"#, "filters"),
        (r#"{"filters":[{"key":"a","tags":["nonsense"]}]}"#, "filters"),
        (r#"{"filters":[{"key":"a"}],"retention_period":3599}"#, "retention_period"),
        (r#"{"filters":[{"key":"a"}],"retention_period":7776001}"#, "retention_period"),
        (r#"{"filters":[{"key":"a"}],"composition_type":"other"}"#, "body"),
    ] {
        let refused = create(&origin, "s", body).await;
        assert_eq!((refused.status, refused.json()["name"].as_str()), (400, Some(name)), "{body}");
    }
    assert_eq!(origin.send("PUT", "/snapshots/s", &["content-type: text/plain"], PROD).await.status, 415);
    assert_eq!(origin.send("PATCH", "/snapshots/s", &[JSON], r#"{"status":"failed"}"#).await.status, 400);
    assert_eq!(origin.get("/operations").await.json()["name"], "snapshot");
    assert_eq!(origin.get("/operations?snapshot=none").await.status, 404);
    assert_eq!(origin.get("/snapshots?status=odd").await.json()["name"], "status");
    assert_eq!(
        origin.get("/kv?snapshot=none").await.body,
        r#"{"etag":"00wWELzclWef22f82qcUDI7FbJweVOoKWZDA_JoUeD0","items":[]}"#
    );
}
