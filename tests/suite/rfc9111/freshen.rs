//! Freshening by a 304 or a HEAD (RFC 9111 §4.3.4, §4.3.5), and answers that do not fit their request.

use crate::support::answer::Answer;
use crate::support::scene::Scene;

#[tokio::test]
async fn a_304_replaces_the_fields_it_names_and_keeps_the_others() {
    let scene = Scene::rfc9111().await;
    scene.on(
        "/a",
        "200\nCache-Control: max-age=10\nETag: \"a\"\nX-Kept: kept\nX-New: old\nX-Many: 1\nX-Many: 2\nContent-Type: text/plain\nContent-Encoding: x-own\n\nbody",
    );
    scene.on(
        "/a",
        "304\nCache-Control: max-age=60\nETag: \"a\"\nX-New: new\nX-Many: 3\nX-Many: 4\nX-Many: 5\nX-Added: added\nContent-Encoding: gzip\nContent-Range: bytes 0-1/2\nContent-Length: 99",
    );
    scene.get("/a").await;
    scene.pass_seconds(11);
    for hit in [false, true] {
        let response = scene.get("/a").await;
        assert_eq!((response.is_hit(), response.status, response.text()), (hit, 200, "body"));
        assert_eq!(response.field("x-kept"), Some("kept"), "hit {hit}");
        assert_eq!(response.field("x-new"), Some("new"), "hit {hit}");
        assert_eq!(response.field("x-added"), Some("added"), "hit {hit}");
        assert_eq!(response.head.lines("x-many"), ["3", "4", "5"], "hit {hit}");
        assert_eq!(response.field("content-type"), Some("text/plain"), "hit {hit}");
        assert_eq!(response.field("content-encoding"), Some("x-own"), "hit {hit}");
        assert_eq!(response.field("content-range"), None, "hit {hit}");
        assert_eq!(response.field("content-length"), Some("4"), "hit {hit}");
        assert_eq!(response.field("date"), Some("Sun, 22 Nov 2026 00:00:11 GMT"), "hit {hit}");
    }
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn a_304_starts_a_new_lifetime() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\nAge: 5\n\nbody");
    scene.store_aged("/a", "304\nETag: \"a\"", 6).await;
    scene.on("/a", "304\nETag: \"a\"\nCache-Control: max-age=100\nAge: 30");
    assert_eq!(scene.get("/a").await.age(), Some(0));
    scene.pass_seconds(9);
    let response = scene.get("/a").await;
    assert_eq!((response.is_hit(), response.age()), (true, Some(9)));
    scene.pass_seconds(2);
    assert_eq!(scene.get("/a").await.age(), Some(30));
    scene.pass_seconds(69);
    let response = scene.get("/a").await;
    assert_eq!((response.is_hit(), response.age()), (true, Some(99)));
    assert_eq!(scene.asked("/a"), 3);
}

#[tokio::test]
async fn a_304_with_another_strong_tag_freshens_nothing() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nold");
    scene.store_aged("/a", "304\nETag: \"other\"\nCache-Control: max-age=60", 11).await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"b\"\n\nnew");
    let response = scene.get("/a").await;
    assert_eq!((response.status, response.text(), response.field("etag")), (200, "new", Some("\"b\"")));
    let last = scene.last_request("/a");
    assert_eq!((last.field("if-none-match"), last.field("if-modified-since")), (None, None));
    assert_eq!(scene.asked("/a"), 3);
}

