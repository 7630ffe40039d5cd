//! What an answer from upstream means, decided at its head, before its body (RFC 9111 §3, §4.3.3; RFC 9110 §15.3.7,
//! §15.4.5).
//!
//! - A 304 is used only if a condition was sent, and a 206 only if a range was requested. Else the answer is an error
//!   of the origin: 502.
//! - A 429 or 5xx is replaced by a stale stored response if [`disconnected`](super::disconnected) allows it.
//! - An answer that is not stored still outdates the stored response if it shows another state of the target. An answer
//!   that its origin keeps out of this cache (`no-store`, `private`), or that a request with `Cookie` or
//!   `Authorization` got, does not: it may be made for one caller.

use http::header::{ETAG, LAST_MODIFIED, RANGE};
use http::{HeaderValue, Method, StatusCode};

use super::complete::{Completion, complete};
use super::disconnected::disconnected;
use super::freshen::{FreshenRefusal, Freshened, HeadOutcome, freshen, freshen_by_head};
use super::freshness::{directives_in_force, freshness_lifetime};
use super::reuse::holds_requested_bytes;
use super::shows_change::{self, ShownState};
use super::storable::{NotStored, Storable, storable_answer_to};
use super::{ResponseHead, SentRequest, Unreachable};
use crate::clock::Timestamp;
use crate::config::caching::CachingRules;
use crate::headers::entity_tag::EntityTag;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::CoverageVerdict;
use crate::words::words;

/// What to do about an answer. "The stored response" is the one in hand: the one that the request was about.
#[derive(Clone, Debug)]
pub enum Change {
    /// Pass it to the caller and store it.
    Store(Box<Storable>),
    /// Answer from this response, and replace the stored one with it.
    Freshened(Box<StoredResponse>),
    /// Answer from this response without storing it. The stored one is no longer current.
    AnswerOnly(Box<StoredResponse>, NotStored),
    /// Answer with the stored part followed by the body of this answer. Store the whole if that is allowed.
    Complete(Box<Completion>),
    /// The answer cannot be used: send the request again, without conditions, and with no range but the caller's.
    AskAgain(AskAgainReason),
    /// A 304 about a version that only the caller has: pass it to that caller. The stored response is no longer
    /// current.
    NotModifiedForCaller,
    /// Answer from the stored response although it is stale; forget this answer.
    ServeStale(Unreachable),
    /// Pass it to the caller; the store stays as it is.
    Keep(NotStored),
    /// Pass it to the caller. It shows another state than the stored response, which is no longer current.
    Outdate(NotStored),
    /// It cannot be an answer to the request that was sent: 502.
    Reject(RejectReason),
}

words! {
    /// Why a request is sent again without conditions.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum AskAgainReason {
        /// A 304 that is not about the stored response.
        NotModified(FreshenRefusal),
        /// A 304 about a stored part that lacks the bytes that the caller asks for.
        Partial = "not-modified-partial",
        /// The bytes that came do not complete the stored part.
        Incomplete = "incomplete",
    }
}

words! {
    /// Why an answer is turned into 502.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum RejectReason {
        /// A 304 to a request without conditions.
        UnaskedNotModified = "unasked-not-modified",
        /// A 206 to a request without a range.
        UnaskedPartial = "unasked-partial",
        /// An interim status in the place of a final one (101 to a request without `Upgrade`).
        NotFinal = "not-final",
    }
}

/// What the answer `head` to `asked` means. `coverage` is the verdict on the stored response in hand, at `now`.
///
/// [`invalidate`](super::invalidate) decides separately what an unsafe method outdates.
pub fn absorb(
    asked: &SentRequest<'_>,
    head: &ResponseHead,
    coverage: CoverageVerdict,
    rules: &CachingRules,
    now: Timestamp,
) -> Change {
    if head.status.is_informational() {
        return Change::Reject(RejectReason::NotFinal);
    }
    if head.status == StatusCode::NOT_MODIFIED {
        return absorb_not_modified(asked, head, rules);
    }
    if let Some(change) = absorb_failure(asked, head, coverage, rules, now) {
        return change;
    }
    if asked.completing
        && matches!(head.status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE)
    {
        return complete(asked, head, rules)
            .map_or(Change::AskAgain(AskAgainReason::Incomplete), |completion| {
                Change::Complete(Box::new(completion))
            });
    }
    if head.status == StatusCode::PARTIAL_CONTENT
        && let Some(change) = absorb_partial(asked, head)
    {
        return change;
    }
    if *asked.method == Method::HEAD
        && let Some(stored) = asked.in_hand
    {
        return match freshen_by_head(asked, stored, head, rules) {
            HeadOutcome::Freshened(freshened) => freshened_change(*freshened),
            HeadOutcome::Outdated => Change::Outdate(NotStored::Method),
            HeadOutcome::Nothing => Change::Keep(NotStored::Method),
        };
    }
    match storable_answer_to(asked.method, asked.request, head, rules) {
        Ok(storable) => Change::Store(Box::new(storable)),
        Err(reason) if outdates(asked, head, reason) => Change::Outdate(reason),
        Err(reason) => Change::Keep(reason),
    }
}

