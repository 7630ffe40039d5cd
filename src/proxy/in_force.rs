//! What the path reads of the configuration, as text: for the tests that hold a reload to a start with the same configuration.

use super::Proxy;
use super::destination::{Destination, RouteRules};

impl Proxy {
    /// One line for each thing that the path reads.
    pub(crate) fn in_force(&self) -> String {
        let mut lines = vec![
            format!("by_listener {:?}", self.by_listener),
            format!("body_limits {:?}", self.body_limits),
            format!("buffers {:?}", self.buffers),
            self.admission.in_force(),
        ];
        lines.extend(self.destinations.iter().map(Destination::in_force));
        lines.join("\n")
    }
}

impl Destination {
    fn in_force(&self) -> String {
        // Nothing of a destination may be left out unnoticed.
        let Self {
            origin,
            permissions,
            partitions: _of_the_process,
            hosts,
            path_prefix,
            rules,
            routes,
            write_strategy,
            caller_field,
            key_use,
            prefetched,
            refreshes,
            refreshed: _counter,
            mirror,
            upstream,
        } = self;
        let route = |RouteRules { path_prefix, rules, write_strategy }: &RouteRules| {
            format!("{path_prefix} {rules:?} {write_strategy:?}")
        };
        let routes: Vec<_> = routes.iter().map(route).collect();
        let key_use = key_use.as_ref().map(|it| (it.is_in_cache_status, it.counts.is_some()));
        let refreshes = refreshes.is_some();
        let crate::upstream::settings::ResolvedSettings {
            name,
            endpoints,
            replica_lag,
            profile,
            credential,
            settle_time,
            conflict_wait,
            retry_after_limit,
            budget,
            fleet,
            via: _of_the_process,
        } = upstream.settings();
        let limits = endpoints.first().client.limits();
        let budget = budget.as_ref().map(|budget| budget.settings().clone());
        let secret = credential.derived_key(b"test").map(|key| key.to_vec());
        let mirror = mirror.as_ref().map(|mirror| {
            let setup = mirror.setup();
            let is_of_this = std::sync::Arc::ptr_eq(&setup.upstream, upstream);
            format!("{:?} {:?} {:?} {is_of_this}", setup.interval, setup.bounds, setup.rules)
        });
        let fleet = fleet.is_some();
        format!(
            "{origin} {permissions:?} {hosts:?} {path_prefix:?} {rules:?}\n{routes:?}\n{write_strategy:?} {caller_field:?} {key_use:?} \
             {prefetched:?} {refreshes} {mirror:?}\n{name} {limits:?} {replica_lag:?} {profile:?} {credential:?} {secret:?}\n{settle_time:?} \
             {conflict_wait:?} {retry_after_limit:?} {budget:?} {fleet}"
        )
    }
}
