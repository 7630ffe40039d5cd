//! Retrievals and writes that the guard admits, before an origin that does what HTTP says.

use serde_json::Value;
use tagalong::internals::stored_response::StoredResponse;
use tagalong::internals::sync_token::coverage::Coverage;

use super::{ExplainedCases, pass};
use crate::support::answer::{Answer, Gate};
use crate::support::scene::Scene;

pub(super) const RFC9111: [&str; 2] = ["upstream.sharing=rfc9111", "upstream.refresh_ahead=false"];
const FRESH: &str = "200\nCache-Control: max-age=60\nETag: \"1\"\n\n0123456789";

pub(super) async fn all(cases: &mut ExplainedCases) {
    cases.play(reuse_and_demands).await;
    cases.play(kept_parts_and_variants).await;
    cases.play(writes).await;
    cases.play(bypasses).await;
    cases.play(callers_that_name_themselves).await;
    cases.play(shared_fetches).await;
    cases.play(pauses).await;
    cases.play(forward_without_answer).await;
}

/// The condition that would go upstream.
fn condition(told: &Value) -> Option<String> {
    let lines = told["forward"]["conditions"].as_array().expect("it goes upstream");
    lines.first().map(|line| format!("{}: {}", line[0].as_str().unwrap(), line[1].as_str().unwrap()))
}

async fn reuse_and_demands(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&RFC9111);
    let sidecar = &scene.sidecar;
    scene.origin.otherwise(FRESH);
    cases.hold(sidecar, "GET /a").await;
    assert!(cases.hold(sidecar, "GET /a").await.is_hit());
    assert_eq!(cases.hold(sidecar, "GET /a\nIf-None-Match: \"1\"").await.status, 304);
    assert_eq!(cases.hold(sidecar, "GET /a\nRange: bytes=0-3").await.status, 206);
    assert_eq!(cases.hold(sidecar, "HEAD /a").await.status, 200);
    pass(5).await;
    for demand in ["no-cache", "no-store", "max-age=1", "min-fresh=59"] {
        let request = format!("GET /a\nCache-Control: {demand}");
        cases.hold(sidecar, &request).await;
        pass(5).await;
    }
    pass(61).await;
    assert!(cases.hold(sidecar, "GET /a\nCache-Control: max-stale=600").await.is_hit());
    let told = cases.told(sidecar, "GET /a").await;
    assert_eq!(condition(&told).as_deref(), Some("if-none-match: \"1\""));
    cases.hold(sidecar, "GET /a").await;
    assert_eq!(scene.last_request("/a").field("if-none-match"), Some("\"1\""));

    scene.on("/no-cache", "200\nCache-Control: no-cache\nETag: \"1\"\n\nx");
    scene.get("/no-cache").await;
    cases.hold(sidecar, "GET /no-cache").await;
    let directives = "max-age=1, stale-while-revalidate=100";
    scene.on("/swr", format!("200\nCache-Control: {directives}\nETag: \"1\"\n\nx"));
    scene.get("/swr").await;
    pass(3).await;
    assert!(cases.hold(sidecar, "GET /swr").await.is_hit());

    let strong = Scene::paused(&["upstream.consistency=strong"]);
    strong.origin.otherwise(FRESH);
    strong.get("/a").await;
    cases.hold(&strong.sidecar, "GET /a").await;
}

/// To be explained is no use: what was used least recently is evicted all the same.
#[tokio::test(start_paused = true)]
async fn an_explanation_keeps_nothing_in_the_store() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111", "store.limit=1MiB", "store.body_limit=512KiB"]);
    let body = "x".repeat(400 * 1024);
    scene.origin.otherwise(format!("200\nCache-Control: max-age=60\n\n{body}"));
    for target in ["/first", "/second"] {
        scene.get(target).await;
    }
    for _ in 0..100 {
        assert_eq!(scene.sidecar.explain("GET /first").await["decision"], "hit");
    }
    scene.get("/third").await;
    assert_eq!(scene.sidecar.explain("GET /first").await["cache_status"], "tagalong; fwd=uri-miss");
    assert!(scene.get("/second").await.is_hit());
}

