//! What callers were told by an endpoint that is not asked any more: until its replica has caught up, nothing older is shown.
//!
//! At a failover, what is stored is read once: the state of each resource, those in lists included. What own writes told is noted as they are
//! answered, because a write takes what is stored out. For `upstream.replica_lag` an answer of the replica is compared with both
//! ([`decide::told`](crate::decide::told)); one that may be older is treated as no answer, so what is stored answers in its place, as far as
//! `when_disconnected` allows.
//!
//! Limits: what was told and is not stored any more is not known (own writes aside), and a state without time of change is compared by its
//! tag alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::{DATE, ETAG, LAST_MODIFIED};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};

use super::Upstream;
use crate::clock::Timestamp;
use crate::decide::Unreachable;
use crate::decide::shows_change::ShownState;
use crate::decide::told::{ReplicaState, ToldState};
use crate::error::ProxyError;
use crate::headers::http_date;
use crate::profile::{DatedItem, ItemState};
use crate::stored_response::{CacheKey, StoredResponse};
use crate::sync_token::coverage::Coverage;
use crate::upstream::result::UpstreamFailure;

/// How many own writes are remembered.
const MOST_OWN_WRITES: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ToldByOthers(Mutex<ToldRecord>);

#[derive(Debug, Default)]
struct ToldRecord {
    /// What was told of each resource before the last failover, by the name of the resource.
    states: HashMap<String, ToldState>,
    /// Lists that were shown, with the names of their items: what else they would show was told to be absent.
    lists: Vec<ToldList>,
    /// Until when the replica may lag behind.
    until: Option<Timestamp>,
    /// What own writes told, at whichever endpoint: the endpoint, the name, the state; oldest first.
    own_writes: VecDeque<(usize, String, ToldState)>,
}

#[derive(Debug)]
struct ToldList {
    target: String,
    body: bytes::Bytes,
    /// As its page shows them.
    items: Vec<ItemState>,
    names: Vec<String>,
    at: Timestamp,
}

impl Upstream {
    /// Notes what an own write told, before its answer is passed on.
    pub(super) fn note_own_write(
        &self,
        endpoint: usize,
        method: &Method,
        target: &PathAndQuery,
        status: StatusCode,
        fields: &HeaderMap,
    ) {
        if !self.settings.endpoints.has_replicas() || method.is_safe() || !status.is_success() {
            return;
        }
        let Some(name) = self.settings.profile.resource_name(target) else { return };
        let text = |name| fields.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let time = |name| text(name).and_then(|value| http_date::parse(value.as_bytes()));
        let state = match text(ETAG) {
            Some(tag) if *method != Method::DELETE => {
                ToldState::Present { entity_tag: Some(tag.into()), modified: time(LAST_MODIFIED) }
            }
            _ if *method == Method::DELETE => {
                ToldState::Absent { at: time(DATE).unwrap_or_else(|| self.state.clock.now()) }
            }
            _ => return,
        };
        let mut told = self.state.told.lock();
        // Of own writes the last one counts.
        told.own_writes.retain(|(_, written, _)| *written != name);
        if told.own_writes.len() >= MOST_OWN_WRITES {
            told.own_writes.pop_front();
        }
        told.own_writes.push_back((endpoint, name, state));
    }

    /// Another endpoint is about to become the active one: reads what callers were told so far.
    pub(super) fn fail_over(&self, from: usize, to: usize) {
        let now = self.state.clock.now();
        let mut told = self.state.told.lock();
        if told.until.is_none_or(|until| until <= now) {
            told.states.clear();
            told.lists.clear();
        }
        self.state.store.for_each(&mut |key, variants| {
            if key.upstream() == self.settings.name.as_bytes() {
                variants.as_slice().iter().for_each(|response| self.read_told(&mut told, key, response));
            }
        });
        let own_writes = std::mem::take(&mut told.own_writes);
        for (_, name, state) in &own_writes {
            told.note(name.clone(), state.clone());
        }
        told.own_writes = own_writes;
        told.until = Some(now.plus(self.settings.replica_lag));
        drop(told);
        tracing::warn!(
            upstream = self.settings.name,
            from,
            to,
            "an endpoint of this upstream does not answer: the next one is asked, and what is stored is validated there"
        );
    }

