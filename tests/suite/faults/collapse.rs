//! Collapsing of requests (RFC 9111 §4): one leader asks the origin, and its followers share the answer.

use std::time::Duration;

use crate::support::answer::{Answer, Gate, Step};
use crate::support::caller::{Caller, Response};
use crate::support::scene::Scene;

const CALLERS: usize = 200;

/// Sends a request from each of several callers at once. Returns after the sidecar has read all of them.
async fn ask_together(scene: &Scene, callers: usize, request: &str) -> Vec<Caller> {
    let mut waiting = Vec::new();
    for _ in 0..callers {
        let mut caller = scene.caller().await;
        caller.post(request).await;
        waiting.push(caller);
    }
    scene.settled().await;
    waiting
}

async fn answers(waiting: Vec<Caller>) -> Vec<Response> {
    let mut responses = Vec::new();
    for mut caller in waiting {
        responses.push(caller.read(false).await);
    }
    responses
}

/// The answers to callers that send a request for `/a` at once while the origin holds `answer`.
async fn ask_while_held(
    scene: &Scene,
    callers: usize,
    request: &str,
    answer: impl Into<Answer>,
) -> Vec<Response> {
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, answer));
    let waiting = ask_together(scene, callers, request).await;
    gate.open();
    answers(waiting).await
}

fn collapsed(responses: &[Response]) -> usize {
    responses.iter().filter(|response| response.cache_status().collapsed == Some(true)).count()
}

#[tokio::test]
async fn an_unseen_key_costs_one_request() {
    let scene = Scene::rfc9111().await;
    let responses = ask_while_held(&scene, CALLERS, "GET /a", "200\nCache-Control: max-age=60\n\nbody").await;
    assert!(responses.iter().all(|response| (response.status, response.text()) == (200, "body")));
    assert_eq!(scene.asked("/a"), 1);
    assert_eq!(collapsed(&responses), CALLERS - 1);
}

#[tokio::test]
async fn an_expired_key_costs_one_validation() {
    for validated in [true, false] {
        let scene = Scene::rfc9111().await;
        scene.on("/a", "200\nCache-Control: max-age=10\nETag: \"a\"\n\nold");
        let answer = if validated {
            "304\nETag: \"a\"\nCache-Control: max-age=60"
        } else {
            "200\nCache-Control: max-age=60\nETag: \"b\"\n\nnew"
        };
        scene.get("/a").await;
        scene.pass_seconds(11);
        let responses = ask_while_held(&scene, CALLERS, "GET /a", answer).await;
        let body = if validated { "old" } else { "new" };
        assert!(responses.iter().all(|response| (response.status, response.text()) == (200, body)));
        assert_eq!(scene.asked("/a"), 2);
        assert_eq!(collapsed(&responses), CALLERS - 1);
    }
}

#[tokio::test]
async fn followers_with_their_own_validators_get_their_own_304() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, "200\nCache-Control: max-age=60\nETag: \"a\"\n\nbody"));
    let mut plain = ask_together(&scene, 2, "GET /a").await;
    let mut matching = ask_together(&scene, 2, "GET /a\nIf-None-Match: \"a\"").await;
    let mut other = ask_together(&scene, 1, "GET /a\nIf-None-Match: \"b\"").await;
    gate.open();
    for caller in &mut plain {
        assert_eq!(caller.read(false).await.text(), "body");
    }
    for caller in &mut matching {
        let response = caller.read(false).await;
        assert_eq!((response.status, response.field("etag")), (304, Some("\"a\"")));
    }
    assert_eq!(other[0].read(false).await.text(), "body");
    assert_eq!(scene.asked("/a"), 1);
}

#[tokio::test]
async fn an_unshareable_answer_is_not_given_to_followers() {
    for fields in [
        "Cache-Control: no-store",
        "Cache-Control: private, max-age=60",
        "Cache-Control: max-age=60\nVary: *",
    ] {
        let scene = Scene::rfc9111().await;
        let gate = Gate::closed();
        for number in 0..3 {
            scene.on("/a", Answer::held(&gate, format!("200\n{fields}\n\n{number}")));
        }
        let waiting = ask_together(&scene, 3, "GET /a").await;
        gate.open();
        let mut bodies: Vec<String> =
            answers(waiting).await.iter().map(|response| response.text().to_owned()).collect();
        bodies.sort();
        assert_eq!(bodies, ["0", "1", "2"], "{fields}");
        assert_eq!(scene.asked("/a"), 3, "{fields}");
    }
}

