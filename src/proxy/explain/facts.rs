//! The explanation of one request as data: the operator's port gives it as JSON.
//!
//! What callers send to prove themselves never stands in it: of the caller's fields it repeats nothing but entity tags.

use http::header::{ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use serde::Serialize;

use super::super::Caller;
use super::super::destination::{self, Destination};
use crate::clock::Timestamp;
use crate::config::Word as _;
use crate::decide::age::current_age;
use crate::decide::storable::NotStored;
use crate::mirror::give_up::GiveUpReason;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::Coverage;
use crate::sync_token::session::RequiredCoverage;
use crate::upstream::collapse::Joins;
use crate::upstream::retrieval::Retrieval;
use crate::upstream::throttle::Held;

/// What would happen to one request now, and why.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// One line: what happens and why.
    pub summary: String,
    /// `hit`, `forward` or `refused`.
    pub decision: &'static str,
    /// `Cache-Status` of the answer, as far as it is known before the origin has answered.
    pub cache_status: String,
    /// The status of the answer, where the origin does not decide it.
    pub status: Option<u16>,
    /// Why, in a sentence.
    pub because: String,
    /// What can be done about it.
    pub next: Option<&'static str>,
    /// What is asked for.
    pub request: TargetFacts,
    /// What is stored for it; `None` where the store is not asked.
    pub store: Option<StoreFacts>,
    /// What the stored response is known to include, beside what is required.
    pub coverage: Option<CoverageFacts>,
    /// What goes upstream; `None` where nothing does.
    pub forward: Option<ForwardFacts>,
    /// What answers if the origin does not.
    pub if_no_answer: Option<AnswerFacts>,
    /// How the upstream is.
    pub upstream: UpstreamFacts,
}

/// What is asked for, and which rules are for it.
#[derive(Debug, Serialize)]
pub struct TargetFacts {
    /// The listener that it arrives at.
    pub listener: String,
    /// The upstream that it goes to.
    pub upstream: String,
    /// The path prefix that led there, and was taken off.
    pub path_prefix: Option<String>,
    /// The beginning of the path whose `[[upstream.route]]` holds the rules.
    pub route: Option<String>,
    /// The method.
    pub method: String,
    /// The target as it goes upstream.
    pub target: String,
    /// The cache key, its parts set apart by NUL; `None` if it has none.
    pub key: Option<String>,
    /// The consistency level.
    pub consistency: String,
}

/// What is stored.
#[derive(Debug, Serialize)]
pub struct StoreFacts {
    /// How many responses are stored for the key.
    pub variants: usize,
    /// The one that the request selects, or that a mirror makes.
    pub selected: Option<StoredFacts>,
}

/// One stored response.
#[derive(Debug, Serialize)]
pub struct StoredFacts {
    /// Its status.
    pub status: u16,
    /// Its age.
    pub age_seconds: u64,
    /// Its lifetime.
    pub lifetime_seconds: u64,
    /// Its lifetime as the budget of requests stretches it, if it does.
    pub stretched_lifetime_seconds: Option<u64>,
    /// Its entity tag.
    pub entity_tag: Option<String>,
    /// What it holds.
    pub body_bytes: usize,
    /// It holds a part of the representation.
    pub is_part: bool,
    /// A mirror makes it.
    pub is_mirrored: bool,
    /// A snapshot restored it, and no answer of the origin has confirmed it.
    pub is_restored: bool,
}

/// Coverage and what is required.
#[derive(Debug, Serialize)]
pub struct CoverageFacts {
    /// `covered`, or the word of the rule that fails.
    pub verdict: &'static str,
    /// Of the stored response.
    pub stored: CoverageNumbers,
    /// What it must have.
    pub required: CoverageNumbers,
    /// The version that the caller's `Sync-Token` demands; `None`: it is not known what that stands for.
    pub presented_version: Option<u64>,
    /// Open writes that may touch it.
    pub open_writes: usize,
    /// The answer that showed the last change, if it is remembered.
    pub last_change: Option<ChangeFacts>,
}

/// The numbers of coverage.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CoverageNumbers {
    /// The version of the newest tokens.
    pub newest_version: u64,
    /// The place in the order of sending: a stored response must have been sent after the one that is required.
    pub sent_order: u64,
    /// How far the write log had come: writes that touch the response must not have closed after that.
    pub closed_position: u64,
    /// The number of the revelation: one that bears the number of the latest is covered.
    pub revelation: u64,
}

/// An answer that showed a change.
#[derive(Debug, Serialize)]
pub struct ChangeFacts {
    /// The target of its request.
    pub target: String,
    /// The status of the state that it showed.
    pub status: u16,
    /// How long ago it was taken in.
    pub ago_seconds: u64,
    /// It was taken in after the stored response had been asked for.
    pub is_after_stored: bool,
}

