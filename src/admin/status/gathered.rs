//! Where the numbers of [`Status`] come from: the registry of `/metrics`, and the state of each upstream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{
    BudgetStatus, ConnectionsStatus, EndpointStatus, FleetStatus, HotKeyStatus, HottestKeys, LatencyStatus,
    MirrorStatus, OriginStatus, PauseStatus, ProcessStatus, RecentStatus, RefusalStatus, RefusalsStatus,
    ReloadStatus, RequestsStatus, SnapshotFileStatus, Status, StoreStatus, TokenStatus, TokensStatus,
    UpstreamStatus,
};
use crate::clock::{Clock, Timestamp, instant};
use crate::config::{Config, UpstreamSettings, Word as _};
use crate::metrics::Metrics;
use crate::metrics::families::{self, Family};
use crate::metrics::history::{HISTORY_STEP, RequestCounts, RequestHistory};
use crate::metrics::readings::{Distribution, Readings};
use crate::mirror::give_up::GiveUpReason;
use crate::proxy::hot_keys::{HotKeys, ONE_IN};
use crate::readiness::{Readiness, ReadinessNote, UnreadyReason};
use crate::sync_token::session::SessionReport;
use crate::sync_token::token::SyncToken;
use crate::upstream::throttle::{Held, Pause};

/// So many keys are named.
const NAMED_KEYS: usize = 20;

/// How old what the system says of the process may be.
const PROCESS_INTERVAL: Duration = Duration::from_secs(10);

/// After so many steps of the history the counts of keys are halved: a minute.
const FADE_STEPS: u32 = 12;

/// What the configuration says of an upstream, as the operator reads it.
#[derive(Clone, Debug, Default)]
pub struct ConfiguredFacts {
    url: String,
    profile: String,
    credential: String,
}

impl ConfiguredFacts {
    /// Those of these settings.
    #[must_use]
    pub fn of(settings: &UpstreamSettings) -> Self {
        Self {
            url: settings.url.to_string(),
            profile: settings.profile().word(),
            credential: settings.credential.kind.word(),
        }
    }
}

/// What is true of an upstream at one moment and is no metric.
#[derive(Clone, Debug, Default)]
pub struct LiveState {
    /// Its tokens.
    pub session: SessionReport,
    /// The pauses that it asked for.
    pub pauses: Vec<(Held, Pause)>,
    /// Of its mirror, if there is one: whether it is loaded, and why it gave up.
    pub mirror: Option<(bool, Option<GiveUpReason>)>,
    /// Whether it has a quota.
    pub has_budget: bool,
    /// Whether it is in a fleet.
    pub has_fleet: bool,
}

/// An upstream with what is known of it.
pub(in crate::admin) type NamedUpstream<'a> = (&'a str, &'a ConfiguredFacts, LiveState);

/// What the document needs beside the metrics.
pub struct StatusSources {
    clock: Clock,
    started: Instant,
    history: RequestHistory,
    hot_keys: Option<Arc<HotKeys>>,
    has_snapshot: bool,
    process: Mutex<Option<(Instant, Option<ProcessStatus>)>>,
}

impl StatusSources {
    /// Those of a process that starts now. `hot_keys` are counted where the operator allows that they are named.
    pub fn new(config: &Config, metrics: &Metrics, clock: Clock, hot_keys: Option<Arc<HotKeys>>) -> Self {
        Self {
            clock,
            started: instant(),
            history: RequestHistory::new(metrics),
            hot_keys,
            has_snapshot: config.snapshot.file.is_some(),
            process: Mutex::default(),
        }
    }

    /// What time it is.
    pub(in crate::admin) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Ends a step of the history: its number, from 1.
    pub(in crate::admin) fn end_step(&self, metrics: &Metrics, number: u32) {
        self.history.end_step(metrics);
        if let Some(hot_keys) = self.hot_keys.as_ref().filter(|_| number.is_multiple_of(FADE_STEPS)) {
            hot_keys.halve();
        }
    }

