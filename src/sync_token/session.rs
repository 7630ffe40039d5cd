//! All local callers as one session towards one upstream endpoint: `observed` and the write log behind one lock, with what
//! the hot path needs mirrored in atomics.
//!
//! Invariant: whoever learns news from upstream records it here BEFORE passing the answer on, and whoever sends a request
//! upstream takes its [`Snapshot`] here before the first byte. Both happen under the lock, so a snapshot is a consistent cut.
//!
//! A reset begins an epoch. An answer belongs to the epoch in which its request took its snapshot; one that was under way at
//! the reset tells of the store as it was before, and nothing of it is recorded.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;

use super::aggregate::{Aggregate, Presented};
use super::clauses::Clauses;
use super::coverage::{Coverage, CoverageVerdict, UncoveredReason};
use super::token::{self, PresentedToken};
use super::write_log::{WriteId, WriteLog};

/// The field that carries tokens both ways.
pub const SYNC_TOKEN: HeaderName = HeaderName::from_static(token::FIELD_NAME);

/// What a request takes along upstream, and what its answer will cover.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the answer will be known to include.
    pub covers: Coverage,
    /// The one `Sync-Token` line to send; `None` while the origin has never sent a token.
    pub sync_token: Option<HeaderValue>,
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
    observed_version: AtomicU64,
    closed_position: AtomicU64,
    open_writes: AtomicU64,
    /// The least `sent_order` of this epoch. Written under the lock.
    epoch_begins: AtomicU64,
    revision: AtomicU64,
    lines: ArcSwap<Lines>,
    write_closed: Notify,
}

#[derive(Debug)]
struct State<F> {
    aggregate: Aggregate,
    writes: WriteLog<F>,
    sent_order: u64,
}

/// The two printed forms of the aggregate, made when it changes and not when it is used.
#[derive(Debug, Default)]
struct Lines {
    version: u64,
    request: Option<HeaderValue>,
    response: Option<HeaderValue>,
}

impl<F> Default for Session<F> {
    fn default() -> Self {
        Self::new(Clauses::ALL)
    }
}

impl<F> Session<F> {
    /// A session that has observed nothing. `clauses` is [`Clauses::ALL`] outside tests.
    #[must_use]
    pub fn new(clauses: Clauses) -> Self {
        Self {
            clauses,
            state: Mutex::new(State {
                aggregate: Aggregate::default(),
                writes: WriteLog::default(),
                sent_order: 0,
            }),
            observed_version: AtomicU64::new(0),
            closed_position: AtomicU64::new(0),
            open_writes: AtomicU64::new(0),
            epoch_begins: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            lines: ArcSwap::default(),
            write_closed: Notify::new(),
        }
    }

    /// The clauses of the coverage rule that are on.
    #[must_use]
    pub const fn clauses(&self) -> Clauses {
        self.clauses
    }

    /// Merges the tokens of an upstream answer (any method, any status) into `observed`. `sent` is from the snapshot of the request
    /// that it answers: if that was taken before a reset, nothing is merged.
    pub fn observe(&self, sent: Coverage, fields: &HeaderMap) {
        let mut lines = fields.get_all(SYNC_TOKEN).iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        let received = token::parse_response(lines.map(HeaderValue::as_bytes));
        let mut state = self.lock();
        if !self.is_of_an_earlier_epoch(sent) && state.aggregate.observe(&received) {
            self.publish(&state);
        }
    }

