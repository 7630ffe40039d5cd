//! The request context: made once, when a request is identified, and handed from stage to stage.

use std::sync::Arc;

use http::HeaderMap;
use http::uri::PathAndQuery;

use super::destination::Destination;
use crate::body::FlowingBody;
use crate::config::CachingRules;
use crate::credentials::partition::Identity;
use crate::identify::{self, Identified};
use crate::presented_request::PresentedRequest;
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::{Coverage, CoverageVerdict};
use crate::upstream::retrieval::{Retrieval, Validates};
use crate::upstream::second_level::RecordDemand;

/// A retrieval, with what every stage needs to know of it.
#[derive(Clone)]
pub(super) struct RequestContext {
    pub(super) request: Arc<PresentedRequest>,
    pub(super) target: PathAndQuery,
    /// The rules of its route.
    pub(super) rules: Arc<CachingRules>,
    /// What its caller's sync tokens demand.
    pub(super) presented: PresentedTokens,
    /// Its caller has proved that it may see what is stored.
    pub(super) proven: bool,
}

/// A request that bypasses the store.
pub(super) struct PassThrough {
    pub(super) identified: Identified,
    pub(super) target: PathAndQuery,
    pub(super) rules: Arc<CachingRules>,
    pub(super) body: FlowingBody,
}

impl RequestContext {
    /// What the rules of coverage say about answering this request from what has this coverage.
    pub(super) fn verdict(&self, to: &Destination, covers: Coverage) -> CoverageVerdict {
        to.upstream.verdict(&self.request, covers, &self.presented, &self.rules)
    }

    /// The target as it goes upstream. What may be shared is asked for in its canonical spelling, because an origin repeats the
    /// spelling in links; where a caller's signature binds its own bytes, they are part of the key.
    fn target_to_send(&self, to: &Destination) -> PathAndQuery {
        if self.request.binds_target() || !to.upstream.profile().sends_canonical_target() {
            return self.target.clone();
        }
        self.request.key.canonical_target().parse().unwrap_or_else(|_| self.target.clone())
    }

    /// How it is fetched.
    pub(super) fn retrieval(&self, to: &Destination, validates: Validates) -> Retrieval {
        Retrieval {
            upstream: Arc::clone(&to.upstream),
            request: Arc::clone(&self.request),
            target: self.target_to_send(to),
            rules: Arc::clone(&self.rules),
            validates,
            demand: Some(RecordDemand { presented: self.presented.clone(), lifetime: None }),
        }
    }
}

impl Destination {
    /// Under which identity a request with these fields is stored.
    pub(super) fn identity(&self, fields: &HeaderMap) -> Identity {
        if self.upstream.credential().forwards_callers() {
            self.partitions.storing_identity(fields, self.rules.sharing)
        } else {
            Identity::SHARED
        }
    }

    pub(super) fn identifying<'a>(
        &'a self,
        rules: &'a CachingRules,
        identity: &'a Identity,
    ) -> identify::CachingScope<'a> {
        identify::CachingScope {
            upstream: self.upstream.name(),
            origin: &self.origin,
            partition: &identity.partition,
            private_partition: identity.is_private,
            profile: &**self.upstream.profile(),
            rules,
        }
    }
}
