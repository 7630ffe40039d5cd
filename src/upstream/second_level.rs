//! The second level: a retrieval that is about to ask the origin looks for what another member of the fleet has asked, and publishes what it
//! learns itself.
//!
//! ```text
//! record ──▶ covered and fresh here? ── yes ──▶ as if the origin had answered it to this sidecar
//!                │ no                                  (a change that it shows is recorded like any other)
//!                └─▶ lease ── given ──▶ the origin is asked, and the answer published
//!                      └─ another member has it ──▶ the record is looked at again, until L has passed; then the origin is asked
//! ```
//!
//! What a record is worth is decided by the same rule as what is stored ([`reuse`]). Its age is that by the engine's clock, or by the wall
//! clocks of the two members if these make it greater by more than [`CLOCK_TOLERANCE`]: an engine that gives old records as new gains no
//! more than that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderValue, Method, StatusCode};

use super::result::{LeaderResult, SharedResponse};
use super::retrieval::{Retrieval, Validates};
use crate::clock::{Timestamp, instant};
use crate::config::caching::Consistency;
use crate::credentials::partition::Identity;
use crate::decide::age::current_age;
use crate::decide::reuse::reuse;
use crate::decide::{Decision, ResponseHead, Reuse, Staleness};
use crate::fleet::member::{FleetMember, Membership};
use crate::fleet::message::{Announced, RecordHead, SealedAs, TokenRecord};
use crate::headers::entity_tag::EntityTag;
use crate::headers::vary;
use crate::stored_response::StoredResponse;
use crate::stored_response::record::FieldNames;
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::{Coverage, CoverageVerdict, FleetCoverage};
use crate::sync_token::session::{Received, SessionSnapshot};

/// How long a member waits before it looks at a record again.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// By how much the wall clocks of members may differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// No larger body is shared.
const BODY_LIMIT_BYTES: usize = 4 << 20;

/// How long the engine keeps a record beyond its lifetime.
const LEAST_KEPT: Duration = Duration::from_secs(60);
const LONGEST_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What a record must be for a retrieval.
#[derive(Clone, Debug)]
pub struct RecordDemand {
    /// What the caller's tokens demand.
    pub presented: PresentedTokens,
    /// How long a validation counts, where that is not the lifetime of the response.
    pub lifetime: Option<Duration>,
}

/// What the second level says to a retrieval.
pub(super) enum SecondLevel {
    /// This is the result.
    Taken(LeaderResult),
    /// The origin is to be asked. With a permit the answer is published.
    Ask(Option<RecordPermit>),
}

/// The right to renew a record.
pub(super) struct RecordPermit {
    member: Arc<FleetMember>,
    membership: Membership,
    record: String,
    fence: u64,
    /// What is there.
    held: Option<HeldRecord>,
}

struct HeldRecord {
    entity_tag: Option<Vec<u8>>,
    body_digest: [u8; 32],
    content_since: u64,
}

/// What is known of an answer beside the response.
pub(super) struct Observed {
    /// What was sent.
    pub(super) covers: Coverage,
    /// What its head brought.
    pub(super) received: Received,
}

impl Observed {
    pub(super) fn of(snapshot: &SessionSnapshot, received: &Received) -> Self {
        Self { covers: snapshot.covers, received: received.clone() }
    }
}

