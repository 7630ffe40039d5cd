//! Byte ranges (RFC 9110 §14, RFC 9111 §3.3, §3.4).

use crate::support::scene::Scene;

#[tokio::test]
async fn a_single_range_is_cut_from_a_complete_stored_response() {
    let rows = [
        ("bytes=0-3", 206, "0123", Some("bytes 0-3/10")),
        ("bytes=4-", 206, "456789", Some("bytes 4-9/10")),
        ("bytes=-2", 206, "89", Some("bytes 8-9/10")),
        ("bytes=8-100", 206, "89", Some("bytes 8-9/10")),
        ("bytes=-100", 206, "0123456789", Some("bytes 0-9/10")),
        ("bytes=9-9", 206, "9", Some("bytes 9-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("bytes=100-200", 416, "", Some("bytes */10")),
        ("bytes=-0", 416, "", Some("bytes */10")),
        // A value that is not a range is ignored.
        ("bytes=5-2", 200, "0123456789", None),
        ("bytes=a-b", 200, "0123456789", None),
        ("bytes=", 200, "0123456789", None),
    ];
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"a\"\nContent-Type: text/plain\n\n0123456789");
    scene.get("/a").await;
    for (range, status, body, content_range) in rows {
        let response = scene.send(&format!("GET /a\nRange: {range}")).await;
        assert_eq!(response.status, status, "{range}");
        assert!(response.is_hit(), "{range}: {:?}", response.head);
        assert_eq!(response.field("content-range"), content_range, "{range}");
        if status != 416 {
            assert_eq!(response.text(), body, "{range}");
            assert_eq!(response.field("content-length"), Some(body.len().to_string().as_str()), "{range}");
            assert_eq!(response.field("etag"), Some("\"a\""), "{range}");
        }
    }
    assert_eq!(scene.asked("/a"), 1);
}

#[tokio::test]
async fn if_range_decides_between_part_and_whole() {
    let rows = [
        ("If-Range: \"a\"", 206),
        ("If-Range: \"b\"", 200),
        ("If-Range: W/\"a\"", 200),
        ("If-Range: {modified}", 206),
        ("If-Range: Sat, 21 Nov 2026 10:00:00 GMT", 200),
        ("If-Range: nonsense", 200),
    ];
    let scene = Scene::rfc9111().await;
    // More than a minute before `Date`, so the date is a strong validator (RFC 9110 §8.8.2.2).
    let modified = "Sat, 21 Nov 2026 20:00:00 GMT";
    scene.on(
        "/a",
        format!("200\nCache-Control: max-age=60\nETag: \"a\"\nLast-Modified: {modified}\n\n0123456789"),
    );
    scene.get("/a").await;
    for (field, status) in rows {
        let field = field.replace("{modified}", modified);
        let response = scene.send(&format!("GET /a\nRange: bytes=0-3\n{field}")).await;
        assert_eq!(response.status, status, "{field}");
        assert_eq!(response.text(), if status == 206 { "0123" } else { "0123456789" }, "{field}");
    }
    assert_eq!(scene.asked("/a"), 1);
}

#[tokio::test]
async fn a_request_for_several_ranges_gets_the_whole_or_goes_upstream() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"a\"\n\n0123456789");
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"a\"\n\n0123456789");
    scene.get("/a").await;
    let response = scene.send("GET /a\nRange: bytes=0-1,3-4").await;
    assert_eq!((response.status, response.text()), (200, "0123456789"));
}

#[tokio::test]
async fn a_stored_part_answers_ranges_inside_it() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "206\nCache-Control: max-age=60\nETag: \"a\"\nContent-Range: bytes 0-5/10\n\n012345");
    let first = scene.send("GET /a\nRange: bytes=0-5").await;
    assert_eq!((first.status, first.text()), (206, "012345"));
    assert_eq!(scene.last_request("/a").field("range"), Some("bytes=0-5"));
    for (range, body, content_range) in [
        ("bytes=0-5", "012345", "bytes 0-5/10"),
        ("bytes=2-3", "23", "bytes 2-3/10"),
        ("bytes=5-5", "5", "bytes 5-5/10"),
    ] {
        let response = scene.send(&format!("GET /a\nRange: {range}")).await;
        assert_eq!((response.status, response.text()), (206, body), "{range}");
        assert_eq!(response.field("content-range"), Some(content_range), "{range}");
        assert!(response.is_hit(), "{range}: {:?}", response.head);
    }
    assert_eq!(scene.asked("/a"), 1);
}

#[tokio::test]
async fn a_stored_part_is_completed_with_one_request() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "206\nCache-Control: max-age=60\nETag: \"a\"\nContent-Range: bytes 0-5/10\n\n012345");
    scene.on("/a", "206\nCache-Control: max-age=60\nETag: \"a\"\nContent-Range: bytes 6-9/10\n\n6789");
    scene.send("GET /a\nRange: bytes=0-5").await;
    let whole = scene.get("/a").await;
    assert_eq!((whole.status, whole.text()), (200, "0123456789"));
    assert_eq!(whole.field("content-range"), None);
    assert_eq!(scene.last_request("/a").field("range"), Some("bytes=6-"));
    assert_eq!(whole.cache_status().fwd.as_deref(), Some("partial"));
    let hit = scene.get("/a").await;
    assert_eq!((hit.is_hit(), hit.text()), (true, "0123456789"));
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn parts_of_different_representations_are_never_joined() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "206\nCache-Control: max-age=60\nETag: \"a\"\nContent-Range: bytes 0-5/10\n\n012345");
    scene.on("/a", "206\nCache-Control: max-age=60\nETag: \"b\"\nContent-Range: bytes 6-9/10\n\nWXYZ");
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"b\"\n\nQRSTUVWXYZ");
    scene.send("GET /a\nRange: bytes=0-5").await;
    let whole = scene.get("/a").await;
    assert!(whole.status == 502 || whole.text() == "QRSTUVWXYZ", "{whole:?}");
    assert_eq!(scene.get("/a").await.text(), "QRSTUVWXYZ");
}

#[tokio::test]
async fn a_range_request_that_misses_is_forwarded() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "206\nCache-Control: max-age=60\nETag: \"a\"\nContent-Range: bytes 2-3/10\n\n23");
    let response = scene.send("GET /a\nRange: bytes=2-3").await;
    assert_eq!(
        (response.status, response.text(), response.field("content-range")),
        (206, "23", Some("bytes 2-3/10"))
    );
    scene.on("/b", "416\nContent-Range: bytes */10\n\n");
    let response = scene.send("GET /b\nRange: bytes=20-30").await;
    assert_eq!((response.status, response.field("content-range")), (416, Some("bytes */10")));
}

#[tokio::test]
async fn a_condition_comes_before_the_range() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"a\"\n\n0123456789");
    scene.get("/a").await;
    let response = scene.send("GET /a\nRange: bytes=0-3\nIf-None-Match: \"a\"").await;
    assert_eq!((response.status, response.field("content-range")), (304, None));
}

#[tokio::test]
async fn head_ignores_ranges() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"a\"\n\n0123456789");
    scene.get("/a").await;
    let response = scene.send("HEAD /a\nRange: bytes=0-3").await;
    assert_eq!((response.status, response.field("content-length")), (200, Some("10")));
}
