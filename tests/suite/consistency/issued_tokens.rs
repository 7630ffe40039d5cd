//! The tokens of the simulated origin: what they are made of, what a request's tokens demand, what an answer carries.
//!
//! The sequence number counts the changes of a partition that many stores share, so it rises by itself between the changes of
//! this store, and the value of the token with it. Everything here is in that count: a commit has its place in it, a replica has
//! caught up to a place in it, and a token names one. What a token names includes every commit at or before it.

use std::time::Duration;

/// What tokens the origin hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// That of the state which the answer shows.
    OfState,
    /// One between that and the newest: the front end knows more than the replica that answered.
    OfFrontEnd,
    /// That of the newest state, whichever replica answers: the front end knows every commit.
    Newest,
    /// As `OfFrontEnd`, under either of two ids or both: every front end understands both. Some understand a third, of another
    /// partition, and answer it if they are asked with it; the others ignore it. (If front ends shared no id, no client
    /// could be consistent, however it treats tokens.)
    TwoIds,
    /// None.
    Absent,
    /// Always the same.
    Constant,
}

impl Tokens {
    /// Otherwise the origin is consistent by itself.
    pub(crate) fn tell_states_apart(self) -> bool {
        matches!(self, Self::OfState | Self::OfFrontEnd | Self::Newest | Self::TwoIds)
    }
}

/// The id of most tokens.
pub(crate) const TOKEN_ID: &str = "zAJw6V16";
const SECOND_ID: &str = "jtqGc1I4";
/// The id that only some front ends understand.
pub(crate) const FOREIGN_ID: &str = "q7RdM2xK";

/// Where the count stood when the run began.
const BEGINNING: u64 = 103_474;

/// The count after `commits` at `at`, rising by `drift_millihertz` beside them.
pub(crate) fn count(commits: usize, at: Duration, drift_millihertz: u32) -> u64 {
    let drifted = at.as_micros() * u128::from(drift_millihertz) / 1_000_000_000;
    BEGINNING + commits as u64 + u64::try_from(drifted).expect("runs are short")
}

/// What chance decides about the tokens of one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrontEnd {
    /// Of two values of one id the last counts, or the first: what an origin does is not documented.
    pub(crate) last_value_counts: bool,
    /// Which of the two ids it answers with: one, the other, or both.
    pub(crate) answers_with: u8,
    /// Whether it understands the id of the other partition.
    pub(crate) knows_foreign: bool,
    /// How much of what it knows beyond the state shown goes into its token: from 0 to 1.
    pub(crate) token_within: f64,
}

/// What a request demands of the front end that it reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demanded {
    /// The state must include everything up to this place.
    pub(crate) least: u64,
    /// The id of the other partition was presented and understood.
    pub(crate) foreign: bool,
    /// Tokens that this front end does not understand, as they were presented.
    pub(crate) ignored: Vec<String>,
}

impl FrontEnd {
    /// What the `Sync-Token` lines of a request demand.
    pub(crate) fn demanded<'a>(
        &self,
        tokens: Tokens,
        lines: impl Iterator<Item = &'a str> + Clone,
    ) -> Demanded {
        let mut demanded = Demanded::default();
        for id in [TOKEN_ID, SECOND_ID, FOREIGN_ID] {
            let of_id = |token: &&str| token.split_once('=').is_some_and(|(named, _)| named == id);
            let presented = lines.clone().flat_map(|line| line.split(',')).map(str::trim).filter(of_id);
            let known = match (id, tokens) {
                (TOKEN_ID, _) => true,
                (SECOND_ID, Tokens::TwoIds) => true,
                (_, Tokens::TwoIds) => self.knows_foreign,
                _ => false,
            };
            if !known {
                demanded.ignored.extend(presented.map(str::to_owned));
                continue;
            }
            let mut places = presented.filter_map(place);
            let counts = if self.last_value_counts { places.last() } else { places.next() };
            demanded.foreign |= id == FOREIGN_ID && counts.is_some();
            demanded.least = demanded.least.max(counts.unwrap_or(0));
        }
        demanded
    }

    /// The `Sync-Token` line of an answer that shows the state at `shown`, while the count stands at `newest`.
    pub(crate) fn line(
        &self,
        tokens: Tokens,
        shown: u64,
        newest: u64,
        demanded: &Demanded,
    ) -> Option<String> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let ahead = shown + ((newest - shown) as f64 * self.token_within) as u64;
        match tokens {
            Tokens::Absent => None,
            Tokens::Constant => Some("kv=MA==;sn=1".to_owned()),
            Tokens::OfState => Some(issued(TOKEN_ID, shown)),
            Tokens::OfFrontEnd => Some(issued(TOKEN_ID, ahead)),
            Tokens::Newest => Some(issued(TOKEN_ID, newest)),
            Tokens::TwoIds => {
                let ids: &[&str] = match self.answers_with % 3 {
                    0 => &[TOKEN_ID],
                    1 => &[SECOND_ID],
                    _ => &[TOKEN_ID, SECOND_ID],
                };
                let foreign = demanded.foreign.then_some(FOREIGN_ID);
                let line: Vec<_> = ids.iter().copied().chain(foreign).map(|id| issued(id, ahead)).collect();
                Some(line.join(","))
            }
        }
    }
}

/// A token as callers present it, for a state that includes everything up to `place`: one of the ids, by `pick`.
pub(crate) fn presented(tokens: Tokens, place: u64, pick: u8) -> Option<String> {
    match tokens {
        Tokens::OfState | Tokens::OfFrontEnd | Tokens::Newest => {
            Some(format!("{TOKEN_ID}={}", value(TOKEN_ID, place)))
        }
        Tokens::TwoIds => {
            let id = [TOKEN_ID, SECOND_ID, FOREIGN_ID, FOREIGN_ID][usize::from(pick % 4)];
            Some(format!("{id}={}", value(id, place)))
        }
        Tokens::Absent | Tokens::Constant => None,
    }
}

