//! A snapshot: its life cycle and its JSON.
//!
//! Born `provisioning`, `ready` (or `failed`) after a while, `archived` and back on request; an archived one expires after its
//! retention period and frees its name. Status is a function of time, so nothing has to run for it to change.

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

/// Where a snapshot is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotStatus {
    /// Being filled; its list is empty.
    Provisioning,
    /// Complete; its content never changes.
    Ready,
    /// Complete, and going to expire.
    Archived,
    /// Could not be filled; its list is empty.
    Failed,
}

impl SnapshotStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Provisioning, Self::Ready, Self::Archived, Self::Failed];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Ready => "ready",
            Self::Archived => "archived",
            Self::Failed => "failed",
        }
    }
}

/// What makes two key-values of a snapshot the same one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompositionType {
    /// The key: of several labels the last filter that applies wins.
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

/// A snapshot with everything it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Tag of its state at creation, or after it was last archived or recovered.
    pub etag: String,
    /// The filters it was made from.
    pub filters: Vec<SnapshotFilter>,
    /// What made two key-values the same one.
    pub composition_type: CompositionType,
    /// When it was created.
    #[serde(with = "unix_micros")]
    pub created: Timestamp,
    /// When provisioning ends.
    #[serde(with = "unix_micros")]
    pub provisioned: Timestamp,
    /// Whether provisioning ends in failure.
    pub fails: bool,
    /// When it was archived, if it is, in microseconds since the Unix epoch.
    pub archived_micros: Option<i64>,
    /// How long it stays once archived.
    pub retention_period: Duration,
    /// Its tags.
    pub tags: Tags,
    /// What it is for.
    pub description: Option<String>,
    /// What it holds, in the order of lists.
    #[serde(with = "shared_items")]
    pub items: Vec<Arc<KeyValue>>,
    /// Bytes of its items.
    pub size_bytes: u64,
}

impl Snapshot {
    /// Where it is in its life at a time.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> SnapshotStatus {
        match (now < self.provisioned, self.fails, self.archived_micros) {
            (true, ..) => SnapshotStatus::Provisioning,
            (_, true, _) => SnapshotStatus::Failed,
            (.., Some(_)) => SnapshotStatus::Archived,
            (.., None) => SnapshotStatus::Ready,
        }
    }

    /// The tag of its state at a time: another one when provisioning has ended, since its JSON is another one then.
    #[must_use]
    pub fn etag_at(&self, now: Timestamp) -> String {
        if now < self.provisioned { format!("{}p", self.etag) } else { self.etag.clone() }
    }

    /// When it ceases to exist: its retention period after it was archived.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.archived_micros.map(|archived| Timestamp::from_unix_micros(archived).plus(self.retention_period))
    }

    /// Whether it has ceased to exist.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }

    /// What its list shows: nothing until it is complete.
    #[must_use]
    pub fn shown_items(&self, now: Timestamp) -> &[Arc<KeyValue>] {
        match self.status(now) {
            SnapshotStatus::Ready | SnapshotStatus::Archived => &self.items,
            SnapshotStatus::Provisioning | SnapshotStatus::Failed => &[],
        }
    }

    /// The fields that a selection shows at a time.
    #[must_use]
    pub fn view(&self, selection: Selection, version: ApiVersion, now: Timestamp) -> SnapshotView<'_> {
        SnapshotView { snapshot: self, selection, version, now }
    }
}

/// A snapshot as one request sees it; serialises to its JSON.
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
    fn its_json_is_the_documented_one() {
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
    fn a_life() {
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
    fn a_record_reads_back() {
        let snapshot = snapshot();
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }
}
