//! What requests to the simulated origin are about, and what its answers look like: those of App Configuration.
//!
//! A state of a key is named by the number of the write that made it: it is the value and the entity tag. A lock makes a new
//! state too, as it changes the tag; its number comes with the request, so that the caller can tell which state it made.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use tagalong::internals::profile::app_configuration::key_value::KeyValueId;
use tagalong::internals::profile::app_configuration::page::{
    after_key_value, decode_continuation, key_value_before, link_to_next, next_link, page_etag, page_json,
};

use super::history::{Moment, Value};

/// The field in which a lock or unlock brings the number of the state that it makes.
pub(crate) const LOCK_NUMBER: &str = "x-ms-client-request-id";

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) value: Value,
    pub(crate) changed: Moment,
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Key(String),
    Lock(String),
    List(KeyFilter, Option<KeyValueId>),
    Other,
}

/// Which keys a list may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyFilter {
    Prefix(String),
    Names(Vec<String>),
}

impl KeyFilter {
    /// The filter as it is written in a query.
    pub(crate) fn of(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Names(text.split(',').map(str::to_owned).collect()),
        }
    }

    pub(crate) fn matches(&self, key: &str) -> bool {
        match self {
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Names(names) => names.iter().any(|name| name == key),
        }
    }
}

impl Target {
    pub(crate) fn of(path: &str, query: Option<&str>) -> Self {
        if let Some(key) = path.strip_prefix("/kv/") {
            return Self::Key(key.to_owned());
        }
        if let Some(key) = path.strip_prefix("/locks/") {
            return Self::Lock(key.to_owned());
        }
        // All keys have the null label, so a filter by it changes nothing.
        let filter = query.and_then(|query| query.split('&').find_map(|part| part.strip_prefix("key=")));
        let filter = percent_encoding::percent_decode_str(filter.unwrap_or("*")).decode_utf8_lossy();
        let after = query.and_then(|query| query.split('&').find_map(|part| part.strip_prefix("after=")));
        let after = after.and_then(|after| key_value_before(&decode_continuation(after)?));
        if path == "/kv" { Self::List(KeyFilter::of(&filter), after) } else { Self::Other }
    }
}

/// The answer that shows one key-value.
pub(crate) fn single(key: &str, held: Held, changed: SystemTime) -> Response<Bytes> {
    let answer = Response::builder()
        .header(ETAG, format!("\"{}\"", held.value))
        .header(LAST_MODIFIED, httpdate::fmt_http_date(changed))
        .header("content-type", "application/vnd.microsoft.appconfig.kv+json; charset=utf-8");
    answer.body(item(key, held, changed).to_string().into()).expect("well-formed")
}

/// The answer that shows the page of a list after one key, and its tag. Nothing dates it.
pub(crate) fn list(
    items: &[(String, Held)],
    after: Option<&KeyValueId>,
    page_size: usize,
    changed: impl Fn(Moment) -> SystemTime,
) -> (Response<Bytes>, String) {
    let id = |key: &String| KeyValueId::new(key, None);
    let mut rest = items.iter().filter(|(key, _)| after.is_none_or(|after| id(key) > *after));
    let page: Vec<_> = rest.by_ref().take(page_size).collect();
    let next = rest.next().and(page.last()).map(|(key, _)| after_key_value(&id(key)));
    let tags: Vec<_> = page.iter().map(|(_, held)| held.value.to_string()).collect();
    let tag = page_etag(tags.iter().map(String::as_str), next.as_deref());
    let items: Vec<_> =
        page.iter().map(|(key, held)| item(key, *held, changed(held.changed)).to_string()).collect();
    let next = next.map(|next| next_link("/kv", "api-version=2026-04-01", &next));
    let mut answer = Response::builder()
        .header(ETAG, format!("\"{tag}\""))
        .header("content-type", "application/vnd.microsoft.appconfig.kvset+json; charset=utf-8");
    if let Some(next) = &next {
        answer = answer.header("link", link_to_next(next));
    }
    let body = page_json(Some(&tag), items.iter().map(String::as_bytes), next.as_deref());
    (answer.body(body.into()).expect("well-formed"), tag)
}

fn item(key: &str, held: Held, changed: SystemTime) -> serde_json::Value {
    let number = held.value.to_string();
    serde_json::json!({
        "etag": number, "key": key, "label": null, "content_type": null, "value": number, "tags": {}, "locked": false,
        "last_modified": rfc3339(changed),
    })
}

/// Whole seconds with offset, as the service writes them.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).expect("after it").as_secs();
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).expect("small")).expect("in range");
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// Turns a 200 into the 304 for it.
pub(crate) fn make_not_modified(answer: &mut Response<Bytes>, tagged: bool) {
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    *answer.body_mut() = Bytes::new();
    let fields = answer.headers_mut();
    fields.remove(LAST_MODIFIED);
    fields.remove("content-type");
    if !tagged {
        fields.remove(ETAG);
    }
}

/// When the front end answered, in both fields that say so.
pub(crate) fn date(answer: &mut Response<Bytes>, now: SystemTime) {
    let date = HeaderValue::from_str(&httpdate::fmt_http_date(now)).expect("a date is a field value");
    answer.headers_mut().insert("date", date.clone());
    answer.headers_mut().insert("x-ms-date", date);
}

/// An answer without a body.
pub(crate) fn status(status: StatusCode) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::new()).expect("well-formed")
}

/// The number that a caller puts.
pub(crate) fn put_value(body: &[u8]) -> Value {
    let body: serde_json::Value = serde_json::from_slice(body).expect("callers send JSON");
    body["value"].as_str().and_then(|value| value.parse().ok()).expect("callers send numbers")
}

/// The number of the state that a lock makes.
pub(crate) fn lock_value(fields: &HeaderMap) -> Option<Value> {
    fields.get(LOCK_NUMBER)?.to_str().ok()?.parse().ok()
}
