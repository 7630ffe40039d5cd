//! The answer to a question from the items of a collection: what the origin would answer, as a response that is stored and decided
//! about like any other.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED, LINK};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::collection::{Collection, Range};
use super::item::Item;
use super::question::{Asked, Question};
use crate::config::CachingRules;
use crate::decide::ResponseHead;
use crate::decide::storable::storable;
use crate::headers::http_date;
use crate::presented_request::PresentedRequest;
use crate::profile::app_configuration::media_type::MediaType;
use crate::profile::app_configuration::ordinal::Ordinal;
use crate::profile::app_configuration::page::{
    after_key_value, after_name, link_after, link_to_next, names_json, page_etag, page_json,
};
use crate::profile::app_configuration::select::Selection;
use crate::stored_response::StoredResponse;

/// What a mirror says to a request.
#[derive(Clone, Debug)]
pub enum Mirrored {
    /// This response, if reuse permits it.
    Response(Box<StoredResponse>),
    /// Nothing before its ranges have been validated: they do not show one state.
    Torn,
}

/// What belongs to this answer alone, before the fields that every answer has.
struct AnswerParts {
    status: StatusCode,
    media_type: Option<MediaType>,
    body: Vec<u8>,
    entity_tag: Option<String>,
    last_modified: Option<HeaderValue>,
    next: Option<String>,
}

/// Answers a question that lies within a collection which is loaded. `request` is a plain `GET` for it. `None` where only the
/// origin can answer.
#[must_use]
pub fn answer(
    collection: &Collection,
    question: &Question<'_>,
    request: &PresentedRequest,
    rules: &CachingRules,
) -> Option<Mirrored> {
    let span = question.ranges(collection);
    let ranges = collection.ranges.get(span.clone()).unwrap_or_default();
    let first = ranges.first()?;
    if question.is_list() && !collection.is_one_state(span) {
        return Some(Mirrored::Torn);
    }
    let shown = shown(collection, question, ranges)?;
    let covers = ranges
        .iter()
        .skip(1)
        .fold(first.covers, |covers, range| collection.covers_of_both(covers, range.covers));
    let oldest = ranges.iter().min_by_key(|range| range.answer.response_time).unwrap_or(first);
    let head = ResponseHead {
        status: shown.status,
        fields: fields(&shown, &oldest.answer),
        request_time: oldest.answer.request_time,
        response_time: oldest.answer.response_time,
    };
    let stored = storable(request, &head, rules)
        .and_then(|storable| storable.with_body(&head, shown.body.into(), covers, rules));
    stored.ok().map(|response| Mirrored::Response(Box::new(response)))
}

fn shown(collection: &Collection, question: &Question<'_>, ranges: &[Range]) -> Option<AnswerParts> {
    let items = ranges.iter().flat_map(|range| &range.items);
    match &question.asked {
        Asked::KeyValue { id, .. } => {
            let found = ranges.first().and_then(|range| {
                range.items.binary_search_by(|item| item.id.cmp(id)).ok().and_then(|at| range.items.get(at))
            });
            if found.is_none() && question.may_be_absent_from(collection) {
                return None;
            }
            match found.filter(|item| question.shows(item)) {
                Some(item) => one(question, item),
                None => Some(AnswerParts::empty(StatusCode::NOT_FOUND)),
            }
        }
        Asked::KeyValues { .. } => list(collection, question, items.filter(|item| question.shows(item))),
        Asked::Keys { .. } => {
            let mut last: Option<&str> = None;
            let keys = items.filter(|item| question.shows(item)).map(|item| item.id.key());
            let keys = keys.filter(|key| last.replace(key) != Some(*key)).map(Some);
            let keys = keys.take(collection.page_size() + 1).collect();
            Some(names(collection, question, MediaType::KeySet, keys))
        }
        Asked::Labels { .. } => {
            let labels = items.filter(|item| question.shows(item)).map(|item| item.id.label());
            let labels = first_labels(labels, collection.page_size() + 1);
            Some(names(collection, question, MediaType::LabelSet, labels))
        }
    }
}

