//! Adds faults and counts to the [`Emulator`].

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use percent_encoding::percent_decode_str;

use super::Emulator;
use super::counts::Counts;
use super::faults::act::{Faults, act};
use super::faults::body::{FaultyBody, Severed};
use super::faults::severable::Severance;
use super::faults::{Fault, RequestFacts};
use super::origin::REQUEST_ID;
use super::serve::BoxError;
use crate::clock::Clock;

/// More than the limit of a request body: a longer body is cut here, and the emulator refuses it as too large.
const MAXIMUM_HELD_BODY_BYTES: usize = 64 * 1024;

/// The service of the emulator's connections. Clones are cheap and share the emulator.
#[derive(Clone)]
pub struct Service {
    emulator: Emulator,
    faults: Arc<Faults>,
    counts: Arc<Counts>,
    clock: Clock,
}

impl Service {
    /// A service that applies these faults to an emulator.
    pub fn new(emulator: Emulator, faults: Arc<Faults>, counts: Arc<Counts>, clock: Clock) -> Self {
        Self { emulator, faults, counts, clock }
    }

    /// The emulator.
    pub fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// Answers one request. A [`Severance`] in its extensions cuts its connection.
    ///
    /// # Errors
    /// [`Severed`] when a fault ends the connection without an answer.
    pub async fn answer<B>(&self, request: Request<B>) -> Result<Response<FaultyBody>, Severed>
    where
        B: Body<Error: Into<BoxError>>,
    {
        let kind = (request.method().clone(), request.uri().clone());
        let answered = match self.fault_of(&request) {
            None => Ok(self.emulator.respond(request).await.map(FaultyBody::sound)),
            Some(fault) => self.spoiled(request, fault).await,
        };
        self.counts.add(&kind.0, kind.1.path(), answered.as_ref().ok().map(Response::status));
        answered
    }

    fn fault_of<B>(&self, request: &Request<B>) -> Option<Fault> {
        if !self.faults.are_planned() {
            return None;
        }
        let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
        let facts = RequestFacts { method: request.method(), path: &path };
        Some(self.faults.decide(facts, self.clock.now())).filter(|fault| !fault.is_none())
    }

    async fn spoiled(
        &self,
        request: Request<impl Body>,
        fault: Fault,
    ) -> Result<Response<FaultyBody>, Severed> {
        let (head, body) = request.into_parts();
        // The body is read first, because the connection may be closed when a delayed write is applied.
        let body = held(body).await;
        let severance = head.extensions.get::<Severance>().cloned();
        let fields = head.headers.clone();
        let is_head = head.method == Method::HEAD;
        let emulator = self.emulator.clone();
        let carried_out = async move { emulator.respond(Request::from_parts(head, Full::new(body))).await };
        let mut answer = act(fault, severance, is_head, carried_out).await?;
        self.identify(&fields, answer.headers_mut());
        Ok(answer)
    }

    /// Adds the ids of the request to an answer that a fault made.
    fn identify(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        if !answer.contains_key(REQUEST_ID) {
            self.emulator.identify(request, answer);
        }
    }
}

/// Reads a body into memory. A body that fails is cut at the failure.
async fn held<B: Body>(body: B) -> Bytes {
    let mut body = std::pin::pin!(body);
    let mut content = BytesMut::new();
    while let Some(Ok(frame)) = body.as_mut().frame().await {
        if let Ok(mut data) = frame.into_data() {
            bytes::BufMut::put(&mut content, &mut data);
        }
        if content.len() > MAXIMUM_HELD_BODY_BYTES {
            break;
        }
    }
    content.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::emulator::EmulatorSettings;
    use crate::emulator::faults::document::PlanDocument;
    use crate::emulator::journal::{Journal, JournalOptions};

    fn service(rules: &[&str], journal: Option<Arc<Journal>>) -> Service {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000_000));
        let emulator = Emulator::new(EmulatorSettings::default(), clock.clone(), 1);
        if let Some(journal) = journal {
            emulator.set_recorder(journal);
        }
        let plan = PlanDocument::from_words(rules.iter().copied()).unwrap();
        Service::new(emulator, Arc::new(Faults::new(plan, 1)), Arc::default(), clock)
    }

    async fn put(service: &Service, key: &str) -> Result<Response<FaultyBody>, Severed> {
        let request = Request::put(format!("/kv/{key}?api-version=2023-11-01"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(b"{\"value\":\"1\"}")));
        service.answer(request.unwrap()).await
    }

    async fn get(service: &Service, key: &str) -> u16 {
        let request =
            Request::get(format!("/kv/{key}?api-version=2023-11-01")).body(Full::<Bytes>::default());
        service.answer(request.unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn answers_are_counted_by_what_the_client_got() {
        let service = service(&["throttle path=/kv/b"], None);
        put(&service, "a").await.unwrap();
        assert_eq!(get(&service, "a").await, 200);
        assert_eq!(get(&service, "%62").await, 429, "paths are compared decoded");
        let counted = service.counts.report();
        assert_eq!(counted["requests"]["GET /kv/{key}"], serde_json::json!({"200": 1, "429": 1}));
        assert_eq!(counted["requests"]["PUT /kv/{key}"], serde_json::json!({"200": 1}));
    }

    #[tokio::test]
    async fn a_dropped_connection_counts_as_none() {
        let service = service(&["write answer=lost"], None);
        assert_eq!(put(&service, "a").await.unwrap_err(), Severed);
        assert_eq!(service.counts.report()["requests"]["PUT /kv/{key}"], serde_json::json!({"none": 1}));
        assert_eq!(get(&service, "a").await, 200, "the write took effect");
    }

    #[tokio::test]
    async fn refusals_have_request_ids_too() {
        let service = service(&["unavailable"], None);
        let answer = put(&service, "a").await.unwrap();
        assert!(answer.headers().contains_key(REQUEST_ID));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_applied_after_its_caller_got_a_failure() {
        let service = service(&["write answer=unavailable applied_after=1s"], None);
        assert_eq!(put(&service, "a").await.unwrap().status(), 503);
        assert_eq!(get(&service, "a").await, 404);
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert_eq!(get(&service, "a").await, 200);
    }

    #[tokio::test]
    async fn an_answered_write_is_in_the_journal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let options = JournalOptions::new(std::time::Duration::from_secs(60));
        let journal = Arc::new(Journal::open(&path, options).unwrap().journal);
        let service = service(&[], Some(journal));
        for key in ["a", "b", "c"] {
            assert_eq!(put(&service, key).await.unwrap().status(), 200);
        }
        // The copy has the content that a kill of the process would leave.
        let copy = directory.path().join("copy");
        std::fs::copy(&path, &copy).unwrap();
        let opened = Journal::open(&copy, options).unwrap();
        let again = self::service(&[], None);
        again.emulator.restore(&opened.changes);
        for key in ["a", "b", "c"] {
            assert_eq!(get(&again, key).await, 200);
        }
        assert_eq!(again.emulator.sequence_number(), 3);
    }
}
