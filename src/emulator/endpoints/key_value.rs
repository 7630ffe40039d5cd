//! `/kv/{key}` and `/locks/{key}`.

use http::StatusCode;
use http::header::{ETAG, LAST_MODIFIED};

use crate::emulator::answer::Answer;
use crate::emulator::configuration_store::{ConfigurationStore, KeyValueWrite, Written};
use crate::emulator::key_values::StoredKeyValue;
use crate::emulator::precondition::Precondition;
use crate::emulator::presented::ApiRequest;
use crate::emulator::problem::Problem;
use crate::profile::app_configuration::filter::TagFilter;
use crate::profile::app_configuration::json_object::JsonObject;
use crate::profile::app_configuration::key_value::{KeyValueContent, KeyValueId, check_key, check_name};
use crate::profile::app_configuration::media_type::MediaType;

/// The maximum size of a key-value with all its attributes, and of a request body.
pub const MAXIMUM_KEY_VALUE_BYTES: usize = 10 * 1024;

/// `GET` and `HEAD /kv/{key}`. A missing key-value gives 404 before any condition is checked.
pub fn read(
    request: &ApiRequest<'_>,
    store: &ConfigurationStore,
    key: &str,
    label: Option<&str>,
    tags: &[TagFilter],
) -> Result<Answer, Problem> {
    let found = store.key_values.find(key, label, request.view).ok_or(Problem::NotFound)?;
    let tags = if request.version.has_tags_on_key_value() { tags } else { &[] };
    if !tags.iter().all(|tag| tag.matches(&found.key_value.content.tags)) {
        return Err(Problem::NotFound);
    }
    request.conditional(&found.key_value.etag, || show(request, found))
}

/// Parses and checks a write to `/kv/{key}` or `/locks/{key}`, except its condition.
///
/// # Errors
/// 400, 413, 415; 400 too if `if_match_required` and the write names no concurrency strategy.
pub fn parse_write(
    request: &ApiRequest<'_>,
    key: &str,
    label: Option<&str>,
    is_lock: bool,
    if_match_required: bool,
) -> Result<(KeyValueId, KeyValueWrite), Problem> {
    check_key(key).map_err(|error| Problem::invalid("key", error))?;
    check_name(label.unwrap_or_default()).map_err(|error| Problem::invalid("label", error))?;
    if if_match_required && request.precondition == Precondition::None {
        return Err(Problem::PreconditionRequired);
    }
    let write = match (is_lock, request.method.as_str()) {
        (true, "PUT") => KeyValueWrite::SetLocked(true),
        (true, _) => KeyValueWrite::SetLocked(false),
        (false, "DELETE") => KeyValueWrite::Delete,
        (false, _) => KeyValueWrite::Put(content(request, key, label)?),
    };
    Ok((KeyValueId::new(key, label), write))
}

/// The answer to a write that succeeded.
pub fn written(request: &ApiRequest<'_>, written: &Written) -> Answer {
    let answer = match &written.shown {
        Some(stored) => show(request, stored),
        None => Answer::empty(StatusCode::NO_CONTENT),
    };
    Answer { shown: Some(written.sequence_number), ..answer }
}

fn show(request: &ApiRequest<'_>, stored: &StoredKeyValue) -> Answer {
    let content_type = request.content_type(MediaType::KeyValue);
    Answer::ok(content_type, stored.json(request.selection, request.version))
        .with(ETAG, stored.etag.clone())
        .with(LAST_MODIFIED, stored.last_modified.clone())
}

fn content(request: &ApiRequest<'_>, key: &str, label: Option<&str>) -> Result<KeyValueContent, Problem> {
    request.require_body(|content_type| MediaType::KeyValue.accepts(content_type))?;
    let JsonObject(mut content): JsonObject<KeyValueContent> =
        serde_json::from_slice(request.body).map_err(|error| Problem::invalid("body", error))?;
    if !request.version.has_description() {
        content.description = None;
    }
    for (name, value) in &content.tags {
        check_name(name).map_err(|error| Problem::invalid("tags", error))?;
        check_name(value.as_deref().unwrap_or_default()).map_err(|error| Problem::invalid("tags", error))?;
    }
    let tags: usize =
        content.tags.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len)).sum();
    let texts = [&content.value, &content.content_type, &content.description];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    if key.len() + label.map_or(0, str::len) + tags + texts > MAXIMUM_KEY_VALUE_BYTES {
        return Err(Problem::BodyTooLarge);
    }
    Ok(content)
}
