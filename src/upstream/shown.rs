//! What an answer shows is recorded before any caller sees it: a change raises `required`, and outdates what is stored.
//! [`shows_change`] decides; this gathers what it needs, and acts.

use std::sync::Arc;

use http::header::{DATE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Upstream;
use super::shown_changes::ShownChange;
use super::slot_table::SlotTable;
use crate::clock::Timestamp;
use crate::config::CachingRules;
use crate::decide::shows_change::{
    AppearedSince, ChangeContext, ShownBefore, ShownState, appearing, can_lack, lacks_what_appeared,
    outdates, shows_a_state, shows_change,
};
use crate::headers::conditional::EntityTagCondition;
use crate::headers::entity_tag::EntityTag;
use crate::headers::http_date;
use crate::stored_response::{CacheKey, StoredResponse};
use crate::sync_token::session::{Received, SessionSnapshot};

const X_MS_DATE: HeaderName = HeaderName::from_static("x-ms-date");

/// One answer, as it is about to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// What was asked for.
    pub key: &'a CacheKey,
    /// The end-to-end fields of the request: they select a variant.
    pub request_fields: &'a HeaderMap,
    /// The state that it shows. For a 304 that of the response which it is about.
    pub state: ShownState<'a>,
    /// With what it is compared.
    pub compared_with: ComparedWith<'a>,
    /// It is about to be stored.
    pub is_stored: bool,
    /// The answer to a write tells of it: it is the state of the resource, whatever fields select a representation.
    pub is_told_by_write: bool,
}

