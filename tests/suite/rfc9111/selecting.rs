//! Variants (RFC 9111 §4.1) and the query string: both select a stored response.

use crate::support::scene::Scene;

#[tokio::test]
async fn variants_of_a_target_are_stored_side_by_side() {
    let scene = Scene::rfc9111().await;
    for language in ["de", "en", "fr"] {
        scene.on("/a", format!("200\nCache-Control: max-age=60\nVary: X-Lang\n\n{language}"));
        assert_eq!(scene.send(&format!("GET /a\nX-Lang: {language}")).await.text(), language);
    }
    for language in ["fr", "de", "en"] {
        let response = scene.send(&format!("GET /a\nX-Lang: {language}")).await;
        assert!(response.is_hit(), "{language}: {:?}", response.head);
        assert_eq!(response.text(), language);
    }
    assert_eq!(scene.asked("/a"), 3);
}

#[tokio::test]
async fn spellings_of_one_preference_are_one_variant() {
    let scene = Scene::rfc9111().await;
    let rows = [
        ("en, de", "de, en", true),
        ("en-GB", "EN-gb", true),
        ("en;q=1, de;q=0.80", "en,de ; q=0.8", true),
        ("en;q=1.0", "en", true),
        ("en;q=1.000, *;q=0.50", "*;q=0.5, en", true),
        ("en;q=0.8", "en;q=0.81", false),
        ("en;q=0.8, de;q=0.5", "en;q=0.5, de;q=0.8", false),
        ("en;q=0", "en", false),
        ("en, de;q=0", "en", false),
    ];
    for (number, (first, second, shared)) in rows.into_iter().enumerate() {
        let target = format!("/{number}");
        for body in ["one", "two"] {
            scene.on(&target, format!("200\nCache-Control: max-age=60\nVary: Accept-Language\n\n{body}"));
        }
        assert_eq!(scene.send(&format!("GET {target}\nAccept-Language: {first}")).await.text(), "one");
        let other = scene.send(&format!("GET {target}\nAccept-Language: {second}")).await;
        assert_eq!(other.is_hit(), shared, "{first} and {second}");
        // The origin gets the field as the caller sent it.
        let asked = scene.last_request(&target);
        assert_eq!(asked.field("accept-language"), Some(if shared { first } else { second }));
    }
}

#[tokio::test]
async fn absent_empty_and_present_fields_select_different_variants() {
    let rows = [
        ("", "X-Sel: 1", false),
        ("X-Sel: 1", "", false),
        ("", "", true),
        ("X-Sel:", "X-Sel:", true),
        ("X-Sel:", "", false),
        ("", "X-Sel:", false),
        ("X-Sel: 1", "X-Sel: 1", true),
        ("X-Sel: 1", "X-Sel: 2", false),
        ("X-Sel: 1, 2", "X-Sel:  1,2 ", true),
        ("X-Sel: 1, 2", "X-Sel: 1\nX-Sel: 2", true),
        ("X-Sel: 1, 2", "X-Sel: 2, 1", false),
        ("X-Sel: a", "X-Sel: A", false),
    ];
    let scene = Scene::rfc9111().await;
    for (number, (first, second, shared)) in rows.into_iter().enumerate() {
        let target = format!("/{number}");
        for body in ["one", "two"] {
            scene.on(&target, format!("200\nCache-Control: max-age=60\nVary: X-Sel\n\n{body}"));
        }
        let request = |fields: &str| {
            if fields.is_empty() { format!("GET {target}") } else { format!("GET {target}\n{fields}") }
        };
        scene.send(&request(first)).await;
        let response = scene.send(&request(second)).await;
        assert_eq!(response.is_hit(), shared, "{first:?} then {second:?}");
        assert_eq!(response.text(), if shared { "one" } else { "two" }, "{first:?} then {second:?}");
    }
}

