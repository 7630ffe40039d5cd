//! Conditional requests of callers, and the validations of the cache (RFC 9111 §4.3).

use crate::support::scene::Scene;

const STORED: &str =
    "200\nCache-Control: max-age=60\nETag: \"a\"\nLast-Modified: Sat, 21 Nov 2026 20:00:00 GMT\n\nbody";

#[tokio::test]
async fn conditional_requests_are_answered_from_the_store() {
    let rows = [
        ("If-None-Match: \"a\"", 304),
        ("If-None-Match: W/\"a\"", 304),
        ("If-None-Match: \"x\", \"a\"", 304),
        ("If-None-Match: \"x\"\nIf-None-Match: \"y\", W/\"a\"", 304),
        ("If-None-Match: \"x,\\\", \"a\"", 304),
        ("If-None-Match: *", 304),
        ("If-None-Match: \"x\"", 200),
        ("If-None-Match: \"A\"", 200),
        ("If-None-Match: \"x\", \"y\"", 200),
        ("If-Modified-Since: Sat, 21 Nov 2026 20:00:00 GMT", 304),
        ("If-Modified-Since: Saturday, 21-Nov-26 20:00:00 GMT", 304),
        ("If-Modified-Since: Sat Nov 21 20:00:00 2026", 304),
        ("If-Modified-Since: Sat, 21 Nov 2026 21:00:00 GMT", 304),
        ("If-Modified-Since: Sat, 21 Nov 2026 19:59:59 GMT", 200),
        ("If-Modified-Since: yesterday", 200),
        // `If-None-Match` beats `If-Modified-Since` in both cases.
        ("If-None-Match: \"x\"\nIf-Modified-Since: Sat, 21 Nov 2026 21:00:00 GMT", 200),
        ("If-None-Match: \"a\"\nIf-Modified-Since: Sat, 21 Nov 2026 19:00:00 GMT", 304),
    ];
    let scene = Scene::rfc9111().await;
    scene.on("/a", STORED);
    scene.get("/a").await;
    for (conditions, status) in rows {
        for method in ["GET", "HEAD"] {
            let response = scene.send(&format!("{method} /a\n{conditions}")).await;
            assert_eq!(response.status, status, "{method} {conditions}");
            assert!(response.is_hit(), "{method} {conditions}");
            let body = if status == 200 && method == "GET" { "body" } else { "" };
            assert_eq!(response.text(), body, "{method} {conditions}");
        }
    }
    assert_eq!(scene.asked("/a"), 1);
}

#[tokio::test]
async fn a_304_carries_what_a_200_would() {
    let scene = Scene::rfc9111().await;
    let fields = [
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("vary", "X-A"),
        ("expires", "Sun, 22 Nov 2026 00:01:00 GMT"),
        ("content-location", "/elsewhere"),
        ("link", "</kv?after=x>; rel=\"next\""),
        ("date", "Sun, 22 Nov 2026 00:00:00 GMT"),
    ];
    let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    scene.on("/a", format!("200\n{}\nContent-Type: text/plain\n\nbody", lines.join("\n")));
    scene.send("GET /a\nX-A: 1").await;
    scene.pass_seconds(5);
    let mut caller = scene.caller().await;
    let response = caller.send("GET /a\nX-A: 1\nIf-None-Match: \"a\"").await;
    assert_eq!(response.status, 304);
    for (name, value) in fields {
        assert_eq!(response.field(name), Some(value), "{name}");
    }
    assert_eq!(response.age(), Some(5));
    assert!(response.is_hit());
    // The connection is intact: the next answer is complete.
    assert_eq!(caller.send("GET /a\nX-A: 1").await.text(), "body");
}

#[tokio::test]
async fn a_caller_without_a_condition_never_gets_a_304() {
    let scene = Scene::rfc9111().await;
    scene.on("/unasked", "304\nETag: \"a\"");
    assert_eq!(scene.get("/unasked").await.status, 502);

    scene.store_aged("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nbody", 11).await;
    scene.on("/a", "304\nETag: \"a\"");
    let response = scene.get("/a").await;
    assert_eq!((response.status, response.text()), (200, "body"));
    assert_eq!(response.cache_status().fwd_status, Some(304));
}

