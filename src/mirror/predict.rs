//! What the answer to an own write tells a mirror: the next validation sends the tag that the page must have if nothing else changed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use super::Mirror;
use super::item::Item;
use crate::body::budget::BufferBudget;
use crate::profile::app_configuration::key_value::KeyValueId;
use crate::profile::app_configuration::query::Query;
use crate::profile::app_configuration::touches::Write;
use crate::transport::answer_body::{Chained, WholeBody, read_whole};
use crate::upstream::pass_through::PassedAnswer;

/// A key-value with all that the service permits.
const LIMIT_BYTES: u64 = 64 * 1024;

/// The answer to a write has arrived already; its body is as near.
const TIME_LIMIT: Duration = Duration::from_millis(500);

impl Mirror {
    /// Takes note of what the answer to a write tells, and hands the answer on.
    pub async fn heed_write(
        &self,
        method: &Method,
        target: &PathAndQuery,
        answer: PassedAnswer,
        buffers: &Arc<BufferBudget>,
    ) -> PassedAnswer {
        let Write::KeyValue { key, label } = Write::of(target.path(), target.query()) else { return answer };
        let id = KeyValueId::new(&key, label.as_deref());
        if answer.head.status != StatusCode::OK || !self.may_hold(&id) {
            return answer;
        }
        if *method == Method::DELETE && target.path().starts_with("/kv/") {
            self.predict(&id, None);
            return answer;
        }
        if !self.holds_version(target) {
            return answer;
        }
        let PassedAnswer { head, body, covers, sync_token } = answer;
        let body = match read_whole(body, LIMIT_BYTES, TIME_LIMIT, buffers, std::future::pending()).await {
            WholeBody::Complete(bytes) => {
                // Its own bytes: what was read is shared with the caller.
                let item = Item::read(Bytes::copy_from_slice(&bytes));
                if let Some(item) = item.ok().filter(|item| item.id == id) {
                    self.predict(&id, Some(item));
                }
                bytes.into()
            }
            WholeBody::Partly { read, rest, .. } => Chained::of(read, rest),
            WholeBody::Broken(_) | WholeBody::Abandoned => crate::body::FlowingBody::Empty,
        };
        PassedAnswer { head, body, covers, sync_token }
    }

    /// Whether the answer shows a key-value as the items of the mirror do.
    fn holds_version(&self, target: &PathAndQuery) -> bool {
        let Ok(query) = Query::parse(target.query().unwrap_or_default()) else { return false };
        query.all("api-version").eq([self.read().version.as_str()]) && query.all("$select").next().is_none()
    }

    fn may_hold(&self, id: &KeyValueId) -> bool {
        let may_match = |filter: &crate::profile::app_configuration::filter::KeyValueFilter| {
            filter.may_match(id.key(), id.label())
        };
        self.read().collections.iter().any(|collection| may_match(&collection.selector.filter))
    }

    fn predict(&self, id: &KeyValueId, state: Option<Item>) {
        // Nothing is sent: it tells where the order of sending stands.
        let now = self.upstream.session().snapshot(&[]).covers;
        let mut state_of_mirror = self.write();
        for collection in &mut state_of_mirror.collections {
            let filter = &collection.selector.filter;
            if !filter.may_match(id.key(), id.label()) {
                continue;
            }
            let is_selected =
                |item: &Item| filter.tags.is_empty() || filter.matches(id.key(), id.label(), &item.tags());
            let state = state.clone().filter(is_selected);
            collection.predict(id, state, &now);
        }
    }
}
