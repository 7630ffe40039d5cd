//! What an answer that shows a change does to what is required, and what rules 1 to 3 say about reuse. The module above the
//! session states them.

use std::sync::atomic::Ordering;

use super::{Received, Session, SessionSnapshot, SessionState};
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::{Coverage, CoverageVerdict, UncoveredReason};
use crate::sync_token::resource_order::OrderScope;
use crate::sync_token::write_log::{IndexLookUp, Indexed};

/// How an answer that shows a change counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revelation {
    /// `required` rises to its token.
    Raises,
    /// What it shows is known to be included in `required`: it counts, and raises nothing.
    Included,
}

/// What rules 1 and 3 demand of a stored response. The first numbers are those of [`Coverage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequiredCoverage {
    /// The least version of `newest` that covers `required`.
    pub newest_version: u64,
    /// A response must have been sent after this place in the order of sending.
    pub sent_order: u64,
    /// The position of the write that closed last.
    pub closed_position: u64,
    /// The number of the latest revelation: the response that made it is covered.
    pub latest_revelation: u64,
}

impl<F> Session<F> {
    /// Records an answer that shows a change, and returns its coverage: `snapshot.covers`, as the latest revelation if it may
    /// stand in for the token of its answer. `scope` says what it outdates where tokens do not tell states apart. To be called
    /// before any caller sees the answer.
    pub fn reveal(
        &self,
        snapshot: &SessionSnapshot,
        received: &Received,
        revelation: Revelation,
        scope: OrderScope,
    ) -> Coverage {
        let covers = snapshot.covers;
        let mut state = self.lock();
        if self.is_of_an_earlier_epoch(covers) {
            return covers;
        }
        let was_sent_after = match scope {
            OrderScope::Upstream => covers.sent_order > self.required_order.load(Ordering::SeqCst),
            OrderScope::Resource(resource) => {
                self.resource_orders.was_sent_after(resource, covers.sent_order)
            }
        };
        // Compares with `required` as it is when the answer arrives, so that every change shown in between counts as well.
        let stands_in = snapshot.sent_newest
            && covers.newest_version >= state.aggregate.required_version()
            && was_sent_after;
        let tokens_tell = !received.tokens.is_empty() && state.aggregate.moved();
        let number = state.revelations + 1;
        let shown_at = received.known_since.unwrap_or(state.sent_order);
        match (scope, revelation) {
            (OrderScope::Resource(resource), _) if !tokens_tell => {
                self.resource_orders.reveal(resource, shown_at, number);
                state.revelations = number;
                if received.known_since.is_none() {
                    state.aggregate.require(&received.tokens);
                }
                if received.tokens.is_empty() {
                    // This revelation concerns no other resource.
                    return Coverage { revelation: if stands_in { number } else { 0 }, ..covers };
                }
            }
            (_, Revelation::Included) if !self.clauses.exempted_are_revelations() => return covers,
            (_, Revelation::Included) => {}
            // Whoever asked after that had merged the token of the answer that first showed it.
            (_, Revelation::Raises) if received.known_since.is_some() => {
                self.required_order.fetch_max(shown_at, Ordering::SeqCst);
            }
            (_, Revelation::Raises) => {
                state.aggregate.require(&received.tokens);
                state.raised_at = state.raised_at.max(received.origin_time);
                if !tokens_tell {
                    self.required_order.fetch_max(shown_at, Ordering::SeqCst);
                }
            }
        }
        state.revelations = number;
        state.latest_revelation = number;
        self.publish(&state);
        Coverage { revelation: if stands_in { self.number_of_latest(&state) } else { 0 }, ..covers }
    }

    /// Rules 1 to 3 for what has this coverage: a stored response, or a fetch that a request wants to join. `scope`:
    /// for what the order of sending counts where tokens do not tell. `look_up` says how the writes that may touch the resource
    /// are found, and is asked only if there are any; `touches` says whether one does.
    pub fn verdict(
        &self,
        covers: Coverage,
        presented: &PresentedTokens,
        scope: OrderScope,
        look_up: impl FnOnce() -> IndexLookUp,
        touches: impl Fn(&F) -> bool,
    ) -> CoverageVerdict
    where
        F: Indexed,
    {
        // `open_writes` first: a write that closes in between has set the position before it left this count.
        let quiet = self.open_writes.load(Ordering::SeqCst) == 0
            && self.closed_position.load(Ordering::SeqCst) == covers.closed_position;
        if !quiet && self.clauses.covers_writes() {
            let look_up = look_up();
            let mut state = self.lock();
            let outdates = state.writes.outdates(covers, look_up, &touches);
            #[cfg(any(test, feature = "internals"))]
            let outdates = self.mistaken_outdates(&state, outdates, covers, touches);
            if let Some(reason) = outdates {
                return CoverageVerdict::Outdated(reason);
            }
        }
        match presented {
            PresentedTokens::Unknown(_) => CoverageVerdict::Unverified(UncoveredReason::UnknownSyncToken),
            _ if self.clauses.covers_required() && !self.covers_required(covers, scope) => {
                CoverageVerdict::Unverified(if covers.is_nothing() {
                    UncoveredReason::Snapshot
                } else {
                    UncoveredReason::Change
                })
            }
            PresentedTokens::Known { required_version } if covers.newest_version < *required_version => {
                CoverageVerdict::Unverified(UncoveredReason::SyncToken)
            }
            PresentedTokens::Known { .. } => CoverageVerdict::Covered,
        }
    }

    /// What a stored response must cover now, for the operator: [`Session::verdict`] decides by the same numbers.
    pub fn required(&self, scope: OrderScope) -> RequiredCoverage {
        let sent_order = match scope {
            OrderScope::Upstream => self.required_order.load(Ordering::SeqCst),
            OrderScope::Resource(resource) => {
                let of_resource = self.resource_orders.required_order(resource);
                of_resource.max(self.fleet_order.load(Ordering::SeqCst))
            }
        };
        RequiredCoverage {
            newest_version: self.required_version.load(Ordering::SeqCst),
            sent_order,
            closed_position: self.closed_position.load(Ordering::SeqCst),
            latest_revelation: self.latest_revelation.load(Ordering::SeqCst),
        }
    }

    fn covers_required(&self, covers: Coverage, scope: OrderScope) -> bool {
        // What was fixed in one epoch may be otherwise in the next.
        if covers.is_immutable() && !self.is_of_an_earlier_epoch(covers) {
            return true;
        }
        let is_latest =
            covers.revelation != 0 && covers.revelation == self.latest_revelation.load(Ordering::SeqCst);
        // An overflowed aggregate publishes numbers that no coverage can have.
        let includes = covers.newest_version >= self.required_version.load(Ordering::SeqCst);
        match scope {
            _ if !self.clauses.order_stands_in_for_tokens() => is_latest || includes,
            OrderScope::Upstream => {
                is_latest || (includes && covers.sent_order > self.required_order.load(Ordering::SeqCst))
            }
            OrderScope::Resource(resource) => {
                (is_latest || includes)
                    && covers.sent_order > self.fleet_order.load(Ordering::SeqCst)
                    && self.resource_orders.covers(resource, covers)
            }
        }
    }

    /// The number by which the latest revelation is known.
    pub(super) fn number_of_latest(&self, state: &SessionState<F>) -> u64 {
        #[cfg(any(test, feature = "internals"))]
        if let Some(mistaken) = self.mistaken_number_of_latest(state) {
            return mistaken;
        }
        state.latest_revelation
    }
}
