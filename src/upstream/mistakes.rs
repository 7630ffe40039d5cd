//! What an upstream does when a clause of the coverage rule is taken away: the mistake that the clause forbids. In test builds
//! alone.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::ETAG;

use super::Upstream;
use super::retrieval::Retrieval;
use crate::clock::Timestamp;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::Coverage;
use crate::sync_token::resource_order::OrderScope;
use crate::sync_token::session::{Received, Revelation, SessionSnapshot};

/// How late news is recorded that is recorded too late.
const LATE: Duration = Duration::from_millis(500);

impl Upstream {
    /// `news_before_answer`: an answer is passed on before its tokens are recorded.
    pub(super) fn observe_late(&self, sent: Coverage, fields: HeaderMap, now: Timestamp) {
        let session = Arc::clone(&self.state.session);
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            let _received = session.observe(sent, &fields, now);
        });
    }

    /// `news_before_answer`: an answer is passed on before the change that it shows is recorded.
    pub(super) fn reveal_late(
        &self,
        snapshot: &SessionSnapshot,
        received: &Received,
        revelation: Revelation,
        scope: OrderScope,
    ) -> u64 {
        let session = Arc::clone(&self.state.session);
        let (snapshot, received) = (snapshot.clone(), received.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            let _covers = session.reveal(&snapshot, &received, revelation, scope);
        });
        0
    }

    /// `exempts_only_dated_singles`: what nothing dates is exempted as well.
    pub(super) fn mistaken_revelation(&self, revelation: Revelation, is_judged: bool) -> Revelation {
        let is_exempted = !self.state.session.clauses().exempts_only_dated_singles() && !is_judged;
        if is_exempted { Revelation::Included } else { revelation }
    }

    /// `list_validation_needs_equal_tag`: a list validates each item that it contains, as if it showed the stored tag.
    pub(super) fn mistaken_item_tag<'a>(&self, stored: &'a StoredResponse, shown: &'a str) -> &'a str {
        if self.state.session.clauses().list_validation_needs_equal_tag() {
            return shown;
        }
        stored.fields.get(&ETAG).and_then(|tag| std::str::from_utf8(tag).ok()).unwrap_or(shown)
    }
}

impl Retrieval {
    /// `freshens_the_one_in_hand`: a 304 freshens the response that the store holds by now.
    pub(super) fn of_what_the_store_holds(&self, freshened: StoredResponse) -> StoredResponse {
        if self.upstream.state.session.clauses().freshens_the_one_in_hand() {
            return freshened;
        }
        match self.upstream.stored(&self.request) {
            Some(held) => {
                StoredResponse { body: held.body.clone(), fields: held.fields.clone(), ..freshened }
            }
            None => freshened,
        }
    }
}
