//! The answers of the App Configuration profile, through a sidecar in front of the emulator: the fields that every
//! answer carries, and the forms that client SDKs need.

use std::sync::Arc;
use std::time::Duration;

use tagalong::internals::clock::Clock;
use tagalong::internals::emulator::counts::Counts;
use tagalong::internals::emulator::faults::act::Faults;
use tagalong::internals::emulator::faults::document::PlanDocument;
use tagalong::internals::emulator::serve::serve;
use tagalong::internals::emulator::service::Service;
use tagalong::internals::emulator::{Emulator, EmulatorSettings};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::emulator::START;
use crate::support::caller::{Caller, Response};
use crate::support::sidecar::Sidecar;

struct Scene {
    sidecar: Sidecar,
    counts: Arc<Counts>,
    clock: Clock,
}

impl Scene {
    async fn start() -> Self {
        let clock = Clock::manual(START);
        // Without drift only changes raise the sequence number, so the tests can count them.
        let settings = EmulatorSettings { drift_per_second: 0.0, ..EmulatorSettings::default() };
        let emulator = Emulator::new(settings, clock.clone(), 1);
        let faults = Arc::new(Faults::new(PlanDocument::default(), 1));
        let counts = Arc::new(Counts::default());
        let service = Service::new(emulator, faults, Arc::clone(&counts), clock.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, CancellationToken::new(), move |request| {
            let service = service.clone();
            async move { service.answer(request).await }
        }));
        let settings = ["upstream.profile=app-configuration", "upstream.credential.kind=none"];
        let sidecar = Sidecar::start(address, clock.clone(), &settings).await;
        Self { sidecar, counts, clock }
    }

    async fn caller(&self) -> Caller {
        self.sidecar.caller().await
    }

    /// How many requests have reached the emulator.
    fn asked(&self) -> u64 {
        self.counts.report()["total"].as_u64().unwrap()
    }
}

const V: &str = "api-version=2026-04-01";
/// A second after [`START`].
const BETWEEN: &str = "Fri, 21 Nov 2025 10:00:01 GMT";

/// A write in the short form.
fn put(target: &str, fields: &str, body: &str) -> String {
    format!("PUT {target}?{V}\nContent-Type: application/json{fields}\n\n{body}")
}

fn has_one_well_formed_token(answer: &Response, what: &str) {
    let lines = answer.head.lines("sync-token");
    let [line] = lines[..] else { panic!("{what}: {lines:?}") };
    assert!(!line.contains(' '), "{what}: {line:?}");
    for token in line.split(',') {
        let number = token.split_once('=').and_then(|(_, rest)| rest.rsplit_once(";sn="));
        assert!(number.is_some_and(|(_, sn)| sn.parse::<u64>().is_ok()), "{what}: {line:?}");
    }
}

