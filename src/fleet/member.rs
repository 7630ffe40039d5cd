//! One member of a fleet: its lease on coverage, what it announces, and what it asks the engine for.
//!
//! ```text
//!            join ──▶ turn ──▶ turn ──▶ …          each that shows that all entries were read renews the lease
//!              ▲        │ no answer, a gap, another run
//!              └────────┘ until the lease has run out, it counts all the same
//! ```
//!
//! Nothing here waits longer than the lease for the engine. `announce` and `records` are what it says and asks for.

mod announce;
mod records;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::clock::EngineClock;
use super::engine::{EngineAnswer, EngineError, EngineMillis, FleetEngine, FleetStream, Joined, MemberTurn};
use super::message::{FleetSeal, SealedAs, TokenRecord};
use crate::clock::instant;
use crate::config::fleet::AnnounceMode;
use crate::metrics::FleetMetrics;
use crate::seal::key::SealingKey;
use crate::sync_token::token::SyncToken;
pub use announce::OwnWrite;

/// How many leases pass in a new run before one counts: by then every member that lives has announced again what it knows.
const LEASES_HELD: u32 = 2;

/// What the configuration says of a member.
#[derive(Clone, Debug)]
pub struct MemberSettings {
    /// How long what the fleet told counts, and the longest wait for the engine.
    pub lease: Duration,
    /// When the caller of a write is answered.
    pub announce: AnnounceMode,
    /// Whether records are used.
    pub second_level: bool,
    /// What tells the stream of this upstream from those of others, the endpoint aside: its profile and identity.
    pub source: String,
}

/// One member, for one upstream.
pub struct FleetMember {
    settings: MemberSettings,
    engine: Arc<dyn FleetEngine>,
    key: SealingKey,
    id: u128,
    name: String,
    state: Mutex<MemberState>,
    /// Whether the lease is live, as far as was noted.
    live: watch::Sender<bool>,
    is_lost: AtomicBool,
    /// When this sidecar started: for so long as a lease it waits for the fleet before it asks the origin itself.
    started: Instant,
    metrics: FleetMetrics,
}

#[derive(Default)]
struct MemberState {
    membership: Option<Membership>,
    /// Nothing has failed since the run was joined: own writes are announced, also while there is no lease yet.
    is_answering: bool,
    lease_until: Option<Instant>,
    /// Until when the members of a new run announce again what the run before may have lost.
    held_until: Option<Instant>,
    clock: Option<EngineClock>,
    /// What the log said last.
    told: Option<EngineError>,
    own_writes: VecDeque<OwnWrite>,
    /// Own writes were forgotten that had not been announced.
    has_forgotten: bool,
}

impl MemberState {
    fn has_live_lease(&self) -> bool {
        self.lease_until.is_some_and(|until| instant() < until)
    }

    /// Whether there is an own write whose announcement is to be made up for.
    fn has_unannounced(&self) -> bool {
        self.own_writes.iter().any(|write| write.has_failed)
    }
}

/// A run of the engine that the member has joined.
#[derive(Clone)]
pub struct Membership {
    stream: Arc<dyn FleetStream>,
    /// What seals and opens in it.
    pub seal: FleetSeal,
    /// The run.
    pub run: Arc<str>,
    /// The engine's clock.
    pub clock: Option<EngineClock>,
}

/// How a member has joined.
#[derive(Debug)]
pub struct JoinedRun {
    /// It is another run than before.
    pub is_other: bool,
    /// The number of the last entry.
    pub last: u64,
    /// The last entries, opened, without a gap up to `last`.
    pub history: Vec<HeardEntry>,
    /// The newest tokens.
    pub tokens: Vec<SyncToken>,
}

/// An entry that was read.
#[derive(Debug)]
pub struct HeardEntry {
    /// Its number.
    pub number: u64,
    /// Its bytes; `None`: it is not authentic.
    pub opened: Option<Vec<u8>>,
}

/// What came of a turn.
#[derive(Debug)]
pub struct HeardEntries {
    /// The entries in their order.
    pub entries: Vec<HeardEntry>,
    /// Since when all entries before are known, once these are taken in. `None`: there may be more.
    complete_since: Option<Instant>,
}