    /// The document. `may_name_keys`: the request may be told them.
    pub(in crate::admin) fn status(
        &self,
        metrics: &Metrics,
        readiness: &Readiness,
        upstreams: Vec<NamedUpstream<'_>>,
        may_name_keys: impl FnOnce() -> Result<(), String>,
    ) -> Status {
        let now = self.now();
        let readings = metrics.readings();
        let words = |reasons: Vec<UnreadyReason>| reasons.into_iter().map(UnreadyReason::as_str);
        let reasons: Vec<String> = words(readiness.reasons()).map(str::to_owned).collect();
        let names: Vec<String> = upstreams.iter().map(|(name, ..)| (*name).to_owned()).collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: (instant() - self.started).as_secs_f64(),
            now_unix_seconds: now.as_unix_seconds(),
            ready: reasons.is_empty(),
            reasons,
            notes: readiness.notes().into_iter().map(|it| ReadinessNote::as_str(it).to_owned()).collect(),
            upstreams: upstreams
                .into_iter()
                .enumerate()
                .map(|(index, upstream)| {
                    UpstreamReadings { readings: &readings, upstream: upstream.0 }
                        .upstream(&upstream, self.requests(&readings, index, upstream.0))
                })
                .collect(),
            store: StoreStatus {
                keys: readings.count(&families::STORE_KEYS, None),
                weight_bytes: readings.count(&families::STORE_WEIGHT, None),
                capacity_bytes: readings.count(&families::STORE_CAPACITY, None),
                evictions: readings.count(&families::STORE_EVICTIONS, None),
            },
            reload: reload(&readings),
            snapshot: self.has_snapshot.then(|| snapshot(&readings)),
            connections: ConnectionsStatus {
                open: readings.count(&families::CONNECTIONS_OPEN, None),
                total: readings.count(&families::CONNECTIONS, None),
                refused: readings.count(&families::CONNECTIONS_REFUSED, None),
                errors: readings.by_word(&families::CONNECTION_ERRORS, None, "reason"),
            },
            refusals: RefusalsStatus {
                by_reason: readings.by_word(&families::REFUSALS, None, "reason"),
                last: last_refusals(metrics, &names),
            },
            hottest_keys: self.hottest_keys(may_name_keys),
            process: self.process(metrics),
        }
    }

    fn requests(&self, readings: &Readings, index: usize, name: &str) -> RequestsStatus {
        let by_cache_status = readings.by_word(&families::REQUESTS, Some(name), "cache_status");
        let total = by_cache_status.values().sum();
        let hits = by_cache_status.get("hit").copied().unwrap_or_default();
        let counts = RequestCounts { hits, requests: total };
        let recent = self.history.recent(index, counts);
        RequestsStatus {
            total,
            hits,
            hit_ratio: counts.hit_ratio(),
            by_cache_status,
            by_detail: readings.by_word(&families::DETAILS, Some(name), "detail"),
            stored: readings.count(&families::STORED, Some(name)),
            collapsed: readings.count(&families::COLLAPSED, Some(name)),
            refreshed_ahead: readings.count(&families::REFRESHED, Some(name)),
            body_bytes_saved: readings.count(&families::BYTES_SAVED, Some(name)),
            recent: RecentStatus {
                covers_seconds: recent.covers.as_secs_f64(),
                step_seconds: HISTORY_STEP.as_secs_f64(),
                total: recent.total.requests,
                hits: recent.total.hits,
                hit_ratio: recent.total.hit_ratio(),
                total_by_step: recent.steps.iter().map(|step| step.requests).collect(),
                hits_by_step: recent.steps.iter().map(|step| step.hits).collect(),
            },
        }
    }

    /// What the system says of the process. It is asked seldom: asking costs more than the rest of the document.
    fn process(&self, metrics: &Metrics) -> Option<ProcessStatus> {
        let mut last = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((asked, status)) if instant() - *asked < PROCESS_INTERVAL => status.clone(),
            _ => {
                let status = process(&metrics.process_readings());
                *last = Some((instant(), status.clone()));
                status
            }
        }
    }

    fn hottest_keys(&self, may_name_keys: impl FnOnce() -> Result<(), String>) -> HottestKeys {
        let not_shown = |why_not: String| HottestKeys {
            why_not: Some(why_not),
            one_in: ONE_IN,
            ..HottestKeys::default()
        };
        let Some(hot_keys) = &self.hot_keys else {
            return not_shown(
                "Set admin.show_keys = true to count hits by key and to name the keys".to_owned(),
            );
        };
        if let Err(refusal) = may_name_keys() {
            return not_shown(refusal);
        }
        let counts = hot_keys.counts();
        let counted: u64 = counts.iter().map(|(_, count)| count).sum();
        // Those of all identities and variants together.
        let mut by_target: HashMap<(String, String), u64> = HashMap::new();
        for (key, count) in counts {
            let upstream = String::from_utf8_lossy(key.upstream()).into_owned();
            *by_target.entry((upstream, key.canonical_target().to_owned())).or_default() += count;
        }
        let mut by_target: Vec<_> = by_target.into_iter().collect();
        by_target.sort_unstable_by(|(key, count), (other, others)| others.cmp(count).then(key.cmp(other)));
        by_target.truncate(NAMED_KEYS);
        let keys = by_target.into_iter().map(|((upstream, key), count)| HotKeyStatus {
            upstream,
            key,
            share: count as f64 / counted.max(1) as f64,
        });
        HottestKeys { are_shown: true, why_not: None, one_in: ONE_IN, counted, keys: keys.collect() }
    }
}

