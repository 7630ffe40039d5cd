//! Forwarding: every method is forwarded and sent once, a response is stored before its caller gets the end, interim
//! answers are dropped, and broken bodies are not stored.

use crate::support::answer::{Answer, Gate, Step};
use crate::support::scene::Scene;

#[tokio::test]
async fn every_method_is_forwarded_once() {
    let scene = Scene::rfc9111().await;
    for method in [
        "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "PURGE", "QUERY", "x-own",
    ] {
        let target = format!("/{method}");
        scene.on(&target, "200\nCache-Control: no-store\n\ndone");
        let response = scene.send(&format!("{method} {target}")).await;
        assert_eq!((response.status, response.text()), (200, "done"), "{method}");
        let requests = scene.origin.requests_for(&target);
        assert_eq!(requests.len(), 1, "{method}");
        assert_eq!(requests[0].method, method);
    }
    scene.on("/head", "200\nCache-Control: no-store\n\nfour");
    let response = scene.send("HEAD /head").await;
    assert_eq!((response.status, response.field("content-length")), (200, Some("4")));
    assert_eq!(scene.last_request("/head").method, "HEAD");
}

#[tokio::test]
async fn connect_and_trace_are_refused() {
    let scene = Scene::rfc9111().await;
    scene.origin.otherwise("200\n\nreached");
    for request in ["TRACE /a", "CONNECT example.com:443\nHost: example.com:443", "CONNECT /a"] {
        let mut caller = scene.caller().await;
        caller.post(request).await;
        let response = caller.try_read(false).await;
        let status = response.as_ref().map(|response| response.status);
        assert!(status.is_none_or(|status| (400..=501).contains(&status)), "{request}: {response:?}");
    }
    assert_eq!(scene.origin.requests().len(), 0);
}

#[tokio::test]
async fn a_retrieval_is_sent_again_only_when_a_reused_connection_closed_without_a_byte() {
    let scene = Scene::rfc9111().await;
    // On a new connection the request is not sent again.
    scene.on("/fresh", Answer::silence());
    let response = scene.get("/fresh").await;
    assert_eq!(response.status, 504, "{response:?}");
    assert_eq!(scene.asked("/fresh"), 1);
    // On a reused connection it is sent again once.
    scene.on("/warm", "200\n\nwarm");
    assert_eq!(scene.get("/warm").await.status, 200);
    scene.on("/again", Answer::silence());
    scene.on("/again", "200\n\nsecond");
    let response = scene.get("/again").await;
    assert_eq!((response.status, response.text()), (200, "second"));
    let requests = scene.origin.requests_for("/again");
    assert_eq!(requests.len(), 2);
    assert_ne!(requests[0].connection, requests[1].connection);
    assert_eq!(scene.origin.connections(), 3);
    // It is not sent again after a byte of an answer.
    scene.on("/byte", Answer::raw("H").then_close());
    assert!(scene.get("/byte").await.status >= 502);
    assert_eq!(scene.asked("/byte"), 1);
}

#[tokio::test]
async fn a_write_is_never_sent_twice() {
    let scene = Scene::rfc9111().await;
    for method in ["POST", "PATCH", "M-SEARCH"] {
        let warm = format!("/warm-{method}");
        scene.on(&warm, "200\n\nwarm");
        assert_eq!(scene.get(&warm).await.status, 200);
        let target = format!("/{method}");
        scene.on(&target, Answer::silence());
        scene.on(&target, "200\n\nsecond");
        let response = scene.send(&format!("{method} {target}\n\nbody")).await;
        assert!(response.status >= 500, "{method}: {response:?}");
        assert_eq!(scene.asked(&target), 1, "{method}");
    }
}

#[tokio::test]
async fn a_request_sent_right_after_the_last_byte_finds_the_stored_response() {
    let scene = Scene::rfc9111().await;
    let body = "b".repeat(200_000);
    for round in 0..30 {
        let target = format!("/{round}");
        let framed = if round % 2 == 0 {
            format!("200\nCache-Control: max-age=60\n\n{body}")
        } else {
            let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            format!("200\nCache-Control: max-age=60\nTransfer-Encoding: chunked\n\n{chunk}")
        };
        scene.on(&target, framed);
        let mut first = scene.caller().await;
        let mut second = scene.caller().await;
        assert_eq!(first.send(&format!("GET {target}")).await.body.len(), body.len());
        let response = second.send(&format!("GET {target}")).await;
        assert!(response.is_hit(), "round {round}: {:?}", response.head);
        assert_eq!(scene.asked(&target), 1, "round {round}");
    }
}

#[tokio::test]
async fn a_streamed_response_is_stored_when_its_caller_gets_the_end() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    let begin = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 8\r\n\r\nfour";
    scene.on("/slow", Answer::raw(begin).then_hold(&gate).then_bytes("more"));
    let mut first = scene.caller().await;
    first.post("GET /slow").await;
    scene.origin.received(1).await;
    gate.open();
    assert_eq!(first.read(false).await.text(), "fourmore");
    let second = scene.get("/slow").await;
    assert!(second.is_hit(), "{:?}", second.head);
    assert_eq!(second.text(), "fourmore");
}

#[tokio::test]
async fn interim_answers_and_their_fields_are_dropped() {
    let scene = Scene::rfc9111().await;
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nX-Interim: yes\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-Final: yes\r\nContent-Length: 2\r\n\r\nok";
    scene.on("/hints", Answer::raw(format!("HTTP/1.1 100 Continue\r\n\r\n{interim}{interim}{last}")));
    for hit in [false, true] {
        let mut caller = scene.caller().await;
        caller.post("GET /hints").await;
        let head = caller.head().await.expect("a head");
        assert!(head.first_line.starts_with("HTTP/1.1 200"), "hit {hit}: {head:?}");
        assert_eq!(head.field("x-final"), Some("yes"), "hit {hit}");
        assert_eq!((head.field("x-interim"), head.field("link")), (None, None), "hit {hit}");
    }
    assert_eq!(scene.asked("/hints"), 1);
}

#[tokio::test]
async fn a_broken_body_fails_for_its_caller_and_is_not_stored() {
    let breaks = [
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort",
    ];
    for (number, bytes) in breaks.into_iter().enumerate() {
        for end in [Step::Close, Step::Reset] {
            let scene = Scene::rfc9111().await;
            scene.on("/a", Answer::raw(bytes).then(end.clone()));
            scene.on("/a", "200\nCache-Control: max-age=60\n\nwhole");
            let mut caller = scene.caller().await;
            caller.post("GET /a").await;
            let first = caller.try_read(false).await;
            let seen = first.as_ref().is_none_or(|first| !first.complete || first.status >= 500);
            assert!(seen, "{number} {end:?}: {first:?}");
            let second = scene.get("/a").await;
            assert_eq!((second.status, second.text()), (200, "whole"), "{number} {end:?}");
            assert_eq!(scene.asked("/a"), 2, "{number} {end:?}");
        }
    }
}

#[tokio::test]
async fn a_broken_body_leaves_the_older_response() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=60\n\nolder");
    scene.on(
        "/a",
        Answer::raw("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nbad")
            .then_close(),
    );
    assert_eq!(scene.get("/a").await.text(), "older");
    let mut caller = scene.caller().await;
    caller.post("GET /a\nCache-Control: no-cache").await;
    let reload = caller.try_read(false).await;
    assert!(reload.is_none_or(|reload| !reload.complete || reload.status >= 500 || reload.text() == "older"));
    let after = scene.get("/a").await;
    assert_eq!(after.text(), "older");
    assert!(after.is_hit(), "{:?}", after.head);
}
