use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;
use crate::clock::Timestamp;
use crate::emulator::change::ChangeKind;
use crate::profile::app_configuration::key_value::{KeyValue, KeyValueContent, KeyValueId};

/// A request that the webhook received, and the way to answer it.
type Received = (Request<Bytes>, tokio::sync::oneshot::Sender<http::Response<Full<Bytes>>>);

/// A webhook on loopback. It answers nothing by itself: the test takes each request and answers it.
async fn webhook() -> (Uri, mpsc::UnboundedReceiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let sender = sender.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let content = body.collect().await?.to_bytes();
                    let (answer, answered) = tokio::sync::oneshot::channel();
                    let _test_may_have_ended = sender.send((Request::from_parts(head, content), answer));
                    Ok::<_, hyper::Error>(answered.await.unwrap_or_default())
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (uri, receiver)
}

fn answer(status: u16, content: &str) -> http::Response<Full<Bytes>> {
    let content = Full::new(Bytes::copy_from_slice(content.as_bytes()));
    http::Response::builder().status(status).body(content).unwrap()
}

fn change(sequence_number: u64) -> Arc<StateChange> {
    let key_value = KeyValue {
        id: KeyValueId::new("k", None),
        etag: "e".into(),
        content: KeyValueContent::default(),
        locked: false,
        last_modified: Timestamp::from_unix_seconds(0),
    };
    let kind = ChangeKind::KeyValueModified(Arc::new(key_value));
    Arc::new(StateChange { sequence_number, at: Timestamp::from_unix_seconds(0), kind })
}

/// Starts a delivery and returns the sender of its changes.
fn started(
    webhook: &Uri,
    schema: EventSchema,
) -> (mpsc::UnboundedSender<Arc<StateChange>>, Confirmation, tokio::task::JoinHandle<()>) {
    let confirmation = Confirmation::new("code-1".to_owned());
    let delivery = Delivery {
        webhook: webhook.clone(),
        schema,
        source: EventSource { endpoint: "http://127.0.0.1:8483".to_owned(), seed: 1 },
        confirmation: confirmation.clone(),
        callback: "http://127.0.0.1:8486".to_owned(),
        clock: Clock::manual(Timestamp::from_unix_seconds(0)),
    };
    let (sender, receiver) = mpsc::unbounded_channel();
    let token_of =
        |change: Arc<StateChange>| async move { Some(format!("id=v;sn={}", change.sequence_number)) };
    (sender, confirmation, tokio::spawn(delivery.run(receiver, token_of)))
}

