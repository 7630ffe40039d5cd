//! The tokens of one upstream endpoint: `newest`, which goes upstream, and `required`, which stored responses must cover.
//!
//! Both are kept per endpoint and never by token id alone, because all real stores use the same id. `newest` only grows, and
//! each of its states has a version number, so that "covers `required`" is one comparison of integers on the hot path: a
//! version covers `required` exactly if it is at least the least version that includes it.

use std::time::Duration;

use super::known_values::KnownValues;
use super::rises::Rises;
use super::token::{self, PresentedToken, SyncToken};
use crate::clock::Timestamp;

/// How many token ids are kept. Real stores send one; at the bound nothing stored counts as covering any more.
pub const MAX_IDS: usize = 16;

/// An id that no answer has brought for this long is dropped: an origin that once sent too many ids must not switch the store
/// off for good.
pub const ID_IDLE_TIME: Duration = Duration::from_secs(60 * 60);

/// What the tokens that a caller presented demand of a stored response (rule 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresentedTokens {
    /// Every value is known: a response that covers this version of `newest` includes them all.
    Known {
        /// The least version of `newest` that includes every presented value.
        required_version: u64,
    },
    /// It is not known here what these values stand for: nothing stored counts, ask with them.
    Unknown(Vec<PresentedToken>),
}

impl PresentedTokens {
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
    pub(super) known: KnownValues,
    /// The values of other endpoints, which demand nothing here.
    elsewhere: KnownValues,
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
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The least version of `newest` that includes `required`.
    pub const fn required_version(&self) -> u64 {
        self.required_version
    }

    /// More ids were seen than are kept: nothing stored can be shown to cover `required`.
    pub const fn overflowed(&self) -> bool {
        self.overflowed_at.is_some()
    }

    /// Whether a sequence number has grown. Until then it cannot be known whether tokens tell states apart: an origin whose token is
    /// constant is to be treated like one without.
    pub const fn moved(&self) -> bool {
        self.moved
    }

    /// The tokens of `newest`, one an id.
    pub fn newest(&self) -> impl Iterator<Item = &SyncToken> {
        self.ids.iter().map(|id| &id.newest)
    }

    /// The same, each with the time at which its id was last seen.
    pub fn newest_seen(&self) -> impl Iterator<Item = (&SyncToken, Timestamp)> {
        self.ids.iter().map(|id| (&id.newest, id.seen_at))
    }

    /// The tokens of `required`, one an id.
    pub fn required(&self) -> impl Iterator<Item = &SyncToken> {
        self.ids.iter().filter_map(|id| id.required.as_ref())
    }

    /// Merges the tokens of an upstream answer or of an authenticated change event into `newest`; says whether it changed.
    ///
    /// The highest sequence number of an id wins; on a tie the old value stays. Each value is remembered, so that a caller
    /// who presents it later is understood although callers send values without their sequence number.
    pub fn observe(&mut self, received: &[SyncToken], now: Timestamp) -> bool {
        let mut changed = self.drop_idle(received, now);
        for token in received {
            self.known.remember(token.presented(), token.sequence_number());
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
    /// tokens of an answer may be newer than the state that it shows.) A value whose id was not answered stays unknown.
    pub fn learn(&mut self, presented: &[PresentedToken], received: &[SyncToken], now: Timestamp) -> bool {
        let changed = self.observe(received, now);
        for value in presented {
            if let Some(answered) = received.iter().find(|token| token.id() == value.id()) {
                self.known.remember(value, answered.sequence_number());
            }
        }
        changed
    }

    /// What the presented tokens demand.
    pub fn requirement(&self, presented: Vec<PresentedToken>) -> PresentedTokens {
        let mut required_version = 0;
        let mut unknown = Vec::new();
        for token in presented {
            match self.known.sequence_number(&token) {
                Some(sequence_number) => {
                    required_version = required_version.max(self.including(token.id(), sequence_number));
                }
                None if self.elsewhere.sequence_number(&token).is_some() => {}
                None => unknown.push(token),
            }
        }
        if unknown.is_empty() {
            PresentedTokens::Known { required_version }
        } else {
            PresentedTokens::Unknown(unknown)
        }
    }

    /// `newest` as the one field line of a request; a caller's unknown values take the place of ours for their ids, because how
    /// an origin treats two values of one id is not documented.
    pub fn request_line(&self, in_place_of_ours: &[PresentedToken]) -> String {
        let ours = self.newest().map(SyncToken::presented);
        let kept = ours.filter(|held| in_place_of_ours.iter().all(|caller| caller.id() != held.id()));
        token::print_request(kept.chain(in_place_of_ours))
    }

    /// The one field line that every answer to a caller carries: `required` with `own` merged in, the tokens of the answer to the
    /// caller's own write. While nothing is required it is `newest`; empty while the origin has never sent a token.
    pub fn response_line(&self, own: &[SyncToken]) -> String {
        token::print_response(&self.given(own))
    }

    /// The same tokens in the form in which a caller presents them.
    pub fn response_line_as_presented(&self) -> String {
        token::print_request(self.given(&[]).iter().map(SyncToken::presented))
    }

    /// What a caller demands who presents that line: the least version of `newest` that includes it.
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

    /// The tokens that were sent with this version of `newest`, as far as they are remembered.
    pub fn written(&self, version: u64) -> Vec<SyncToken> {
        let tokens = self.ids.iter().filter_map(|id| {
            let sequence_number = id.rises.included_in(version)?;
            // The value is opaque and only names the state; a mapping reads the id and the sequence number.
            SyncToken::new(id.newest.id(), id.newest.value(), sequence_number).ok()
        });
        tokens.collect()
    }

    /// The greatest version of `newest` that these tokens include: every token that it had, they have at least as new. Without tokens every
    /// version is alike.
    pub fn version_of(&self, tokens: &[SyncToken]) -> u64 {
        let within = self.ids.iter().map(|id| {
            let token = tokens.iter().find(|token| token.id() == id.newest.id());
            id.rises.last_version_within(token.map(SyncToken::sequence_number)).unwrap_or(0)
        });
        within.fold(self.version, u64::min)
    }

    /// Forgets everything: an origin restored from a backup may count lower than what was seen.
    pub fn reset(&mut self) {
        // The version goes on, so that no older coverage can hold again.
        let version = self.version + 1;
        *self = Self { version, required_version: version, ..Self::default() };
    }

    /// Forgets the tokens, which mean nothing at another endpoint, and remembers their values as such.
    pub fn leave_endpoint(&mut self) {
        let mut elsewhere = std::mem::take(&mut self.elsewhere);
        elsewhere.take_in(std::mem::take(&mut self.known));
        self.reset();
        self.elsewhere = elsewhere;
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
            self.known.retain(|value| ids.iter().any(|id| id.newest.id() == value.id()));
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
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;
