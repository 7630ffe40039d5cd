//! Which responses are stored, and which of their fields (RFC 9111 §3, §3.1, §3.5, §5.2.2; RFC 9110 §9.3.3).

use crate::support::answer::{Answer, Gate};
use crate::support::scene::Scene;

/// Sends the same request twice and returns whether the store answers the second one. If not, it must go upstream
/// without conditions.
async fn is_reused(scene: &Scene, target: &str, status: u16, fields: &str, request: &str) -> bool {
    scene.on(target, format!("{status}\n{fields}\n\nfirst"));
    scene.on(target, "200\nCache-Control: no-store\n\nsecond");
    let first = scene.send(request).await;
    assert_eq!((first.status, first.text()), (status, "first"), "{fields}");
    let second = scene.send(request).await;
    let reused = second.is_hit();
    assert_eq!(scene.asked(target), if reused { 1 } else { 2 }, "{fields}");
    if reused {
        assert_eq!((second.status, second.text()), (status, "first"), "{fields}");
    } else {
        assert_eq!(scene.last_request(target).field("if-none-match"), None, "{fields}");
    }
    reused
}

#[tokio::test]
async fn response_directives_decide_what_is_stored() {
    let scene = Scene::rfc9111().await;
    let rows = [
        (200, "Cache-Control: max-age=60", true),
        (200, "Cache-Control: no-store\nETag: \"a\"", false),
        (200, "Cache-Control: max-age=60, no-store\nETag: \"a\"", false),
        (200, "Cache-Control: NO-STORE, max-age=60", false),
        (200, "Cache-Control: max-age=60\nCache-Control: No-Store", false),
        (200, "Cache-Control: private, max-age=60\nETag: \"a\"", false),
        (200, "Cache-Control: public, private, max-age=60", false),
        // A status that the cache understands, and one that it does not.
        (200, "Cache-Control: must-understand, no-store, max-age=60", true),
        (299, "Cache-Control: must-understand, max-age=60", false),
        (299, "Cache-Control: must-understand, no-store, max-age=60", false),
        (299, "Cache-Control: max-age=60", true),
    ];
    for (number, (status, fields, reused)) in rows.into_iter().enumerate() {
        let target = format!("/{number}");
        let is_reused = is_reused(&scene, &target, status, fields, &format!("GET {target}")).await;
        assert_eq!(is_reused, reused, "{status} {fields}");
    }
}

