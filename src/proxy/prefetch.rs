//! Prefetch: what the operator names is fetched at start and validated before it becomes stale, whether or not a caller asks for it.
//!
//! ```text
//! each target ──▶ look up ──▶ fresh for long enough? ── yes ──▶ next page, if it links one ──▶ … ──▶ sleep until the first is due
//!                                     └── no ──▶ fetch (shared with callers, with If-None-Match) ──┘
//! ```
//!
//! First answers show changes, and a change outdates what was asked for before it: so all targets are looked at once more after an
//! answer, and those that could answer nobody are validated.
//!
//! A target is due at 80 to 95 % of its lifetime, so that no caller finds it stale and several sidecars do not ask at once. A fetch
//! that brings nothing to store is tried again after a pause. One request is under way at a time: the origin is asked politely.
//!
//! The price: a request a lifetime for each page, for as long as the sidecar runs.

use std::sync::Arc;
use std::time::Duration;

use http::header::LINK;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request};
use tokio::time::Instant;
use tracing::{info, warn};

use super::destination::Destination;
use super::request_context::RequestContext;
use super::{Identification, Proxy};
use crate::body::FlowingBody;
use crate::clock::instant;
use crate::decide::age::current_age;
use crate::decide::{Decision, ForwardReason, StaleReason};
use crate::headers::survey::Survey;
use crate::stored_response::StoredResponse;

/// From which part of its lifetime on a response is due, and over which part of it that is spread.
const DUE_FROM: f64 = 0.8;
const DUE_SPREAD: f64 = 0.15;

/// How long a target waits that could not be fetched or stored.
const PAUSE: Duration = Duration::from_secs(5);

/// How many pages of one list are followed.
const MOST_PAGES: usize = 1_000;

/// How long after an answer all targets are looked at again: it may have shown a change, so that others have to be validated.
const AFTER_AN_ANSWER: Duration = Duration::from_secs(1);

/// What became of one target, or of the pages of one list.
struct Prefetched {
    /// The response, or the first page.
    stored: Option<Arc<StoredResponse>>,
    /// The origin has answered.
    is_asked: bool,
    due_in: Duration,
}

/// When the turn of a target is.
struct Turn<'a> {
    at: Instant,
    target: &'a PathAndQuery,
    /// The log says that it cannot be kept.
    is_told: bool,
}

impl Turn<'_> {
    /// Says once that a target cannot be kept, and once that it can be.
    fn tell(&mut self, to: &Destination, is_stored: bool) {
        let (upstream, target) = (to.upstream.name(), self.target.as_str());
        match (is_stored, self.is_told) {
            (false, false) => warn!(
                upstream,
                target,
                "a target of upstream.prefetch is not stored: the origin is away, or forbids it, or the target is misspelled; it is tried again"
            ),
            (true, true) => info!(upstream, target, "the target of upstream.prefetch is stored now"),
            _ => {}
        }
        self.is_told = !is_stored;
    }
}

impl Proxy {
    /// Fetches and keeps what an upstream is to have ready, until the task is dropped.
    pub async fn prefetch(self: Arc<Self>, destination: usize) {
        let Some(to) = self.destinations.get(destination) else { return };
        let mut turns: Vec<Turn<'_>> =
            to.prefetched.iter().map(|target| Turn { at: instant(), target, is_told: false }).collect();
        while let Some(turn) = turns.iter_mut().min_by_key(|turn| turn.at) {
            tokio::time::sleep_until(turn.at).await;
            let kept = self.keep_list(to, turn.target).await;
            turn.at = instant() + kept.due_in;
            turn.tell(to, kept.stored.is_some());
            if kept.is_asked {
                let soon = instant() + AFTER_AN_ANSWER;
                turns.iter_mut().for_each(|turn| turn.at = soon.min(turn.at));
            }
        }
    }

    /// Keeps a target and the pages that follow it.
    async fn keep_list(&self, to: &Destination, target: &PathAndQuery) -> Prefetched {
        let mut page = Some(target.clone());
        let mut list = Prefetched { stored: None, is_asked: false, due_in: Duration::MAX };
        for _ in 0..MOST_PAGES {
            let Some(target) = page.take() else { break };
            let kept = self.keep(to, target).await;
            list.is_asked |= kept.is_asked;
            list.due_in = list.due_in.min(kept.due_in);
            page = kept.stored.as_deref().and_then(next_page);
            list.stored = list.stored.or(kept.stored);
        }
        list
    }

    /// Fetches one target if it is due, or if the rules of coverage let it answer nobody.
    async fn keep(&self, to: &Destination, target: PathAndQuery) -> Prefetched {
        let not_kept = Prefetched { stored: None, is_asked: false, due_in: PAUSE };
        let Some(context) = self.prefetching(to, target) else { return not_kept };
        let found = self.look_up(to, &context);
        found.keep_made(to, &context);
        if found.is_mirrored {
            return Prefetched { stored: found.stored, ..not_kept };
        }
        let reason = match found.decision {
            Decision::Reuse(_) => match found.stored.as_deref().and_then(|stored| self.due_in(to, stored)) {
                Some(due_in) => return Prefetched { stored: found.stored, is_asked: false, due_in },
                None => ForwardReason::Stale(StaleReason::Lifetime),
            },
            Decision::Validate(reason) | Decision::Fetch(reason) => reason,
            Decision::Forward(_) | Decision::Refuse => return not_kept,
        };
        // What came of it is stored, or is not: a failure is logged and counted where it happens.
        let _outcome = Box::pin(self.fetch(to, context.clone(), reason)).await;
        let stored = to.upstream.stored(&context.request);
        match stored.as_deref().and_then(|stored| self.due_in(to, stored)) {
            Some(due_in) => Prefetched { stored, is_asked: true, due_in },
            None => Prefetched { stored, ..not_kept },
        }
    }

    /// The request that a caller would send, without its fields.
    fn prefetching(&self, to: &Destination, target: PathAndQuery) -> Option<RequestContext> {
        let (mut head, ()) = Request::get(target.clone()).body(()).ok()?.into_parts();
        let survey = Survey::of(&HeaderMap::new());
        match self.identify(to, &mut head, &survey, FlowingBody::Empty, target, || None) {
            Ok(Identification::Retrieval(context, _)) => Some(context),
            Ok(Identification::Other(_)) | Err(_) => None,
        }
    }

    /// When a stored response is due; `None` if it is.
    fn due_in(&self, to: &Destination, stored: &StoredResponse) -> Option<Duration> {
        let lifetime = to.upstream.lifetime(stored, self.clock.now());
        let due_at = lifetime.mul_f64(DUE_FROM + DUE_SPREAD * fastrand::f64());
        due_at.checked_sub(current_age(stored, self.clock.now())).filter(|due_in| !due_in.is_zero())
    }
}

/// The target of the next page, if a list links one.
fn next_page(list: &StoredResponse) -> Option<PathAndQuery> {
    let link = std::str::from_utf8(list.fields.get(&LINK)?).ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|it| matches!(it.trim(), "rel=\"next\"" | "rel=next"));
    (is_next && target.starts_with('/')).then(|| target.parse().ok()).flatten()
}
