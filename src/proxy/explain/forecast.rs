//! What the path decides about a request, before anything is done.

use http::{HeaderMap, HeaderValue};

use super::super::destination::Destination;
use super::super::look_up::LookUp;
use super::super::outcome::{Outcome, Reply, forwarded, unanswered, without_mirror};
use super::super::request_context::RequestContext;
use super::facts::{
    AnswerFacts, ChangeFacts, CoverageFacts, Explanation, ForwardFacts, RangesFacts, StoreFacts, StoredFacts,
    TargetFacts, UpstreamFacts,
};
use super::{because, is_follower};
use crate::clock::Timestamp;
use crate::decide::{ForwardReason, Staleness};
use crate::error::ProxyError;
use crate::headers::cache_status::{CACHE_STATUS, CacheStatus};
use crate::respond::{self, OwnFields};
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::CoverageVerdict;

/// See the module.
pub(super) struct Forecast {
    status: CacheStatus<'static>,
    /// The status of the answer; `None` where the origin decides it.
    answer: Option<u16>,
    /// What a caller is told that gets no answer.
    problem: Option<String>,
    reason: Option<ForwardReason>,
    staleness: Option<Staleness>,
    forward: Option<ForwardFacts>,
    if_no_answer: Option<AnswerFacts>,
    store: Option<StoreFacts>,
    coverage: Option<CoverageFacts>,
    ranges: Option<RangesFacts>,
}

impl Forecast {
    /// An outcome for which the origin is not asked.
    pub(super) fn of(outcome: Result<Outcome, ProxyError>) -> Self {
        let (status, answer, problem) = match outcome {
            Ok(Outcome { status, reply: Reply::Stored { request, response, age_seconds, .. }, .. }) => {
                let own = OwnFields {
                    cache_status: status,
                    sync_token: None,
                    via: HeaderValue::from_static("1.1 tagalong"),
                };
                let answer = respond::from_stored(&request, &response, age_seconds.unwrap_or_default(), own);
                (status, Some(answer.status().as_u16()), None)
            }
            Ok(Outcome { status, reply: Reply::Failed(error), .. }) => {
                (status, Some(error.status().as_u16()), Some(error.to_string()))
            }
            Ok(Outcome { status, reply: Reply::Upstream(reply), .. }) => {
                (status, Some(reply.status.as_u16()), None)
            }
            Err(error) => (unanswered(&error), Some(error.status().as_u16()), Some(error.to_string())),
        };
        Self {
            status,
            answer,
            problem,
            reason: None,
            staleness: None,
            forward: None,
            if_no_answer: None,
            store: None,
            coverage: None,
            ranges: None,
        }
    }

    /// The origin is asked.
    pub(super) fn forwarded(to: &Destination, reason: ForwardReason, forward: ForwardFacts) -> Self {
        let collapsed = forward.joins.and_then(|joins| is_follower(joins).then_some(true));
        Self {
            status: without_mirror(forwarded(reason, collapsed), to),
            answer: None,
            problem: None,
            reason: Some(reason),
            staleness: None,
            forward: Some(forward),
            if_no_answer: None,
            store: None,
            coverage: None,
            ranges: None,
        }
    }