fn absorb_not_modified(asked: &SentRequest<'_>, head: &ResponseHead, rules: &CachingRules) -> Change {
    if !asked.conditions.own && !asked.conditions.callers {
        return Change::Reject(RejectReason::UnaskedNotModified);
    }
    let Some(stored) = asked.in_hand.filter(|_| asked.conditions.own) else {
        return Change::Keep(NotStored::Status);
    };
    match freshen(asked, stored, head, rules) {
        Ok(_) if !holds_requested_bytes(asked.request, stored) => Change::AskAgain(AskAgainReason::Partial),
        Ok(freshened) => freshened_change(freshened),
        Err(FreshenRefusal::OtherVersion) if is_callers_version(asked, head) => Change::NotModifiedForCaller,
        Err(refusal) => Change::AskAgain(AskAgainReason::NotModified(refusal)),
    }
}

fn freshened_change(freshened: Freshened) -> Change {
    match freshened.keep {
        Ok(()) => Change::Freshened(Box::new(freshened.response)),
        Err(reason) => Change::AnswerOnly(Box::new(freshened.response), reason),
    }
}

/// Whether a 304 names a tag that the caller sent.
fn is_callers_version(asked: &SentRequest<'_>, head: &ResponseHead) -> bool {
    let Some(tag) = tag_of(head) else { return false };
    asked.conditions.callers
        && asked
            .request
            .preconditions
            .if_none_match
            .as_ref()
            .is_some_and(|condition| condition.tags().any(|callers| callers.matches_weakly(tag)))
}

/// A 429 or 5xx may be treated as no answer (RFC 9111 §4.3.3). Two cases are excepted. An explicit lifetime on the
/// failure means that the origin wants it to be cached, unless the stored response carries `stale-if-error`. A stored
/// server error is never preferred to a new one.
fn absorb_failure(
    asked: &SentRequest<'_>,
    head: &ResponseHead,
    coverage: CoverageVerdict,
    rules: &CachingRules,
    now: Timestamp,
) -> Option<Change> {
    let why = Unreachable::of_status(head.status)?;
    let stored = asked.in_hand.filter(|stored| !stored.status.is_server_error())?;
    let (lifetime, source) = freshness_lifetime(head, &directives_in_force(head, rules), rules);
    let meant = source.is_explicit() && !lifetime.is_zero();
    if meant && stored.policy.stale_if_error.is_none() {
        return None;
    }
    disconnected(asked.request, Some(stored), coverage, why, rules, now).ok()?;
    Some(Change::ServeStale(why))
}

/// Judges a 206: it is rejected if the caller sent no range, and not stored if the same version is stored whole.
fn absorb_partial(asked: &SentRequest<'_>, head: &ResponseHead) -> Option<Change> {
    if !asked.request.fields.contains_key(RANGE) {
        return Some(Change::Reject(RejectReason::UnaskedPartial));
    }
    let stored_whole =
        asked.in_hand.is_some_and(|stored| stored.range.is_none() && is_same_version(stored, head));
    stored_whole.then_some(Change::Keep(NotStored::PartialContent))
}

/// Whether an answer that is not stored shows that the stored response is no longer current. After the newer state was
/// shown, the older one must not be shown again. An answer that its origin keeps out of this cache, or made for one
/// caller, says nothing about what other callers get.
fn outdates(asked: &SentRequest<'_>, head: &ResponseHead, reason: NotStored) -> bool {
    let is_for_all = !matches!(
        reason,
        NotStored::NoStore
            | NotStored::NotUnderstood
            | NotStored::Private
            | NotStored::Cookie
            | NotStored::Authorization
    );
    let answer = ShownState::of_head(head.status, &head.fields);
    reason != NotStored::Method
        && asked.in_hand.is_some_and(|stored| {
            shows_change::outdates(&answer, &ShownState::of_response(stored), is_for_all)
        })
}

/// Whether an answer has the entity tag of the stored response, or its `Last-Modified` if neither has a tag.
fn is_same_version(stored: &StoredResponse, head: &ResponseHead) -> bool {
    let stored_tag = EntityTag::of_message(stored.fields.get_all(&ETAG));
    match (tag_of(head), stored_tag) {
        (Some(tag), Some(stored_tag)) => tag.matches_weakly(stored_tag),
        (None, None) => {
            let date = head.fields.get(LAST_MODIFIED).map(HeaderValue::as_bytes);
            date.is_some() && date == stored.fields.get(&LAST_MODIFIED)
        }
        _ => false,
    }
}

fn tag_of(head: &ResponseHead) -> Option<EntityTag<'_>> {
    EntityTag::of_message(head.fields.get_all(ETAG).iter().map(HeaderValue::as_bytes))
}

#[cfg(test)]
mod tests;
