//! A snapshot: its life cycle and its JSON.
//!
//! A new snapshot is `provisioning`, then `ready` or `failed`. A request archives a ready one or recovers an archived
//! one. An archived snapshot expires after its retention period, and its name is free again. The status is a function
//! of the time, so no task runs.

use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use super::change::{shared_items, unix_micros};
use crate::clock::Timestamp;
use crate::profile::app_configuration::api_version::ApiVersion;
use crate::profile::app_configuration::filter::Tags;
use crate::profile::app_configuration::key_value::{KeyValue, format_date_time};
use crate::profile::app_configuration::select::Selection;

/// The status of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotStatus {
    /// Being filled; its list is empty.
    Provisioning,
    /// Complete; its content never changes.
    Ready,
    /// Complete; expires after the retention period.
    Archived,
    /// Could not be filled; its list is empty.
    Failed,
}

impl SnapshotStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Provisioning, Self::Ready, Self::Archived, Self::Failed];

    /// The value on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Ready => "ready",
            Self::Archived => "archived",
            Self::Failed => "failed",
        }
    }
}

/// Which key-values of a snapshot have the same identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompositionType {
    /// The key. Of several labels the label of the last matching filter wins.
    #[default]
    Key,
    /// Key and label.
    KeyLabel,
}

/// A filter of a snapshot, as its creator wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFilter {
    /// Filter on keys.
    pub key: String,
    /// Filter on labels.
    #[serde(default)]
    pub label: Option<String>,
    /// Filters on tags, from `2023-11-01` on.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
}

/// A snapshot and its items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// The tag at creation or after the last archiving or recovery.
    pub etag: String,
    /// Its filters.
    pub filters: Vec<SnapshotFilter>,
    /// The identity of its key-values.
    pub composition_type: CompositionType,
    /// The time of its creation.
    #[serde(with = "unix_micros")]
    pub created: Timestamp,
    /// The time at which provisioning ends.
    #[serde(with = "unix_micros")]
    pub provisioned: Timestamp,
    /// Whether provisioning fails.
    pub fails: bool,
    /// The time at which it was archived, if it is, in microseconds since the Unix epoch.
    pub archived_micros: Option<i64>,
    /// How long it is kept after it was archived.
    pub retention_period: Duration,
    /// Its tags.
    pub tags: Tags,
    /// Its description.
    pub description: Option<String>,
    /// Its items, in the order of lists.
    #[serde(with = "shared_items")]
    pub items: Vec<Arc<KeyValue>>,
    /// Bytes of its items.
    pub size_bytes: u64,
}

impl Snapshot {
    /// The status at a time.
    pub fn status(&self, now: Timestamp) -> SnapshotStatus {
        match (now < self.provisioned, self.fails, self.archived_micros) {
            (true, ..) => SnapshotStatus::Provisioning,
            (_, true, _) => SnapshotStatus::Failed,
            (.., Some(_)) => SnapshotStatus::Archived,
            (.., None) => SnapshotStatus::Ready,
        }
    }

    /// The tag at a time. It changes when provisioning ends, because the JSON changes then.
    pub fn etag_at(&self, now: Timestamp) -> String {
        if now < self.provisioned { format!("{}p", self.etag) } else { self.etag.clone() }
    }

    /// The time at which it expires: its retention period after it was archived.
    pub fn expires(&self) -> Option<Timestamp> {
        self.archived_micros.map(|archived| Timestamp::from_unix_micros(archived).plus(self.retention_period))
    }

    /// Whether it has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }

    /// The items that its list shows: none until it is complete.
    pub fn shown_items(&self, now: Timestamp) -> &[Arc<KeyValue>] {
        match self.status(now) {
            SnapshotStatus::Ready | SnapshotStatus::Archived => &self.items,
            SnapshotStatus::Provisioning | SnapshotStatus::Failed => &[],
        }
    }

    /// The fields that a selection shows at a time.
    pub fn view(&self, selection: Selection, version: ApiVersion, now: Timestamp) -> SnapshotView<'_> {
        SnapshotView { snapshot: self, selection, version, now }
    }
}

/// The JSON of a snapshot in the form that a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotView<'a> {
    snapshot: &'a Snapshot,
    selection: Selection,
    version: ApiVersion,
    now: Timestamp,
}