#[tokio::test]
async fn set_cookie_reaches_only_the_caller_whose_request_fetched_it() {
    let scene = Scene::guarded().await;
    scene.origin.otherwise("200\nCache-Control: max-age=60\n\nbody");
    let answer = "200\nCache-Control: max-age=60\nSet-Cookie: session=1\n\nbody";
    let responses = ask_while_held(&scene, 20, "GET /a", answer).await;
    let with_cookie = responses.iter().filter(|response| response.field("set-cookie").is_some()).count();
    assert_eq!(with_cookie, 1);
    assert_eq!(scene.get("/a").await.field("set-cookie"), None);
}

#[tokio::test]
async fn a_queued_leader_validates_the_response_that_its_predecessor_stored() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, "200\nCache-Control: max-age=60\nETag: \"a\"\n\nbody"));
    scene.on("/a", "304\nETag: \"a\"");
    let mut waiting = ask_together(&scene, 1, "GET /a").await;
    // These requests arrive after the leader was sent, so they must not follow it; nothing was stored at that time.
    waiting.extend(ask_together(&scene, 20, "GET /a\nCache-Control: no-cache").await);
    gate.open();
    let responses = answers(waiting).await;
    assert!(responses.iter().all(|response| (response.status, response.text()) == (200, "body")));
    let sent: Vec<_> = scene.origin.requests_for("/a");
    let conditions: Vec<_> = sent.iter().map(|request| request.field("if-none-match")).collect();
    assert_eq!(conditions, [None, Some("\"a\"")]);
}

#[tokio::test]
async fn a_queued_leader_does_not_validate_another_variant() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    let answer = |tag| format!("200\nCache-Control: max-age=60\nVary: X-Lang\nETag: \"{tag}\"\n\n{tag}");
    scene.on("/a", Answer::held(&gate, answer("de")));
    scene.on("/a", answer("en"));
    let mut german = ask_together(&scene, 1, "GET /a\nX-Lang: de").await;
    let mut english = ask_together(&scene, 1, "GET /a\nX-Lang: en\nCache-Control: no-cache").await;
    gate.open();
    assert_eq!(german[0].read(false).await.text(), "de");
    assert_eq!(english[0].read(false).await.text(), "en");
    assert_eq!(scene.last_request("/a").field("if-none-match"), None);
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn each_stale_variant_has_its_own_upstream_request() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: max-age=1\nVary: X-Lang\n\nold");
    scene.send("GET /a\nX-Lang: de").await;
    scene.pass_seconds(5);
    let gate = Gate::closed();
    for _ in 0..2 {
        scene.on("/a", Answer::held(&gate, "200\nCache-Control: max-age=60\nVary: X-Lang\n\nnew"));
    }
    let mut german = ask_together(&scene, 2, "GET /a\nX-Lang: de").await;
    let mut english = ask_together(&scene, 2, "GET /a\nX-Lang: en").await;
    // A request does not follow the leader of another variant: the origin gets both requests while it holds its
    // answers.
    scene.origin.received(3).await;
    gate.open();
    for caller in german.iter_mut().chain(&mut english) {
        assert_eq!(caller.read(false).await.text(), "new");
    }
    let mut languages: Vec<String> = scene.origin.requests_for("/a")[1..]
        .iter()
        .map(|request| request.field("x-lang").unwrap_or_default().to_owned())
        .collect();
    languages.sort();
    assert_eq!(languages, ["de", "en"]);
}

#[tokio::test]
async fn variants_of_an_unseen_target_cost_one_request_each() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    for _ in 0..2 {
        scene.on("/a", Answer::held(&gate, "200\nCache-Control: max-age=60\nVary: X-Lang\n\nnew"));
    }
    let mut german = ask_together(&scene, 10, "GET /a\nX-Lang: de").await;
    let mut english = ask_together(&scene, 10, "GET /a\nX-Lang: en").await;
    gate.open();
    for caller in german.iter_mut().chain(&mut english) {
        assert_eq!(caller.read(false).await.text(), "new");
    }
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn after_an_unshareable_answer_requests_do_not_collapse() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "200\nCache-Control: no-store\n\nx");
    scene.get("/a").await;
    let gate = Gate::closed();
    for _ in 0..3 {
        scene.on("/a", Answer::held(&gate, "200\nCache-Control: no-store\n\nx"));
    }
    let waiting = ask_together(&scene, 3, "GET /a").await;
    // The origin gets every request before it answers one.
    scene.origin.received(4).await;
    gate.open();
    answers(waiting).await;
    // After a shareable answer requests collapse again.
    scene.store_aged("/a", "200\nCache-Control: max-age=1\n\nx", 5).await;
    let responses = ask_while_held(&scene, 20, "GET /a", "200\nCache-Control: max-age=60\n\nx").await;
    assert_eq!(collapsed(&responses), 19);
    assert_eq!(scene.asked("/a"), 6);
}

