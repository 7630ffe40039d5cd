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
    /// What was told before the last failover.
    before: ToldStates,
    /// What the active endpoint told since.
    since: ToldStates,
    /// Until when the replica may lag behind.
    until: Option<Timestamp>,
    /// What own writes told, at whichever endpoint; of each resource the last, oldest first.
    own_writes: VecDeque<RememberedWrite>,
}

/// What a response told, or several.
#[derive(Debug, Default)]
struct ToldStates {
    /// Of each resource, by its name.
    states: HashMap<String, ToldState>,
    /// Lists that were shown, with the names of their items: what else they would show was told to be absent.
    lists: Vec<ToldList>,
}

#[derive(Debug)]
struct RememberedWrite {
    endpoint: usize,
    name: String,
    told: ToldState,
    answered: Timestamp,
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

/// Whose word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToldBy {
    /// What other endpoints than this one told: the rules of coverage see to what it told itself.
    OthersThan(usize),
    /// What any endpoint told.
    Any,
}

/// What an answer shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct ComparedState<'a> {
    pub(super) canonical_target: &'a str,
    pub(super) status: StatusCode,
    pub(super) entity_tag: Option<&'a [u8]>,
    pub(super) last_modified: Option<&'a [u8]>,
    /// Of a whole 200, or of the stored response that a 304 is about.
    pub(super) body: Option<&'a [u8]>,
}

impl<'a> ComparedState<'a> {
    pub(super) const fn of(canonical_target: &'a str, state: &ShownState<'a>) -> Self {
        let ShownState { status, entity_tag, last_modified, body, .. } = *state;
        Self { canonical_target, status, entity_tag, last_modified, body }
    }

    fn shown(&self) -> Option<ReplicaState<'a>> {
        let entity_tag = std::str::from_utf8(self.entity_tag?).ok()?;
        Some(ReplicaState { entity_tag, modified: self.last_modified.and_then(http_date::parse) })
    }
}

impl Upstream {
    /// Notes what an own write told, before its answer is passed on. `sent` and now say when it happened.
    pub(super) fn note_own_write(
        &self,
        endpoint: usize,
        (method, target): (&Method, &PathAndQuery),
        (status, fields): (StatusCode, &HeaderMap),
        sent: Timestamp,
    ) {
        if !self.settings.endpoints.has_replicas() || method.is_safe() || !status.is_success() {
            return;
        }
        let Some(name) = self.settings.profile.resource_name(target) else { return };
        let text = |name| fields.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let time = |name| text(name).and_then(|value| http_date::parse(value.as_bytes()));
        let answered = self.state.clock.now();
        let told = match text(ETAG) {
            Some(tag) if *method != Method::DELETE => {
                ToldState::Present { entity_tag: Some(tag.into()), modified: time(LAST_MODIFIED) }
            }
            _ if *method == Method::DELETE => {
                let at = time(DATE).unwrap_or(answered);
                ToldState::Absent { from: at.minus(answered.since(sent)), at }
            }
            _ => return,
        };
        let mut record = self.state.told.lock();
        let earlier = record.own_writes.iter().position(|write| write.name == name);
        let told = match earlier.and_then(|at| record.own_writes.remove(at)) {
            // Writes under way at the same time may have happened in either order.
            Some(earlier) if earlier.answered > sent => earlier.told.either(told),
            _ => told,
        };
        if record.own_writes.len() >= MOST_OWN_WRITES {
            record.own_writes.pop_front();
        }
        record.own_writes.push_back(RememberedWrite { endpoint, name, told, answered });
    }

    /// Another endpoint is about to become the active one: reads what callers were told so far.
    pub(super) fn fail_over(&self, from: usize, to: usize) {
        let now = self.state.clock.now();
        let mut told = self.state.told.lock();
        if told.until.is_none_or(|until| until <= now) {
            *told = ToldRecord { own_writes: std::mem::take(&mut told.own_writes), ..ToldRecord::default() };
        }
        let since = std::mem::take(&mut told.since);
        told.before.take_in(since);
        self.state.store.for_each(&mut |key, variants| {
            if key.upstream() == self.settings.name.as_bytes() {
                let responses = variants.as_slice().iter();
                responses.for_each(|response| told.before.take_in(self.told_by_stored(key, response)));
            }
        });
        let ToldRecord { before, own_writes, .. } = &mut *told;
        for write in own_writes {
            before.note(write.name.clone(), write.told.clone());
        }
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
            && (endpoints.position() != position || self.state.session.is_of_an_earlier_epoch(covers))
    }

