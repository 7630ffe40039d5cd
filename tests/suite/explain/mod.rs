//! `explain` against the answers: for every reason that the code has, the sidecar is asked first what it would do, and then the request
//! is sent. What was said must be what happens, and to ask must change nothing.
//!
//! The reasons come from the enums of the code: one that is added fails [`every_reason_is_explained`] until a case shows it.

mod afterwards;
mod refusals;
mod retrievals;
mod upstreams;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use serde_json::Value;
use tagalong::internals::decide::disconnected::DisconnectedRefusal;
use tagalong::internals::decide::storable::NotStored;
use tagalong::internals::decide::{
    BypassReason, ForwardReason, RequestReason, StaleReason, Staleness, Unreachable,
};
use tagalong::internals::error::{ProxyError, RefusalReason};
use tagalong::internals::mirror::give_up::GiveUpReason;
use tagalong::internals::profile::UnkeyedReason;
use tagalong::internals::sync_token::coverage::UncoveredReason;

use crate::support::cache_status::CacheStatus;
use crate::support::caller::Response;
use crate::support::message::Head;
use crate::support::sidecar::Sidecar;

/// What `fwd=` said (`hit` or nothing in its place), and `detail=`.
type Words = (String, String);

/// The words of the answers so far, each of which was explained before.
#[derive(Debug, Default)]
struct ExplainedCases {
    words: BTreeSet<Words>,
    /// How many scenes failed; each has said why.
    failed: usize,
}

impl ExplainedCases {
    /// Plays a scene. The others are played although it fails.
    async fn play(&mut self, scene: impl AsyncFnOnce(&mut Self)) {
        let played = AssertUnwindSafe(scene(self)).catch_unwind().await;
        self.failed += usize::from(played.is_err());
    }

    /// Asks what a request would come to, sends it, and compares.
    async fn hold(&mut self, sidecar: &Sidecar, request: &str) -> Response {
        let told = self.told(sidecar, request).await;
        let answer = sidecar.caller().await.send(request).await;
        self.compare(request, &told, &answer);
        answer
    }

    /// What a request would come to. That is asked twice, and nothing is changed by it.
    async fn told(&self, sidecar: &Sidecar, request: &str) -> Value {
        let before = sidecar.effects();
        let told = sidecar.explain(request).await;
        assert_eq!(sidecar.explain(request).await, told, "{request}");
        assert_eq!(sidecar.effects(), before, "{request}");
        told
    }

    fn compare(&mut self, request: &str, told: &Value, answer: &Response) {
        let expected = parsed(&told["cache_status"]);
        let real = answer.cache_status();
        let both = format!("{request}\n{told:#}\n{:?}", answer.head);
        match told["decision"].as_str() {
            Some("forward") if real.detail.as_deref() == Some("fleet") => {
                assert_eq!(told["forward"]["asks_fleet_first"], true, "{both}");
            }
            Some("forward") => {
                assert_eq!(expected.fwd, real.fwd, "{both}");
                assert!(!real.hit && told["status"].is_null(), "{both}");
                match &expected.detail {
                    Some(_) => assert_eq!(expected.detail, real.detail, "{both}"),
                    // Only the answer of the origin can add one.
                    None => assert!(real.detail.as_deref().is_none_or(is_said_by_answer), "{both}"),
                }
                if expected.collapsed.is_some() {
                    assert_eq!(expected.collapsed, real.collapsed, "{both}");
                }
            }
            Some("hit") => {
                assert_eq!(expected, CacheStatus { before: Vec::new(), ..real.clone() }, "{both}");
                assert_eq!(told["status"], answer.status, "{both}");
            }
            Some("refused") => {
                assert_eq!((&expected.fwd, &expected.detail), (&real.fwd, &real.detail), "{both}");
                assert_eq!(told["status"], answer.status, "{both}");
            }
            other => panic!("{other:?}: {both}"),
        }
        self.note(&real);
    }

    /// Compares what was said of an origin that does not answer.
    fn compare_without_answer(&mut self, request: &str, told: &Value, answer: &Response) {
        let instead = &told["if_no_answer"];
        let (expected, real) = (parsed(&instead["cache_status"]), answer.cache_status());
        let both = format!("{request}\n{told:#}\n{:?}", answer.head);
        assert_eq!(
            (&expected.fwd, &expected.detail, expected.hit),
            (&real.fwd, &real.detail, real.hit),
            "{both}"
        );
        assert_eq!(instead["status"], answer.status, "{both}");
        self.note(&real);
    }

    fn note(&mut self, real: &CacheStatus) {
        let first = if real.hit { "hit".to_owned() } else { real.fwd.clone().unwrap_or_default() };
        self.words.insert((first, real.detail.clone().unwrap_or_default()));
    }
}

/// Lets whole seconds pass, in paused time.
async fn pass(seconds: u64) {
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
}

fn parsed(cache_status: &Value) -> CacheStatus {
    let value = cache_status.as_str().expect("a field value");
    CacheStatus::ours(&Head::parse(format!("HTTP/1.1 200 OK\r\nCache-Status: {value}\r\n\r\n").as_bytes()))
}