#[tokio::test]
async fn the_upstream_request_continues_after_its_first_caller_leaves() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.on("/a", Answer::held(&gate, "200\nCache-Control: max-age=60\n\nbody"));
    let first = ask_together(&scene, 1, "GET /a").await;
    scene.origin.received(1).await;
    let waiting = ask_together(&scene, 10, "GET /a").await;
    drop(first);
    scene.settled().await;
    gate.open();
    for response in answers(waiting).await {
        assert_eq!(response.text(), "body");
    }
    assert_eq!(scene.asked("/a"), 1);
}

#[tokio::test]
async fn a_failed_leader_answers_its_followers_without_a_request_for_each() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.origin.otherwise(Answer::held(&gate, Answer::silence()));
    let waiting = ask_together(&scene, 50, "GET /a").await;
    gate.open();
    for response in answers(waiting).await {
        assert_eq!(response.status, 504, "{response:?}");
    }
    assert!(scene.asked("/a") <= 2, "{} requests", scene.asked("/a"));
}

#[tokio::test]
async fn after_a_failure_one_follower_becomes_the_leader() {
    for failure in ["500\n\nfailed", "503\nCache-Control: no-store\n\nfailed"] {
        let scene = Scene::rfc9111().await;
        let (first, second) = (Gate::closed(), Gate::closed());
        scene.on("/a", Answer::held(&first, failure));
        scene.on("/a", Answer::held(&second, "200\nCache-Control: max-age=60\n\nbody"));
        let waiting = ask_together(&scene, CALLERS, "GET /a").await;
        first.open();
        scene.origin.received(2).await;
        scene.settled().await;
        second.open();
        let responses = answers(waiting).await;
        assert_eq!(responses.iter().filter(|response| response.text() == "failed").count(), 1, "{failure}");
        assert_eq!(responses.iter().filter(|response| response.text() == "body").count(), CALLERS - 1);
        assert_eq!((scene.asked("/a"), collapsed(&responses)), (2, CALLERS - 2), "{failure}");
    }
}

#[tokio::test]
async fn after_two_failures_followers_ask_by_themselves() {
    let scene = Scene::rfc9111().await;
    let (first, second, third) = (Gate::closed(), Gate::closed(), Gate::closed());
    scene.on("/a", Answer::held(&first, "500\n\n1"));
    scene.on("/a", Answer::held(&second, "500\n\n2"));
    scene.origin.otherwise(Answer::held(&third, "500\n\n3"));
    let waiting = ask_together(&scene, 20, "GET /a").await;
    first.open();
    scene.origin.received(2).await;
    scene.settled().await;
    assert_eq!(scene.asked("/a"), 2, "one follower asks for all others");
    second.open();
    // The origin gets every other request before it answers one of them.
    scene.origin.received(20).await;
    third.open();
    assert!(answers(waiting).await.iter().all(|response| response.status == 500));
    assert_eq!(scene.asked("/a"), 20);
}

#[tokio::test]
async fn no_follower_asks_again_after_a_failure_with_retry_after() {
    let scene = Scene::rfc9111().await;
    for response in ask_while_held(&scene, 20, "GET /a", "503\nRetry-After: 5\n\nslow down").await {
        assert_eq!((response.status, response.field("retry-after")), (503, Some("5")));
    }
    assert_eq!(scene.asked("/a"), 1);
}

#[tokio::test]
async fn requests_collapse_after_a_failure_with_no_store() {
    let scene = Scene::rfc9111().await;
    scene.on("/a", "503\nCache-Control: no-store\n\nx");
    scene.get("/a").await;
    let responses = ask_while_held(&scene, 20, "GET /a", "200\nCache-Control: max-age=60\n\nx").await;
    assert_eq!(collapsed(&responses), 19);
    assert_eq!(scene.asked("/a"), 2);
}