    /// What a stored response told.
    fn told_by_stored(&self, key: &CacheKey, response: &StoredResponse) -> ToldStates {
        let at = response.fields.get(&DATE).and_then(http_date::parse).unwrap_or(response.response_time);
        let from = at.minus(response.response_time.since(response.request_time));
        let state = ShownState::of_response(response);
        self.told_by(&ComparedState::of(key.canonical_target(), &state), (from, at))
    }

    /// What an answer tells that was asked for and answered at these times.
    fn told_by(&self, answer: &ComparedState<'_>, (from, at): (Timestamp, Timestamp)) -> ToldStates {
        let (profile, target) = (&self.settings.profile, answer.canonical_target);
        let present =
            |entity_tag: &str, modified| ToldState::Present { entity_tag: Some(entity_tag.into()), modified };
        let mut told = ToldStates::default();
        if let Some((body, dated)) = self.dated_items(answer) {
            let names = dated.iter().map(|item| item.name.clone()).collect();
            let items = profile.list_items(target, body).unwrap_or_default();
            let body = bytes::Bytes::copy_from_slice(body);
            told.lists.push(ToldList { target: target.to_owned(), body, items, names, at });
            for item in dated {
                told.note(item.name, present(&item.entity_tag, item.modified));
            }
        } else if let Some(name) = self.name_of(target) {
            match (answer.status, answer.shown()) {
                (StatusCode::OK, Some(shown)) => told.note(name, present(shown.entity_tag, shown.modified)),
                (StatusCode::NOT_FOUND, _) => told.note(name, ToldState::Absent { from, at }),
                _ => {}
            }
        }
        told
    }

