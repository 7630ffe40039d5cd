//! The look-up: what the store has for a retrieval, and what is decided about it. It starts nothing and changes nothing.

use std::sync::Arc;

use super::Proxy;
use super::destination::Destination;
use super::request_context::RequestContext;
use crate::decide::Decision;
use crate::decide::reuse::reuse;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::CoverageVerdict;
use crate::upstream::store_view::select;

/// What was decided, and about which stored response.
pub(super) struct LookUp {
    pub(super) decision: Decision,
    /// Of the variants that the request selects, the most recent.
    pub(super) stored: Option<Arc<StoredResponse>>,
}

impl Proxy {
    pub(super) fn look_up(&self, to: &Destination, context: &RequestContext) -> LookUp {
        let variants = to.upstream.variants(&context.request.key);
        let stored = variants.as_ref().and_then(|variants| select(variants, &context.request.fields));
        let verdict = stored.map_or(CoverageVerdict::Covered, |stored| context.verdict(to, stored.covers));
        let found = stored.map(|stored| &**stored);
        let now = self.clock.now();
        let decision = reuse(&context.request, found, variants.is_some(), verdict, &context.rules, now);
        let decision = if context.proven { decision } else { decision.for_unproven_caller() };
        LookUp { decision, stored: stored.map(Arc::clone) }
    }
}
