//! Carries out a [`Fault`]: waits, refuses, cuts the connection, or applies a write whose caller gets no true answer.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::body::{FaultyBody, Severed};
use super::document::PlanDocument;
use super::head::spoil_head;
use super::severable::Severance;
use super::{Fault, FaultPlan, Interruption, LostAnswer, Refusal, RequestFacts};
use crate::clock::Timestamp;

/// How long a client should wait, in milliseconds.
pub const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The plan in force, shared by the service and the admin port.
#[derive(Debug)]
pub struct Faults {
    /// False while the plan is empty, so that requests then take no lock.
    planned: AtomicBool,
    state: Mutex<(FaultPlan, fastrand::Rng)>,
}

impl Faults {
    /// The plan that is in force from the start, with the seed of its random source.
    pub fn new(document: PlanDocument, seed: u64) -> Self {
        let plan = FaultPlan::new(document);
        let planned = AtomicBool::new(!plan.is_empty());
        Self { planned, state: Mutex::new((plan, fastrand::Rng::with_seed(seed))) }
    }

    /// Replaces the plan. The counts of rules start from zero; the random source continues.
    pub fn replace(&self, document: PlanDocument) {
        let plan = FaultPlan::new(document);
        let mut state = self.lock();
        self.planned.store(!plan.is_empty(), Ordering::Release);
        state.0 = plan;
    }

    /// Whether the plan has any rule. Takes no lock.
    pub fn are_planned(&self) -> bool {
        self.planned.load(Ordering::Acquire)
    }

    /// The fault of this request. Counts the request, so call it once for each.
    pub fn decide(&self, request: RequestFacts<'_>, now: Timestamp) -> Fault {
        if !self.are_planned() {
            return Fault::default();
        }
        let (plan, rng) = &mut *self.lock();
        plan.decide(request, now, rng)
    }

    /// See [`FaultPlan::report`].
    pub fn report(&self) -> Value {
        self.lock().0.report()
    }

