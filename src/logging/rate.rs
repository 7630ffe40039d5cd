//! How many lines of one kind are written. Whoever causes a line by being refused could fill the disk otherwise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock::{Clock, Timestamp};

/// The most lines of one kind (one place in the code) in a second. What is asked for by `debug` and `trace` is written whole.
pub const LINES_A_SECOND: u32 = 10;

/// Leaves out lines beyond [`LINES_A_SECOND`], and counts them.
#[derive(Debug)]
pub(super) struct RateLimit {
    clock: Clock,
    /// One for each place in the code.
    seconds: Mutex<HashMap<Identifier, Second>>,
    left_out: LeftOut,
}

/// How many lines were left out since this was asked last.
#[derive(Clone, Debug, Default)]
pub struct LeftOut(Arc<AtomicU64>);

#[derive(Clone, Copy, Debug)]
struct Second {
    began: Timestamp,
    lines: u32,
}

impl RateLimit {
    pub(super) fn new(clock: Clock, left_out: LeftOut) -> Self {
        Self { clock, seconds: Mutex::default(), left_out }
    }

    fn admits(&self, kind: Identifier) -> bool {
        let now = self.clock.now();
        // Nothing under this lock can panic half way through a change.
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let second = seconds.entry(kind).or_insert(Second { began: now, lines: 0 });
        // A clock that was set back must not silence anything.
        if now < second.began || now.since(second.began) >= Duration::from_secs(1) {
            *second = Second { began: now, lines: 0 };
        }
        second.lines = second.lines.saturating_add(1);
        second.lines <= LINES_A_SECOND
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || self.admits(metadata.callsite()) {
            return true;
        }
        self.left_out.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

impl LeftOut {
    /// The number, which starts again from zero.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}
