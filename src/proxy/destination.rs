//! Where a request goes: which upstream, and by which rules (several upstreams by listener, by `Host`, or by path prefix).

use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, Uri};
use percent_encoding::percent_decode_str;
use prometheus::IntCounter;

use super::hot_keys::{HotKeys, KeyUse};
use super::refresh::RefreshQueue;
use crate::config::{CachingRules, WriteStrategy};
use crate::credentials::partition::Partitions;
use crate::guard::permissions::Permissions;
use crate::mirror::Mirror;
use crate::upstream::Upstream;

/// One upstream and how requests find it.
pub struct Destination {
    /// Scheme and authority.
    pub origin: Uri,
    /// Which methods and paths are let through.
    pub permissions: Permissions,
    /// Which callers share stored responses, where callers' own credentials go upstream.
    pub partitions: Arc<Partitions>,
    /// Requests with one of these hosts go here.
    pub hosts: Vec<String>,
    /// Requests whose path begins so go here, with the prefix taken off; empty means none.
    pub path_prefix: String,
    /// The rules where no route says otherwise.
    pub rules: Arc<CachingRules>,
    /// What is different below certain paths, the longest prefix first.
    pub routes: Vec<RouteRules>,
    /// What becomes of writes without a condition where no route says otherwise.
    pub write_strategy: WriteStrategy,
    /// The request field whose value names a caller; `None`: a caller is a connection.
    pub caller_field: Option<HeaderName>,
    /// What is done with cache keys beside answering; `None`: nothing.
    pub key_use: Option<Box<KeyUse>>,
    /// Targets that are fetched at start and kept fresh.
    pub prefetched: Vec<PathAndQuery>,
    /// What is in use, and so validated before it becomes stale; `None`: nothing is.
    pub refreshes: Option<Arc<RefreshQueue>>,
    /// How often something was.
    pub refreshed: IntCounter,
    /// Collections of it that are held whole.
    pub mirror: Option<Arc<Mirror>>,
    /// The upstream itself.
    pub upstream: Arc<Upstream>,
}

/// The rules for the targets below one path.
pub struct RouteRules {
    /// The beginning of the path.
    pub path_prefix: String,
    /// The rules.
    pub rules: Arc<CachingRules>,
    /// What becomes of writes without a condition.
    pub write_strategy: WriteStrategy,
}

impl Destination {
    /// Says what is done with cache keys beside answering.
    pub fn use_keys(&mut self, is_in_cache_status: bool, counts: Option<Arc<HotKeys>>) {
        let is_any = is_in_cache_status || counts.is_some();
        self.key_use = is_any.then(|| Box::new(KeyUse { is_in_cache_status, counts }));
    }

    /// The rules for a path.
    pub fn rules(&self, path: &str) -> &Arc<CachingRules> {
        self.route(path).map_or(&self.rules, |route| &route.rules)
    }

    /// What becomes of a write to a path that has no condition.
    pub fn write_strategy(&self, path: &str) -> WriteStrategy {
        self.route(path).map_or(self.write_strategy, |route| route.write_strategy)
    }

    /// The shortest limit of staleness that a route gives to what lies below it; `None` if none is shorter than that of the upstream.
    pub fn strictest_stale_limit(&self) -> Option<Duration> {
        let limits = self.routes.iter().map(|route| route.rules.stale_limit);
        limits.min().filter(|limit| *limit < self.rules.stale_limit)
    }

    /// The route that a path lies below.
    pub(super) fn route(&self, path: &str) -> Option<&RouteRules> {
        self.routes.iter().find(|route| begins_with(path, &route.path_prefix))
    }
}

/// The target of a request as it was received.
pub(super) fn target_of(head: &Parts) -> PathAndQuery {
    head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// The upstream for a request, and the target as it goes there. `by_listener` is the one that the listener belongs to; the
/// first destination takes what no other claims.
pub fn find<'a>(
    destinations: &'a [Destination],
    by_listener: Option<usize>,
    head: &Parts,
) -> Option<(usize, &'a Destination, PathAndQuery)> {
    let target = target_of(head);
    if let Some(index) = by_listener {
        return destinations.get(index).map(|destination| (index, destination, target));
    }
    if destinations.len() > 1 {
        let by_prefix = destinations.iter().enumerate().find_map(|(index, destination)| {
            Some((index, destination, below(&destination.path_prefix, &target)?))
        });
        if by_prefix.is_some() {
            return by_prefix;
        }
        let host = head.uri.authority().map(|authority| authority.as_str());
        let host =
            host.or_else(|| head.headers.get(HOST)?.to_str().ok()).map(without_port).unwrap_or_default();
        let by_host = destinations
            .iter()
            .enumerate()
            .find(|(_, destination)| destination.hosts.iter().any(|name| name.eq_ignore_ascii_case(host)));
        if let Some((index, destination)) = by_host {
            return Some((index, destination, target));
        }
    }
    destinations.first().map(|destination| (0, destination, target))
}

/// By the octets that the escapes stand for: clients differ in what they escape.
fn begins_with(path: &str, prefix: &str) -> bool {
    let mut octets = percent_decode_str(path);
    percent_decode_str(prefix).all(|octet| octets.next() == Some(octet))
}

/// What remains of a target below a prefix; `None` when it does not begin with the whole prefix as path segments.
fn below(prefix: &str, target: &PathAndQuery) -> Option<PathAndQuery> {
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() {
        return None;
    }
    let rest = target.as_str().strip_prefix(prefix)?;
    match rest.as_bytes().first() {
        Some(b'/') => rest.parse().ok(),
        Some(b'?') => format!("/{rest}").parse().ok(),
        None => Some(PathAndQuery::from_static("/")),
        Some(_) => None,
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        // The last colon of an IPv6 address without a port lies inside its brackets.
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(prefix: &str, target: &'static str) -> Option<String> {
        below(prefix, &PathAndQuery::from_static(target)).map(|target| target.as_str().to_owned())
    }

    #[test]
    fn a_route_is_found_however_its_path_is_spelled() {
        for path in ["/kv/kill:a", "/kv/kill%3Aa", "/kv/kill%3aa", "/kv/%6Bill:a", "/%6bv/kill:"] {
            assert!(begins_with(path, "/kv/kill:") && begins_with(path, "/kv/kill%3A"), "{path}");
        }
        for path in ["/kv/kill", "/kv/kil%3Al", "/kv/kill%253A", "/kv/kills:"] {
            assert!(!begins_with(path, "/kv/kill:"), "{path}");
        }
    }

    #[test]
    fn a_prefix_is_taken_off_at_segment_borders_and_bytes_stay() {
        assert_eq!(rest("/a", "/a/kv/x%2Fy?label=%00").as_deref(), Some("/kv/x%2Fy?label=%00"));
        assert_eq!(rest("/a/", "/a/kv").as_deref(), Some("/kv"));
        assert_eq!(rest("/a", "/a").as_deref(), Some("/"));
        assert_eq!(rest("/a", "/a?b").as_deref(), Some("/?b"));
        assert_eq!(rest("/a", "/ab/kv"), None);
        assert_eq!(rest("", "/kv"), None);
    }

    #[test]
    fn hosts_are_compared_without_their_port() {
        assert_eq!(without_port("a.example:80"), "a.example");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
    }
}
