//! Planned faults: which fault, for which requests, and how often.
//!
//! [`FaultPlan::decide`] is pure: it takes facts about a request, the time and a random source, and returns a
//! [`Fault`]. [`act`] carries the fault out. If several rules match a request, their delays add up and every change to
//! the head is made. Of interruptions and of body faults, only the first in the order of the plan takes effect.

pub mod act;
pub mod body;
pub mod document;
pub mod head;
pub mod help;
pub mod kind;
pub mod quota;
pub mod severable;

use std::time::Duration;

use http::Method;
use serde_json::Value;

use self::document::{PlanDocument, RuleDocument};
use self::head::{HeadFault, TokenForm};
use self::kind::{Delay, DropPoint, FaultKind, Framing, Policy, RetryAfter, WriteAnswer};
use self::quota::Quota;
use crate::clock::Timestamp;

/// The facts about a request that a rule can match.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The method as sent.
    pub method: &'a Method,
    /// The path, percent-decoded.
    pub path: &'a str,
}

/// The fault of one request. The default is no fault.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// The delay before the request is processed.
    pub delay: Duration,
    /// What replaces the normal answer.
    pub interruption: Option<Interruption>,
    /// The faults of the answer's head.
    pub head: HeadFault,
    /// The fault of the answer's body.
    pub body: Option<BodyFault>,
}

impl Fault {
    /// Whether there is no fault.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What replaces the normal answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Interruption {
    /// Answered with an error and not carried out.
    Refuse(Refusal),
    /// The connection ends without a byte of an answer; the request is not carried out.
    DropBeforeHead,
    /// Carried out; the connection ends after this many bytes of the answer's head.
    DropWithinHead {
        /// Bytes of the head that are still sent.
        after_bytes: u64,
    },
    /// A write whose caller does not learn the outcome in time.
    Write {
        /// The answer that the caller gets.
        answer: LostAnswer,
        /// How long after the answer the write is applied; `None`: before the answer.
        applied_after: Option<Duration>,
    },
}

/// What the caller of a write gets when the true answer is lost.
#[derive(Clone, Debug, PartialEq)]
pub enum LostAnswer {
    /// A closed connection.
    Nothing,
    /// The true answer, late by this duration. The write is applied before it.
    Late(Duration),
    /// An error, although the write is applied.
    Refused(Refusal),
}

/// An error of the origin's front end, which does not carry the request out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 429, 503, or the status in the plan.
    pub status: u16,
    /// The value of `retry-after-ms`; `None` leaves the field out.
    pub retry_after: Option<Duration>,
    /// The exhausted quota that a 429's body names.
    pub policy: Policy,
}

/// A fault of the answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// Sent in pieces with pauses between them.
    Slow {
        /// Size of a piece, in bytes.
        chunk_bytes: usize,
        /// The pause before every piece but the first.
        interval: Duration,
    },
    /// The connection is cut after this many bytes.
    Drop {
        /// Bytes of the body that are still sent.
        after_bytes: usize,
    },
    /// The body ends after this many bytes. `Content-Length` is either correct for them or that of the whole body.
    Truncate {
        /// Bytes of the body that are still sent.
        after_bytes: usize,
        /// Whether `Content-Length` is that of the bytes sent (true) or that of the whole body (false).
        framed: bool,
    },
}

/// The rules in force, each with its counts.
#[derive(Debug, Default)]
pub struct FaultPlan {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    document: RuleDocument,
    /// The written form of the rule, for reports.
    source: Value,
    quotas: Vec<Quota>,
    matched: u64,
    fired: u64,
}

impl FaultPlan {
    /// A plan whose counts are zero.
    pub fn new(document: PlanDocument) -> Self {
        let rules = document.into_rules().map(|(document, source)| Rule::new(document, source)).collect();
        Self { rules }
    }

    /// Whether the plan has no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The fault of this request. Counts the request, so call it once for each.
    pub fn decide(&mut self, request: RequestFacts<'_>, now: Timestamp, rng: &mut fastrand::Rng) -> Fault {
        let mut fault = Fault::default();
        for rule in &mut self.rules {
            if rule.is_met(request, rng) && rule.apply(request, now, rng, &mut fault) {
                rule.fired += 1;
            }
        }
        fault
    }

    /// The rules in their written form, each with `matched` (requests that its conditions match) and `fired` (requests
    /// that got its fault).
    pub fn report(&self) -> Value {
        let rules = self.rules.iter().map(|rule| {
            let mut shown = rule.source.clone();
            if let Value::Object(members) = &mut shown {
                members.insert("matched".to_owned(), rule.matched.into());
                members.insert("fired".to_owned(), rule.fired.into());
            }
            shown
        });
        serde_json::json!({ "faults": rules.collect::<Vec<_>>() })
    }
}

impl Rule {
    fn new(document: RuleDocument, source: Value) -> Self {
        let quotas = match &document.fault {
            FaultKind::Throttle { quota, per, burst, burst_per, .. } => [(quota, per), (burst, burst_per)]
                .into_iter()
                .filter_map(|(limit, per)| limit.map(|limit| Quota::new(limit, *per)))
                .collect(),
            _ => Vec::new(),
        };
        Self { document, source, quotas, matched: 0, fired: 0 }
    }