#[tokio::test]
async fn every_answer_carries_one_token_line_and_ids_of_its_own() {
    let scene = Scene::start().await;
    let mut caller = scene.caller().await;
    let first = caller.send(&put("/kv/a", "", r#"{"value":"1"}"#)).await;
    scene.clock.advance(Duration::from_secs(2));
    let tag = first.field("etag").unwrap().to_owned();
    let steps = [
        (200, format!("GET /kv/a?{V}"), "read"),
        (200, format!("GET /kv/a?{V}"), "hit"),
        (304, format!("GET /kv/a?{V}\nIf-None-Match: {tag}"), "304 from the store"),
        (
            304,
            format!("GET /kv/a?{V}\nIf-None-Match: {tag}\nCache-Control: no-cache"),
            "304 after validation",
        ),
        (200, format!("HEAD /kv/a?{V}"), "HEAD"),
        (412, format!("GET /kv/a?{V}\nIf-Match: \"other\""), "412 to a read"),
        (404, format!("GET /kv/missing?{V}"), "404"),
        (404, format!("GET /kv/missing?{V}"), "404 from the store"),
        (412, put("/kv/a", "\nIf-None-Match: *", r#"{"value":"2"}"#), "412 to a write"),
        (200, put("/locks/a", "", ""), "lock"),
        (409, put("/kv/a", "", r#"{"value":"3"}"#), "409"),
        (200, format!("DELETE /locks/a?{V}"), "unlock"),
        (200, format!("DELETE /kv/a?{V}"), "delete"),
        (204, format!("DELETE /kv/a?{V}"), "delete nothing"),
        (400, format!("GET /kv?{V}&key=a*b"), "refused by the origin"),
        (400, "GET /kv/a".to_owned(), "without api-version"),
        (405, format!("POST /kv/a?{V}\n\n{{}}"), "method"),
        (200, format!("GET /kv/a?{V}\nAccept-Datetime: {BETWEEN}"), "time travel"),
        (206, format!("GET /revisions?{V}\nRange: items=0-0"), "items"),
        (504, format!("GET /kv/never?{V}\nCache-Control: only-if-cached"), "our own 504"),
        (400, format!("GET /kv/a?{V}\n\nbody"), "our own 400"),
        (404, format!("GET /not-of-the-api?{V}"), "unknown path"),
    ];
    let mut ids = vec![first.field("x-ms-request-id").unwrap().to_owned()];
    for (status, request, what) in steps {
        let answer = scene.caller().await.send(&request).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        has_one_well_formed_token(&answer, what);
        let id = answer.field("x-ms-request-id").unwrap_or_else(|| panic!("{what}: {answer:?}"));
        assert!(answer.field("x-ms-correlation-request-id").is_some(), "{what}");
        assert!(!ids.iter().any(|known| known == id), "{what}: {id} was given before");
        ids.push(id.to_owned());
    }
}

#[tokio::test]
async fn callers_get_their_own_ids_back_from_the_store_too() {
    let scene = Scene::start().await;
    let mut caller = scene.caller().await;
    caller.send(&put("/kv/a", "", r#"{"value":"1"}"#)).await;
    for turn in ["first", "second"] {
        let request = format!(
            "GET /kv/a?{V}\nx-ms-client-request-id: c-{turn}\nx-ms-return-client-request-id: true\n\
             x-ms-correlation-request-id: k-{turn}"
        );
        let answer = caller.send(&request).await;
        assert_eq!(answer.is_hit(), turn == "second");
        assert_eq!(answer.field("x-ms-client-request-id"), Some(format!("c-{turn}").as_str()));
        assert_eq!(answer.field("x-ms-correlation-request-id"), Some(format!("k-{turn}").as_str()));
    }
}

/// A repeated request within one second is answered from a copy of the previous answer.
#[tokio::test]
async fn a_repeated_request_gets_new_ids() {
    let scene = Scene::start().await;
    let mut callers = [scene.caller().await, scene.caller().await];
    callers[0].send(&put("/kv/a", "", r#"{"value":"1"}"#)).await;
    for (fields, correlation_id) in [("", None), ("\nx-ms-correlation-request-id: k", Some("k"))] {
        let mut ids = Vec::new();
        for turn in 0..8 {
            let answer = callers[turn % 2].send(&format!("GET /kv/a?{V}{fields}")).await;
            assert!(answer.is_hit() || ids.is_empty(), "{turn}: {answer:?}");
            has_one_well_formed_token(&answer, "again");
            let id = answer.field("x-ms-request-id").unwrap().to_owned();
            let expected = correlation_id.unwrap_or(&id);
            assert_eq!(answer.head.lines("x-ms-correlation-request-id"), [expected], "{turn}");
            assert!(!ids.contains(&id), "{turn}: {id} was given before");
            ids.push(id);
        }
    }
}

#[tokio::test]
async fn a_repeated_request_sees_every_change() {
    let scene = Scene::start().await;
    let (mut reader, mut writer) = (scene.caller().await, scene.caller().await);
    let request = format!("GET /kv/a?{V}");
    for value in 0..5 {
        let body = format!(r#"{{"value":"{value}"}}"#);
        writer.send(&put("/kv/a", "", &body)).await;
        for turn in 0..4 {
            let answer = reader.send(&request).await;
            let shown: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(shown["value"], value.to_string(), "after the write, turn {turn}");
            assert_eq!(answer.is_hit(), turn > 0, "{answer:?}");
        }
    }
    for age in ["0", "1", "2"] {
        for turn in 0..4 {
            assert_eq!(reader.send(&request).await.field("age"), Some(age), "turn {turn}");
        }
        scene.clock.advance(Duration::from_secs(1));
    }
    scene.clock.advance(Duration::from_secs(27));
    assert!(!reader.send(&request).await.is_hit(), "the lifetime of 30 s is over");
    assert!(reader.send(&request).await.is_hit());
    writer.send(&put("/kv/b", "", r#"{"value":"1"}"#)).await;
    let answer = reader.send(&request).await;
    assert!(answer.is_hit(), "a write to another key does not outdate this one: {answer:?}");
}

#[tokio::test]
async fn pages_keep_link_and_tag_in_every_kind_of_answer() {
    let scene = Scene::start().await;
    let mut caller = scene.caller().await;
    for number in 0..101 {
        caller.send(&put(&format!("/kv/p{number:03}"), "", r#"{"value":"1"}"#)).await;
    }
    let list = format!("/kv?{V}&key=p*");
    let page = caller.send(&format!("GET {list}")).await;
    let (link, tag) = (page.field("link").unwrap(), page.field("etag").unwrap());
    let body: serde_json::Value = serde_json::from_slice(&page.body).unwrap();
    assert_eq!(body["etag"].as_str(), Some(tag.trim_matches('"')));
    let next = body["@nextLink"].as_str().unwrap();
    assert_eq!(link, format!("<{next}>; rel=\"next\""));
    assert!(!next.contains("?after="), "the JavaScript SDK throws if `after` is first: {next}");
    let asked = scene.asked();
    for (request, status) in [
        (format!("GET {list}"), 200),
        (format!("GET {list}\nIf-None-Match: {tag}"), 304),
        (format!("HEAD {list}"), 200),
        (format!("HEAD {list}\nIf-None-Match: {tag}"), 304),
        // The Python SDK sends `Content-Length: 0` with reads.
        (format!("GET {list}\nContent-Length: 0"), 200),
    ] {
        let answer = caller.send(&request).await;
        assert_eq!((answer.status, answer.is_hit()), (status, true), "{request}");
        assert_eq!((answer.field("link"), answer.field("etag")), (Some(link), Some(tag)), "{request}");
    }
    assert_eq!(scene.asked(), asked, "every answer comes from the store");
    // A validated page: the origin's 304 has a `Link`, so a 304 that the sidecar makes from the stored 200 must have it
    // too.
    scene.clock.advance(Duration::from_secs(31));
    let validated = caller.send(&format!("GET {list}\nIf-None-Match: {tag}")).await;
    assert_eq!((validated.status, validated.cache_status().fwd.as_deref()), (304, Some("stale")));
    assert_eq!((validated.field("link"), validated.field("etag")), (Some(link), Some(tag)));
    let last = caller.send(&format!("GET {next}")).await;
    assert_eq!((last.status, last.field("link")), (200, None));
}

#[tokio::test]
async fn the_operation_of_a_snapshot_is_reached_through_the_sidecar() {
    let scene = Scene::start().await;
    let mut caller = scene.caller().await;
    caller.send(&put("/kv/a", "", r#"{"value":"1"}"#)).await;
    let created = caller.send(&put("/snapshots/s%201", "", r#"{"filters":[{"key":"a"}]}"#)).await;
    assert_eq!(created.status, 201, "{created:?}");
    let operation = created.field("operation-location").unwrap();
    let target = operation.strip_prefix(&format!("http://{}", scene.sidecar.address));
    let target = target.unwrap_or_else(|| panic!("{operation} leads away from the sidecar"));
    let status = caller.send(&format!("GET {target}")).await;
    assert_eq!((status.status, status.cache_status().detail.as_deref()), (200, Some("uncached-path")));
    has_one_well_formed_token(&status, "operation");
}

#[tokio::test]
async fn an_answer_with_accept_datetime_is_neither_stored_nor_taken_from_the_store() {
    let scene = Scene::start().await;
    let mut caller = scene.caller().await;
    caller.send(&put("/kv/a", "", r#"{"value":"before"}"#)).await;
    scene.clock.advance(Duration::from_secs(2));
    caller.send(&put("/kv/a", "", r#"{"value":"after"}"#)).await;
    let value = |answer: &Response| {
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        body["value"].as_str().unwrap().to_owned()
    };
    for _ in 0..2 {
        assert_eq!(value(&caller.send(&format!("GET /kv/a?{V}")).await), "after");
        let past = caller.send(&format!("GET /kv/a?{V}\nAccept-Datetime: {BETWEEN}")).await;
        assert_eq!(value(&past), "before");
        assert_eq!(past.cache_status().fwd.as_deref(), Some("bypass"));
        assert!(past.field("memento-datetime").is_some(), "{past:?}");
    }
}