    fn dated_items<'a>(&self, answer: &ComparedState<'a>) -> Option<(&'a [u8], Vec<DatedItem>)> {
        let body = answer.body.filter(|_| answer.status == StatusCode::OK)?;
        Some((body, self.settings.profile.dated_items(answer.canonical_target, body)?))
    }

    fn name_of(&self, canonical_target: &str) -> Option<String> {
        self.settings.profile.resource_name(&canonical_target.parse().ok()?)
    }

    /// Whether a stored response may be older than what callers were told since the last failover, or before it: then it does not answer
    /// in the place of the origin.
    #[must_use]
    pub fn is_behind_told(&self, key: &CacheKey, stored: &StoredResponse) -> bool {
        let state = ShownState::of_response(stored);
        self.record_in_force().is_some_and(|told| {
            self.is_behind(&told, ToldBy::Any, &ComparedState::of(key.canonical_target(), &state))
        })
    }

    /// Whether an answer of the active endpoint may be older than what callers were told by another one. If not, notes what it tells.
    pub(super) fn may_be_behind(&self, answer: &ComparedState<'_>) -> bool {
        let Some(mut told) = self.record_in_force() else { return false };
        let active = self.settings.endpoints.position();
        if self.is_behind(&told, ToldBy::OthersThan(active), answer) {
            return true;
        }
        let now = self.state.clock.now();
        let earliest = now.minus(self.settings.client().limits().header_deadline);
        let answered = self.told_by(answer, (earliest, now));
        told.since.lists.retain(|list| list.target != answer.canonical_target || answered.lists.is_empty());
        told.since.take_in(answered);
        false
    }

    /// The record, while the active endpoint may lag behind.
    fn record_in_force(&self) -> Option<MutexGuard<'_, ToldRecord>> {
        if !self.settings.endpoints.has_replicas() {
            return None;
        }
        let told = self.state.told.lock();
        let now = self.state.clock.now();
        told.until.is_some_and(|until| now < until).then_some(told)
    }

    fn is_behind(&self, told: &ToldRecord, by: ToldBy, answer: &ComparedState<'_>) -> bool {
        if let Some((body, items)) = self.dated_items(answer) {
            return self.is_list_behind(told, by, answer.canonical_target, body, &items);
        }
        let Some(name) = self.name_of(answer.canonical_target) else {
            // A list of which nothing is known, or something else that cannot be compared.
            return answer.status == StatusCode::OK && !told.before.states.is_empty();
        };
        let of_itself = told.of(by, &name);
        let is_newer = |shown| of_itself.as_ref().is_some_and(|state| state.may_be_newer_than(shown));
        match (answer.status, answer.shown()) {
            (StatusCode::OK, Some(shown)) => {
                is_newer(Some(shown)) || self.was_told_absent(told, by, &name, of_itself.as_ref(), shown)
            }
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => is_newer(None),
            // It shows a caller that what it has is current.
            (StatusCode::NOT_MODIFIED, Some(shown)) => is_newer(Some(shown)),
            (StatusCode::NOT_MODIFIED, None) => of_itself.is_some(),
            _ => false,
        }
    }

    fn is_list_behind(
        &self,
        told: &ToldRecord,
        by: ToldBy,
        list: &str,
        body: &[u8],
        items: &[DatedItem],
    ) -> bool {
        let is_older = |item: &DatedItem| {
            let shown = ReplicaState { entity_tag: &item.entity_tag, modified: item.modified };
            let of_itself = told.of(by, &item.name);
            of_itself.as_ref().is_some_and(|state| state.may_be_newer_than(Some(shown)))
                || self.was_told_absent(told, by, &item.name, of_itself.as_ref(), shown)
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
        told.all(by).any(|(name, state)| lacks(name, state))
    }

    /// Whether a list that was shown would have shown this resource, and did not, after what was told of the resource itself: the replica
    /// shows a state from before that.
    fn was_told_absent(
        &self,
        told: &ToldRecord,
        by: ToldBy,
        name: &str,
        of_itself: Option<&ToldState>,
        shown: ReplicaState<'_>,
    ) -> bool {
        let modified = match of_itself {
            Some(ToldState::Present { modified, .. }) => *modified,
            Some(ToldState::Absent { .. }) | None => None,
        };
        told.lists(by).any(|list| {
            modified.is_none_or(|modified| list.at >= modified)
                && !list.names.iter().any(|it| it == name)
                && self.would_show(&list.target, &list.body, &list.items, name)
                && ToldState::Absent { from: list.at, at: list.at }.may_be_newer_than(Some(shown))
        })
    }

    /// Whether a list shows a resource if it exists.
    fn would_show(&self, list: &str, body: &[u8], items: &[ItemState], name: &str) -> bool {
        let profile = &self.settings.profile;
        profile.target_of_name(name).is_some_and(|target| profile.would_show(list, body, items, &target))
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

impl ToldStates {
    fn note(&mut self, name: String, state: ToldState) {
        let state = match self.states.remove(&name) {
            Some(earlier) => earlier.later(state),
            None => state,
        };
        self.states.insert(name, state);
    }

    fn take_in(&mut self, other: Self) {
        other.states.into_iter().for_each(|(name, state)| self.note(name, state));
        self.lists.extend(other.lists);
    }
}

impl ToldRecord {
    /// What responses told.
    fn by_responses(&self, by: ToldBy) -> impl Iterator<Item = &ToldStates> {
        std::iter::once(&self.before).chain((by == ToldBy::Any).then_some(&self.since))
    }

    /// What was told of a resource.
    fn of(&self, by: ToldBy, name: &str) -> Option<ToldState> {
        let written =
            self.own_writes.iter().filter(|write| by.includes(write.endpoint) && write.name == name);
        let written = written.map(|write| &write.told);
        let shown = self.by_responses(by).filter_map(|told| told.states.get(name));
        shown.chain(written).cloned().reduce(ToldState::later)
    }

    fn all(&self, by: ToldBy) -> impl Iterator<Item = (&String, &ToldState)> {
        let is_meant = move |write: &&RememberedWrite| {
            by.includes(write.endpoint) && !self.before.states.contains_key(&write.name)
        };
        let written = self.own_writes.iter().filter(is_meant).map(|write| (&write.name, &write.told));
        self.by_responses(by).flat_map(|told| &told.states).chain(written)
    }

    fn lists(&self, by: ToldBy) -> impl Iterator<Item = &ToldList> {
        self.by_responses(by).flat_map(|told| &told.lists)
    }
}

impl ToldBy {
    fn includes(self, endpoint: usize) -> bool {
        self != Self::OthersThan(endpoint)
    }
}
