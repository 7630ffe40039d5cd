//! The time of a simulated run, and the order of what happens in it.

use std::sync::atomic::{AtomicU64, Ordering};

use tagalong::internals::clock::{Clock, Timestamp};

use super::history::Moment;

/// Follows tokio's paused time; numbers every moment that is asked for.
#[derive(Debug)]
pub(crate) struct Timeline {
    clock: Clock,
    start: Timestamp,
    order: AtomicU64,
}

impl Timeline {
    pub(crate) fn begin() -> Self {
        // Any date does; a fixed one makes runs equal.
        let start = Timestamp::from_unix_seconds(1_790_000_000);
        Self { clock: Clock::tokio(start), start, order: AtomicU64::new(0) }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// When the run began.
    pub(crate) fn start(&self) -> Timestamp {
        self.start
    }

    /// The next moment. No two are equal.
    pub(crate) fn now(&self) -> Moment {
        Moment {
            order: self.order.fetch_add(1, Ordering::Relaxed) + 1,
            at: self.clock.now().since(self.start),
        }
    }
}
