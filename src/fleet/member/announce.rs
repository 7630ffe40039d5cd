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

/// An own write, as it is announced. Kept until no failover can lose its entry, so its message is kept encoded.
#[derive(Clone, Debug)]
pub struct OwnWrite {
    /// Its number in this member.
    serial: u64,
    /// When it closed.
    at: Timestamp,
    /// The number of its entry in this run.
    pub(super) number: Option<u64>,
    /// Its announcement failed, and is to be made up for.
    pub(super) has_failed: bool,
    message: Box<[u8]>,
}

impl OwnWrite {
    /// A write of this member that has closed at `at`, with the tokens of its answer.
    #[must_use]
    pub fn new(write: FleetWrite, what: Announced<'_>, tokens: &[SyncToken], at: Timestamp) -> Self {
        let FleetWrite { member, serial } = write;
        let message = Message { member, serial, tokens: TokenRecord::all(tokens), what }.encoded();
        Self { serial, at, number: None, has_failed: false, message: message.into() }
    }

    /// Its number in this member.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }
}

impl FleetMember {
    /// Announces an own write, and waits for the others where it is so configured. `announced` is told its number at once.
    pub async fn announce_write(&self, write: OwnWrite, settle_time: Duration, announced: impl FnOnce(u64)) {
        let began = instant();
        let serial = write.serial;
        self.remember(write, settle_time);
        match self.announce_own(serial).await {
            Some(number) => {
                announced(number);
                self.metrics.announced.inc();
                if self.settings.announce == AnnounceMode::All {
                    self.confirmed(serial, number).await;
                }
            }
            None => {
                self.metrics.unannounced.inc();
                self.is_unannounced(serial);
            }
        }
        self.metrics.announce_seconds.observe(began.elapsed().as_secs_f64());
    }

    /// An own write could not be announced: until it is, this member has no live lease.
    fn is_unannounced(&self, serial: u64) {
        let mut state = self.lock();
        state.lease_until = None;
        if let Some(known) = state.own_writes.iter_mut().find(|it| it.serial == serial) {
            known.has_failed = known.number.is_none();
        }
        drop(state);
        self.note_lease();
    }

    /// Announces an own write. An engine that gives no answer is not waited for, except where all members are to know: then as long as
    /// the own lease is live. Without one, the others know that this member tells them nothing.
    ///
    /// A member without a lease announces all the same once the engine answers: else one that writes all the time would always have an
    /// unannounced write, and so never get a lease.
    async fn announce_own(&self, serial: u64) -> Option<u64> {
        loop {
            let known = {
                let state = self.lock();
                if !state.is_answering && !state.has_live_lease() {
                    return None;
                }
                state.own_writes.iter().find(|it| it.serial == serial).cloned()?
            };
            if let Some(number) = known.number {
                // When the run was joined.
                return Some(number);
            }
            match self.announce_again(&known).await {
                Ok(number) => return Some(number),
                Err(error) if self.settings.announce == AnnounceMode::Engine || !self.has_live_lease() => {
                    self.failed(error);
                    return None;
                }
                Err(_) => tokio::time::sleep(LONGEST_PAUSE).await,
            }
        }
    }

    /// Waits until every member with a live lease has read the entry: at most as long as such a lease lasts. In another run the write was
    /// announced again, and is to be read again.
    async fn confirmed(&self, serial: u64, number: u64) {
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
            match state.own_writes.iter().find(|it| it.serial == serial).and_then(|it| it.number) {
                Some(announced_again) => number = announced_again,
                None => return,
            }
        }
    }

    fn remember(&self, write: OwnWrite, settle_time: Duration) {
        let mut state = self.lock();
        let now = write.at;
        let is_settled = |it: &OwnWrite| it.number.is_some() && now.since(it.at) > settle_time;
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
    pub fn to_announce_again(&self) -> (Vec<OwnWrite>, bool) {
        let state = self.lock();
        let writes = state.own_writes.iter().filter(|write| write.number.is_none());
        (writes.cloned().collect(), state.has_forgotten)
    }

    /// Announces an own write again.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn announce_again(&self, write: &OwnWrite) -> Result<u64, EngineError> {
        let number = self.send(&write.message).await?;
        let mut state = self.lock();
        if let Some(known) = state.own_writes.iter_mut().find(|it| it.serial == write.serial) {
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
        self.send(&Message { member: self.id, serial, tokens: TokenRecord::all(tokens), what }.encoded())
            .await
    }

    /// Announces an encoded message.
    async fn send(&self, message: &[u8]) -> Result<u64, EngineError> {
        let Membership { stream, seal, run, .. } = self.membership()?;
        let sealed = seal.seal(message, SealedAs::Entry { run: &run }).ok_or(EngineError::Answer)?;
        let for_joining = Message::tokens_of(message).into_iter().filter_map(|token| {
            Some(AnnouncedToken {
                id: seal.name_of(token.id.as_bytes()),
                sequence_number: token.sequence_number,
                sealed: seal.seal_value(&token, SealedAs::Token)?,
            })
        });
        let for_joining = for_joining.collect();
        stream.announce(sealed, for_joining).await_within(self.settings.lease).await
    }
}
