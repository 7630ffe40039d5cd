//! The engine's clock, as a member knows it: the one clock that all members can read.
//!
//! A reading was true at some time between asking and answer. So the member knows two bounds, and takes the one that makes an age
//! greater: the earlier for what it writes, the later for what it reads. Only durations on the member's own monotonic clock are added to a
//! reading. A clock that is set back makes ages greater, never smaller.

use std::time::Duration;

use tokio::time::Instant;

use super::engine::{ClockReading, EngineMillis};

/// The bounds, as what the engine's clock showed when this member's began.
#[derive(Clone, Copy, Debug)]
pub struct EngineClock {
    began: Instant,
    earliest_millis: i128,
    latest_millis: i128,
}

impl EngineClock {
    /// The bounds of the first reading.
    #[must_use]
    pub fn new(ClockReading { asked, answered, millis: shown }: ClockReading) -> Self {
        let shown = i128::from(shown);
        let waited = millis(answered - asked);
        Self { began: asked, earliest_millis: shown - waited - 1, latest_millis: shown + 1 }
    }

    /// Takes in another reading.
    pub fn observe(&mut self, ClockReading { asked, answered, millis: shown }: ClockReading) {
        let shown = i128::from(shown);
        let since_began = |at: Instant| millis(at.saturating_duration_since(self.began));
        self.earliest_millis = self.earliest_millis.min(shown - since_began(answered) - 1);
        self.latest_millis = self.latest_millis.max(shown + 1 - since_began(asked));
    }

    /// What it shows at the earliest.
    #[must_use]
    pub fn earliest(&self, now: Instant) -> EngineMillis {
        self.at(self.earliest_millis, now)
    }

    /// What it shows at the latest.
    #[must_use]
    pub fn latest(&self, now: Instant) -> EngineMillis {
        self.at(self.latest_millis, now)
    }

    /// How long ago it showed this, at the most.
    #[must_use]
    pub fn age(&self, of: EngineMillis, now: Instant) -> Duration {
        Duration::from_millis(self.latest(now).saturating_sub(of))
    }

    fn at(&self, began_millis: i128, now: Instant) -> EngineMillis {
        let shown = began_millis + millis(now.saturating_duration_since(self.began));
        u64::try_from(shown.max(0)).unwrap_or(u64::MAX)
    }
}

fn millis(duration: Duration) -> i128 {
    i128::try_from(duration.as_millis()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_age_is_never_too_small() {
        let began = crate::clock::instant();
        for (one_way, other_way) in [(0, 0), (3, 40), (40, 3), (200, 200)] {
            // Two members read the same clock, each over ways of other lengths.
            let engine = |at: Instant| 1_000_000 + u64::try_from((at - began).as_millis()).unwrap();
            let member = |at: Instant, there: u32, back: u32| {
                let (answered, millis) = (at + MS * (there + back), engine(at + MS * there));
                EngineClock::new(ClockReading { asked: at, answered, millis })
            };
            let writer = member(began + MS * 10, one_way, other_way);
            let reader = member(began + MS * 500, other_way, one_way);
            let (written, read) = (began + MS * 700, began + MS * 1_900);
            let age = reader.age(writer.earliest(written), read);
            assert!(age >= MS * 1_200 && age <= MS * (1_200 + 2 * (one_way + other_way) + 6), "{age:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_makes_ages_greater() {
        let began = crate::clock::instant();
        let reading = |at, millis| ClockReading { asked: at, answered: at, millis };
        let mut clock = EngineClock::new(reading(began, 50_000));
        let written = clock.earliest(began + MS * 100);
        clock.observe(reading(began + MS * 200, 20_000));
        assert!(clock.age(written, began + MS * 300) >= MS * 200);
        assert!(clock.age(clock.earliest(began + MS * 300), began + MS * 400) >= MS * 30_000);
    }
}
