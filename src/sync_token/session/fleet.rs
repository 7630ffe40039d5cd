//! What a session learns from other members of its fleet, and what it can tell them: writes, tokens, and what is covered by what they sent.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Session, SessionState};
use crate::clock::{Timestamp, instant};
use crate::sync_token::coverage::{Coverage, FleetCoverage};
use crate::sync_token::fleet_order::FleetWrite;
use crate::sync_token::token::SyncToken;
use crate::sync_token::write_log::Indexed;

impl<F> SessionState<F> {
    /// A place in the order of sending that no request has.
    const fn next_place(&mut self) -> u64 {
        self.sent_order += 1;
        self.sent_order
    }
}

impl<F> Session<F> {
    /// Notes own writes for the fleet from here on, as those of this member. Writes that closed longer ago than `settle_time` are visible
    /// everywhere at the origin.
    pub fn enable_fleet(&self, member: u128, settle_time: Duration) {
        self.lock().fleet.enable(member, settle_time);
    }

    /// Joins a run of the engine in which the entries up to `number` count as read. `tokens` are the newest of the fleet. Entries may have been
    /// lost since: nothing that is stored is covered until it was validated once.
    pub fn join_fleet(&self, number: u64, tokens: &[SyncToken], now: Timestamp) {
        let mut state = self.lock();
        state.aggregate.observe(tokens, now);
        self.required_order.store(state.sent_order, Ordering::SeqCst);
        self.fleet_order.store(state.sent_order, Ordering::SeqCst);
        state.revelations += 1;
        state.latest_revelation = state.revelations;
        let place = state.next_place();
        state.fleet.join(number, place);
        self.publish_newer(&state);
    }

    /// The number of the last entry that was read; `None` outside a fleet.
    pub fn fleet_read(&self) -> Option<u64> {
        self.lock().fleet.read()
    }

    /// Merges tokens that another member announced or published.
    pub fn observe_fleet(&self, tokens: &[SyncToken], now: Timestamp) {
        let mut state = self.lock();
        if state.aggregate.observe(tokens, now) {
            self.publish_newer(&state);
        }
    }

    /// An entry counts as read. To be called once its tokens and its write are taken in: what is sent from here on includes them.
    pub fn fleet_heard(&self, number: u64) {
        let mut state = self.lock();
        if state.fleet.read().is_some_and(|read| read < number) {
            let place = state.next_place();
            state.fleet.heard(number, place);
        }
    }

    /// The engine's clock shows no more than this now.
    pub fn fleet_moment(&self, latest_millis: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        let sent_order = &mut state.sent_order;
        state.fleet.moment(latest_millis, || {
            *sent_order += 1;
            *sent_order
        });
    }

    /// An own write was announced under this number. If nothing else was announced since the last entry that was read, it counts as read.
    pub fn own_write_announced(&self, write: FleetWrite, number: u64) {
        let mut state = self.lock();
        state.fleet.knows(write, number);
        if state.fleet.read().is_some_and(|read| read + 1 == number) {
            let place = state.next_place();
            state.fleet.heard(number, place);
        }
    }

    /// It was announced that any resource may have been touched by writes whose own entries are lost.
    pub fn all_announced(&self, number: u64) {
        self.lock().fleet.all_announced(number);
    }

    /// What a coverage means to the other members. `None` where it has no place in the fleet's order.
    pub fn fleet_coverage(&self, covers: Coverage) -> Option<FleetCoverage> {
        let state = self.lock();
        if self.is_of_an_earlier_epoch(covers) {
            return None;
        }
        let position = state.fleet.position_of(covers.sent_order)?;
        let tokens = state.aggregate.written(covers.newest_version);
        Some(FleetCoverage { tokens, position, is_immutable: covers.is_immutable() })
    }

    /// What another member's coverage covers here. `None` where it has no place here. `sent_at_millis` is what the engine's clock showed at
    /// the earliest when it was sent.
    pub fn map_fleet(&self, fleet: &FleetCoverage, sent_at_millis: u64, now: Timestamp) -> Option<Coverage> {
        let mut state = self.lock();
        if state.aggregate.observe(&fleet.tokens, now) {
            self.publish_newer(&state);
        }
        let closed = state.writes.closed_position();
        let covers = Coverage {
            newest_version: state.aggregate.version_of(&fleet.tokens),
            closed_position: state.fleet.closed_position_of(fleet.position, closed, instant())?,
            sent_order: state
                .fleet
                .sent_order_of(fleet.position)?
                .max(state.fleet.sent_order_at(sent_at_millis)),
            revelation: 0,
        };
        Some(if fleet.is_immutable { covers.immutable() } else { covers })
    }

    /// The place in the order of sending before which an entry was not known; that of now for one that was not read yet.
    pub fn order_before_entry(&self, number: u64) -> u64 {
        let state = self.lock();
        match state.fleet.read() {
            Some(read) if number <= read => {
                state.fleet.sent_order_of(number).unwrap_or_default().saturating_sub(1)
            }
            _ => state.sent_order,
        }
    }
}

impl<F: Indexed> Session<F> {
    /// Takes in a write of another member: from here on it outdates what it touches.
    pub fn close_fleet_write(&self, write: FleetWrite, footprint: F, number: u64) {
        let mut state = self.lock();
        if state.fleet.knows(write, number) {
            return;
        }
        let id = state.writes.open(footprint);
        state.writes.close(id, |footprint| footprint);
        let position = state.writes.closed_position();
        state.fleet.closed(write, position, Some(number), instant());
        self.mirror_writes(&state);
    }
}
