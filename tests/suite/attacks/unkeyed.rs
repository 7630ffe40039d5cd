//! Unkeyed inputs: they affect the answer of the origin and are not part of the cache key.

use super::{EVIL, GOOD, attack, harmless};
use crate::support::scene::Scene;

#[tokio::test]
async fn fields_that_steer_an_origin_never_reach_it() {
    for field in [
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Scheme: nothttps",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-Server: evil.test",
        "X-Host: evil.test",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "X-HTTP-Method-Override: DELETE",
        "X-HTTP-Method: DELETE",
        "X-Method-Override: POST",
        "X-Real-IP: 10.0.0.1",
        "True-Client-IP: 10.0.0.1",
    ] {
        let scene = Scene::guarded().await;
        scene.origin.otherwise(EVIL);
        scene.send(&format!("GET /a\n{field}")).await;
        let name = field.split(':').next().unwrap().to_ascii_lowercase();
        for request in scene.origin.requests() {
            assert!(request.head.lines(&name).is_empty(), "{field} went upstream");
        }
    }
}

#[tokio::test]
async fn a_request_with_forwarding_fields_is_refused() {
    for field in ["X-Forwarded-For: 10.0.0.1", "Forwarded: host=evil.test", "Via: 1.1 evil"] {
        let scene = Scene::guarded().await;
        let (refused, victim) = attack(&scene, &format!("GET /a\n{field}"), "GET /a").await;
        assert_eq!((refused.status, victim.text()), (403, "good"), "{field}");
    }
}

#[tokio::test]
async fn an_answer_to_accept_datetime_does_not_answer_requests_without_it() {
    let then = "Accept-Datetime: Sun, 22 Nov 2015 00:00:00 GMT";
    for field in [then, &format!("X-{then}")] {
        for settings in [&[][..], &["upstream.sharing=rfc9111"], &["upstream.profile=app-configuration"]] {
            let scene = Scene::with(settings).await;
            let target = "/kv/a?api-version=1.0";
            harmless(&scene, &format!("GET {target}\n{field}"), &format!("GET {target}")).await;
            // A stored response neither answers such a request nor is outdated by it.
            scene.origin.otherwise(EVIL);
            let past = scene.send(&format!("GET {target}\n{field}")).await;
            assert_eq!(past.text(), "evil", "{field}");
            assert!(past.field("cache-status").is_some_and(|it| it.contains("accept-datetime")), "{field}");
            assert_eq!(scene.get(target).await.text(), "good", "{field} {settings:?}");
        }
        let scene = Scene::rfc9111().await;
        scene.on("/a", "200\nCache-Control: max-age=600\nContent-Location: /a\n\nevil");
        scene.send(&format!("POST /a\n{field}\n\nx")).await;
        scene.origin.otherwise(GOOD);
        assert_eq!(scene.get("/a").await.text(), "good", "POST with {field}");
    }
}

#[tokio::test]
async fn an_answer_to_a_cookie_is_not_shared() {
    let scene = Scene::guarded().await;
    harmless(&scene, "GET /a\nCookie: session=attacker", "GET /a").await;
    let scene = Scene::guarded().await;
    harmless(&scene, "GET /a\nCookie: session=attacker", "GET /a\nCookie: session=victim").await;
    let scene = Scene::guarded().await;
    scene.on("/a", "200\nCache-Control: max-age=600\nSet-Cookie: session=evil\n\nx");
    scene.get("/a").await;
    assert!(
        scene.get("/a").await.field("set-cookie").is_none(),
        "a session is never given to another caller"
    );
}

#[tokio::test]
async fn a_bearer_token_has_its_own_partition() {
    let scene = Scene::guarded().await;
    for (theirs, mine) in [
        ("\nAuthorization: Bearer attacker", ""),
        ("\nAuthorization: Bearer attacker", "\nAuthorization: Bearer victim"),
        ("", "\nAuthorization: Bearer victim"),
        ("\nAuthorization: Basic YTpi", "\nAuthorization: Bearer YTpi"),
    ] {
        let target = format!("/{}-{}", theirs.len(), mine.len());
        harmless(&scene, &format!("GET {target}{theirs}"), &format!("GET {target}{mine}")).await;
    }
}