fn issued(id: &str, place: u64) -> String {
    // Sequence numbers of two ids have nothing to do with each other.
    let sequence_number = if id == TOKEN_ID { place } else { 3 * place + 1 };
    format!("{id}={};sn={sequence_number}", value(id, place))
}

/// Opaque to all but the origin.
fn value(id: &str, place: u64) -> String {
    format!("{}#{place}==", id.len())
}

/// The place that a token names, if it is one of ours.
fn place(token: &str) -> Option<u64> {
    let (id, rest) = token.split_once('=')?;
    let named = rest.split(';').next()?;
    let place = named.strip_suffix("==")?.split_once('#')?.1.parse().ok()?;
    (value(id, place) == named).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWS_ALL: FrontEnd =
        FrontEnd { last_value_counts: true, answers_with: 2, knows_foreign: true, token_within: 1.0 };

    fn demanded(front_end: FrontEnd, tokens: Tokens, line: &str) -> Demanded {
        front_end.demanded(tokens, [line].into_iter())
    }

    #[test]
    fn the_count_rises_with_commits_and_by_itself() {
        let at = Duration::from_secs(8);
        assert_eq!(count(0, at, 0), BEGINNING);
        assert_eq!(count(3, at, 0), BEGINNING + 3);
        assert_eq!(count(3, at, 1_250), BEGINNING + 3 + 10);
        assert_eq!(count(0, Duration::from_millis(799), 1_250), BEGINNING);
        assert_eq!(count(0, Duration::from_millis(800), 1_250), BEGINNING + 1);
    }

    #[test]
    fn a_token_demands_the_place_that_it_was_issued_for() {
        for tokens in [Tokens::OfState, Tokens::OfFrontEnd, Tokens::Newest, Tokens::TwoIds] {
            let line = KNOWS_ALL.line(tokens, 110_000, 110_000, &Demanded::default()).expect("a token");
            let callers: Vec<_> = line.split(',').map(|token| token.rsplit_once(";sn=").unwrap().0).collect();
            assert_eq!(demanded(KNOWS_ALL, tokens, &callers.join(",")).least, 110_000, "{line}");
            assert_eq!(demanded(KNOWS_ALL, tokens, &line).least, 110_000, "{line}");
        }
        assert_eq!(demanded(KNOWS_ALL, Tokens::OfState, "zAJw6V16=forged1").least, 0);
        assert_eq!(KNOWS_ALL.line(Tokens::Absent, 1, 2, &Demanded::default()), None);
        assert_eq!(
            KNOWS_ALL.line(Tokens::Constant, 1, 2, &Demanded::default()).as_deref(),
            Some("kv=MA==;sn=1")
        );
    }

    #[test]
    fn the_token_of_a_front_end_lies_between_the_state_shown_and_the_newest() {
        for (token_within, expected) in [(0.0, 110_000), (0.5, 110_005), (1.0, 110_010)] {
            let front_end = FrontEnd { token_within, ..KNOWS_ALL };
            let line =
                front_end.line(Tokens::OfFrontEnd, 110_000, 110_010, &Demanded::default()).expect("a token");
            assert_eq!(demanded(KNOWS_ALL, Tokens::OfFrontEnd, &line).least, expected);
            let of_state =
                front_end.line(Tokens::OfState, 110_000, 110_010, &Demanded::default()).expect("a token");
            assert_eq!(demanded(KNOWS_ALL, Tokens::OfState, &of_state).least, 110_000);
        }
    }

    #[test]
    fn an_id_that_a_front_end_does_not_know_is_ignored_and_not_answered() {
        let foreign = presented(Tokens::TwoIds, 110_007, 2).expect("a token");
        assert!(foreign.starts_with(FOREIGN_ID));
        let known = demanded(KNOWS_ALL, Tokens::TwoIds, &foreign);
        assert_eq!(known, Demanded { least: 110_007, foreign: true, ignored: vec![] });
        let line = KNOWS_ALL.line(Tokens::TwoIds, 110_007, 110_007, &known).expect("a token");
        assert_eq!(line.split(',').count(), 3, "{line}");
        let other = FrontEnd { knows_foreign: false, ..KNOWS_ALL };
        let unknown = demanded(other, Tokens::TwoIds, &foreign);
        assert_eq!(unknown, Demanded { least: 0, foreign: false, ignored: vec![foreign] });
        let line = other.line(Tokens::TwoIds, 110_000, 110_007, &unknown).expect("a token");
        assert!(!line.contains(FOREIGN_ID), "{line}");
    }

    #[test]
    fn of_two_ids_either_is_enough() {
        for answers_with in 0..3 {
            let front_end = FrontEnd { answers_with, ..KNOWS_ALL };
            let line =
                front_end.line(Tokens::TwoIds, 110_000, 110_000, &Demanded::default()).expect("a token");
            assert_eq!(line.split(',').count(), 1 + usize::from(answers_with == 2));
            assert_eq!(demanded(KNOWS_ALL, Tokens::TwoIds, &line).least, 110_000);
        }
        let both = format!("{},{}", issued(TOKEN_ID, 110_001), issued(SECOND_ID, 110_004));
        assert_eq!(demanded(KNOWS_ALL, Tokens::TwoIds, &both).least, 110_004, "the newer of the two");
    }
}
