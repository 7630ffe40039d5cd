//! What the answer to an own write tells a mirror: the next validation sends the tag that the page must have if nothing else changed.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use super::Mirror;
use super::item::Item;
use crate::profile::app_configuration::key_value::KeyValueId;
use crate::profile::app_configuration::query::Query;
use crate::profile::app_configuration::touches::Write;
use crate::upstream::pass_through::PassedAnswer;
use crate::upstream::result::UpstreamFailure;

/// A key-value with all that the service permits.
const LIMIT_BYTES: u64 = 64 * 1024;

/// The answer to a write has arrived already; its body is as near.
const TIME_LIMIT: Duration = Duration::from_millis(500);

impl Mirror {
    /// Takes note of what the answer to a write tells, and hands the answer on.
    ///
    /// # Errors
    /// [`UpstreamFailure`] when its body breaks off.
    pub async fn heed_write(
        &self,
        method: &Method,
        target: &PathAndQuery,
        answer: PassedAnswer,
    ) -> Result<PassedAnswer, UpstreamFailure> {
        let Write::KeyValue { key, label } = Write::of(target.path(), target.query()) else {
            return Ok(answer);
        };
        let id = KeyValueId::new(&key, label.as_deref());
        if answer.head.status != StatusCode::OK || !self.may_hold(&id) {
            return Ok(answer);
        }
        if *method == Method::DELETE && target.path().starts_with("/kv/") {
            self.predict(&id, None);
            return Ok(answer);
        }
        if !self.holds_version(target) {
            return Ok(answer);
        }
        let (answer, whole) = self.upstream().read_body(answer, LIMIT_BYTES, TIME_LIMIT).await?;
        // Its own bytes: what was read is shared with the caller.
        let item = whole.and_then(|bytes| Item::read(Bytes::copy_from_slice(&bytes)).ok());
        if let Some(item) = item.filter(|item| item.id == id) {
            self.predict(&id, Some(item));
        }
        Ok(answer)
    }

    /// Whether the answer shows a key-value as the items of the mirror do.
    fn holds_version(&self, target: &PathAndQuery) -> bool {
        let Ok(query) = Query::parse(target.query().unwrap_or_default()) else { return false };
        query.all("api-version").eq([self.read().version.as_str()]) && query.all("$select").next().is_none()
    }

    fn may_hold(&self, id: &KeyValueId) -> bool {
        let collections = &self.read().collections;
        collections.iter().any(|collection| collection.selector.filter.may_match(id.key(), id.label()))
    }

    fn predict(&self, id: &KeyValueId, state: Option<Item>) {
        // Nothing is sent: it tells where the order of sending stands.
        let now = self.upstream().session().snapshot(&[]).covers;
        let mut state_of_mirror = self.write();
        for collection in &mut state_of_mirror.collections {
            let filter = &collection.selector.filter;
            if !filter.may_match(id.key(), id.label()) {
                continue;
            }
            let state = state.clone().filter(|item| item.has_tags(&filter.tags));
            collection.predict(id, state, &now);
        }
    }
}