/// What goes upstream.
#[derive(Debug, Serialize)]
pub struct ForwardFacts {
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// The endpoint.
    pub endpoint: String,
    /// The conditional fields, and `Range`.
    pub conditions: Vec<[String; 2]>,
    /// What happens before, and may answer it.
    pub first: Option<String>,
    /// Records of the fleet are looked for before.
    pub asks_fleet_first: bool,
    /// It neither leads nor follows another request.
    pub is_alone: bool,
    /// What it is to the fetches for its key.
    #[serde(serialize_with = "joins_word")]
    pub joins: Option<Joins>,
    /// Why the last answer for the key could not be stored, so that no request waits for another; `None` if it could, or that is not
    /// remembered.
    pub hit_for_miss: Option<&'static str>,
}

fn joins_word<S: serde::Serializer>(joins: &Option<Joins>, serializer: S) -> Result<S::Ok, S::Error> {
    joins
        .map(|joins| match joins {
            Joins::Leads => "leads a fetch",
            Joins::FollowsCurrent { .. } => "follows the fetch under way",
            Joins::FollowsQueued => "follows the queued fetch",
            Joins::LeadsQueued => "leads a fetch that waits for the one under way",
        })
        .serialize(serializer)
}

/// An answer.
#[derive(Debug, Serialize)]
pub struct AnswerFacts {
    /// Its status.
    pub status: Option<u16>,
    /// Its `Cache-Status`.
    pub cache_status: String,
    /// What it tells its caller, where it is no stored response.
    pub problem: Option<String>,
}

/// How the upstream is.
#[derive(Debug, Serialize)]
pub struct UpstreamFacts {
    /// The endpoint that is asked.
    pub endpoint: String,
    /// It is not the first of the configuration.
    pub is_replica: bool,
    /// How long the origin has asked for fewer reads, writes and bodies.
    pub paused_seconds: PauseFacts,
    /// The last time that it gave no usable answer.
    pub last_failure: Option<FailureFacts>,
    /// The budget of requests, if there is a quota.
    pub budget: Option<BudgetFacts>,
    /// The mirror, if there is one.
    pub mirror: Option<MirrorFacts>,
    /// The fleet, if it is a member.
    pub fleet: Option<FleetFacts>,
}

/// What is left of pauses. Where callers' own credentials go upstream these are those of a caller without.
#[derive(Debug, Serialize)]
pub struct PauseFacts {
    /// Of reads.
    pub reads: Option<u64>,
    /// Of writes.
    pub writes: Option<u64>,
    /// Of reads that bring a body.
    pub bodies: Option<u64>,
}

/// A request that the origin gave no usable answer to.
#[derive(Debug, Serialize)]
pub struct FailureFacts {
    /// The word of `detail=`.
    pub word: &'static str,
    /// What happened.
    pub detail: String,
    /// How long ago.
    pub ago_seconds: u64,
}

/// The budget.
#[derive(Debug, Serialize)]
pub struct BudgetFacts {
    /// Requests that the window allows.
    pub quota: f64,
    /// Requests that were sent.
    pub used: f64,
    /// By which factor lifetimes stretch.
    pub stretch: f64,
    /// What is left of the window.
    pub window_left_seconds: u64,
}

/// The mirror.
#[derive(Debug, Serialize)]
pub struct MirrorFacts {
    /// Every collection has been loaded.
    pub is_loaded: bool,
    /// Why it gave up, if it did.
    pub gave_up: Option<&'static str>,
    /// The ranges that the request depends on; `None`: it is answered without the mirror.
    pub ranges: Option<RangesFacts>,
}

/// Ranges of a mirror.
#[derive(Debug, Serialize)]
pub struct RangesFacts {
    /// The position of their collection in the configuration.
    pub collection: usize,
    /// How many.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// How long ago the oldest was validated.
    pub oldest_seconds: u64,
    /// How long a range answers after its validation.
    pub lifetime_seconds: u64,
}

/// The fleet.
#[derive(Debug, Serialize)]
pub struct FleetFacts {
    /// What the others tell counts.
    pub has_live_lease: bool,
    /// Records of other members are used.
    pub second_level: bool,
}

