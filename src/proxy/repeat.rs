//! The same question again: what is asked in the same words while nothing has changed is answered with the same head.
//!
//! A hit is a function of the request head, of what is stored, of what the session knows, and of the second of `Age`. Whoever
//! asks for a hot key asks for it in the same words thousands of times within that second. Here the head of such an answer is
//! kept with everything that it followed from; while all of that is the same the path need not be walked again. Nothing is
//! decided here, and nothing outlives its second: a change that has been told to anybody is a change of the [`Moment`].

use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::RandomState;
use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri, Version};

use super::Caller;
use crate::body::FlowingBody;
use crate::clock::Timestamp;
use crate::decide::age::current_age;
use crate::decide::{Reuse, Staleness};
use crate::headers::cache_control::RequestDirectives;
use crate::presented_request::PresentedRequest;
use crate::stored_response::StoredResponse;

/// How many questions are remembered. With the bounds below all of them take at most 2 MiB, beside the store's bytes.
const SLOTS: usize = 256;

/// A longer request head is not remembered.
const MAX_ASKED_BYTES: usize = 2 * 1024;

/// The head of an answer longer than this is not kept.
const MAX_ANSWER_BYTES: usize = 4 * 1024;

/// Everything beside request and time that an answer from the store depends on, as two numbers that grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// [`crate::store::Store::changes`]
    pub(super) store_changes: u64,
    /// [`crate::sync_token::session::Session::revision`]
    pub(super) session_revision: u64,
}

/// The words of a request, copied: a slice would keep the connection's read buffer alive.
#[derive(Debug)]
pub(super) struct Asked {
    slot: usize,
    listener: Arc<str>,
    target: Box<str>,
    fields: Box<[(HeaderName, Box<[u8]>)]>,
}

/// An answer that can be given again, and all that it followed from.
#[derive(Debug)]
pub(super) struct Repeat {
    asked: Asked,
    /// Index of the destination.
    pub(super) destination: usize,
    /// What everything else was like.
    pub(super) moment: Moment,
    same_during: Range<Timestamp>,
    status: StatusCode,
    fields: HeaderMap,
    has_body: bool,
    /// Weak, so that the store alone decides how long bodies live.
    stored: Weak<StoredResponse>,
}

#[derive(Debug, Default)]
struct Slot {
    /// A hash of the last request head that came here: only what comes twice in a row is worth remembering. Requests with an id
    /// of their own never do.
    last_seen: AtomicU64,
    repeat: ArcSwapOption<Repeat>,
}

/// The questions that were asked again lately.
#[derive(Debug)]
pub(super) struct Repeats {
    slots: Box<[Slot]>,
    hasher: RandomState,
}

impl Default for Repeats {
    fn default() -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(SLOTS).collect();
        Self { slots, hasher: RandomState::new() }
    }
}

impl Repeats {
    /// What was answered when the same was asked before. The caller of this function compares the moment.
    pub(super) fn find<B>(
        &self,
        caller: &Caller,
        request: &Request<B>,
    ) -> Option<Guard<Option<Arc<Repeat>>>> {
        let target = target_of(request.method(), request.version(), request.uri())?;
        let found = self.slots[self.slot_of(target)].repeat.load();
        let is_same = found.as_ref().is_some_and(|repeat| repeat.asked.is(caller, target, request.headers()));
        is_same.then_some(found)
    }

    /// The words of this request, if the one before it in this place had the same.
    pub(super) fn asked_again(&self, caller: &Caller, head: &Parts) -> Option<Asked> {
        let target = target_of(&head.method, head.version, &head.uri)?;
        // Secrets are not kept for longer than their request.
        if head.headers.contains_key(AUTHORIZATION) || head.headers.contains_key(COOKIE) {
            return None;
        }
        // What it names would have to be taken out of the head first.
        if head
            .headers
            .get(CONNECTION)
            .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
        {
            return None;
        }
        let slot = self.slot_of(target);
        let seen = self.hash_of(caller, target, &head.headers);
        if self.slots[slot].last_seen.swap(seen, Ordering::Relaxed) != seen {
            return None;
        }
        let lines = || head.headers.iter().map(|(name, value)| (name.clone(), value.as_bytes().into()));
        let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        (target.len() + bytes <= MAX_ASKED_BYTES).then(|| Asked {
            slot,
            listener: Arc::clone(&caller.listener),
            target: target.into(),
            fields: lines().collect(),
        })
    }

    /// Keeps an answer for whoever asks the same again. `moment` is from before the question was looked into.
    pub(super) fn keep(
        &self,
        asked: Asked,
        destination: usize,
        moment: Moment,
        same_during: Range<Timestamp>,
        answer: &Response<FlowingBody>,
        stored: &Arc<StoredResponse>,
    ) {
        let has_body = match answer.body() {
            FlowingBody::Empty => false,
            FlowingBody::Full(_) => true,
            FlowingBody::Streaming(_) => return,
        };
        let Some(fields) = detached(answer.headers()) else { return };
        let slot = &self.slots[asked.slot].repeat;
        slot.store(Some(Arc::new(Repeat {
            asked,
            destination,
            moment,
            same_during,
            status: answer.status(),
            fields,
            has_body,
            stored: Arc::downgrade(stored),
        })));
    }

