//! Every metric: its name, its labels and one line of meaning, in one table ([`Family`]).
//!
//! Labels are bounded: their values are words of the code (those of `Cache-Status`, RFC 9211) or names from the
//! configuration, never text that a caller or an origin sent. A counter for every request is resolved at start. Only
//! rare ones look up their label.

mod budget;
mod endpoints;
pub mod families;
mod fleet;
pub mod history;
pub mod last_refusals;
mod mirror;
pub mod readings;
mod reload;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::error::{ProxyError, RefusalReason};
pub use budget::BudgetMetrics;
pub use endpoints::EndpointMetrics;
#[cfg(any(test, feature = "internals"))]
pub use families::FAMILIES;
pub use families::Family;
use families::{
    BUILD_INFO, BYTES_SAVED, CLOCK_SKEW, COLLAPSED, CONNECTION_ERRORS, CONNECTIONS, CONNECTIONS_OPEN,
    CONNECTIONS_REFUSED, CREDENTIAL_REFUSALS, DETAILS, ORIGIN_BYTES, ORIGIN_REQUESTS, ORIGIN_SECONDS, READY,
    REFRESHED, REFUSALS, REQUESTS, STORE_CAPACITY, STORE_EVICTIONS, STORE_KEYS, STORE_WEIGHT, STORED,
};
pub use fleet::FleetMetrics;
use last_refusals::{LastRefusal, LastRefusals};
pub use mirror::MirrorMetrics;
use readings::Readings;
pub use reload::ReloadMetrics;
pub use snapshot::SnapshotMetrics;

/// The words of `Cache-Status; fwd=` (RFC 9211 §2.2).
pub const FORWARD_WORDS: [&str; 7] =
    ["bypass", "method", "uri-miss", "vary-miss", "request", "stale", "partial"];

/// The outcome of a request to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginOutcome {
    /// An answer with this status.
    Answered(StatusCode),
    /// No connection.
    Connect,
    /// No answer in time.
    TimedOut,
    /// The connection failed, or the answer is not HTTP.
    Broken,
    /// It was not asked: as many exchanges as allowed were under way.
    Overloaded,
}

const ORIGIN_OUTCOMES: [&str; 11] =
    ["1xx", "2xx", "3xx", "304", "4xx", "429", "5xx", "connect", "timed-out", "broken", "overloaded"];

impl OriginOutcome {
    const fn index(self) -> usize {
        match self {
            Self::Answered(status) => match status.as_u16() {
                304 => 3,
                429 => 5,
                100..200 => 0,
                200..300 => 1,
                300..400 => 2,
                400..500 => 4,
                _ => 6,
            },
            Self::Connect => 7,
            Self::TimedOut => 8,
            Self::Broken => 9,
            Self::Overloaded => 10,
        }
    }
}

/// How requests were answered, by the words of `Cache-Status`.
#[derive(Clone, Debug)]
pub struct RequestCounters {
    /// Requests answered from the store without a request upstream.
    pub hit: IntCounter,
    /// Requests answered by the exchange of another request.
    pub collapsed: IntCounter,
    /// Responses that were stored.
    pub stored: IntCounter,
    /// Responses in use that were validated before they became stale.
    pub refreshed: IntCounter,
    /// Body bytes that did not have to come from the origin.
    pub body_bytes_saved: IntCounter,
    forwarded: [IntCounter; FORWARD_WORDS.len()],
    details: IntCounterVec,
    upstream: Box<str>,
}

impl RequestCounters {
    /// Counts a request that went upstream, by the word of `fwd=`. A word that RFC 9211 does not define counts as
    /// `bypass`.
    pub fn forwarded(&self, fwd: &str) {
        let index = FORWARD_WORDS.iter().position(|word| *word == fwd).unwrap_or(0);
        self.forwarded[index].inc();
    }

