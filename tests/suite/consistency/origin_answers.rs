//! What requests to the simulated origin are about, and what its answers look like: those of App Configuration.
//!
//! A state of a key is named by the number of the write that made it: it is the value and the entity tag. A lock makes a new
//! state too, as it changes the tag; its number comes with the request, so that the caller can tell which state it made.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

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
    List(KeyFilter),
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
        if path == "/kv" { Self::List(KeyFilter::of(&filter)) } else { Self::Other }
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

/// The answer that shows a list, and its tag. Nothing dates it.
pub(crate) fn list(
    items: &[(String, Held)],
    changed: impl Fn(Moment) -> SystemTime,
) -> (Response<Bytes>, String) {
    let tags: Vec<_> = items.iter().map(|(_, held)| held.value.to_string()).collect();
    let tag = format!("list-{}", tags.join("-"));
    let items: Vec<_> = items.iter().map(|(key, held)| item(key, *held, changed(held.changed))).collect();
    let answer = Response::builder()
        .header(ETAG, format!("\"{tag}\""))
        .header("content-type", "application/vnd.microsoft.appconfig.kvset+json; charset=utf-8");
    let body = serde_json::json!({ "items": items }).to_string();
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
