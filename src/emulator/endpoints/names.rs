//! `/keys` and `/labels`: each name once. The answers have no entity tag, so conditions do not apply.

use super::list::with_links;
use crate::emulator::answer::Answer;
use crate::emulator::configuration_store::ConfigurationStore;
use crate::emulator::page::{Page, decode_name};
use crate::emulator::presented::ApiRequest;
use crate::emulator::problem::Problem;
use crate::profile::app_configuration::filter::TextFilter;
use crate::profile::app_configuration::media_type::MediaType;
use crate::profile::app_configuration::ordinal::Ordinal;
use crate::profile::app_configuration::page::{after_name, names_json, next_link};
use crate::profile::app_configuration::select::Selection;

/// `GET` and `HEAD /keys`.
pub fn keys(
    request: &ApiRequest<'_>,
    store: &ConfigurationStore,
    name: &TextFilter,
) -> Result<Answer, Problem> {
    let after = position(request)?;
    let page =
        Page::take(store.key_values.keys(name, after.as_deref(), request.view).map(Some), request.page_size);
    Ok(answer_names(request, MediaType::KeySet, &page))
}

/// `GET` and `HEAD /labels`. "No label" comes first, as null.
pub fn labels(
    request: &ApiRequest<'_>,
    store: &ConfigurationStore,
    name: &TextFilter,
) -> Result<Answer, Problem> {
    let after = position(request)?;
    let labels = store.key_values.labels(name, request.view);
    // Labels are never empty, so the empty string is the position after "no label".
    let is_later = |label: &Option<&str>| {
        after.as_deref().is_none_or(|after| Ordinal(label.unwrap_or_default()) > Ordinal(after))
    };
    let labels = labels.into_iter().map(|label| label.map(|Ordinal(label)| label));
    let page = Page::take(labels.filter(is_later), request.page_size);
    Ok(answer_names(request, MediaType::LabelSet, &page))
}

fn position(request: &ApiRequest<'_>) -> Result<Option<String>, Problem> {
    request.after()?.map(decode_name).transpose()
}

fn answer_names(request: &ApiRequest<'_>, media_type: MediaType, page: &Page<Option<&str>>) -> Answer {
    let next =
        page.next(|last| next_link(request.path, request.raw_query, &after_name(last.unwrap_or_default())));
    let shows_name = request.selection.contains(Selection::NAME);
    let body = names_json(page.items.iter().copied(), shows_name, next.as_deref()).into();
    with_links(request, Answer::ok(request.content_type(media_type), body), next.as_deref())
}
