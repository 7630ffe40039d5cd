//! `GET /admin/status`: the state of the sidecar as one JSON document, for the page, for `tagalong top` and for scripts.
//!
//! Its numbers are those of `/metrics`: both read the same registry ([`gathered`]), and nothing is counted for this document. What
//! belongs to one upstream stands there; where something is switched off, its part is `null`.

mod gathered;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use super::{AdminResponse, AdminState, answer, authorization, problem};
use crate::metrics::history::HISTORY_STEP;
pub use gathered::{ConfiguredFacts, LiveState, StatusSources};

/// The document. Times are seconds since 1970 (`…_unix_seconds`) or durations (`…_seconds`). Counts are since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// How long it has run.
    pub uptime_seconds: f64,
    /// What time it is there.
    pub now_unix_seconds: i64,
    /// What `/readyz` says.
    pub ready: bool,
    /// Why it is not ready, by the words of `/readyz`.
    pub reasons: Vec<String>,
    /// What is also true, by the words of `/readyz`.
    pub notes: Vec<String>,
    /// One for each upstream, in the order of the configuration.
    pub upstreams: Vec<UpstreamStatus>,
    /// The store, which all upstreams share.
    pub store: StoreStatus,
    /// Reloads of the configuration.
    pub reload: ReloadStatus,
    /// The snapshot file.
    pub snapshot: Option<SnapshotFileStatus>,
    /// Connections of callers.
    pub connections: ConnectionsStatus,
    /// Requests that the sidecar answered with an error of its own.
    pub refusals: RefusalsStatus,
    /// The keys that answer most.
    pub hottest_keys: HottestKeys,
    /// What the system says of the process, at most ten seconds ago; `null` where it says nothing.
    pub process: Option<ProcessStatus>,
}

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Its profile: `app-configuration` or `generic`.
    pub profile: String,
    /// How the sidecar proves itself there: `hmac`, `entra`, ….
    pub credential: String,
    /// The endpoint that is asked.
    pub active_endpoint: String,
    /// All its endpoints.
    pub endpoints: Vec<EndpointStatus>,
    /// How often another endpoint became the active one.
    pub failovers: u64,
    /// The requests of callers.
    pub requests: RequestsStatus,
    /// The requests to the origin.
    pub origin: OriginStatus,
    /// Its sync tokens.
    pub tokens: TokensStatus,
    /// The pauses that it asked for. Empty: none.
    pub throttle: Vec<PauseStatus>,
    /// Its budget.
    pub budget: Option<BudgetStatus>,
    /// Its mirror.
    pub mirror: Option<MirrorStatus>,
    /// Its membership in a fleet.
    pub fleet: Option<FleetStatus>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Host and port.
    pub endpoint: String,
    /// Whether it is the one that is asked.
    pub is_active: bool,
    /// Requests that it was sent.
    pub requests: u64,
}

/// How requests were answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestsStatus {
    /// All of them.
    pub total: u64,
    /// Those answered from the store.
    pub hits: u64,
    /// The part that these are; `null` without requests.
    pub hit_ratio: Option<f64>,
    /// By what `Cache-Status` says: `hit`, or the reason for going forward.
    pub by_cache_status: BTreeMap<String, u64>,
    /// By the detail in `Cache-Status`, where there is one.
    pub by_detail: BTreeMap<String, u64>,
    /// Responses that were stored.
    pub stored: u64,
    /// Requests answered by the origin request of another one.
    pub collapsed: u64,
    /// Responses that were validated before they became stale.
    pub refreshed_ahead: u64,
    /// Body bytes that did not have to come from the origin.
    pub body_bytes_saved: u64,
    /// The last minutes.
    pub recent: RecentStatus,
}

/// The requests of the last minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentStatus {
    /// How long ago the first step began: at most five minutes, less after a start.
    pub covers_seconds: f64,
    /// How long a step is. The last one is under way.
    pub step_seconds: f64,
    /// Requests in all steps.
    pub total: u64,
    /// Hits in all steps.
    pub hits: u64,
    /// The part that these are; `null` without requests.
    pub hit_ratio: Option<f64>,
    /// Requests of each step, the oldest first.
    pub total_by_step: Vec<u64>,
    /// Hits of each step.
    pub hits_by_step: Vec<u64>,
}

