//! Faults on demand: what the emulator does wrong, to which requests, and how often.
//!
//! [`FaultPlan::decide`] is pure: facts about a request, the time and a random source in, a [`Fault`] out. Acting on the
//! fault is [`act`]'s. A request may meet several rules: their delays add up, every change to the head is made, and of
//! interruptions and body faults the first in the plan's order happens.

pub mod act;
pub mod body;
pub mod document;
pub mod head;
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

/// What a rule may look at.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The method as sent.
    pub method: &'a Method,
    /// The path, percent-decoded.
    pub path: &'a str,
}

/// What goes wrong with one request. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// Waited before the request is looked at.
    pub delay: Duration,
    /// What happens in the place of an ordinary answer.
    pub interruption: Option<Interruption>,
    /// What is changed in the answer's head.
    pub head: HeadFault,
    /// What happens to the answer's body.
    pub body: Option<BodyFault>,
}

impl Fault {
    /// Whether the request is treated like any other.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens in the place of an ordinary answer.
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
    /// A write whose outcome its sender does not learn in time.
    Write {
        /// What the sender gets.
        answer: LostAnswer,
        /// How long after that the write takes effect; `None`: before.
        lands_after: Option<Duration>,
    },
}

/// What the sender of a write gets when the answer to it goes astray.
#[derive(Clone, Debug, PartialEq)]
pub enum LostAnswer {
    /// A closed connection.
    Nothing,
    /// The true answer, this late; the write has taken effect by then.
    Late(Duration),
    /// An error, although the write takes effect.
    Refused(Refusal),
}

/// An error that the origin's front end would give (protocol §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 429 or 503, or what the plan says.
    pub status: u16,
    /// `retry-after-ms`; `None` sends none.
    pub retry_after: Option<Duration>,
    /// The exhausted quota that a 429's body names.
    pub policy: Policy,
}

/// What happens to the answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// Sent in pieces with pauses between them.
    Slow {
        /// Size of a piece, in bytes.
        chunk_bytes: usize,
        /// The pause before every piece but the first.
        interval: Duration,
    },
    /// The connection is torn down after this many bytes.
    Drop {
        /// Bytes of the body that are still sent.
        after_bytes: usize,
    },
    /// The body ends after this many bytes; the framing says so (`Content-Length` fits) or not.
    Truncate {
        /// Bytes of the body that are still sent.
        after_bytes: usize,
        /// Whether `Content-Length` names the bytes sent (true) or those that there should have been.
        framed: bool,
    },
}

/// The rules in force, with how often each has been met.
#[derive(Debug, Default)]
pub struct FaultPlan {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    document: RuleDocument,
    /// The rule as it was given, for showing it.
    source: Value,
    quotas: Vec<Quota>,
    matched: u64,
    fired: u64,
}

impl FaultPlan {
    /// A plan in which nothing has happened yet.
    #[must_use]
    pub fn new(document: PlanDocument) -> Self {
        let rules = document.into_rules().map(|(document, source)| Rule::new(document, source)).collect();
        Self { rules }
    }

    /// Whether the plan has no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What goes wrong with this request. Counts it, so ask once a request.
    pub fn decide(&mut self, request: RequestFacts<'_>, now: Timestamp, rng: &mut fastrand::Rng) -> Fault {
        let mut fault = Fault::default();
        for rule in &mut self.rules {
            if rule.is_met(request, rng) && rule.apply(request, now, rng, &mut fault) {
                rule.fired += 1;
            }
        }
        fault
    }

    /// The rules as they were given, each with `matched` (requests that its conditions fit) and `fired` (requests that it
    /// spoiled).
    #[must_use]
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

    /// Whether the rule's conditions fit the request; counts the match.
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

    /// Adds this rule's fault to the others'; false when it has nothing to spoil here.
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
            FaultKind::Write { answer, delay, retry_after, lands_after } => {
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
                return interrupt(fault, Interruption::Write { answer, lands_after: *lands_after });
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

/// Puts an interruption in, unless an earlier rule did.
fn interrupt(fault: &mut Fault, interruption: Interruption) -> bool {
    let first = fault.interruption.is_none();
    if first {
        fault.interruption = Some(interruption);
    }
    first
}

/// Puts a body fault in, unless an earlier rule did.
fn spoil(fault: &mut Fault, body: BodyFault) -> bool {
    let first = fault.body.is_none();
    if first {
        fault.body = Some(body);
    }
    first
}

/// Takes from the quotas. `Some`: one is exhausted, and ends in that time; without any quota every request is too many,
/// and a second is what the sender should wait.
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

/// A delay as its distribution gives it.
fn drawn(delay: &Delay, rng: &mut fastrand::Rng) -> Duration {
    match *delay {
        Delay::Fixed(fixed) => fixed,
        Delay::Uniform { min, max } => min + (max - min).mul_f64(rng.f64()),
        // The inverse of the cumulative distribution; `1 - f64()` is never 0, so the logarithm is finite.
        Delay::Exponential { mean, max } => mean.mul_f64(-(1.0 - rng.f64()).ln()).min(max),
    }
}

/// `*` at the end of a pattern stands for anything; without it the whole path must be equal.
fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    }
}

#[cfg(test)]
mod tests;