/// The first labels in order, each once; "no label" comes first.
fn first_labels<'a>(labels: impl Iterator<Item = Option<&'a str>>, count: usize) -> Vec<Option<&'a str>> {
    let mut first = std::collections::BTreeSet::new();
    for label in labels {
        first.insert(label.map(Ordinal));
        if first.len() > count {
            first.pop_last();
        }
    }
    first.into_iter().map(|label| label.map(|Ordinal(label)| label)).collect()
}

fn one(question: &Question<'_>, item: &Item) -> Option<AnswerParts> {
    Some(AnswerParts {
        media_type: Some(MediaType::KeyValue),
        body: item.json(question.selection, question.version).to_vec(),
        entity_tag: Some((*item.entity_tag).to_owned()),
        last_modified: Some(http_date::format(item.last_modified()?)),
        ..AnswerParts::empty(StatusCode::OK)
    })
}

fn list<'a>(
    collection: &Collection,
    question: &Question<'_>,
    mut items: impl Iterator<Item = &'a Item>,
) -> Option<AnswerParts> {
    // An origin would not know a tag that we make of items, if its own are made otherwise.
    if !collection.computes_tags {
        return None;
    }
    let page: Vec<&Item> = items.by_ref().take(collection.page_size()).collect();
    let next = items.next().and(page.last()).map(|last| after_key_value(&last.id));
    let entity_tag = question
        .version
        .has_page_etag()
        .then(|| page_etag(page.iter().map(|item| &*item.entity_tag), next.as_deref()));
    let next = next.map(|next| link_after(question.path, question.query, &collection.forms.encode(&next)));
    let shown: Vec<_> = page.iter().map(|item| item.json(question.selection, question.version)).collect();
    let body = page_json(entity_tag.as_deref(), shown.iter().map(|item| &**item), next.as_deref());
    let media_type = Some(MediaType::KeyValueSet);
    Some(AnswerParts { media_type, body, entity_tag, next, ..AnswerParts::empty(StatusCode::OK) })
}

fn names(
    collection: &Collection,
    question: &Question<'_>,
    media_type: MediaType,
    mut names: Vec<Option<&str>>,
) -> AnswerParts {
    let continues = names.len() > collection.page_size();
    names.truncate(collection.page_size());
    let next = names.last().filter(|_| continues).map(|last| {
        let position = after_name(last.unwrap_or_default());
        link_after(question.path, question.query, &collection.forms.encode(&position))
    });
    let shows_name = question.selection.contains(Selection::NAME);
    let body = names_json(names.into_iter(), shows_name, next.as_deref());
    AnswerParts { media_type: Some(media_type), body, next, ..AnswerParts::empty(StatusCode::OK) }
}

impl AnswerParts {
    const fn empty(status: StatusCode) -> Self {
        Self { status, media_type: None, body: Vec::new(), entity_tag: None, last_modified: None, next: None }
    }
}

/// The fields of the answer: those of the origin's last answer about the oldest range, with what belongs to this one.
fn fields(shown: &AnswerParts, origin: &StoredResponse) -> HeaderMap {
    let mut fields = origin.fields.to_header_map();
    for name in [CONTENT_TYPE, CONTENT_LENGTH, ETAG, LAST_MODIFIED, LINK] {
        fields.remove(name);
    }
    let mut insert = |name, value: Option<HeaderValue>| {
        if let Some(value) = value {
            fields.insert(name, value);
        }
    };
    insert(CONTENT_TYPE, shown.media_type.map(|it| HeaderValue::from_static(it.content_type())));
    insert(ETAG, shown.entity_tag.as_ref().and_then(|tag| HeaderValue::try_from(format!("\"{tag}\"")).ok()));
    insert(LAST_MODIFIED, shown.last_modified.clone());
    insert(LINK, shown.next.as_ref().and_then(|next| HeaderValue::try_from(link_to_next(next)).ok()));
    fields
}
