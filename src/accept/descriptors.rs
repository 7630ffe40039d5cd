//! How many file descriptors the process may have open, and how many of them callers' connections may take.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

use super::busy;
use crate::config::Config;

/// Standard streams, listeners, and files that are read again; the address look-ups and credentials of upstreams.
const BASE: usize = 32;

/// What the runtime of one worker needs: its poll, its wake-up, and a few that are on their way from one worker to another.
const EACH_WORKER: usize = 4;

/// Raises the soft limit of open files to the hard one, as a process may, and returns it: many systems start processes with a soft
/// limit of 1,024 for the sake of programs that use `select(2)`.
fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let soft = limit.current;
    limit.current = limit.maximum;
    if soft != limit.maximum && setrlimit(Resource::Nofile, limit).is_err() {
        limit.current = soft;
    }
    limit.current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// The descriptors that a process with this configuration needs beside those of callers' connections.
fn needed_beside_callers(config: &Config) -> usize {
    let upstreams =
        config.upstreams.iter().map(|upstream| upstream.exchange_limit + upstream.pool_idle_limit);
    let workers = EACH_WORKER * config.runtime.workers;
    let operator = config.admin.listen.len() * crate::admin::reserved_descriptors(config.admin.connections);
    BASE + workers + busy::MOST_AT_ONCE + operator + upstreams.sum::<usize>()
}

/// As many connections as were asked for, unless the process then had too few descriptors for all else. At least half of all
/// descriptors are for callers: the exchanges of many upstreams are rarely under way at once.
fn connections_within(limit: usize, wanted: usize, needed_beside: usize) -> usize {
    let for_callers = limit.saturating_sub(needed_beside).max(limit / 2);
    wanted.min(for_callers).max(1)
}

/// Raises the limit of open files, and returns how many connections of callers fit into it: `limits.connections` at most.
#[must_use]
pub fn connections(config: &Config) -> usize {
    let (limit, wanted) = (raise_limit(), config.limits.connections);
    let needed_beside = needed_beside_callers(config);
    let connections = connections_within(limit, wanted, needed_beside);
    if connections < wanted {
        warn!(
            wanted,
            connections,
            open_files = limit,
            kept_for_others = limit - connections,
            "limits.connections is more than the limit of open files leaves; raise that limit (ulimit -n, LimitNOFILE=)"
        );
    }
    connections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn callers_leave_descriptors_for_all_else() {
        for (limit, wanted, needed_beside, connections) in [
            (1_024, 800, 436, 588),
            (1_024, 500, 436, 500),
            (1_024, 800, 3_000, 512),
            (usize::MAX, 800, 436, 800),
            (20, 800, 436, 10),
            (1, 800, 436, 1),
            (0, 800, 436, 1),
        ] {
            assert_eq!(
                connections_within(limit, wanted, needed_beside),
                connections,
                "{limit} {needed_beside}"
            );
        }
    }

    #[test]
    fn what_others_need_follows_the_configuration() {
        let needed = |assignments: &[&str]| {
            let layers = assignments.iter().fold(Layers::new(), |layers, it| layers.assignment(it));
            needed_beside_callers(&Config::unvalidated(layers).unwrap())
        };
        let default = needed(&["upstream.url=http://origin.test"]);
        assert_eq!(default, 32 + 4 + 64 + 2 * 17 + 256 + 64);
        for (assignment, more) in
            [("admin.connections=20", 2 * 4), ("runtime.workers=3", 8), ("upstream.exchange_limit=300", 44)]
        {
            assert_eq!(
                needed(&["upstream.url=http://origin.test", assignment]),
                default + more,
                "{assignment}"
            );
        }
    }
}