impl TargetFacts {
    pub(super) fn of(caller: &Caller, to: &Destination, head: &Parts, target: &PathAndQuery) -> Self {
        let route = to.route(target.path());
        let is_whole = destination::target_of(head) == *target;
        Self {
            listener: caller.listener.to_string(),
            upstream: to.upstream.name().to_owned(),
            path_prefix: (!is_whole).then(|| to.path_prefix.clone()),
            route: route.map(|route| route.path_prefix.clone()),
            method: head.method.to_string(),
            target: target.to_string(),
            key: None,
            consistency: to.rules(target.path()).consistency.word(),
        }
    }
}

impl StoredFacts {
    pub(super) fn of(to: &Destination, stored: &StoredResponse, now: Timestamp) -> Self {
        let (own, stretched) = (stored.policy.freshness_lifetime, to.upstream.lifetime(stored, now));
        let tag = stored.fields.get(&ETAG);
        Self {
            status: stored.status.as_u16(),
            age_seconds: current_age(stored, now).as_secs(),
            lifetime_seconds: own.as_secs(),
            stretched_lifetime_seconds: (stretched != own).then_some(stretched.as_secs()),
            entity_tag: tag.map(|tag| String::from_utf8_lossy(tag).into_owned()),
            body_bytes: stored.body.len(),
            is_part: stored.range.is_some(),
            is_mirrored: stored.is_mirrored,
            is_restored: stored.is_restored(),
        }
    }
}

impl From<Coverage> for CoverageNumbers {
    fn from(covers: Coverage) -> Self {
        let Coverage { newest_version, closed_position, sent_order, revelation } = covers;
        Self { newest_version, sent_order, closed_position, revelation }
    }
}

impl From<RequiredCoverage> for CoverageNumbers {
    fn from(required: RequiredCoverage) -> Self {
        let RequiredCoverage { newest_version, sent_order, closed_position, latest_revelation } = required;
        Self { newest_version, sent_order, closed_position, revelation: latest_revelation }
    }
}

impl ForwardFacts {
    /// What is passed on as it is.
    pub(super) fn passed(
        to: &Destination,
        method: &Method,
        target: &PathAndQuery,
        fields: &HeaderMap,
    ) -> Self {
        Self {
            method: method.to_string(),
            target: target.to_string(),
            endpoint: to.upstream.active_endpoint().1.to_string(),
            conditions: conditions(fields),
            first: None,
            asks_fleet_first: false,
            is_alone: true,
            joins: None,
            hit_for_miss: None,
        }
    }

    /// What is fetched, or validated.
    pub(super) fn fetched(to: &Destination, retrieval: &Retrieval, in_hand: Option<&StoredResponse>) -> Self {
        Self {
            conditions: conditions(&retrieval.conditions(in_hand).fields),
            asks_fleet_first: retrieval.asks_fleet_first(in_hand),
            is_alone: false,
            hit_for_miss: to.upstream.hit_for_miss(&retrieval.request).map(NotStored::as_str),
            ..Self::passed(to, retrieval.method(), &retrieval.target, &HeaderMap::new())
        }
    }
}

fn conditions(fields: &HeaderMap) -> Vec<[String; 2]> {
    let names = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];
    let lines = names.iter().flat_map(|name| fields.get_all(name).iter().map(move |value| (name, value)));
    let shown =
        lines.map(|(name, value)| [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()]);
    shown.collect()
}

impl UpstreamFacts {
    pub(super) fn of(to: &Destination, now: Timestamp) -> Self {
        let upstream = &to.upstream;
        let (position, endpoint) = upstream.active_endpoint();
        let paused = |held| {
            let pause = upstream.pause(&HeaderMap::new(), held, now)?;
            Some(pause.remaining.as_secs().max(1))
        };
        let budget = upstream.budget_use(now).map(|budget| BudgetFacts {
            quota: budget.quota,
            used: budget.used,
            stretch: budget.stretch,
            window_left_seconds: budget.window_left.as_secs(),
        });
        let last_failure = upstream.last_failure().map(|failure| FailureFacts {
            word: failure.why.as_str(),
            detail: failure.detail,
            ago_seconds: now.since(failure.at).as_secs(),
        });
        let mirror = to.mirror.as_ref().map(|mirror| MirrorFacts {
            is_loaded: *mirror.is_loaded().borrow(),
            gave_up: mirror.gave_up().map(GiveUpReason::as_str),
            ranges: None,
        });
        let fleet = upstream.fleet().map(|member| FleetFacts {
            has_live_lease: member.has_live_lease(),
            second_level: member.second_level().is_some(),
        });
        Self {
            endpoint: endpoint.to_string(),
            is_replica: position > 0,
            paused_seconds: PauseFacts {
                reads: paused(Held::Reads),
                writes: paused(Held::Writes),
                bodies: paused(Held::Bodies),
            },
            last_failure,
            budget,
            mirror,
            fleet,
        }
    }
}
