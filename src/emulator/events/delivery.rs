//! Delivery of events. The webhook consents first. Then each event is one request, in the order of changes; it is
//! retried until it succeeds, is refused with a final status, or reaches the limit of attempts. The queue is bounded:
//! when it is full, the oldest event is dropped.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;

use super::handshake::{Confirmation, consents, question};
use super::{EventSchema, EventSource};
use crate::clock::Clock;
use crate::emulator::change::StateChange;

/// The maximum number of events that wait for delivery.
const MAXIMUM_WAITING: usize = 10_000;
/// Event Grid gives a webhook 30 seconds to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The limit of Event Grid.
const MAXIMUM_TRIES: u32 = 30;
/// A longer handshake answer is no consent.
const MAXIMUM_ANSWER_BYTES: usize = 64 * 1024;

/// The URL cannot be a webhook of the emulator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' cannot receive events; give an http URL on this machine, for example http://127.0.0.1:9000/events"
)]
pub struct WebhookError(String);

/// Parses the URL of a webhook. It must be http with a loopback address or `localhost`, so that the changes of a store
/// stay on this machine.
pub fn parse_webhook(text: &str) -> Result<Uri, WebhookError> {
    let fail = || WebhookError(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| fail())?;
    let host = uri.host().ok_or_else(fail)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let has_credentials = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if uri.scheme_str() == Some("http") && loopback && !has_credentials { Ok(uri) } else { Err(fail()) }
}

/// Sends the events of one emulator to one webhook.
#[derive(Debug)]
pub struct Delivery {
    /// The webhook.
    pub webhook: Uri,
    /// The schema of events.
    pub schema: EventSchema,
    /// The origin that events name.
    pub source: EventSource,
    /// The webhook's consent that comes over the admin port.
    pub confirmation: Confirmation,
    /// Base URL of the admin port.
    pub callback: String,
    /// The time of the handshake.
    pub clock: Clock,
}

/// The result of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeliveryOutcome {
    Delivered,
    /// The attempt may succeed later.
    Failed,
    /// A final status: like Event Grid, the emulator does not retry after 400, 401, 403, 404 and 413.
    RefusedForGood,
}

impl Delivery {
    /// Delivers events until the sender of changes is dropped and the queue is empty. Drop the future to stop earlier.
    /// `token_of` waits until a change may be announced and gives the token that asks for the state after it, or `None`
    /// if the change must not be announced.
    pub async fn run<T, F>(self, mut changes: mpsc::UnboundedReceiver<Arc<StateChange>>, token_of: T)
    where
        T: Fn(Arc<StateChange>) -> F,
        F: Future<Output = Option<String>>,
    {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut waiting = VecDeque::new();
        meanwhile(self.agree(&client), &mut changes, &mut waiting).await;
        loop {
            let Some(change) = waiting.pop_front() else {
                match changes.recv().await {
                    Some(change) => waiting.push_back(change),
                    None => return,
                }
                continue;
            };
            let deliver = async {
                let Some(sync_token) = token_of(Arc::clone(&change)).await else { return };
                let event = self.source.event(&change, &sync_token, self.schema);
                self.deliver(&client, Bytes::from(event.to_string())).await;
            };
            meanwhile(deliver, &mut changes, &mut waiting).await;
        }
    }

    /// Repeats the handshake until the webhook consents, by its answer or over the admin port.
    async fn agree(&self, client: &Client<HttpConnector, Full<Bytes>>) {
        let ask = async {
            let id = uuid::Uuid::from_u64_pair(self.source.seed, 0).to_string();
            let mut pause = FIRST_PAUSE;
            loop {
                let now = self.clock.now();
                let request =
                    question(self.schema, &self.webhook, &self.confirmation, &self.callback, &id, now);
                if self.asked(client, request).await {
                    return;
                }
                tracing::info!(webhook = %self.webhook, "the webhook has not consented to events; asking again; let it answer the handshake, or open the confirmation address");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        tokio::select! {
            () = ask => {}
            () = self.confirmation.confirmed() => {}
        }
    }

    async fn asked(
        &self,
        client: &Client<HttpConnector, Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> bool {
        let answered = async {
            let (head, body) = client.request(request).await.ok()?.into_parts();
            let content = Limited::new(body, MAXIMUM_ANSWER_BYTES).collect().await.ok()?.to_bytes();
            Some(consents(self.schema, &self.confirmation, head.status, &head.headers, &content))
        };
        matches!(tokio::time::timeout(ANSWER_LIMIT, answered).await, Ok(Some(true)))
    }

    async fn deliver(&self, client: &Client<HttpConnector, Full<Bytes>>, event: Bytes) {
        let mut pause = FIRST_PAUSE;
        for tried in 0..MAXIMUM_TRIES {
            match self.try_once(client, event.clone(), tried).await {
                DeliveryOutcome::Delivered => return,
                DeliveryOutcome::RefusedForGood => break,
                DeliveryOutcome::Failed => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        tracing::warn!(webhook = %self.webhook, "an event could not be delivered and is dropped; check that the webhook answers 200");
    }

    async fn try_once(
        &self,
        client: &Client<HttpConnector, Full<Bytes>>,
        event: Bytes,
        tried: u32,
    ) -> DeliveryOutcome {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.webhook.clone())
            .header(CONTENT_TYPE, self.schema.media_type())
            .header("aeg-event-type", "Notification")
            .header("aeg-delivery-count", tried)
            .body(Full::new(event))
            .unwrap_or_default();
        match tokio::time::timeout(ANSWER_LIMIT, client.request(request)).await {
            Ok(Ok(answer)) => outcome(answer.status()),
            Ok(Err(_)) | Err(_) => DeliveryOutcome::Failed,
        }
    }
}

fn outcome(status: StatusCode) -> DeliveryOutcome {
    match status.as_u16() {
        200..=204 => DeliveryOutcome::Delivered,
        400 | 401 | 403 | 404 | 413 => DeliveryOutcome::RefusedForGood,
        _ => DeliveryOutcome::Failed,
    }
}

/// Completes the work and receives changes meanwhile, so that the channel does not grow without a bound.
async fn meanwhile(
    work: impl Future<Output = ()>,
    changes: &mut mpsc::UnboundedReceiver<Arc<StateChange>>,
    waiting: &mut VecDeque<Arc<StateChange>>,
) {
    let mut work = std::pin::pin!(work);
    let mut dropped = 0_u64;
    loop {
        tokio::select! {
            () = &mut work => return,
            change = changes.recv() => {
                let Some(change) = change else { break };
                if waiting.len() >= MAXIMUM_WAITING {
                    waiting.pop_front();
                    dropped += 1;
                    if dropped.is_power_of_two() {
                        tracing::warn!(dropped, "the oldest events are dropped; make the webhook answer faster");
                    }
                }
                waiting.push_back(change);
            }
        }
    }
    work.await;
}

#[cfg(test)]
mod tests;
