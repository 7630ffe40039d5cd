//! Acting as a member of a fleet: joins, reads what the others announce, and announces own writes. [`crate::fleet`] states the rules.
//!
//! Invariant: an entry counts as read once its tokens are in newest and its write is in the log, and the lease is renewed after that. So what
//! is sent or answered under a live lease includes it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LOCATION, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::Upstream;
use super::shown;
use crate::fleet::engine::EngineError;
use crate::fleet::member::{FleetMember, HeardEntry, JoinedRun, OwnWrite};
use crate::fleet::message::{Announced, Message, TokenRecord};
use crate::profile::Footprint;
use crate::store::StoreChange;
use crate::stored_response::CacheKey;
use crate::sync_token::fleet_order::FleetWrite;
use crate::sync_token::token::SyncToken;
use crate::sync_token::write_log::WriteId;

/// How long a member waits before it joins again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How an own write went, for its announcement.
pub(super) struct ClosedOwnWrite<'a> {
    pub(super) write: WriteId,
    pub(super) method: &'a Method,
    pub(super) target: &'a PathAndQuery,
    /// `None`: there was no answer.
    pub(super) answer: Option<(StatusCode, &'a HeaderMap)>,
    pub(super) tokens: &'a [SyncToken],
}

impl Upstream {
    /// The membership of this upstream.
    #[must_use]
    pub fn fleet(&self) -> Option<&Arc<FleetMember>> {
        self.settings.fleet.as_ref()
    }

    /// Whether it is a member of a fleet whose lease has run out.
    #[must_use]
    pub fn is_without_fleet(&self) -> bool {
        self.settings.fleet.as_ref().is_some_and(|member| member.is_lost())
    }

