//! All local callers as one session towards one upstream endpoint: tokens, revelations and the write log behind one lock, with
//! what the hot path needs mirrored in atomics. The module above states the rules.
//!
//! Invariant: news from upstream are recorded here BEFORE the answer that brings them is passed on, and the [`SessionSnapshot`] of a
//! request is taken here before its first byte goes upstream. Both happen under the lock, so a snapshot is a consistent cut.
//!
//! A reset begins an epoch. An answer belongs to the epoch in which its request took its snapshot; one that was under way at
//! the reset tells of the store as it was before, and nothing of it is recorded.

mod fleet;
mod lines;
#[cfg(any(test, feature = "internals"))]
mod mistakes;
mod report;
mod rules;
mod writes;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;

use lines::Lines;
pub use report::SessionReport;
pub use rules::{RequiredCoverage, Revelation};
pub use writes::{WriteClosed, WriteOutcome};

use super::aggregate::Aggregate;
use super::clauses::Clauses;
use super::coverage::Coverage;
use super::fleet_order::FleetOrder;
use super::persisted::PersistedTokens;
use super::resource_order::ResourceOrders;
use super::token::{self, PresentedToken, SyncToken};
use super::write_log::WriteLog;
use crate::clock::Timestamp;

/// The field that carries tokens both ways.
pub const SYNC_TOKEN: HeaderName = HeaderName::from_static(token::FIELD_NAME);

/// How many entity tags of own writes are remembered. Forgetting one is safe: the read that shows it counts as a change.
const MAX_OWN_TAGS: usize = 4096;

/// What a request takes along upstream, and what its answer will cover.
#[derive(Clone, Debug)]
pub struct SessionSnapshot {
    /// What the answer will be known to include.
    pub covers: Coverage,
    /// The one `Sync-Token` line to send; `None` while the origin has never sent a token.
    pub sync_token: Option<HeaderValue>,
    /// The tokens were those of `newest`, none of a caller's in their place.
    pub sent_newest: bool,
}

/// What the head of an answer brought: its tokens, and the origin's time.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// The tokens of the answer. Merged into `newest` already.
    pub tokens: Vec<SyncToken>,
    /// What time it was at the origin (`x-ms-date`, else `Date`).
    pub origin_time: Option<Timestamp>,
    /// Before which place in the order of sending another member of the fleet made known what it shows; `None`: it shows it now.
    pub known_since: Option<u64>,
}

/// The state shared by all callers of one upstream endpoint. `F` is the profile's footprint of a write.
#[derive(Debug)]
pub struct Session<F> {
    clauses: Clauses,
    state: Mutex<SessionState<F>>,
    required_version: AtomicU64,
    /// Everything sent at or before this position lacks a change that tokens do not tell of.
    required_order: AtomicU64,
    /// The same for entries of a fleet that may have been lost: it bears upon every resource.
    fleet_order: AtomicU64,
    /// The same for each resource by itself.
    resource_orders: ResourceOrders,
    /// The number that the latest revelation bears in its coverage.
    latest_revelation: AtomicU64,
    closed_position: AtomicU64,
    open_writes: AtomicU64,
    /// The least `sent_order` of this epoch. Written under the lock.
    epoch_begins: AtomicU64,
    lines: ArcSwap<Lines>,
    write_closed: Notify,
    /// Where `newest` is written. Written under the lock.
    persisted: OnceLock<PersistedTokens>,
}

#[derive(Debug)]
struct SessionState<F> {
    aggregate: Aggregate,
    writes: WriteLog<F>,
    /// Of the fleet's entries.
    fleet: FleetOrder,
    sent_order: u64,
    /// How many answers have shown a change.
    revelations: u64,
    /// The number of the last of them that bears upon every resource.
    latest_revelation: u64,
    /// The origin's time in the answer to which `required` last rose.
    raised_at: Option<Timestamp>,
    /// The hash of each: how long tags are is up to the origin.
    own_tags: VecDeque<u64>,
    tag_hasher: ahash::RandomState,
    /// At which endpoint the session is, and the tokens that others had when it left them.
    endpoint: usize,
    elsewhere: Vec<(usize, Vec<SyncToken>)>,
}

impl<F> Default for Session<F> {
    fn default() -> Self {
        Self::new(Clauses::ALL)
    }
}

