//! Asking the upstream: the pooled client, collapsing, throttling, and what one upstream is made of.

pub mod appearances;
pub mod collapse;
pub mod exchange;
pub mod hit_for_miss;
pub mod lists;
pub mod outgoing;
pub mod pass_through;
pub mod result_cell;
pub mod retrieval;
pub mod run_to_end;
pub mod shown;
pub mod slot_table;
pub mod store_view;
pub mod throttle;
pub mod unknown_tokens;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::clock::{Clock, Timestamp};
use crate::config::CachingRules;
use crate::credentials::Credential;
use crate::decide::Unreachable;
use crate::error::ProxyError;
use crate::metrics::OriginCounters;
use crate::presented_request::PresentedRequest;
use crate::profile::recognition::Recognition;
use crate::profile::{Footprint, Profile};
use crate::store::Store;
use crate::stored_response::CacheKey;
use crate::sync_token::aggregate::Presented;
use crate::sync_token::coverage::{Coverage, CoverageVerdict};
use crate::sync_token::resource_order::OrderScope;
use crate::sync_token::session::Session;
use crate::transport::client::PooledClient;
use appearances::Appearances;
use collapse::Collapsing;
use hit_for_miss::HitForMiss;
use lists::StoredLists;
use retrieval::{Failure, SharedResult};
use shown::LastShown;
use throttle::{Held, Pause, Throttle};

/// Everything that belongs to one upstream: nothing of it is shared with another.
pub struct Upstream {
    /// Its name in the configuration.
    pub name: String,
    /// The pooled client.
    pub client: PooledClient,
    /// What kind of API it is.
    pub profile: Arc<dyn Profile>,
    /// Whether the profile is the right one, if nobody chose it.
    pub recognition: Recognition,
    /// How the sidecar proves itself there.
    pub credential: Arc<dyn Credential>,
    /// What its answers showed, and the writes that went there.
    pub session: Arc<Session<Footprint>>,
    /// What was shown last of what is not stored.
    pub last_shown: LastShown,
    /// What was shown to exist.
    pub appearances: Appearances,
    /// Lists that are stored, and of which items they consist.
    pub lists: StoredLists,
    /// Fetches under way.
    pub collapsing: Arc<Collapsing<SharedResult>>,
    /// Keys whose answers cannot be stored.
    pub hit_for_miss: HitForMiss,
    /// Whether it asked to be left alone.
    pub throttle: Throttle,
    /// Where its responses are stored. Shared with other upstreams; keys begin with the upstream's name.
    pub store: Arc<dyn Store>,
    /// How long an unknown write stays open where no tokens tell, and by how much the origin's clocks may differ.
    pub settle_time: Duration,
    /// How long the answer to a write that carries no token waits for other open writes.
    pub conflict_wait: Duration,
    /// What was asked of it.
    pub metrics: OriginCounters,
    /// How the sidecar names itself in `Via`.
    pub via: HeaderValue,
    /// What time it is.
    pub clock: Clock,
}

impl Upstream {
    /// What rules 1 to 3 of coverage say about answering this request from what has this coverage.
    #[must_use]
    pub fn verdict(
        &self,
        request: &PresentedRequest,
        covers: Coverage,
        presented: &Presented,
        rules: &CachingRules,
    ) -> CoverageVerdict {
        let scope = self.order_scope(&request.key, rules);
        self.session.verdict(covers, presented, scope, |write| {
            self.profile.touches(write, request.key.canonical_target())
        })
    }

    /// What a change of this resource outdates where tokens do not tell states apart.
    #[must_use]
    pub fn order_scope(&self, key: &CacheKey, rules: &CachingRules) -> OrderScope {
        if rules.related { OrderScope::Upstream } else { OrderScope::Resource(self.last_shown.hash_of(key)) }
    }

    /// Why this upstream is not asked for a caller with these fields at the moment, if it asked to be left alone.
    #[must_use]
    pub fn throttled(&self, fields: &http::HeaderMap, now: Timestamp) -> Option<Failure> {
        let Pause { status, remaining } = self.throttle.pause(fields, Held::Reads, now)?;
        let error = ProxyError::Throttled { status, retry_after: remaining };
        Some(Failure { why: Unreachable::Throttled, error })
    }
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        let why = match &error {
            ProxyError::AnswerTimeout { .. }
            | ProxyError::BodyTimeout { .. }
            | ProxyError::ConnectTimeout { .. } => Unreachable::TimedOut,
            ProxyError::BrokenAnswer { .. } | ProxyError::NoAnswer { .. } => Unreachable::Broken,
            ProxyError::Throttled { .. } => Unreachable::Throttled,
            _ => Unreachable::Connect,
        };
        Self { why, error }
    }
}
