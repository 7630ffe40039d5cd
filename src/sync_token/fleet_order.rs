//! The order of a fleet: the numbers of the entries that its members read, and what they are in the counts of this process.
//!
//! ```text
//! entries of the fleet      … 41     42     43 …           each is a write that closed, or a change that was shown
//! order of sending here        17  18 19 20 21             a place for each entry that was read, and for each request
//! position in the write log       6      7                 a place for each write that closed, own ones included
//! ```
//!
//! What another member sent after it had read entry 42 was sent after everything up to 42, and so it has the place of that entry in the order
//! of sending here, and covers the writes that closed with entries up to 42. Of own writes the number is known once they are announced;
//! until then nothing of another member covers them.
//!
//! Where nothing is announced for a while, time tells: each turn of this member notes what the engine's clock shows at the latest, and has a place in
//! the order of sending. What another member sent later than that, by its earliest reading of the same clock, was sent after it.
//!
//! In another run of the engine the numbers begin anew. Writes that were announced in the run before are announced again by who made them;
//! those that closed longer ago than the settle time are visible everywhere at the origin by then.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::write_log::MAX_CLOSED;

/// How many entries and moments are kept. What was sent before the oldest entry has no place here.
const MOST_ENTRIES: usize = 1_024;

/// The least time between two moments, by the engine's clock.
const MOMENT_MILLIS: u64 = 100;

/// Which write of which member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetWrite {
    /// The member.
    pub member: u128,
    /// Its own count.
    pub serial: u64,
}

#[derive(Clone, Copy, Debug)]
struct NumberedWrite {
    write: FleetWrite,
    /// Where it closed in the write log.
    position: u64,
    at: Instant,
    /// The number of its entry in this run.
    number: Option<u64>,
}

/// See the module. One for each session; without a fleet it stays empty.
#[derive(Debug, Default)]
pub struct FleetOrder {
    /// This member; `None`: there is no fleet.
    member: Option<u128>,
    /// The number of each entry that was read and its place in the order of sending, oldest first. The first is what was read on joining.
    entries: VecDeque<(u64, u64)>,
    /// What the engine's clock showed at the latest when something had a place in the order of sending, oldest first.
    moments: VecDeque<(u64, u64)>,
    writes: VecDeque<NumberedWrite>,
    /// Up to here writes were forgotten whose numbers are not known.
    forgotten_position: u64,
    settle_time: Duration,
}

impl FleetOrder {
    /// Notes own writes from here on as those of this member.
    pub const fn enable(&mut self, member: u128, settle_time: Duration) {
        self.member = Some(member);
        self.settle_time = settle_time;
    }

    /// Joins a run in which the entries up to `number` were read. Those after it follow.
    pub fn join(&mut self, number: u64, sent_order: u64) {
        self.moments.clear();
        self.entries.clear();
        self.entries.push_back((number, sent_order));
        self.writes.iter_mut().for_each(|write| write.number = None);
    }

    /// The number of the last entry that was read; `None` outside a fleet.
    pub fn read(&self) -> Option<u64> {
        self.entries.back().map(|(number, _)| *number)
    }

    /// An entry was read. To be called with a place in the order of sending that no request has.
    pub fn heard(&mut self, number: u64, sent_order: u64) {
        if self.entries.len() >= MOST_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back((number, sent_order));
    }

    /// The engine's clock shows no more than this now. `next_place` gives a place in the order of sending that no request has.
    pub fn moment(&mut self, latest_millis: u64, next_place: impl FnOnce() -> u64) {
        if self.moments.back().is_none_or(|(millis, _)| millis + MOMENT_MILLIS <= latest_millis) {
            if self.moments.len() >= MOST_ENTRIES {
                self.moments.pop_front();
            }
            self.moments.push_back((latest_millis, next_place()));
        }
    }

    /// Whether a write is known to have closed here. `number` is that of its entry.
    pub fn knows(&mut self, write: FleetWrite, number: u64) -> bool {
        let known = self.writes.iter_mut().rev().find(|it| it.write == write);
        match known {
            Some(known) => {
                known.number.get_or_insert(number);
                true
            }
            None => false,
        }
    }

    /// An own write has closed here. Its entry follows.
    pub fn own_closed(&mut self, serial: u64, position: u64, at: Instant) {
        if let Some(member) = self.member {
            self.closed(FleetWrite { member, serial }, position, None, at);
        }
    }

    /// A write has closed here. `number` is that of its entry, if it has one already.
    pub fn closed(&mut self, write: FleetWrite, position: u64, number: Option<u64>, at: Instant) {
        if self.writes.len() >= MAX_CLOSED
            && let Some(forgotten) = self.writes.pop_front()
            && forgotten.number.is_none()
        {
            self.forgotten_position = forgotten.position;
        }
        self.writes.push_back(NumberedWrite { write, position, at, number });
    }

    /// An entry says that anything may have been touched by writes up to this position whose numbers are not known.
    pub fn all_announced(&mut self, number: u64) {
        self.forgotten_position = 0;
        self.writes.iter_mut().for_each(|write| {
            write.number.get_or_insert(number);
        });
    }

