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

macro_rules! families {
    ($($constant:ident = $name:literal, [$($label:literal),*], $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $constant: Family =
                Family { name: $name, labels: &[$($label),*], meaning: $meaning };
        )*

        /// Every metric of the sidecar itself. Those of the process (`process_…`) come beside them on Linux.
        #[cfg(any(test, feature = "internals"))]
        pub const FAMILIES: &[Family] = &[$($constant,)*];
    };
}

families! {
    REQUESTS = "tagalong_requests_total", ["upstream", "cache_status"],
        "Requests by what Cache-Status says: hit, or the reason for going forward. Hit ratio: hit over all.";
    DETAILS = "tagalong_request_details_total", ["upstream", "detail"],
        "Requests whose Cache-Status carries a detail, by that word.";
    STORED = "tagalong_responses_stored_total", ["upstream"],
        "Responses of the origin that were stored, those that a 304 freshened included.";
    COLLAPSED = "tagalong_requests_collapsed_total", ["upstream"],
        "Requests answered by the origin request of another one.";
    REFRESHED = "tagalong_refreshes_ahead_total", ["upstream"],
        "Responses in use, or lists in their place, that were validated before they became stale, so that no caller waited.";
    REFUSALS = "tagalong_refusals_total", ["reason"],
        "Requests answered by an error of the sidecar's own, by the word in the problem's type.";
    ORIGIN_REQUESTS = "tagalong_origin_requests_total", ["upstream", "outcome"],
        "Requests sent to the origin, by status or by what went wrong. 304 and 429 stand apart from their classes.";
    ORIGIN_SECONDS = "tagalong_origin_latency_seconds", ["upstream"],
        "From sending a request to the origin to the end of the answer's header section.";
    ORIGIN_BYTES = "tagalong_origin_body_bytes_total", ["upstream"], "Body bytes received from the origin.";
    BYTES_SAVED = "tagalong_body_bytes_saved_total", ["upstream"],
        "Body bytes given to callers that did not have to come from the origin for them.";
    CREDENTIAL_REFUSALS = "tagalong_credential_refusals_total", ["upstream", "reason"],
        "Answers of the origin that refuse the sidecar's own credential: clock, credential or forbidden.";
    CLOCK_SKEW = "tagalong_origin_clock_skew_seconds", ["upstream"],
        "How far this machine's clock is ahead of the origin's. Signed requests are refused beyond 900 either way.";
    STORE_KEYS = "tagalong_store_keys", [], "Cache keys with a stored response.";
    STORE_WEIGHT = "tagalong_store_weight_bytes", [], "What the stored responses occupy, keys and bookkeeping included.";
    STORE_CAPACITY = "tagalong_store_capacity_bytes", [], "The bound of that: store.limit.";
    STORE_EVICTIONS = "tagalong_store_evictions_total", [],
        "Cache keys evicted for want of room. Rising steadily, it asks for a larger store.limit.";
    MIRROR_RANGES = "tagalong_mirror_ranges", ["upstream"], "Ranges of the mirror: each is validated by a request of its own.";
    MIRROR_ITEMS = "tagalong_mirror_items", ["upstream"], "Key-values that the mirror holds.";
    MIRROR_BYTES = "tagalong_mirror_bytes", ["upstream"], "What they occupy, with what it takes to find them.";
    MIRROR_VALIDATIONS = "tagalong_mirror_validations_total", ["upstream", "outcome"],
        "Ranges that were asked for: unchanged (a 304), changed (a body came), or failed.";
    MIRROR_AUDITS = "tagalong_mirror_audits_total", ["upstream", "outcome"],
        "Ranges that were read without a condition to compare them: same, or different (a value changed under its entity tag).";
    MIRROR_OLDEST = "tagalong_mirror_oldest_range_seconds", ["upstream"],
        "How long ago the range was validated whose turn was longest ago. Beyond the interval it asks the origin before it answers.";
    MIRROR_LOAD = "tagalong_mirror_load_seconds", ["upstream"], "How long the last load took, before its second pass.";
    MIRROR_GIVE_UPS = "tagalong_mirror_give_ups_total", ["upstream", "reason"],
        "How often the mirror gave up, by the word in Cache-Status. Then keys and lists are cached one by one.";
    ENDPOINT_REQUESTS = "tagalong_endpoint_requests_total", ["upstream", "endpoint"], "Requests sent to each endpoint of an upstream.";
    ENDPOINT_ACTIVE = "tagalong_endpoint_active", ["upstream", "endpoint"], "1 for the endpoint that is asked, 0 for its replicas.";
    FAILOVERS = "tagalong_failovers_total", ["upstream"], "How often another endpoint of an upstream was asked from then on, because the one before failed.";
    BUDGET_USED = "tagalong_budget_used_ratio", ["upstream"], "What this sidecar has used of its quota in this window; 1 is all of it.";
    BUDGET_FORECAST = "tagalong_budget_forecast_ratio", ["upstream"],
        "What will have been used at the end of the window if no lifetime is stretched. Above 0.8 lifetimes stretch.";
    BUDGET_STRETCH = "tagalong_budget_stretch", ["upstream"], "By which factor the operator's lifetimes are stretched; 1 is not at all.";
    BUDGET_AVOIDED = "tagalong_budget_requests_avoided_total", ["upstream"], "Validations that longer lifetimes saved.";
    BUDGET_HELD = "tagalong_budget_reads_held_total", ["upstream"],
        "Reads that were not sent: the rest of the quota is kept for writes, or a second's quota was used up.";
    FLEET_LIVE = "tagalong_fleet_live", ["upstream"], "Whether the lease on what the fleet told is live; 0 also without a fleet.";
    FLEET_FAILURES = "tagalong_fleet_failures_total", ["upstream", "reason"],
        "How often the fleet's engine gave no usable answer, by the word in the log.";
    FLEET_ANNOUNCEMENTS = "tagalong_fleet_announcements_total", ["upstream", "outcome"],
        "Own writes: announced, failed (announced later), or unconfirmed (a member's lease ran out first).";
    FLEET_ANNOUNCE_SECONDS = "tagalong_fleet_announce_seconds", ["upstream"], "How long the caller of a write waited for its announcement.";
    FLEET_ENTRIES = "tagalong_fleet_entries_total", ["upstream", "what"],
        "Entries of other members: write, change, tokens, anything, or refused (not sealed with the fleet's key, and taken for a write to anything).";
    FLEET_EPOCHS = "tagalong_fleet_epochs_total", ["upstream"],
        "How often entries may have been lost, so that everything stored is validated once; the first join counts.";
    FLEET_RECORDS = "tagalong_fleet_records_total", ["upstream", "outcome"],
        "Reads beyond the store: taken (from the second level), asked (with its lease), alone (without), and records published or refused.";
    SNAPSHOT_WRITES = "tagalong_snapshot_writes_total", ["outcome"],
        "Writes of the snapshot file: written, or failed (the file is as it was).";
    SNAPSHOT_BYTES = "tagalong_snapshot_bytes", [], "The size of the snapshot that was written last.";
    SNAPSHOT_WRITTEN = "tagalong_snapshot_written_timestamp_seconds", [], "When the snapshot was written last; 0: not since the start.";
    SNAPSHOT_RESTORED = "tagalong_snapshot_restored", ["what"],
        "What was restored at the start: stored responses, and key-values of mirrors (mirrored).";
    SNAPSHOT_REFUSALS = "tagalong_snapshot_refusals_total", ["reason"],
        "Snapshots, or the part of one upstream, that were not used at the start, by the word in the log.";
    CONNECTIONS_OPEN = "tagalong_connections_open", [], "Connections of callers that are open now.";
    CONNECTIONS = "tagalong_connections_total", [], "Connections of callers that were accepted.";
    CONNECTIONS_REFUSED = "tagalong_connections_refused_total", [],
        "Connections of callers that were answered 503 and closed because limits.connections was reached.";
    CONNECTION_ERRORS = "tagalong_connection_errors_total", ["reason"],
        "Connections of callers that ended otherwise than by agreement: malformed requests, deadlines.";
    RELOADS = "tagalong_reloads_total", ["outcome"],
        "Reloads of the configuration: applied, unchanged (it was in force already), or refused (the log says why).";
    RELOAD_SUCCESSFUL = "tagalong_config_last_reload_successful", [],
        "Whether the last reload was applied or found nothing changed; 0: it was refused, and the one before stays in force.";
    RELOADED_AT = "tagalong_config_last_reload_timestamp_seconds", [],
        "When a changed configuration was taken over last; 0: not since the start.";
    READY = "tagalong_ready", [], "Whether /readyz says yes; 0 from the first moment of draining.";
    BUILD_INFO = "tagalong_build_info", ["version"], "Which version runs, in its label.";
}
