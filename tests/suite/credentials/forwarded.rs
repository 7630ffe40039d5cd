//! Callers' credentials go upstream. Each identity has a private cache, and an unstorable answer costs no more than
//! without the sidecar.

use crate::support::answer::{Answer, Gate};
use crate::support::scene::Scene;

const ALICE: &str = "\nAuthorization: Bearer alice";
const BOB: &str = "\nAuthorization: Bearer bob";

#[tokio::test]
async fn an_answer_is_stored_for_the_identity_that_got_it() {
    for directives in ["max-age=60", "private, max-age=60"] {
        let scene = Scene::guarded().await;
        scene.on("/a", format!("200\nCache-Control: {directives}\n\nfor alice"));
        scene.on("/a", format!("200\nCache-Control: {directives}\n\nfor bob"));
        scene.on("/a", "401\nCache-Control: no-store");
        let get = |who: &str| format!("GET /a{who}");
        assert_eq!(scene.send(&get(ALICE)).await.text(), "for alice");
        let again = scene.send(&get(ALICE)).await;
        assert!(again.is_hit(), "{directives}: {:?}", again.head);
        assert_eq!(scene.send(&get(BOB)).await.text(), "for bob", "{directives}");
        assert_eq!(scene.send(&get(ALICE)).await.text(), "for alice", "{directives}");
        assert_eq!(
            scene.get("/a").await.status,
            401,
            "{directives}: a request without the token gets the origin's 401"
        );
        assert_eq!(scene.asked("/a"), 3, "{directives}");
    }
}

#[tokio::test]
async fn a_private_answer_without_an_identity_is_not_stored() {
    let scene = Scene::guarded().await;
    for who in ["", "\nAuthorization: Digest x", "\nAuthorization: HMAC-SHA256 Credential=a&Signature=b"] {
        let target = format!("/{}", who.len());
        scene.on(&target, "200\nCache-Control: private, max-age=60\n\n1");
        scene.on(&target, "200\nCache-Control: private, max-age=60\n\n2");
        assert_eq!(scene.send(&format!("GET {target}{who}")).await.text(), "1", "{who}");
        assert_eq!(scene.send(&format!("GET {target}{who}")).await.text(), "2", "{who}");
    }
}

#[tokio::test]
async fn a_target_goes_upstream_as_spelled_only_where_a_signature_may_bind_it() {
    for (who, sent) in [
        ("", "/~a"),
        (ALICE, "/~a"),
        ("\nAuthorization: HMAC-SHA256 Credential=a&Signature=b", "/%7ea"),
        ("\nAuthorization: DPoP x", "/%7ea"),
    ] {
        let scene = Scene::guarded().await;
        scene.origin.otherwise("200\nCache-Control: max-age=60\n\nx");
        assert_eq!(scene.send(&format!("GET /%7ea{who}")).await.status, 200, "{who}");
        let canonical = scene.send(&format!("GET /~a{who}")).await;
        assert_eq!(canonical.is_hit(), sent == "/~a", "{who}: shared only if no caller's bytes were sent");
        let targets: Vec<_> = scene.origin.requests().into_iter().map(|request| request.target).collect();
        assert_eq!(targets[0], sent, "{who}");
    }
}

#[tokio::test]
async fn under_rfc9111_a_shareable_answer_is_shared_with_requests_without_a_secret() {
    let others = ["\nAuthorization: Other two", "\nAuthorization: Digest username=three", ""];
    for directives in ["max-age=60, public", "s-maxage=60", "max-age=60, must-revalidate"] {
        let scene = Scene::rfc9111().await;
        scene.on("/a", format!("200\nCache-Control: {directives}\n\nshared"));
        assert_eq!(scene.send("GET /a\nAuthorization: Other one").await.text(), "shared");
        for who in others {
            let hit = scene.send(&format!("GET /a{who}")).await;
            assert!(hit.is_hit() && hit.text() == "shared", "{directives}{who}: {:?}", hit.head);
        }
        assert_eq!(scene.asked("/a"), 1, "{directives}");
        // An answer to a secret stays in the private cache of that secret.
        scene.on("/a", format!("200\nCache-Control: {directives}\n\nfor alice"));
        assert_eq!(scene.send(&format!("GET /a{ALICE}")).await.text(), "for alice", "{directives}");
    }
    for directives in ["max-age=60", "max-age=60, private", "no-store, public"] {
        let scene = Scene::rfc9111().await;
        for text in ["one", "two", "three", "all"] {
            scene.on("/a", format!("200\nCache-Control: {directives}\n\n{text}"));
        }
        assert_eq!(scene.send("GET /a\nAuthorization: Other one").await.text(), "one");
        for (who, text) in others.into_iter().zip(["two", "three", "all"]) {
            assert_eq!(scene.send(&format!("GET /a{who}")).await.text(), text, "{directives}{who}");
        }
    }
}