impl Serialize for SnapshotView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { snapshot, selection, version, now } = *self;
        let complete = !snapshot.shown_items(now).is_empty();
        let mut map = serializer.serialize_map(None)?;
        let shows = |field| selection.contains(field);
        if shows(Selection::ETAG) {
            map.serialize_entry("etag", &snapshot.etag_at(now))?;
        }
        if shows(Selection::NAME) {
            map.serialize_entry("name", &snapshot.name)?;
        }
        if shows(Selection::STATUS) {
            map.serialize_entry("status", snapshot.status(now).as_str())?;
        }
        if shows(Selection::FILTERS) {
            let filters: Vec<_> =
                snapshot.filters.iter().map(|filter| FilterView { filter, version }).collect();
            map.serialize_entry("filters", &filters)?;
        }
        if shows(Selection::COMPOSITION_TYPE) {
            map.serialize_entry("composition_type", &snapshot.composition_type)?;
        }
        if shows(Selection::CREATED) {
            map.serialize_entry("created", &format_date_time(snapshot.created))?;
        }
        if let Some(expires) = snapshot.expires().filter(|_| shows(Selection::EXPIRES)) {
            map.serialize_entry("expires", &format_date_time(expires))?;
        }
        if shows(Selection::SIZE) {
            map.serialize_entry("size", if complete { &snapshot.size_bytes } else { &0 })?;
        }
        if shows(Selection::ITEMS_COUNT) {
            map.serialize_entry("items_count", &snapshot.shown_items(now).len())?;
        }
        if shows(Selection::TAGS) {
            map.serialize_entry("tags", &snapshot.tags)?;
        }
        if shows(Selection::DESCRIPTION) && version.has_description() {
            map.serialize_entry("description", &snapshot.description)?;
        }
        if shows(Selection::RETENTION_PERIOD) {
            map.serialize_entry("retention_period", &snapshot.retention_period.as_secs())?;
        }
        map.end()
    }
}

struct FilterView<'a> {
    filter: &'a SnapshotFilter,
    version: ApiVersion,
}

impl Serialize for FilterView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", &self.filter.key)?;
        map.serialize_entry("label", &self.filter.label)?;
        if self.version.has_tag_filters() {
            map.serialize_entry("tags", self.filter.tags.as_deref().unwrap_or_default())?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            name: "prod-2023-03-20".into(),
            etag: "e".into(),
            filters: vec![SnapshotFilter { key: "app1/*".into(), label: Some("prod".into()), tags: None }],
            composition_type: CompositionType::Key,
            created: Timestamp::from_unix_seconds(1_679_346_003),
            provisioned: Timestamp::from_unix_seconds(1_679_346_005),
            fails: false,
            archived_micros: None,
            retention_period: Duration::from_secs(2_592_000),
            tags: Tags::new(),
            description: None,
            items: vec![Arc::new(serde_json::from_str(r#"{"key":"app1/a","label":"prod"}"#).unwrap())],
            size_bytes: 2_000,
        }
    }

    #[test]
    fn the_json_is_the_documented_one() {
        let snapshot = snapshot();
        let ready = snapshot.view(Selection::ALL, ApiVersion::V2023_11_01, snapshot.provisioned);
        assert_eq!(
            serde_json::to_string(&ready).unwrap(),
            r#"{"etag":"e","name":"prod-2023-03-20","status":"ready","filters":[{"key":"app1/*","label":"prod","tags":[]}],"composition_type":"key","created":"2023-03-20T21:00:03+00:00","size":2000,"items_count":1,"tags":{},"retention_period":2592000}"#
        );
        let provisioning = snapshot.view(
            Selection::parse(Some("status,items_count")),
            ApiVersion::V2023_10_01,
            snapshot.created,
        );
        assert_eq!(
            serde_json::to_string(&provisioning).unwrap(),
            r#"{"status":"provisioning","items_count":0}"#
        );
    }

    #[test]
    fn the_status_follows_provisioning_archiving_and_retention() {
        let mut snapshot = snapshot();
        let (created, ready) = (snapshot.created, snapshot.provisioned);
        assert_eq!(snapshot.status(created), SnapshotStatus::Provisioning);
        assert!(snapshot.shown_items(created).is_empty());
        assert_ne!(snapshot.etag_at(created), snapshot.etag_at(ready));
        assert_eq!(snapshot.status(ready), SnapshotStatus::Ready);
        assert_eq!(snapshot.shown_items(ready).len(), 1);
        snapshot.archived_micros = Some(ready.as_unix_micros());
        assert_eq!(snapshot.status(ready), SnapshotStatus::Archived);
        let end = ready.plus(snapshot.retention_period);
        assert!(!snapshot.is_expired(end.minus(Duration::from_secs(1))) && snapshot.is_expired(end));
        snapshot.fails = true;
        assert_eq!(snapshot.status(ready), SnapshotStatus::Failed);
        assert!(snapshot.shown_items(ready).is_empty());
    }

    #[test]
    fn a_recorded_snapshot_is_read_back() {
        let snapshot = snapshot();
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }
}
