//! Limits of one request, one connection and one answer.

use crate::support::answer::Answer;
use crate::support::scene::Scene;

#[tokio::test]
async fn header_sections_are_bounded() {
    let scene = Scene::rfc9111().await;
    scene.origin.otherwise("200\nCache-Control: no-store\n\nx");
    let large = format!("GET /a\nX-Large: {}", "x".repeat(65 * 1024));
    let many: String = (0..101).map(|number| format!("\nX-{number}: x")).collect();
    for request in [large, format!("GET /a{many}")] {
        let mut caller = scene.caller().await;
        caller.post(&request).await;
        assert_eq!(caller.read(false).await.status, 431);
        caller.closed().await;
    }
    assert_eq!(scene.origin.requests().len(), 0);
    let within = format!("GET /a\nX-Large: {}", "x".repeat(60 * 1024));
    assert_eq!(scene.send(&within).await.status, 200);
    let many: String = (0..98).map(|number| format!("\nX-{number}: x")).collect();
    assert_eq!(scene.send(&format!("GET /a{many}")).await.status, 200);
}

#[tokio::test]
async fn targets_are_bounded() {
    let scene = Scene::rfc9111().await;
    scene.origin.otherwise("200\nCache-Control: no-store\n\nx");
    assert_eq!(scene.send(&format!("GET /{}", "x".repeat(16 * 1024 - 1))).await.status, 200);
    let response = scene.send(&format!("GET /{}", "x".repeat(16 * 1024))).await;
    assert_eq!(response.status, 414);
    assert_eq!(scene.origin.requests().len(), 1);
}

#[tokio::test]
async fn request_bodies_are_bounded() {
    let scene = Scene::with(&["upstream.sharing=rfc9111", "limits.request_body=100KiB"]).await;
    scene.origin.otherwise("204");
    let over = "x".repeat(100 * 1024 + 1);
    let response = scene.send(&format!("PUT /a\n\n{over}")).await;
    assert_eq!(response.status, 413, "{response:?}");
    assert_eq!(scene.origin.requests().len(), 0);
    // The length is not announced, so the sidecar knows it only when the body exceeds the limit.
    let chunked = format!("PUT /b\nTransfer-Encoding: chunked\n\n{:x}\r\n{over}\r\n0\r\n\r\n", over.len());
    let response = scene.send(&chunked).await;
    assert_eq!(response.status, 413, "{response:?}");
    let complete = scene.origin.requests().iter().any(|request| request.complete);
    assert!(!complete, "the origin took an incomplete body for a complete one");
    let within = "x".repeat(100 * 1024);
    assert_eq!(scene.send(&format!("PUT /c\n\n{within}")).await.status, 204);
}

#[tokio::test]
async fn header_sections_of_answers_are_bounded() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", format!("200\nX-Large: {}\n\nx", "x".repeat(33 * 1024)));
    assert_eq!(scene.get("/a").await.status, 502);
    scene.on("/b", format!("200\nX-Large: {}\n\nx", "x".repeat(24 * 1024)));
    assert_eq!(scene.get("/b").await.status, 200);
    let many: String = (0..2_000).map(|number| format!("X-{number}: x\r\n")).collect();
    scene.on("/c", Answer::raw(format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 1\r\n\r\nx")).then_close());
    assert_eq!(scene.get("/c").await.status, 502);
}

#[tokio::test]
async fn answers_in_a_transfer_coding_that_is_not_understood_are_refused() {
    let scene = Scene::rfc9111().await;
    for (target, coding) in [("/a", "gzip, chunked"), ("/b", "identity, chunked"), ("/c", "chunked, chunked")]
    {
        let head =
            format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: {coding}\r\n\r\n");
        scene.on(target, Answer::raw(format!("{head}1\r\nx\r\n0\r\n\r\n")).then_close());
        assert_eq!(scene.get(target).await.status, 502, "{coding}");
    }
}

#[tokio::test]
async fn connections_are_bounded() {
    let scene = Scene::with(&["upstream.sharing=rfc9111", "limits.connections=2"]).await;
    scene.origin.otherwise("200\nCache-Control: no-store\n\nx");
    let mut first = scene.caller().await;
    let mut second = scene.caller().await;
    assert_eq!(first.send("GET /a").await.status, 200);
    assert_eq!(second.send("GET /a").await.status, 200);
    let mut third = scene.caller().await;
    let response = third.read(false).await;
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    third.closed().await;
    // A free place is used again.
    first.write("GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await;
    first.closed().await;
    let mut status = 503;
    while status == 503 {
        // The answer may come before the request is read; its connection is then reset.
        let mut fourth = scene.caller().await;
        fourth.post("GET /a").await;
        status = fourth.try_read(false).await.map_or(503, |response| response.status);
    }
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_refused_request_never_reaches_the_origin() {
    let scene = Scene::rfc9111().await;
    scene.origin.otherwise("200\n\nreached");
    let host = format!("Host: {}\r\n", scene.sidecar.address);
    for head in [
        "GET /a HTTP/1.1\r\n".to_owned(),
        format!("GET /a HTTP/1.1\r\n{host}{host}"),
        format!("GET /a b HTTP/1.1\r\n{host}"),
        format!("GET a HTTP/1.1\r\n{host}"),
        format!("GET http://evil.example/a HTTP/1.1\r\n{host}"),
        format!("GET /a HTTP/1.1\r\n{host}Transfer-Encoding: ,chunked\r\n"),
        format!("GET /a HTTP/1.1\r\n{host}Transfer-Encoding: chunked, chunked\r\n"),
        format!("GET /a HTTP/1.1\r\n{host}Transfer-Encoding: identity\r\n"),
        format!("GET /a HTTP/1.1\r\n{host}X: a\r\n b\r\n"),
        format!("GET /a HTTP/1.1\r\n{host}X: a\0b\r\n"),
        format!("GET /a HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 6\r\n"),
        format!("GET /a#fragment HTTP/1.1\r\n{host}"),
        format!("CONNECT a:1 HTTP/1.1\r\n{host}"),
    ] {
        let mut caller = scene.caller().await;
        caller.write(format!("{head}\r\n")).await;
        let response = caller.read(false).await;
        assert!((400..=501).contains(&response.status), "{head:?}: {response:?}");
        assert_eq!(scene.origin.requests().len(), 0, "{head:?}");
    }
}