/// The readings of one upstream.
struct UpstreamReadings<'a> {
    readings: &'a Readings,
    upstream: &'a str,
}

impl UpstreamReadings<'_> {
    fn count(&self, family: &Family) -> u64 {
        self.readings.count(family, Some(self.upstream))
    }

    fn number(&self, family: &Family) -> f64 {
        self.readings.number(family, Some(self.upstream))
    }

    fn by_word(&self, family: &Family, label: &str) -> std::collections::BTreeMap<String, u64> {
        self.readings.by_word(family, Some(self.upstream), label)
    }

    fn latency(&self, family: &Family) -> LatencyStatus {
        let Distribution { count, sum, median, percentile_99 } =
            self.readings.distribution(family, self.upstream);
        LatencyStatus { count, sum_seconds: sum, p50_seconds: median, p99_seconds: percentile_99 }
    }

    fn upstream(&self, (name, facts, live): &NamedUpstream<'_>, requests: RequestsStatus) -> UpstreamStatus {
        let are_active = self.by_word(&families::ENDPOINT_ACTIVE, "endpoint");
        let endpoints: Vec<_> = self
            .by_word(&families::ENDPOINT_REQUESTS, "endpoint")
            .into_iter()
            .map(|(endpoint, requests)| EndpointStatus {
                is_active: are_active.get(&endpoint) == Some(&1),
                endpoint,
                requests,
            })
            .collect();
        let active = endpoints.iter().find(|it| it.is_active);
        UpstreamStatus {
            name: (*name).to_owned(),
            url: facts.url.clone(),
            profile: facts.profile.clone(),
            credential: facts.credential.clone(),
            active_endpoint: active.map(|it| it.endpoint.clone()).unwrap_or_default(),
            endpoints,
            failovers: self.count(&families::FAILOVERS),
            requests,
            origin: self.origin(),
            tokens: tokens(&live.session),
            throttle: live.pauses.iter().map(|(held, pause)| pause_status(*held, *pause)).collect(),
            budget: live.has_budget.then(|| self.budget()),
            mirror: live.mirror.map(|(is_loaded, gave_up)| self.mirror(is_loaded, gave_up)),
            fleet: live.has_fleet.then(|| self.fleet()),
        }
    }

    fn origin(&self) -> OriginStatus {
        let by_outcome = self.by_word(&families::ORIGIN_REQUESTS, "outcome");
        OriginStatus {
            requests: by_outcome.values().sum(),
            by_outcome,
            latency: self.latency(&families::ORIGIN_SECONDS),
            body_bytes: self.count(&families::ORIGIN_BYTES),
            clock_skew_seconds: self.number(&families::CLOCK_SKEW),
            credential_refusals: self.by_word(&families::CREDENTIAL_REFUSALS, "reason"),
        }
    }

    fn budget(&self) -> BudgetStatus {
        BudgetStatus {
            used_ratio: self.number(&families::BUDGET_USED),
            forecast_ratio: self.number(&families::BUDGET_FORECAST),
            stretch: self.number(&families::BUDGET_STRETCH),
            requests_avoided: self.count(&families::BUDGET_AVOIDED),
            reads_held: self.count(&families::BUDGET_HELD),
        }
    }

    fn mirror(&self, is_loaded: bool, gave_up: Option<GiveUpReason>) -> MirrorStatus {
        MirrorStatus {
            is_loaded,
            gave_up: gave_up.map(|reason| reason.as_str().to_owned()),
            give_ups: self.by_word(&families::MIRROR_GIVE_UPS, "reason"),
            items: self.count(&families::MIRROR_ITEMS),
            ranges: self.count(&families::MIRROR_RANGES),
            bytes: self.count(&families::MIRROR_BYTES),
            oldest_range_seconds: self.count(&families::MIRROR_OLDEST),
            load_seconds: self.number(&families::MIRROR_LOAD),
            validations: self.by_word(&families::MIRROR_VALIDATIONS, "outcome"),
            audits: self.by_word(&families::MIRROR_AUDITS, "outcome"),
        }
    }

    fn fleet(&self) -> FleetStatus {
        FleetStatus {
            is_live: self.count(&families::FLEET_LIVE) == 1,
            announcements: self.by_word(&families::FLEET_ANNOUNCEMENTS, "outcome"),
            announce_latency: self.latency(&families::FLEET_ANNOUNCE_SECONDS),
            entries: self.by_word(&families::FLEET_ENTRIES, "what"),
            records: self.by_word(&families::FLEET_RECORDS, "outcome"),
            epochs: self.count(&families::FLEET_EPOCHS),
            failures: self.by_word(&families::FLEET_FAILURES, "reason"),
        }
    }
}

