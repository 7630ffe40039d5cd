//! The proxy of a new configuration over the state of the one before.
//!
//! Making it changes nothing that is in force, so that it can be refused whole. What both share (limits of pools and of what is in flight,
//! mirrors) is changed by [`Proxy::take_over`], which cannot fail.

use std::sync::Arc;

use super::Proxy;
use super::assemble::{
    AssembleError, Environment, Lasting, credential, exchange_limits, mirror_limits, operators_outdates,
};
use super::destination::Destination;
use crate::clock::Clock;
use crate::config::{Config, UpstreamSettings};
use crate::metrics::UpstreamMetrics;
use crate::mirror::MirrorSetup;
use crate::respond::head_cache::HeadCache;
use crate::upstream::budget::Budget;

impl Proxy {
    /// The proxy of `config`, which goes on where this one is: the same store, sessions, connections, mirrors and metrics. `before` is the
    /// configuration of this one; what only a restart can change must be the same in both.
    ///
    /// # Errors
    /// [`AssembleError`] names what the configuration asks for and cannot have.
    pub fn reconfigured(
        &self,
        before: &Config,
        config: &Config,
        environment: &Environment<'_>,
    ) -> Result<Self, AssembleError> {
        let body_limits = super::body_limits(config);
        let upstreams = before.upstreams.iter().zip(&config.upstreams);
        let destinations = self.destinations.iter().zip(upstreams).enumerate();
        let destinations = destinations
            .map(|(index, (destination, (before, upstream)))| {
                self.reconfigured_destination(destination, (before, upstream), self.metrics.upstream(index))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            admission: self.admission.reconfigured(
                (before, config),
                body_limits,
                environment.absent_token,
            )?,
            destinations,
            by_listener: super::by_listener(config),
            store: Arc::clone(&self.store),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            body_limits,
            buffers: Arc::clone(&self.buffers),
            known_tags: Arc::clone(&self.known_tags),
            // Heads follow from the settings as well.
            heads: HeadCache::default(),
            hot_keys: self.hot_keys.clone(),
            tracer: self.tracer.clone(),
        })
    }

    fn reconfigured_destination(
        &self,
        destination: &Destination,
        (before, upstream): (&UpstreamSettings, &UpstreamSettings),
        metrics: &UpstreamMetrics,
    ) -> Result<Destination, AssembleError> {
        let settings = destination.upstream.settings();
        let (clock, origin): (Clock, _) = (self.clock.clone(), metrics.origin.clone());
        let credential = if before.credential == upstream.credential {
            Arc::clone(&settings.credential)
        } else {
            credential(upstream, origin, clock)?
        };
        let outdates = operators_outdates(upstream);
        let is_as_before = operators_outdates(before) == outdates;
        let profile = if is_as_before { None } else { settings.profile.with_operators_outdates(outdates) };
        let limits = upstream.budget.clone();
        let budget = match &settings.budget {
            _ if !limits.is_limited() => None,
            Some(budget) if *budget.settings() == limits => Some(Arc::clone(budget)),
            Some(budget) => Some(Arc::new(budget.with_settings(limits))),
            None => Some(Arc::new(Budget::new(limits, metrics.budget.clone()))),
        };
        let refreshes = destination.refreshes.clone().unwrap_or_default();
        let lasting = Lasting {
            endpoints: Arc::clone(&settings.endpoints),
            state: Arc::clone(destination.upstream.state()),
            profile: profile.unwrap_or_else(|| Arc::clone(&settings.profile)),
            budget,
            credential,
            fleet: settings.fleet.clone(),
            partitions: Arc::clone(&destination.partitions),
            refreshes: upstream.refresh_ahead.then_some(refreshes),
            refreshed: destination.refreshed.clone(),
            mirror: destination.mirror.clone(),
        };
        let mut reconfigured = lasting.with_settings(upstream, self.admission.pseudonym());
        reconfigured.use_keys(upstream.show_cache_key, self.hot_keys.clone());
        Ok(reconfigured)
    }

    /// Puts what is shared with the proxy before in force, too. To be called once this one is in its place; `config` is its configuration.
    pub fn take_over(&self, config: &Config) {
        self.admission.take_over(config);
        super::labels::count_from_zero(config, &self.metrics);
        for (index, (destination, upstream)) in self.destinations.iter().zip(&config.upstreams).enumerate() {
            let settings = destination.upstream.settings();
            let limits = exchange_limits(upstream);
            settings.endpoints.set_limits(limits);
            settings.credential.set_deadlines(limits);
            if let Some(mirror) = &destination.mirror {
                let (interval, bounds) = mirror_limits(upstream, &destination.rules);
                let (upstream, rules) = (Arc::clone(&destination.upstream), Arc::clone(&destination.rules));
                mirror.set_up(MirrorSetup { upstream, rules, interval, bounds });
            }
            if let Some(member) = &settings.fleet {
                destination.upstream.session().enable_fleet(member.id(), upstream.settle_time);
            }
            if settings.budget.is_none() {
                self.metrics.upstream(index).budget.stretch.set(1.0);
            }
        }
    }
}