impl<F> Session<F> {
    /// A session that has seen nothing. `clauses` is [`Clauses::ALL`] outside tests.
    pub fn new(clauses: Clauses) -> Self {
        Self {
            clauses,
            state: Mutex::new(SessionState {
                aggregate: Aggregate::default(),
                writes: WriteLog::default(),
                fleet: FleetOrder::default(),
                sent_order: 0,
                revelations: 0,
                latest_revelation: 0,
                raised_at: None,
                own_tags: VecDeque::new(),
                tag_hasher: ahash::RandomState::new(),
                endpoint: 0,
                elsewhere: Vec::new(),
            }),
            required_version: AtomicU64::new(0),
            required_order: AtomicU64::new(0),
            fleet_order: AtomicU64::new(0),
            resource_orders: ResourceOrders::default(),
            latest_revelation: AtomicU64::new(0),
            closed_position: AtomicU64::new(0),
            open_writes: AtomicU64::new(0),
            epoch_begins: AtomicU64::new(0),
            lines: ArcSwap::default(),
            write_closed: Notify::new(),
            persisted: OnceLock::new(),
        }
    }

    /// Goes on from the tokens that `persisted` had, and writes there what is newer from now on. They are required: callers were
    /// shown as much. To be called before the first request; a second call does nothing.
    pub fn persist(&self, persisted: PersistedTokens, tokens: &[SyncToken], now: Timestamp) {
        let mut state = self.lock();
        if self.persisted.set(persisted).is_ok() {
            state.aggregate.observe(tokens, now);
            state.aggregate.require(tokens);
            self.publish(&state);
        }
    }

    /// The clauses of the coverage rule that are on.
    pub const fn clauses(&self) -> Clauses {
        self.clauses
    }

    /// Merges the tokens of an upstream answer (any method, any status) into `newest`. `sent` is from the snapshot of the request
    /// that it answers: if that was taken before a reset, nothing is merged, and nothing returned.
    pub fn observe(&self, sent: Coverage, fields: &HeaderMap, now: Timestamp) -> Vec<SyncToken> {
        let received = tokens_of(fields);
        if received.is_empty() {
            return received;
        }
        let mut state = self.lock();
        if self.is_of_an_earlier_epoch(sent) {
            return Vec::new();
        }
        if state.aggregate.observe(&received, now) {
            self.publish_newer(&state);
        }
        received
    }

    /// Merges the tokens of the answer to a request that carried a caller's unknown values in the place of ours: from here on
    /// those whose ids it answers are known, as demands. `sent` as for [`Session::observe`]; `false` if a reset came in between,
    /// and what the values demand is still to be found out.
    pub fn learn(
        &self,
        sent: Coverage,
        presented: &[PresentedToken],
        fields: &HeaderMap,
        now: Timestamp,
    ) -> bool {
        let received = tokens_of(fields);
        let mut state = self.lock();
        if self.is_of_an_earlier_epoch(sent) {
            return false;
        }
        if state.aggregate.learn(presented, &received, now) {
            self.publish_newer(&state);
        }
        #[cfg(any(test, feature = "internals"))]
        self.take_unanswered_for_nothing(&mut state, presented, &received);
        true
    }

    /// Whether the answer to an own write told of the state with this entity tag.
    pub fn wrote(&self, tag: &[u8]) -> bool {
        let state = self.lock();
        let tag = state.tag_hasher.hash_one(tag);
        state.own_tags.contains(&tag)
    }

    /// Remembers the entity tag that the answer to an own write told.
    pub fn remember_own_tag(&self, tag: &[u8]) {
        let mut state = self.lock();
        if state.own_tags.len() >= MAX_OWN_TAGS {
            state.own_tags.pop_front();
        }
        let tag = state.tag_hasher.hash_one(tag);
        state.own_tags.push_back(tag);
    }

    /// How many requests have been sent, and entries of the fleet read.
    pub fn sent_order(&self) -> u64 {
        self.lock().sent_order
    }

    /// The origin's time in the answer to which `required` last rose.
    pub fn raised_at(&self) -> Option<Timestamp> {
        self.lock().raised_at
    }

    /// The newest tokens.
    pub fn newest(&self) -> Vec<SyncToken> {
        self.lock().aggregate.newest().cloned().collect()
    }

    /// Whether `newest` has a token of the id of one of these values.
    pub fn keeps_id_of(&self, values: &[PresentedToken]) -> bool {
        let state = self.lock();
        values.iter().any(|value| state.aggregate.newest().any(|held| held.id() == value.id()))
    }

