//! `/kv`: the list of key-values that filters select or that a snapshot holds, and the page form that `/revisions`
//! shares.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ETAG, LINK};

use crate::emulator::answer::Answer;
use crate::emulator::configuration_store::ConfigurationStore;
use crate::emulator::key_values::{StoredKeyValue, quoted_etag};
use crate::emulator::page::{Page, decode_key_value};
use crate::emulator::presented::ApiRequest;
use crate::emulator::problem::Problem;
use crate::profile::app_configuration::filter::KeyValueFilter;
use crate::profile::app_configuration::key_value::{KeyValue, KeyValueId};
use crate::profile::app_configuration::media_type::MediaType;
use crate::profile::app_configuration::page::{
    after_key_value, header_safe, link_to_next, next_link, page_etag, page_json,
};

/// `GET` and `HEAD /kv`.
pub fn key_values(
    request: &ApiRequest<'_>,
    store: &ConfigurationStore,
    filter: KeyValueFilter,
) -> Result<Answer, Problem> {
    let filter = request.understood(filter);
    let after = request.after()?.map(decode_key_value).transpose()?;
    let page = Page::take(store.key_values.list(&filter, after.as_ref(), request.view), request.page_size);
    let next = page.next(|last| after_key_value(&last.key_value.id));
    answer_page(request, &page.items, next.as_deref())
}

/// `GET` and `HEAD /kv?snapshot={name}`: an empty list when the snapshot is missing, provisioning or failed.
pub fn snapshot_key_values(
    request: &ApiRequest<'_>,
    store: &ConfigurationStore,
    snapshot: &str,
) -> Result<Answer, Problem> {
    let after = request.after()?.map(decode_key_value).transpose()?;
    let items = store.find_snapshot(snapshot, request.view, request.now);
    let items = items.map_or(&[][..], |snapshot| snapshot.shown_items(request.now));
    let is_later = |id: &KeyValueId| after.as_ref().is_none_or(|after| id > after);
    let page = Page::take(items.iter().filter(|item| is_later(&item.id)), request.page_size);
    let next = page.next(|last| after_key_value(&last.id));
    answer_page(request, &page.items, next.as_deref())
}

/// An item of a page.
pub trait PageItem {
    /// Its entity tag.
    fn etag(&self) -> &str;
    /// Its JSON in the form that the request asks for.
    fn json(&self, request: &ApiRequest<'_>) -> Bytes;
}

impl PageItem for &Arc<StoredKeyValue> {
    fn etag(&self) -> &str {
        &self.key_value.etag
    }

    fn json(&self, request: &ApiRequest<'_>) -> Bytes {
        StoredKeyValue::json(self, request.selection, request.version)
    }
}

impl PageItem for &Arc<KeyValue> {
    fn etag(&self) -> &str {
        &self.etag
    }

    fn json(&self, request: &ApiRequest<'_>) -> Bytes {
        // Serialising strings, booleans and a map with string keys cannot fail.
        serde_json::to_vec(&self.view(request.selection, request.version)).unwrap_or_default().into()
    }
}

/// A page of key-values or revisions. Its tag is compared in every api-version and shown from `2023-10-01` on. A 304
/// has the link to the next page: without it clients stop and miss changes on later pages.
pub fn answer_page<T: PageItem>(
    request: &ApiRequest<'_>,
    items: &[T],
    next: Option<&str>,
) -> Result<Answer, Problem> {
    let etag = page_etag(items.iter().map(PageItem::etag), next);
    let next = next.map(|next| next_link(request.path, request.raw_query, next));
    let shown_etag = request.version.has_page_etag().then_some(etag.as_str());
    let answer = request.conditional(&etag, || {
        let items: Vec<Bytes> = items.iter().map(|item| item.json(request)).collect();
        let body = page_json(shown_etag, items.iter().map(|item| &**item), next.as_deref()).into();
        let answer = Answer::ok(request.content_type(MediaType::KeyValueSet), body);
        if let Some(etag) = shown_etag { answer.with(ETAG, quoted_etag(etag)) } else { answer }
    })?;
    Ok(with_links(request, answer, next.as_deref()))
}

/// Adds `Link`: first the next page, because the JavaScript client reads only the first value; then, for an answer from
/// the past, the link `rel="original"` to the present state. A 304 never carries `rel="original"` alone, because the
/// JavaScript client would throw.
pub fn with_links(request: &ApiRequest<'_>, answer: Answer, next: Option<&str>) -> Answer {
    let travels = request.view.before.is_some_and(|before| before <= request.now);
    let next = next.map(link_to_next);
    let original =
        (travels && (next.is_some() || answer.status != http::StatusCode::NOT_MODIFIED)).then(|| {
            let separator = if request.raw_query.is_empty() { "" } else { "?" };
            format!(
                "<{}{separator}{}>; rel=\"original\"",
                header_safe(request.path),
                header_safe(request.raw_query)
            )
        });
    let links: Vec<String> = next.into_iter().chain(original).collect();
    if links.is_empty() { answer } else { answer.with(LINK, links.join(", ")) }
}