fn tokens(session: &SessionReport) -> TokensStatus {
    let token = |token: &SyncToken, seen_at: Option<Timestamp>| TokenStatus {
        id: token.id().to_owned(),
        sequence_number: token.sequence_number(),
        seen_at_unix_seconds: seen_at.map(Timestamp::as_unix_seconds),
    };
    TokensStatus {
        newest: session.newest.iter().map(|(it, seen_at)| token(it, Some(*seen_at))).collect(),
        required: session.required.iter().map(|it| token(it, None)).collect(),
        required_since_unix_seconds: session.required_since.map(Timestamp::as_unix_seconds),
        tell_states_apart: session.tokens_tell_states_apart,
        open_writes: session.open_writes,
    }
}

fn pause_status(held: Held, pause: Pause) -> PauseStatus {
    PauseStatus {
        held: held.as_str().to_owned(),
        status: pause.status.as_u16(),
        remaining_seconds: pause.remaining.as_secs_f64(),
    }
}

fn reload(readings: &Readings) -> ReloadStatus {
    ReloadStatus {
        last_successful: readings.count(&families::RELOAD_SUCCESSFUL, None) == 1,
        applied_at_unix_seconds: moment(readings, &families::RELOADED_AT),
        by_outcome: readings.by_word(&families::RELOADS, None, "outcome"),
    }
}

/// A time; 0 is none.
fn moment(readings: &Readings, family: &Family) -> Option<i64> {
    i64::try_from(readings.count(family, None)).ok().filter(|at| *at > 0)
}

fn snapshot(readings: &Readings) -> SnapshotFileStatus {
    SnapshotFileStatus {
        written_at_unix_seconds: moment(readings, &families::SNAPSHOT_WRITTEN),
        bytes: readings.count(&families::SNAPSHOT_BYTES, None),
        writes: readings.by_word(&families::SNAPSHOT_WRITES, None, "outcome"),
        restored: readings.by_word(&families::SNAPSHOT_RESTORED, None, "what"),
        refusals: readings.by_word(&families::SNAPSHOT_REFUSALS, None, "reason"),
    }
}

fn last_refusals(metrics: &Metrics, names: &[String]) -> Vec<RefusalStatus> {
    let last = metrics.last_refusals().into_iter();
    last.map(|refusal| RefusalStatus {
        at_unix_seconds: refusal.at.as_unix_seconds(),
        upstream: names.get(refusal.upstream).cloned().unwrap_or_default(),
        status: refusal.status.as_u16(),
        reason: refusal.reason.to_owned(),
    })
    .collect()
}

fn process(readings: &Readings) -> Option<ProcessStatus> {
    let number = |name| readings.whole_number_of(name);
    let status = ProcessStatus {
        resident_bytes: number("process_resident_memory_bytes"),
        cpu_seconds: number("process_cpu_seconds_total"),
        open_files: number("process_open_fds"),
        open_files_limit: number("process_max_fds"),
    };
    (status.resident_bytes > 0).then_some(status)
}
