//! All local callers as one session towards one upstream endpoint: tokens, revelations and the write log behind one lock, with
//! what the hot path needs mirrored in atomics. The module above states the rules.
//!
//! Invariant: whoever learns news from upstream records it here BEFORE passing the answer on, and whoever sends a request
//! upstream takes its [`Snapshot`] here before the first byte. Both happen under the lock, so a snapshot is a consistent cut.
//!
//! A reset begins an epoch. An answer belongs to the epoch in which its request took its snapshot; one that was under way at
//! the reset tells of the store as it was before, and nothing of it is recorded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;

use super::aggregate::{Aggregate, Presented};
use super::clauses::Clauses;
use super::coverage::{Coverage, CoverageVerdict, UncoveredReason, WrittenCoverage};
use super::token::{self, PresentedToken, SyncToken};
use super::write_log::{WriteId, WriteLog};
use crate::clock::Timestamp;

/// The field that carries tokens both ways.
pub const SYNC_TOKEN: HeaderName = HeaderName::from_static(token::FIELD_NAME);

/// How many entity tags of own writes are remembered. Forgetting one is safe: the read that shows it counts as a change.
const MAX_OWN_TAGS: usize = 4096;

/// What a request takes along upstream, and what its answer will cover.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the answer will be known to include.
    pub covers: Coverage,
    /// The one `Sync-Token` line to send; `None` while the origin has never sent a token.
    pub sync_token: Option<HeaderValue>,
    /// How many revelations there had been.
    pub revelations: u64,
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
}

/// How an answer that shows a change counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revelation {
    /// `required` rises to its token.
    Raises,
    /// What it shows is known to be included in `required`: it counts, and raises nothing.
    Included,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The origin said so, or said something from which it follows (2xx, 3xx; 409 and 412 for App Configuration).
    Happened,
    /// The origin refused it, or it never left.
    DidNotHappen,
    /// Nobody knows: no answer, 5xx, 408.
    Unknown,
}

/// The state shared by all callers of one upstream endpoint. `F` is the profile's footprint of a write.
#[derive(Debug)]
pub struct Session<F> {
    clauses: Clauses,
    state: Mutex<State<F>>,
    required_version: AtomicU64,
    /// Everything sent at or before this position lacks a change that tokens do not tell of.
    required_order: AtomicU64,
    /// The number that the latest revelation bears in its coverage.
    latest_revelation: AtomicU64,
    closed_position: AtomicU64,
    open_writes: AtomicU64,
    /// The least `sent_order` of this epoch. Written under the lock.
    epoch_begins: AtomicU64,
    lines: ArcSwap<Lines>,
    write_closed: Notify,
}

#[derive(Debug)]
struct State<F> {
    aggregate: Aggregate,
    writes: WriteLog<F>,
    sent_order: u64,
    revelations: u64,
    /// The origin's time in the answer to which `required` last rose.
    raised_at: Option<Timestamp>,
    own_tags: VecDeque<Box<[u8]>>,
}

/// The printed forms of the aggregate, made when it changes and not when it is used.
#[derive(Debug, Default)]
struct Lines {
    /// What the response line demands of who presents it.
    response_version: u64,
    request: Option<HeaderValue>,
    response: Option<HeaderValue>,
    response_as_presented: Option<HeaderValue>,
}

impl<F> Default for Session<F> {
    fn default() -> Self {
        Self::new(Clauses::ALL)
    }
}

impl<F> Session<F> {
    /// A session that has seen nothing. `clauses` is [`Clauses::ALL`] outside tests.
    #[must_use]
    pub fn new(clauses: Clauses) -> Self {
        Self {
            clauses,
            state: Mutex::new(State {
                aggregate: Aggregate::default(),
                writes: WriteLog::default(),
                sent_order: 0,
                revelations: 0,
                raised_at: None,
                own_tags: VecDeque::new(),
            }),
            required_version: AtomicU64::new(0),
            required_order: AtomicU64::new(0),
            latest_revelation: AtomicU64::new(0),
            closed_position: AtomicU64::new(0),
            open_writes: AtomicU64::new(0),
            epoch_begins: AtomicU64::new(0),
            lines: ArcSwap::default(),
            write_closed: Notify::new(),
        }
    }