impl FleetMember {
    /// A member that has not joined yet.
    #[must_use]
    pub fn new(
        settings: MemberSettings,
        engine: Arc<dyn FleetEngine>,
        key: SealingKey,
        metrics: FleetMetrics,
    ) -> Self {
        let id = fastrand::u128(1..);
        Self {
            settings,
            engine,
            key,
            id,
            name: format!("{id:032x}"),
            state: Mutex::default(),
            live: watch::Sender::new(false),
            is_lost: AtomicBool::new(true),
            started: instant(),
            metrics,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u128 {
        self.id
    }

    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &FleetMetrics {
        &self.metrics
    }

    /// The lease.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.settings.lease
    }

    /// Whether its lease is live, for those who wait for it to change.
    #[must_use]
    pub fn is_live(&self) -> watch::Receiver<bool> {
        self.live.subscribe()
    }

    /// Whether it was found to have no live lease: for hits, without taking the lock.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Whether its lease is live at this moment.
    #[must_use]
    pub fn has_live_lease(&self) -> bool {
        self.lock().has_live_lease()
    }

    /// Resolves when the lease is live, at the latest one lease after the start. A sidecar that starts finds with its fleet what others have asked.
    pub async fn started(&self) {
        let mut is_live = self.live.subscribe();
        let _in_time =
            timeout_at(self.started + self.settings.lease, is_live.wait_for(|is_live| *is_live)).await;
    }

    /// The membership whose records may be used: there is one, and its lease is live.
    #[must_use]
    pub fn second_level(&self) -> Option<Membership> {
        if !self.settings.second_level { None } else { self.live_membership() }
    }

    fn live_membership(&self) -> Option<Membership> {
        let state = self.lock();
        let membership = state.membership.as_ref().filter(|_| state.has_live_lease())?;
        Some(Membership { clock: state.clock, ..membership.clone() })
    }

    /// Joins the stream of an endpoint.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn join(&self, endpoint: &str) -> Result<JoinedRun, EngineError> {
        let name = stream_name(endpoint, &self.settings.source);
        let stream = self.engine.stream(&name);
        let key_id = self.key.id();
        let joined = stream.join(&self.name, &key_id).await_within(self.settings.lease).await?;
        let Joined { run, age, last, history, tokens } = joined;
        let seal = FleetSeal::new(self.key.clone(), name);
        let open = |(number, sealed): (u64, &[u8])| {
            let opened = seal.open(sealed, SealedAs::Entry { run: &run });
            HeardEntry { number, opened }
        };
        let numbers_begin = (last + 1).saturating_sub(history.len() as u64);
        let has_no_gap = (numbers_begin..).zip(&history).all(|(number, entry)| entry.number == number);
        let history = if has_no_gap { history } else { Vec::new() };
        let history = history.iter().map(|entry| open((entry.number, &entry.sealed))).collect();
        let tokens = tokens.iter().filter_map(|sealed| {
            let opened = seal.open(sealed, SealedAs::Token)?;
            let record: TokenRecord<'_> = postcard::from_bytes(&opened).ok()?;
            TokenRecord::tokens(&[record]).pop()
        });
        let tokens = tokens.collect();
        let mut state = self.lock();
        let is_other = state.membership.as_ref().is_none_or(|before| *before.run != *run);
        if is_other {
            state.lease_until = None;
            state.clock = None;
            state.own_writes.iter_mut().for_each(|write| write.number = None);
        }
        state.held_until = Some(instant() + (self.settings.lease * LEASES_HELD).saturating_sub(age));
        state.membership = Some(Membership { stream, seal, run: run.into(), clock: None });
        state.is_answering = true;
        Ok(JoinedRun { is_other, last, history, tokens })
    }

    /// Forgets the membership: what comes next is another run.
    pub fn leave(&self) {
        let mut state = self.lock();
        state.membership = None;
        state.is_answering = false;
        state.lease_until = None;
        drop(state);
        self.note_lease();
    }