    /// The last entry that was read before a request with this place was sent.
    pub fn position_of(&self, sent_order: u64) -> Option<u64> {
        self.entries.iter().rev().find(|(_, order)| *order < sent_order).map(|(number, _)| *number)
    }

    /// The place in the order of sending of this entry, and of what was sent after it.
    pub fn sent_order_of(&self, number: u64) -> Option<u64> {
        self.entries.iter().rev().find(|(it, _)| *it <= number).map(|(_, order)| *order)
    }

    /// The place of what was sent when the engine's clock showed at least this; 0 where that is not known.
    pub fn sent_order_at(&self, earliest_millis: u64) -> u64 {
        let before = self.moments.iter().rev().find(|(millis, _)| *millis <= earliest_millis);
        before.map_or(0, |(_, order)| *order)
    }

    /// The position in the write log up to which what was sent after this entry covers. `closed_position` is the last one.
    pub fn closed_position_of(&self, number: u64, closed_position: u64, now: Instant) -> Option<u64> {
        let is_included = |write: &NumberedWrite| match write.number {
            Some(of_write) => of_write <= number,
            None => now.saturating_duration_since(write.at) > self.settle_time,
        };
        if self.forgotten_position > 0 {
            return None;
        }
        let first_missing = self.writes.iter().find(|write| !is_included(write));
        Some(first_missing.map_or(closed_position, |write| write.position.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(5);

    fn write(serial: u64) -> FleetWrite {
        FleetWrite { member: 1, serial }
    }

    fn joined(number: u64) -> (FleetOrder, impl Fn(u64) -> Instant) {
        let (mut order, began) = (FleetOrder::default(), crate::clock::instant());
        order.enable(1, SETTLE);
        order.join(number, 1);
        (order, move |seconds| began + Duration::from_secs(seconds))
    }

    #[test]
    fn what_another_member_sent_has_the_place_of_the_last_entry_that_it_had_read() {
        let mut order = FleetOrder::default();
        assert_eq!((order.read(), order.position_of(9), order.sent_order_of(9)), (None, None, None));
        order.join(40, 1);
        order.heard(41, 17);
        order.heard(42, 20);
        assert_eq!(order.read(), Some(42));
        assert_eq!([2, 17, 18, 20, 21].map(|sent| order.position_of(sent)), [40, 40, 41, 41, 42].map(Some));
        assert_eq!(order.position_of(1), None, "it was sent before this run");
        assert_eq!([40, 41, 42, 99].map(|number| order.sent_order_of(number)), [1, 17, 20, 20].map(Some));
        assert_eq!(order.sent_order_of(39), None, "what had happened by then is not known");
    }

    #[test]
    fn what_was_sent_later_by_the_engines_clock_was_sent_after_it() {
        let (mut order, _) = joined(40);
        assert_eq!(order.sent_order_at(9_999), 0);
        order.moment(5_000, || 7);
        order.moment(5_050, || unreachable!("too soon"));
        order.moment(5_200, || 9);
        assert_eq!([4_999, 5_000, 5_199, 5_200].map(|millis| order.sent_order_at(millis)), [0, 7, 7, 9]);
        order.join(1, 20);
        assert_eq!(order.sent_order_at(9_999), 0, "another engine has another clock");
    }

    #[test]
    fn a_write_is_covered_by_what_was_sent_after_its_entry() {
        let (mut order, at) = joined(40);
        order.closed(write(1), 1, Some(41), at(0));
        order.own_closed(2, 2, at(0));
        order.closed(write(3), 3, Some(42), at(0));
        let covered = |order: &FleetOrder, number| order.closed_position_of(number, 3, at(1));
        assert_eq!([40, 41, 42].map(|number| covered(&order, number)), [0, 1, 1].map(Some));
        assert!(order.knows(write(2), 43));
        assert_eq!([42, 43].map(|number| covered(&order, number)), [1, 3].map(Some));
        assert!(!order.knows(write(4), 44));
        assert!(order.knows(write(1), 50), "announced twice");
        assert_eq!(covered(&order, 43), Some(3), "the first one counts");
    }

    #[test]
    fn in_another_run_writes_count_by_their_new_numbers_or_once_they_have_settled() {
        let (mut order, at) = joined(40);
        order.closed(write(1), 1, Some(41), at(0));
        order.closed(write(2), 2, Some(42), at(3));
        order.join(7, 9);
        assert_eq!(order.closed_position_of(100, 2, at(4)), Some(0));
        assert_eq!(order.closed_position_of(100, 2, at(6)), Some(1), "the first has settled");
        assert!(order.knows(write(2), 8));
        assert_eq!(order.closed_position_of(8, 2, at(6)), Some(2));
    }

    #[test]
    fn what_was_forgotten_without_a_number_covers_nothing_until_anything_was_announced() {
        let (mut order, at) = joined(1);
        for serial in 0..=MAX_CLOSED as u64 {
            order.closed(write(serial), serial + 1, None, at(0));
        }
        assert_eq!(order.closed_position_of(9, 2_000, at(99)), None);
        order.all_announced(9);
        assert_eq!(order.closed_position_of(9, 2_000, at(0)), Some(2_000));
    }
}