/// What a room holds for the request, before the answer.
#[derive(Clone, Copy, Debug)]
pub enum ComparedWith<'a> {
    /// What is in the store.
    Stored,
    /// What a mirror holds of this page; `None` if it is loading.
    Mirrored(Option<&'a Arc<StoredResponse>>),
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
            state: ShownState::of_head(status, fields),
            compared_with: ComparedWith::Stored,
            is_stored: false,
            is_told_by_write: false,
        }
    }

    /// The same to a request that said which versions its caller has: a 304 shows that caller that what it has is current.
    #[must_use]
    pub fn to_who_had(self, condition: Option<&'a EntityTagCondition>) -> Self {
        if self.state.status != StatusCode::NOT_MODIFIED {
            return self;
        }
        let mut tags = condition.into_iter().flat_map(EntityTagCondition::tags);
        // Of several it may be any.
        let only_tag = tags.next().filter(|_| tags.next().is_none());
        let entity_tag = self.state.entity_tag.or(only_tag.map(EntityTag::as_bytes));
        Self { state: ShownState { status: StatusCode::OK, entity_tag, ..self.state }, ..self }
    }

    /// A whole response.
    #[must_use]
    pub fn whole(key: &'a CacheKey, request_fields: &'a HeaderMap, response: &'a StoredResponse) -> Self {
        Self {
            key,
            request_fields,
            state: ShownState::of_response(response),
            compared_with: ComparedWith::Stored,
            is_stored: false,
            is_told_by_write: false,
        }
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
        snapshot: &SessionSnapshot,
        received: &Received,
        rules: &CachingRules,
    ) -> u64 {
        let clauses = self.state.session.clauses();
        if !shows_a_state(shown.state.status) || (!shown.is_stored && !clauses.unstored_answers_show_change())
        {
            return 0;
        }
        let stored = match shown.compared_with {
            ComparedWith::Stored => self.stored_for(shown.key, shown.request_fields),
            ComparedWith::Mirrored(held) => held.cloned(),
        };
        let target = shown.key.canonical_target();
        let (state, profile) = (shown.state, &self.settings.profile);
        let is_dated = profile.is_dated(target);
        let is_of_other_fields =
            !shown.is_told_by_write && self.state.last_shown.is_of_other_fields(shown.key);
        let was_last = self.state.last_shown.replace(shown.key, &state, snapshot.covers.sent_order);
        // What the answer is compared with, stored or only remembered, lacks what appeared after it was asked for.
        let asked_before = stored.as_ref().map(|stored| stored.covers.sent_order).or(was_last);
        let appeared = match asked_before {
            Some(sent_order) if can_lack(&state, is_dated) => match shown.compared_with {
                ComparedWith::Stored => self.state.appearances.since(sent_order),
                ComparedWith::Mirrored(_) => self.state.appearances.since_load(sent_order),
            },
            _ => Some(Vec::new()),
        };
        let needs_items = state.items.is_some() || appeared.as_ref().is_none_or(|it| !it.is_empty());
        let stored_items = stored
            .as_ref()
            .filter(|_| needs_items)
            .and_then(|stored| profile.list_items(target, &stored.body));
        let held = stored.as_ref().map(|stored| ShownState {
            items: stored_items.as_deref(),
            continues: stored_items.is_some() && profile.continues(target, &stored.body),
            ..ShownState::of_response(stored)
        });
        if matches!(shown.compared_with, ComparedWith::Mirrored(None)) {
            self.state.appearances.note_load(self.state.session.sent_order());
        } else {
            for target in appearing(&state, held.as_ref(), target, is_dated) {
                self.state.appearances.note(self.state.session.sent_order(), target);
            }
        }
        let is_shown = |resource: &str| {
            let (body, items) = (state.body.unwrap_or_default(), state.items.unwrap_or_default());
            profile.would_show(target, body, items, resource)
        };
        let appeared = AppearedSince { targets: appeared.as_deref(), is_shown: &is_shown };
        let before = match held {
            _ if lacks_what_appeared(&state, held.as_ref(), target, is_dated, appeared) => {
                ShownBefore::Nothing
            }
            Some(held) => ShownBefore::Stored(held),
            None if was_last.is_some() || !clauses.first_answers_show_change() => ShownBefore::Same,
            None if !rules.related && is_of_other_fields => ShownBefore::Same,
            // The first answer of another variant says nothing of those that are stored.
            None if !rules.related && self.state.store.variants(shown.key).is_some() => ShownBefore::Same,
            None => ShownBefore::Nothing,
        };
        if !shown.is_stored
            && let (Some(stored), Some(held)) = (&stored, &held)
        {
            let outdates_stored = outdates(&state, held, false);
            if outdates_stored
                && (stored.covers.sent_order < snapshot.covers.sent_order
                    // What was sent earlier may have been answered later.
                    || !self.state.session.tokens_tell_states_apart())
            {
                self.outdate(shown.key, stored);
            }
            if !outdates_stored && !rules.related {
                // Its origin may have made it for this caller alone: it says nothing of what others get.
                return 0;
            }
        }
        let known = ChangeContext {
            is_own: &|tag| self.state.session.wrote(tag),
            raised_at: self.state.session.raised_at(),
            settle_time: self.settings.settle_time,
            dated: state.last_modified.filter(|_| is_dated).and_then(http_date::parse),
        };
        let Some(revelation) = shows_change(&state, before, &known) else { return 0 };
        let scope = self.order_scope(shown.key, rules);
        #[cfg(any(test, feature = "internals"))]
        let revelation = self.mistaken_revelation(revelation, is_dated || known.raised_at.is_none());
        #[cfg(any(test, feature = "internals"))]
        if !clauses.news_before_answer() {
            return self.reveal_late(snapshot, received, revelation, scope);
        }
        self.state.shown_changes.note(ShownChange {
            target: target.to_owned(),
            status: state.status,
            at: self.state.clock.now(),
            sent_order: snapshot.covers.sent_order,
            arrived: self.state.session.sent_order(),
            scope,
        });
        self.state.session.reveal(snapshot, received, revelation, scope).revelation
    }
}

/// The last state that was shown for each of some requests, as a fingerprint: for those of which nothing is stored. If one is
/// forgotten, the next answer counts as a first one.
#[derive(Debug, Default)]
pub struct LastShown {
    states: SlotTable<LastState>,
    /// For each resource, the fields of the request that was shown it last.
    fields: SlotTable,
}

#[derive(Clone, Copy, Debug, Default)]
struct LastState {
    fingerprint: u64,
    /// When the request was sent whose answer showed it.
    sent_order: u64,
}

impl LastShown {
    /// What tells one resource from another.
    pub(super) fn hash_of(&self, key: &CacheKey) -> u64 {
        self.states.hash_of(key.resource())
    }