    /// Merges the tokens of the answer to a request that carried a caller's unknown values in the place of ours: from here on
    /// those values are known, as demands. `sent` as for [`Session::observe`]; `false` if a reset came in between, and what the
    /// values demand is still to be found out.
    #[must_use]
    pub fn learn(&self, sent: Coverage, presented: &[PresentedToken], fields: &HeaderMap) -> bool {
        let received = token::parse_response(fields.get_all(SYNC_TOKEN).iter().map(HeaderValue::as_bytes));
        let mut state = self.lock();
        if self.is_of_an_earlier_epoch(sent) {
            return false;
        }
        if state.aggregate.learn(presented, &received) {
            self.publish(&state);
        }
        true
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

    /// The mistake of merging what a caller presents, for the test that shows why it is one.
    pub fn merge_callers_tokens(&self, presented: &[PresentedToken]) {
        let forged: Vec<_> = presented
            .iter()
            .filter_map(|token| token::SyncToken::new(token.id(), token.value(), u64::MAX >> 12).ok())
            .collect();
        let mut state = self.lock();
        if state.aggregate.observe(&forged) {
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
        if published.request.as_ref() == Some(first) && lines.next().is_none() {
            // The usual case: the caller returns exactly what the last answer carried.
            return Presented::Known { required_version: published.version };
        }
        drop(published);
        let presented = token::parse_request(fields.get_all(SYNC_TOKEN).iter().map(HeaderValue::as_bytes));
        if !self.clauses.callers_never_merged {
            self.merge_callers_tokens(&presented);
        }
        // Nothing is found out here: the revision stays, or a single caller with an old token would void every repeated answer.
        self.state().aggregate.requirement(presented)
    }

    /// What a request that is about to leave takes along. `in_place_of_ours`: a caller's unknown values, for the first of
    /// the two steps in which they are learned; the answer to that step must not be stored.
    #[must_use]
    pub fn snapshot(&self, in_place_of_ours: &[PresentedToken]) -> Snapshot {
        let mut state = self.lock();
        state.sent_order += 1;
        let covers = Coverage {
            observed_version: state.aggregate.version(),
            closed_position: state.writes.snapshot_position(self.clauses),
            sent_order: state.sent_order,
        };
        let sync_token = if in_place_of_ours.is_empty() {
            self.lines.load().request.clone()
        } else {
            HeaderValue::from_maybe_shared(state.aggregate.request_line(in_place_of_ours)).ok()
        };
        Snapshot { covers, sync_token }
    }

    /// The mistake of counting what was received as covered, for the test that shows why it is one.
    #[must_use]
    pub fn covers_as_received(&self, covers: Coverage) -> Coverage {
        if self.clauses.sent_not_received {
            return covers;
        }
        Coverage { observed_version: self.observed_version.load(Ordering::SeqCst), ..covers }
    }

    /// Rules 1 to 3 for what has this coverage: a stored response, or a flight that a request wants to join.
    #[must_use]
    pub fn verdict(
        &self,
        covers: Coverage,
        presented: &Presented,
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
            Presented::Known { required_version } if covers.observed_version < *required_version => {
                CoverageVerdict::Unverified(UncoveredReason::SyncToken)
            }
            _ if self.clauses.covers_observed && !self.covers_observed(covers) => {
                CoverageVerdict::Unverified(UncoveredReason::SyncToken)
            }
            _ => CoverageVerdict::Covered,
        }
    }

    /// The `Sync-Token` line of every answer to a caller, if the origin has ever sent a token.
    #[must_use]
    pub fn response_line(&self) -> Option<HeaderValue> {
        self.lines.load().response.clone()
    }

    /// A number that grows whenever anything here is changed or found out under the lock, before anybody hears of it (what tokens
    /// demand depends on nothing that changes without it). While it stays the same, every verdict and every line that was found without the lock stays the same too.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
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

    /// Forgets everything that was observed: a store restored from a backup may count lower. Coverage taken before never
    /// holds again, that of answers still under way included, and no token of theirs is recorded; the write log stays, because it
    /// does not depend on tokens.
    pub fn reset(&self) {
        let mut state = self.lock();
        self.epoch_begins.store(state.sent_order + 1, Ordering::SeqCst);
        state.aggregate.reset();
        self.publish(&state);
    }

    fn covers_observed(&self, covers: Coverage) -> bool {
        // An overflowed aggregate publishes a version that no snapshot can have.
        covers.observed_version == self.observed_version.load(Ordering::SeqCst)
            // What was fixed in one epoch may be otherwise in the next.
            || (covers.is_immutable() && !self.is_of_an_earlier_epoch(covers))
    }

    fn publish(&self, state: &State<F>) {
        let aggregate = &state.aggregate;
        let line =
            |text: String| if text.is_empty() { None } else { HeaderValue::from_maybe_shared(text).ok() };
        self.lines.store(std::sync::Arc::new(Lines {
            version: aggregate.version(),
            request: line(aggregate.request_line(&[])),
            response: line(aggregate.response_line()),
        }));
        let version = if aggregate.overflowed() { u64::MAX } else { aggregate.version() };
        self.observed_version.store(version, Ordering::SeqCst);
    }

    fn mirror_writes(&self, state: &State<F>) {
        self.closed_position.store(state.writes.closed_position(), Ordering::SeqCst);
        self.open_writes.store(state.writes.open_count() as u64, Ordering::SeqCst);
    }

    fn lock(&self) -> Locked<'_, F> {
        Locked { state: self.state(), revision: &self.revision }
    }

    fn state(&self) -> MutexGuard<'_, State<F>> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state under its lock. What was found out with it is another revision from before the lock is given back: by then the
/// mirrors have been set, and nobody has been told yet.
struct Locked<'a, F> {
    state: MutexGuard<'a, State<F>>,
    revision: &'a AtomicU64,
}

