//! Asking the origin for a retrieval: with all who ask for the same, or alone; and what answers when it does not.

use super::destination::Destination;
use super::outcome::Outcome;
use super::{OnPath, Proxy};
use crate::decide::ForwardReason;
use crate::decide::board::{may_be_handed, may_collapse, may_join};
use crate::decide::disconnected::{DisconnectedRefusal, disconnected};
use crate::error::ProxyError;
use crate::fetch::collapse::Seat;
use crate::fetch::flight::{Failure, Landing, LeadersAnswer};
use crate::stored_response::CacheKey;
use crate::sync_token::coverage::CoverageVerdict;
use crate::sync_token::session::Snapshot;

impl Proxy {
    /// Asks upstream, together with everyone who asks for the same.
    pub(super) async fn fetch(
        &self,
        to: &Destination,
        on_path: OnPath,
        reason: ForwardReason,
    ) -> Result<Outcome, ProxyError> {
        if !on_path.proven
            || !may_collapse(&on_path.request, to.upstream.profile.fetches_head_as_get())
            || to.upstream.flights.waits_in_vain(&on_path.request.sharing_key())
        {
            return self.ask_alone(to, on_path, reason, true, None).await;
        }
        let mut boarded: Option<CacheKey> = None;
        let mut collapsed = None;
        // Twice at most: who was on the flight of another variant has seen by then which fields select, and takes his own. And a
        // failure is for its leader alone (RFC 9111 §4), but it may pass: one of those who waited asks again, not all at once. After
        // a second failure each asks for himself: to go on would serve them one after the other.
        for _ in 0..2 {
            if let Some(failure) = to.upstream.throttled(&on_path.request.fields, self.clock.now()) {
                return self.without_origin(to, on_path, failure, None);
            }
            let flight_key = to.upstream.flight_key(&on_path.request);
            if boarded.as_ref() == Some(&flight_key) {
                break;
            }
            match self.board(to, &on_path, &flight_key) {
                (Seat::Lead(leader), snapshot) => {
                    let (answer, answered) = tokio::sync::oneshot::channel();
                    // Held while this caller waits, so that the flight knows that somebody does.
                    let _seat = leader.follow();
                    tokio::spawn(to.plan(&on_path, true).fly(leader, snapshot, answer));
                    return match answered.await {
                        Ok(answer) => self.led(to, on_path, answer, reason, collapsed),
                        Err(_) => {
                            Err(ProxyError::Internal { cause: "a flight ended without landing".into() })
                        }
                    };
                }
                (Seat::Follow(follower), _) => {
                    let departs_later = follower.departs_later;
                    match follower.landed().await {
                        Some(Landing::Shared(shared))
                            if may_be_handed(&on_path.request, &shared.response, departs_later) =>
                        {
                            return Ok(Outcome::shared(on_path.request, shared, reason, Some(true)));
                        }
                        Some(Landing::Failed(failure)) => {
                            return self.without_origin(to, on_path, failure, Some(reason));
                        }
                        Some(Landing::Shared(_)) => boarded = Some(flight_key),
                        Some(Landing::NotShared { may_pass: true }) => {}
                        Some(Landing::NotShared { may_pass: false }) | None => break,
                    }
                    collapsed = Some(false);
                }
            }
        }
        self.ask_alone(to, on_path, reason, true, Some(false)).await
    }

    fn board(
        &self,
        to: &Destination,
        on_path: &OnPath,
        flight_key: &CacheKey,
    ) -> (Seat<Landing>, Option<Snapshot>) {
        let joins_anything = !to.upstream.session.clauses().joiner_checks_snapshot;
        let mut snapshot = None;
        let seat = to.upstream.flights.board(
            flight_key,
            |covers| {
                joins_anything || may_join(&on_path.request, on_path.verdict(to, covers), &on_path.rules)
            },
            || {
                let taken = to.upstream.session.snapshot(&[]);
                let covers = taken.covers;
                snapshot = Some(taken);
                covers
            },
        );
        (seat, snapshot)
    }

