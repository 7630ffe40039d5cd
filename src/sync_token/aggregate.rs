//! The aggregate over all callers: for each token id the value with the highest sequence number seen upstream.
//!
//! This is `observed` of design section 3, kept per upstream endpoint and never by token id alone, because all real stores
//! use the same id (fact sheet, hazard 5). Each distinct state has a version number, so that "covers `observed`" is one
//! comparison of integers on the hot path.

use std::collections::{HashMap, VecDeque};

use super::token::{self, PresentedToken, SyncToken};

/// How many token ids are kept. Real stores send one; at the bound nothing stored counts as covering any more.
pub const MAX_IDS: usize = 16;

/// How many token values are remembered with the version that includes them. Forgetting one is safe: it is asked upstream.
pub const MAX_KNOWN_VALUES: usize = 4096;

/// What the tokens that a caller presented demand of a stored response (rule 2 of coverage).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// Every value passed through this sidecar: a response that covers this version of `observed` includes them all.
    Known {
        /// The least version of `observed` that includes every presented value.
        required_version: u64,
    },
    /// These values never passed through this sidecar: nothing stored counts, ask with them.
    Unknown(Vec<PresentedToken>),
}

/// `observed`, its version, and the values that are known to be included in it.
#[derive(Debug, Default)]
pub struct Aggregate {
    tokens: Vec<SyncToken>,
    version: u64,
    overflowed: bool,
    moved: bool,
    known: HashMap<PresentedToken, Known>,
    known_order: VecDeque<PresentedToken>,
}

/// With the highest sequence number that a value came with, the version of `observed` that includes it.
#[derive(Clone, Copy, Debug)]
struct Known {
    sequence_number: u64,
    version: u64,
}

impl Aggregate {
    /// The number of the current state. Grows with every change and with every reset.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// More ids were seen than are kept: nothing stored can be shown to cover `observed`.
    #[must_use]
    pub const fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Whether a sequence number has grown. Until then nobody can know whether tokens tell states apart: an origin whose token is
    /// constant is to be treated like one without.
    #[must_use]
    pub const fn moved(&self) -> bool {
        self.moved
    }

    /// The tokens, one an id.
    #[must_use]
    pub fn tokens(&self) -> &[SyncToken] {
        &self.tokens
    }

    /// Merges the tokens of an upstream response or of an authenticated change event; says whether `observed` changed.
    ///
    /// The highest sequence number of an id wins; on a tie the old value stays. Each value is remembered, so that a caller
    /// who presents it later is understood although callers send values without their sequence number.
    pub fn observe(&mut self, received: &[SyncToken]) -> bool {
        let mut changed = false;
        for token in received {
            match self.tokens.iter().position(|held| held.id() == token.id()) {
                Some(at) if token.sequence_number() > self.tokens[at].sequence_number() => {
                    self.tokens[at] = token.clone();
                    self.moved = true;
                    changed = true;
                }
                Some(_) => {}
                None if self.tokens.len() < MAX_IDS => {
                    self.tokens.push(token.clone());
                    changed = true;
                }
                None => {
                    changed |= !self.overflowed;
                    self.overflowed = true;
                }
            }
        }
        self.version += u64::from(changed);
        // After the version has moved: the state that includes these values is the new one.
        for token in received {
            self.remember(token);
        }
        changed
    }

    /// Records what a caller's unknown values demand, once they were sent upstream in the place of ours and `received` came
    /// back: the answer is as new as they are, so what includes its tokens includes them. (Never the other way round: the
    /// tokens of an answer may be newer than the state that it shows.) An id that the origin does not answer with tells it
    /// nothing, and demands nothing.
    pub fn learn(&mut self, presented: &[PresentedToken], received: &[SyncToken]) -> bool {
        let changed = self.observe(received);
        for value in presented {
            let answered = received.iter().find(|token| token.id() == value.id());
            let sequence_number = answered.map_or(0, SyncToken::sequence_number);
            self.remember_value(value, Known { sequence_number, version: self.version });
        }
        changed
    }

    /// What the presented tokens demand.
    #[must_use]
    pub fn requirement(&self, presented: Vec<PresentedToken>) -> Presented {
        let mut required_version = 0;
        let mut unknown = Vec::new();
        for token in presented {
            match self.known.get(&token) {
                Some(known) => required_version = required_version.max(known.version),
                None => unknown.push(token),
            }
        }
        if unknown.is_empty() { Presented::Known { required_version } } else { Presented::Unknown(unknown) }
    }

    /// The tokens to send upstream, as the one field line of a request; a caller's unknown values take the place of ours
    /// for their ids, because how an origin treats two values of one id is not documented.
    #[must_use]
    pub fn request_line(&self, in_place_of_ours: &[PresentedToken]) -> String {
        let ours = self.tokens.iter().map(SyncToken::presented);
        let kept = ours.filter(|held| in_place_of_ours.iter().all(|caller| caller.id() != held.id()));
        token::print_request(kept.chain(in_place_of_ours))
    }

    /// The one field line that every answer to a caller carries; empty while the origin has never sent a token.
    #[must_use]
    pub fn response_line(&self) -> String {
        token::print_response(&self.tokens)
    }

    /// Forgets everything: an origin restored from a backup may count lower than what was observed.
    pub fn reset(&mut self) {
        // The version goes on, so that no older coverage can equal a later one.
        *self = Self { version: self.version + 1, ..Self::default() };
    }

    fn remember(&mut self, token: &SyncToken) {
        let latest = Known { sequence_number: token.sequence_number(), version: self.version };
        self.remember_value(token.presented(), latest);
    }

