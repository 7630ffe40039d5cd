//! What an answer from upstream means, decided at its head, before its body (RFC 9111 §3, §4.3.3; RFC 9110 §15.3.7, §15.4.5).

use http::header::{ETAG, LAST_MODIFIED, RANGE};
use http::{HeaderValue, Method, StatusCode};

use super::complete::{Completion, complete};
use super::disconnected::disconnected;
use super::freshen::{FreshenRefusal, Freshened, HeadOutcome, freshen, freshen_by_head};
use super::freshness::{directives_in_force, freshness_lifetime};
use super::reuse::has_what_is_asked;
use super::storable::{NotStored, Storable, storable_answer_to};
use super::{Asked, ResponseHead, Unreachable};
use crate::clock::Timestamp;
use crate::config::caching::CachingRules;
use crate::headers::entity_tag::EntityTag;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::CoverageVerdict;

/// What is to be done about an answer. "The stored response" is the one that was in hand when the request was sent.
#[derive(Clone, Debug)]
pub enum Change {
    /// Pass it to the caller and store it.
    Store(Box<Storable>),
    /// Answer from this response, and store it in the place of the stored one.
    Freshened(Box<StoredResponse>),
    /// Answer from this response, but do not store it; the stored one is no longer current.
    AnswerOnly(Box<StoredResponse>, NotStored),
    /// Answer with the stored part followed by the body of this answer, and store the whole where that is allowed.
    Complete(Box<Completion>),
    /// It cannot be used: send the request again, without conditions and without a range that the caller did not ask for.
    AskAgain(AskAgainReason),
    /// A 304 about a version that only the caller has: pass it to that caller; the stored one is no longer current.
    NotModifiedForCaller,
    /// Answer from the stored response although it is stale; forget this answer.
    ServeStale(Unreachable),
    /// Pass it to the caller; the store stays as it is.
    Keep(NotStored),
    /// Pass it to the caller; it shows another state than the stored response, which is no longer current.
    Outdate(NotStored),
    /// It is no possible answer to what was asked: 502.
    Reject(RejectReason),
}

/// Why a request is sent again without conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AskAgainReason {
    /// A 304 that is not about the stored response.
    NotModified(FreshenRefusal),
    /// A 304 about a stored part that is not what the caller asks for.
    Partial,
    /// The rest of a stored part does not fit to it.
    Incomplete,
}

impl AskAgainReason {
    /// The word for `Cache-Status; detail=`, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotModified(refusal) => refusal.as_str(),
            Self::Partial => "not-modified-partial",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Why an answer is turned into 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// A 304 to a request without conditions.
    UnaskedNotModified,
    /// A 206 to a request without a range.
    UnaskedPartial,
    /// An interim status where a final one belongs (101 to a request that asked for no upgrade).
    NotFinal,
}

impl RejectReason {
    /// The word for the problem document, `Cache-Status; detail=`, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnaskedNotModified => "unasked-not-modified",
            Self::UnaskedPartial => "unasked-partial",
            Self::NotFinal => "not-final",
        }
    }
}

/// What the answer `head` to `asked` means. `coverage` is the verdict on the stored response in hand, now.
///
/// What an unsafe method invalidates is `decide::invalidate`'s business, whatever this says.
#[must_use]
pub fn absorb(
    asked: &Asked<'_>,
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
            HeadOutcome::Freshened(freshened) => settle(*freshened),
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

fn absorb_not_modified(asked: &Asked<'_>, head: &ResponseHead, rules: &CachingRules) -> Change {
    if !asked.conditions.own && !asked.conditions.callers {
        return Change::Reject(RejectReason::UnaskedNotModified);
    }
    let Some(stored) = asked.in_hand.filter(|_| asked.conditions.own) else {
        return Change::Keep(NotStored::Status);
    };
    match freshen(asked, stored, head, rules) {
        Ok(_) if !has_what_is_asked(asked.request, stored) => Change::AskAgain(AskAgainReason::Partial),
        Ok(freshened) => settle(freshened),
        Err(FreshenRefusal::OtherVersion) if is_callers_version(asked, head) => Change::NotModifiedForCaller,
        Err(refusal) => Change::AskAgain(AskAgainReason::NotModified(refusal)),
    }
}

fn settle(freshened: Freshened) -> Change {
    match freshened.keep {
        Ok(()) => Change::Freshened(Box::new(freshened.response)),
        Err(reason) => Change::AnswerOnly(Box::new(freshened.response), reason),
    }
}

/// Whether a 304 names a tag that the caller sent.
fn is_callers_version(asked: &Asked<'_>, head: &ResponseHead) -> bool {
    let Some(tag) = tag_of(head) else { return false };
    asked.conditions.callers
        && asked
            .request
            .preconditions
            .if_none_match
            .as_ref()
            .is_some_and(|condition| condition.tags().any(|callers| callers.matches_weakly(tag)))
}

/// An origin that fails, or asks for patience, may be as good as away (RFC 9111 §4.3.3). Not when it names a lifetime for its
/// failure, which it then means, unless it has also said that the stored response is preferred (`stale-if-error`); and a
/// stored failure is never preferred to a new one.
fn absorb_failure(
    asked: &Asked<'_>,
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

/// A 206 that nobody asked for, and one that shows bytes of what is stored whole.
fn absorb_partial(asked: &Asked<'_>, head: &ResponseHead) -> Option<Change> {
    if !asked.request.fields.contains_key(RANGE) {
        return Some(Change::Reject(RejectReason::UnaskedPartial));
    }
    let stored_whole =
        asked.in_hand.is_some_and(|stored| stored.range.is_none() && is_same_version(stored, head));
    stored_whole.then_some(Change::Keep(NotStored::PartialContent))
}

/// Whether an answer that is not stored shows that the stored response is no longer current. Nobody may be shown the older
/// state after the newer one; but an answer that its origin keeps out of this cache, or that was made for one caller, says
/// nothing about what others get (`caching.md` rule 9).
fn outdates(asked: &Asked<'_>, head: &ResponseHead, reason: NotStored) -> bool {
    let for_all = !matches!(
        reason,
        NotStored::Method
            | NotStored::NoStore
            | NotStored::NotUnderstood
            | NotStored::Private
            | NotStored::Cookie
            | NotStored::Authorization
    );
    let about_the_target = head.status.is_success()
        || head.status.is_redirection()
        || matches!(head.status, StatusCode::NOT_FOUND | StatusCode::GONE);
    for_all && about_the_target && asked.in_hand.is_some_and(|stored| !is_same_version(stored, head))
}

/// Whether an answer has the tag, or for want of tags the date, of the stored response.
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