/// What was asked of the origin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OriginStatus {
    /// All requests.
    pub requests: u64,
    /// By the class of the status, or by what went wrong.
    pub by_outcome: BTreeMap<String, u64>,
    /// How long header sections took.
    pub latency: LatencyStatus,
    /// Body bytes that came.
    pub body_bytes: u64,
    /// How far this machine's clock is ahead of the origin's.
    pub clock_skew_seconds: f64,
    /// Answers that refuse the sidecar's own credential, by reason.
    pub credential_refusals: BTreeMap<String, u64>,
}

/// A latency since the start: estimates from the histogram of `/metrics`, as `histogram_quantile` makes them. `null`: no values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// How many values there are.
    pub count: u64,
    /// Their sum.
    pub sum_seconds: f64,
    /// The median.
    pub p50_seconds: Option<f64>,
    /// The 99th percentile.
    pub p99_seconds: Option<f64>,
}

/// The sync tokens of an upstream, without their values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokensStatus {
    /// The newest ones, which go upstream.
    pub newest: Vec<TokenStatus>,
    /// Those that stored responses must cover.
    pub required: Vec<TokenStatus>,
    /// The origin's time in the answer to which the required ones last rose; `null` if they did not, or the answer had no date.
    pub required_since_unix_seconds: Option<i64>,
    /// Whether tokens tell the origin's states apart, as far as was seen.
    pub tell_states_apart: bool,
    /// Writes whose answers have not arrived.
    pub open_writes: u64,
}

/// One token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenStatus {
    /// Its id.
    pub id: String,
    /// Its sequence number.
    pub sequence_number: u64,
    /// When an answer last brought its id; `null` for a required one.
    pub seen_at_unix_seconds: Option<i64>,
}

/// A pause that the origin asked for: over all identities the longest of its kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PauseStatus {
    /// What is held back: `reads`, `writes` or `bodies`.
    pub held: String,
    /// The status with which the origin asked.
    pub status: u16,
    /// How much longer.
    pub remaining_seconds: f64,
}

/// The budget of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// What was used of the window, as a part of the quota.
    pub used_ratio: f64,
    /// What will have been used at its end if nothing is stretched.
    pub forecast_ratio: f64,
    /// By which factor lifetimes are stretched.
    pub stretch: f64,
    /// Validations that longer lifetimes saved.
    pub requests_avoided: u64,
    /// Reads that were not sent.
    pub reads_held: u64,
}

/// The mirror of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MirrorStatus {
    /// Whether it is loaded and valid.
    pub is_loaded: bool,
    /// Why it gave up, by the word in `Cache-Status`; `null`: it has not.
    pub gave_up: Option<String>,
    /// How often it gave up, by that word.
    pub give_ups: BTreeMap<String, u64>,
    /// Key-values that it holds.
    pub items: u64,
    /// Ranges.
    pub ranges: u64,
    /// What it occupies.
    pub bytes: u64,
    /// How long ago the range was validated whose turn was longest ago.
    pub oldest_range_seconds: u64,
    /// How long the last load took.
    pub load_seconds: f64,
    /// Ranges that were asked for, by outcome.
    pub validations: BTreeMap<String, u64>,
    /// Ranges that were read without a condition, by outcome.
    pub audits: BTreeMap<String, u64>,
}

/// The membership of an upstream in a fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// Whether the lease on what the fleet told is live.
    pub is_live: bool,
    /// Own writes, by what became of their announcement.
    pub announcements: BTreeMap<String, u64>,
    /// How long callers waited for announcements.
    pub announce_latency: LatencyStatus,
    /// Entries of other members, by kind.
    pub entries: BTreeMap<String, u64>,
    /// Looks at records of the second level, by outcome.
    pub records: BTreeMap<String, u64>,
    /// How often everything stored was to be validated.
    pub epochs: u64,
    /// Failures of the engine, by reason.
    pub failures: BTreeMap<String, u64>,
}

