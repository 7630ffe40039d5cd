//! One upstream: what the configuration says of it ([`ResolvedSettings`]), what was learned of it ([`UpstreamState`]), and how it is asked.
//!
//! The two are apart so that the settings can be replaced while the sidecar runs: a second [`Upstream`] over the same state goes
//! on where the first was. Nothing in the state depends on a setting.

pub mod appearances;
mod apply_change;
pub mod budget;
pub mod collapse;
pub mod endpoints;
pub mod exchange;
pub mod fleet;
pub mod hit_for_miss;
pub mod last_failure;
pub mod lists;
#[cfg(any(test, feature = "internals"))]
mod mistakes;
pub mod outgoing;
pub mod pass_through;
mod restored;
pub mod result;
pub mod result_cell;
pub mod retrieval;
pub mod run_to_end;
pub mod second_level;
pub mod settings;
pub mod shown;
pub mod shown_changes;
pub mod slot_table;
pub mod state;
pub mod store_view;
pub mod throttle;
mod told;
pub mod unknown_tokens;

use std::cell::LazyCell;
use std::sync::Arc;

use http::uri::Authority;

use crate::clock::Timestamp;
use crate::config::CachingRules;
use crate::credentials::Credential;
use crate::decide::storable::NotStored;
use crate::presented_request::PresentedRequest;
use crate::profile::{Footprint, Profile};
use crate::stored_response::CacheKey;
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::{Coverage, CoverageVerdict};
use crate::sync_token::resource_order::OrderScope;
use crate::sync_token::session::Session;
use crate::sync_token::write_log::IndexLookUp;
use last_failure::OriginFailure;
use settings::ResolvedSettings;
use shown_changes::ShownChange;
use state::UpstreamState;

/// One upstream. What is stored for it begins with its name, and nothing else of it is shared with another.
pub struct Upstream {
    settings: ResolvedSettings,
    state: Arc<UpstreamState>,
}

impl Upstream {
    /// The upstream of these settings, which goes on with this state.
    #[must_use]
    pub const fn new(settings: ResolvedSettings, state: Arc<UpstreamState>) -> Self {
        Self { settings, state }
    }

    /// What the configuration says of it.
    #[must_use]
    pub const fn settings(&self) -> &ResolvedSettings {
        &self.settings
    }

    /// What was learned of it.
    #[must_use]
    pub const fn state(&self) -> &Arc<UpstreamState> {
        &self.state
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The endpoint that is asked now: its position in the order of preference, and its authority.
    #[must_use]
    pub fn active_endpoint(&self) -> (usize, Authority) {
        let (position, endpoint) = self.settings.endpoints.active();
        (position, endpoint.client.authority().clone())
    }

    /// How many open writes may touch the resource with this key.
    #[must_use]
    pub fn open_writes(&self, key: &CacheKey) -> usize {
        let target = key.canonical_target();
        self.state.session.open_writes(|write| self.settings.profile.touches(write, target))
    }

    /// The last answer that showed a change which bears upon what has this scope, as far as it is remembered.
    #[must_use]
    pub fn last_change(&self, scope: OrderScope) -> Option<ShownChange> {
        self.state.shown_changes.last(scope)
    }

    /// Its authority, as it stands in `Host`.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        self.settings.client().authority()
    }

    /// What kind of API it is.
    #[must_use]
    pub const fn profile(&self) -> &Arc<dyn Profile> {
        &self.settings.profile
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    /// How the sidecar proves itself there.
    #[must_use]
    pub fn credential(&self) -> &dyn Credential {
        &*self.settings.credential
    }

    /// What its answers showed, and the writes that went there.
    #[must_use]
    pub fn session(&self) -> &Arc<Session<Footprint>> {
        &self.state.session
    }

    /// Whether requests for the key of this one go upstream each by itself, because the last answer could not be stored: and why not.
    #[must_use]
    pub fn hit_for_miss(&self, request: &PresentedRequest) -> Option<NotStored> {
        self.state.hit_for_miss.reason(&request.sharing_key())
    }

    /// The last time that the origin gave no usable answer.
    #[must_use]
    pub fn last_failure(&self) -> Option<OriginFailure> {
        self.state.last_failure.get()
    }

    /// What rules 1 to 3 of coverage say about answering this request from what has this coverage.
    #[must_use]
    pub fn verdict(
        &self,
        request: &PresentedRequest,
        covers: Coverage,
        presented: &PresentedTokens,
        rules: &CachingRules,
    ) -> CoverageVerdict {
        self.verdict_of_key(&request.key, covers, presented, rules)
    }

    /// The same by the key alone.
    #[must_use]
    pub fn verdict_of_key(
        &self,
        key: &CacheKey,
        covers: Coverage,
        presented: &PresentedTokens,
        rules: &CachingRules,
    ) -> CoverageVerdict {
        let profile = &*self.settings.profile;
        // Needed only where writes are open, or have closed since.
        let target = LazyCell::new(|| key.canonical_target());
        let look_up = || match profile.index_key(&target) {
            Some(index_key) => IndexLookUp::Key(index_key),
            None => IndexLookUp::Any(self.state.last_shown.hash_of(key)),
        };
        let touches = |write: &Footprint| profile.touches(write, &target);
        self.state.session.verdict(covers, presented, self.order_scope(key, rules), look_up, touches)
    }

    /// What a change of this resource outdates where tokens do not tell states apart.
    #[must_use]
    pub fn order_scope(&self, key: &CacheKey, rules: &CachingRules) -> OrderScope {
        if rules.related {
            OrderScope::Upstream
        } else {
            OrderScope::Resource(self.state.last_shown.hash_of(key))
        }
    }
}

#[cfg(test)]
mod tests;
