//! Token values with the sequence numbers that they came with, because callers present values without them. Bounded: the value
//! that was seen first is forgotten first, which is safe, because an unknown value is asked upstream.

use std::collections::{HashMap, VecDeque};

use super::token::PresentedToken;

/// How many values are remembered.
pub const MAX_KNOWN_VALUES: usize = 4096;

/// The values whose sequence numbers are known.
#[derive(Debug, Default)]
pub(super) struct KnownValues {
    sequence_numbers: HashMap<PresentedToken, u64>,
    /// In the order in which they were first seen.
    order: VecDeque<PresentedToken>,
}

impl KnownValues {
    /// The sequence number that a value stands for, if it is known.
    pub(super) fn sequence_number(&self, value: &PresentedToken) -> Option<u64> {
        self.sequence_numbers.get(value).copied()
    }

    /// Remembers a value. Of two sequence numbers for one value the greater counts.
    pub(super) fn remember(&mut self, value: &PresentedToken, sequence_number: u64) {
        if let Some(known) = self.sequence_numbers.get_mut(value) {
            *known = sequence_number.max(*known);
            return;
        }
        if self.sequence_numbers.len() >= MAX_KNOWN_VALUES
            && let Some(oldest) = self.order.pop_front()
        {
            self.sequence_numbers.remove(&oldest);
        }
        self.sequence_numbers.insert(value.clone(), sequence_number);
        self.order.push_back(value.clone());
    }

    /// Remembers the values of another as well.
    pub(super) fn take_in(&mut self, other: Self) {
        for value in other.order {
            let sequence_number = other.sequence_numbers.get(&value).copied().unwrap_or_default();
            self.remember(&value, sequence_number);
        }
    }

    /// Forgets the values of which `keep` is not true.
    pub(super) fn retain(&mut self, keep: impl Fn(&PresentedToken) -> bool) {
        self.sequence_numbers.retain(|value, _| keep(value));
        self.order.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(id: &str, number: usize) -> PresentedToken {
        PresentedToken::new(id, &format!("v{number}")).expect("a well-formed token")
    }

    #[test]
    fn the_number_of_values_is_bounded_and_the_oldest_is_forgotten_first() {
        let mut known = KnownValues::default();
        for number in 0..=MAX_KNOWN_VALUES {
            known.remember(&value("a", number), number as u64 + 1);
        }
        assert_eq!((known.sequence_numbers.len(), known.order.len()), (MAX_KNOWN_VALUES, MAX_KNOWN_VALUES));
        assert_eq!(known.sequence_number(&value("a", 0)), None);
        assert_eq!(known.sequence_number(&value("a", 1)), Some(2));
        known.remember(&value("a", 1), 1);
        assert_eq!(known.sequence_number(&value("a", 1)), Some(2), "the greater number counts");
    }

    #[test]
    fn what_is_not_retained_makes_room() {
        let mut known = KnownValues::default();
        for number in 0..MAX_KNOWN_VALUES {
            known.remember(&value(if number == 0 { "kept" } else { "dropped" }, number), 1);
        }
        known.retain(|value| value.id() == "kept");
        known.remember(&value("later", 0), 1);
        assert_eq!(known.sequence_number(&value("kept", 0)), Some(1));
        assert_eq!(known.sequence_number(&value("dropped", 1)), None);
        assert_eq!((known.sequence_numbers.len(), known.order.len()), (2, 2));
    }
}