    /// Whether another endpoint is asked since a request with this snapshot was sent to the one at this position.
    pub(super) fn is_replaced(&self, position: usize, covers: Coverage) -> bool {
        let endpoints = &self.settings.endpoints;
        endpoints.has_replicas()
            && (endpoints.active().0 != position || self.state.session.is_of_an_earlier_epoch(covers))
    }

    /// Takes in what a stored response told.
    fn read_told(&self, told: &mut ToldRecord, key: &CacheKey, response: &StoredResponse) {
        let target = key.canonical_target();
        let profile = &self.settings.profile;
        let at = response.fields.get(&DATE).and_then(http_date::parse).unwrap_or(response.response_time);
        if response.status == StatusCode::OK
            && let Some(items) = profile.dated_items(target, &response.body)
        {
            let names: Vec<String> = items.iter().map(|item| item.name.clone()).collect();
            for DatedItem { name, entity_tag, modified } in items {
                told.note(name, ToldState::Present { entity_tag: Some(entity_tag.into()), modified });
            }
            let items = profile.list_items(target, &response.body).unwrap_or_default();
            let (target, body) = (target.to_owned(), response.body.clone());
            told.lists.push(ToldList { target, body, items, names, at });
            return;
        }
        let name = target.parse().ok().and_then(|target: PathAndQuery| profile.resource_name(&target));
        let Some(name) = name else { return };
        let tag = response.fields.get(&ETAG).and_then(|tag| std::str::from_utf8(tag).ok());
        let modified = response.fields.get(&LAST_MODIFIED).and_then(http_date::parse);
        match (response.status, tag) {
            (StatusCode::OK, Some(tag)) => {
                told.note(name, ToldState::Present { entity_tag: Some(tag.into()), modified });
            }
            (StatusCode::NOT_FOUND, _) => told.note(name, ToldState::Absent { at }),
            _ => {}
        }
    }

    /// Whether a stored response may be older than what callers were told by another endpoint: then it answers nothing.
    #[must_use]
    pub fn is_behind_told(&self, key: &CacheKey, stored: &StoredResponse) -> bool {
        let shown = ShownState::of_response(stored);
        let tags = (shown.entity_tag, shown.last_modified);
        self.may_be_behind(key.canonical_target(), stored.status, tags, Some(&stored.body))
    }

    /// Whether an answer of the active endpoint may be older than what callers were told by another one. `body`: that of a whole 200, or of
    /// the stored response that a 304 is about.
    pub(super) fn may_be_behind(
        &self,
        canonical_target: &str,
        status: StatusCode,
        (entity_tag, last_modified): (Option<&[u8]>, Option<&[u8]>),
        body: Option<&[u8]>,
    ) -> bool {
        if !self.settings.endpoints.has_replicas() {
            return false;
        }
        let now = self.state.clock.now();
        let told = self.state.told.lock();
        if told.until.is_none_or(|until| until <= now) {
            return false;
        }
        let (active, _) = self.settings.endpoints.active();
        let profile = &self.settings.profile;
        if status == StatusCode::OK
            && let Some(items) = body.and_then(|body| profile.dated_items(canonical_target, body))
        {
            return self.list_may_be_behind(
                &told,
                active,
                canonical_target,
                body.unwrap_or_default(),
                &items,
            );
        }
        let name = canonical_target.parse().ok().and_then(|it: PathAndQuery| profile.resource_name(&it));
        let Some(name) = name else {
            // A list of which nothing is known, or something else that cannot be compared.
            return status == StatusCode::OK && !told.states.is_empty();
        };
        let shown = entity_tag.and_then(|tag| std::str::from_utf8(tag).ok()).map(|entity_tag| ReplicaState {
            entity_tag,
            modified: last_modified.and_then(http_date::parse),
        });
        match (status, shown) {
            (StatusCode::OK, Some(shown)) => {
                told.of(active, &name).is_some_and(|state| state.may_be_newer_than(Some(shown)))
                    || self.was_told_absent(&told, active, &name, shown)
            }
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => {
                told.of(active, &name).is_some_and(|state| state.may_be_newer_than(None))
            }
            // It shows a caller that what it has is current.
            (StatusCode::NOT_MODIFIED, Some(shown)) => {
                told.of(active, &name).is_some_and(|state| state.may_be_newer_than(Some(shown)))
            }
            (StatusCode::NOT_MODIFIED, None) => told.of(active, &name).is_some(),
            _ => false,
        }
    }

