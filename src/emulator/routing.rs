//! Parses a request and chooses the endpoint that answers it.

use bytes::Bytes;
use http::header::LINK;
use http::request::Parts;
use http::{HeaderName, Method};

use super::answer::Answer;
use super::configuration_store::ConfigurationStore;
use super::endpoints::list::with_links;
use super::endpoints::snapshots::Provisioning;
use super::endpoints::{key_value, list, names, operations, revisions, snapshots};
use super::history::View;
use super::precondition::{ETagList, Precondition};
use super::presented::ApiRequest;
use super::problem::Problem;
use crate::clock::Timestamp;
use crate::headers::http_date;
use crate::headers::request_date::parse_accept_datetime;
use crate::profile::app_configuration::api_version::{ApiVersion, ApiVersionError};
use crate::profile::app_configuration::key_value::check_key;
use crate::profile::app_configuration::query::Query;
use crate::profile::app_configuration::resource::{Resource, key_value_filter};
use crate::profile::app_configuration::select::Selection;

const ACCEPT_DATETIME: HeaderName = HeaderName::from_static("accept-datetime");
const MEMENTO_DATETIME: HeaderName = HeaderName::from_static("memento-datetime");

/// The settings of writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Switches {
    pub require_if_match: bool,
    pub provisioning: Provisioning,
}

/// The methods that a path allows, or `None` for an unknown path.
pub(super) fn allowed_methods(path: &str) -> Option<&'static str> {
    let has_rest = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    match path {
        "/kv" | "/keys" | "/labels" | "/revisions" | "/snapshots" => Some("GET, HEAD"),
        "/operations" => Some("GET"),
        _ if has_rest("/kv/") => Some("GET, HEAD, PUT, DELETE"),
        _ if has_rest("/locks/") => Some("PUT, DELETE"),
        _ if has_rest("/snapshots/") => Some("GET, HEAD, PUT, PATCH"),
        _ => None,
    }
}

/// Parses the path, the query and the header section of a request.
pub(super) fn present<'a>(
    parts: &'a Parts,
    body: &'a Bytes,
    now: Timestamp,
    page_size: usize,
    tagged_304: bool,
) -> Result<(ApiRequest<'a>, Resource), Problem> {
    let (path, raw_query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let query = Query::parse(raw_query)?;
    let version = ApiVersion::from_values(query.all("api-version"))?;
    let resource = Resource::parse(path, &query)?;
    let needs_snapshots =
        matches!(resource, Resource::Snapshots { .. } | Resource::Snapshot { .. } | Resource::Operations);
    if needs_snapshots && !version.has_snapshots() {
        return Err(ApiVersionError::Unsupported.into());
    }
    let before = match parts.headers.get(ACCEPT_DATETIME) {
        None => None,
        // An invalid date gets 400 (RFC 7089 §4.5.3). The vendor's emulator ignores it and so shows the present as the
        // past.
        Some(date) => Some(date.to_str().ok().and_then(parse_accept_datetime).ok_or_else(|| {
            Problem::invalid("Accept-Datetime", "Not a date; send an HTTP date or RFC 3339")
        })?),
    };
    let presented = ApiRequest {
        method: &parts.method,
        path,
        raw_query,
        selection: Selection::parse(query.single("$select")?),
        query,
        headers: &parts.headers,
        body,
        version,
        view: View { before, ..View::NEWEST },
        precondition: Precondition::of(&parts.headers),
        now,
        page_size,
        tagged_304,
    };
    Ok((presented, resource))
}

/// Answers a GET or HEAD from the state.
pub(super) fn read(
    request: &ApiRequest<'_>,
    store: &ConfigurationStore,
    resource: Resource,
) -> Result<Answer, Problem> {
    let result = match resource {
        Resource::KeyValue { key, label, tags } => {
            // An invalid key gets 400, not 404.
            check_key(&key).map_err(|error| Problem::invalid("key", error))?;
            key_value::read(request, store, &key, label.as_deref(), &tags)
        }
        Resource::KeyValues(filter) => list::key_values(request, store, filter),
        Resource::SnapshotKeyValues { snapshot } if request.version.has_snapshots() => {
            return list::snapshot_key_values(request, store, &snapshot);
        }
        Resource::SnapshotKeyValues { .. } => {
            list::key_values(request, store, key_value_filter(&request.query)?)
        }
        Resource::Keys { name } => names::keys(request, store, &name),
        Resource::Labels { name } => names::labels(request, store, &name),
        Resource::Revisions(filter) => revisions::revisions(request, store, filter),
        Resource::Snapshots { name } => return snapshots::list(request, store, &name),
        Resource::Snapshot { name } => return snapshots::read(request, store, &name),
        Resource::Operations => return operations::operation(request, store),
        Resource::Lock { .. } | Resource::Unknown => Err(Problem::NotFound),
    };
    match (request.view.before, result) {
        (Some(before), Ok(answer)) => Ok(travelled(request, answer, before)),
        (Some(before), Err(Problem::NotFound)) => Ok(travelled(request, Problem::NotFound.into(), before)),
        (_, result) => result,
    }
}

/// Adds the fields of an answer from the past. If the date is in the future, the answer shows the present and is
/// unchanged.
fn travelled(request: &ApiRequest<'_>, answer: Answer, before: Timestamp) -> Answer {
    if before > request.now {
        return answer;
    }
    let has_link = answer.fields.contains_key(LINK);
    let answer = if has_link { answer } else { with_links(request, answer, None) };
    answer.with(MEMENTO_DATETIME, http_date::format(before))
}

/// Makes a write and answers it.
pub(super) fn write(
    request: &ApiRequest<'_>,
    store: &mut ConfigurationStore,
    resource: Resource,
    switches: Switches,
) -> Result<Answer, Problem> {
    let (key, label, is_lock) = match resource {
        Resource::KeyValue { key, label, .. } => (key, label, false),
        Resource::Lock { key, label } => (key, label, true),
        Resource::Snapshot { name } if request.method == Method::PUT => {
            return snapshots::create(request, store, &name, switches.provisioning);
        }
        Resource::Snapshot { name } => return snapshots::modify(request, store, &name),
        _ => return Err(Problem::NotFound),
    };
    let (id, write) =
        key_value::parse_write(request, &key, label.as_deref(), is_lock, switches.require_if_match)?;
    // With `If-Match: *` the documentation of the service promises a write without any check.
    let unchecked = switches.require_if_match && request.precondition == Precondition::IfMatch(ETagList::Any);
    let precondition = if unchecked { &Precondition::None } else { &request.precondition };
    let written = store.write(&id, write, precondition, request.now)?;
    Ok(key_value::written(request, &written))
}