impl Retrieval {
    /// Looks into the second level, and waits for another member that asks already.
    pub(super) async fn second_level(&self, in_hand: Option<&Arc<StoredResponse>>) -> SecondLevel {
        let nothing = SecondLevel::Ask(None);
        let (Some(member), Some(demand)) = (self.upstream.fleet(), &self.demand) else { return nothing };
        if !self.may_be_shared(in_hand.map(|held| &**held)) {
            return nothing;
        }
        member.started().await;
        let Some(membership) = member.second_level() else { return nothing };
        let key = &self.request.key;
        // Each member has its own name for the upstream.
        let key = format!("{}\0{}", key.partition_and_fields(), key.canonical_target());
        let record = membership.seal.name_of(key.as_bytes());
        let until = instant() + member.lease();
        let (mut pause, mut wants_lease) = (FIRST_PAUSE, false);
        loop {
            let Ok(looked_up) = member.look_up(&membership, &record, wants_lease).await else {
                member.metrics().record("alone");
                return nothing;
            };
            let mut held = None;
            if let Some(sealed) = &looked_up.head {
                let opened =
                    membership.seal.open(sealed, SealedAs::Head { run: &membership.run, record: &record });
                let head =
                    opened.as_deref().and_then(|opened| postcard::from_bytes::<RecordHead<'_>>(opened).ok());
                match head {
                    Some(head) => {
                        let taken = self.take(member, &membership, &record, &head, demand, in_hand).await;
                        if let Some(result) = taken {
                            if looked_up.fence.is_some() {
                                member.release(&membership, &record).await;
                            }
                            member.metrics().record("taken");
                            return SecondLevel::Taken(result);
                        }
                        held = head.response.to_response().ok().map(|response| HeldRecord {
                            entity_tag: response.fields.get(&ETAG).map(<[u8]>::to_vec),
                            body_digest: head.body_digest,
                            content_since: head.content_since,
                        });
                    }
                    None => member.metrics().record("refused"),
                }
            }
            if let Some(fence) = looked_up.fence {
                member.metrics().record("asked");
                let member = Arc::clone(member);
                return SecondLevel::Ask(Some(RecordPermit { member, membership, record, fence, held }));
            }
            if wants_lease {
                if instant() + pause >= until {
                    member.metrics().record("alone");
                    return nothing;
                }
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            wants_lease = true;
        }
    }

    /// Whether what another member of the fleet has asked is looked for before the origin is asked.
    #[must_use]
    pub fn asks_fleet_first(&self, in_hand: Option<&StoredResponse>) -> bool {
        self.upstream.fleet().is_some_and(|member| member.second_level().is_some())
            && self.may_be_shared(in_hand)
    }

    /// Whether the answer goes into the store, and not into a mirror.
    const fn stores(&self) -> bool {
        !matches!(self.validates, Validates::Mirrored(_))
    }

    /// Whether the answer may be for others than this sidecar's callers, and of others.
    fn may_be_shared(&self, in_hand: Option<&StoredResponse>) -> bool {
        let request = &self.request;
        let directives = &request.directives;
        let demands_origin = directives.no_cache
            || directives.no_store
            || directives.max_age.is_some_and(|max_age| max_age.is_zero())
            || request.preconditions.is_for_origin();
        // What is validated at each use is asked for by each.
        let is_never_fresh = |held: &StoredResponse| {
            held.policy.no_cache || (held.policy.freshness_lifetime.is_zero() && self.stores())
        };
        !demands_origin
            && self.method() == Method::GET
            && self.rules.consistency != Consistency::Strong
            && !in_hand.is_some_and(is_never_fresh)
            && request.range.is_none()
            && !request.private_partition
            && Identity::outlives_process(request.key.partition())
            && self.upstream.hit_for_miss(request).is_none()
    }

    /// What a record comes to here; `None` where it may not answer.
    async fn take(
        &self,
        member: &FleetMember,
        membership: &Membership,
        record: &str,
        head: &RecordHead<'_>,
        demand: &RecordDemand,
        in_hand: Option<&Arc<StoredResponse>>,
    ) -> Option<LeaderResult> {
        let (upstream, session) = (&self.upstream, self.upstream.session());
        let now = upstream.now();
        let tokens = FleetCoverage {
            tokens: TokenRecord::tokens(&head.sent),
            position: head.position,
            is_immutable: head.is_immutable,
        };
        let covers = session.map_fleet(&tokens, head.sent_at_millis, now)?;
        let received_tokens = TokenRecord::tokens(&head.received);
        // Whatever becomes of it: what is asked from here on is at least as new.
        session.observe_fleet(&received_tokens, now);
        let response = head.response.to_response().ok()?;
        if !vary::selects(&response.selecting, &self.request.fields) || response.range.is_some() {
            return None;
        }
        let age = age_of(head, &response, membership, now)?;
        let exchange_took = response.response_time.since(response.request_time);
        let response_time = now.minus(age);
        let mut response = StoredResponse {
            request_time: response_time.minus(exchange_took),
            response_time,
            covers,
            is_mirrored: false,
            ..response
        };
        let configured = if response.policy.configured { Some(self.rules.freshness?) } else { None };
        if let Some(lifetime) = demand.lifetime.or(configured) {
            // Each member has its own.
            response.policy.freshness_lifetime = lifetime;
        }
        let judged = self.request.as_validation();
        let verdict = |covers| upstream.verdict(&self.request, covers, &demand.presented, &self.rules);
        let decision = reuse(&judged, Some(&response), true, verdict(covers), &self.rules, now);
        let is_fresh = matches!(decision, Decision::Reuse(Reuse { staleness: Staleness::Fresh, .. }));
        if !is_fresh || !self.is_worth_taking(&response, demand, in_hand, now) {
            return None;
        }
        let same = in_hand.filter(|held| shows_same(held, &response));
        let status = if same.is_some() { StatusCode::NOT_MODIFIED } else { response.status };
        let body = match same {
            Some(held) => held.body.clone(),
            None => {
                let body = member.body(membership, record, &head.body_digest).await.ok()??;
                (digest_of(&body) == head.body_digest).then(|| Bytes::from(body))?
            }
        };
        let response = StoredResponse { body, ..response };
        let of_answer = ResponseHead {
            status,
            fields: response.fields.to_header_map(),
            request_time: response.request_time,
            response_time: response.response_time,
        };
        let known_since = Some(session.order_before_entry(head.content_since));
        let received = Received { tokens: received_tokens, origin_time: head.origin_time, known_since };
        let snapshot = SessionSnapshot { covers, sync_token: None, sent_newest: true };
        match self.put_of_fleet(response, &of_answer, &snapshot, &received) {
            LeaderResult::Stored { shared, withheld } => {
                let shared = SharedResponse { known_since, ..shared };
                Some(LeaderResult::Stored { shared, withheld })
            }
            _ => None,
        }
    }

    /// Whether a record tells more than what is in hand: it covers more, or was validated clearly later.
    fn is_worth_taking(
        &self,
        record: &StoredResponse,
        demand: &RecordDemand,
        in_hand: Option<&Arc<StoredResponse>>,
        now: Timestamp,
    ) -> bool {
        let Some(held) = in_hand else { return true };
        let lifetime = demand.lifetime.unwrap_or(held.policy.freshness_lifetime);
        let verdict = self.upstream.verdict(&self.request, held.covers, &demand.presented, &self.rules);
        verdict != CoverageVerdict::Covered
            || current_age(held, now) >= lifetime
            || record.response_time.since(held.response_time) > lifetime / 4
    }

    /// Publishes what the origin answered, in a task of its own.
    pub(super) fn publish(&self, permit: RecordPermit, result: &LeaderResult, observed: Observed) {
        let response = match result {
            LeaderResult::Stored { shared, .. } => Some(&shared.response),
            _ => None,
        };
        let is_shareable = |response: &Arc<StoredResponse>| {
            response.range.is_none()
                && !response.policy.no_cache
                && response.body.len() <= BODY_LIMIT_BYTES
                && (!self.stores() || !response.policy.freshness_lifetime.is_zero())
        };
        let response = response.filter(|response| is_shareable(response)).cloned();
        let this = self.clone();
        tokio::spawn(async move {
            let published = match &response {
                Some(response) => this.publish_now(&permit, response, observed).await,
                None => None,
            };
            if published.is_none() {
                permit.member.release(&permit.membership, &permit.record).await;
            }
        });
    }

    async fn publish_now(
        &self,
        permit: &RecordPermit,
        response: &StoredResponse,
        observed: Observed,
    ) -> Option<()> {
        let RecordPermit { member, membership, record, fence, held } = permit;
        let session = self.upstream.session();
        let FleetCoverage { tokens: sent, position, is_immutable } =
            session.fleet_coverage(observed.covers)?;
        let digest = digest_of(&response.body);
        let entity_tag = response.fields.get(&ETAG);
        let is_same = held.as_ref().is_some_and(|held| held.body_digest == digest);
        let content_since = match held {
            Some(held) if is_same && held.entity_tag.as_deref() == entity_tag => held.content_since,
            // Others may hold what was there before. And what is sent after this entry was read was sent after this answer.
            _ => {
                let what = Announced::Change {
                    partition: self.request.key.partition_and_fields(),
                    target: self.request.key.canonical_target(),
                    entity_tag: serde_bytes::Bytes::new(entity_tag.unwrap_or_default()),
                };
                member.announce(0, what, &observed.received.tokens).await.ok()?
            }
        };
        let clock = membership.clock.as_ref()?;
        let earliest = |at: Timestamp| {
            let ago = u64::try_from(self.upstream.now().since(at).as_millis()).unwrap_or(u64::MAX);
            clock.earliest(instant()).saturating_sub(ago.saturating_add(1))
        };
        let names = FieldNames::of(response);
        let head = RecordHead {
            sent_at_millis: earliest(response.request_time),
            validated_at_millis: earliest(response.response_time),
            position,
            content_since,
            is_immutable,
            sent: TokenRecord::all(&sent),
            received: TokenRecord::all(&observed.received.tokens),
            origin_time: observed.received.origin_time,
            body_digest: digest,
            response: names.record(response, b""),
        };
        let (run, seal) = (&membership.run, &membership.seal);
        let head = seal.seal_value(&head, SealedAs::Head { run, record })?;
        let body = if is_same {
            None
        } else {
            Some(seal.seal(&response.body, SealedAs::Body { record, digest: &digest })?)
        };
        let keep = (response.policy.freshness_lifetime * 2).clamp(LEAST_KEPT, LONGEST_KEPT);
        member.publish(membership, (record, *fence), (head, body), keep).await.ok()?;
        member.metrics().record("published");
        Some(())
    }
}

/// How old a record is at the most; `None` where the engine's clock is not known.
fn age_of(
    head: &RecordHead<'_>,
    response: &StoredResponse,
    membership: &Membership,
    now: Timestamp,
) -> Option<Duration> {
    let by_engine = membership.clock.as_ref()?.age(head.validated_at_millis, instant());
    let by_wall_clocks = now.since(response.response_time).saturating_sub(CLOCK_TOLERANCE);
    Some(by_engine.max(by_wall_clocks))
}

/// Whether a response has the bytes of a record, by its strong entity tag.
fn shows_same(held: &StoredResponse, record: &StoredResponse) -> bool {
    let tag = |response: &StoredResponse| -> Option<HeaderValue> {
        HeaderValue::from_bytes(response.fields.get(&ETAG)?).ok()
    };
    let (Some(held_tag), Some(tag)) = (tag(held), tag(record)) else { return false };
    let tags = EntityTag::parse(held_tag.as_bytes()).zip(EntityTag::parse(tag.as_bytes()));
    held.status == record.status
        && held.range.is_none()
        && tags.is_some_and(|(one, other)| one.matches_strongly(other))
}

fn digest_of(body: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, body).as_ref());
    digest
}
