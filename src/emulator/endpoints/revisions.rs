//! `/revisions`: every version of each key-value, newest first for each key and label. Deletions are not listed.

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, RANGE};
use http::{HeaderValue, StatusCode};

use super::list::{PageItem as _, answer_page};
use crate::emulator::answer::Answer;
use crate::emulator::configuration_store::ConfigurationStore;
use crate::emulator::page::{Page, after_revision, decode_revision};
use crate::emulator::presented::ApiRequest;
use crate::emulator::problem::Problem;
use crate::profile::app_configuration::filter::KeyValueFilter;
use crate::profile::app_configuration::media_type::MediaType;
use crate::profile::app_configuration::page::page_json;

/// `GET` and `HEAD /revisions`.
pub fn revisions(
    request: &ApiRequest<'_>,
    store: &ConfigurationStore,
    filter: KeyValueFilter,
) -> Result<Answer, Problem> {
    let filter = request.understood(filter);
    let after = request.after()?.map(decode_revision).transpose()?;
    let all = store.key_values.revisions(&filter, after.as_ref(), request.view);
    if let Some(range) = range(request) {
        let items: Vec<Bytes> = all.map(|(_, stored)| (&stored).json(request)).collect();
        return answer_range(request, &items, range);
    }
    let page = Page::take(all, request.page_size);
    let next = page.next(|(number, last)| after_revision(&last.key_value.id, *number));
    let items: Vec<_> = page.items.into_iter().map(|(_, stored)| stored).collect();
    let answer = answer_page(request, &items, next.as_deref())?;
    Ok(answer.with(ACCEPT_RANGES, HeaderValue::from_static("items")))
}

/// `Range: items=first-last`, counted from 0, both inclusive; without `last`, to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ItemRange {
    first: usize,
    last: usize,
}

/// The range that a request asks for. An invalid range is ignored (RFC 9110 §14.2).
fn range(request: &ApiRequest<'_>) -> Option<ItemRange> {
    let text = request.headers.get(RANGE)?.to_str().ok()?;
    let (first, last) = text.trim_ascii().strip_prefix("items=")?.split_once('-')?;
    let first = first.parse().ok()?;
    let last = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
    (first <= last).then_some(ItemRange { first, last })
}

fn answer_range(request: &ApiRequest<'_>, items: &[Bytes], range: ItemRange) -> Result<Answer, Problem> {
    // An answer has at most one page of items, so the range is cut to that.
    let end =
        range.last.saturating_add(1).min(range.first.saturating_add(request.page_size)).min(items.len());
    let part = items.get(range.first..end).filter(|part| !part.is_empty());
    let part = part.ok_or(Problem::RangeNotSatisfiable(items.len()))?;
    let body = page_json(None, part.iter().map(|item| &**item), None).into();
    let answer = Answer::ok(request.content_type(MediaType::KeyValueSet), body)
        .with(ACCEPT_RANGES, HeaderValue::from_static("items"))
        .with(CONTENT_RANGE, format!("items {}-{}/{}", range.first, end - 1, items.len()));
    Ok(Answer { status: StatusCode::PARTIAL_CONTENT, ..answer })
}
