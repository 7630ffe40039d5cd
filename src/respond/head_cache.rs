//! Heads of answers from the store, kept while they are in use.
//!
//! The head of a hit follows from the stored response, from the second of `Age` and from the session's `Sync-Token` line; the
//! request only chooses its form (200, 304, or for `HEAD`), and its own ids are put on the copy. All requests for a hot
//! key within a second get copies of one head. Nothing is decided here: all inputs of a head are compared.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::{Form, OwnFields, age_value, from_stored};
use crate::body::FlowingBody;
use crate::headers::cache_status::CacheStatus;
use crate::presented_request::PresentedRequest;
use crate::profile::Profile;
use crate::stored_response::StoredResponse;

/// How many heads are kept. With the bound below all of them take at most 2 MiB, beside the store's bytes.
const SLOTS: usize = 256;

/// A head with more bytes than this is made anew each time.
const MAX_HEAD_BYTES: usize = 4 * 1024;

/// The heads in use.
#[derive(Debug)]
pub struct HeadCache {
    slots: Box<[ArcSwapOption<Head>]>,
}

/// A finished head, and all that it follows from.
#[derive(Debug)]
struct Head {
    /// Weak, so that the store alone decides how long bodies live; while this is here, no other response has its address.
    stored: Weak<StoredResponse>,
    form: Form,
    age_seconds: u64,
    ttl_seconds: Option<i64>,
    sync_token: Option<HeaderValue>,
    via: HeaderValue,
    status: StatusCode,
    fields: HeaderMap,
}

impl Default for HeadCache {
    fn default() -> Self {
        Self { slots: std::iter::repeat_with(ArcSwapOption::empty).take(SLOTS).collect() }
    }
}

impl HeadCache {
    /// The same answer as [`from_stored`], described by the profile.
    #[must_use]
    pub fn answer(
        &self,
        request: &PresentedRequest,
        stored: &Arc<StoredResponse>,
        age_seconds: u64,
        own: &OwnFields<'_>,
        profile: &dyn Profile,
    ) -> Response<FlowingBody> {
        let form = Form::of(request, stored);
        let ttl_seconds = own.cache_status.ttl_seconds;
        let plain_hit =
            CacheStatus { hit: true, ttl_seconds, detail: stored.detail(), ..CacheStatus::default() };
        if !form.has_lasting_head() || own.cache_status != plain_hit {
            let mut answer = from_stored(request, stored, age_seconds, own.clone());
            profile.describe_answer(&request.fields, answer.headers_mut());
            return answer;
        }
        let slot = &self.slots[slot_of(stored, form)];
        let kept = slot.load();
        if let Some(head) = &*kept
            && head.is_of(stored, form, age_seconds, own)
        {
            return head.answer(request, stored, profile);
        }
        drop(kept);
        Self::keep_anew(slot, request, stored, form, age_seconds, own, profile)
    }

    /// Makes the head, and keeps it.
    #[inline(never)]
    fn keep_anew(
        slot: &ArcSwapOption<Head>,
        request: &PresentedRequest,
        stored: &Arc<StoredResponse>,
        form: Form,
        age_seconds: u64,
        own: &OwnFields<'_>,
        profile: &dyn Profile,
    ) -> Response<FlowingBody> {
        let ttl_seconds = own.cache_status.ttl_seconds;
        let (sync_token, via) = (own.sync_token.clone(), own.via.clone());
        let mut answer = from_stored(request, stored, age_seconds, own.clone());
        profile.describe_answer(&HeaderMap::new(), answer.headers_mut());
        let own_values = [age_value(age_seconds), own.cache_status.header_value(), via.clone()];
        if let Some(fields) = detached(answer.headers(), &own_values, profile) {
            let stored = Arc::downgrade(stored);
            let status = answer.status();
            let head = Head { stored, form, age_seconds, ttl_seconds, sync_token, via, status, fields };
            slot.store(Some(Arc::new(head)));
        }
        profile.describe_again(request.named_ids(), answer.headers_mut());
        answer
    }
}

impl Form {
    /// Whether many requests get the same head: not where each asks for other bytes.
    const fn has_lasting_head(self) -> bool {
        matches!(self, Self::NotModified | Self::Whole { .. })
    }
}

impl Head {
    fn is_of(&self, stored: &Arc<StoredResponse>, form: Form, age_seconds: u64, own: &OwnFields<'_>) -> bool {
        std::ptr::eq(self.stored.as_ptr(), Arc::as_ptr(stored))
            && self.form == form
            && self.age_seconds == age_seconds
            && self.ttl_seconds == own.cache_status.ttl_seconds
            && self.sync_token == own.sync_token
            && self.via == own.via
    }

    fn answer(
        &self,
        request: &PresentedRequest,
        stored: &StoredResponse,
        profile: &dyn Profile,
    ) -> Response<FlowingBody> {
        let body = match self.form {
            Form::Whole { is_head: false } => FlowingBody::from(stored.body.clone()),
            _ => FlowingBody::Empty,
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = self.status;
        *answer.headers_mut() = self.fields.clone();
        profile.describe_again(request.named_ids(), answer.headers_mut());
        answer
    }
}

/// The forms of one response lie side by side.
fn slot_of(stored: &Arc<StoredResponse>, form: Form) -> usize {
    let address = Arc::as_ptr(stored).addr();
    // Allocations of one size are often a round number of bytes apart: higher bits go in.
    let mixed = (address >> 4) ^ (address >> 12) ^ (address >> 20);
    (mixed * 2 + usize::from(form == Form::NotModified)) % SLOTS
}

/// The same fields with one small allocation of their own behind them, so that they keep nothing else alive; `None` if that would
/// not be small. What the profile renews on every copy stands in front. `own_values` are copied as they are: they belong to the process and
/// keep no response alive.
fn detached(fields: &HeaderMap, own_values: &[HeaderValue], profile: &dyn Profile) -> Option<HeaderMap> {
    let length_bytes = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if length_bytes > MAX_HEAD_BYTES {
        return None;
    }
    let mut renewed = HeaderMap::new();
    profile.describe_answer(&HeaderMap::new(), &mut renewed);
    let (front, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| renewed.contains_key(*name));
    let lines = || front.iter().chain(&rest);
    let mut values = Vec::with_capacity(length_bytes);
    lines().for_each(|(_, value)| values.extend_from_slice(value.as_bytes()));
    let mut values = Bytes::from(values);
    let mut copy = HeaderMap::with_capacity(fields.keys_len());
    for (name, value) in lines() {
        let detached = values.split_to(value.len());
        let value = match own_values.iter().find(|own| own == value) {
            Some(own) => own.clone(),
            None => HeaderValue::from_maybe_shared(detached).ok()?,
        };
        copy.append(*name, value);
    }
    Some(copy)
}

#[cfg(test)]
mod tests;
