//! `DELETE /admin/sync-tokens` while answers are under way: an answer to a request from before the reset
//! reaches its caller, and nothing of it is remembered.

use crate::support::answer::{Answer, Gate};
use crate::support::scene::Scene;

const BEFORE: &str = "Sync-Token: id=before;sn=9";
const AFTER: &str = "200\nCache-Control: max-age=60\nSync-Token: id=after;sn=2\n\nafter";

#[tokio::test]
async fn an_answer_that_was_under_way_brings_neither_its_token_nor_its_coverage_back() {
    for (request, answer) in [
        ("GET /a", "200\nCache-Control: max-age=60"),
        ("GET /a", "200\nCache-Control: no-store"),
        ("GET /a", "503"),
        ("GET /a\nIf-Match: \"a\"", "200\nETag: \"a\""),
        ("OPTIONS /a", "200"),
        ("PUT /a\n\nx", "201"),
    ] {
        let scene = Scene::rfc9111().await;
        let gate = Gate::closed();
        scene.on("/a", Answer::held(&gate, format!("{answer}\n{BEFORE}\n\nbefore")));
        scene.origin.otherwise(AFTER);
        let mut waiting = scene.caller().await;
        waiting.post(request).await;
        scene.origin.received(1).await;
        scene.sidecar.reset_sync_tokens();
        gate.open();
        let response = waiting.read(false).await;
        assert_eq!((response.text(), response.field("sync-token")), ("before", None), "{request} {answer}");
        let next = scene.get("/a").await;
        assert_eq!((next.text(), next.field("sync-token")), ("after", Some("id=after;sn=2")), "{request}");
        assert_eq!(scene.last_request("/a").field("sync-token"), None, "{request} {answer}");
        // What was sent counts: the next one is the first that covers the new token.
        scene.get("/a").await;
        assert!(scene.get("/a").await.is_hit(), "{request} {answer}");
    }
}

#[tokio::test]
async fn a_validation_behind_a_stale_answer_brings_nothing_back() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.on("/a", "200\nCache-Control: max-age=10, stale-while-revalidate=20\nETag: \"a\"\n\nold");
    scene.on("/a", Answer::held(&gate, format!("304\nETag: \"a\"\nCache-Control: max-age=60\n{BEFORE}")));
    scene.on("/a", AFTER);
    scene.get("/a").await;
    scene.pass_seconds(15);
    scene.get("/a").await;
    scene.origin.received(2).await;
    scene.sidecar.reset_sync_tokens();
    let mut waiting = scene.caller().await;
    waiting.post("GET /a").await;
    scene.settled().await;
    gate.open();
    let next = waiting.read(false).await;
    assert_eq!((next.text(), next.field("sync-token")), ("after", Some("id=after;sn=2")));
    assert_eq!(scene.last_request("/a").field("sync-token"), None);
}

#[tokio::test]
async fn what_a_callers_token_demands_is_found_out_again() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, format!("200\n{BEFORE}\n\nbefore")));
    scene.origin.otherwise(AFTER);
    let mut waiting = scene.caller().await;
    waiting.post("GET /a\nSync-Token: id=theirs").await;
    scene.origin.received(1).await;
    scene.sidecar.reset_sync_tokens();
    gate.open();
    let response = waiting.read(false).await;
    assert_eq!((response.text(), response.field("sync-token")), ("after", Some("id=after;sn=2")));
    let requests = scene.origin.requests_for("/a");
    let sent: Vec<_> = requests.iter().map(|request| request.field("sync-token")).collect();
    assert_eq!(sent, [Some("id=theirs"), Some("id=theirs"), Some("id=after")]);
}
