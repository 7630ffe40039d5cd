//! Cache poisoning: one request provokes an error or an odd answer that other callers must not get.

use super::{EVIL, GOOD, attack, harmless};
use crate::support::answer::Answer;
use crate::support::scene::Scene;

#[tokio::test]
async fn an_error_that_a_request_provokes_is_for_that_request() {
    for (provocation, status) in [
        ("X-Oversized: aaaaaaaaaaaaaaaa", 400),
        ("X-Oversized: b", 431),
        ("Range: bytes=0-0,2-2,4-4", 416),
        ("Accept: evil/evil", 406),
        ("X-Metachar: %00", 500),
        ("Expect: 100-continue", 503),
        ("Accept-Encoding: evil", 415),
    ] {
        let scene = Scene::guarded().await;
        scene.origin.otherwise(format!("{status}\n\nbroken").as_str());
        scene.send(&format!("GET /a\n{provocation}")).await;
        scene.origin.otherwise(GOOD);
        assert_eq!(scene.get("/a").await.text(), "good", "{provocation}");
    }
}

#[tokio::test]
async fn a_refused_request_leaves_nothing_in_the_store() {
    let long = format!("GET /a\nX-Long: {}", "x".repeat(70_000));
    for refused in [
        "GET /a\nHost: evil.test",
        "GET /a\nOrigin: http://evil.test",
        "GET /a\nExpect: evil",
        "TRACE /a",
        &long,
    ] {
        let scene = Scene::guarded().await;
        let mut caller = scene.caller().await;
        caller.post(refused).await;
        let answer = caller.try_read(false).await;
        assert!(answer.is_none_or(|answer| answer.status >= 400), "{}", &refused[..20.min(refused.len())]);
        scene.origin.otherwise(GOOD);
        let victim = scene.get("/a").await;
        assert_eq!((victim.status, victim.text()), (200, "good"));
    }
}

#[tokio::test]
async fn a_partial_answer_never_answers_a_full_request() {
    let scene = Scene::guarded().await;
    scene
        .origin
        .otherwise("206\nCache-Control: max-age=600\nETag: \"1\"\nContent-Range: bytes 0-3/8\n\nevil");
    scene.send("GET /a\nRange: bytes=0-3").await;
    scene.origin.otherwise("200\nCache-Control: max-age=600\nETag: \"2\"\n\ngood");
    assert_eq!(scene.get("/a").await.text(), "good");
}

#[tokio::test]
async fn an_incomplete_body_is_not_stored() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=600\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=600\r\n\r\n4\r\nevil\r\n",
    ] {
        let scene = Scene::guarded().await;
        scene.on("/a", Answer::raw(answer).then_close());
        let mut caller = scene.caller().await;
        caller.post("GET /a").await;
        let _whatever = caller.try_read(false).await;
        scene.origin.otherwise(GOOD);
        assert_eq!(scene.get("/a").await.text(), "good", "{answer}");
    }
}

#[tokio::test]
async fn a_304_that_names_another_tag_freshens_nothing() {
    let scene = Scene::guarded().await;
    scene.store_aged("/a", "200\nCache-Control: max-age=1\nETag: \"mine\"\n\nold", 60).await;
    scene.on("/a", "304\nETag: \"attackers\"\nCache-Control: max-age=600");
    scene.origin.otherwise(GOOD);
    scene.send("GET /a\nIf-None-Match: \"attackers\"").await;
    assert_eq!(scene.get("/a").await.text(), "good");
}

#[tokio::test]
async fn a_write_through_a_location_elsewhere_outdates_nothing_of_another_origin() {
    let scene = Scene::guarded().await;
    scene.on("/a", GOOD);
    scene.get("/a").await;
    scene.on("/evil", "200\nLocation: http://evil.test/a\nContent-Location: //evil.test/a\n\nx");
    scene.send("POST /evil\n\nx").await;
    assert!(scene.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_presented_sync_token_does_not_affect_other_callers() {
    let scene = Scene::with(&["upstream.profile=app-configuration", "upstream.credential.kind=none"]).await;
    scene.origin.otherwise("200\nETag: \"1\"\nSync-Token: zAJw6V16=MToy;sn=2\n\nx");
    scene.get("/kv/a").await;
    scene.send("GET /kv/a\nSync-Token: zAJw6V16=ZXZpbA==;sn=99999999, evil=ZXZpbA==;sn=1").await;
    let victim = scene.get("/kv/b").await;
    let sent = scene.last_request("/kv/b");
    assert!(!sent.field("sync-token").unwrap_or_default().contains("ZXZpbA"), "{sent:?}");
    assert!(!victim.field("sync-token").unwrap_or_default().contains("ZXZpbA"), "{victim:?}");
}

#[tokio::test]
async fn an_incomplete_upload_is_not_sent_as_an_empty_write() {
    let scene = Scene::guarded().await;
    scene.origin.otherwise(EVIL);
    for broken in ["4\r\nab", "zz\r\nabcd\r\n0\r\n\r\n", "4\r\nabcdX\r\n0\r\n\r\n"] {
        let mut caller = scene.caller().await;
        caller.post(&format!("PUT /a\nTransfer-Encoding: chunked\n\n{broken}")).await;
        drop(caller);
    }
    scene.settled().await;
    assert_eq!(scene.asked("/a"), 0);
}

#[tokio::test]
async fn callers_do_not_control_the_lifetime() {
    let scene = Scene::guarded().await;
    harmless(&scene, "GET /a\nCache-Control: no-store", "GET /a").await;
    let scene = Scene::guarded().await;
    scene.origin.otherwise("200\nCache-Control: max-age=0\n\nevil");
    scene.send("GET /a\nCache-Control: max-age=31536000, s-maxage=31536000, public\nExpires: Fri, 01 Jan 2100 00:00:00 GMT").await;
    scene.origin.otherwise(GOOD);
    assert_eq!(scene.get("/a").await.text(), "good");
    let scene = Scene::guarded().await;
    let (_, victim) =
        attack(&scene, "GET /b\nPragma: no-cache\nAge: 0\nDate: Fri, 01 Jan 2100 00:00:00 GMT", "GET /c")
            .await;
    assert_eq!(victim.text(), "good");
}
