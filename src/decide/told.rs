//! After a failover to a replica: whether what it shows may be older than what callers were told.
//!
//! A replica lags behind, and its tokens say nothing of the endpoint that was asked before. What tells states apart is what both share: the
//! entity tag of a resource, and when it was last changed.
//!
//! | callers were told | the replica shows | it is |
//! |---|---|---|
//! | a state | the same tag, or a later change | not older |
//! | a state | another tag with an earlier or equal time, or nothing | perhaps older |
//! | that there is none | a change after they were told | not older |
//! | that there is none | a change before that | perhaps older |
//! | nothing | anything | not older |
//!
//! Times have whole seconds, so of two changes within a second the later cannot be told: that counts as perhaps older, until the replica
//! has caught up. Where callers were told both of them, no tag is known to be the later one.

use std::cmp::Ordering;
use std::time::Duration;

use crate::clock::Timestamp;

const SECOND: Duration = Duration::from_secs(1);

/// What callers were told of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToldState {
    /// This state.
    Present {
        /// Its entity tag, with quotes; `None`: one of several.
        entity_tag: Option<Box<str>>,
        /// When it was changed, by the origin's clock.
        modified: Option<Timestamp>,
    },
    /// That there was none at some moment between these times, by the origin's clock.
    Absent {
        /// The earlier: when it was asked.
        from: Timestamp,
        /// The later: when it was answered.
        at: Timestamp,
    },
}

/// What a replica shows of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaState<'a> {
    /// Its entity tag, with quotes.
    pub entity_tag: &'a str,
    /// When it was changed.
    pub modified: Option<Timestamp>,
}

impl ToldState {
    /// Whether what a replica shows may be older than this. `None`: it shows that there is none.
    #[must_use]
    pub fn may_be_newer_than(&self, shown: Option<ReplicaState<'_>>) -> bool {
        match (self, shown) {
            (Self::Present { entity_tag, .. }, Some(shown))
                if entity_tag.as_deref() == Some(shown.entity_tag) =>
            {
                false
            }
            (Self::Present { modified, .. }, Some(shown)) => {
                modified.zip(shown.modified).is_none_or(|(told, shown)| shown <= told)
            }
            (Self::Absent { at, .. }, Some(shown)) => shown.modified.is_none_or(|shown| shown <= *at),
            (Self::Present { .. }, None) => true,
            (Self::Absent { .. }, None) => false,
        }
    }

    /// Of two things that callers were told, the later; where that cannot be told, what only a later change can follow.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        let either = |modified| Self::Present { entity_tag: None, modified };
        match (&self, &other) {
            (
                Self::Present { modified: one, entity_tag: a },
                Self::Present { modified: two, entity_tag: b },
            ) => match one.cmp(two) {
                Ordering::Greater => self,
                Ordering::Less => other,
                Ordering::Equal if a == b => self,
                Ordering::Equal => either(*one),
            },
            (Self::Absent { from: a, at: b }, Self::Absent { from: c, at: d }) => {
                Self::Absent { from: *a.max(c), at: *b.max(d) }
            }
            (Self::Present { modified, .. }, Self::Absent { from, at }) => match modified {
                Some(modified) if modified > at => self,
                // The time of change has whole seconds.
                Some(modified) if modified.plus(SECOND) <= *from => other,
                Some(modified) => either(Some(*modified.max(at))),
                None => either(None),
            },
            (Self::Absent { .. }, Self::Present { .. }) => other.later(self),
        }
    }

    /// Of what two writes told whose order is not known: what only a later change can follow.
    #[must_use]
    pub fn either(self, other: Self) -> Self {
        let time = |state: &Self| match state {
            Self::Present { modified, .. } => *modified,
            Self::Absent { at, .. } => Some(*at),
        };
        let modified = time(&self).zip(time(&other)).map(|(one, two)| one.max(two));
        Self::Present { entity_tag: None, modified }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(second)
    }

    fn present(tag: &str, second: i64) -> ToldState {
        ToldState::Present { entity_tag: Some(tag.into()), modified: Some(at(second)) }
    }

    fn shown(tag: &str, second: i64) -> Option<ReplicaState<'_>> {
        Some(ReplicaState { entity_tag: tag, modified: Some(at(second)) })
    }

    #[test]
    fn the_table_holds() {
        let told = present("\"b\"", 10);
        assert!(!told.may_be_newer_than(shown("\"b\"", 10)));
        assert!(!told.may_be_newer_than(shown("\"c\"", 11)));
        assert!(told.may_be_newer_than(shown("\"a\"", 9)));
        assert!(told.may_be_newer_than(shown("\"c\"", 10)), "within one second it cannot be told");
        assert!(told.may_be_newer_than(None));
        let undated = ToldState::Present { entity_tag: Some("\"b\"".into()), modified: None };
        assert!(undated.may_be_newer_than(shown("\"c\"", 11)));
        let absent = ToldState::Absent { from: at(9), at: at(10) };
        assert!(absent.may_be_newer_than(shown("\"a\"", 10)));
        assert!(!absent.may_be_newer_than(shown("\"a\"", 11)));
        assert!(!absent.may_be_newer_than(None));
    }

    #[test]
    fn the_later_of_two_counts() {
        assert_eq!(present("\"a\"", 1).later(present("\"b\"", 2)), present("\"b\"", 2));
        assert_eq!(present("\"b\"", 2).later(present("\"a\"", 1)), present("\"b\"", 2));
        let deleted = ToldState::Absent { from: at(3), at: at(3) };
        assert_eq!(present("\"b\"", 2).later(deleted.clone()), deleted);
        assert_eq!(deleted.clone().later(present("\"c\"", 4)), present("\"c\"", 4));
        assert!(present("\"a\"", 1).either(deleted.clone()).may_be_newer_than(None));
        for both in [
            present("\"a\"", 3).later(present("\"b\"", 3)),
            deleted.clone().later(present("\"b\"", 3)),
            present("\"b\"", 3).later(deleted),
        ] {
            assert!(both.may_be_newer_than(shown("\"a\"", 3)) && both.may_be_newer_than(shown("\"b\"", 3)));
            assert!(both.may_be_newer_than(None) && !both.may_be_newer_than(shown("\"c\"", 4)));
        }
    }
}
