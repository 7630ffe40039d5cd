//! The budget of bodies that are in memory and not stored (`limits.buffered_bodies`).

use crate::support::answer::{Answer, Gate};
use crate::support::caller::Response;
use crate::support::scene::Scene;

const KIB: usize = 1024;

fn large(length: usize) -> String {
    format!("200\nCache-Control: max-age=60\nETag: \"l\"\n\n{}", "l".repeat(length))
}

fn detail(response: &Response) -> Option<String> {
    response.cache_status().detail
}

#[tokio::test]
async fn a_body_over_the_budget_streams_and_is_not_stored() {
    let scene = Scene::with(&["upstream.sharing=rfc9111", "limits.buffered_bodies=4KiB"]).await;
    for framing in ["", "Transfer-Encoding: chunked\n"] {
        let body = "l".repeat(16 * KIB);
        let sent = if framing.is_empty() { body.clone() } else { format!("4000\r\n{body}\r\n0\r\n\r\n") };
        for _ in 0..2 {
            scene.on("/large", format!("200\nCache-Control: max-age=60\n{framing}\n{sent}"));
            let response = scene.get("/large").await;
            assert_eq!((response.status, response.text()), (200, &*body), "{framing}");
            assert_eq!(detail(&response).as_deref(), Some("buffers-full"), "{framing}");
            assert!(!response.cache_status().stored, "{framing}");
        }
    }
    scene.on("/small", "200\nCache-Control: max-age=60\n\nsmall");
    assert!(scene.get("/small").await.cache_status().stored);
    assert!(scene.get("/small").await.is_hit());
}

#[tokio::test]
async fn stored_bodies_and_those_that_were_taken_use_none_of_the_budget() {
    let settings = [
        "upstream.sharing=rfc9111",
        "limits.buffered_bodies=128KiB",
        "store.limit=4MiB",
        "upstream.freshness=60s",
    ];
    let scene = Scene::with(&settings).await;
    // Together four times the budget: some stay stored, and large ones are evicted at the end.
    for number in 0..60 {
        let target = format!("/{number}");
        scene.on(&target, large(90 * KIB));
        let response = scene.get(&target).await;
        assert!(response.cache_status().stored, "{number}: {:?}", response.cache_status());
        assert_eq!(response.body.len(), 90 * KIB);
    }
    assert!(scene.get("/59").await.is_hit());
}

#[tokio::test]
async fn a_caller_that_leaves_gives_its_share_of_the_budget_back() {
    let scene = Scene::with(&["upstream.sharing=rfc9111", "limits.buffered_bodies=64KiB"]).await;
    scene.origin.otherwise("204");
    let host = scene.sidecar.address;
    for _ in 0..4 {
        let mut leaving = scene.caller().await;
        let part = "x".repeat(40 * KIB);
        leaving
            .write(format!("PUT /up HTTP/1.1\r\nHost: {host}\r\nContent-Length: 60000\r\n\r\n{part}"))
            .await;
        scene.settled().await;
    }
    scene.on("/large", large(40 * KIB));
    // The sidecar notices the end of a connection in its own time.
    for _ in 0..1_000 {
        if scene.get("/large").await.cache_status().stored {
            return;
        }
        scene.on("/large", large(40 * KIB));
        tokio::task::yield_now().await;
    }
    panic!("the budget is still used");
}

#[tokio::test]
async fn an_upload_over_the_budget_streams_and_a_signed_one_is_refused() {
    let scene = Scene::with(&["upstream.sharing=rfc9111", "limits.buffered_bodies=1KiB"]).await;
    scene.on("/up", "204");
    let body = "x".repeat(8 * KIB);
    assert_eq!(scene.send(&format!("PUT /up\n\n{body}")).await.status, 204);
    assert_eq!(scene.last_request("/up").body.len(), 8 * KIB);
    let signed = Scene::with(&[
        "limits.buffered_bodies=1KiB",
        "upstream.credential.kind=hmac",
        "upstream.credential.connection_string=Id=id;Secret=c2VjcmV0",
    ])
    .await;
    signed.origin.otherwise("204");
    let response = signed.send(&format!("PUT /up\n\n{body}")).await;
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    assert!(response.text().contains("limits.buffered_bodies"), "{}", response.text());
    assert_eq!(signed.origin.requests().len(), 0);
    assert_eq!(signed.send("PUT /up\n\nsmall").await.status, 204);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_keeps_others_from_being_stored_only_if_they_are_large() {
    let settings = [
        "upstream.sharing=rfc9111",
        "limits.buffered_bodies=1MiB",
        "store.limit=1MiB",
        "store.body_limit=1MiB",
    ];
    let scene = Scene::with(&settings).await;
    let gate = Gate::closed();
    let head =
        format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n", 700 * KIB);
    scene.on(
        "/held",
        Answer::raw(head + &"h".repeat(600 * KIB)).then_hold(&gate).then_bytes("h".repeat(100 * KIB)),
    );
    let mut holding = scene.caller().await;
    holding.post("GET /held").await;
    // The sidecar reads the held answer in its own time. Then there is no room for another large one.
    while scene.sidecar.received_body_bytes() < 600 * KIB {
        scene.settled().await;
    }
    scene.on("/large", large(200 * KIB));
    assert_eq!(detail(&scene.get("/large").await).as_deref(), Some("buffers-full"));
    scene.on("/small", large(20 * KIB));
    assert!(scene.get("/small").await.cache_status().stored);
    gate.open();
    assert_eq!(holding.read(false).await.body.len(), 700 * KIB);
}