#[tokio::test]
async fn no_cache_is_stored_and_validated_on_each_use() {
    let scene = Scene::rfc9111().await;
    for (number, directive) in ["no-cache, max-age=60", "max-age=60, No-Cache"].into_iter().enumerate() {
        let target = format!("/{number}");
        scene.on(&target, format!("200\nCache-Control: {directive}\nETag: \"a\"\n\nstored"));
        for _ in 0..3 {
            scene.on(&target, "304\nETag: \"a\"");
        }
        scene.get(&target).await;
        for use_number in 1..=3 {
            let response = scene.get(&target).await;
            assert_eq!((response.status, response.text()), (200, "stored"));
            assert_eq!(scene.asked(&target), 1 + use_number);
            assert_eq!(scene.last_request(&target).field("if-none-match"), Some("\"a\""));
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_storable_does_not_delete_the_older_fresh_one() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\n\nolder");
    scene.on("/a", "200\nCache-Control: no-store\n\nnewer");
    assert_eq!(scene.get("/a").await.text(), "older");
    assert_eq!(scene.send("GET /a\nCache-Control: no-cache").await.text(), "newer");
    let after = scene.get("/a").await;
    assert!(after.is_hit(), "{:?}", after.head);
    assert_eq!(after.text(), "older");
}

#[tokio::test]
async fn directives_with_field_names_strip_or_validate_those_fields() {
    let scene = Scene::rfc9111().await;
    scene.on("/private", "200\nCache-Control: max-age=60, private=\"x-secret, X-Other\"\nX-Secret: s\nX-Other: o\nX-Open: p\n\nx");
    let first = scene.get("/private").await;
    assert_eq!((first.field("x-secret"), first.field("x-open")), (Some("s"), Some("p")));
    let hit = scene.get("/private").await;
    assert!(hit.is_hit(), "{:?}", hit.head);
    assert_eq!((hit.field("x-secret"), hit.field("x-other"), hit.field("x-open")), (None, None, Some("p")));

    scene.on(
        "/no-cache",
        "200\nCache-Control: max-age=60, no-cache=\"x-secret\"\nETag: \"a\"\nX-Secret: s\nX-Open: p\n\nx",
    );
    scene.on("/no-cache", "304\nETag: \"a\"\nX-Secret: s2");
    scene.get("/no-cache").await;
    let again = scene.get("/no-cache").await;
    // The stored field is removed, or the response is validated first.
    let validated = scene.asked("/no-cache") == 2;
    assert_eq!(again.field("x-secret"), if validated { Some("s2") } else { None }, "{:?}", again.head);
    assert_eq!(again.field("x-open"), Some("p"));
}

#[tokio::test]
async fn any_final_status_with_explicit_freshness_is_stored() {
    let scene = Scene::rfc9111().await;
    let statuses = [
        200, 201, 202, 203, 299, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 418, 451,
        499, 500, 501, 502, 503, 504, 599,
    ];
    for status in statuses {
        let target = format!("/{status}");
        let fields = "Cache-Control: max-age=60";
        assert!(is_reused(&scene, &target, status, fields, &format!("GET {target}")).await, "{status}");
    }
    scene.on("/204", "204\nCache-Control: max-age=60");
    scene.get("/204").await;
    let second = scene.get("/204").await;
    assert!((second.status, second.is_hit()) == (204, true), "{second:?}");
}

#[tokio::test]
async fn a_stale_response_of_any_status_is_validated() {
    let scene = Scene::rfc9111().await;
    for status in [200, 299, 404, 410, 499, 599] {
        let target = format!("/{status}");
        scene.on(&target, format!("{status}\nCache-Control: max-age=1\nETag: \"a\"\n\nstored"));
        scene.on(&target, "304\nETag: \"a\"\nCache-Control: max-age=60");
        scene.get(&target).await;
        scene.pass_seconds(2);
        let second = scene.get(&target).await;
        assert_eq!((second.status, second.text()), (status, "stored"));
        assert_eq!(scene.last_request(&target).field("if-none-match"), Some("\"a\""), "{status}");
    }
}

#[tokio::test]
async fn every_field_except_hop_by_hop_ones_is_stored() {
    let scene = Scene::rfc9111().await;
    let kept = [
        ("Content-Foo", "strange"),
        ("Content-Language", "en"),
        ("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ=="),
        ("Content-Security-Policy", "default-src"),
        ("Set-Cookie", "a=b"),
        ("X-Empty", ""),
        ("Test-Header", "a, b"),
        ("Clear-Site-Data", "\"*\""),
        ("Public-Key-Pins", "x"),
        ("Server", "scripted"),
        ("Via", "1.1 other"),
        ("Cache-Control", "max-age=60, community=\"UCI\", x-unknown"),
    ];
    let dropped = [
        "Connection: X-Hop, keep-alive\nX-Hop: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "Proxy-Authentication-Info: x",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Trailer: X-T",
        "Upgrade: h2c",
    ];
    let fields: Vec<String> = kept.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    scene.on("/a", format!("200\n{}\n{}\n\nx", fields.join("\n"), dropped.join("\n")));
    for hit in [false, true] {
        let response = scene.get("/a").await;
        assert_eq!(response.is_hit(), hit);
        for (name, value) in kept {
            assert!(response.head.lines(name).contains(&value), "hit {hit}: {name} in {:?}", response.head);
        }
        for name in [
            "x-hop",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-connection",
            "te",
            "upgrade",
        ] {
            assert_eq!(response.head.lines(name), Vec::<&str>::new(), "hit {hit}: {name}");
        }
    }
}

#[tokio::test]
async fn several_lines_of_a_field_stay_several_lines() {
    let scene = Scene::rfc9111().await;
    scene.on(
        "/a",
        "200\nCache-Control: max-age=60\nSet-Cookie: a=1\nX-List: 1\nSet-Cookie: b=2\nX-List: 2\n\nx",
    );
    for hit in [false, true] {
        let response = scene.get("/a").await;
        assert_eq!(response.is_hit(), hit);
        assert_eq!(response.head.lines("set-cookie"), ["a=1", "b=2"], "hit {hit}");
        assert_eq!(response.head.lines("x-list"), ["1", "2"], "hit {hit}");
    }
}

#[tokio::test]
async fn a_response_to_authorization_needs_permission_to_be_shared() {
    let scene = Scene::rfc9111().await;
    let rows = [
        ("Cache-Control: max-age=60", false),
        ("Expires: {now+60}", false),
        ("Cache-Control: max-age=60, public", true),
        ("Cache-Control: max-age=60, must-revalidate", true),
        ("Cache-Control: s-maxage=60", true),
        ("Cache-Control: max-age=60, private", false),
    ];
    for (number, (fields, reused)) in rows.into_iter().enumerate() {
        let target = format!("/{number}");
        let request = format!("GET {target}\nAuthorization: Other one");
        let is_reused = is_reused(&scene, &target, 200, fields, &request).await;
        assert_eq!(is_reused, reused, "{fields}");
        assert_eq!(scene.last_request(&target).field("authorization"), Some("Other one"));
    }
}

#[tokio::test]
async fn post_with_explicit_freshness_and_its_own_content_location_feeds_get() {
    let scene = Scene::rfc9111().await;
    let rows = [
        ("Cache-Control: max-age=60\nContent-Location: {self}", true),
        ("Cache-Control: max-age=60\nContent-Location: .{self}", true),
        ("Cache-Control: max-age=60\nContent-Location: //{origin}{self}", true),
        ("Cache-Control: max-age=60\nContent-Location: http://{origin}/elsewhere/..{self}#part", true),
        ("Cache-Control: max-age=60\nContent-Location: //elsewhere.example{self}", false),
        ("Content-Location: {self}", false),
        // A heuristic lifetime is not explicit freshness.
        ("Content-Location: {self}\nETag: \"a\"\nLast-Modified: {now-100000}", false),
        ("Cache-Control: max-age=60", false),
        ("Cache-Control: max-age=60\nContent-Location: /elsewhere", false),
        ("Cache-Control: max-age=60, no-store\nContent-Location: {self}", false),
    ];
    for (number, (fields, reused)) in rows.into_iter().enumerate() {
        let target = format!("/{number}");
        let fields = fields.replace("{self}", &target).replace("{origin}", &scene.origin.address.to_string());
        scene.on(&target, format!("200\n{fields}\n\nposted"));
        scene.on(&target, "200\nCache-Control: no-store\n\ngot");
        assert_eq!(scene.send(&format!("POST {target}\n\nbody")).await.text(), "posted");
        let response = scene.get(&target).await;
        assert_eq!(response.text(), if reused { "posted" } else { "got" }, "{fields}");
        assert_eq!(scene.asked(&target), if reused { 1 } else { 2 }, "{fields}");
    }
}

#[tokio::test]
async fn a_post_answer_feeds_get_although_other_writes_closed_meanwhile() {
    let scene = Scene::rfc9111().await;
    for (target, other, reused) in [("/a", "/unrelated", true), ("/b", "/b", false)] {
        let gate = Gate::closed();
        let posted = format!("200\nCache-Control: max-age=60\nContent-Location: {target}\n\nposted");
        scene.on(target, Answer::held(&gate, posted));
        let before = scene.origin.requests().len();
        let mut caller = scene.caller().await;
        caller.post(&format!("POST {target}\n\nx")).await;
        scene.origin.received(before + 1).await;
        scene.on(other, "204");
        assert_eq!(scene.send(&format!("PUT {other}\n\nx")).await.status, 204);
        gate.open();
        assert_eq!(caller.read(false).await.text(), "posted");
        scene.on(target, "200\nCache-Control: no-store\n\ngot");
        let after = scene.get(target).await;
        assert_eq!(after.text(), if reused { "posted" } else { "got" }, "{target}");
        assert_eq!(after.is_hit(), reused, "{target}");
    }
}

#[tokio::test]
async fn post_itself_is_never_answered_from_the_store() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nContent-Location: /a\n\none");
    scene.on("/a", "200\nCache-Control: max-age=60\nContent-Location: /a\n\ntwo");
    assert_eq!(scene.send("POST /a\n\nx").await.text(), "one");
    assert_eq!(scene.send("POST /a\n\nx").await.text(), "two");
    assert_eq!(scene.get("/a").await.text(), "two");
    assert_eq!(scene.asked("/a"), 2);
}