    /// Whether the rule's conditions match the request. Counts the match.
    fn is_met(&mut self, request: RequestFacts<'_>, rng: &mut fastrand::Rng) -> bool {
        let conditions = &self.document;
        if !conditions.method.is_empty()
            && !conditions.method.iter().any(|method| method == request.method.as_str())
        {
            return false;
        }
        if !conditions.path.as_deref().is_none_or(|pattern| path_matches(pattern, request.path)) {
            return false;
        }
        self.matched += 1;
        self.matched > conditions.skip
            && conditions.count.is_none_or(|count| self.fired < count)
            && (conditions.probability >= 1.0 || rng.f64() < conditions.probability)
    }

    /// Adds this rule's fault to `fault`. Returns false if the fault does not apply to this request.
    fn apply(
        &mut self,
        request: RequestFacts<'_>,
        now: Timestamp,
        rng: &mut fastrand::Rng,
        fault: &mut Fault,
    ) -> bool {
        match &self.document.fault {
            FaultKind::Delay(delay) => fault.delay += drawn(delay, rng),
            FaultKind::Throttle { retry_after, policy, .. } => {
                let Some(exhausted) = exhausted(&mut self.quotas, now) else { return false };
                let retry_after = retry_after.map_or(Some(exhausted), RetryAfter::field);
                let refusal = Refusal { status: 429, retry_after, policy: *policy };
                return interrupt(fault, Interruption::Refuse(refusal));
            }
            FaultKind::Unavailable { status, retry_after } => {
                let refusal =
                    Refusal { status: *status, retry_after: retry_after.field(), policy: Policy::default() };
                return interrupt(fault, Interruption::Refuse(refusal));
            }
            FaultKind::Drop { at, after_bytes } => match at {
                DropPoint::BeforeHead => return interrupt(fault, Interruption::DropBeforeHead),
                DropPoint::WithinHead => {
                    return interrupt(
                        fault,
                        Interruption::DropWithinHead { after_bytes: *after_bytes as u64 },
                    );
                }
                DropPoint::WithinBody => return spoil(fault, BodyFault::Drop { after_bytes: *after_bytes }),
            },
            FaultKind::SlowBody { chunk_bytes, interval } => {
                return spoil(
                    fault,
                    BodyFault::Slow { chunk_bytes: (*chunk_bytes).max(1), interval: *interval },
                );
            }
            FaultKind::Truncate { after_bytes, framing } => {
                let framed = *framing == Framing::Consistent;
                return spoil(fault, BodyFault::Truncate { after_bytes: *after_bytes, framed });
            }
            FaultKind::Write { answer, delay, retry_after, applied_after } => {
                if request.method.is_safe() {
                    return false;
                }
                let answer = match answer {
                    WriteAnswer::Lost => LostAnswer::Nothing,
                    WriteAnswer::Late => LostAnswer::Late(*delay),
                    WriteAnswer::Unavailable => LostAnswer::Refused(Refusal {
                        status: 503,
                        retry_after: retry_after.field(),
                        policy: Policy::default(),
                    }),
                };
                return interrupt(fault, Interruption::Write { answer, applied_after: *applied_after });
            }
            FaultKind::NoLinkOn304 {} => fault.head.no_link_on_304 = true,
            FaultKind::WeakEtags {} => fault.head.weak_etags = true,
            FaultKind::NoSyncToken {} => fault.head.tokens = TokenForm::Absent,
            FaultKind::SyncTokenLines {} => fault.head.tokens = TokenForm::TwoLines,
            FaultKind::MalformedSyncToken { value } => fault.head.tokens = TokenForm::Replaced(value.clone()),
        }
        true
    }
}

/// Sets the interruption, unless an earlier rule set one.
fn interrupt(fault: &mut Fault, interruption: Interruption) -> bool {
    let first = fault.interruption.is_none();
    if first {
        fault.interruption = Some(interruption);
    }
    first
}

/// Sets the body fault, unless an earlier rule set one.
fn spoil(fault: &mut Fault, body: BodyFault) -> bool {
    let first = fault.body.is_none();
    if first {
        fault.body = Some(body);
    }
    first
}

/// Uses the quotas. `Some` is the time until an exhausted quota is available again. Without any quota every request is
/// refused, and the time is one second.
fn exhausted(quotas: &mut [Quota], now: Timestamp) -> Option<Duration> {
    if quotas.is_empty() {
        return Some(Duration::from_secs(1));
    }
    if let Some(wait) = quotas.iter_mut().filter_map(|quota| quota.exhausted_for(now)).max() {
        return Some(wait);
    }
    for quota in quotas {
        quota.take();
    }
    None
}

/// Draws a delay from its distribution.
fn drawn(delay: &Delay, rng: &mut fastrand::Rng) -> Duration {
    match *delay {
        Delay::Fixed(fixed) => fixed,
        Delay::Uniform { min, max } => min + (max - min).mul_f64(rng.f64()),
        // The inverse of the cumulative distribution; `1 - f64()` is never 0, so the logarithm is finite.
        Delay::Exponential { mean, max } => mean.mul_f64(-(1.0 - rng.f64()).ln()).min(max),
    }
}

/// Whether a pattern matches a path. A final `*` matches any rest; without it the whole path must be equal.
fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    }
}

#[cfg(test)]
mod tests;
