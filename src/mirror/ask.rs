//! One request for the page of a range, shared with all that ask for the same.

use std::sync::Arc;

use http::header::{ETAG, LINK};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::collection::{Collection, RangeAnswer};
use super::give_up::GiveUpReason;
use super::{Mirror, MirrorState};
use crate::body::budget::StoredShare;
use crate::decide::storable::NotStored;
use crate::error::ProxyError;
use crate::headers::cache_control::RequestDirectives;
use crate::headers::conditional::Preconditions;
use crate::presented_request::PresentedRequest;
use crate::profile::app_configuration::key_value::KeyValueId;
use crate::profile::app_configuration::page::{after_key_value, link_after, link_to_next, page_json};
use crate::stored_response::{CacheKey, StoredFields, StoredResponse};
use crate::sync_token::aggregate::PresentedTokens;
use crate::sync_token::coverage::Coverage;
use crate::upstream::collapse::Role;
use crate::upstream::result::{LeaderResult, SharedResponse, SharedResult, UpstreamFailure};
use crate::upstream::retrieval::{Retrieval, Validates};
use crate::upstream::second_level::RecordDemand;

/// Why a range was not validated.
pub(super) enum PollError {
    /// The origin gave no answer: it is asked again later.
    Failed(UpstreamFailure),
    /// The mirror cannot go on.
    GiveUp(GiveUpReason),
}

/// An answer about a range.
pub(super) struct RangeReceived {
    pub(super) of_range: RangeAnswer,
    /// The status that came: 304 if the page is as it was.
    pub(super) status: StatusCode,
    /// The mirror asked itself. Another request for the same may have had no condition.
    is_own: bool,
}

impl Mirror {
    /// Asks for the page of a range, with the tag of what is held.
    pub(super) async fn ask(
        &self,
        index: usize,
        anchor: Option<&KeyValueId>,
        satisfies: impl Fn(Coverage) -> bool,
        presented: &PresentedTokens,
    ) -> Result<RangeAnswer, PollError> {
        let held = {
            let state = self.read();
            state.collections.get(index).and_then(|collection| held_page(&state, collection, anchor))
        };
        let tag = held.as_ref().and_then(|held| held.fields.get(&ETAG).map(<[u8]>::to_vec));
        let demand = RecordDemand { presented: presented.clone(), lifetime: Some(self.interval()) };
        let received = self.send(index, anchor, held, satisfies, Some(demand)).await;
        match &received {
            Ok(received) if received.status == StatusCode::NOT_MODIFIED => self.metrics.unchanged.inc(),
            Ok(_) => self.metrics.changed.inc(),
            Err(_) => self.metrics.failed.inc(),
        }
        let received = received?;
        let is_same = tag.is_some() && received.of_range.response.fields.get(&ETAG) == tag.as_deref();
        if is_same && received.is_own && received.status == StatusCode::OK {
            return Err(PollError::GiveUp(GiveUpReason::Condition));
        }
        Ok(received.of_range)
    }

    /// Sends it; `held` is what a 304 is about, `demand` what a record of the fleet must be to answer it.
    pub(super) async fn send(
        &self,
        index: usize,
        anchor: Option<&KeyValueId>,
        held: Option<Arc<StoredResponse>>,
        satisfies: impl Fn(Coverage) -> bool,
        demand: Option<RecordDemand>,
    ) -> Result<RangeReceived, PollError> {
        let target = {
            let state = self.read();
            state.collections.get(index).map(|collection| target(&state, collection, anchor))
        };
        let target = target.and_then(|target| target.parse::<PathAndQuery>().ok());
        let target = target.ok_or(PollError::GiveUp(GiveUpReason::Name))?;
        let request = Arc::new(request(CacheKey::new(self.upstream().name(), "", target.as_str())));
        if let Some(hold) = self.hold() {
            return Err(PollError::Failed(self.upstream().heed(hold)));
        }
        let key = request.key.clone();
        let retrieval = Retrieval {
            upstream: self.upstream(),
            request,
            target,
            rules: Arc::clone(&self.setup().rules),
            validates: Validates::Mirrored(held),
            demand,
        };
        let mut is_own = true;
        let upstream = self.upstream();
        let result = match upstream.join(&key, satisfies) {
            (Role::Lead(leader), snapshot) => retrieval.lead(leader, snapshot).await,
            (Role::Follow(follower), _) => match follower.result().await {
                Some(SharedResult::NotShared { .. } | SharedResult::Arriving(_)) | None => {
                    let snapshot = self.upstream().session().snapshot(&[]);
                    Some(retrieval.ask(snapshot, std::future::pending()).await)
                }
                Some(result) => {
                    is_own = false;
                    Some(LeaderResult::Shared(result))
                }
            },
        };
        self.received(result).map(|(of_range, status)| RangeReceived { of_range, status, is_own })
    }