#[tokio::test]
async fn all_members_and_lines_of_vary_count() {
    let scene = Scene::rfc9111().await;
    for (number, vary) in
        ["Vary: X-A, X-B", "Vary: x-a\nVary: X-B", "Vary: , X-A ,,X-B,"].into_iter().enumerate()
    {
        let target = format!("/{number}");
        for body in ["one", "two", "three"] {
            scene.on(&target, format!("200\nCache-Control: max-age=60\n{vary}\n\n{body}"));
        }
        assert_eq!(scene.send(&format!("GET {target}\nX-A: 1\nX-B: 1")).await.text(), "one");
        assert_eq!(scene.send(&format!("GET {target}\nX-A: 1\nX-B: 2")).await.text(), "two");
        assert_eq!(scene.send(&format!("GET {target}\nX-A: 2\nX-B: 1")).await.text(), "three");
        assert_eq!(scene.send(&format!("GET {target}\nX-A: 1\nX-B: 1")).await.text(), "one");
        assert_eq!(scene.asked(&target), 3, "{vary}");
    }
}

#[tokio::test]
async fn a_response_with_vary_star_is_never_reused() {
    let scene = Scene::rfc9111().await;
    for (number, vary) in
        ["Vary: *", "Vary: X-A, *", "Vary: X-A\nVary: *", "Vary: *, *"].into_iter().enumerate()
    {
        let target = format!("/{number}");
        for body in ["one", "two"] {
            scene.on(&target, format!("200\nCache-Control: max-age=60\n{vary}\n\n{body}"));
        }
        scene.get(&target).await;
        assert_eq!(scene.get(&target).await.text(), "two", "{vary}");
    }
}

#[tokio::test]
async fn a_miss_of_every_variant_says_so() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nVary: X-A\n\none");
    scene.on("/a", "200\nCache-Control: max-age=60\nVary: X-A\n\ntwo");
    assert_eq!(scene.send("GET /a\nX-A: 1").await.cache_status().fwd.as_deref(), Some("uri-miss"));
    assert_eq!(scene.send("GET /a\nX-A: 2").await.cache_status().fwd.as_deref(), Some("vary-miss"));
}

#[tokio::test]
async fn a_variant_is_validated_with_the_tags_of_the_stored_ones() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nVary: X-A\nETag: \"one\"\n\none");
    scene.on("/a", "200\nCache-Control: max-age=60\nVary: X-A\nETag: \"two\"\n\ntwo");
    scene.send("GET /a\nX-A: 1").await;
    // Without a 304 the new variant is passed on and stored beside the old one.
    assert_eq!(scene.send("GET /a\nX-A: 2").await.text(), "two");
    assert_eq!(scene.send("GET /a\nX-A: 1").await.text(), "one");
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn query_strings_are_part_of_the_key() {
    let scene = Scene::rfc9111().await;
    let targets = ["/q", "/q?", "/q?a", "/q?a=1", "/q?a=2", "/q?a=1&b=2", "/q?b=2&a=1", "/q?A=1", "/q?a=%31"];
    for target in targets {
        scene.on(target, format!("200\nCache-Control: max-age=60\n\n{target}"));
        assert_eq!(scene.get(target).await.text(), target);
    }
    for target in targets {
        let response = scene.get(target).await;
        assert!(response.is_hit(), "{target}");
        assert_eq!(response.text(), target);
        assert_eq!(scene.asked(target), 1, "{target}");
    }
}

#[tokio::test]
async fn the_target_goes_upstream_byte_for_byte() {
    let scene = Scene::rfc9111().await;
    for target in [
        "/%7Ea/%2f%2F?x=%20+&&y",
        "/a//b/./c/../d",
        "/%zz?%",
        "/a;b=c,d!$'()*@:",
        "/kv/caf%C3%A9?x[]=1|2^`{}",
    ] {
        scene.on(target, "200\nCache-Control: no-store\n\nfound");
        let response = scene.get(target).await;
        assert_eq!(response.text(), "found", "{target}");
        let line = format!("GET {target} HTTP/1.1\r\n");
        assert!(scene.last_request(target).bytes.starts_with(line.as_bytes()), "{target}");
    }
}
