//! How one token id rose: which version of `newest` first included which sequence number.

use std::collections::VecDeque;

/// How many rises of one id are remembered. At the drift of a busy partition that is a quarter of an hour; a question about
/// what was before is answered with the oldest version that is known to include it.
const MAX_RISES: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Rise {
    sequence_number: u64,
    version: u64,
}

/// The rises of one id, oldest first; both numbers of a rise are greater than those before it.
#[derive(Debug, Default)]
pub(super) struct Rises {
    rises: VecDeque<Rise>,
    forgot_some: bool,
}

impl Rises {
    /// Records that from `version` on `newest` includes `sequence_number`.
    pub(super) fn push(&mut self, sequence_number: u64, version: u64) {
        if self.rises.len() >= MAX_RISES {
            self.rises.pop_front();
            self.forgot_some = true;
        }
        self.rises.push_back(Rise { sequence_number, version });
    }

    /// The least version that is known to include this sequence number; [`u64::MAX`] if none does.
    pub(super) fn version_including(&self, sequence_number: u64) -> u64 {
        let at = self.rises.partition_point(|rise| rise.sequence_number < sequence_number);
        self.rises.get(at).map_or(u64::MAX, |rise| rise.version)
    }

    /// The greatest sequence number that this version is known to include.
    pub(super) fn included_in(&self, version: u64) -> Option<u64> {
        let at = self.rises.partition_point(|rise| rise.version <= version);
        self.rises.get(at.checked_sub(1)?).map(|rise| rise.sequence_number)
    }

    /// The last version that includes no more of this id than `sequence_number`, or than no token at all; `None` if even the
    /// oldest that is remembered includes more. `newest` had no token of this id before its first rise.
    pub(super) fn last_version_within(&self, sequence_number: Option<u64>) -> Option<u64> {
        let within = |rise: &Rise| sequence_number.is_some_and(|limit| rise.sequence_number <= limit);
        let at = self.rises.partition_point(within);
        match self.rises.get(at) {
            None => Some(u64::MAX),
            Some(_) if at == 0 && self.forgot_some => None,
            Some(above) => above.version.checked_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sequence_number_has_the_version_that_first_included_it() {
        let mut rises = Rises::default();
        rises.push(5, 1);
        rises.push(9, 4);
        let including = [(0, 1), (5, 1), (6, 4), (9, 4), (10, u64::MAX)];
        assert!(including.iter().all(|(number, version)| rises.version_including(*number) == *version));
        let included = [(0, None), (1, Some(5)), (3, Some(5)), (4, Some(9)), (8, Some(9))];
        assert!(included.iter().all(|(version, number)| rises.included_in(*version) == *number));
        let within = [(4, Some(0)), (5, Some(3)), (8, Some(3)), (9, Some(u64::MAX))];
        assert!(within.iter().all(|(number, version)| rises.last_version_within(Some(*number)) == *version));
        assert_eq!(rises.last_version_within(None), Some(0));
    }

    #[test]
    fn what_was_forgotten_counts_as_included_late_and_covers_nothing() {
        let mut rises = Rises::default();
        for number in 1..=MAX_RISES as u64 + 1 {
            rises.push(number * 10, number);
        }
        assert_eq!(rises.version_including(10), 2, "the oldest that is remembered includes it");
        assert_eq!(rises.included_in(1), None);
        assert_eq!(rises.last_version_within(Some(15)), None);
        assert_eq!(rises.last_version_within(None), None);
    }
}