    fn slot_of(&self, target: &str) -> usize {
        let hash = self.hasher.hash_one(target.as_bytes());
        usize::from(hash.to_le_bytes()[0]) % SLOTS
    }

    fn hash_of(&self, caller: &Caller, target: &str, fields: &HeaderMap) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(caller.listener.as_bytes());
        hasher.write(target.as_bytes());
        for (name, value) in fields {
            hasher.write(name.as_str().as_bytes());
            hasher.write(value.as_bytes());
        }
        hasher.finish()
    }
}

impl Asked {
    fn is(&self, caller: &Caller, target: &str, fields: &HeaderMap) -> bool {
        Arc::ptr_eq(&self.listener, &caller.listener)
            && *self.target == *target
            && self.fields.len() == fields.len()
            && self.fields.iter().zip(fields).all(|((name, value), (other_name, other_value))| {
                name == other_name && **value == *other_value.as_bytes()
            })
    }
}

impl Repeat {
    /// The stored response, if it is still in memory and the answer at that time is the same.
    pub(super) fn stored_at(&self, now: Timestamp) -> Option<Arc<StoredResponse>> {
        if self.same_during.contains(&now) { self.stored.upgrade() } else { None }
    }

    /// The answer once more.
    pub(super) fn answer(&self, stored: &StoredResponse) -> Response<FlowingBody> {
        let body = if self.has_body { FlowingBody::Full(stored.body.clone()) } else { FlowingBody::Empty };
        let mut answer = Response::new(body);
        *answer.status_mut() = self.status;
        *answer.headers_mut() = self.fields.clone();
        answer
    }
}

/// How long nothing but a change can change this answer: as long as `Age` shows the same second and the response is fresh. `None`
/// if more than that depends on the time.
pub(super) fn same_during(
    request: &PresentedRequest,
    stored: &StoredResponse,
    reuse: &Reuse,
    now: Timestamp,
) -> Option<Range<Timestamp>> {
    let depends_on_age_alone = reuse.staleness == Staleness::Fresh
        && request.directives == RequestDirectives::default()
        && request.range.is_none();
    if !depends_on_age_alone {
        return None;
    }
    let age = current_age(stored, now);
    let next_second = Duration::from_secs(1).saturating_sub(Duration::from_nanos(age.subsec_nanos().into()));
    let fresh_for = stored.policy.freshness_lifetime.saturating_sub(age);
    Some(now..now.plus(next_second.min(fresh_for)))
}

/// The target of a plain `GET` in origin form; nothing else is remembered.
fn target_of<'a>(method: &Method, version: Version, uri: &'a Uri) -> Option<&'a str> {
    if method != Method::GET || version != Version::HTTP_11 || uri.authority().is_some() {
        return None;
    }
    uri.path_and_query().map(|target| target.as_str())
}

