//! The table: one line a family.

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name, which ends in its unit, or in `_total` for a counter.
    pub name: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub meaning: &'static str,
}

const fn family(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Family {
    Family { name, labels, meaning }
}

/// Every metric of the sidecar itself. Those of the process (`process_…`) come beside them on Linux.
#[cfg(any(test, feature = "internals"))]
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

pub(super) const REQUESTS: Family = family(
    "tagalong_requests_total",
    &["upstream", "cache_status"],
    "Requests by what Cache-Status says: hit, or the reason for going forward. Hit ratio: hit over all.",
);
pub(super) const DETAILS: Family = family(
    "tagalong_request_details_total",
    &["upstream", "detail"],
    "Requests whose Cache-Status carries a detail, by that word.",
);
pub(super) const STORED: Family = family(
    "tagalong_responses_stored_total",
    &["upstream"],
    "Responses of the origin that were stored, those that a 304 freshened included.",
);
pub(super) const COLLAPSED: Family = family(
    "tagalong_requests_collapsed_total",
    &["upstream"],
    "Requests answered by the origin request of another one.",
);
pub(super) const REFUSALS: Family = family(
    "tagalong_refusals_total",
    &["reason"],
    "Requests answered by an error of the sidecar's own, by the word in the problem's type.",
);
pub(super) const ORIGIN_REQUESTS: Family = family(
    "tagalong_origin_requests_total",
    &["upstream", "outcome"],
    "Requests sent to the origin, by status or by what went wrong. 304 and 429 stand apart from their classes.",
);
pub(super) const ORIGIN_SECONDS: Family = family(
    "tagalong_origin_latency_seconds",
    &["upstream"],
    "From sending a request to the origin to the end of the answer's header section.",
);
pub(super) const ORIGIN_BYTES: Family =
    family("tagalong_origin_body_bytes_total", &["upstream"], "Body bytes received from the origin.");
pub(super) const BYTES_SAVED: Family = family(
    "tagalong_body_bytes_saved_total",
    &["upstream"],
    "Body bytes given to callers that did not have to come from the origin for them.",
);
pub(super) const CREDENTIAL_REFUSALS: Family = family(
    "tagalong_credential_refusals_total",
    &["upstream", "reason"],
    "Answers of the origin that refuse the sidecar's own credential: clock, credential or forbidden.",
);
pub(super) const CLOCK_SKEW: Family = family(
    "tagalong_origin_clock_skew_seconds",
    &["upstream"],
    "How far this machine's clock is ahead of the origin's. Signed requests are refused beyond 900 either way.",
);
pub(super) const STORE_KEYS: Family =
    family("tagalong_store_keys", &[], "Cache keys with a stored response.");
pub(super) const STORE_WEIGHT: Family = family(
    "tagalong_store_weight_bytes",
    &[],
    "What the stored responses occupy, keys and bookkeeping included.",
);
pub(super) const STORE_CAPACITY: Family =
    family("tagalong_store_capacity_bytes", &[], "The bound of that: store.limit.");
pub(super) const STORE_EVICTIONS: Family = family(
    "tagalong_store_evictions_total",
    &[],
    "Cache keys evicted for want of room. Rising steadily, it asks for a larger store.limit.",
);
pub(super) const CONNECTIONS_OPEN: Family =
    family("tagalong_connections_open", &[], "Connections of callers that are open now.");
pub(super) const CONNECTIONS: Family =
    family("tagalong_connections_total", &[], "Connections of callers that were accepted.");
pub(super) const CONNECTIONS_REFUSED: Family = family(
    "tagalong_connections_refused_total",
    &[],
    "Connections of callers that were answered 503 and closed because limits.connections was reached.",
);
pub(super) const CONNECTION_ERRORS: Family = family(
    "tagalong_connection_errors_total",
    &["reason"],
    "Connections of callers that ended otherwise than by agreement: malformed requests, deadlines.",
);
pub(super) const READY: Family =
    family("tagalong_ready", &[], "Whether /readyz says yes; 0 from the first moment of draining.");
pub(super) const BUILD_INFO: Family =
    family("tagalong_build_info", &["version"], "Which version runs, in its label.");