#[tokio::test]
async fn an_answer_to_one_credential_does_not_affect_other_callers() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"1\"\n\nfor one");
    assert_eq!(scene.send("GET /a\nAuthorization: Other one").await.text(), "for one");
    // From now on the condition of this caller is sent upstream, and no other caller's condition.
    scene.on("/a", "304\nCache-Control: max-age=60\nETag: \"1\"");
    let poll = scene.send("GET /a\nAuthorization: Other one\nIf-None-Match: \"1\"").await;
    assert_eq!(poll.status, 304);
    assert_eq!(scene.last_request("/a").field("if-none-match"), Some("\"1\""));
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"2\"\n\nfor all");
    assert_eq!(scene.send("GET /a\nIf-None-Match: \"2\"").await.status, 304);
    assert_eq!(scene.last_request("/a").field("if-none-match"), None);
    assert!(scene.get("/a").await.is_hit());
    // A change in an answer to one caller that is not stored outdates the stored response for every caller.
    scene.on("/a", "200\nCache-Control: no-store\nETag: \"3\"\n\nchanged");
    assert_eq!(scene.send("GET /a\nAuthorization: Other one\n\nbody").await.text(), "changed");
    scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"3\"\n\nchanged");
    assert_eq!(scene.get("/a").await.text(), "changed");
}

#[tokio::test]
async fn a_pause_of_one_credential_does_not_pause_another_with_the_same_key() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "429\nRetry-After: 30");
    assert_eq!(scene.send("GET /a\nAuthorization: Other one").await.status, 429);
    assert_ne!(scene.send("GET /a\nAuthorization: Other one").await.status, 200);
    assert_eq!(scene.asked("/a"), 1, "the second request of this credential is not sent");
    for who in ["\nAuthorization: Other two", ""] {
        scene.on("/a", "200\nCache-Control: no-store\n\nserved");
        assert_eq!(scene.send(&format!("GET /a{who}")).await.text(), "served", "{who}");
    }
}

#[tokio::test]
async fn polls_of_an_unstorable_target_carry_the_condition_of_the_caller() {
    for (who, directives, tagged) in
        [(ALICE, "no-store", true), ("", "private", true), ("", "no-store", false)]
    {
        let scene = Scene::guarded().await;
        let (validator, condition) = if tagged {
            ("ETag: \"1\"", "If-None-Match: \"1\"")
        } else {
            ("Last-Modified: {now-100}", "If-Modified-Since: Sun, 22 Nov 2026 00:00:00 GMT")
        };
        scene.on("/a", format!("200\nCache-Control: {directives}\n{validator}\n\nwhole"));
        assert_eq!(scene.send(&format!("GET /a{who}")).await.text(), "whole");
        for _ in 0..19 {
            scene.on("/a", format!("304\nCache-Control: {directives}\n{validator}"));
            let poll = scene.send(&format!("GET /a{who}\n{condition}")).await;
            assert_eq!(poll.status, 304, "{directives}");
        }
        let asked = scene.origin.requests_for("/a");
        let (name, value) = condition.split_once(": ").expect("a field");
        let conditional = asked.iter().filter(|request| request.field(name) == Some(value));
        assert_eq!((asked.len(), conditional.count()), (20, 19), "{directives}");
        // A caller without a condition gets no 304, and every caller sees a change.
        scene.on("/a", "200\nCache-Control: max-age=60\nETag: \"2\"\n\nchanged");
        assert_eq!(scene.send(&format!("GET /a{who}")).await.text(), "changed");
        assert_eq!(scene.last_request("/a").field(name), None);
        assert!(scene.send(&format!("GET /a{who}")).await.is_hit(), "the answer is storable now");
    }
}

#[tokio::test]
async fn requests_of_one_identity_collapse_and_those_of_two_do_not() {
    let scene = Scene::guarded().await;
    let gate = Gate::closed();
    for _ in 0..3 {
        scene.on("/a", Answer::held(&gate, "200\nCache-Control: private, max-age=60\n\nx"));
    }
    let (mut first, mut second, mut other) =
        (scene.caller().await, scene.caller().await, scene.caller().await);
    first.post(&format!("GET /a{ALICE}")).await;
    scene.origin.received(1).await;
    second.post(&format!("GET /a{ALICE}")).await;
    scene.settled().await;
    other.post(&format!("GET /a{BOB}")).await;
    scene.origin.received(2).await;
    gate.open();
    let collapsed = second.read(false).await.cache_status().collapsed;
    assert_eq!((first.read(false).await.status, other.read(false).await.status), (200, 200));
    assert_eq!((collapsed, scene.asked("/a")), (Some(true), 2));
}