    /// Takes a turn: says what was read, and waits for more.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn turn(&self, read: u64) -> Result<HeardEntries, EngineError> {
        if self.lock().has_unannounced() {
            // It is announced on joining.
            return Err(EngineError::Away);
        }
        let Membership { stream, seal, run, .. } = self.membership()?;
        let asked = instant();
        let turn = MemberTurn { member: &self.name, read, wait: self.settings.lease / 4 };
        let heard = stream.turn(turn).await_within(self.settings.lease * 3 / 4).await?;
        if let Some(first) = heard.entries.first()
            && first.number > read + 1
        {
            return Err(EngineError::Forgot);
        }
        let new = heard.entries.iter().filter(|entry| entry.number > read);
        if !new.clone().map(|entry| entry.number).eq((read + 1..).take(new.clone().count())) {
            return Err(EngineError::Forgot);
        }
        let entries = new.map(|entry| {
            let opened = seal.open(&entry.sealed, SealedAs::Entry { run: &run });
            HeardEntry { number: entry.number, opened }
        });
        let entries = entries.collect();
        let mut state = self.lock();
        match &mut state.clock {
            Some(clock) => clock.observe(heard.clock),
            clock => *clock = Some(EngineClock::new(heard.clock)),
        }
        Ok(HeardEntries { entries, complete_since: (!heard.is_partial).then_some(asked) })
    }

    /// What the engine's clock shows at the latest.
    #[must_use]
    pub fn latest_millis(&self) -> Option<EngineMillis> {
        self.lock().clock.map(|clock| clock.latest(instant()))
    }

    /// The entries of a turn are taken in: the lease is renewed.
    pub fn renew(&self, heard: &HeardEntries) {
        if let Some(since) = heard.complete_since {
            let mut state = self.lock();
            // The turn may have been under way when an own write could not be announced.
            if !state.has_unannounced() && state.held_until.is_none_or(|until| since >= until) {
                state.lease_until = Some(since + self.settings.lease);
            }
            drop(state);
            self.note_lease();
        }
    }

    /// Notes whether the lease is live, and says so when that changes. `true` if it is.
    pub fn note_lease(&self) -> bool {
        let mut state = self.lock();
        let is_live = state.has_live_lease();
        if is_live && state.told.take().is_some() {
            tracing::info!(upstream = self.metrics.upstream(), "the fleet is there again");
        }
        drop(state);
        self.is_lost.store(!is_live, Ordering::Relaxed);
        if *self.live.borrow() != is_live {
            self.live.send_replace(is_live);
        }
        self.metrics.live.set(i64::from(is_live));
        is_live
    }

    /// Takes note of an engine that gives no answer. Says so once.
    pub fn failed(&self, error: EngineError) {
        self.metrics.failed(error.as_str());
        let mut state = self.lock();
        state.is_answering = false;
        let is_new = state.told.replace(error).is_none();
        drop(state);
        if is_new {
            tracing::warn!(
                upstream = self.metrics.upstream(),
                reason = error.as_str(),
                "the fleet's engine gives no answer, and this sidecar keeps the promises that it makes alone: {}",
                error.advice()
            );
        }
        self.note_lease();
    }

    fn membership(&self) -> Result<Membership, EngineError> {
        self.lock().membership.clone().ok_or(EngineError::Away)
    }

    fn lock(&self) -> MutexGuard<'_, MemberState> {
        // Nothing under this lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells the streams of upstreams and identities apart. It shows neither.
fn stream_name(endpoint: &str, source: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{endpoint}\n{source}").as_bytes());
    let mut name = String::with_capacity(32);
    crate::stored_response::push_hexadecimal(&mut name, &digest.as_ref()[..16]);
    name
}

/// An answer that is waited for no longer than that.
trait AwaitWithin<T> {
    async fn await_within(self, limit: Duration) -> Result<T, EngineError>;
}

impl<T> AwaitWithin<T> for EngineAnswer<'_, T> {
    async fn await_within(self, limit: Duration) -> Result<T, EngineError> {
        timeout(limit, self).await.unwrap_or(Err(EngineError::Slow))
    }
}