    /// Notes the state that the answer to a request sent at this position shows. If it was the last before as well, says at which
    /// position the request was sent that it answered then.
    fn replace(&self, key: &CacheKey, state: &ShownState<'_>, sent_order: u64) -> Option<u64> {
        let fingerprint = self.fingerprint(state);
        let before = self.states.insert(key, LastState { fingerprint, sent_order })?;
        (fingerprint != 0 && before.fingerprint == fingerprint).then_some(before.sent_order)
    }

    /// Notes with which fields the resource was asked for, and says whether it was asked for with others before, so that this may be the
    /// first answer of another representation.
    fn is_of_other_fields(&self, key: &CacheKey) -> bool {
        let digest = key.fields_digest();
        let hash = self.fields.hash_of(digest);
        let before = self.fields.insert(key.resource(), hash);
        before.is_some_and(|before| before != hash)
    }

    /// A list has shown the resource with this tag: if it was shown otherwise before, what comes next is not the same again.
    pub(super) fn heed_item(&self, key: &CacheKey, entity_tag: &str) {
        let entity_tag = Some(entity_tag.as_bytes());
        let fingerprint = self.fingerprint(&ShownState { entity_tag, ..ShownState::default() });
        self.states.remove_unless(key, |last| last.fingerprint == fingerprint);
    }

    /// Zero for a state that nothing tells from another, which is never the same.
    fn fingerprint(&self, state: &ShownState<'_>) -> u64 {
        let tells = state.entity_tag.is_some_and(|tag| !tag.starts_with(b"W"))
            || state.body.is_some()
            || !(state.status.is_success() || state.status.is_redirection());
        if !tells {
            return 0;
        }
        let body = state.body.filter(|_| state.entity_tag.is_none_or(|tag| tag.starts_with(b"W")));
        self.states.hash_of((state.status.as_u16(), state.entity_tag, body)) | 1
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
            ..ShownState::default()
        }
    }

    #[test]
    fn a_304_shows_its_caller_that_the_one_version_that_it_has_is_current() {
        let key = CacheKey::new("main", "", "/a");
        let (request_fields, none) = (HeaderMap::new(), HeaderMap::new());
        let mut tagged = HeaderMap::new();
        tagged.insert(ETAG, HeaderValue::from_static("\"b\""));
        for (status, fields, condition, expected) in [
            (304, &none, Some("\"a\""), (200, Some("\"a\""))),
            (304, &tagged, Some("\"a\", \"b\""), (200, Some("\"b\""))),
            (304, &none, Some("\"a\", \"b\""), (200, None)),
            (304, &none, None, (200, None)),
            (200, &tagged, Some("\"a\""), (200, Some("\"b\""))),
            (404, &none, Some("\"a\""), (404, None)),
        ] {
            let condition =
                condition.map(|tags| EntityTagCondition::Listed(vec![HeaderValue::from_static(tags)]));
            let status = StatusCode::from_u16(status).expect("a status");
            let shown = Shown::by_head(&key, &request_fields, status, fields).to_who_had(condition.as_ref());
            let expected = (expected.0, expected.1.map(str::as_bytes));
            assert_eq!(
                (shown.state.status.as_u16(), shown.state.entity_tag),
                expected,
                "{status} {condition:?}"
            );
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
            assert_eq!(last.replace(&key, &shown, 3), None, "{shown:?} is new");
            assert_eq!(last.replace(&key, &shown, 4), again.then_some(3), "{shown:?}");
        }
        let tagged = state(200, Some("\"a\""), None);
        let is_last = |key: &CacheKey, state: &ShownState<'_>| last.replace(key, state, 5).is_some();
        is_last(&key, &tagged);
        assert!(!is_last(&CacheKey::new("main", "", "/b"), &tagged), "another request");
        assert!(is_last(&key, &state(200, Some("\"a\""), Some(b"y"))), "a strong tag needs no body");
        last.heed_item(&key, "\"a\"");
        assert!(is_last(&key, &tagged), "a list showed the same");
        last.heed_item(&key, "\"b\"");
        assert!(!is_last(&key, &tagged), "a list showed another");
        let absent = state(404, None, None);
        is_last(&key, &absent);
        last.heed_item(&key, "\"a\"");
        assert!(!is_last(&key, &absent), "it existed in between");
    }
}
