//! Requests that the sidecar refuses: each refusal, by the guard, by the permissions, by the strategy of writes, or by a limit.

use super::ExplainedCases;
use crate::support::answer::{Answer, Gate};
use crate::support::scene::Scene;

pub(super) async fn all(cases: &mut ExplainedCases) {
    cases.play(by_the_guard).await;
    cases.play(by_the_configuration).await;
    cases.play(at_a_limit).await;
}

async fn by_the_guard(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&["limits.target=64B", "limits.header_fields=8"]);
    scene.origin.otherwise("200\nCache-Control: max-age=60\n\nx");
    scene.get("/a").await;
    let own_name = scene.last_request("/a").field("via").expect("our member").to_owned();
    for request in [
        "TRACE /a".to_owned(),
        "GET *".to_owned(),
        format!("GET /{}", "x".repeat(70)),
        "GET /a\nHost: a b".to_owned(),
        "GET /a\nHost: attacker.test".to_owned(),
        "POST /a\nTransfer-Encoding: gzip, chunked\n\n0\r\n\r\n".to_owned(),
        "GET /a\nExpect: wonders".to_owned(),
        "GET /a\n\nbody".to_owned(),
        "GET /a\nOrigin: http://attacker.test".to_owned(),
        "GET /a\nX-Forwarded-For: 10.0.0.1".to_owned(),
        format!("GET /a\nVia: {own_name}"),
        "GET /nothing\nCache-Control: only-if-cached".to_owned(),
    ] {
        let answer = cases.hold(&scene.sidecar, &request).await;
        assert!(answer.status >= 400, "{request}: {answer:?}");
    }
    // The connection refuses these before they are a request: the status is the same, and there is no Cache-Status.
    let fields: String = (0..20).map(|number| format!("\nX-{number}: 1")).collect();
    for request in [format!("GET /a{fields}"), "GET /a\nContent-Length: 1\nContent-Length: 2".to_owned()] {
        let told = cases.told(&scene.sidecar, &request).await;
        let answer = scene.send(&request).await;
        assert_eq!((told["decision"].as_str(), &told["status"]), (Some("refused"), &answer.status.into()));
        cases.note(&super::parsed(&told["cache_status"]));
    }
}

async fn by_the_configuration(cases: &mut ExplainedCases) {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "let-me-in\n").unwrap();
    let bearer = format!("listener.bearer_file={}", token.display());
    for (settings, request, status) in [
        ("upstream.read_only=true", "PUT /a\n\nx", 403),
        ("upstream.allowed_paths=/b", "GET /a", 403),
        ("upstream.allowed_methods=GET", "PUT /a\n\nx", 405),
        ("upstream.write_strategy=require-if-match", "PUT /a\n\nx", 400),
        ("upstream.write_strategy=optimistic", "PUT /a\n\nx", 428),
        (&*bearer, "GET /a", 401),
        (&*bearer, "GET /a\nAuthorization: Bearer wrong", 401),
        (&*bearer, "GET /a\nAuthorization: Bearer let-me-in", 200),
    ] {
        let scene = Scene::paused(&[settings]);
        scene.origin.otherwise("200\nCache-Control: max-age=60\n\nx");
        let answer = cases.hold(&scene.sidecar, request).await;
        assert_eq!(answer.status, status, "{settings}: {request}");
    }
    // What an admitted caller would be told is told all the same.
    let scene = Scene::paused(&[&*bearer]);
    scene.origin.otherwise("200\nCache-Control: max-age=60\n\nx");
    scene.send("GET /a\nAuthorization: Bearer let-me-in").await;
    let told = cases.told(&scene.sidecar, "GET /a").await;
    assert_eq!((told["decision"].as_str(), &told["store"]["variants"]), (Some("refused"), &1.into()));
    assert!(!told.to_string().contains("let-me-in"));
    // The tag that a caller was given last goes along: by a field that names it, that is known.
    let settings = ["upstream.write_strategy=optimistic", "upstream.caller_field=x-caller"];
    let scene = Scene::paused(&settings);
    scene.origin.otherwise("200\nCache-Control: max-age=60\nETag: \"7\"\n\nx");
    scene.send("GET /a\nX-Caller: me").await;
    let told = cases.told(&scene.sidecar, "PUT /a\nX-Caller: me\n\nx").await;
    assert_eq!(told["forward"]["conditions"][0][1], "\"7\"", "{told:#}");
    cases.hold(&scene.sidecar, "PUT /a\nX-Caller: me\n\nx").await;
    assert_eq!(scene.last_request("/a").field("if-match"), Some("\"7\""));
}

async fn at_a_limit(cases: &mut ExplainedCases) {
    let scene = Scene::paused(&["limits.requests=1"]);
    scene.origin.otherwise("200\nCache-Control: max-age=60\n\nx");
    scene.get("/stored").await;
    let gate = Gate::closed();
    scene.on("/slow", Answer::held(&gate, "200\n\nx"));
    let mut slow = scene.caller().await;
    slow.post("GET /slow").await;
    scene.origin.received(2).await;
    assert_eq!(cases.hold(&scene.sidecar, "GET /other").await.status, 503);
    assert_eq!(cases.hold(&scene.sidecar, "GET /stored").await.status, 200, "a hit waits for nothing");
    gate.open();
    assert_eq!(slow.read(false).await.status, 200);
}