    fn remember_value(&mut self, value: &PresentedToken, latest: Known) {
        if let Some(known) = self.known.get_mut(value) {
            if latest.sequence_number > known.sequence_number {
                *known = latest;
            }
            return;
        }
        if self.known.len() >= MAX_KNOWN_VALUES
            && let Some(oldest) = self.known_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(value.clone(), latest);
        self.known_order.push_back(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str, value: &str, sequence_number: u64) -> SyncToken {
        SyncToken::new(id, value, sequence_number).expect("a well-formed token")
    }

    fn presented(id: &str, value: &str) -> PresentedToken {
        PresentedToken::new(id, value).expect("a well-formed token")
    }

    #[test]
    fn the_highest_sequence_number_of_an_id_wins_and_a_tie_keeps_the_old_value() {
        let mut aggregate = Aggregate::default();
        assert!(aggregate.observe(&[token("a", "one", 5)]));
        assert!(!aggregate.observe(&[token("a", "older", 4)]));
        assert!(!aggregate.observe(&[token("a", "tie", 5)]));
        assert_eq!(aggregate.response_line(), "a=one;sn=5");
        assert!(aggregate.observe(&[token("a", "two", 6), token("b", "x", 1)]));
        assert_eq!(aggregate.response_line(), "a=two;sn=6,b=x;sn=1");
        assert_eq!(aggregate.version(), 2, "one version a change, however many tokens it brought");
    }

    #[test]
    fn a_value_that_passed_through_is_known_with_the_version_that_includes_it() {
        let mut aggregate = Aggregate::default();
        aggregate.observe(&[token("a", "one", 5)]);
        aggregate.observe(&[token("a", "two", 6)]);
        aggregate.observe(&[token("a", "late", 3)]);
        let requirement = |value| aggregate.requirement(vec![presented("a", value)]);
        assert_eq!(requirement("one"), Presented::Known { required_version: 1 });
        assert_eq!(requirement("two"), Presented::Known { required_version: 2 });
        assert_eq!(requirement("late"), Presented::Known { required_version: 2 });
        assert_eq!(requirement("forged"), Presented::Unknown(vec![presented("a", "forged")]));
    }

    #[test]
    fn a_callers_unknown_value_is_sent_in_the_place_of_ours() {
        let mut aggregate = Aggregate::default();
        aggregate.observe(&[token("a", "one", 5), token("b", "x", 1)]);
        assert_eq!(aggregate.request_line(&[]), "a=one,b=x");
        assert_eq!(aggregate.request_line(&[presented("a", "theirs")]), "b=x,a=theirs");
        assert_eq!(aggregate.response_line(), "a=one;sn=5,b=x;sn=1", "and never enters observed");
    }

    #[test]
    fn an_unknown_value_demands_from_then_on_what_its_answer_came_with() {
        let mut aggregate = Aggregate::default();
        aggregate.observe(&[token("a", "one", 5)]);
        let theirs = [presented("a", "theirs"), presented("b", "of another id")];
        assert!(aggregate.learn(&theirs, &[token("a", "two", 7)]));
        assert_eq!(aggregate.requirement(theirs.to_vec()), Presented::Known { required_version: 2 });
        assert_eq!(aggregate.response_line(), "a=two;sn=7", "and is never handed on as the origin's");
        let forged = [presented("a", "forged")];
        assert!(!aggregate.learn(&forged, &[token("a", "late", 3)]));
        assert_eq!(aggregate.requirement(forged.to_vec()), Presented::Known { required_version: 2 });
    }

    #[test]
    fn a_constant_token_does_not_move() {
        let mut aggregate = Aggregate::default();
        aggregate.observe(&[token("kv", "MA==", 1)]);
        aggregate.observe(&[token("kv", "MA==", 1), token("other", "v", 1)]);
        assert!(!aggregate.moved());
        aggregate.observe(&[token("kv", "MQ==", 2)]);
        assert!(aggregate.moved());
        aggregate.reset();
        assert!(!aggregate.moved(), "what comes after a reset is another origin");
    }

    #[test]
    fn at_the_bound_of_ids_nothing_counts_as_covering() {
        let mut aggregate = Aggregate::default();
        for number in 0..MAX_IDS {
            aggregate.observe(&[token(&format!("id{number}"), "v", 1)]);
        }
        assert!(!aggregate.overflowed());
        let version = aggregate.version();
        assert!(aggregate.observe(&[token("one-more", "v", 1)]));
        assert!(aggregate.overflowed());
        assert!(aggregate.version() > version);
        assert_eq!(aggregate.tokens().len(), MAX_IDS);
        aggregate.observe(&[token("id0", "w", 2)]);
        assert!(aggregate.response_line().starts_with("id0=w;sn=2"), "ids that are kept still move");
    }

    #[test]
    fn known_values_are_bounded_and_a_forgotten_one_is_unknown_again() {
        let mut aggregate = Aggregate::default();
        for number in 0..=MAX_KNOWN_VALUES as u64 {
            aggregate.observe(&[token("a", &format!("v{number}"), number + 1)]);
        }
        assert_eq!(aggregate.known.len(), MAX_KNOWN_VALUES);
        assert!(matches!(aggregate.requirement(vec![presented("a", "v0")]), Presented::Unknown(_)));
        assert!(matches!(aggregate.requirement(vec![presented("a", "v1")]), Presented::Known { .. }));
    }

    #[test]
    fn a_reset_forgets_everything_but_never_repeats_a_version() {
        let mut aggregate = Aggregate::default();
        aggregate.observe(&[token("a", "one", 5)]);
        aggregate.reset();
        assert_eq!((aggregate.version(), aggregate.response_line().as_str()), (2, ""));
        assert!(aggregate.observe(&[token("a", "restored", 2)]), "a restored store may count lower");
        assert!(matches!(aggregate.requirement(vec![presented("a", "one")]), Presented::Unknown(_)));
    }
}