/// Whether the answer of the origin says a word.
fn is_said_by_answer(word: &str) -> bool {
    NotStored::all().iter().any(|reason| reason.as_str() == word)
}

/// Every reason to go upstream. The match makes the compiler ask for what is added.
fn forward_reasons() -> Vec<ForwardReason> {
    use ForwardReason::{Bypass, Method, Partial, Request, Stale, UriMiss, VaryMiss};
    let mut all = vec![Method, UriMiss, VaryMiss, Partial];
    // A method is its own word of `fwd=`.
    let is_bypass = |reason: &BypassReason| *reason != BypassReason::Unkeyed(UnkeyedReason::Method);
    all.extend(BypassReason::all().into_iter().filter(is_bypass).map(Bypass));
    all.extend(RequestReason::all().into_iter().map(Request));
    all.extend([StaleReason::Lifetime, StaleReason::NoCache, StaleReason::Strong].map(Stale));
    all.extend(UncoveredReason::all().into_iter().map(|reason| Stale(StaleReason::Uncovered(reason))));
    for reason in &all {
        match reason {
            Bypass(_) | Method | UriMiss | VaryMiss | Request(_) | Partial => {}
            Stale(
                StaleReason::Lifetime
                | StaleReason::NoCache
                | StaleReason::Strong
                | StaleReason::Uncovered(_),
            ) => {}
        }
    }
    all
}

/// Every permission under which the store answers.
fn staleness() -> Vec<Staleness> {
    use Staleness::{Disconnected, Fresh, MaxStale, Stretched, WhileRevalidate};
    let mut all = vec![Fresh, WhileRevalidate, MaxStale, Stretched];
    all.extend(Unreachable::all().into_iter().filter(|why| is_known_before(*why)).map(Disconnected));
    for staleness in &all {
        match staleness {
            Fresh | WhileRevalidate | MaxStale | Stretched | Disconnected(_) => {}
        }
    }
    all
}

/// Whether it is known before a request is sent that the origin will not answer it.
const fn is_known_before(why: Unreachable) -> bool {
    match why {
        // The origin, or the budget, asked for a pause.
        Unreachable::Throttled => true,
        // ExplainedCases as what happens if the origin does not answer: see `forward_without_answer`.
        Unreachable::Connect
        | Unreachable::TimedOut
        | Unreachable::Broken
        | Unreachable::ServerError
        | Unreachable::Overloaded
        | Unreachable::Behind => false,
    }
}

/// Whether a refusal is made before the request is sent, in the answer of the proxy.
const fn is_refused_before(reason: RefusalReason) -> bool {
    // The origin answers that one with 401.
    !matches!(reason, RefusalReason::SignedForSidecar)
}

/// The errors without a refusal that are known before the request is sent.
fn errors() -> Vec<ProxyError> {
    let throttled = ProxyError::Throttled {
        status: http::StatusCode::TOO_MANY_REQUESTS,
        retry_after: Default::default(),
    };
    vec![
        ProxyError::Disconnected { reason: "".into(), cause: Box::new(throttled.clone()) },
        throttled,
        ProxyError::Overloaded { limit: "" },
    ]
}

/// Every pair of words that the code can give an answer before the origin has said anything.
fn all_words() -> BTreeSet<Words> {
    let words = |first: &str, detail: Option<&str>| (first.to_owned(), detail.unwrap_or_default().to_owned());
    let forwarded = forward_reasons().into_iter().map(|reason| words(reason.fwd(), reason.detail()));
    let hits = staleness().into_iter().map(|staleness| words("hit", staleness.detail()));
    let own_hits = ["mirror", "fleet", "fleet-lost", UncoveredReason::Snapshot.as_str()];
    let without_mirror = GiveUpReason::all().into_iter().map(|why| words("uri-miss", Some(why.as_str())));
    let refusals = RefusalReason::ALL.iter().filter(|reason| is_refused_before(**reason));
    forwarded
        .chain(hits)
        .chain(own_hits.map(|word| words("hit", Some(word))))
        .chain(without_mirror)
        .chain(refusals.map(|reason| words("", Some(reason.as_str()))))
        .chain(errors().iter().map(|error| words("", Some(error.reason()))))
        // As what happens if the origin does not answer.
        .chain([words("stale", Some(Unreachable::Connect.as_str())), words("uri-miss", Some("connect"))])
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_reason_is_explained() {
    let mut cases = ExplainedCases::default();
    retrievals::all(&mut cases).await;
    upstreams::all(&mut cases).await;
    refusals::all(&mut cases).await;
    afterwards::all(&mut cases).await;
    let missing: Vec<Words> = all_words().difference(&cases.words).cloned().collect();
    assert_eq!(cases.failed, 0, "scenes failed, and these words are missing: {missing:?}");
    assert!(missing.is_empty(), "no case shows these words, in `fwd=` and `detail=`: {missing:?}");
    // The refusals of `disconnected` share one word; each is told in the problem.
    assert!(DisconnectedRefusal::all().len() > 3);
}