    /// Asks upstream for this request alone.
    pub(super) async fn ask_alone(
        &self,
        to: &Destination,
        on_path: OnPath,
        reason: ForwardReason,
        validate: bool,
        collapsed: Option<bool>,
    ) -> Result<Outcome, ProxyError> {
        if let Some(failure) = to.upstream.throttled(&on_path.request.fields, self.clock.now()) {
            return self.without_origin(to, on_path, failure, None);
        }
        let snapshot = to.upstream.session.snapshot(&[]);
        let answer = to.plan(&on_path, validate).ask(snapshot, std::future::pending()).await;
        self.led(to, on_path, answer, reason, collapsed)
    }

    /// What the one who asked upstream gets.
    fn led(
        &self,
        to: &Destination,
        on_path: OnPath,
        answer: LeadersAnswer,
        reason: ForwardReason,
        collapsed: Option<bool>,
    ) -> Result<Outcome, ProxyError> {
        let flights = &to.upstream.flights;
        match &answer {
            LeadersAnswer::Stored { .. } => flights.remember(&on_path.request.sharing_key(), false),
            LeadersAnswer::Alone(alone) if alone.not_stored.is_lasting() && !alone.may_pass() => {
                flights.remember(&on_path.request.sharing_key(), true);
            }
            _ => {}
        }
        match answer {
            LeadersAnswer::Landed(Landing::Shared(shared)) => {
                Ok(Outcome::shared(on_path.request, shared, reason, collapsed))
            }
            LeadersAnswer::Stored { shared, withheld } => {
                Ok(Outcome::shared(on_path.request, shared, reason, collapsed).with_own_fields(withheld))
            }
            LeadersAnswer::Landed(Landing::Failed(failure)) => {
                self.without_origin(to, on_path, failure, Some(reason))
            }
            LeadersAnswer::Landed(Landing::NotShared { .. }) => {
                Err(ProxyError::Internal { cause: "a flight landed without an answer".into() })
            }
            LeadersAnswer::Only { response, status, not_stored } => {
                Ok(Outcome::only(on_path.request, response, status, reason, not_stored))
            }
            LeadersAnswer::Alone(alone) => Ok(Outcome::alone(&on_path.request, alone, reason, collapsed)),
        }
    }

    /// What may answer although the origin does not (design, section 3, `when_disconnected`).
    pub(super) fn without_origin(
        &self,
        to: &Destination,
        on_path: OnPath,
        failure: Failure,
        reason: Option<ForwardReason>,
    ) -> Result<Outcome, ProxyError> {
        let stored = to.upstream.stored(&on_path.request).filter(|_| on_path.proven);
        let verdict =
            stored.as_ref().map_or(CoverageVerdict::Covered, |stored| on_path.verdict(to, stored.covers));
        let now = self.clock.now();
        let error = match disconnected(
            &on_path.request,
            stored.as_deref(),
            verdict,
            failure.why,
            &on_path.rules,
            now,
        ) {
            Ok(reuse) => match stored {
                Some(stored) => return Ok(Outcome::stale(on_path.request, stored, reuse, reason)),
                None => failure.error,
            },
            Err(DisconnectedRefusal::NothingStored | DisconnectedRefusal::Method) => failure.error,
            Err(refusal) => {
                ProxyError::Disconnected { reason: refusal.as_str(), cause: Box::new(failure.error) }
            }
        };
        match reason {
            Some(reason) => Ok(Outcome::failed(error, reason)),
            None => Err(error),
        }
    }

    pub(super) fn validate_in_background(&self, to: &Destination, on_path: &OnPath) {
        if to.upstream.throttled(&on_path.request.fields, self.clock.now()).is_some() {
            return;
        }
        let mut snapshot = None;
        let seat = to.upstream.flights.board(
            &to.upstream.flight_key(&on_path.request),
            |_| true,
            || {
                let taken = to.upstream.session.snapshot(&[]);
                let covers = taken.covers;
                snapshot = Some(taken);
                covers
            },
        );
        if let Seat::Lead(leader) = seat {
            let plan = to.plan(on_path, true);
            tokio::spawn(async move {
                let (answer, _answered) = tokio::sync::oneshot::channel();
                // Nobody waits for it, and still it is to be read to its end.
                let _seat = leader.follow();
                plan.fly(leader, snapshot, answer).await;
            });
        }
    }
}
