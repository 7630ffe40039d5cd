//! The table: one line a family.

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only ever rises while the process runs.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts of observations up to each of some bounds.
    Histogram,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name, which ends in its unit, or in `_total` for a counter.
    pub name: &'static str,
    /// What it is.
    pub kind: FamilyKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What is counted or measured.
    pub unit: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    unit: &'static str,
    meaning: &'static str,
) -> Family {
    Family { name, kind: FamilyKind::Counter, labels, unit, meaning }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    unit: &'static str,
    meaning: &'static str,
) -> Family {
    Family { name, kind: FamilyKind::Gauge, labels, unit, meaning }
}

/// Every metric of the sidecar itself. Those of the process (`process_…`) come beside them on Linux.
pub const FAMILIES: [Family; 21] = [
    REQUESTS,
    DETAILS,
    STORED,
    COLLAPSED,
    REFUSALS,
    ORIGIN_REQUESTS,
    ORIGIN_SECONDS,
    ORIGIN_BYTES,
    BYTES_SAVED,
    CREDENTIAL_REFUSALS,
    CLOCK_SKEW,
    STORE_KEYS,
    STORE_WEIGHT,
    STORE_CAPACITY,
    STORE_EVICTIONS,
    CONNECTIONS_OPEN,
    CONNECTIONS,
    CONNECTIONS_REFUSED,
    CONNECTION_ERRORS,
    READY,
    BUILD_INFO,
];

pub(super) const REQUESTS: Family = counter(
    "tagalong_requests_total",
    &["upstream", "cache_status"],
    "requests",
    "Requests by what Cache-Status says: hit, or the reason for going forward. Hit ratio: hit over all.",
);
pub(super) const DETAILS: Family = counter(
    "tagalong_request_details_total",
    &["upstream", "detail"],
    "requests",
    "Requests whose Cache-Status carries a detail, by that word.",
);
pub(super) const STORED: Family = counter(
    "tagalong_responses_stored_total",
    &["upstream"],
    "responses",
    "Responses of the origin that were stored, those that a 304 freshened included.",
);
pub(super) const COLLAPSED: Family = counter(
    "tagalong_requests_collapsed_total",
    &["upstream"],
    "requests",
    "Requests answered by the origin request of another one.",
);
pub(super) const REFUSALS: Family = counter(
    "tagalong_refusals_total",
    &["reason"],
    "requests",
    "Requests answered by an error of the sidecar's own, by the word in the problem's type.",
);
pub(super) const ORIGIN_REQUESTS: Family = counter(
    "tagalong_origin_requests_total",
    &["upstream", "outcome"],
    "requests",
    "Requests sent to the origin, by status or by what went wrong. 304 and 429 stand apart from their classes.",
);
pub(super) const ORIGIN_SECONDS: Family = Family {
    name: "tagalong_origin_latency_seconds",
    kind: FamilyKind::Histogram,
    labels: &["upstream"],
    unit: "seconds",
    meaning: "From sending a request to the origin to the end of the answer's header section.",
};
pub(super) const ORIGIN_BYTES: Family = counter(
    "tagalong_origin_body_bytes_total",
    &["upstream"],
    "bytes",
    "Body bytes received from the origin.",
);
pub(super) const BYTES_SAVED: Family = counter(
    "tagalong_body_bytes_saved_total",
    &["upstream"],
    "bytes",
    "Body bytes given to callers that did not have to come from the origin for them.",
);
pub(super) const CREDENTIAL_REFUSALS: Family = counter(
    "tagalong_credential_refusals_total",
    &["upstream", "reason"],
    "answers",
    "Answers of the origin that refuse the sidecar's own credential: clock, credential or forbidden.",
);
pub(super) const CLOCK_SKEW: Family = gauge(
    "tagalong_origin_clock_skew_seconds",
    &["upstream"],
    "seconds",
    "How far this machine's clock is ahead of the origin's. Signed requests are refused beyond 900 either way.",
);
pub(super) const STORE_KEYS: Family =
    gauge("tagalong_store_keys", &[], "cache keys", "Cache keys with a stored response.");
pub(super) const STORE_WEIGHT: Family = gauge(
    "tagalong_store_weight_bytes",
    &[],
    "bytes",
    "What the stored responses occupy, keys and bookkeeping included.",
);
pub(super) const STORE_CAPACITY: Family =
    gauge("tagalong_store_capacity_bytes", &[], "bytes", "The bound of that: store.limit.");
pub(super) const STORE_EVICTIONS: Family = counter(
    "tagalong_store_evictions_total",
    &[],
    "cache keys",
    "Cache keys evicted for want of room. Rising steadily, it asks for a larger store.limit.",
);
pub(super) const CONNECTIONS_OPEN: Family =
    gauge("tagalong_connections_open", &[], "connections", "Connections of callers that are open now.");
pub(super) const CONNECTIONS: Family =
    counter("tagalong_connections_total", &[], "connections", "Connections of callers that were accepted.");
pub(super) const CONNECTIONS_REFUSED: Family = counter(
    "tagalong_connections_refused_total",
    &[],
    "connections",
    "Connections of callers that were answered 503 and closed because limits.connections was reached.",
);
pub(super) const CONNECTION_ERRORS: Family = counter(
    "tagalong_connection_errors_total",
    &["reason"],
    "connections",
    "Connections of callers that ended otherwise than by agreement: malformed requests, deadlines.",
);
pub(super) const READY: Family =
    gauge("tagalong_ready", &[], "1 or 0", "Whether /readyz says yes; 0 from the first moment of draining.");
pub(super) const BUILD_INFO: Family =
    gauge("tagalong_build_info", &["version"], "always 1", "Which version runs, in its label.");