    fn lock(&self) -> MutexGuard<'_, (FaultPlan, fastrand::Rng)> {
        // No panic can leave the plan half changed, so the content of a poisoned lock is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a request with its fault. `severance` cuts the connection within the head; without one the connection ends
/// before the head. The answer to a HEAD has no body, so body faults do not apply.
///
/// # Errors
/// [`Severed`] when the connection must end without an answer.
pub async fn act<F>(
    fault: Fault,
    severance: Option<Severance>,
    is_head: bool,
    carried_out: F,
) -> Result<Response<FaultyBody>, Severed>
where
    F: Future<Output = Response<Bytes>> + Send + 'static,
{
    if !fault.delay.is_zero() {
        tokio::time::sleep(fault.delay).await;
    }
    let answer = match fault.interruption {
        None => carried_out.await,
        Some(Interruption::Refuse(refusal)) => refused(&refusal),
        Some(Interruption::DropBeforeHead) => return Err(Severed),
        Some(Interruption::DropWithinHead { after_bytes }) => {
            let answer = carried_out.await;
            severance.ok_or(Severed)?.cut_after(after_bytes);
            answer
        }
        Some(Interruption::Write { answer, applied_after }) => {
            let told = if let Some(applied_after) = applied_after {
                tokio::spawn(async move {
                    tokio::time::sleep(applied_after).await;
                    carried_out.await;
                });
                None
            } else {
                Some(carried_out.await)
            };
            match (answer, told) {
                (LostAnswer::Late(delay), Some(told)) => {
                    tokio::time::sleep(delay).await;
                    told
                }
                (LostAnswer::Refused(refusal), _) => refused(&refusal),
                (LostAnswer::Nothing | LostAnswer::Late(_), _) => return Err(Severed),
            }
        }
    };
    let (mut head, content) = answer.into_parts();
    spoil_head(&fault.head, head.status, &mut head.headers);
    let body = if is_head { FaultyBody::sound(Bytes::new()) } else { FaultyBody::new(content, fault.body) };
    Ok(Response::from_parts(head, body))
}

/// The answer to a request that is not carried out. As at App Configuration, 429 has a problem document and 5xx has no
/// body.
fn refused(refusal: &Refusal) -> Response<Bytes> {
    let content = if refusal.status == 429 {
        let problem = serde_json::json!({
            "type": "https://azconfig.io/errors/too-many-requests",
            "title": "Resource utilization has surpassed the assigned quota",
            "policy": refusal.policy.as_str(),
            "status": 429,
        });
        Bytes::from(problem.to_string())
    } else {
        Bytes::new()
    };
    let has_content = !content.is_empty();
    let mut answer = Response::new(content);
    *answer.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    if has_content {
        let problem_json = HeaderValue::from_static("application/problem+json; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, problem_json);
    }
    if let Some(wait) = refusal.retry_after {
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        answer.headers_mut().insert(RETRY_AFTER_MS, HeaderValue::from(milliseconds));
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use http::Method;
    use http_body_util::BodyExt as _;

    use super::*;

    /// The answer to one PUT under these rules, and how often the PUT was carried out: at the time of the answer, and
    /// in total.
    async fn met(words: &[&str]) -> (Result<Response<FaultyBody>, Severed>, usize, usize) {
        let faults = Faults::new(PlanDocument::from_words(words.iter().copied()).unwrap(), 1);
        let facts = RequestFacts { method: &Method::PUT, path: "/kv/a" };
        let fault = faults.decide(facts, Timestamp::from_unix_seconds(90));
        let carried_out = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&carried_out);
        let answer = act(fault, None, false, async move {
            counter.fetch_add(1, Ordering::SeqCst);
            Response::new(Bytes::from_static(b"true answer"))
        })
        .await;
        let at_once = carried_out.load(Ordering::SeqCst);
        // Paused time: this advances past every timer and does not wait.
        tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
        (answer, at_once, carried_out.load(Ordering::SeqCst))
    }

    async fn text(answer: Result<Response<FaultyBody>, Severed>) -> (u16, String) {
        let answer = answer.unwrap();
        let status = answer.status().as_u16();
        let content = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(content.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_fault_the_answer_is_unchanged() {
        let (answer, at_once, _) = met(&[]).await;
        assert_eq!((text(answer).await, at_once), ((200, "true answer".to_owned()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_request_is_not_carried_out_and_its_answer_says_when_to_retry() {
        let (answer, _, in_the_end) = met(&["throttle quota=0 per=60s"]).await;
        let fields = answer.as_ref().unwrap().headers().clone();
        assert_eq!(fields[RETRY_AFTER_MS], "30000");
        assert_eq!(fields[CONTENT_TYPE], "application/problem+json; charset=utf-8");
        let (status, problem) = text(answer).await;
        assert_eq!((status, in_the_end), (429, 0));
        assert!(problem.contains("\"policy\":\"Total Requests\""), "{problem}");
        for (policy, written) in [
            ("total-requests", "Total Requests"),
            ("total-bandwidth", "Total Bandwidth"),
            ("storage", "Storage"),
        ] {
            let (answer, ..) = met(&[&format!("throttle policy={policy}")]).await;
            let problem: Value = serde_json::from_str(&text(answer).await.1).unwrap();
            assert_eq!((&problem["policy"], &problem["status"]), (&written.into(), &429.into()));
        }
        let (bare, ..) = met(&["throttle retry_after=none"]).await;
        assert!(!bare.unwrap().headers().contains_key(RETRY_AFTER_MS));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unavailable_origin_carries_nothing_out() {
        let (answer, _, in_the_end) = met(&["unavailable retry_after=20ms"]).await;
        assert_eq!(answer.as_ref().unwrap().headers()[RETRY_AFTER_MS], "20");
        assert_eq!((text(answer).await, in_the_end), ((503, String::new()), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drop_before_the_head_carries_nothing_out_and_one_within_it_does() {
        let (answer, _, in_the_end) = met(&["drop at=before-head"]).await;
        assert_eq!((answer.unwrap_err(), in_the_end), (Severed, 0));
        let (answer, at_once, _) = met(&["drop at=within-head"]).await;
        assert_eq!((answer.unwrap_err(), at_once), (Severed, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn writes_are_carried_out_although_their_answers_are_lost() {
        let (answer, at_once, in_the_end) = met(&["write answer=lost"]).await;
        assert_eq!((answer.unwrap_err(), at_once, in_the_end), (Severed, 1, 1));
        let (answer, at_once, in_the_end) = met(&["write answer=unavailable"]).await;
        assert_eq!((text(answer).await.0, at_once, in_the_end), (503, 1, 1));
        let (answer, at_once, in_the_end) = met(&["write answer=unavailable applied_after=5s"]).await;
        assert_eq!((text(answer).await.0, at_once, in_the_end), (503, 0, 1));
        let (answer, at_once, in_the_end) = met(&["write answer=late delay=5s"]).await;
        assert_eq!((text(answer).await.1, at_once, in_the_end), ("true answer".to_owned(), 1, 1));
    }

    #[tokio::test]
    async fn a_new_plan_is_in_force_at_once() {
        let faults = Faults::new(PlanDocument::default(), 1);
        let facts = RequestFacts { method: &Method::GET, path: "/kv" };
        assert!(faults.decide(facts, Timestamp::default()).is_none());
        faults.replace(PlanDocument::from_words(["weak-etags"]).unwrap());
        assert!(!faults.decide(facts, Timestamp::default()).is_none());
        assert_eq!(faults.report()["faults"][0]["fired"], 1);
        faults.replace(PlanDocument::default());
        assert!(faults.decide(facts, Timestamp::default()).is_none());
    }
}
