//! `/snapshots`: list, show, create, archive and recover.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ETAG, LAST_MODIFIED, LINK};
use http::{HeaderName, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::list::with_links;
use crate::emulator::answer::Answer;
use crate::emulator::configuration_store::ConfigurationStore;
use crate::emulator::history::View;
use crate::emulator::key_values::quoted_etag;
use crate::emulator::page::{Page, decode};
use crate::emulator::presented::ApiRequest;
use crate::emulator::problem::Problem;
use crate::emulator::snapshot::{CompositionType, Snapshot, SnapshotFilter, SnapshotStatus};
use crate::headers::http_date;
use crate::profile::app_configuration::api_version::ApiVersion;
use crate::profile::app_configuration::filter::{KeyValueFilter, TagFilter, Tags, TextFilter};
use crate::profile::app_configuration::json_object::JsonObject;
use crate::profile::app_configuration::key_value::{KeyValue, check_name};
use crate::profile::app_configuration::media_type::MediaType;
use crate::profile::app_configuration::page::{next_link, page_json};
use crate::profile::app_configuration::select::Selection;

const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");
/// The retention periods, in seconds, that the standard tier allows, and its default.
const RETENTION_SECONDS: std::ops::RangeInclusive<u64> = 3_600..=7_776_000;
const DEFAULT_RETENTION_SECONDS: u64 = 2_592_000;
const MAXIMUM_FILTERS: usize = 3;

/// `GET` and `HEAD /snapshots`.
pub fn list(
    request: &ApiRequest<'_>,
    store: &ConfigurationStore,
    name: &TextFilter,
) -> Result<Answer, Problem> {
    let statuses = statuses(request.query.single("status")?)?;
    let after = request.after()?.map(decode).transpose()?;
    let shown = store.list_snapshots(after.as_deref(), request.view, request.now).filter(|snapshot| {
        name.matches(Some(&snapshot.name)) && statuses.contains(&snapshot.status(request.now))
    });
    let page = Page::take(shown, request.page_size);
    let next = page.next(|last| next_link(request.path, request.raw_query, &last.name));
    let items: Vec<Vec<u8>> =
        page.items.iter().map(|snapshot| json(request, snapshot, request.selection)).collect();
    let body = page_json(None, items.iter().map(Vec::as_slice), next.as_deref()).into();
    let answer = Answer::ok(request.content_type(MediaType::SnapshotSet), body);
    Ok(with_links(request, answer, next.as_deref()))
}

/// `GET` and `HEAD /snapshots/{name}`.
pub fn read(request: &ApiRequest<'_>, store: &ConfigurationStore, name: &str) -> Result<Answer, Problem> {
    let snapshot = store.find_snapshot(name, request.view, request.now).ok_or(Problem::NotFound)?;
    let etag = snapshot.etag_at(request.now);
    let mut answer = request.conditional(&etag, || show(request, snapshot, StatusCode::OK))?;
    // Recordings show a 304 without `ETag` only for key-values and lists.
    answer.fields.insert(ETAG, quoted_etag(&etag));
    Ok(answer)
}

/// `PUT /snapshots/{name}`: takes the key-values that its filters select now. The snapshot is `provisioning` for a
/// time.
pub fn create(
    request: &ApiRequest<'_>,
    store: &mut ConfigurationStore,
    name: &str,
    provisioning: Provisioning,
) -> Result<Answer, Problem> {
    let draft = draft(request, name)?;
    let items = compose(store, &draft.parsed, draft.composition_type);
    let size_bytes = items.iter().map(|item| json_length(item)).sum();
    let snapshot = Snapshot {
        name: name.to_owned(),
        etag: String::new(),
        filters: draft.filters,
        composition_type: draft.composition_type,
        created: request.now,
        provisioned: request.now.plus(provisioning.takes),
        fails: provisioning.fails,
        archived: None,
        retention_period: draft.retention_period,
        tags: draft.tags,
        description: draft.description,
        items,
        size_bytes,
    };
    let created = store.create_snapshot(snapshot, request.now)?;
    let answer = show(request, &created, StatusCode::CREATED)
        .with(OPERATION_LOCATION, operation_location(request, name));
    Ok(Answer { shown: Some(store.sequence_number()), ..answer })
}

/// How the emulator provisions snapshots.
#[derive(Debug, Clone, Copy)]
pub struct Provisioning {
    /// How long provisioning takes.
    pub takes: Duration,
    /// Whether provisioning fails.
    pub fails: bool,
}

/// `PATCH /snapshots/{name}`: archive or recover.
pub fn modify(
    request: &ApiRequest<'_>,
    store: &mut ConfigurationStore,
    name: &str,
) -> Result<Answer, Problem> {
    #[derive(Deserialize)]
    struct Patch {
        status: SnapshotStatus,
    }
    request.require_body(|content_type| {
        MediaType::Snapshot.accepts(content_type)
            || content_type.to_ascii_lowercase().starts_with("application/merge-patch+json")
    })?;
    let JsonObject(patch): JsonObject<Patch> =
        serde_json::from_slice(request.body).map_err(|error| Problem::invalid("status", error))?;
    let archived = match patch.status {
        SnapshotStatus::Archived => true,
        SnapshotStatus::Ready => false,
        SnapshotStatus::Provisioning | SnapshotStatus::Failed => {
            return Err(Problem::invalid("status", "Send 'archived' or 'ready'"));
        }
    };
    let changed = store.set_archived(name, archived, &request.precondition, request.now)?;
    Ok(Answer { shown: Some(store.sequence_number()), ..show(request, &changed, StatusCode::OK) })
}

fn show(request: &ApiRequest<'_>, snapshot: &Snapshot, status: StatusCode) -> Answer {
    let encoded = utf8_percent_encode(&snapshot.name, NON_ALPHANUMERIC);
    let items = format!("</kv?snapshot={encoded}&api-version={}>; rel=\"items\"", request.version.as_str());
    let modified = snapshot.archived.unwrap_or(snapshot.created);
    let body = json(request, snapshot, request.selection).into();
    let answer = Answer::ok(request.content_type(MediaType::Snapshot), body)
        .with(ETAG, quoted_etag(&snapshot.etag_at(request.now)))
        .with(LAST_MODIFIED, http_date::format(modified))
        .with(LINK, items);
    Answer { status, ..answer }
}

fn json(request: &ApiRequest<'_>, snapshot: &Snapshot, selection: Selection) -> Vec<u8> {
    // Serialising strings, numbers and maps with string keys cannot fail.
    serde_json::to_vec(&snapshot.view(selection, request.version, request.now)).unwrap_or_default()
}

/// The absolute URL of a target at this endpoint, as the service sends it.
fn operation_location(request: &ApiRequest<'_>, name: &str) -> String {
    let host =
        request.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
    format!("http://{host}/operations?snapshot={encoded}&api-version={}", request.version.as_str())
}

fn statuses(value: Option<&str>) -> Result<Vec<SnapshotStatus>, Problem> {
    let Some(value) = value.filter(|value| !value.is_empty() && *value != "*") else {
        return Ok(SnapshotStatus::ALL.to_vec());
    };
    let known = |word: &str| {
        SnapshotStatus::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(word))
    };
    let unknown =
        || Problem::invalid("status", "Use provisioning, ready, archived, failed, a list of them, or *");
    value.split(',').map(|word| known(word.trim_ascii()).ok_or_else(unknown)).collect()
}

