//! Bodies that stream, and callers that leave.

use crate::support::answer::{Answer, Gate, Step};
use crate::support::scene::Scene;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_body_over_the_limit_streams_and_is_not_stored() {
    let scene = Scene::with(&["upstream.sharing=rfc9111", "store.body_limit=1KiB"]).await;
    for (target, framing) in [("/length", "Content-Length: 4096"), ("/chunked", "Transfer-Encoding: chunked")]
    {
        let gate = Gate::closed();
        let chunked = target == "/chunked";
        let piece = "p".repeat(2048);
        let piece = if chunked { format!("800\r\n{piece}\r\n") } else { piece };
        let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}\r\n\r\n");
        let end = if chunked { "0\r\n\r\n" } else { "" };
        let begin = Answer::raw(format!("{head}{piece}"));
        scene.on(target, begin.then_hold(&gate).then_bytes(format!("{piece}{end}")));
        let mut caller = scene.caller().await;
        caller.post(&format!("GET {target}")).await;
        // The origin stops in the middle of the body, so the first part arrives without the rest.
        let response = caller.head().await.expect("a head");
        let status = response.field("cache-status").expect("Cache-Status");
        assert!(!status.contains("stored"), "{target}: {status}");
        assert!(caller.bytes(2048).await.len() >= 2048, "{target}");
        gate.open();
        assert!(caller.bytes(2048).await.len() >= 2048, "{target}");
        scene.on(target, "200\n\nagain");
        assert_eq!(scene.get(target).await.text(), "again", "{target}");
    }
}

#[tokio::test]
async fn a_large_body_is_never_held_in_memory() {
    let scene = Scene::rfc9111().await;
    let length = 64 * MIB;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    scene.on("/large", Answer::raw(head).then(Step::Repeat(vec![b'x'; MIB / 16], 16 * 64)));
    let mut caller = scene.caller().await;
    caller.post("GET /large").await;
    let head = caller.head().await.expect("a head");
    assert_eq!(head.field("content-length"), Some(length.to_string().as_str()));
    let mut read = 0;
    while read < length {
        read += caller.bytes(MIB.min(length - read)).await.len();
        // Only socket buffers and a few chunks are between the origin and the caller, never the whole body.
        let ahead = scene.origin.sent_bytes().saturating_sub(read);
        assert!(ahead < 24 * MIB, "{ahead} bytes are held at {read}");
    }
    assert_eq!(read, length);
}

#[tokio::test]
async fn a_large_request_body_streams() {
    let scene = Scene::with(&["upstream.sharing=rfc9111", "limits.request_body=16MiB"]).await;
    scene.on("/up", "204");
    let mut caller = scene.caller().await;
    let length = 4 * MIB;
    let host = scene.sidecar.address;
    caller.write(format!("PUT /up HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n")).await;
    caller.write(vec![b'x'; MIB]).await;
    // The upstream request has begun although most of the body is still to come.
    scene.origin.begun(1).await;
    for _ in 0..3 {
        caller.write(vec![b'x'; MIB]).await;
    }
    assert_eq!(caller.read(false).await.status, 204);
    let request = scene.last_request("/up");
    assert_eq!((request.body.len(), request.complete), (length, true));
}

#[tokio::test]
async fn a_small_body_that_breaks_never_reaches_the_origin() {
    let scene = Scene::rfc9111().await;
    scene.origin.otherwise("204");
    let host = scene.sidecar.address;
    for bytes in
        ["5\r\nhell", "5\r\nhello\r\nzz\r\n", "-1\r\n", "5\r\nhelloo\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFFF\r\n"]
    {
        let mut caller = scene.caller().await;
        caller
            .write(format!("PUT /up HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{bytes}"))
            .await;
        if bytes.ends_with("hell") {
            drop(caller);
        } else {
            let response = caller.try_read(false).await;
            assert!(
                response.as_ref().is_none_or(|response| response.status == 400),
                "{bytes:?}: {response:?}"
            );
        }
    }
    scene.settled().await;
    assert_eq!(scene.origin.requests().len(), 0);
}

#[tokio::test]
async fn a_large_body_that_breaks_aborts_the_upstream_request() {
    let scene = Scene::rfc9111().await;
    scene.origin.otherwise("204");
    let mut caller = scene.caller().await;
    let host = scene.sidecar.address;
    caller.write(format!("PUT /up HTTP/1.1\r\nHost: {host}\r\nContent-Length: 900000\r\n\r\n")).await;
    caller.write(vec![b'x'; 500_000]).await;
    scene.origin.begun(1).await;
    drop(caller);
    scene.origin.received(1).await;
    let request = scene.last_request("/up");
    assert!(!request.complete, "{} bytes arrived as if they were all", request.body.len());
}

#[tokio::test]
async fn when_the_only_caller_leaves_the_upstream_read_stops() {
    let scene = Scene::rfc9111().await;
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\n";
    scene.on("/endless", Answer::raw(head).then(Step::Repeat(vec![b'x'; MIB / 16], 16 * 4096)));
    let mut caller = scene.caller().await;
    caller.post("GET /endless").await;
    caller.bytes(MIB).await;
    drop(caller);
    scene.origin.left_alone(0).await;
    assert!(scene.origin.sent_bytes() < 64 * MIB, "{} bytes were read", scene.origin.sent_bytes());
}

#[tokio::test]
async fn when_the_only_caller_leaves_before_the_head_the_upstream_request_ends() {
    let scene = Scene::rfc9111().await;
    let never = Gate::closed();
    scene.on("/held", Answer::held(&never, "200\n\nx"));
    let mut caller = scene.caller().await;
    caller.post("GET /held").await;
    scene.origin.received(1).await;
    drop(caller);
    scene.origin.left_alone(0).await;
}

#[tokio::test]
async fn a_write_completes_although_its_caller_leaves() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.on("/a", "200\nCache-Control: max-age=60\n\nold");
    scene.get("/a").await;
    scene.on("/a", Answer::held(&gate, "204"));
    let mut caller = scene.caller().await;
    caller.post("PUT /a\n\nnew").await;
    scene.origin.received(2).await;
    drop(caller);
    scene.settled().await;
    gate.open();
    scene.on("/a", "200\nCache-Control: max-age=60\n\nnew");
    assert_eq!(scene.get("/a").await.text(), "new");
    assert_eq!(scene.origin.requests_for("/a")[1].body, b"new");
}