    /// Whether this is the coverage of something that was sent before the last reset.
    pub fn is_of_an_earlier_epoch(&self, covers: Coverage) -> bool {
        covers.sent_order < self.epoch_begins.load(Ordering::SeqCst)
    }

    /// Whether the origin's tokens tell its states apart, as far as was seen: one without tokens, or with a constant one, is
    /// taken to be consistent by itself.
    pub fn tokens_tell_states_apart(&self) -> bool {
        self.lock().aggregate.moved()
    }

    /// What a request that is about to leave takes along. `in_place_of_ours`: a caller's unknown values, for the first of
    /// the two steps in which they are learned; the answer to that step must not be stored.
    pub fn snapshot(&self, in_place_of_ours: &[PresentedToken]) -> SessionSnapshot {
        let mut state = self.lock();
        state.sent_order += 1;
        let closed_position = state.writes.closed_position();
        #[cfg(any(test, feature = "internals"))]
        let closed_position = self.mistaken_position(&state, closed_position);
        let covers = Coverage {
            newest_version: state.aggregate.version(),
            closed_position,
            sent_order: state.sent_order,
            revelation: 0,
        };
        let sent_newest = in_place_of_ours.is_empty();
        let sync_token = if sent_newest {
            self.lines.load().request.clone()
        } else {
            lines::line(state.aggregate.request_line(in_place_of_ours))
        };
        SessionSnapshot { covers, sync_token, sent_newest }
    }

    /// Forgets everything that tokens told: a store restored from a backup may count lower. Coverage taken before never
    /// holds again, that of answers still under way included, and no token of theirs is recorded; the write log stays, because it
    /// does not depend on tokens.
    pub fn reset(&self) {
        let mut state = self.lock();
        self.begin_epoch(&mut state);
        state.aggregate.reset();
        state.elsewhere.clear();
        self.publish_newer(&state);
    }

    /// Goes on at another endpoint, where the tokens of this one mean nothing: an epoch begins, as with [`Session::reset`]. The tokens are
    /// kept for the return. Values that callers present of another endpoint demand nothing here.
    pub fn change_endpoint(&self, from: usize, to: usize, now: Timestamp) {
        let mut state = self.lock();
        let tokens: Vec<SyncToken> = state.aggregate.newest().cloned().collect();
        state.elsewhere.retain(|(endpoint, _)| *endpoint != from);
        state.elsewhere.push((from, tokens));
        self.begin_epoch(&mut state);
        state.aggregate.leave_endpoint();
        state.endpoint = to;
        if let Some(at) = state.elsewhere.iter().position(|(endpoint, _)| *endpoint == to) {
            let (_, tokens) = state.elsewhere.swap_remove(at);
            state.aggregate.observe(&tokens, now);
            state.aggregate.require(&tokens);
        }
        self.publish_newer(&state);
    }

    /// Nothing that was sent before covers what is required from now on.
    fn begin_epoch(&self, state: &mut SessionState<F>) {
        self.epoch_begins.store(state.sent_order + 1, Ordering::SeqCst);
        self.required_order.store(state.sent_order, Ordering::SeqCst);
        state.raised_at = None;
        state.revelations += 1;
        state.latest_revelation = state.revelations;
    }

    /// `newest` has changed. The file is for the tokens of the first endpoint.
    fn publish_newer(&self, state: &SessionState<F>) {
        if let Some(persisted) = self.persisted.get().filter(|_| state.endpoint == 0) {
            persisted.write(state.aggregate.newest());
        }
        self.publish(state);
    }

    fn publish(&self, state: &SessionState<F>) {
        let aggregate = &state.aggregate;
        self.lines.store(std::sync::Arc::new(Lines::of(aggregate)));
        let overflowed = aggregate.overflowed();
        let (required, latest) = if overflowed {
            (u64::MAX, u64::MAX)
        } else {
            (aggregate.required_version(), self.number_of_latest(state))
        };
        #[cfg(any(test, feature = "internals"))]
        let (required, latest) = self.mistaken_requirement(state, required, latest);
        self.required_version.store(required, Ordering::SeqCst);
        self.latest_revelation.store(latest, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, SessionState<F>> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tokens_of(fields: &HeaderMap) -> Vec<SyncToken> {
    token::parse_response(fields.get_all(SYNC_TOKEN).iter().map(HeaderValue::as_bytes))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
