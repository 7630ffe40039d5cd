//! The `Sync-Token` of an answer, and the state that a returned token asks for.
//!
//! The value of a token is base64 of `0:<index of the id>#<change>`, the form of the real service. With several ids,
//! the key of a change determines its id, and the token of an id names the last change of that id.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;

use crate::sync_token::token::{PresentedToken, SyncToken, print_response};

/// The ids, in the order in which they are used. The first one is that of real stores.
const IDS: [&str; 8] =
    ["zAJw6V16", "jtqGc1I4", "q7RdM2xK", "w3HnVb9T", "Yc5PfL0s", "u8EgXa4J", "Ko1DtZ6i", "mS9vWr2B"];

/// The maximum number of token ids.
pub const MAXIMUM_IDS: usize = IDS.len();

/// Which token an answer carries. The contract of the service allows the first three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TokenMode {
    /// The token of the state that the answer shows.
    #[default]
    Shown,
    /// The token of the newest state, as from a front end that knows more than the lagging replica that answers.
    Newest,
    /// The constant `kv=MA==;sn=1` of the vendor's emulator.
    Constant,
    /// No token, as from an origin without tokens.
    None,
}

/// Issues tokens.
#[derive(Debug)]
pub struct Tokens {
    mode: TokenMode,
    /// The changes of each id, rising.
    changes: Vec<Vec<u64>>,
    drifts: bool,
}

impl Tokens {
    /// Tokens with `ids` ids, from one to [`MAXIMUM_IDS`].
    pub fn new(mode: TokenMode, ids: usize) -> Self {
        Self { mode, changes: vec![Vec::new(); ids.clamp(1, MAXIMUM_IDS)], drifts: false }
    }

    /// Makes every id drift: with several ids, each number without a change belongs to one of them in turn.
    #[must_use]
    pub fn drifting(self) -> Self {
        Self { drifts: true, ..self }
    }

    /// Adds a change. Add changes in order. `name`, the key of the change, determines the id.
    pub fn commit(&mut self, sequence_number: u64, name: &str) {
        if self.changes.len() < 2 {
            // A single id names every change, so no list is needed.
            return;
        }
        let sum =
            name.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let index = sum % self.changes.len();
        if let Some(changes) = self.changes.get_mut(index) {
            changes.push(sequence_number);
        }
    }

    /// The `Sync-Token` of an answer that shows the state after the change `shown` while the newest number is `newest`.
    pub fn field(&self, shown: u64, newest: u64) -> Option<HeaderValue> {
        let sequence_number = match self.mode {
            TokenMode::Shown => shown,
            TokenMode::Newest => newest,
            TokenMode::Constant => return Some(HeaderValue::from_static("kv=MA==;sn=1")),
            TokenMode::None => return None,
        };
        HeaderValue::try_from(self.line(sequence_number)).ok()
    }

    /// The tokens of the state after a change, in the form `id=value;sn=N,…`.
    pub fn line(&self, sequence_number: u64) -> String {
        let tokens: Vec<SyncToken> = self
            .changes
            .iter()
            .zip(IDS)
            .enumerate()
            .filter_map(|(index, (changes, id))| {
                let number = if self.changes.len() < 2 {
                    sequence_number
                } else {
                    let seen = changes.partition_point(|number| *number <= sequence_number);
                    let change = seen.checked_sub(1).and_then(|last| changes.get(last)).copied().unwrap_or(0);
                    if self.drifts { change.max(self.tick(index, sequence_number)) } else { change }
                };
                SyncToken::new(id, &STANDARD.encode(format!("0:{index}#{number}")), number).ok()
            })
            .collect();
        print_response(&tokens)
    }

    /// The last number up to this one that belongs to an id, with or without a change.
    fn tick(&self, index: usize, sequence_number: u64) -> u64 {
        let (ids, index) = (self.changes.len() as u64, index as u64);
        sequence_number.checked_sub(index).map_or(0, |above| index + above / ids * ids)
    }

    /// The oldest state that an answer to a request with these tokens may show. A token of another origin asks for
    /// nothing.
    pub fn required(presented: &[PresentedToken]) -> u64 {
        presented.iter().filter_map(required).max().unwrap_or(0)
    }
}

fn required(token: &PresentedToken) -> Option<u64> {
    let index = IDS.iter().position(|id| *id == token.id())?;
    let text = String::from_utf8(STANDARD.decode(token.value()).ok()?).ok()?;
    let (of, number) = text.strip_prefix("0:")?.split_once('#')?;
    if of.parse() == Ok(index) { number.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync_token::token::{parse_request, parse_response};

    fn presented(line: &str) -> Vec<PresentedToken> {
        parse_request([line.as_bytes()])
    }

    #[test]
    fn a_token_asks_for_the_state_that_it_came_with() {
        let tokens = Tokens::new(TokenMode::Shown, 1);
        let line = tokens.line(3_036_056);
        assert_eq!(line, "zAJw6V16=MDowIzMwMzYwNTY=;sn=3036056");
        assert_eq!(Tokens::required(&presented(&line)), 3_036_056);
        assert_eq!(Tokens::required(&presented("zAJw6V16=MDowIzMwMzYwNTY=")), 3_036_056);
    }

    #[test]
    fn foreign_and_malformed_tokens_ask_for_nothing() {
        for line in [
            "kv=MA==",
            "zAJw6V16=MDoyOA==",
            "zAJw6V16=%%%",
            "other=MDowIzk=",
            "jtqGc1I4=MDowIzk=",
            "zAJw6V16",
        ] {
            assert_eq!(Tokens::required(&presented(line)), 0, "{line}");
        }
    }

    #[test]
    fn several_ids_share_the_changes() {
        let mut tokens = Tokens::new(TokenMode::Shown, 3);
        for (number, key) in (1..=30).zip(["a", "b", "c"].into_iter().cycle()) {
            tokens.commit(number, key);
        }
        let line = tokens.line(20);
        assert_eq!(presented(&line).len(), 3);
        assert_eq!(Tokens::required(&presented(&line)), 20);
        assert_eq!(tokens.changes.iter().map(Vec::len).sum::<usize>(), 30);
        assert!(tokens.changes.iter().all(|changes| changes.len() == 10));
    }

    #[test]
    fn each_of_several_ids_drifts_and_together_they_name_the_state() {
        let mut tokens = Tokens::new(TokenMode::Shown, 3).drifting();
        tokens.commit(7, "a");
        let numbers = |at| {
            let line = tokens.line(at);
            assert!(Tokens::required(&presented(&line)) <= at, "{line}");
            parse_response([line.as_bytes()]).iter().map(SyncToken::sequence_number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7).iter().max(), Some(&7), "a token names the change");
        let (before, after) = (numbers(10), numbers(13));
        assert!(before.iter().zip(&after).all(|(before, after)| before < after), "{before:?} {after:?}");
    }

    #[test]
    fn the_mode_determines_the_token() {
        let field = |mode| Tokens::new(mode, 1).field(4, 9).map(|value| value.to_str().unwrap().to_owned());
        assert!(field(TokenMode::Shown).unwrap().ends_with(";sn=4"));
        assert!(field(TokenMode::Newest).unwrap().ends_with(";sn=9"));
        assert_eq!(field(TokenMode::Constant).as_deref(), Some("kv=MA==;sn=1"));
        assert_eq!(field(TokenMode::None), None);
    }
}
