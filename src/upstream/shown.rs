//! What an answer shows is recorded before anyone sees it: a change raises `required`, and outdates what is stored.
//! [`shows_change`] decides; this gathers what it needs, and acts.

use std::sync::{Mutex, PoisonError};

use http::header::{DATE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Upstream;
use crate::clock::Timestamp;
use crate::config::CachingRules;
use crate::decide::shows_change::{
    ChangeContext, ShownBefore, ShownState, is_same_state, shows_a_state, shows_change,
};
use crate::headers::entity_tag::EntityTag;
use crate::headers::http_date;
use crate::profile::ItemState;
use crate::stored_response::{CacheKey, StoredResponse};
use crate::sync_token::session::{Received, Revelation, Snapshot};

const X_MS_DATE: HeaderName = HeaderName::from_static("x-ms-date");

/// One answer, as it is about to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// What was asked for.
    pub key: &'a CacheKey,
    /// The end-to-end fields of the request: they select a variant.
    pub request_fields: &'a HeaderMap,
    /// The status. For a 304 that of the response which it is about.
    pub status: StatusCode,
    /// Its one well-formed entity tag.
    pub entity_tag: Option<&'a [u8]>,
    /// `Last-Modified`.
    pub last_modified: Option<&'a [u8]>,
    /// The body, where it was read whole.
    pub body: Option<&'a [u8]>,
    /// The states of a list's items, where they are known.
    pub items: Option<&'a [ItemState]>,
    /// It is about to be stored.
    pub is_stored: bool,
}

impl<'a> Shown<'a> {
    /// An answer as its head shows it, which is not stored.
    #[must_use]
    pub fn by_head(
        key: &'a CacheKey,
        request_fields: &'a HeaderMap,
        status: StatusCode,
        fields: &'a HeaderMap,
    ) -> Self {
        Self {
            key,
            request_fields,
            status,
            entity_tag: tag_of(fields),
            last_modified: fields.get(LAST_MODIFIED).map(HeaderValue::as_bytes),
            body: None,
            items: None,
            is_stored: false,
        }
    }

    /// A whole response.
    #[must_use]
    pub fn whole(key: &'a CacheKey, request_fields: &'a HeaderMap, response: &'a StoredResponse) -> Self {
        Self {
            key,
            request_fields,
            status: response.status,
            entity_tag: EntityTag::of_message(response.fields.get_all(&ETAG)).map(EntityTag::as_bytes),
            last_modified: response.fields.get(&LAST_MODIFIED),
            body: Some(&response.body),
            items: None,
            is_stored: false,
        }
    }

    const fn state(&self) -> ShownState<'a> {
        ShownState { status: self.status, entity_tag: self.entity_tag, body: self.body, items: self.items }
    }
}

/// The entity tag of a message, if it has exactly one that is well-formed.
#[must_use]
pub fn tag_of(fields: &HeaderMap) -> Option<&[u8]> {
    EntityTag::of_message(fields.get_all(ETAG).iter().map(HeaderValue::as_bytes)).map(EntityTag::as_bytes)
}

/// What time it was at the origin: the header section of an answer says so.
#[must_use]
pub fn origin_time(fields: &HeaderMap) -> Option<Timestamp> {
    let date = fields.get(X_MS_DATE).or_else(|| fields.get(DATE))?;
    http_date::parse(date.as_bytes())
}

impl Upstream {
    /// Records what an answer shows, and returns the number of its revelation if it may stand in for the token of its answer,
    /// else 0. `snapshot` is that of the request, `received` what the head of the answer brought.
    pub fn record_shown(
        &self,
        shown: Shown<'_>,
        snapshot: &Snapshot,
        received: &Received,
        rules: &CachingRules,
    ) -> u64 {
        let clauses = self.session.clauses();
        if !shows_a_state(shown.status) || (!shown.is_stored && !clauses.unstored_answers_show_change) {
            return 0;
        }
        let stored = self.stored_for(shown.key, shown.request_fields);
        let target = shown.key.canonical_target();
        let stored_items = match (shown.items, &stored) {
            (Some(_), Some(stored)) => self.profile.list_items(target, &stored.body),
            _ => None,
        };
        let held = stored.as_ref().map(|stored| ShownState {
            items: stored_items.as_deref(),
            ..Shown::whole(shown.key, shown.request_fields, stored).state()
        });
        let state = shown.state();
        let was_last = self.last_shown.replace(shown.key, &state);
        let before = match held {
            Some(held) => ShownBefore::Stored(held),
            None if was_last || !clauses.first_answers_show_change => ShownBefore::Same,
            None => ShownBefore::Nothing,
        };
        if !shown.is_stored
            && let (Some(stored), Some(held)) = (&stored, &held)
            && (stored.covers.sent_order < snapshot.covers.sent_order
                // What was sent earlier may have been answered later.
                || !self.session.tokens_tell_states_apart())
            && outdates(&shown, stored, held)
        {
            self.outdate(shown.key, stored);
        }
        let is_dated = self.profile.is_dated(target);
        let known = ChangeContext {
            is_own: &|tag| self.session.wrote(tag),
            raised_at: self.session.raised_at(),
            settle_time: self.settle_time,
            dated: shown.last_modified.filter(|_| is_dated).and_then(http_date::parse),
        };
        let Some(mut revelation) = shows_change(&state, before, &known) else { return 0 };
        if !clauses.exempts_only_dated_singles && !is_dated && known.raised_at.is_some() {
            // The mistake under test.
            revelation = Revelation::Included;
        }
        if !rules.related && received.tokens.is_empty() {
            // Nothing else is known to belong together with it.
            return 0;
        }
        if clauses.news_before_answer {
            return self.session.reveal(snapshot, received, revelation).revelation;
        }
        self.reveal_late(snapshot.clone(), received.clone(), revelation);
        0
    }