#[tokio::test]
async fn keys_do_not_wait_for_each_other() {
    let scene = Scene::rfc9111().await;
    let gate = Gate::closed();
    scene.on("/slow", Answer::held(&gate, "200\nCache-Control: max-age=60\n\nslow"));
    scene.on("/quick", "200\nCache-Control: max-age=60\n\nquick");
    let waiting = ask_together(&scene, 1, "GET /slow").await;
    scene.origin.received(1).await;
    assert_eq!(scene.get("/quick").await.text(), "quick");
    gate.open();
    assert_eq!(answers(waiting).await[0].text(), "slow");
}

/// The latencies of callers that send a request at once, shortest first. Paused time shows the waiting that the sidecar
/// adds, to the microsecond. The load bench measures its computing time.
async fn latencies(scene: &Scene, request: &'static str) -> Vec<Duration> {
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let mut caller = scene.caller().await;
        let clock = scene.clock.clone();
        asking.spawn(async move {
            let asked = clock.now();
            let response = caller.send(request).await;
            assert_eq!(response.status, 200);
            clock.now().since(asked)
        });
    }
    let mut latencies = asking.join_all().await;
    latencies.sort();
    latencies
}

const ORIGIN_LATENCY: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn callers_of_an_unseen_key_wait_as_long_as_the_origin_takes() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    scene.on("/a", Answer::delayed(ORIGIN_LATENCY, "200\nCache-Control: max-age=60\n\nbody"));
    let latencies = latencies(&scene, "GET /a").await;
    assert_eq!(scene.asked("/a"), 1);
    assert!(latencies[CALLERS - 1] <= ORIGIN_LATENCY.mul_f32(1.2), "{latencies:?}");
    assert!(latencies[0] >= ORIGIN_LATENCY, "{latencies:?}");
}

#[tokio::test(start_paused = true)]
async fn with_stale_while_revalidate_no_caller_waits() {
    let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
    scene.on("/a", "200\nCache-Control: max-age=1, stale-while-revalidate=60\nETag: \"a\"\n\nbody");
    scene.on("/a", Answer::delayed(ORIGIN_LATENCY, "304\nETag: \"a\""));
    scene.get("/a").await;
    tokio::time::advance(Duration::from_secs(2)).await;
    let latencies = latencies(&scene, "GET /a").await;
    assert!(latencies[CALLERS - 1] <= Duration::from_millis(5), "{latencies:?}");
    scene.origin.received(2).await;
    assert_eq!(scene.asked("/a"), 2);
}

/// A body of twelve bytes, one in each five seconds: longer than a body may take that is stored.
fn trickled(framing: &str) -> Answer {
    let chunked = framing.starts_with("Transfer-Encoding");
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"t\"\r\n{framing}\r\n\r\n");
    let pieces = (0..12).fold(Answer::raw(head), |answer, _| {
        answer.then(Step::Delay(Duration::from_secs(5))).then_bytes(if chunked { "1\r\nt\r\n" } else { "t" })
    });
    if chunked { pieces.then_bytes("0\r\n\r\n") } else { pieces }
}

#[tokio::test(start_paused = true)]
async fn a_trickled_body_reaches_all_that_wait_for_it_from_one_request() {
    for framing in ["Content-Length: 12", "Transfer-Encoding: chunked"] {
        let scene = Scene::paused(&["upstream.sharing=rfc9111"]);
        scene.on("/a", trickled(framing));
        let waiting = ask_together(&scene, 20, "GET /a").await;
        let responses = answers(waiting).await;
        for response in &responses {
            assert_eq!((response.status, response.text()), (200, "tttttttttttt"), "{framing}");
        }
        let status = responses[1].cache_status();
        assert_eq!(status.detail.as_deref(), Some("body-too-slow"), "{framing}");
        assert_eq!(collapsed(&responses), 19, "{framing}");
        assert_eq!(scene.asked("/a"), 1, "{framing}");
        assert_eq!(scene.elapsed(), Duration::from_secs(60), "{framing}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickled_body_with_fields_for_its_leader_alone_is_for_the_leader_alone() {
    let scene = Scene::paused(&[]);
    for _ in 0..3 {
        scene.on("/a", trickled("Set-Cookie: a=b\r\nContent-Length: 12"));
    }
    let responses = answers(ask_together(&scene, 3, "GET /a").await).await;
    assert!(responses.iter().all(|response| response.field("set-cookie") == Some("a=b")));
    assert_eq!(scene.asked("/a"), 3);
}