    fn list_may_be_behind(
        &self,
        told: &ToldRecord,
        active: usize,
        list: &str,
        body: &[u8],
        items: &[DatedItem],
    ) -> bool {
        let is_older = |item: &DatedItem| {
            let shown = ReplicaState { entity_tag: &item.entity_tag, modified: item.modified };
            told.of(active, &item.name).is_some_and(|state| state.may_be_newer_than(Some(shown)))
                || self.was_told_absent(told, active, &item.name, shown)
        };
        if items.iter().any(is_older) {
            return true;
        }
        let page = self.settings.profile.list_items(list, body).unwrap_or_default();
        // What callers were told to exist, and would be in this list.
        let lacks = |name: &str, state: &ToldState| {
            matches!(state, ToldState::Present { .. })
                && !items.iter().any(|item| item.name == name)
                && self.would_show(list, body, &page, name)
        };
        told.all(active).any(|(name, state)| lacks(name, state))
    }

    /// Whether a list that was shown would have shown this resource, and did not: the replica shows a state from before that.
    fn was_told_absent(&self, told: &ToldRecord, active: usize, name: &str, shown: ReplicaState<'_>) -> bool {
        if told.of(active, name).is_some() {
            // What was told of itself counts.
            return false;
        }
        told.lists.iter().any(|list| {
            !list.names.iter().any(|it| it == name)
                && self.would_show(&list.target, &list.body, &list.items, name)
                && ToldState::Absent { at: list.at }.may_be_newer_than(Some(shown))
        })
    }

    /// Whether a list shows a resource if it exists.
    fn would_show(&self, list: &str, body: &[u8], items: &[ItemState], name: &str) -> bool {
        let profile = &self.settings.profile;
        let Some(target) = profile.target_of_name(name) else { return false };
        profile.may_be_on_page(list, body, items, &target)
            && PathAndQuery::try_from(&*target)
                .is_ok_and(|resource| profile.touches(&profile.footprint(&Method::PUT, &resource), list))
    }

    /// What an answer is worth that may be older than what callers were told.
    pub(super) fn behind(&self) -> UpstreamFailure {
        let upstream = self.settings.endpoints.active().1.client.authority().to_string();
        UpstreamFailure {
            why: Unreachable::Behind,
            error: ProxyError::BrokenAnswer {
                upstream,
                cause: "it is a replica that may lag behind what callers were shown before".into(),
            },
        }
    }
}

impl ToldByOthers {
    fn lock(&self) -> MutexGuard<'_, ToldRecord> {
        // Nothing under this lock can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ToldRecord {
    fn note(&mut self, name: String, state: ToldState) {
        let state = match self.states.remove(&name) {
            Some(earlier) => earlier.later(state),
            None => state,
        };
        self.states.insert(name, state);
    }

    /// What was told of a resource by other endpoints than the active one.
    fn of(&self, active: usize, name: &str) -> Option<ToldState> {
        let written =
            self.own_writes.iter().filter(|(endpoint, written, _)| *endpoint != active && written == name);
        let written = written.map(|(_, _, state)| state.clone());
        self.states.get(name).cloned().into_iter().chain(written).reduce(ToldState::later)
    }

    fn all(&self, active: usize) -> impl Iterator<Item = (&str, &ToldState)> {
        let written = self
            .own_writes
            .iter()
            .filter(move |(endpoint, name, _)| *endpoint != active && !self.states.contains_key(name));
        let written = written.map(|(_, name, state)| (name.as_str(), state));
        self.states.iter().map(|(name, state)| (name.as_str(), state)).chain(written)
    }
}