    /// The mistake of passing an answer on before its news are recorded, for the test that shows why it is one.
    fn reveal_late(&self, snapshot: Snapshot, received: Received, revelation: Revelation) {
        let session = std::sync::Arc::clone(&self.session);
        tokio::spawn(async move {
            tokio::time::sleep(super::LATE).await;
            let _covers = session.reveal(&snapshot, &received, revelation);
        });
    }
}

/// Whether an answer that is not stored shows that the stored response is no longer current. One that names neither a version nor
/// an absence shows nothing about what others get: its origin may keep it for one caller.
fn outdates(shown: &Shown<'_>, stored: &StoredResponse, held: &ShownState<'_>) -> bool {
    let is_absent = matches!(shown.status, StatusCode::NOT_FOUND | StatusCode::GONE);
    let names_version = shown.entity_tag.is_some() || shown.last_modified.is_some();
    let same_date = shown.entity_tag.is_none()
        && held.entity_tag.is_none()
        && shown.last_modified.is_some()
        && shown.last_modified == stored.fields.get(&LAST_MODIFIED);
    (is_absent || names_version) && !same_date && !is_same_state(&shown.state(), held)
}

const SLOTS: usize = 4_096;

/// The last state that was shown for each of some requests, as fingerprints: for those of which nothing is stored. Each request has
/// the slot that its hash names; two in one slot push each other out, and then the next answer counts as a first one.
#[derive(Debug)]
pub struct LastShown {
    slots: Mutex<Box<[Fingerprints]>>,
    hasher: ahash::RandomState,
}

/// Of the request and of the state; zero stands for none.
type Fingerprints = (u64, u64);

impl Default for LastShown {
    fn default() -> Self {
        Self { slots: Mutex::new(vec![(0, 0); SLOTS].into()), hasher: ahash::RandomState::new() }
    }
}

impl LastShown {
    /// Notes the state, and says whether it was the last before as well.
    fn replace(&self, key: &CacheKey, state: &ShownState<'_>) -> bool {
        let request = self.hasher.hash_one(key) | 1;
        let tells = state.entity_tag.is_some_and(|tag| !tag.starts_with(b"W"))
            || state.body.is_some()
            || !(state.status.is_success() || state.status.is_redirection());
        // A state that nothing tells from another is never the same.
        let state = if tells {
            let body = state.body.filter(|_| state.entity_tag.is_none_or(|tag| tag.starts_with(b"W")));
            self.hasher.hash_one((state.status.as_u16(), state.entity_tag, body)) | 1
        } else {
            0
        };
        let slot = usize::try_from(request >> 1).unwrap_or_default() % SLOTS;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut slots[slot], (request, state));
        state != 0 && before == (request, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: u16, tag: Option<&'static str>, body: Option<&'static [u8]>) -> ShownState<'static> {
        ShownState {
            status: StatusCode::from_u16(status).expect("a status"),
            entity_tag: tag.map(str::as_bytes),
            body,
            items: None,
        }
    }

    #[test]
    fn the_last_state_of_a_request_is_known_again() {
        let last = LastShown::default();
        let key = CacheKey::new("main", "", "/a");
        for (shown, again) in [
            (state(200, Some("\"a\""), None), true),
            (state(200, Some("\"b\""), Some(b"x")), true),
            (state(404, None, None), true),
            (state(200, None, Some(b"x")), true),
            (state(200, None, None), false),
            (state(200, Some("W/\"a\""), None), false),
        ] {
            assert!(!last.replace(&key, &shown), "{shown:?} is new");
            assert_eq!(last.replace(&key, &shown), again, "{shown:?}");
        }
        let tagged = state(200, Some("\"a\""), None);
        last.replace(&key, &tagged);
        assert!(!last.replace(&CacheKey::new("main", "", "/b"), &tagged), "another request");
        assert!(last.replace(&key, &state(200, Some("\"a\""), Some(b"y"))), "a strong tag needs no body");
    }
}