    /// Counts a request whose `Cache-Status` carries a detail, by that word. It looks up its label, so plain hits do
    /// not call it.
    pub fn detail(&self, word: &'static str) {
        self.details.with_label_values(&[&*self.upstream, word]).inc();
    }

    /// Puts details at zero.
    pub fn count_from_zero(&self, details: &[&'static str]) {
        at_zero(&self.details, &self.upstream, details);
    }
}

/// Counters of the requests to an origin.
#[derive(Clone, Debug)]
pub struct OriginCounters {
    /// Body bytes received.
    pub body_bytes: IntCounter,
    /// How far this machine's clock is ahead of the origin's.
    pub clock_skew_seconds: IntGauge,
    credential_refusals: IntCounterVec,
    upstream: Box<str>,
    latency: Histogram,
    outcomes: [IntCounter; ORIGIN_OUTCOMES.len()],
}

impl OriginCounters {
    /// Counts a request to the origin and how long its answer's header section (or its failure) took.
    pub fn asked(&self, outcome: OriginOutcome, took: Duration) {
        self.outcomes[outcome.index()].inc();
        if matches!(outcome, OriginOutcome::Answered(_)) {
            self.latency.observe(took.as_secs_f64());
        }
    }

    /// Counts an answer that refuses the sidecar's own credential.
    pub fn credential_refused(&self, reason: &'static str) {
        self.credential_refusals.with_label_values(&[&*self.upstream, reason]).inc();
    }

    /// Puts these reasons at zero.
    pub fn count_from_zero(&self, reasons: &[&'static str]) {
        at_zero(&self.credential_refusals, &self.upstream, reasons);
    }
}

/// The counters of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    /// How its requests were answered.
    pub requests: RequestCounters,
    /// The requests to its origin.
    pub origin: OriginCounters,
    /// Its mirror.
    pub mirror: MirrorMetrics,
    /// Its budget.
    pub budget: BudgetMetrics,
    /// Its endpoints.
    pub endpoints: EndpointMetrics,
    /// Its fleet.
    pub fleet: FleetMetrics,
}

/// The counters of callers' connections.
#[derive(Clone, Debug)]
pub struct ConnectionCounters {
    /// Open now.
    pub open: IntGauge,
    /// Accepted so far.
    pub total: IntCounter,
    /// Answered 503 at the limit.
    pub refused: IntCounter,
    errors: IntCounterVec,
}

impl ConnectionCounters {
    /// Counts a connection that ended with an error.
    pub fn error(&self, reason: &'static str) {
        self.errors.with_label_values(&[reason]).inc();
    }

    /// Puts these reasons at zero.
    pub fn count_from_zero(&self, reasons: &[&'static str]) {
        for reason in reasons {
            self.errors.with_label_values(&[reason]);
        }
    }
}

/// Gauges of the store, updated when the metrics are read.
#[derive(Clone, Debug)]
struct StoreGauges {
    keys: IntGauge,
    weight_bytes: IntGauge,
    capacity_bytes: IntGauge,
    evictions: IntCounter,
}

#[derive(Debug)]
struct Families {
    registry: Registry,
    /// What the system says of the process. Apart, because it costs more than all others together.
    process: Registry,
    upstreams: Box<[UpstreamMetrics]>,
    connections: ConnectionCounters,
    refusals: IntCounterVec,
    last_refusals: LastRefusals,
    store: StoreGauges,
    ready: IntGauge,
    snapshot: SnapshotMetrics,
    reload: ReloadMetrics,
}

/// Every metric of one process. Cheap to clone: all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    families: Arc<Families>,
}

/// Makes the series of an upstream with these words, which stand at zero until one is counted.
fn at_zero(counters: &IntCounterVec, upstream: &str, words: &[&'static str]) {
    for word in words {
        counters.with_label_values(&[upstream, word]);
    }
}

/// Registers families. The tests below check that names and labels are well-formed and registered once.
struct Registrar(Registry);

impl Registrar {
    #[expect(
        clippy::expect_used,
        reason = "fails only for a name that stands twice in the table; a test registers all"
    )]
    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("names and labels of the table are well-formed");
        self.0.register(Box::new(collector.clone())).expect("each family stands in the table once");
        collector
    }

    fn counters(&self, family: &Family) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(family.name, family.meaning), family.labels))
    }

    fn counter(&self, family: &Family) -> IntCounter {
        self.register(IntCounter::new(family.name, family.meaning))
    }

    fn gauges(&self, family: &Family) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(family.name, family.meaning), family.labels))
    }

    fn gauge(&self, family: &Family) -> IntGauge {
        self.register(IntGauge::new(family.name, family.meaning))
    }
}

