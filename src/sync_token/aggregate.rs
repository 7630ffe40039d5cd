//! The tokens of one upstream endpoint: `newest`, which goes upstream, and `required`, which stored responses must cover.
//!
//! Both are kept per endpoint and never by token id alone, because all real stores use the same id. `newest` only grows, and
//! each of its states has a version number, so that "covers `required`" is one comparison of integers on the hot path: a
//! version covers `required` exactly if it is at least the least version that includes it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::coverage::WrittenCoverage;
use super::rises::Rises;
use super::token::{self, PresentedToken, SyncToken};
use crate::clock::Timestamp;

/// How many token ids are kept. Real stores send one; at the bound nothing stored counts as covering any more.
pub const MAX_IDS: usize = 16;

/// How many token values are remembered with their sequence numbers. Forgetting one is safe: it is asked upstream.
pub const MAX_KNOWN_VALUES: usize = 4096;

/// An id that no answer has brought for this long is dropped: an origin that once sent too many ids must not switch the store
/// off for good.
pub const ID_IDLE_TIME: Duration = Duration::from_secs(60 * 60);

/// What the tokens that a caller presented demand of a stored response (rule 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// Every value is known: a response that covers this version of `newest` includes them all.
    Known {
        /// The least version of `newest` that includes every presented value.
        required_version: u64,
    },
    /// Of these values nobody here knows what they stand for: nothing stored counts, ask with them.
    Unknown(Vec<PresentedToken>),
}

impl Presented {
    /// No value was presented.
    pub const NOTHING: Self = Self::Known { required_version: 0 };
}

/// `newest` and `required`, their versions, and the values whose sequence numbers are known.
#[derive(Debug, Default)]
pub struct Aggregate {
    ids: Vec<Id>,
    version: u64,
    required_version: u64,
    /// When an id was last seen for which there was no room.
    overflowed_at: Option<Timestamp>,
    moved: bool,
    known: HashMap<PresentedToken, u64>,
    known_order: VecDeque<PresentedToken>,
}

/// One id: never without a newest token.
#[derive(Debug)]
struct Id {
    newest: SyncToken,
    required: Option<SyncToken>,
    rises: Rises,
    seen_at: Timestamp,
}

impl Aggregate {
    /// The number of the current state of `newest`. Grows with every change and with every reset.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The least version of `newest` that includes `required`.
    #[must_use]
    pub const fn required_version(&self) -> u64 {
        self.required_version
    }

    /// More ids were seen than are kept: nothing stored can be shown to cover `required`.
    #[must_use]
    pub const fn overflowed(&self) -> bool {
        self.overflowed_at.is_some()
    }

    /// Whether a sequence number has grown. Until then nobody can know whether tokens tell states apart: an origin whose token is
    /// constant is to be treated like one without.
    #[must_use]
    pub const fn moved(&self) -> bool {
        self.moved
    }

    /// The tokens of `newest`, one an id.
    pub fn newest(&self) -> impl Iterator<Item = &SyncToken> {
        self.ids.iter().map(|id| &id.newest)
    }

    /// Merges the tokens of an upstream answer or of an authenticated change event into `newest`; says whether it changed.
    ///
    /// The highest sequence number of an id wins; on a tie the old value stays. Each value is remembered, so that a caller
    /// who presents it later is understood although callers send values without their sequence number.
    pub fn observe(&mut self, received: &[SyncToken], now: Timestamp) -> bool {
        let mut changed = self.drop_idle(received, now);
        for token in received {
            self.remember(token.presented(), token.sequence_number());
            changed |= self.merge(token, now);
        }
        changed
    }

    /// Raises `required` to these tokens, which [`Aggregate::observe`] has merged before; says whether it changed.
    pub fn require(&mut self, received: &[SyncToken]) -> bool {
        let mut changed = false;
        for token in received {
            let Some(id) = self.ids.iter_mut().find(|id| id.newest.id() == token.id()) else { continue };
            let older =
                id.required.as_ref().is_none_or(|held| held.sequence_number() < token.sequence_number());
            if older {
                let including = id.rises.version_including(token.sequence_number());
                id.required = Some(token.clone());
                self.required_version = self.required_version.max(including);
                changed = true;
            }
        }
        changed
    }

