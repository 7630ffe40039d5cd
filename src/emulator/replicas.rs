//! Replicas with a settle time: which changes each of them shows at a given time.
//!
//! Every replica, even a single one, shows changes in their order, each some time after it was made. That time is drawn
//! for each replica and change, between half of the settle time and all of it.

use std::collections::VecDeque;
use std::time::Duration;

use super::seeded::Seeded;
use crate::clock::Timestamp;

/// The replicas and the changes that they do not show yet.
#[derive(Debug)]
pub struct Replicas {
    settle: Duration,
    seeded: Seeded,
    replicas: Vec<Replica>,
}

#[derive(Debug, Clone, Default)]
struct Replica {
    /// Changes that were hidden at the last count, each with the time at which it becomes visible. Both numbers rise.
    settling: VecDeque<(u64, Timestamp)>,
}

impl Replicas {
    /// `count` replicas (at least one) that settle within `settle`. Times are drawn from `seeded`.
    pub fn new(count: usize, settle: Duration, seeded: Seeded) -> Self {
        Self { settle, seeded, replicas: vec![Replica::default(); count.max(1)] }
    }

    /// The number of replicas.
    pub fn count(&self) -> usize {
        self.replicas.len()
    }

    /// Adds a change. Add changes in order.
    pub fn commit(&mut self, sequence_number: u64, now: Timestamp) {
        for (index, replica) in self.replicas.iter_mut().enumerate() {
            while replica.settling.front().is_some_and(|(_, from)| *from <= now) {
                replica.settling.pop_front();
            }
            if self.settle.is_zero() && replica.settling.is_empty() {
                continue;
            }
            let share = self.seeded.fraction(sequence_number, index);
            let visible = now.plus(self.settle.mul_f64(0.5 + share / 2.0));
            // A change never becomes visible before an earlier one, so a smaller draw is raised.
            let visible = replica.settling.back().map_or(visible, |(_, last)| visible.max(*last));
            replica.settling.push_back((sequence_number, visible));
        }
    }

    /// Makes every change so far visible at every replica, as after a restart.
    pub fn settle_all(&mut self) {
        for replica in &mut self.replicas {
            replica.settling.clear();
        }
    }

    /// The first change that a replica does not show yet; `None` if it shows every change.
    pub fn first_hidden(&self, replica: usize, now: Timestamp) -> Option<u64> {
        let replica = self.replicas.get(replica % self.replicas.len())?;
        let settled = replica.settling.partition_point(|(_, from)| *from <= now);
        replica.settling.get(settled).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_000);

    #[test]
    fn without_a_settle_time_changes_are_visible_at_once() {
        let mut replicas = Replicas::new(3, Duration::ZERO, Seeded::new(1));
        replicas.commit(1, START);
        assert!((0..3).all(|replica| replicas.first_hidden(replica, START).is_none()));
    }

    #[test]
    fn a_change_settles_between_half_of_the_time_and_all_of_it() {
        for seed in 0..200 {
            let mut replicas = Replicas::new(3, Duration::from_secs(4), Seeded::new(seed));
            replicas.commit(1, START);
            for replica in 0..3 {
                let just_before = START.plus(Duration::from_micros(1_999_999));
                assert_eq!(replicas.first_hidden(replica, just_before), Some(1));
                assert_eq!(replicas.first_hidden(replica, START.plus(Duration::from_secs(4))), None);
            }
        }
    }

    #[test]
    fn changes_settle_in_order_and_replicas_differ() {
        let mut differed = false;
        for seed in 0..50 {
            let mut replicas = Replicas::new(2, Duration::from_secs(2), Seeded::new(seed));
            for number in 1..=20 {
                replicas.commit(number, START.plus(Duration::from_millis(number * 100)));
            }
            let mut last = [0; 2];
            for step in 0..500 {
                let now = START.plus(Duration::from_millis(step * 10));
                for (replica, last) in last.iter_mut().enumerate() {
                    let visible = replicas.first_hidden(replica, now).unwrap_or(21) - 1;
                    assert!(visible >= *last, "a replica went back");
                    *last = visible;
                }
                differed |= last[0] != last[1];
            }
            assert_eq!(last, [20, 20]);
        }
        assert!(differed);
    }

    #[test]
    fn one_seed_gives_one_sequence_of_settle_times() {
        let visible = |seed| {
            let mut replicas = Replicas::new(1, Duration::from_secs(2), Seeded::new(seed));
            replicas.commit(1, START);
            (0..200)
                .map(|step| replicas.first_hidden(0, START.plus(Duration::from_millis(step * 10))))
                .collect::<Vec<_>>()
        };
        assert_eq!(visible(7), visible(7));
        assert_ne!(visible(7), visible(8));
    }
}