/// A request to create a snapshot, checked.
struct Draft {
    filters: Vec<SnapshotFilter>,
    parsed: Vec<KeyValueFilter>,
    composition_type: CompositionType,
    retention_period: Duration,
    tags: Tags,
    description: Option<String>,
}

#[derive(Deserialize)]
struct SnapshotBody {
    filters: Vec<SnapshotFilter>,
    #[serde(default)]
    composition_type: Option<CompositionType>,
    #[serde(default)]
    retention_period: Option<u64>,
    #[serde(default)]
    tags: Option<Tags>,
    #[serde(default)]
    description: Option<String>,
}

fn draft(request: &ApiRequest<'_>, name: &str) -> Result<Draft, Problem> {
    check_name(name).map_err(|error| Problem::invalid("name", error))?;
    request.require_body(|content_type| MediaType::Snapshot.accepts(content_type))?;
    let JsonObject(body): JsonObject<SnapshotBody> =
        serde_json::from_slice(request.body).map_err(|error| Problem::invalid("body", error))?;
    if body.filters.is_empty() || body.filters.len() > MAXIMUM_FILTERS {
        return Err(Problem::invalid("filters", "Send one to three filters"));
    }
    let composition_type = body.composition_type.unwrap_or_default();
    let parsed = body
        .filters
        .iter()
        .map(|filter| parse_filter(filter, composition_type, request.version))
        .collect::<Result<Vec<_>, _>>()?;
    let retention = body.retention_period.unwrap_or(DEFAULT_RETENTION_SECONDS);
    if !RETENTION_SECONDS.contains(&retention) {
        return Err(Problem::invalid("retention_period", "Send a number of seconds from 3600 to 7776000"));
    }
    Ok(Draft {
        filters: body.filters,
        parsed,
        composition_type,
        retention_period: Duration::from_secs(retention),
        tags: body.tags.unwrap_or_default(),
        description: body.description.filter(|_| request.version.has_description()),
    })
}

fn parse_filter(
    filter: &SnapshotFilter,
    composition_type: CompositionType,
    version: ApiVersion,
) -> Result<KeyValueFilter, Problem> {
    if filter.key.is_empty() {
        return Err(Problem::invalid("filters", "Send a key in every filter"));
    }
    // In a snapshot filter an absent label means "no label"; in a list it means any label.
    let label = filter.label.as_deref().filter(|label| !label.is_empty()).unwrap_or("\0");
    let parsed = KeyValueFilter {
        key: TextFilter::parse("filters", Some(&filter.key), false)?,
        label: TextFilter::parse("filters", Some(label), true)?,
        tags: match filter.tags.as_deref() {
            Some(tags) if version.has_tag_filters() => {
                TagFilter::parse_all("filters", tags.iter().map(String::as_str))?
            }
            _ => Vec::new(),
        },
    };
    if composition_type == CompositionType::Key && !parsed.label.is_single() {
        return Err(Problem::invalid(
            "filters",
            "Send one label in each filter, or use the composition type 'key_label'",
        ));
    }
    Ok(parsed)
}

/// The key-values that the filters select. With the composition type `key` the last filter that selects a key decides
/// its label.
fn compose(
    store: &ConfigurationStore,
    filters: &[KeyValueFilter],
    composition_type: CompositionType,
) -> Vec<Arc<KeyValue>> {
    let mut items: BTreeMap<String, Arc<KeyValue>> = BTreeMap::new();
    for filter in filters {
        for stored in store.key_values.list(filter, None, View::NEWEST) {
            let id = &stored.key_value.id;
            let identity = match composition_type {
                CompositionType::Key => id.key(),
                CompositionType::KeyLabel => id.as_str(),
            };
            items.insert(identity.to_owned(), Arc::clone(&stored.key_value));
        }
    }
    items.into_values().collect()
}

fn json_length(item: &KeyValue) -> u64 {
    // Serialising strings, booleans and a map with string keys cannot fail.
    serde_json::to_vec(item).unwrap_or_default().len() as u64
}