/// The same fields with one small allocation of their own behind them, so that they keep nothing else alive; `None` if that would
/// not be small.
fn detached(fields: &HeaderMap) -> Option<HeaderMap> {
    let length_bytes = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if length_bytes > MAX_ANSWER_BYTES {
        return None;
    }
    let mut values = Vec::with_capacity(length_bytes);
    fields.values().for_each(|value| values.extend_from_slice(value.as_bytes()));
    let mut values = Bytes::from(values);
    let mut copy = HeaderMap::with_capacity(fields.keys_len());
    for (name, value) in fields {
        copy.append(name, HeaderValue::from_maybe_shared(values.split_to(value.len())).ok()?);
    }
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::conditional::Preconditions;
    use crate::store::conformance::{key, response};

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_793_923_200);
    const MOMENT: Moment = Moment { store_changes: 1, session_revision: 1 };

    fn caller() -> Caller {
        Caller { listener: "main".into(), connection: 1, is_encrypted: false, peer: "127.0.0.1".into() }
    }

    fn head(target: &str, lines: &[(&str, &str)]) -> Parts {
        let request = Request::get(target);
        let request = lines.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).expect("a request").into_parts().0
    }

    fn request(head: &Parts) -> Request<()> {
        Request::from_parts(head.clone(), ())
    }

    fn answer() -> Response<FlowingBody> {
        let answer = Response::builder().header("etag", "\"a\"").header("age", "3");
        answer.body(FlowingBody::Full("body".into())).expect("a response")
    }

    fn get(directives: RequestDirectives) -> PresentedRequest {
        PresentedRequest {
            key: key("/a"),
            target: "http://origin.example/a".parse().expect("a target"),
            method: Method::GET,
            fields: HeaderMap::new(),
            directives,
            preconditions: Preconditions::default(),
            range: None,
            carries_cookie: false,
            authorized: false,
            private_partition: false,
        }
    }

    fn a_second() -> Range<Timestamp> {
        NOW..NOW.plus(Duration::from_secs(1))
    }

    /// Repeats that keep the answer to `head`.
    fn keeping(caller: &Caller, head: &Parts, stored: &Arc<StoredResponse>) -> Repeats {
        let repeats = Repeats::default();
        assert!(repeats.asked_again(caller, head).is_none(), "for the first time");
        let asked = repeats.asked_again(caller, head).expect("asked again");
        repeats.keep(asked, 0, MOMENT, a_second(), &answer(), stored);
        repeats
    }

    #[test]
    fn the_same_words_get_the_same_answer() {
        let (caller, stored) = (caller(), Arc::new(response("", b"0123456789")));
        let head = head("/a?b", &[("host", "h"), ("accept", "*/*")]);
        let repeats = keeping(&caller, &head, &stored);
        let found = repeats.find(&caller, &request(&head)).expect("found");
        let repeat = found.as_ref().expect("found");
        assert_eq!(repeat.moment, MOMENT);
        let in_memory = repeat.stored_at(NOW).expect("in memory");
        let again = repeat.answer(&in_memory);
        assert_eq!(again.headers(), answer().headers());
        assert!(matches!(again.body(), FlowingBody::Full(body) if *body == stored.body));
    }

    #[test]
    fn other_words_get_none() {
        let (caller, stored) = (caller(), Arc::new(response("", b"0123456789")));
        let asked = head("/a?b", &[("host", "h"), ("accept", "*/*")]);
        let repeats = keeping(&caller, &asked, &stored);
        for other in [
            head("/a?c", &[("host", "h"), ("accept", "*/*")]),
            head("/a?b", &[("host", "h")]),
            head("/a?b", &[("host", "i"), ("accept", "*/*")]),
            head("/a?b", &[("host", "h"), ("accept-language", "*/*")]),
            head("/a?b", &[("host", "h"), ("accept", "*/*"), ("accept", "*/*")]),
            head("http://h/a?b", &[("host", "h"), ("accept", "*/*")]),
        ] {
            assert!(repeats.find(&caller, &request(&other)).is_none(), "{other:?}");
        }
        let mut head_request = asked.clone();
        head_request.method = Method::HEAD;
        assert!(repeats.find(&caller, &request(&head_request)).is_none());
        let mut old = asked.clone();
        old.version = Version::HTTP_10;
        assert!(repeats.find(&caller, &request(&old)).is_none());
        let through_another_listener = Caller { listener: "other".into(), ..caller };
        assert!(repeats.find(&through_another_listener, &request(&asked)).is_none());
    }

    #[test]
    fn what_differs_each_time_and_what_is_secret_is_not_remembered() {
        let (repeats, caller) = (Repeats::default(), caller());
        for id in ["1", "2", "3"] {
            assert!(repeats.asked_again(&caller, &head("/a", &[("x-request-id", id)])).is_none());
        }
        let long = "x".repeat(MAX_ASKED_BYTES);
        for lines in [
            [("x-long", long.as_str())],
            [("connection", "x-long")],
            [("authorization", "Bearer secret")],
            [("cookie", "session=secret")],
        ] {
            assert!((0..3).all(|_| repeats.asked_again(&caller, &head("/a", &lines)).is_none()));
        }
    }

    #[test]
    fn it_ends_with_its_second_and_with_the_stored_response() {
        let (caller, stored) = (caller(), Arc::new(response("", b"0123456789")));
        let head = head("/a", &[]);
        let repeats = keeping(&caller, &head, &stored);
        let found = repeats.find(&caller, &request(&head)).expect("found");
        let repeat = found.as_ref().expect("found");
        assert!(repeat.stored_at(NOW.plus(Duration::from_micros(999_999))).is_some());
        assert!(repeat.stored_at(NOW.plus(Duration::from_secs(1))).is_none());
        assert!(repeat.stored_at(NOW.minus(Duration::from_micros(1))).is_none(), "the clock was set back");
        drop(stored);
        assert!(repeat.stored_at(NOW).is_none());
    }

    #[test]
    fn an_answer_stays_the_same_until_age_moves_or_freshness_ends() {
        let fresh = Reuse { ttl_seconds: 1, age_seconds: 0, staleness: Staleness::Fresh };
        let mut response = response("", b"x");
        response.response_time = NOW;
        response.policy.initial_age = Duration::from_millis(2_300);
        response.policy.freshness_lifetime = Duration::from_secs(30);
        let asked = get(RequestDirectives::default());
        let lasts = |request: &PresentedRequest, response: &StoredResponse, reuse: &Reuse| {
            same_during(request, response, reuse, NOW).map(|during| during.end.since(during.start))
        };
        assert_eq!(lasts(&asked, &response, &fresh), Some(Duration::from_millis(700)));
        response.policy.freshness_lifetime = Duration::from_millis(2_350);
        assert_eq!(lasts(&asked, &response, &fresh), Some(Duration::from_millis(50)));
        let demanding =
            RequestDirectives { max_age: Some(Duration::from_secs(2)), ..RequestDirectives::default() };
        assert_eq!(lasts(&get(demanding), &response, &fresh), None);
        let stale = Reuse { staleness: Staleness::MaxStale, ..fresh };
        assert_eq!(lasts(&asked, &response, &stale), None);
    }
}