    /// Why the store does not answer as it is.
    pub(super) fn because_of(self, reason: ForwardReason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// The permission under which the store answers.
    pub(super) fn stale(self, staleness: Staleness) -> Self {
        Self { staleness: Some(staleness), ..self }
    }

    /// What answers if the origin does not.
    pub(super) fn or_else(self, other: Self) -> Self {
        let Self { status, answer, problem, .. } = other;
        let facts = AnswerFacts { status: answer, cache_status: text_of(status), problem };
        Self { if_no_answer: Some(facts), ..self }
    }

    /// A refusal comes before everything else.
    pub(super) fn unless_refused(self, refused: Option<ProxyError>) -> Self {
        let Some(error) = refused else { return self };
        let Self { store, coverage, ranges, .. } = self;
        Self { store, coverage, ranges, ..Self::of(Err(error)) }
    }

    /// With what the look-up found.
    pub(super) fn looked_up(
        self,
        to: &Destination,
        context: &RequestContext,
        found: &LookUp,
        variants: usize,
        now: Timestamp,
    ) -> Self {
        let upstream = &to.upstream;
        let stored = found.stored.as_deref();
        let coverage = stored.map(|stored| {
            let scope = upstream.order_scope(&context.request.key, &context.rules);
            let last_change = upstream.last_change(scope).map(|change| ChangeFacts {
                is_after_stored: change.is_news_to(stored.covers),
                target: change.target,
                status: change.status.as_u16(),
                ago_seconds: now.since(change.at).as_secs(),
            });
            CoverageFacts {
                verdict: match context.verdict(to, stored.covers) {
                    CoverageVerdict::Covered => "covered",
                    CoverageVerdict::Unverified(reason) | CoverageVerdict::Outdated(reason) => {
                        reason.as_str()
                    }
                },
                stored: stored.covers.into(),
                required: upstream.session().required(scope).into(),
                presented_version: match &context.presented {
                    PresentedTokens::Known { required_version } => Some(*required_version),
                    PresentedTokens::Unknown(_) => None,
                },
                open_writes: upstream.open_writes(&context.request.key),
                last_change,
            }
        });
        let ranges = to.mirror.as_ref().and_then(|mirror| mirror.ranges_for(&context.request));
        let ranges = ranges.map(|ranges| RangesFacts {
            collection: ranges.collection_index,
            count: ranges.ranges,
            of: ranges.of,
            oldest_seconds: ranges.oldest.as_secs(),
            lifetime_seconds: ranges.lifetime.as_secs(),
        });
        let selected = stored.map(|stored| StoredFacts::of(to, stored, now));
        Self { store: Some(StoreFacts { variants, selected }), coverage, ranges, ..self }
    }

    /// The explanation.
    pub(super) fn explained(self, request: TargetFacts, mut upstream: UpstreamFacts) -> Explanation {
        let because = self.because();
        let words = text_of(self.status);
        let words = words.strip_prefix("tagalong; ").unwrap_or(&words);
        let (decision, summary) = match (self.answer, &self.problem, &self.forward) {
            (_, None, Some(_)) => ("forward", format!("{words}: the origin is asked, because {because}")),
            (Some(status), Some(_), _) => {
                let word = self.status.detail.unwrap_or("refused");
                ("refused", format!("refused with {status} ({word}): {because}"))
            }
            _ => ("hit", format!("hit: answered from the store{}", self.age_and_why(&because))),
        };
        if let Some(mirror) = &mut upstream.mirror {
            mirror.ranges = self.ranges;
        }
        let next = match (self.staleness, self.reason, decision) {
            (_, Some(reason), "forward" | "hit") => because::next(reason),
            _ => None,
        };
        Explanation {
            summary,
            decision,
            cache_status: text_of(self.status),
            status: self.answer,
            because,
            next,
            request,
            store: self.store,
            coverage: self.coverage,
            forward: self.forward,
            if_no_answer: self.if_no_answer,
            upstream,
        }
    }

    fn because(&self) -> String {
        match (&self.problem, self.staleness, self.reason) {
            (Some(problem), ..) => problem.clone(),
            (None, Some(staleness), _) => because::of_staleness(staleness).to_owned(),
            (None, None, Some(reason)) => because::of_forward(reason).to_owned(),
            (None, None, None) => "the origin is not asked at the moment".to_owned(),
        }
    }

    fn age_and_why(&self, because: &str) -> String {
        let selected = self.store.as_ref().and_then(|store| store.selected.as_ref());
        let age = selected.map_or_else(String::new, |stored| {
            let lifetime = stored.stretched_lifetime_seconds.unwrap_or(stored.lifetime_seconds);
            format!(" (age {} s of {lifetime} s)", stored.age_seconds)
        });
        match self.status.detail {
            Some(word) => format!("{age}; detail={word}, because {because}"),
            None => age,
        }
    }
}

/// The field value that an answer carries.
fn text_of(status: CacheStatus<'_>) -> String {
    let mut fields = HeaderMap::new();
    status.append_to(&mut fields);
    let value = fields.get(CACHE_STATUS).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}
