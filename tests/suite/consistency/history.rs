//! Recorded histories: what callers asked of one key and were told, and when each of them asked and was told.
//!
//! A history is kept per key, because a linearizable register is checked key by key; a list is recorded as one reading of
//! each key that it may show. Every write puts a value that no other write puts, so a reading names the write it saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a key holds: the number of the write that put it.
pub(crate) type Value = u32;

/// When something happened: a number that grows with every event of the run, and the simulated time for the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// Position among all events of the run. Two events at one simulated time still have an order.
    pub(crate) order: u64,
    /// Simulated time since the run began.
    pub(crate) at: Duration,
}

/// What was asked of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// `GET`, with or without `If-None-Match`, or a list that may show the key.
    Read,
    /// `GET` with `If-Match`.
    ReadIf(Value),
    /// `PUT`.
    Put(Value),
    /// `PUT` with `If-Match`.
    PutIf {
        /// The value whose entity tag was named.
        expected: Value,
        /// The value to put.
        value: Value,
    },
    /// `PUT` with `If-None-Match: *`.
    PutIfAbsent(Value),
    /// A lock or unlock: a new state of a key that exists, refused where it does not.
    Lock(Value),
    /// `DELETE`.
    Delete,
    /// `DELETE` with `If-Match`.
    DeleteIf(Value),
}

/// What the caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// A reading: what the key holds; `None` if it does not exist. A deletion: what it removed.
    Shown(Option<Value>),
    /// A put took effect.
    Done,
    /// The condition did not hold (412).
    Refused,
    /// Nothing that tells: the write may take effect at any later time, or never.
    Unknown,
}

/// One operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The caller.
    pub(crate) caller: u16,
    /// What was asked.
    pub(crate) operation: Operation,
    /// What was answered.
    pub(crate) outcome: Outcome,
    /// When it was asked.
    pub(crate) invoked: Moment,
    /// When the answer was complete; `None` for an unknown outcome.
    pub(crate) responded: Option<Moment>,
}

impl Operation {
    /// The value that it would put.
    pub(crate) fn puts(self) -> Option<Value> {
        match self {
            Self::Put(value) | Self::PutIf { value, .. } | Self::PutIfAbsent(value) | Self::Lock(value) => {
                Some(value)
            }
            Self::Read | Self::ReadIf(_) | Self::Delete | Self::DeleteIf(_) => None,
        }
    }

    /// The value that its condition names.
    pub(crate) fn expects(self) -> Option<Value> {
        match self {
            Self::ReadIf(value) | Self::DeleteIf(value) | Self::PutIf { expected: value, .. } => Some(value),
            Self::Read | Self::Put(_) | Self::PutIfAbsent(_) | Self::Lock(_) | Self::Delete => None,
        }
    }

    fn removes(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteIf(_))
    }
}

impl Event {
    /// The state that a register in `state` is in after this operation with this outcome; `None` if that register could not
    /// have answered so.
    pub(crate) fn step(&self, state: Option<Value>) -> Option<Option<Value>> {
        use Outcome::{Done, Refused, Shown, Unknown};
        let holds = match self.operation {
            Operation::ReadIf(expected)
            | Operation::DeleteIf(expected)
            | Operation::PutIf { expected, .. } => state == Some(expected),
            Operation::PutIfAbsent(_) => state.is_none(),
            Operation::Lock(_) => state.is_some(),
            Operation::Read | Operation::Put(_) | Operation::Delete => true,
        };
        let reads = matches!(self.operation, Operation::Read | Operation::ReadIf(_));
        match self.outcome {
            Refused => (!holds).then_some(state),
            Shown(shown) => (holds && shown == state).then_some(if reads { state } else { None }),
            Done => holds.then_some(self.operation.puts()),
            // A write that finds its condition false changes nothing: as if it never took effect.
            Unknown => (holds && !reads).then_some(self.operation.puts()),
        }
    }

    /// Whether no state is changed by it: then it may be placed wherever it first fits.
    pub(crate) fn only_reads(&self) -> bool {
        self.outcome == Outcome::Refused
            || matches!(self.operation, Operation::Read | Operation::ReadIf(_))
            || self.outcome == Outcome::Shown(None)
    }

    /// Whether it removed something.
    pub(crate) fn removed(&self) -> bool {
        self.operation.removes() && matches!(self.outcome, Outcome::Shown(Some(_)) | Outcome::Unknown)
    }

    /// Whether it names `value`: put, expected or shown.
    pub(crate) fn names(&self, value: Value) -> bool {
        self.operation.puts() == Some(value)
            || self.operation.expects() == Some(value)
            || self.outcome == Outcome::Shown(Some(value))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Read => "read".to_owned(),
            Operation::ReadIf(expected) => format!("read if {expected}"),
            Operation::Put(value) => format!("put {value}"),
            Operation::PutIf { expected, value } => format!("put {value} if {expected}"),
            Operation::PutIfAbsent(value) => format!("put {value} if absent"),
            Operation::Lock(value) => format!("lock as {value}"),
            Operation::Delete => "delete".to_owned(),
            Operation::DeleteIf(expected) => format!("delete if {expected}"),
        };
        let outcome = match self.outcome {
            Outcome::Shown(Some(value)) => value.to_string(),
            Outcome::Shown(None) => "absent".to_owned(),
            Outcome::Done => "done".to_owned(),
            Outcome::Refused => "refused".to_owned(),
            Outcome::Unknown => "unknown".to_owned(),
        };
        let invoked = self.invoked;
        write!(to, "{:>9.3} s #{:<5}", invoked.at.as_secs_f64(), invoked.order)?;
        match self.responded {
            Some(end) => write!(to, " to {:>9.3} s #{:<5}", end.at.as_secs_f64(), end.order)?,
            None => write!(to, " to        never      ")?,
        }
        write!(to, "  caller {:>2}  {operation} -> {outcome}", self.caller)
    }
}

/// The operations of a run, by key. Keys did not exist when it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Events of each key in the order in which they were recorded.
    pub(crate) keys: BTreeMap<String, Vec<Event>>,
}

impl History {
    /// Adds what happened to one key.
    pub(crate) fn record(&mut self, key: &str, event: Event) {
        self.keys.entry(key.to_owned()).or_default().push(event);
    }

    /// How many operations on single keys it holds.
    pub(crate) fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }
}

/// One event a line, by time of asking.
pub(crate) fn print(events: &[Event]) -> String {
    let mut events = events.to_vec();
    events.sort_by_key(|event| event.invoked);
    events.iter().map(|event| format!("  {event}\n")).collect()
}