impl<F> Deref for Locked<'_, F> {
    type Target = State<F>;

    fn deref(&self) -> &State<F> {
        &self.state
    }
}

impl<F> DerefMut for Locked<'_, F> {
    fn deref_mut(&mut self) -> &mut State<F> {
        &mut self.state
    }
}

impl<F> Drop for Locked<'_, F> {
    fn drop(&mut self) {
        self.revision.fetch_add(1, Ordering::SeqCst);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(SYNC_TOKEN, HeaderValue::from_str(line).expect("a field value"));
        fields
    }

    fn verdict(session: &Session<&'static str>, covers: Coverage, caller: &HeaderMap) -> CoverageVerdict {
        session.verdict(covers, &session.requirement(caller), |footprint| *footprint == "k")
    }

    const UNVERIFIED: CoverageVerdict = CoverageVerdict::Unverified(UncoveredReason::SyncToken);

    /// An answer to a request that is sent now brings this token.
    fn observe(session: &Session<&'static str>, line: &str) {
        session.observe(session.snapshot(&[]).covers, &fields(line));
    }

    #[test]
    fn whatever_changes_a_verdict_or_a_line_is_another_revision() {
        let session = Session::<&str>::default();
        let changed_by = |change: &dyn Fn()| {
            let before = session.revision();
            change();
            session.revision() > before
        };
        assert!(changed_by(&|| observe(&session, "id=a;sn=1")));
        assert!(changed_by(&|| {
            let write = session.open_write("k");
            let closes = || {
                let _closed = session.close_write(write, WriteOutcome::Happened, |footprint| footprint);
            };
            assert!(changed_by(&closes));
        }));
        let snapshot = session.snapshot(&[]);
        let caller = fields("id=a");
        assert!(!changed_by(&|| assert_eq!(
            verdict(&session, snapshot.covers, &caller),
            CoverageVerdict::Covered
        )));
        session.outdate_what_was_sent("other");
        let looks_into_the_log =
            || assert_eq!(verdict(&session, snapshot.covers, &caller), CoverageVerdict::Covered);
        assert!(
            changed_by(&looks_into_the_log),
            "what profiles make of a footprint may change: not to be repeated"
        );
        assert!(changed_by(&|| session.reset()));
    }

    #[test]
    fn what_was_sent_counts_and_not_what_was_received() {
        let session = Session::<&str>::default();
        let snapshot = session.snapshot(&[]);
        assert_eq!(snapshot.sync_token, None);
        observe(&session, "a=new;sn=7");
        assert_eq!(verdict(&session, snapshot.covers, &HeaderMap::new()), UNVERIFIED);
        let next = session.snapshot(&[]);
        assert_eq!(next.sync_token, Some(HeaderValue::from_static("a=new")));
        assert_eq!(verdict(&session, next.covers, &HeaderMap::new()), CoverageVerdict::Covered);
        assert_eq!(session.response_line(), Some(HeaderValue::from_static("a=new;sn=7")));
    }

    #[test]
    fn an_unknown_value_of_a_caller_leaves_nothing_covered_until_it_was_learned() {
        let session = Session::<&str>::default();
        observe(&session, "a=new;sn=7");
        let covers = session.snapshot(&[]).covers;
        let unknown = CoverageVerdict::Unverified(UncoveredReason::UnknownSyncToken);
        assert_eq!(verdict(&session, covers, &fields("a=new")), CoverageVerdict::Covered);
        assert_eq!(verdict(&session, covers, &fields("a=from-elsewhere")), unknown);
        observe(&session, "a=from-elsewhere;sn=9");
        assert_eq!(verdict(&session, covers, &fields("a=from-elsewhere")), UNVERIFIED);
        let learned = session.snapshot(&[]).covers;
        assert_eq!(verdict(&session, learned, &fields("a=from-elsewhere")), CoverageVerdict::Covered);
        assert_eq!(
            verdict(&session, learned, &fields("a=new")),
            CoverageVerdict::Covered,
            "an older value too"
        );
    }

    #[test]
    fn a_tokenless_unknown_write_stays_open_until_it_settles() {
        let session = Session::<&str>::default();
        let covers = session.snapshot(&[]).covers;
        let write = session.open_write("k");
        assert_eq!(session.close_write(write, WriteOutcome::Unknown, |f| f), WriteClosed::StaysOpen);
        let open = CoverageVerdict::Outdated(UncoveredReason::OpenWrite);
        assert_eq!(verdict(&session, session.snapshot(&[]).covers, &HeaderMap::new()), open);
        session.settle_write(write);
        let own = CoverageVerdict::Outdated(UncoveredReason::OwnWrite);
        assert_eq!(verdict(&session, covers, &HeaderMap::new()), own);
        assert_eq!(
            verdict(&session, session.snapshot(&[]).covers, &HeaderMap::new()),
            CoverageVerdict::Covered
        );
    }

    #[test]
    fn with_tokens_an_unknown_write_closes_as_happened() {
        let session = Session::<&str>::default();
        observe(&session, "a=new;sn=7");
        let write = session.open_write("k");
        let closed = session.close_write(write, WriteOutcome::Unknown, |f| f);
        assert_eq!(closed, WriteClosed::StaysOpen, "the token may be a constant");
        session.settle_write(write);
        observe(&session, "a=newer;sn=8");
        let covers = session.snapshot(&[]).covers;
        let write = session.open_write("k");
        assert_eq!(
            session.close_write(write, WriteOutcome::Unknown, |f| f),
            WriteClosed::Closed { position: 2 }
        );
        let own = CoverageVerdict::Outdated(UncoveredReason::OwnWrite);
        assert_eq!(verdict(&session, covers, &HeaderMap::new()), own);
    }

    #[test]
    fn after_a_reset_no_older_coverage_holds() {
        let session = Session::<&str>::default();
        observe(&session, "a=new;sn=7");
        let covers = session.snapshot(&[]).covers;
        session.reset();
        assert_eq!(verdict(&session, covers, &HeaderMap::new()), UNVERIFIED);
        assert_eq!(session.response_line(), None);
        observe(&session, "a=restored;sn=2");
        assert_eq!(session.response_line(), Some(HeaderValue::from_static("a=restored;sn=2")));
    }

    #[test]
    fn an_answer_that_was_under_way_at_a_reset_tells_nothing() {
        let session = Session::<&str>::default();
        let under_way = session.snapshot(&[]).covers;
        let learning = [PresentedToken::new("a", "elsewhere").expect("well-formed")];
        session.reset();
        session.observe(under_way, &fields("a=before;sn=9"));
        assert!(!session.learn(under_way, &learning, &fields("a=before;sn=9")));
        assert_eq!((session.response_line(), session.snapshot(&[]).sync_token), (None, None));
        assert!(matches!(session.requirement(&fields("a=before")), Presented::Unknown(_)));
        assert!(matches!(session.requirement(&fields("a=elsewhere")), Presented::Unknown(_)));
        let covers = session.snapshot(&[]).covers;
        session.observe(covers, &fields("a=after;sn=2"));
        assert!(session.learn(covers, &learning, &fields("a=after;sn=2")));
        assert_eq!(session.response_line(), Some(HeaderValue::from_static("a=after;sn=2")));
    }

    #[test]
    fn what_was_immutable_before_a_reset_is_to_be_asked_for_after_it() {
        let session = Session::<&str>::default();
        let covers = session.snapshot(&[]).covers.immutable();
        observe(&session, "a=new;sn=7");
        assert_eq!(verdict(&session, covers, &HeaderMap::new()), CoverageVerdict::Covered);
        session.reset();
        assert_eq!(verdict(&session, covers, &HeaderMap::new()), UNVERIFIED);
        let covers = session.snapshot(&[]).covers.immutable();
        assert_eq!(verdict(&session, covers, &HeaderMap::new()), CoverageVerdict::Covered);
    }

    #[test]
    fn with_too_many_ids_nothing_is_covered() {
        let session = Session::<&str>::default();
        for number in 0..=super::super::aggregate::MAX_IDS {
            observe(&session, &format!("id{number}=v;sn=1"));
        }
        assert_eq!(verdict(&session, session.snapshot(&[]).covers, &HeaderMap::new()), UNVERIFIED);
    }

    #[tokio::test]
    async fn waiting_for_others_ends_when_the_last_of_them_closes() {
        let session = std::sync::Arc::new(Session::<&str>::default());
        let mine = session.open_write("k");
        let other = session.open_write("k");
        let elsewhere = session.open_write("other");
        let mut waiting = std::pin::pin!(session.others_closed(Some(mine), |footprint| *footprint == "k"));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let _ = session.close_write(elsewhere, WriteOutcome::Happened, |f| f);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let _ = session.close_write(other, WriteOutcome::DidNotHappen, |f| f);
        assert!(futures_util::poll!(waiting.as_mut()).is_ready());
    }
}