    /// Records what a caller's unknown values demand, once they were sent upstream in the place of ours and `received` came
    /// back: the answer is as new as they are, so what includes its tokens includes them. (Never the other way round: the
    /// tokens of an answer may be newer than the state that it shows.) A value whose id was not answered stays unknown,
    /// unless `unanswered_demand_nothing`: the mistake of taking it as one that demands nothing.
    pub fn learn(
        &mut self,
        presented: &[PresentedToken],
        received: &[SyncToken],
        unanswered_demand_nothing: bool,
        now: Timestamp,
    ) -> bool {
        let changed = self.observe(received, now);
        for value in presented {
            match received.iter().find(|token| token.id() == value.id()) {
                Some(answered) => self.remember(value, answered.sequence_number()),
                None if unanswered_demand_nothing => self.remember(value, 0),
                None => {}
            }
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
                Some(sequence_number) => {
                    required_version = required_version.max(self.including(token.id(), *sequence_number));
                }
                None => unknown.push(token),
            }
        }
        if unknown.is_empty() { Presented::Known { required_version } } else { Presented::Unknown(unknown) }
    }

    /// `newest` as the one field line of a request; a caller's unknown values take the place of ours for their ids, because how
    /// an origin treats two values of one id is not documented.
    #[must_use]
    pub fn request_line(&self, in_place_of_ours: &[PresentedToken]) -> String {
        let ours = self.newest().map(SyncToken::presented);
        let kept = ours.filter(|held| in_place_of_ours.iter().all(|caller| caller.id() != held.id()));
        token::print_request(kept.chain(in_place_of_ours))
    }

    /// The one field line that every answer to a caller carries: `required` with `own` merged in, the tokens of the answer to the
    /// caller's own write. While nothing is required it is `newest`; empty while the origin has never sent a token.
    #[must_use]
    pub fn response_line(&self, own: &[SyncToken]) -> String {
        token::print_response(&self.given(own))
    }

    /// The same tokens in the form in which a caller presents them.
    #[must_use]
    pub fn response_line_as_presented(&self) -> String {
        token::print_request(self.given(&[]).iter().map(SyncToken::presented))
    }

    /// What a caller demands who presents that line: the least version of `newest` that includes it.
    #[must_use]
    pub fn response_line_version(&self) -> u64 {
        if self.requires_some() { self.required_version } else { self.version }
    }

    fn requires_some(&self) -> bool {
        self.ids.iter().any(|id| id.required.is_some())
    }

    fn given(&self, own: &[SyncToken]) -> Vec<SyncToken> {
        let mut given: Vec<SyncToken> = if self.requires_some() {
            self.ids.iter().filter_map(|id| id.required.clone()).collect()
        } else {
            self.newest().cloned().collect()
        };
        for token in own {
            match given.iter().position(|held| held.id() == token.id()) {
                Some(at) if token.sequence_number() > given[at].sequence_number() => {
                    given[at] = token.clone()
                }
                Some(_) => {}
                None if given.len() < MAX_IDS => given.push(token.clone()),
                None => {}
            }
        }
        given
    }

    /// The tokens that were sent by whoever has this version of `newest`, as far as they are remembered.
    #[must_use]
    pub fn written(&self, version: u64) -> WrittenCoverage {
        let tokens = self.ids.iter().filter_map(|id| {
            let sequence_number = id.rises.included_in(version)?;
            // The value is opaque and only names the state; a mapping reads the id and the sequence number.
            SyncToken::new(id.newest.id(), id.newest.value(), sequence_number).ok()
        });
        WrittenCoverage { tokens: tokens.collect() }
    }

    /// The greatest version of `newest` that these tokens include: every token that it had, they have at least as new.
    #[must_use]
    pub fn version_within(&self, written: &WrittenCoverage) -> u64 {
        let within = self.ids.iter().map(|id| {
            let token = written.tokens.iter().find(|token| token.id() == id.newest.id());
            id.rises.last_version_within(token.map(SyncToken::sequence_number)).unwrap_or(0)
        });
        within.min().unwrap_or(0).min(self.version)
    }

    /// Forgets everything: an origin restored from a backup may count lower than what was seen.
    pub fn reset(&mut self) {
        // The version goes on, so that no older coverage can hold again.
        let version = self.version + 1;
        *self = Self { version, required_version: version, ..Self::default() };
    }

    fn merge(&mut self, token: &SyncToken, now: Timestamp) -> bool {
        let next_version = self.version + 1;
        let held = self.ids.iter().position(|id| id.newest.id() == token.id());
        match held {
            Some(at) => {
                let id = &mut self.ids[at];
                id.seen_at = now;
                if token.sequence_number() <= id.newest.sequence_number() {
                    return false;
                }
                id.newest = token.clone();
                id.rises.push(token.sequence_number(), next_version);
                self.moved = true;
            }
            None if self.ids.len() < MAX_IDS => {
                let mut rises = Rises::default();
                rises.push(token.sequence_number(), next_version);
                self.ids.push(Id { newest: token.clone(), required: None, rises, seen_at: now });
            }
            None => {
                let changed = self.overflowed_at.is_none();
                self.overflowed_at = Some(now);
                return changed;
            }
        }
        self.version = next_version;
        true
    }

    /// Drops what no answer has brought for [`ID_IDLE_TIME`]. An id that comes back later begins anew: nothing that was sent
    /// before covers it.
    fn drop_idle(&mut self, received: &[SyncToken], now: Timestamp) -> bool {
        let idle_since = |seen_at: Timestamp| now.since(seen_at) >= ID_IDLE_TIME;
        let mut changed = false;
        if self.overflowed_at.is_some_and(idle_since) {
            self.overflowed_at = None;
            changed = true;
        }
        let is_idle =
            |id: &Id| idle_since(id.seen_at) && received.iter().all(|token| token.id() != id.newest.id());
        if self.ids.iter().any(is_idle) {
            self.ids.retain(|id| !is_idle(id));
            let ids = &self.ids;
            self.known.retain(|value, _| ids.iter().any(|id| id.newest.id() == value.id()));
            let known = &self.known;
            self.known_order.retain(|value| known.contains_key(value));
            self.version += 1;
            changed = true;
        }
        changed
    }

    fn including(&self, id: &str, sequence_number: u64) -> u64 {
        // What is demanded of an id that is not kept is included in nothing.
        let held = self.ids.iter().find(|held| held.newest.id() == id);
        match held {
            Some(held) => held.rises.version_including(sequence_number),
            None if sequence_number == 0 => 0,
            None => u64::MAX,
        }
    }

    fn remember(&mut self, value: &PresentedToken, sequence_number: u64) {
        if let Some(known) = self.known.get_mut(value) {
            *known = sequence_number.max(*known);
            return;
        }
        if self.known.len() >= MAX_KNOWN_VALUES
            && let Some(oldest) = self.known_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(value.clone(), sequence_number);
        self.known_order.push_back(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_777);

    fn token(id: &str, value: &str, sequence_number: u64) -> SyncToken {
        SyncToken::new(id, value, sequence_number).expect("a well-formed token")
    }

    fn presented(id: &str, value: &str) -> PresentedToken {
        PresentedToken::new(id, value).expect("a well-formed token")
    }

    fn known(required_version: u64) -> Presented {
        Presented::Known { required_version }
    }

    fn observed(tokens: &[SyncToken]) -> Aggregate {
        let mut aggregate = Aggregate::default();
        for token in tokens {
            aggregate.observe(std::slice::from_ref(token), NOW);
        }
        aggregate
    }

    #[test]
    fn the_highest_sequence_number_of_an_id_wins_and_a_tie_keeps_the_old_value() {
        let mut aggregate = Aggregate::default();
        assert!(aggregate.observe(&[token("a", "one", 5)], NOW));
        assert!(!aggregate.observe(&[token("a", "older", 4)], NOW));
        assert!(!aggregate.observe(&[token("a", "tie", 5)], NOW));
        assert_eq!(aggregate.request_line(&[]), "a=one");
        assert!(aggregate.observe(&[token("a", "two", 6), token("b", "x", 1)], NOW));
        assert_eq!(aggregate.request_line(&[]), "a=two,b=x");
    }

    #[test]
    fn required_rises_apart_from_newest_and_is_what_callers_are_given() {
        let mut aggregate = observed(&[token("a", "one", 5), token("a", "two", 6), token("a", "three", 7)]);
        assert_eq!(aggregate.required_version(), 0);
        assert_eq!(aggregate.response_line(&[]), "a=three;sn=7", "while nothing is required: newest");
        assert!(aggregate.require(&[token("a", "two", 6)]));
        assert_eq!((aggregate.required_version(), aggregate.version()), (2, 3));
        assert_eq!(aggregate.response_line(&[]), "a=two;sn=6");
        assert_eq!(aggregate.response_line_as_presented(), "a=two");
        assert_eq!(aggregate.response_line(&[token("a", "own", 9)]), "a=own;sn=9", "after an own write");
        assert_eq!(aggregate.response_line(&[token("a", "own", 2)]), "a=two;sn=6");
        assert!(!aggregate.require(&[token("a", "one", 5)]), "it never falls");
        assert_eq!(aggregate.required_version(), 2);
    }

    #[test]
    fn a_late_token_requires_no_more_than_the_version_that_first_included_it() {
        let mut aggregate = observed(&[token("a", "one", 5), token("a", "two", 9), token("a", "three", 12)]);
        aggregate.observe(&[token("a", "late", 7)], NOW);
        assert!(aggregate.require(&[token("a", "late", 7)]));
        assert_eq!(aggregate.required_version(), 2);
    }

    #[test]
    fn a_value_that_passed_through_demands_what_includes_it() {
        let mut aggregate = observed(&[token("a", "one", 5), token("a", "two", 6)]);
        aggregate.observe(&[token("a", "late", 3)], NOW);
        let requirement = |value| aggregate.requirement(vec![presented("a", value)]);
        assert_eq!(
            [requirement("one"), requirement("two"), requirement("late")],
            [known(1), known(2), known(1)]
        );
        assert_eq!(requirement("forged"), Presented::Unknown(vec![presented("a", "forged")]));
    }

    #[test]
    fn a_callers_unknown_value_is_sent_in_the_place_of_ours() {
        let aggregate = observed(&[token("a", "one", 5), token("b", "x", 1)]);
        assert_eq!(aggregate.request_line(&[]), "a=one,b=x");
        assert_eq!(aggregate.request_line(&[presented("a", "theirs")]), "b=x,a=theirs");
        assert_eq!(aggregate.response_line(&[]), "a=one;sn=5,b=x;sn=1", "and never enters newest");
    }

    #[test]
    fn an_unknown_value_demands_from_then_on_what_its_answer_came_with() {
        let mut aggregate = observed(&[token("a", "one", 5)]);
        let theirs = [presented("a", "theirs")];
        assert!(aggregate.learn(&theirs, &[token("a", "two", 7)], false, NOW));
        assert_eq!(aggregate.requirement(theirs.to_vec()), known(2));
        assert_eq!(aggregate.response_line(&[]), "a=two;sn=7", "and is never handed on as the origin's");
    }

    #[test]
    fn a_value_whose_id_is_not_answered_stays_unknown() {
        let mut aggregate = observed(&[token("a", "one", 5)]);
        let theirs = [presented("b", "elsewhere")];
        aggregate.learn(&theirs, &[token("a", "two", 7)], false, NOW);
        assert_eq!(aggregate.requirement(theirs.to_vec()), Presented::Unknown(theirs.to_vec()));
        aggregate.learn(&theirs, &[token("a", "two", 7)], true, NOW);
        assert_eq!(aggregate.requirement(theirs.to_vec()), known(0), "the mistake");
    }

    #[test]
    fn a_constant_token_does_not_move() {
        let mut aggregate =
            observed(&[token("kv", "MA==", 1), token("kv", "MA==", 1), token("other", "v", 1)]);
        assert!(!aggregate.moved());
        aggregate.observe(&[token("kv", "MQ==", 2)], NOW);
        assert!(aggregate.moved());
        aggregate.reset();
        assert!(!aggregate.moved(), "what comes after a reset is another origin");
    }

    fn too_many_ids() -> Aggregate {
        let mut aggregate = Aggregate::default();
        for number in 0..=MAX_IDS {
            aggregate.observe(&[token(&format!("id{number}"), "v", 1)], NOW);
        }
        aggregate
    }

    #[test]
    fn at_the_bound_of_ids_nothing_counts_as_covering() {
        let mut aggregate = too_many_ids();
        assert!(aggregate.overflowed());
        assert_eq!(aggregate.ids.len(), MAX_IDS);
        aggregate.observe(&[token("id0", "w", 2)], NOW);
        assert!(aggregate.request_line(&[]).starts_with("id0=w,"), "ids that are kept still move");
    }

    #[test]
    fn ids_unseen_for_an_hour_are_dropped() {
        let mut aggregate = too_many_ids();
        aggregate.require(&[token("id1", "v", 1)]);
        let later = NOW.plus(ID_IDLE_TIME);
        assert!(aggregate.observe(&[token("id0", "w", 2)], later));
        assert!(!aggregate.overflowed());
        assert_eq!(aggregate.request_line(&[]), "id0=w");
        assert!(matches!(aggregate.requirement(vec![presented("id1", "v")]), Presented::Unknown(_)));
        let before = aggregate.version();
        aggregate.observe(&[token("id1", "v", 1)], later);
        aggregate.require(&[token("id1", "v", 1)]);
        assert!(aggregate.required_version() > before, "nothing sent before covers an id that comes back");
    }

    #[test]
    fn known_values_are_bounded_and_a_forgotten_one_is_unknown_again() {
        let mut aggregate = Aggregate::default();
        for number in 0..=MAX_KNOWN_VALUES as u64 {
            aggregate.observe(&[token("a", &format!("v{number}"), number + 1)], NOW);
        }
        assert_eq!(aggregate.known.len(), MAX_KNOWN_VALUES);
        assert!(matches!(aggregate.requirement(vec![presented("a", "v0")]), Presented::Unknown(_)));
        assert!(matches!(aggregate.requirement(vec![presented("a", "v1")]), Presented::Known { .. }));
    }

    #[test]
    fn a_reset_forgets_everything_but_never_repeats_a_version() {
        let mut aggregate = observed(&[token("a", "one", 5)]);
        aggregate.require(&[token("a", "one", 5)]);
        aggregate.reset();
        assert_eq!((aggregate.version(), aggregate.required_version()), (2, 2), "no older coverage holds");
        assert_eq!(aggregate.response_line(&[]), "");
        assert!(aggregate.observe(&[token("a", "restored", 2)], NOW), "a restored store may count lower");
        assert!(matches!(aggregate.requirement(vec![presented("a", "one")]), Presented::Unknown(_)));
    }

    #[test]
    fn a_version_can_be_written_as_tokens_and_found_again() {
        let mut one = observed(&[token("a", "one", 5), token("b", "x", 1), token("a", "two", 9)]);
        let numbers = |written: &WrittenCoverage| {
            written
                .tokens
                .iter()
                .map(|token| (token.id().to_owned(), token.sequence_number()))
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(&one.written(0)), []);
        assert_eq!(numbers(&one.written(2)), [("a".to_owned(), 5), ("b".to_owned(), 1)]);
        for version in 0..=3 {
            assert_eq!(one.version_within(&one.written(version)), version);
        }
        // Another process that saw other things in another order.
        let other = observed(&[token("b", "x", 1), token("a", "late", 7), token("a", "two", 9)]);
        assert_eq!(other.version_within(&one.written(3)), 3);
        assert_eq!(other.version_within(&one.written(2)), 1, "5 of a includes nothing that is known of a");
        assert_eq!(
            other.version_within(&one.written(1)),
            0,
            "without b even the first version is not included"
        );
        one.observe(&[token("c", "new", 1)], NOW);
        assert_eq!(other.version_within(&one.written(4)), 3, "more than enough");
    }
}
