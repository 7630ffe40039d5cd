//! Messages that two recipients read differently: splitting, smuggling, hop-by-hop fields.

use crate::support::answer::Answer;
use crate::support::scene::Scene;

#[tokio::test]
async fn connection_removes_the_fields_that_it_names_except_authorization() {
    let scene = Scene::with(&["upstream.sharing=rfc9111"]).await;
    scene.origin.otherwise("200\nCache-Control: max-age=600\n\nx");
    scene.send("GET /a\nX-Secret-Hop: 1\nConnection: X-Secret-Hop").await;
    assert!(scene.last_request("/a").field("x-secret-hop").is_none());
    // The answer is stored in the partition of the victim, so the origin must have got the victim's credential.
    scene.origin.otherwise("200\nCache-Control: max-age=600\n\nfor the victim");
    scene.send("GET /b\nAuthorization: Bearer victim\nConnection: Authorization").await;
    assert_eq!(scene.last_request("/b").field("authorization"), Some("Bearer victim"));
    assert!(scene.send("GET /b\nAuthorization: Bearer victim").await.is_hit());
}

#[tokio::test]
async fn hop_by_hop_fields_of_answers_are_not_replayed() {
    let scene = Scene::guarded().await;
    scene.on("/a", "200\nCache-Control: max-age=600\nConnection: X-Hop\nX-Hop: 1\nKeep-Alive: timeout=1\nProxy-Authenticate: Basic\n\nx");
    for _ in 0..2 {
        let answer = scene.get("/a").await;
        for name in ["x-hop", "keep-alive", "proxy-authenticate"] {
            assert!(answer.field(name).is_none(), "{name}");
        }
    }
}

#[tokio::test]
async fn one_request_is_one_request_at_the_origin() {
    for attack in [
        "POST /a HTTP/1.1\r\nHost: {h}\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: {h}\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: {h}\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: {h}\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: {h}\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /evil HTTP/1.1\r\nHost: {h}\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: {h}\r\nContent-Length: +0\r\n\r\nGET /evil HTTP/1.1\r\nHost: {h}\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: {h}\r\nX: y\nGET /evil HTTP/1.1\r\n\r\n",
        "GET /a\r\nHost: {h}\r\n\r\nGET /evil HTTP/1.1\r\nHost: {h}\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: {h}\r\n\r\n",
    ] {
        let scene = Scene::guarded().await;
        scene.origin.otherwise("200\nCache-Control: no-store\n\nx");
        let mut caller = scene.caller().await;
        caller.write(attack.replace("{h}", &scene.sidecar.address.to_string())).await;
        // The answers do not matter. Pipelined requests belong to the caller; hidden requests must not reach the
        // origin.
        let first = caller.try_read(false).await;
        scene.settled().await;
        for request in scene.origin.requests() {
            let text = String::from_utf8_lossy(&request.bytes).into_owned();
            assert_eq!(text.matches("HTTP/1.1").count(), 1, "{attack:?}: {text:?}");
        }
        assert!(first.is_none_or(|answer| answer.status >= 200));
    }
}

#[tokio::test]
async fn line_ends_in_a_target_or_value_split_nothing() {
    let scene = Scene::guarded().await;
    scene.origin.otherwise("200\nCache-Control: no-store\n\nx");
    for (target, canonical) in [
        ("/a%0d%0aX-Evil:%201", "/a%0D%0AX-Evil:%201"),
        ("/a%0aX-Evil:1", "/a%0AX-Evil:1"),
        ("/a?b=%0d%0a%0d%0aGET%20/evil%20HTTP/1.1", "/a?b=%0d%0a%0d%0aGET%20/evil%20HTTP/1.1"),
    ] {
        let answer = scene.get(target).await;
        assert!(answer.field("x-evil").is_none());
        assert!(scene.last_request(canonical).field("x-evil").is_none());
    }
    let mut caller = scene.caller().await;
    caller
        .write(format!("GET /b HTTP/1.1\r\nHost: {}\r\nX-A: b\rX-Evil: 1\r\n\r\n", scene.sidecar.address))
        .await;
    let answer = caller.try_read(false).await;
    assert!(answer.is_none_or(|answer| answer.status == 400) && scene.asked("/b") == 0);
}

#[tokio::test]
async fn bytes_behind_an_answer_belong_to_no_request() {
    let scene = Scene::guarded().await;
    let split = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nCache-Control: max-age=600\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=600\r\n\r\nevil";
    scene.on("/a", Answer::raw(split));
    assert_eq!(scene.get("/a").await.text(), "x");
    scene.origin.otherwise("200\nCache-Control: max-age=600\n\ngood");
    for target in ["/b", "/c"] {
        assert_ne!(scene.get(target).await.text(), "evil", "{target}");
    }
}

#[tokio::test]
async fn an_answer_that_can_be_read_in_two_ways_is_stored_in_none() {
    for head in [
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity, chunked",
        "Content-Length: -4",
    ] {
        let scene = Scene::guarded().await;
        let answer =
            format!("HTTP/1.1 200 OK\r\n{head}\r\nCache-Control: max-age=600\r\n\r\nevil\r\n0\r\n\r\n");
        scene.on("/a", Answer::raw(answer).then_close());
        let mut caller = scene.caller().await;
        caller.post("GET /a").await;
        let _whatever = caller.try_read(false).await;
        scene.origin.otherwise("200\nCache-Control: max-age=600\n\ngood");
        assert_eq!(scene.get("/a").await.text(), "good", "{head}");
    }
}