#[tokio::test]
async fn a_replayed_signature_does_not_get_a_stored_answer() {
    let scene = Scene::guarded().await;
    let signed = "GET /a\nAuthorization: HMAC-SHA256 Credential=a&SignedHeaders=host&Signature=x";
    scene.on("/a", "200\nCache-Control: max-age=600, public\nETag: \"1\"\n\nsecret");
    scene.send(signed).await;
    scene.on("/a", "401");
    let forged = scene.send(&signed.replace("Signature=x", "Signature=forged")).await;
    assert_eq!(forged.status, 401);
    assert!(!forged.text().contains("secret") && forged.field("etag").is_none(), "{forged:?}");
    scene.on("/a", "304\nETag: \"1\"");
    let again = scene.send(signed).await;
    let status = again.cache_status();
    assert_eq!((again.text(), status.fwd.as_deref()), ("secret", Some("request")));
    assert_eq!(status.detail.as_deref(), Some("unproven-caller"));
}

#[tokio::test]
async fn a_body_on_a_get_is_refused_and_steers_nothing() {
    for body in ["Content-Length: 9\n\nq=attack!", "Transfer-Encoding: chunked\n\n1\r\nx\r\n0\r\n\r\n"] {
        let scene = Scene::guarded().await;
        let (refused, victim) = attack(&scene, &format!("GET /a\n{body}"), "GET /a").await;
        assert_eq!((refused.status, victim.text()), (400, "good"), "{body}");
    }
}

#[tokio::test]
async fn the_hosts_that_callers_use_are_one_key_and_no_input() {
    let scene = Scene::guarded().await;
    scene.on("/a", GOOD);
    scene.get("/a").await;
    let port = scene.sidecar.address.port();
    let other = scene.send(&format!("GET /a\nHost: localhost:{port}")).await;
    assert_eq!(other.text(), "good");
    for request in scene.origin.requests() {
        assert_eq!(request.field("host"), Some(scene.origin.address.to_string().as_str()));
    }
}

#[tokio::test]
async fn the_fields_in_vary_select_the_variant() {
    let scene = Scene::guarded().await;
    scene.on("/a", "200\nCache-Control: max-age=600\nVary: X-Tenant\n\nof tenant one");
    scene.on("/a", "200\nCache-Control: max-age=600\nVary: X-Tenant\n\nof tenant two");
    assert_eq!(scene.send("GET /a\nX-Tenant: one").await.text(), "of tenant one");
    assert_eq!(scene.send("GET /a\nX-Tenant: two").await.text(), "of tenant two");
    assert_eq!(scene.send("GET /a\nX-Tenant: one").await.text(), "of tenant one");
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn a_field_that_is_not_known_selects_an_answer_of_its_own() {
    let scene = Scene::guarded().await;
    scene.on("/a", "200\nCache-Control: max-age=600\n\nreflects evil");
    scene.on("/a", GOOD);
    assert_eq!(scene.send("GET /a\nX-Unknown: evil").await.text(), "reflects evil");
    assert_eq!(scene.get("/a").await.text(), "good");
    assert_eq!(scene.send("GET /a\nX-Unknown: evil\nX-Request-Id: 7").await.text(), "reflects evil");
    assert_eq!(scene.send("GET /a\nTraceparent: 8").await.text(), "good");
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn a_field_that_names_who_asks_is_neither_answered_from_the_store_nor_stored() {
    for field in ["X-API-Key", "Ocp-Apim-Subscription-Key", "X-Auth-Token", "X-MS-Client-Principal"] {
        let scene = Scene::guarded().await;
        scene.on("/a", "200\nCache-Control: max-age=600\n\nof alice");
        scene.on("/a", "200\nCache-Control: max-age=600\n\nof bob");
        scene.on("/a", GOOD);
        assert_eq!(scene.send(&format!("GET /a\n{field}: alice")).await.text(), "of alice", "{field}");
        assert_eq!(scene.send(&format!("GET /a\n{field}: bob")).await.text(), "of bob", "{field}");
        assert_eq!(scene.get("/a").await.text(), "good", "{field}");
    }
}

#[tokio::test]
async fn the_spelling_of_what_is_shared_is_not_the_leaders() {
    let scene = Scene::with(&["upstream.profile=app-configuration"]).await;
    let canonical = "/kv?api-version=1.0&key=abc%2A";
    scene.on(canonical, "200\nETag: \"l1\"\n\n{\"items\":[]}");
    let odd = "GET /kv?key=%61bc*&$Select=&api-version=1.0&label=*\nAccept: application/json;q=0.1";
    assert_eq!(scene.send(odd).await.status, 200);
    assert!(scene.send("GET /kv?api-version=1.0&key=abc*").await.is_hit());
    let sent = scene.origin.requests();
    let [sent] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((sent.target.as_str(), sent.field("accept")), (canonical, Some("*/*")));
}
