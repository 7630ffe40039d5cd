//! What a member announces: its own writes, so that a write is answered once the others know it or can find it out, and what it has seen.
//!
//! An own write that could not be announced takes the lease with it: until it is announced this member counts as outside.

use std::time::Duration;

use super::{AwaitWithin as _, FleetMember, Membership};
use crate::clock::{Timestamp, instant};
use crate::config::fleet::AnnounceMode;
use crate::fleet::engine::{AnnouncedToken, EngineError};
use crate::fleet::message::{Announced, Message, SealedAs, TokenRecord};
use crate::sync_token::fleet_order::FleetWrite;
use crate::sync_token::token::SyncToken;

/// How many own writes are remembered for another announcement.
const MOST_OWN_WRITES: usize = 512;

/// How many questions whether all have confirmed a writer asks without a pause.
const QUESTIONS_AT_ONCE: u32 = 8;

/// How long a writer waits between two questions whether all have confirmed.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// An own write, as it is announced.
#[derive(Clone, Debug)]
pub struct AnnouncedWrite {
    /// Which one.
    pub write: FleetWrite,
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// The status of its answer; 0 if there was none.
    pub status: u16,
    /// What its answer named.
    pub named: Vec<(String, Vec<u8>)>,
    /// The entity tag that its answer told.
    pub entity_tag: Option<Vec<u8>>,
    /// The tokens of its answer.
    pub tokens: Vec<SyncToken>,
    /// When it closed.
    pub at: Timestamp,
    /// The number of its entry in this run.
    pub number: Option<u64>,
    /// Its announcement failed, and is to be made up for.
    pub has_failed: bool,
}

impl FleetMember {
    /// Announces an own write, and waits for the others where it is so configured. `announced` is told its number at once.
    pub async fn announce_write(
        &self,
        write: AnnouncedWrite,
        settle_time: Duration,
        announced: impl FnOnce(u64),
    ) {
        let began = instant();
        let identity = write.write;
        self.remember(write, settle_time);
        match self.announce_while_live(identity).await {
            Some(number) => {
                announced(number);
                self.metrics.announced.inc();
                if self.settings.announce == AnnounceMode::All {
                    self.confirmed(identity, number).await;
                }
            }
            None => {
                self.metrics.unannounced.inc();
                self.is_unannounced(identity);
            }
        }
        self.metrics.announce_seconds.observe(began.elapsed().as_secs_f64());
    }

    /// An own write could not be announced: until it is, this member has no live lease.
    fn is_unannounced(&self, write: FleetWrite) {
        let mut state = self.lock();
        state.lease_until = None;
        if let Some(known) = state.own_writes.iter_mut().find(|it| it.write == write) {
            known.has_failed = known.number.is_none();
        }
        drop(state);
        self.note_lease();
    }

    /// Announces an own write. An engine that gives no answer is not waited for, except where all members are to know: then as long as
    /// the own lease is live. Without one, the others know that this member tells them nothing.
    async fn announce_while_live(&self, write: FleetWrite) -> Option<u64> {
        loop {
            self.live_membership()?;
            let known = self.lock().own_writes.iter().find(|it| it.write == write).cloned()?;
            if let Some(number) = known.number {
                // When the run was joined.
                return Some(number);
            }
            match self.announce_again(&known).await {
                Ok(number) => return Some(number),
                Err(error) if self.settings.announce == AnnounceMode::Engine => {
                    self.failed(error);
                    return None;
                }
                Err(_) => tokio::time::sleep(LONGEST_PAUSE).await,
            }
        }
    }