    fn received(&self, result: Option<LeaderResult>) -> Result<(RangeAnswer, StatusCode), PollError> {
        match result {
            Some(
                LeaderResult::Shared(SharedResult::Response(shared)) | LeaderResult::Stored { shared, .. },
            ) => {
                let SharedResponse { response, status, known_since, .. } = shared;
                if response.status != StatusCode::OK {
                    return Err(self.failed(format!("it answered a page of a list with {}", response.status)));
                }
                // Bytes of its own: those that were received count as buffered while they are kept.
                let body = bytes::Bytes::copy_from_slice(&response.body);
                let share = StoredShare::default();
                let response = Arc::new(StoredResponse { body, share, ..(*response).clone() });
                // Counted after the answer: what is sent from here on is asked for later.
                let arrived = known_since.unwrap_or_else(|| self.upstream().session().sent_order());
                Ok((RangeAnswer { response, arrived }, status))
            }
            Some(LeaderResult::Shared(SharedResult::Failed(failure))) => Err(PollError::Failed(failure)),
            Some(LeaderResult::Alone(alone)) if alone.head.status == StatusCode::BAD_REQUEST => {
                Err(PollError::GiveUp(GiveUpReason::Version))
            }
            Some(LeaderResult::Alone(alone)) if is_lasting(alone.not_stored, alone.head.status) => {
                Err(PollError::GiveUp(GiveUpReason::NotStored))
            }
            Some(LeaderResult::Alone(alone)) => Err(self.failed(format!(
                "it answered {}, which was not stored ({})",
                alone.head.status,
                alone.not_stored.as_str()
            ))),
            Some(LeaderResult::Only { not_stored, .. }) => {
                Err(self.failed(format!("its answer was not stored ({})", not_stored.as_str())))
            }
            Some(LeaderResult::Shared(_)) | None => {
                Err(self.failed("the fetch ended without an answer".to_owned()))
            }
        }
    }

    fn failed(&self, cause: String) -> PollError {
        let upstream = self.upstream().authority().to_string();
        PollError::Failed(ProxyError::BrokenAnswer { upstream, cause: cause.into() }.into())
    }
}

/// Whether the next answer will not be stored either.
fn is_lasting(not_stored: NotStored, status: StatusCode) -> bool {
    status == StatusCode::OK && not_stored.is_lasting()
}

/// The canonical target of the page of a range.
pub(super) fn target(state: &MirrorState, collection: &Collection, anchor: Option<&KeyValueId>) -> String {
    let after = anchor.map(|anchor| decoded(&collection.forms.encode(&after_key_value(anchor))));
    collection.selector.target(state.version.as_str(), after.as_deref())
}

/// The page of a range as the response that is validated. `None` if its tag is not known.
fn held_page(
    state: &MirrorState,
    collection: &Collection,
    anchor: Option<&KeyValueId>,
) -> Option<Arc<StoredResponse>> {
    let index = collection.ranges.iter().position(|range| range.anchor.as_ref() == anchor)?;
    let (page, range) = (collection.page(index), collection.ranges.get(index)?);
    let entity_tag = page.entity_tag.filter(|_| state.version.has_page_etag())?;
    let target = target(state, collection, anchor);
    let (path, query) = target.split_once('?')?;
    let next = page.next.map(|next| link_after(path, query, &collection.forms.encode(&next)));
    let mut fields = range.answer.fields.to_header_map();
    fields.insert(ETAG, HeaderValue::try_from(format!("\"{entity_tag}\"")).ok()?);
    match &next {
        Some(next) => fields.insert(LINK, HeaderValue::try_from(link_to_next(next)).ok()?),
        None => fields.remove(LINK),
    };
    fields.remove(http::header::CONTENT_LENGTH);
    let items = page.items.iter().map(|item| &*item.json);
    let body = page_json(Some(&entity_tag), items, next.as_deref()).into();
    let fields = StoredFields::pack(&fields);
    Some(Arc::new(StoredResponse { fields, body, covers: range.covers, ..(*range.answer).clone() }))
}

/// A position as it stands in a query before it is percent-encoded.
fn decoded(after: &str) -> String {
    percent_encoding::percent_decode_str(after).decode_utf8_lossy().into_owned()
}

/// A plain `GET`.
fn request(key: CacheKey) -> PresentedRequest {
    PresentedRequest {
        key,
        post_target: None,
        method: Method::GET,
        fields: HeaderMap::new(),
        directives: RequestDirectives::default(),
        preconditions: Preconditions::default(),
        range: None,
        names_caller: false,
        names_ids: false,
        authorized: false,
        private_partition: false,
    }
}