/// The token in a delivered Event Grid notification, which identifies the change.
fn token_in(request: &Request<Bytes>) -> String {
    assert_eq!(request.headers()["aeg-event-type"], "Notification");
    let events: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(events.as_array().map(Vec::len), Some(1));
    events[0]["data"]["syncToken"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn events_follow_consent_in_order_and_are_retried() {
    let (uri, mut received) = webhook().await;
    let (changes, _, task) = started(&uri, EventSchema::EventGrid);
    (1..=3).for_each(|number| changes.send(change(number)).unwrap());

    let (question, reply) = received.recv().await.unwrap();
    assert_eq!(question.headers()["aeg-event-type"], "SubscriptionValidation");
    let asked: Value = serde_json::from_slice(question.body()).unwrap();
    assert_eq!(asked[0]["data"]["validationCode"], "code-1");
    reply.send(answer(202, "")).unwrap();
    let (question, reply) = received.recv().await.unwrap();
    assert_eq!(question.headers()["aeg-event-type"], "SubscriptionValidation", "202 is no consent");
    reply.send(answer(200, r#"{"validationResponse":"code-1"}"#)).unwrap();

    let (first, reply) = received.recv().await.unwrap();
    assert_eq!(token_in(&first), "id=v;sn=1");
    reply.send(answer(503, "")).unwrap();
    let (again, reply) = received.recv().await.unwrap();
    assert_eq!((token_in(&again), again.body()), (token_in(&first), first.body()));
    assert_eq!(again.headers()["aeg-delivery-count"], "1");
    reply.send(answer(200, "")).unwrap();
    let (second, reply) = received.recv().await.unwrap();
    assert_eq!(token_in(&second), "id=v;sn=2");
    reply.send(answer(400, "")).unwrap();
    let (third, reply) = received.recv().await.unwrap();
    assert_eq!(token_in(&third), "id=v;sn=3", "400 is not retried");
    reply.send(answer(204, "")).unwrap();
    drop(changes);
    task.await.unwrap();
}

#[tokio::test]
async fn cloud_events_ask_with_options_and_come_one_by_one() {
    let (uri, mut received) = webhook().await;
    let (changes, _, task) = started(&uri, EventSchema::CloudEvents);
    let (question, reply) = received.recv().await.unwrap();
    assert_eq!(question.method(), Method::OPTIONS);
    let mut consent = answer(200, "");
    consent
        .headers_mut()
        .insert("webhook-allowed-origin", question.headers()["webhook-request-origin"].clone());
    reply.send(consent).unwrap();
    changes.send(change(5)).unwrap();
    let (event, reply) = received.recv().await.unwrap();
    assert_eq!(event.headers()[CONTENT_TYPE], "application/cloudevents+json; charset=utf-8");
    let event: Value = serde_json::from_slice(event.body()).unwrap();
    assert_eq!(event["data"]["syncToken"], "id=v;sn=5");
    reply.send(answer(200, "")).unwrap();
    drop(changes);
    task.await.unwrap();
}

#[tokio::test]
async fn a_confirmation_over_the_admin_port_is_consent() {
    let (uri, mut received) = webhook().await;
    let (changes, confirmation, task) = started(&uri, EventSchema::EventGrid);
    let (_, unanswered) = received.recv().await.unwrap();
    assert!(confirmation.confirm("code-1"));
    changes.send(change(1)).unwrap();
    let (event, reply) = received.recv().await.unwrap();
    assert_eq!(token_in(&event), "id=v;sn=1");
    reply.send(answer(200, "")).unwrap();
    drop(unanswered);
    drop(changes);
    task.await.unwrap();
}

#[tokio::test]
async fn the_queue_is_bounded_and_keeps_the_newest_events() {
    let (changes, mut receiver) = mpsc::unbounded_channel();
    let excess = 5;
    (0..MAXIMUM_WAITING as u64 + excess).for_each(|number| changes.send(change(number)).unwrap());
    let mut waiting = VecDeque::new();
    // The work ends after every change has been received.
    let taken = std::cell::Cell::new(0);
    let work = std::future::poll_fn(|context| {
        taken.set(taken.get() + 1);
        context.waker().wake_by_ref();
        if taken.get() > 4 * MAXIMUM_WAITING { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    meanwhile(work, &mut receiver, &mut waiting).await;
    assert_eq!(waiting.len(), MAXIMUM_WAITING);
    assert_eq!(waiting.front().unwrap().sequence_number, excess);
}

#[test]
fn only_http_on_this_machine_can_be_a_webhook() {
    for good in ["http://127.0.0.1:9000/x", "http://localhost/x", "http://[::1]:9000/", "http://127.9.9.9"] {
        assert!(parse_webhook(good).is_ok(), "{good}");
    }
    for bad in
        ["https://127.0.0.1/", "http://192.0.2.1/", "http://example.com", "/x", "", "http://u@127.0.0.1/"]
    {
        let error = parse_webhook(bad).unwrap_err().to_string();
        assert!(error.contains("for example"), "{bad}");
    }
}

#[test]
fn outcomes_follow_event_grid() {
    for (status, expected) in [
        (200, DeliveryOutcome::Delivered),
        (204, DeliveryOutcome::Delivered),
        (404, DeliveryOutcome::RefusedForGood),
    ] {
        assert_eq!(outcome(StatusCode::from_u16(status).unwrap()), expected);
    }
    for status in [302, 408, 429, 500, 503] {
        assert_eq!(outcome(StatusCode::from_u16(status).unwrap()), DeliveryOutcome::Failed);
    }
}