async fn kept_parts_and_variants(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&RFC9111);
    let sidecar = &scene.sidecar;
    scene.origin.otherwise("200\nCache-Control: max-age=60\nVary: Accept-Language\n\nx");
    scene.send("GET /v\nAccept-Language: de").await;
    cases.hold(sidecar, "GET /v\nAccept-Language: en").await;
    let part = "206\nContent-Range: bytes 0-3/10\nCache-Control: max-age=60\nETag: \"1\"\n\n0123";
    scene.on("/p", part);
    scene.send("GET /p\nRange: bytes=0-3").await;
    scene.on("/p", "206\nContent-Range: bytes 4-9/10\nCache-Control: max-age=60\nETag: \"1\"\n\n456789");
    let told = cases.told(sidecar, "GET /p").await;
    assert!(condition(&told).is_some(), "{told:#}");
    assert_eq!(cases.hold(sidecar, "GET /p").await.text(), "0123456789");

    // As a snapshot restores it.
    scene.on("/s", "200\nCache-Control: max-age=60\nETag: \"1\"\n\nx");
    scene.get("/s").await;
    restored(&scene, "/s");
    scene.on("/s", "304\nETag: \"1\"");
    let told = cases.told(sidecar, "GET /s").await;
    assert_eq!(told["store"]["selected"]["is_restored"], true, "{told:#}");
    cases.hold(sidecar, "GET /s").await;
}

/// Makes what is stored for a target what a snapshot restores.
fn restored(scene: &Scene, target: &str) {
    let store = scene.sidecar.store();
    let mut found = None;
    store.for_each(&mut |key, variants| {
        if key.canonical_target() == target {
            found = Some((key.clone(), (*variants.as_slice()[0]).clone()));
        }
    });
    let (key, stored) = found.expect("it is stored");
    store.remove(&key);
    assert!(store.put(&key, StoredResponse { covers: Coverage::NOTHING, ..stored }));
}

async fn writes(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&RFC9111);
    let sidecar = &scene.sidecar;
    scene.origin.otherwise(FRESH);
    scene.get("/a").await;
    for request in ["PUT /b\n\nx", "POST /b\n\nx", "DELETE /b", "OPTIONS /b"] {
        cases.hold(sidecar, request).await;
    }
    cases.hold(sidecar, "PUT /a\n\nx").await;
    cases.hold(sidecar, "GET /a").await;
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, "200\n\nwritten"));
    let mut writer = scene.caller().await;
    let asked = scene.origin.requests().len();
    writer.post("PUT /a\n\nx").await;
    scene.origin.received(asked + 1).await;
    let told = cases.told(sidecar, "GET /a").await;
    assert_eq!(told["coverage"]["open_writes"], 1, "{told:#}");
    cases.hold(sidecar, "GET /a").await;
    gate.open();
    assert_eq!(writer.read(false).await.status, 200);
}

async fn bypasses(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&RFC9111);
    scene.origin.otherwise("200\nCache-Control: no-store\n\nx");
    for request in [
        "GET /a\nIf-Match: \"zz\"",
        "GET /a\nRange: bytes=0-1,3-4",
        "GET /a\nRange: items=0-1",
        "GET /a\nAccept-Datetime: Sun, 22 Nov 2026 00:00:00 GMT",
        "GET /a\n\nbody",
    ] {
        cases.hold(&scene.sidecar, request).await;
    }
    let settings = ["upstream.profile=app-configuration", "upstream.credential.kind=none"];
    let scene = Scene::paused(&settings);
    scene.origin.otherwise("200\n\n{}");
    for target in ["/kvx", "/locks/a", "/kv?key=%zz", "/kv?key=a*b"] {
        let separator = if target.contains('?') { '&' } else { '?' };
        cases.hold(&scene.sidecar, &format!("GET {target}{separator}api-version=2023-11-01")).await;
    }
}

async fn callers_that_name_themselves(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&[]);
    let sidecar = &scene.sidecar;
    scene.origin.otherwise(FRESH);
    cases.hold(sidecar, "GET /a\nCookie: who=me").await;
    let signed = "GET /b\nAuthorization: HMAC-SHA256 Credential=a&SignedHeaders=host&Signature=hunter2";
    scene.on("/b", "200\nCache-Control: max-age=600, public\nETag: \"1\"\n\nx");
    scene.send(signed).await;
    scene.on("/b", "304\nETag: \"1\"");
    let told = cases.told(sidecar, signed).await;
    assert!(!told.to_string().contains("hunter2"), "a credential is not repeated: {told:#}");
    cases.hold(sidecar, signed).await;
    let bearer = "GET /c\nAuthorization: Bearer hunter2";
    cases.hold(sidecar, bearer).await;
    let told = cases.told(sidecar, bearer).await;
    assert_eq!(told["decision"], "hit");
    assert!(!told.to_string().contains("hunter2"), "{told:#}");
}