    /// Joins the fleet and reads its entries until the task is dropped. `changed` is told the canonical targets of which another member
    /// has seen another state.
    pub async fn follow_fleet(&self, changed: impl Fn(&str) + Send + Sync) {
        let Some(member) = &self.settings.fleet else { return };
        let mut pause = FIRST_PAUSE;
        loop {
            let endpoint = self.settings.endpoints.position();
            let error = match self.join_fleet(member, &changed).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    self.take_turns(member, endpoint, &changed).await
                }
                Err(error) => error,
            };
            if self.settings.endpoints.position() == endpoint {
                member.failed(error);
            } else {
                // Tokens mean nothing at another endpoint, and neither does what its members announce.
                member.leave();
                continue;
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            member.note_lease();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes turns until one fails, or another endpoint is asked.
    async fn take_turns(
        &self,
        member: &FleetMember,
        endpoint: usize,
        changed: &(impl Fn(&str) + Send + Sync),
    ) -> EngineError {
        while self.settings.endpoints.position() == endpoint {
            let Some(read) = self.state.session.fleet_read() else { return EngineError::Forgot };
            match member.turn(read).await {
                Ok(heard) => {
                    heard.entries.iter().for_each(|entry| self.hear(member, entry, changed));
                    if let Some(millis) = member.latest_millis() {
                        self.state.session.fleet_moment(millis);
                    }
                    member.renew(&heard);
                }
                Err(error) => return error,
            }
        }
        EngineError::Away
    }

    async fn join_fleet(
        &self,
        member: &FleetMember,
        changed: &(impl Fn(&str) + Send + Sync),
    ) -> Result<(), EngineError> {
        let (_, endpoint) = self.settings.endpoints.active();
        let joined = member.join(endpoint.client.authority().as_str()).await?;
        let JoinedRun { is_other, last, history, tokens } = joined;
        let (session, now) = (&self.state.session, self.state.clock.now());
        let known_from = history.first().map_or(last, |entry| entry.number - 1);
        let goes_on = session.fleet_read().is_some_and(|read| (known_from..=last).contains(&read));
        if is_other || !goes_on {
            member.metrics().epochs.inc();
            session.join_fleet(known_from, &tokens, now);
        } else {
            session.observe_fleet(&tokens, now);
        }
        // Before anything new is read: who reads this learns what the run before may have lost.
        let (writes, has_forgotten) = member.to_announce_again();
        let mut announced = Vec::new();
        if has_forgotten {
            let number = member.announce_forgotten().await?;
            session.all_announced(number);
        }
        for write in &writes {
            let this = FleetWrite { member: member.id(), serial: write.serial() };
            announced.push((this, member.announce_again(write).await?));
        }
        if is_other {
            let newest = session.newest();
            if !newest.is_empty() {
                member.announce(0, Announced::Tokens, &newest).await?;
            }
        }
        let read = session.fleet_read().unwrap_or_default();
        history
            .iter()
            .filter(|entry| entry.number > read)
            .for_each(|entry| self.hear(member, entry, changed));
        for (write, number) in announced {
            session.own_write_announced(write, number);
        }
        Ok(())
    }

    /// Takes in an entry.
    fn hear(&self, member: &FleetMember, entry: &HeardEntry, changed: &(impl Fn(&str) + Send + Sync)) {
        let session = &self.state.session;
        let message =
            entry.opened.as_deref().and_then(|opened| postcard::from_bytes::<Message<'_>>(opened).ok());
        match message {
            Some(message) if message.member == member.id() => {
                let Message { member, serial, .. } = message;
                session.own_write_announced(FleetWrite { member, serial }, entry.number);
            }
            Some(message) => {
                let what = self.hear_of_another(&message, entry.number, changed);
                member.metrics().heard(what);
            }
            None => {
                // What it says is not known, so it may be anything.
                let of_nobody = FleetWrite { member: 0, serial: entry.number };
                session.close_fleet_write(of_nobody, Footprint::Everything, entry.number);
                member.metrics().heard("refused");
                tracing::warn!(
                    upstream = self.settings.name,
                    "an entry of the fleet is not sealed with its key: see who else can write to the engine"
                );
            }
        }
        session.fleet_heard(entry.number);
    }

    fn hear_of_another(
        &self,
        message: &Message<'_>,
        number: u64,
        changed: &(impl Fn(&str) + Send + Sync),
    ) -> &'static str {
        let (session, now) = (&self.state.session, self.state.clock.now());
        session.observe_fleet(&TokenRecord::tokens(&message.tokens), now);
        let write = FleetWrite { member: message.member, serial: message.serial };
        match &message.what {
            Announced::Write { method, target, status, named, entity_tag } => {
                if let Some(tag) = entity_tag {
                    // A read that shows what a member wrote shows no news of anybody else.
                    session.remember_own_tag(tag);
                }
                let footprint = self.footprint(method, target, *status, named);
                self.settings.profile.observe_write(&footprint);
                session.close_fleet_write(write, footprint, number);
                "write"
            }
            Announced::Anything => {
                session.close_fleet_write(write, Footprint::Everything, number);
                "anything"
            }
            Announced::Change { partition, target, entity_tag } => {
                self.outdate_other_states(&CacheKey::new(&self.settings.name, partition, target), entity_tag);
                changed(target);
                "change"
            }
            Announced::Tokens => "tokens",
        }
    }

    /// What a write of another member may have changed. Everything, if it is not understood.
    fn footprint(
        &self,
        method: &str,
        target: &str,
        status: u16,
        named: &[(&str, &serde_bytes::Bytes)],
    ) -> Footprint {
        let (Ok(method), Ok(target)) = (Method::try_from(method), PathAndQuery::try_from(target)) else {
            return Footprint::Everything;
        };
        let footprint = self.settings.profile.footprint(&method, &target);
        let Ok(status) = StatusCode::from_u16(status) else { return footprint };
        let fields = named.iter().filter_map(|(name, value)| {
            Some((HeaderName::try_from(*name).ok()?, HeaderValue::from_bytes(value).ok()?))
        });
        self.settings.profile.footprint_of_answer(footprint, status, &fields.collect())
    }

    /// Takes out what is stored with another entity tag than another member was shown.
    fn outdate_other_states(&self, key: &CacheKey, entity_tag: &[u8]) {
        let Some(variants) = self.state.store.variants(key) else { return };
        for response in variants.as_slice() {
            if shown::tag_of(&response.fields.to_header_map()) != Some(entity_tag) {
                self.state.store.update(key, &mut |current| {
                    let left = current.and_then(|variants| variants.without(&response.selecting));
                    left.map_or(StoreChange::Remove, StoreChange::Put)
                });
            }
        }
    }

    /// Announces an own write that has closed, before its caller is answered.
    pub(super) async fn announce_write(&self, closed: ClosedOwnWrite<'_>) {
        let Some(member) = &self.settings.fleet else { return };
        let (session, at) = (&self.state.session, self.state.clock.now());
        let write = FleetWrite { member: member.id(), serial: closed.write.number() };
        let no_fields = HeaderMap::new();
        let (status, fields) = closed.answer.unwrap_or((StatusCode::OK, &no_fields));
        let named = [LOCATION, CONTENT_LOCATION]
            .iter()
            .filter_map(|name| Some((name.as_str(), serde_bytes::Bytes::new(fields.get(name)?.as_bytes()))));
        let tells = status.is_success() && *closed.method != Method::DELETE;
        let what = Announced::Write {
            method: closed.method.as_str(),
            target: closed.target.as_str(),
            status: closed.answer.map_or(0, |(status, _)| status.as_u16()),
            named: named.collect(),
            entity_tag: shown::tag_of(fields).filter(|_| tells).map(serde_bytes::Bytes::new),
        };
        let own = OwnWrite::new(write, what, closed.tokens, at);
        let announced = |number| session.own_write_announced(write, number);
        member.announce_write(own, self.settings.settle_time, announced).await;
    }
}