#[tokio::test]
async fn validation_sends_the_tag_exactly_as_received() {
    let rows = [
        ("ETag: \"a\"", Some("\"a\""), None),
        ("ETag: W/\"a\"", Some("W/\"a\""), None),
        ("ETag: \"\"", Some("\"\""), None),
        ("ETag: \"a,b;=\\\"", Some("\"a,b;=\\\""), None),
        ("ETag: a", None, None),
        ("ETag: \"a", None, None),
        ("ETag: w/\"a\"", None, None),
        ("Last-Modified: {now-5}", None, Some("Sat, 21 Nov 2026 23:59:55 GMT")),
        ("ETag: \"a\"\nLast-Modified: {now-5}", Some("\"a\""), Some("Sat, 21 Nov 2026 23:59:55 GMT")),
    ];
    for (fields, tag, date) in rows {
        let scene = Scene::rfc9111().await;
        scene.store_aged("/a", format!("200\nCache-Control: max-age=10\n{fields}\n\nbody"), 11).await;
        scene.on("/a", "200\nCache-Control: no-store\n\nnew");
        assert_eq!(scene.get("/a").await.text(), "new", "{fields}");
        let request = scene.last_request("/a");
        assert_eq!(request.field("if-none-match"), tag, "{fields}");
        // The date may be left out if there is a tag.
        let sent = request.field("if-modified-since");
        assert!(sent == date || (tag.is_some() && sent.is_none()), "{fields}: {sent:?}");
    }
}

#[tokio::test]
async fn tags_of_the_caller_are_sent_upstream_and_get_their_304() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nold");
    scene.store_aged("/a", "304\nETag: \"b\"\nCache-Control: max-age=10", 11).await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"b\"\n\nnew");
    let response = scene.send("GET /a\nIf-None-Match: \"b\"").await;
    assert_eq!(response.status, 304, "{response:?}");
    let sent = scene.last_request("/a").head.lines("if-none-match").join(", ");
    assert!(sent.contains("\"a\"") && sent.contains("\"b\""), "{sent}");
    // The 304 confirms the caller's response and not the stored one, so the stored one stays stale.
    assert_eq!(scene.get("/a").await.text(), "new");
    assert_eq!(scene.asked("/a"), 3);
}

#[tokio::test]
async fn a_conditional_request_validates_a_stale_response() {
    let scene = Scene::rfc9111().await;
    scene.store_aged("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nbody", 11).await;
    scene.on("/a", "304\nETag: \"a\"\nCache-Control: max-age=60");
    let response = scene.send("GET /a\nIf-None-Match: \"a\"").await;
    assert_eq!((response.status, response.text()), (304, ""));
    let response = scene.get("/a").await;
    assert_eq!((response.status, response.text(), response.is_hit()), (200, "body", true));
}

#[tokio::test]
async fn a_conditional_miss_is_fetched_whole_and_evaluated_here() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"a\"\n\nbody");
    let response = scene.send("GET /a\nIf-None-Match: \"a\"").await;
    assert_eq!((response.status, response.field("etag")), (304, Some("\"a\"")));
    let response = scene.get("/a").await;
    assert_eq!((response.text(), response.is_hit()), ("body", true));
}

#[tokio::test]
async fn a_condition_is_evaluated_although_the_answer_is_not_stored() {
    let scene = Scene::rfc9111().await;
    for (condition, status) in [("If-None-Match: \"a\"", 304), ("If-None-Match: \"b\"", 200)] {
        scene.on("/a", "200\nCache-Control: no-store\nETag: \"a\"\n\nbody");
        let mut caller = scene.caller().await;
        let response = caller.send(&format!("GET /a\n{condition}")).await;
        assert_eq!((response.status, response.field("etag")), (status, Some("\"a\"")), "{condition}");
        assert_eq!(response.text(), if status == 200 { "body" } else { "" });
        // The connection is intact.
        scene.on("/b", "200\n\nnext");
        assert_eq!(caller.send("GET /b").await.text(), "next");
    }
}

#[tokio::test]
async fn conditions_that_only_the_origin_can_evaluate_are_forwarded() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", STORED);
    scene.get("/a").await;
    for condition in ["If-Match: \"z\"", "If-Unmodified-Since: Sat, 21 Nov 2026 20:00:00 GMT"] {
        scene.on("/a", "412\n\nno");
        let response = scene.send(&format!("GET /a\n{condition}")).await;
        assert_eq!(response.status, 412, "{condition}");
        let (name, value) = condition.split_once(": ").expect("a field");
        assert_eq!(scene.last_request("/a").field(name), Some(value));
    }
}