    /// The clauses of the coverage rule that are on.
    #[must_use]
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
            self.publish(&state);
        }
        received
    }

    /// Merges the tokens of the answer to a request that carried a caller's unknown values in the place of ours: from here on
    /// those whose ids it answers are known, as demands. `sent` as for [`Session::observe`]; `false` if a reset came in between,
    /// and what the values demand is still to be found out.
    #[must_use]
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
        let unanswered_demand_nothing = !self.clauses.unanswered_id_stays_unknown;
        if state.aggregate.learn(presented, &received, unanswered_demand_nothing, now) {
            self.publish(&state);
        }
        true
    }

    /// Records an answer that shows a change, and returns its coverage: `snapshot.covers`, as the latest revelation if it may
    /// stand in for the token of its answer. To be called before anyone sees the answer.
    #[must_use]
    pub fn reveal(&self, snapshot: &Snapshot, received: &Received, revelation: Revelation) -> Coverage {
        let covers = snapshot.covers;
        let mut state = self.lock();
        if self.is_of_an_earlier_epoch(covers) {
            return covers;
        }
        let quiet = state.revelations == snapshot.revelations;
        let covered = snapshot.sent_newest
            && covers.newest_version >= state.aggregate.required_version()
            && covers.sent_order > self.required_order.load(Ordering::SeqCst);
        match revelation {
            Revelation::Included if !self.clauses.exempted_are_revelations => return covers,
            Revelation::Included => {}
            Revelation::Raises => {
                state.aggregate.require(&received.tokens);
                state.raised_at = state.raised_at.max(received.origin_time);
                if received.tokens.is_empty() || !state.aggregate.moved() {
                    self.required_order.store(state.sent_order, Ordering::SeqCst);
                }
            }
        }
        state.revelations += 1;
        self.publish(&state);
        let stands_in = covered && (quiet || !self.clauses.revelation_needs_quiet);
        let number = self.number_of_latest(&state);
        Coverage { revelation: if stands_in { number } else { 0 }, ..covers }
    }

    /// Whether the answer to an own write told of the state with this entity tag.
    #[must_use]
    pub fn wrote(&self, tag: &[u8]) -> bool {
        self.lock().own_tags.iter().any(|own| **own == *tag)
    }

    /// Remembers the entity tag that the answer to an own write told.
    pub fn remember_own_tag(&self, tag: &[u8]) {
        let mut state = self.lock();
        if state.own_tags.len() >= MAX_OWN_TAGS {
            state.own_tags.pop_front();
        }
        state.own_tags.push_back(tag.into());
    }

    /// The origin's time in the answer to which `required` last rose.
    #[must_use]
    pub fn raised_at(&self) -> Option<Timestamp> {
        self.lock().raised_at
    }

    /// Whether `newest` has a token of the id of one of these values.
    #[must_use]
    pub fn keeps_id_of(&self, values: &[PresentedToken]) -> bool {
        let state = self.lock();
        values.iter().any(|value| state.aggregate.newest().any(|held| held.id() == value.id()))
    }

    /// Whether this is the coverage of something that was sent before the last reset.
    #[must_use]
    pub fn is_of_an_earlier_epoch(&self, covers: Coverage) -> bool {
        covers.sent_order < self.epoch_begins.load(Ordering::SeqCst)
    }

    /// Whether the origin's tokens tell its states apart, as far as was seen: one without tokens, or with a constant one, is
    /// taken to be consistent by itself.
    #[must_use]
    pub fn tokens_tell_states_apart(&self) -> bool {
        self.lock().aggregate.moved()
    }

    /// The coverage as another process can understand it. What is known of writes stays here.
    #[must_use]
    pub fn written(&self, covers: Coverage) -> WrittenCoverage {
        self.lock().aggregate.written(covers.newest_version)
    }

    /// What a written coverage of another process covers here: no write, and no position in the order of sending. `None` where
    /// that is nothing.
    #[must_use]
    pub fn map(&self, written: &WrittenCoverage) -> Option<Coverage> {
        let newest_version = self.lock().aggregate.version_within(written);
        (newest_version > 0).then(|| Coverage { newest_version, ..Coverage::default() })
    }

    /// The mistake of merging what a caller presents, for the test that shows why it is one.
    pub fn merge_callers_tokens(&self, presented: &[PresentedToken]) {
        let forged: Vec<_> = presented
            .iter()
            .filter_map(|token| SyncToken::new(token.id(), token.value(), u64::MAX >> 12).ok())
            .collect();
        let mut state = self.lock();
        if state.aggregate.observe(&forged, Timestamp::default()) {
            self.publish(&state);
        }
    }

    /// What the `Sync-Token` lines of a caller's request demand (rule 2).
    #[must_use]
    pub fn requirement(&self, fields: &HeaderMap) -> Presented {
        let mut lines = fields.get_all(SYNC_TOKEN).iter();
        let demands_nothing = Presented::Known { required_version: 0 };
        let Some(first) = lines.next().filter(|_| self.clauses.covers_presented) else {
            return demands_nothing;
        };
        let published = self.lines.load();
        if published.response_as_presented.as_ref() == Some(first) && lines.next().is_none() {
            // The usual case: the caller returns exactly what the last answer carried.
            return Presented::Known { required_version: published.response_version };
        }
        drop(published);
        let presented = token::parse_request(fields.get_all(SYNC_TOKEN).iter().map(HeaderValue::as_bytes));
        if !self.clauses.callers_never_merged {
            self.merge_callers_tokens(&presented);
        }
        self.lock().aggregate.requirement(presented)
    }

    /// What a request that is about to leave takes along. `in_place_of_ours`: a caller's unknown values, for the first of
    /// the two steps in which they are learned; the answer to that step must not be stored.
    #[must_use]
    pub fn snapshot(&self, in_place_of_ours: &[PresentedToken]) -> Snapshot {
        let mut state = self.lock();
        state.sent_order += 1;
        let covers = Coverage {
            newest_version: state.aggregate.version(),
            closed_position: state.writes.snapshot_position(self.clauses),
            sent_order: state.sent_order,
            revelation: 0,
        };
        let sent_newest = in_place_of_ours.is_empty();
        let sync_token = if sent_newest {
            self.lines.load().request.clone()
        } else {
            HeaderValue::from_maybe_shared(state.aggregate.request_line(in_place_of_ours)).ok()
        };
        Snapshot { covers, sync_token, revelations: state.revelations, sent_newest }
    }

    /// The mistake of counting what was received as covered, for the test that shows why it is one.
    #[must_use]
    pub fn covers_as_received(&self, covers: Coverage) -> Coverage {
        if self.clauses.sent_not_received {
            return covers;
        }
        Coverage { newest_version: self.lock().aggregate.version(), ..covers }
    }

    /// Rules 1 to 3 for what has this coverage: a stored response, or a flight that a request wants to join. `related`: the
    /// resources belong together, so that the order of sending counts where tokens do not tell.
    #[must_use]
    pub fn verdict(
        &self,
        covers: Coverage,
        presented: &Presented,
        related: bool,
        touches: impl Fn(&F) -> bool,
    ) -> CoverageVerdict {
        // `open_writes` first: a write that closes in between has set the position before it left this count.
        let quiet = self.open_writes.load(Ordering::SeqCst) == 0
            && self.closed_position.load(Ordering::SeqCst) == covers.closed_position;
        if !quiet
            && self.clauses.covers_writes
            && let Some(reason) = self.lock().writes.outdates(covers, self.clauses, touches)
        {
            return CoverageVerdict::Outdated(reason);
        }
        match presented {
            Presented::Unknown(_) => CoverageVerdict::Unverified(UncoveredReason::UnknownSyncToken),
            _ if self.clauses.covers_required && !self.covers_required(covers, related) => {
                CoverageVerdict::Unverified(UncoveredReason::Change)
            }
            Presented::Known { required_version } if covers.newest_version < *required_version => {
                CoverageVerdict::Unverified(UncoveredReason::SyncToken)
            }
            Presented::Known { .. } => CoverageVerdict::Covered,
        }
    }

    /// The `Sync-Token` line of every answer to a caller, if the origin has ever sent a token.
    #[must_use]
    pub fn response_line(&self) -> Option<HeaderValue> {
        self.lines.load().response.clone()
    }

    /// The line of the answer to a caller's own write: what it demands of later reads includes that write.
    #[must_use]
    pub fn response_line_after_write(&self, received: &[SyncToken]) -> Option<HeaderValue> {
        line(self.lock().aggregate.response_line(received))
    }

    /// Opens a write, before its first byte is sent.
    pub fn open_write(&self, footprint: F) -> WriteId {
        let mut state = self.lock();
        let id = state.writes.open(footprint);
        self.mirror_writes(&state);
        id
    }

    /// Closes a write; says whether it stays open for the settle time instead: without tokens, or with a constant one, an unknown
    /// write may land late and nothing would tell. Then the caller of this function closes it again, as happened, when that time
    /// has passed.
    pub fn close_write(&self, id: WriteId, outcome: WriteOutcome, widen: impl FnOnce(F) -> F) -> WriteClosed {
        let mut state = self.lock();
        match outcome {
            WriteOutcome::Unknown if !self.clauses.unknown_counts_as_happened => state.writes.forget(id),
            WriteOutcome::Unknown if self.clauses.unknown_stays_open && !state.aggregate.moved() => {
                return WriteClosed::StaysOpen;
            }
            WriteOutcome::Happened | WriteOutcome::Unknown => state.writes.close(id, widen),
            WriteOutcome::DidNotHappen => state.writes.forget(id),
        }
        self.mirror_writes(&state);
        let position = state.writes.closed_position();
        drop(state);
        self.write_closed.notify_waiters();
        WriteClosed::Closed { position }
    }

    /// Closes a write that stayed open for the settle time.
    pub fn settle_write(&self, id: WriteId) {
        let mut state = self.lock();
        state.writes.close(id, |footprint| footprint);
        self.mirror_writes(&state);
        drop(state);
        self.write_closed.notify_waiters();
    }

    /// Outdates everything that this footprint touches and that was sent before now.
    pub fn outdate_what_was_sent(&self, footprint: F) {
        let write = self.open_write(footprint);
        self.settle_write(write);
    }

    /// Waits until no open write other than `own` satisfies `touches`. The caller bounds the wait.
    pub async fn others_closed(&self, own: Option<WriteId>, touches: impl Fn(&F) -> bool) {
        loop {
            // Registered before looking, so that a close in between is not missed.
            let mut closed = std::pin::pin!(self.write_closed.notified());
            closed.as_mut().enable();
            if !self.lock().writes.another_is_open(own, &touches) {
                return;
            }
            closed.await;
        }
    }

    /// Forgets everything that tokens told: a store restored from a backup may count lower. Coverage taken before never
    /// holds again, that of answers still under way included, and no token of theirs is recorded; the write log stays, because it
    /// does not depend on tokens.
    pub fn reset(&self) {
        let mut state = self.lock();
        self.epoch_begins.store(state.sent_order + 1, Ordering::SeqCst);
        self.required_order.store(state.sent_order, Ordering::SeqCst);
        state.aggregate.reset();
        state.raised_at = None;
        state.revelations += 1;
        self.publish(&state);
    }

    fn covers_required(&self, covers: Coverage, related: bool) -> bool {
        // An overflowed aggregate publishes numbers that no coverage can have.
        let includes = covers.newest_version >= self.required_version.load(Ordering::SeqCst)
            && (!related
                || !self.clauses.order_stands_in_for_tokens
                || covers.sent_order > self.required_order.load(Ordering::SeqCst));
        includes
            || (covers.revelation != 0
                && covers.revelation == self.latest_revelation.load(Ordering::SeqCst))
            // What was fixed in one epoch may be otherwise in the next.
            || (covers.is_immutable() && !self.is_of_an_earlier_epoch(covers))
    }

    /// The number by which the latest revelation is known. Off the clause it is the mistake of knowing it by the token of its
    /// answer.
    fn number_of_latest(&self, state: &State<F>) -> u64 {
        if self.clauses.latest_revelation_by_counter {
            state.revelations
        } else {
            state.aggregate.required_version()
        }
    }

    fn publish(&self, state: &State<F>) {
        let aggregate = &state.aggregate;
        self.lines.store(std::sync::Arc::new(Lines {
            response_version: aggregate.response_line_version(),
            request: line(aggregate.request_line(&[])),
            response: line(aggregate.response_line(&[])),
            response_as_presented: line(aggregate.response_line_as_presented()),
        }));
        let overflowed = aggregate.overflowed();
        let (required, latest) = if overflowed {
            (u64::MAX, u64::MAX)
        } else {
            (aggregate.required_version(), self.number_of_latest(state))
        };
        self.required_version.store(required, Ordering::SeqCst);
        self.latest_revelation.store(latest, Ordering::SeqCst);
    }

    fn mirror_writes(&self, state: &State<F>) {
        self.closed_position.store(state.writes.closed_position(), Ordering::SeqCst);
        self.open_writes.store(state.writes.open_count() as u64, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State<F>> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a write has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WriteClosed {
    /// It has, and the log reached this position.
    Closed {
        /// The position of the last closed write, this one if it happened.
        position: u64,
    },
    /// Its outcome is unknown and no tokens would tell that it landed late: call [`Session::settle_write`] after the settle time.
    StaysOpen,
}

fn tokens_of(fields: &HeaderMap) -> Vec<SyncToken> {
    token::parse_response(fields.get_all(SYNC_TOKEN).iter().map(HeaderValue::as_bytes))
}

fn line(text: String) -> Option<HeaderValue> {
    if text.is_empty() { None } else { HeaderValue::from_maybe_shared(text).ok() }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