/// The store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Cache keys with a stored response.
    pub keys: u64,
    /// What they occupy.
    pub weight_bytes: u64,
    /// The bound of that.
    pub capacity_bytes: u64,
    /// Keys that were evicted for want of room.
    pub evictions: u64,
}

/// The snapshot file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotFileStatus {
    /// When it was last written; `null`: not since the start.
    pub written_at_unix_seconds: Option<i64>,
    /// Its size then.
    pub bytes: u64,
    /// Writes, by outcome.
    pub writes: BTreeMap<String, u64>,
    /// What was restored at the start.
    pub restored: BTreeMap<String, u64>,
    /// What was not used at the start, by reason.
    pub refusals: BTreeMap<String, u64>,
}

/// Reloads of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// Whether the last one was not refused.
    pub last_successful: bool,
    /// When one last changed something; `null`: not since the start.
    pub applied_at_unix_seconds: Option<i64>,
    /// All of them, by outcome.
    pub by_outcome: BTreeMap<String, u64>,
}

/// Connections of callers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionsStatus {
    /// Open now.
    pub open: u64,
    /// Accepted.
    pub total: u64,
    /// Closed at the limit.
    pub refused: u64,
    /// Those that ended otherwise than by agreement, by reason.
    pub errors: BTreeMap<String, u64>,
}

/// Requests that the sidecar answered with an error of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RefusalsStatus {
    /// By reason.
    pub by_reason: BTreeMap<String, u64>,
    /// The last ones, the latest first; a few dozen.
    pub last: Vec<RefusalStatus>,
}

/// One of them. It has nothing that the caller sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RefusalStatus {
    /// When.
    pub at_unix_seconds: i64,
    /// For which upstream.
    pub upstream: String,
    /// The status of the answer.
    pub status: u16,
    /// The word in the problem's type.
    pub reason: String,
}

/// The keys that answer most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HottestKeys {
    /// Whether they are told.
    pub are_shown: bool,
    /// What to do to be told them; `null` if they are told.
    pub why_not: Option<String>,
    /// One hit in so many is counted.
    pub one_in: u8,
    /// How many counted hits the shares are parts of. What came a minute ago counts half.
    pub counted: u64,
    /// The most used ones first.
    pub keys: Vec<HotKeyStatus>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HotKeyStatus {
    /// The upstream.
    pub upstream: String,
    /// The target in its canonical form, of all its variants and for all callers.
    pub key: String,
    /// Which part of the hits it answers: an estimate.
    pub share: f64,
}

/// What the system says of the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Memory in use.
    pub resident_bytes: u64,
    /// Processor time, in whole seconds.
    pub cpu_seconds: u64,
    /// Open files.
    pub open_files: u64,
    /// How many there may be.
    pub open_files_limit: u64,
}

impl AdminState {
    /// The status. A request with the token is told names of keys, if that is allowed at all.
    pub(super) fn status(&self, parts: &Parts) -> AdminResponse {
        self.observe();
        let now = self.status.now();
        let upstreams = self.upstreams.iter().map(|it| (it.name.as_str(), &it.facts, (it.live_state)(now)));
        let rules = self.rules.load_full();
        let may_name_keys = || authorization::authorize(parts, rules.token_file.as_deref());
        let status = self.status.status(&self.metrics, &self.readiness, upstreams.collect(), may_name_keys);
        match serde_json::to_string(&status) {
            Ok(text) => answer(StatusCode::OK, "application/json", format!("{text}\n").into()),
            Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string()),
        }
    }

    /// Reads the counters at regular intervals, for what the status says of the last minutes, until the task is dropped.
    pub async fn keep_history(self: Arc<Self>) {
        let mut steps = interval(HISTORY_STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        steps.tick().await;
        for number in 1_u32.. {
            steps.tick().await;
            self.status.end_step(&self.metrics, number);
        }
    }
}
