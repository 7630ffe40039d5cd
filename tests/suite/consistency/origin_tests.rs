//! The simulated origin is checked: it keeps the contract, and no more than that; it drifts; it looks like the service.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use super::issued_tokens::Tokens;
use super::origin::{Answer, Faults, OriginPlan, SimulatedOrigin};
use super::timeline::Timeline;

const PLAN: OriginPlan = OriginPlan {
    tokens: Tokens::OfFrontEnd,
    page_size: 100,
    drift_millihertz: 1_250,
    tagged_304: false,
    lags: [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(5)],
    usual_delay: Duration::from_millis(1),
    slow_delay: Duration::from_millis(1),
    slow: 0,
    faults: Faults {
        lost_request: 0,
        lost_answer: 0,
        broken_body: 0,
        error: 0,
        late_effect: 0,
        too_slow: 0,
        throttled: 0,
    },
    beyond_deadlines: Duration::from_secs(8),
    latest_effect: Duration::from_secs(5),
    emulated: false,
    max_age: None,
};

fn origin(plan: OriginPlan) -> Arc<SimulatedOrigin> {
    Arc::new(SimulatedOrigin::new(plan, Arc::new(Timeline::begin()), 1))
}

/// `METHOD target`, then fields, a line each; a body after an empty line.
async fn ask(origin: &Arc<SimulatedOrigin>, text: &str) -> Response<Bytes> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(target);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    match origin.answer(request.body(Bytes::from(body.to_owned())).unwrap()).await {
        Answer::Complete(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn field<'a>(answer: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

fn sequence_number(answer: &Response<Bytes>) -> u64 {
    field(answer, "sync-token").unwrap().rsplit_once("sn=").unwrap().1.parse().unwrap()
}

fn as_presented(answer: &Response<Bytes>) -> String {
    let line = field(answer, "sync-token").unwrap();
    line.split(',').map(|token| token.rsplit_once(";sn=").unwrap().0).collect::<Vec<_>>().join(",")
}

fn json(answer: &Response<Bytes>) -> serde_json::Value {
    serde_json::from_slice(answer.body()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_sequence_number_rises_by_itself_and_the_value_with_it() {
    for (drift_millihertz, expected) in [(0, 0), (1_250, 100)] {
        let origin = origin(OriginPlan { drift_millihertz, lags: [Duration::ZERO; 3], ..PLAN });
        ask(&origin, "PUT /kv/a\n\n{\"value\":\"1\"}").await;
        let first = ask(&origin, "GET /kv/a").await;
        tokio::time::sleep(Duration::from_secs(80)).await;
        let second = ask(&origin, "GET /kv/a").await;
        let risen = sequence_number(&second) - sequence_number(&first);
        assert!((expected..=expected + 1).contains(&risen), "{risen}");
        assert_eq!(as_presented(&first) == as_presented(&second), expected == 0);
        assert_eq!(field(&first, "etag"), field(&second, "etag"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_answered_with_state_and_token_at_least_as_new() {
    for tokens in [Tokens::OfState, Tokens::OfFrontEnd, Tokens::Newest, Tokens::TwoIds] {
        let origin = origin(OriginPlan { tokens, ..PLAN });
        let mut without = BTreeSet::new();
        for round in 1..=60 {
            origin.write_beside("a", Some(round));
            let newest = origin.newest_token(0).expect("a token").0;
            let answer = ask(&origin, &format!("GET /kv/a\nSync-Token: {newest}")).await;
            assert_eq!(field(&answer, "etag").unwrap(), format!("\"{round}\""), "{tokens:?}");
            // What its token demands includes what it showed.
            let again = ask(&origin, &format!("GET /kv/a\nSync-Token: {}", as_presented(&answer))).await;
            assert_eq!(field(&again, "etag"), field(&answer, "etag"), "{tokens:?}");
            let plain = ask(&origin, "GET /kv/a").await;
            without.insert(field(&plain, "etag") == field(&answer, "etag"));
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(without.len(), 2, "without a token a replica may lag, or not");
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_of_what_a_lagging_replica_shows_demands_no_more_than_that() {
    let origin = origin(OriginPlan { tokens: Tokens::OfState, lags: [Duration::from_secs(3); 3], ..PLAN });
    origin.write_beside("a", Some(1));
    tokio::time::sleep(Duration::from_secs(5)).await;
    origin.write_beside("a", Some(2));
    let shown = ask(&origin, "GET /kv/a").await;
    assert_eq!(field(&shown, "etag"), Some("\"1\""));
    let again = ask(&origin, &format!("GET /kv/a\nSync-Token: {}", as_presented(&shown))).await;
    assert_eq!(field(&again, "etag"), Some("\"1\""));
    let (newest, _) = origin.newest_token(0).expect("a token");
    let forced = ask(&origin, &format!("GET /kv/a\nSync-Token: {newest}")).await;
    assert_eq!(field(&forced, "etag"), Some("\"2\""));
    assert!(sequence_number(&forced) > sequence_number(&shown));
}

#[tokio::test(start_paused = true)]
async fn without_tokens_that_tell_states_apart_it_is_consistent_by_itself() {
    for tokens in [Tokens::Absent, Tokens::Constant] {
        let origin = origin(OriginPlan { tokens, ..PLAN });
        for round in 1..20 {
            origin.write_beside("a", Some(round));
            let answer = ask(&origin, "GET /kv/a").await;
            assert_eq!(field(&answer, "etag").unwrap(), format!("\"{round}\""));
            let constant = (tokens == Tokens::Constant).then_some("kv=MA==;sn=1");
            assert_eq!(field(&answer, "sync-token"), constant);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_a_front_end_does_not_understand_is_noted_and_may_be_in_vain() {
    let origin = origin(OriginPlan { tokens: Tokens::TwoIds, lags: [Duration::from_secs(5); 3], ..PLAN });
    origin.write_beside("a", Some(1));
    tokio::time::sleep(Duration::from_secs(6)).await;
    origin.write_beside("a", Some(2));
    let (foreign, _) = origin.newest_token(2).expect("a token");
    let mut outcomes = BTreeSet::new();
    for _ in 0..20 {
        let answer = ask(&origin, &format!("GET /kv/a\nSync-Token: {foreign}")).await;
        let answered = field(&answer, "sync-token").unwrap().contains("q7RdM2xK=");
        outcomes.insert((answered, field(&answer, "etag").unwrap().to_owned()));
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [(false, "\"1\"".into()), (true, "\"2\"".into())]);
    assert!(origin.ignored_within(&foreign, 0, u64::MAX));
    assert!(!origin.ignored_within("q7RdM2xK=8#1==", 0, u64::MAX));
}

#[tokio::test(start_paused = true)]
async fn answers_look_like_those_of_the_service() {
    let origin = origin(OriginPlan { lags: [Duration::ZERO; 3], ..PLAN });
    let put = ask(&origin, "PUT /kv/a1\n\n{\"value\":\"7\"}").await;
    assert_eq!((put.status(), field(&put, "etag")), (StatusCode::OK, Some("\"7\"")));
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    origin.write_beside("b2", Some(8));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let single = ask(&origin, "GET /kv/a1").await;
    let changed = httpdate::parse_http_date(field(&single, "last-modified").unwrap()).unwrap();
    let answered = httpdate::parse_http_date(field(&single, "date").unwrap()).unwrap();
    assert_eq!(answered.duration_since(changed).unwrap(), Duration::from_secs(5), "whole seconds");
    assert_eq!(field(&single, "x-ms-date"), field(&single, "date"));

    let list = ask(&origin, "GET /kv?key=*&label=%00").await;
    let items = json(&list)["items"].clone();
    let in_list: Vec<_> =
        items.as_array().unwrap().iter().map(|item| item["etag"].as_str().unwrap()).collect();
    assert_eq!((in_list, field(&list, "last-modified")), (vec!["7", "8"], None));
    assert_eq!(items[0], json(&single), "an item is what the single key-value is");
    assert!(items[1]["last_modified"].as_str().unwrap().ends_with("+00:00"));
    for (filter, keys) in
        [("key=a*", 1), ("key=*", 2), ("", 2), ("key=b2,c3", 1), ("key=b2%2Cc3", 1), ("key=a", 0)]
    {
        let list = ask(&origin, &format!("GET /kv?{filter}")).await;
        assert_eq!(json(&list)["items"].as_array().unwrap().len(), keys, "{filter}");
    }

    for target in ["/kv/a1", "/kv?key=*"] {
        let tag = field(&ask(&origin, &format!("GET {target}")).await, "etag").unwrap().to_owned();
        let unchanged = ask(&origin, &format!("GET {target}\nIf-None-Match: {tag}")).await;
        assert_eq!((unchanged.status(), field(&unchanged, "etag")), (StatusCode::NOT_MODIFIED, None));
        assert!(field(&unchanged, "sync-token").is_some() && unchanged.body().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_names_its_tag_where_the_plan_says_so() {
    let origin = origin(OriginPlan { tagged_304: true, lags: [Duration::ZERO; 3], ..PLAN });
    origin.write_beside("a", Some(1));
    let unchanged = ask(&origin, "GET /kv/a\nIf-None-Match: \"1\"").await;
    assert_eq!((unchanged.status(), field(&unchanged, "etag")), (StatusCode::NOT_MODIFIED, Some("\"1\"")));
}

#[tokio::test(start_paused = true)]
async fn a_lock_makes_a_new_state_of_what_exists_and_any_state_satisfies_the_star() {
    let origin = origin(OriginPlan { lags: [Duration::ZERO; 3], ..PLAN });
    let lock = "PUT /locks/a\nx-ms-client-request-id: 5";
    assert_eq!(ask(&origin, lock).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(ask(&origin, "GET /kv/a\nIf-Match: *").await.status(), StatusCode::PRECONDITION_FAILED);
    origin.write_beside("a", Some(1));
    assert_eq!(field(&ask(&origin, lock).await, "etag"), Some("\"5\""));
    assert_eq!(field(&ask(&origin, "GET /kv/a").await, "etag"), Some("\"5\""));
    assert_eq!(ask(&origin, "GET /kv/a\nIf-Match: *").await.status(), StatusCode::OK);
    let removed = ask(&origin, "DELETE /kv/a").await;
    assert_eq!((removed.status(), field(&removed, "etag")), (StatusCode::OK, Some("\"5\"")));
    assert_eq!(ask(&origin, "GET /kv/a").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(ask(&origin, "DELETE /kv/a").await.status(), StatusCode::NO_CONTENT);
}
