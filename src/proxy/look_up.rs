//! The look-up: what the store or a mirror has for a retrieval, and what is decided about it. It starts nothing and changes nothing.

use std::sync::Arc;

use super::Proxy;
use super::destination::Destination;
use super::request_context::RequestContext;
use crate::clock::Timestamp;
use crate::decide::newer::replaces;
use crate::decide::reuse::reuse;
use crate::decide::stretch::within_stretched_lifetime;
use crate::decide::{BypassReason, Decision, ForwardReason, StaleReason};
use crate::mirror::Mirrored;
use crate::store::Variants;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::CoverageVerdict;
use crate::upstream::store_view::select;

/// What was decided, and about which response.
pub(super) struct LookUp {
    pub(super) decision: Decision,
    /// Of the variants that the request selects, the most recent; or what a mirror made.
    pub(super) stored: Option<Arc<StoredResponse>>,
    /// A mirror holds what the request is about.
    pub(super) is_mirrored: bool,
    /// The mirror has made `stored` for this request: it is not in the store.
    pub(super) is_made: bool,
}

impl LookUp {
    /// What was decided about what the store has.
    pub(super) const fn of(decision: Decision, stored: Option<Arc<StoredResponse>>) -> Self {
        Self { decision, stored, is_mirrored: false, is_made: false }
    }

    /// Stores what a mirror made for this request, so that the next one is a plain hit, and so that it may answer while the origin is
    /// away.
    pub(super) fn keep_made(&self, to: &Destination, context: &RequestContext) {
        if let Some(made) = self.stored.as_ref().filter(|_| self.is_made) {
            to.upstream.put(&context.request.key, (**made).clone());
        }
    }
}

impl Proxy {
    pub(super) fn look_up(&self, to: &Destination, context: &RequestContext) -> LookUp {
        self.look_up_among(to, context, to.upstream.variants(&context.request.key).as_ref())
    }

    /// The same for what was read from the store.
    #[inline]
    pub(super) fn look_up_among(
        &self,
        to: &Destination,
        context: &RequestContext,
        variants: Option<&Variants>,
    ) -> LookUp {
        let stored = variants.and_then(|variants| select(variants, &context.request.fields));
        let decision = self.decide(to, context, stored, variants.is_some());
        let found = LookUp::of(decision, stored.map(Arc::clone));
        let may_be_made = match decision {
            Decision::Validate(_) | Decision::Fetch(_) | Decision::Refuse => true,
            Decision::Forward(reason) => reason == ForwardReason::Bypass(BypassReason::Precondition),
            Decision::Reuse(_) => false,
        };
        match &to.mirror {
            Some(mirror) if may_be_made => match mirror.answer(&context.request, &context.rules) {
                Some(Mirrored::Response(made)) => self.newer_of(to, context, found, made),
                Some(Mirrored::Torn) => LookUp { is_mirrored: true, ..found },
                None => found,
            },
            _ => found,
        }
    }

    fn newer_of(
        &self,
        to: &Destination,
        context: &RequestContext,
        found: LookUp,
        made: Box<StoredResponse>,
    ) -> LookUp {
        if found.stored.as_ref().is_some_and(|stored| !replaces(stored.covers, made.covers)) {
            return LookUp { is_mirrored: true, ..found };
        }
        let made: Arc<StoredResponse> = made.into();
        let decision = self.decide(to, context, Some(&made), true);
        LookUp { decision, stored: Some(made), is_mirrored: true, is_made: true }
    }

    pub(super) fn decide(
        &self,
        to: &Destination,
        context: &RequestContext,
        stored: Option<&Arc<StoredResponse>>,
        is_known: bool,
    ) -> Decision {
        let verdict = stored.map_or(CoverageVerdict::Covered, |stored| context.verdict(to, stored.covers));
        let found = stored.map(|stored| &**stored);
        let now = self.clock.now();
        let decision = reuse(&context.request, found, is_known, verdict, &context.rules, now);
        let decision = within_budget(to, context, found, decision, now);
        if context.proven { decision } else { decision.for_unproven_caller() }
    }
}

/// The decision, where the budget stretches the lifetime that is over.
fn within_budget(
    to: &Destination,
    context: &RequestContext,
    stored: Option<&StoredResponse>,
    decision: Decision,
    now: Timestamp,
) -> Decision {
    match (decision, stored) {
        (Decision::Validate(ForwardReason::Stale(StaleReason::Lifetime)), Some(stored))
            if stored.policy.configured =>
        {
            let stretch = to.upstream.stretch(now);
            within_stretched_lifetime(&context.request, stored, stretch, now)
                .map_or(decision, Decision::Reuse)
        }
        _ => decision,
    }
}