    /// Waits until every member with a live lease has read the entry: at most as long as such a lease lasts. In another run the write was
    /// announced again, and is to be read again.
    async fn confirmed(&self, write: FleetWrite, number: u64) {
        let mut number = number;
        while let Some(Membership { stream, run, .. }) = self.live_membership() {
            // Those that do not confirm by then have no lease any more.
            let until = instant() + self.settings.lease + self.settings.lease / 20;
            let (mut pause, mut questions) = (FIRST_PAUSE, 0);
            let mut is_confirmed = false;
            while !is_confirmed && instant() < until {
                match stream.unconfirmed(number, self.settings.lease).await_within(until - instant()).await {
                    Ok(0) => is_confirmed = true,
                    // Most have read it before a timer would have rung.
                    Ok(_) if questions < QUESTIONS_AT_ONCE => questions += 1,
                    Ok(_) => tokio::time::sleep(pause).await,
                    // They are asked again: without an answer, the leases of all run out.
                    Err(_) => tokio::time::sleep(LONGEST_PAUSE).await,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if !is_confirmed {
                self.metrics.unconfirmed.inc();
            }
            let state = self.lock();
            if state.membership.as_ref().is_some_and(|now| now.run == run) {
                return;
            }
            match state.own_writes.iter().find(|it| it.write == write).and_then(|it| it.number) {
                Some(announced_again) => number = announced_again,
                None => return,
            }
        }
    }

    fn remember(&self, write: AnnouncedWrite, settle_time: Duration) {
        let mut state = self.lock();
        let now = write.at;
        let is_settled = |it: &AnnouncedWrite| it.number.is_some() && now.since(it.at) > settle_time;
        while state.own_writes.front().is_some_and(is_settled) {
            state.own_writes.pop_front();
        }
        if state.own_writes.len() >= MOST_OWN_WRITES
            && let Some(forgotten) = state.own_writes.pop_front()
        {
            // A failover may lose it.
            state.has_forgotten |= !is_settled(&forgotten);
        }
        state.own_writes.push_back(write);
    }

    /// The own writes that are to be announced again, and whether there are others of which nothing is known any more.
    #[must_use]
    pub fn to_announce_again(&self, is_other_run: bool) -> (Vec<AnnouncedWrite>, bool) {
        let state = self.lock();
        let writes = state.own_writes.iter().filter(|write| is_other_run || write.number.is_none());
        (writes.cloned().collect(), state.has_forgotten)
    }

    /// Announces an own write again.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn announce_again(&self, write: &AnnouncedWrite) -> Result<u64, EngineError> {
        let number = self.announce_own(write).await?;
        let mut state = self.lock();
        if let Some(known) = state.own_writes.iter_mut().find(|it| it.write == write.write) {
            known.number = Some(number);
            known.has_failed = false;
        }
        Ok(number)
    }

    /// Announces that forgotten own writes may have touched anything.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn announce_forgotten(&self) -> Result<u64, EngineError> {
        let number = self.announce(0, Announced::Anything, &[]).await?;
        self.lock().has_forgotten = false;
        Ok(number)
    }

    async fn announce_own(&self, write: &AnnouncedWrite) -> Result<u64, EngineError> {
        let named = write.named.iter().map(|(name, value)| (name.as_str(), serde_bytes::Bytes::new(value)));
        let what = Announced::Write {
            method: &write.method,
            target: &write.target,
            status: write.status,
            named: named.collect(),
            entity_tag: write.entity_tag.as_deref().map(serde_bytes::Bytes::new),
        };
        self.announce(write.write.serial, what, &write.tokens).await
    }

    /// Announces something, with tokens. `serial` is the number of an own write, else 0.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn announce(
        &self,
        serial: u64,
        what: Announced<'_>,
        tokens: &[SyncToken],
    ) -> Result<u64, EngineError> {
        let Membership { stream, seal, run, .. } = self.membership()?;
        let message = Message { member: self.id, serial, tokens: TokenRecord::all(tokens), what };
        let sealed = seal.seal_value(&message, SealedAs::Entry { run: &run }).ok_or(EngineError::Answer)?;
        let for_joining = tokens.iter().filter_map(|token| {
            let record = TokenRecord::all(std::slice::from_ref(token)).pop()?;
            Some(AnnouncedToken {
                id: seal.name_of(token.id().as_bytes()),
                sequence_number: token.sequence_number(),
                sealed: seal.seal_value(&record, SealedAs::Token)?,
            })
        });
        let for_joining = for_joining.collect();
        stream.announce(sealed, for_joining).await_within(self.settings.lease).await
    }
}