#[tokio::test]
async fn a_304_by_date_alone_freshens() {
    let scene = Scene::rfc9111().await;
    scene.store_aged("/a", "200\nCache-Control: max-age=10\nLast-Modified: {now-100}\n\nbody", 11).await;
    scene.on("/a", "304\nCache-Control: max-age=60");
    assert_eq!(scene.get("/a").await.text(), "body");
    assert!(scene.get("/a").await.is_hit());
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn the_answer_to_head_freshens_or_outdates_the_stored_get() {
    // The same length and tag freshen the response.
    let scene = Scene::rfc9111().await;
    scene.store_aged("/same", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nbody", 11).await;
    scene.on("/same", "200\nCache-Control: max-age=60\nETag: \"a\"\nX-New: new\n\nbody");
    scene.send("HEAD /same\nCache-Control: no-cache").await;
    let asked = scene.asked("/same");
    scene.on("/same", "200\nCache-Control: no-store\n\nbody");
    assert_eq!(scene.get("/same").await.text(), "body");
    assert!(scene.asked("/same") <= asked + 1);

    for (number, different) in
        ["ETag: \"b\"\n\nbody", "ETag: \"a\"\nContent-Length: 9\n\nother-len"].into_iter().enumerate()
    {
        let target = format!("/{number}");
        scene.on(&target, "200\nCache-Control: max-age=600\nETag: \"a\"\n\nbody");
        scene.on(&target, format!("200\nCache-Control: max-age=600\n{different}"));
        scene.on(&target, "200\nCache-Control: max-age=600\nETag: \"b\"\n\nnew");
        scene.get(&target).await;
        scene.send(&format!("HEAD {target}\nCache-Control: no-cache")).await;
        assert_eq!(scene.get(&target).await.text(), "new", "{different}");
    }
}

#[tokio::test]
async fn head_is_answered_from_a_stored_get_and_stores_none() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"a\"\nX-Field: x\n\nbody");
    scene.get("/a").await;
    let mut caller = scene.caller().await;
    let response = caller.send("HEAD /a").await;
    assert!(response.is_hit());
    assert_eq!((response.status, response.field("content-length")), (200, Some("4")));
    assert_eq!((response.field("etag"), response.field("x-field")), (Some("\"a\""), Some("x")));
    assert_eq!(caller.send("GET /a").await.text(), "body", "the connection is intact");
    assert_eq!(scene.asked("/a"), 1);

    scene.on("/b", "200\nCache-Control: max-age=60\n\nbody");
    scene.on("/b", "200\nCache-Control: max-age=60\n\nbody");
    scene.send("HEAD /b").await;
    assert_eq!(scene.get("/b").await.text(), "body");
    assert_eq!(scene.asked("/b"), 2);
}

#[tokio::test]
async fn a_206_without_a_range_request_becomes_502_and_is_not_stored() {
    for validator in ["X: x", "ETag: \"a\""] {
        let scene = Scene::rfc9111().await;
        let part = format!("206\nCache-Control: max-age=60\nContent-Range: bytes 0-3/9\n{validator}\n\npart");
        scene.on("/a", part);
        scene.on("/a", "200\nCache-Control: max-age=60\n\nwhole");
        assert_eq!(scene.get("/a").await.status, 502, "{validator}");
        let second = scene.get("/a").await;
        assert_eq!((second.status, second.text()), (200, "whole"), "{validator}");
        assert_eq!(scene.last_request("/a").field("range"), None, "{validator}");
    }
}

#[tokio::test]
async fn a_304_with_a_weak_tag_never_mixes_two_representations() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nold");
    scene.store_aged("/a", "304\nETag: W/\"a\"\nCache-Control: max-age=60", 11).await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"b\"\n\nnew");
    let response = scene.get("/a").await;
    assert_eq!(response.status, 200);
    // A weak match may freshen the response (RFC 9111 §4.3.4), and asking again is correct too. The answer must not mix
    // two representations.
    let pair = (response.text(), response.field("etag"));
    assert!(matches!(pair, ("old", Some("\"a\"" | "W/\"a\"")) | ("new", Some("\"b\""))), "{response:?}");
}

#[tokio::test]
async fn malformed_tags_are_passed_on_and_never_sent_upstream() {
    let scene = Scene::rfc9111().await;
    for (number, tag) in
        ["ETag: a", "ETag: \"a\"\nETag: \"b\"", "ETag:", "ETag: \"a\" x"].into_iter().enumerate()
    {
        let target = format!("/{number}");
        scene.on(&target, format!("200\nCache-Control: max-age=10\n{tag}\n\nold"));
        scene.on(&target, "200\nCache-Control: max-age=10\n\nnew");
        let first = scene.get(&target).await;
        assert!(first.status == 502 || (first.status == 200 && first.text() == "old"), "{tag}: {first:?}");
        scene.pass_seconds(11);
        assert_eq!(scene.get(&target).await.text(), "new", "{tag}");
        assert_eq!(scene.last_request(&target).head.lines("if-none-match"), Vec::<&str>::new(), "{tag}");
    }
}

#[tokio::test]
async fn a_304_to_a_request_without_conditions_becomes_502() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "304\nCache-Control: max-age=60\nETag: \"a\"");
    scene.on("/a", "200\nCache-Control: max-age=60\n\nwhole");
    let response = scene.get("/a").await;
    assert_eq!(response.status, 502, "{response:?}");
    assert_eq!(response.field("content-type"), Some("application/problem+json"));
    assert_eq!(scene.get("/a").await.text(), "whole");
}

#[tokio::test]
async fn answers_that_are_not_http_become_502() {
    let scene = Scene::rfc9111().await;
    for (number, bytes) in [
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 7abc\r\n\r\n1234567",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 1\r\n\r\na",
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        scene.on(&target, Answer::raw(bytes).then_close());
        scene.on(&target, "200\nCache-Control: max-age=60\n\ngood");
        assert_eq!(scene.get(&target).await.status, 502, "{bytes:?}");
        assert_eq!(scene.get(&target).await.text(), "good", "{bytes:?}");
    }
}