/// Bounds in seconds, from the latency of a local emulator to the longest that a caller waits for.
const LATENCY_BOUNDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Metrics {
    /// All metrics at zero, for upstreams with these names, in the order of `Config::upstreams`.
    pub fn new<'a>(upstreams: impl IntoIterator<Item = &'a str>) -> Self {
        let registrar = Registrar(Registry::new());
        let (requests, details) = (registrar.counters(&REQUESTS), registrar.counters(&DETAILS));
        let (stored, collapsed) = (registrar.counters(&STORED), registrar.counters(&COLLAPSED));
        let refreshed = registrar.counters(&REFRESHED);
        let (outcomes, bytes) = (registrar.counters(&ORIGIN_REQUESTS), registrar.counters(&ORIGIN_BYTES));
        let saved = registrar.counters(&BYTES_SAVED);
        let refused = registrar.counters(&CREDENTIAL_REFUSALS);
        let skew = registrar.gauges(&CLOCK_SKEW);
        let mirrors = mirror::MirrorFamilies::new(&registrar);
        let budgets = budget::BudgetFamilies::new(&registrar);
        let endpoints = endpoints::EndpointFamilies::new(&registrar);
        let fleets = fleet::FleetFamilies::new(&registrar);
        let latency =
            HistogramOpts::new(ORIGIN_SECONDS.name, ORIGIN_SECONDS.meaning).buckets(LATENCY_BOUNDS.to_vec());
        let latency = registrar.register(HistogramVec::new(latency, ORIGIN_SECONDS.labels));
        let upstreams = upstreams
            .into_iter()
            .map(|name| UpstreamMetrics {
                requests: RequestCounters {
                    hit: requests.with_label_values(&[name, "hit"]),
                    collapsed: collapsed.with_label_values(&[name]),
                    stored: stored.with_label_values(&[name]),
                    refreshed: refreshed.with_label_values(&[name]),
                    body_bytes_saved: saved.with_label_values(&[name]),
                    forwarded: FORWARD_WORDS.map(|word| requests.with_label_values(&[name, word])),
                    details: details.clone(),
                    upstream: name.into(),
                },
                origin: OriginCounters {
                    body_bytes: bytes.with_label_values(&[name]),
                    clock_skew_seconds: skew.with_label_values(&[name]),
                    credential_refusals: refused.clone(),
                    upstream: name.into(),
                    latency: latency.with_label_values(&[name]),
                    outcomes: ORIGIN_OUTCOMES.map(|word| outcomes.with_label_values(&[name, word])),
                },
                mirror: mirrors.of(name),
                budget: budgets.of(name),
                endpoints: endpoints.of(name),
                fleet: fleets.of(name),
            })
            .collect();
        let refusals = registrar.counters(&REFUSALS);
        for reason in RefusalReason::ALL.iter().map(|reason| reason.as_str()).chain(ProxyError::REASONS) {
            refusals.with_label_values(&[reason]);
        }
        let build = registrar.gauges(&BUILD_INFO);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let families = Families {
            upstreams,
            connections: ConnectionCounters {
                open: registrar.gauge(&CONNECTIONS_OPEN),
                total: registrar.counter(&CONNECTIONS),
                refused: registrar.counter(&CONNECTIONS_REFUSED),
                errors: registrar.counters(&CONNECTION_ERRORS),
            },
            refusals,
            last_refusals: LastRefusals::default(),
            store: StoreGauges {
                keys: registrar.gauge(&STORE_KEYS),
                weight_bytes: registrar.gauge(&STORE_WEIGHT),
                capacity_bytes: registrar.gauge(&STORE_CAPACITY),
                evictions: registrar.counter(&STORE_EVICTIONS),
            },
            ready: registrar.gauge(&READY),
            snapshot: SnapshotMetrics::new(&registrar),
            reload: ReloadMetrics::new(&registrar),
            registry: registrar.0,
            process: Registry::new(),
        };
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            // Without `/proc` there are no process metrics. All others remain.
            if let Err(error) = families.process.register(Box::new(process)) {
                tracing::warn!(%error, "no metrics of the process");
            }
        }
        Self { families: Arc::new(families) }
    }

    /// The counters of one upstream, by its index in `Config::upstreams`.
    ///
    /// # Panics
    /// If there is no such upstream: the indices are fixed at start.
    pub fn upstream(&self, index: usize) -> &UpstreamMetrics {
        &self.families.upstreams[index]
    }

    /// The counters of reloads.
    pub fn reload(&self) -> &ReloadMetrics {
        &self.families.reload
    }

    /// The counters of the snapshot.
    pub fn snapshot(&self) -> &SnapshotMetrics {
        &self.families.snapshot
    }

    /// The counters of callers' connections.
    pub fn connections(&self) -> &ConnectionCounters {
        &self.families.connections
    }

    /// Counts a request that the sidecar answered with an error of its own, by the word of `ProxyError::reason`.
    pub fn refused(&self, refusal: LastRefusal) {
        self.families.refusals.with_label_values(&[refusal.reason]).inc();
        self.families.last_refusals.note(refusal);
    }

    /// The last of them, the latest first.
    pub fn last_refusals(&self) -> Vec<LastRefusal> {
        self.families.last_refusals.all()
    }

    /// Sets the gauges of the store.
    pub fn observe_store(&self, keys: usize, weight_bytes: u64, capacity_bytes: u64, evictions: u64) {
        let store = &self.families.store;
        store.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
        store.weight_bytes.set(i64::try_from(weight_bytes).unwrap_or(i64::MAX));
        store.capacity_bytes.set(i64::try_from(capacity_bytes).unwrap_or(i64::MAX));
        store.evictions.inc_by(evictions.saturating_sub(store.evictions.get()));
    }

    /// Sets the gauge of `/readyz`.
    pub fn observe_ready(&self, ready: bool) {
        self.families.ready.set(i64::from(ready));
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// If a family cannot be encoded, which is a fault of this program.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        let encoder = TextEncoder::new();
        encoder.encode(&self.families.process.gather(), &mut text)?;
        encoder.encode(&self.families.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// The same as numbers, without those of the process.
    pub fn readings(&self) -> Readings {
        Readings::new(self.families.registry.gather())
    }

    /// What the system says of the process, as numbers.
    pub fn process_readings(&self) -> Readings {
        Readings::new(self.families.process.gather())
    }

    /// The media type of [`Metrics::text`].
    pub const MEDIA_TYPE: &'static str = prometheus::TEXT_FORMAT;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus::proto::MetricType;

    use super::*;

    fn counted() -> Metrics {
        let metrics = Metrics::new(["main", "other"]);
        metrics.upstream(0).requests.hit.inc();
        metrics.upstream(1).requests.forwarded("stale");
        metrics.upstream(1).requests.detail("own-write");
        metrics.upstream(0).origin.credential_refused("clock");
        metrics.upstream(0).mirror.gave_up("mirror-bound");
        metrics.connections().error("request-header");
        metrics.refused(LastRefusal {
            at: crate::clock::Timestamp::default(),
            upstream: 0,
            status: StatusCode::FORBIDDEN,
            reason: "host",
        });
        metrics.snapshot().refused("damaged");
        metrics.upstream(0).endpoints.of("contoso.azconfig.io").0.inc();
        let fleet = &metrics.upstream(0).fleet;
        fleet.failed("away");
        fleet.heard("write");
        fleet.record("taken");
        metrics.observe_store(3, 4_096, 65_536, 7);
        metrics
    }

    #[test]
    fn the_table_and_the_registry_agree() {
        let gathered = counted().families.registry.gather();
        let own: Vec<_> = gathered.iter().filter(|family| family.name().starts_with("tagalong_")).collect();
        assert_eq!(own.len(), FAMILIES.len());
        for family in FAMILIES {
            let found = own.iter().find(|gathered| gathered.name() == family.name).expect(family.name);
            assert_eq!(found.help(), family.meaning);
            let labels: BTreeSet<&str> =
                found.get_metric()[0].get_label().iter().map(|label| label.name()).collect();
            assert_eq!(labels, family.labels.iter().copied().collect(), "{}", family.name);
            assert_eq!(
                found.get_field_type() == MetricType::COUNTER,
                family.name.ends_with("_total"),
                "{}",
                family.name
            );
            assert!(family.meaning.ends_with('.'), "{}", family.name);
        }
    }

    #[test]
    fn what_was_counted_is_in_the_text() {
        let text = String::from_utf8(counted().text().unwrap()).unwrap();
        for line in [
            r#"tagalong_requests_total{cache_status="hit",upstream="main"} 1"#,
            r#"tagalong_requests_total{cache_status="stale",upstream="other"} 1"#,
            r#"tagalong_requests_total{cache_status="uri-miss",upstream="main"} 0"#,
            r#"tagalong_request_details_total{detail="own-write",upstream="other"} 1"#,
            r#"tagalong_refusals_total{reason="host"} 1"#,
            r#"tagalong_connection_errors_total{reason="request-header"} 1"#,
            "tagalong_store_evictions_total 7",
            "tagalong_store_weight_bytes 4096",
            concat!(r#"tagalong_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn evictions_are_taken_over_not_added_up() {
        let metrics = counted();
        metrics.observe_store(3, 1, 1, 9);
        metrics.observe_store(3, 1, 1, 9);
        assert_eq!(metrics.families.store.evictions.get(), 9);
    }

    #[test]
    fn every_outcome_has_its_word() {
        let metrics = Metrics::new(["main"]);
        let origin = &metrics.upstream(0).origin;
        for (outcome, word) in [
            (OriginOutcome::Answered(StatusCode::OK), "2xx"),
            (OriginOutcome::Answered(StatusCode::NOT_MODIFIED), "304"),
            (OriginOutcome::Answered(StatusCode::FOUND), "3xx"),
            (OriginOutcome::Answered(StatusCode::NOT_FOUND), "4xx"),
            (OriginOutcome::Answered(StatusCode::TOO_MANY_REQUESTS), "429"),
            (OriginOutcome::Answered(StatusCode::BAD_GATEWAY), "5xx"),
            (OriginOutcome::Answered(StatusCode::from_u16(599).unwrap()), "5xx"),
            (OriginOutcome::Connect, "connect"),
            (OriginOutcome::TimedOut, "timed-out"),
            (OriginOutcome::Broken, "broken"),
            (OriginOutcome::Overloaded, "overloaded"),
        ] {
            assert_eq!(ORIGIN_OUTCOMES[outcome.index()], word);
            origin.asked(outcome, Duration::from_millis(3));
        }
        assert_eq!(origin.latency.get_sample_count(), 7, "failures have no latency of an answer");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_measured_too() {
        let text = String::from_utf8(Metrics::new(["main"]).text().unwrap()).unwrap();
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
    }
}