async fn shared_fetches(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&RFC9111);
    let sidecar = &scene.sidecar;
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, FRESH));
    let (mut first, mut second) = (scene.caller().await, scene.caller().await);
    assert_eq!(cases.told(sidecar, "GET /a").await["forward"]["joins"], "leads a fetch");
    first.post("GET /a").await;
    scene.origin.received(1).await;
    let told = cases.told(sidecar, "GET /a").await;
    assert_eq!(told["forward"]["joins"], "follows the fetch under way");
    second.post("GET /a").await;
    scene.settled().await;
    gate.open();
    assert_eq!(first.read(false).await.status, 200);
    cases.compare("GET /a", &told, &second.read(false).await);
    assert_eq!(scene.asked("/a"), 1);

    scene.origin.otherwise("200\nCache-Control: no-store\n\nx");
    cases.hold(sidecar, "GET /unstored").await;
    let told = cases.told(sidecar, "GET /unstored\nIf-None-Match: \"mine\"").await;
    assert_eq!(told["forward"]["hit_for_miss"], "no-store", "{told:#}");
    assert_eq!(condition(&told).as_deref(), Some("if-none-match: \"mine\""));
    cases.hold(sidecar, "GET /unstored\nIf-None-Match: \"mine\"").await;
    assert_eq!(scene.last_request("/unstored").field("if-none-match"), Some("\"mine\""));
}

async fn pauses(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&RFC9111);
    let sidecar = &scene.sidecar;
    scene.origin.otherwise("200\nCache-Control: max-age=10\nETag: \"1\"\n\nx");
    scene.get("/stale").await;
    scene.on("/restored", "200\nCache-Control: max-age=10\nETag: \"1\"\n\nx");
    scene.get("/restored").await;
    scene.on("/strict", "200\nCache-Control: max-age=10, must-revalidate\nETag: \"1\"\n\nx");
    scene.get("/strict").await;
    restored(&scene, "/restored");
    pass(11).await;
    scene.on("/throttle", "429\nRetry-After: 30\n\nslow down");
    cases.hold(sidecar, "GET /throttle").await;
    assert_eq!(cases.hold(sidecar, "GET /stale").await.status, 200);
    assert_eq!(cases.hold(sidecar, "GET /restored").await.status, 200);
    let told = cases.told(sidecar, "GET /strict").await;
    assert!(told["because"].as_str().unwrap().contains("must-revalidate"), "{told:#}");
    assert_eq!(cases.hold(sidecar, "GET /strict").await.status, 429);
    let told = cases.told(sidecar, "GET /nothing").await;
    assert!(told["upstream"]["paused_seconds"]["reads"].as_u64().is_some_and(|left| left > 20), "{told:#}");
    assert_eq!(cases.hold(sidecar, "GET /nothing").await.status, 429);
    assert_eq!(cases.hold(sidecar, "PUT /stale\n\nx").await.status, 200, "writes go on");
}

/// What is cases for an origin that is away is what happens.
async fn forward_without_answer(cases: &mut ExplainedCases) {
    let mut scene = Scene::paused(&RFC9111);
    scene.origin.otherwise("200\nCache-Control: max-age=10\nETag: \"1\"\n\nx");
    for target in ["/stale", "/written"] {
        scene.get(target).await;
    }
    scene.send("PUT /written\n\nx").await;
    pass(11).await;
    scene.origin.vanish().await;
    for request in [
        "GET /stale",
        "GET /nothing",
        "GET /written",
        "GET /stale\nCache-Control: no-cache",
        "PUT /stale\n\nx",
        "GET /stale\nIf-Match: \"zz\"",
    ] {
        let told = cases.told(&scene.sidecar, request).await;
        assert_eq!(told["decision"], "forward");
        let answer = scene.send(request).await;
        cases.compare_without_answer(request, &told, &answer);
    }
}
