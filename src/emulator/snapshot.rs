//! A snapshot: its life cycle and its JSON.
//!
//! A new snapshot is `provisioning`, then `ready` or `failed`. A request archives a ready one or recovers an archived
//! one. An archived snapshot expires after its retention period, and its name is free again. The status is a function
//! of the time, so no task runs.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::profile::app_configuration::api_version::ApiVersion;
use crate::profile::app_configuration::filter::Tags;
use crate::profile::app_configuration::key_value::{KeyValue, format_date_time};
use crate::profile::app_configuration::select::Selection;
use crate::words::words;

words! {
    /// The status of a snapshot.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum SnapshotStatus {
        /// Being filled; its list is empty.
        Provisioning = "provisioning",
        /// Complete; its content never changes.
        Ready = "ready",
        /// Complete; expires after the retention period.
        Archived = "archived",
        /// Could not be filled; its list is empty.
        Failed = "failed",
    }
}

impl SnapshotStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Provisioning, Self::Ready, Self::Archived, Self::Failed];
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
    pub created: Timestamp,
    /// The time at which provisioning ends.
    pub provisioned: Timestamp,
    /// Whether provisioning fails.
    pub fails: bool,
    /// The time at which it was archived, if it is.
    #[serde(rename = "archived_micros")]
    pub archived: Option<Timestamp>,
    /// How long it is kept after it was archived.
    pub retention_period: Duration,
    /// Its tags.
    pub tags: Tags,
    /// Its description.
    pub description: Option<String>,
    /// Its items, in the order of lists.
    pub items: Vec<Arc<KeyValue>>,
    /// Bytes of its items.
    pub size_bytes: u64,
}

impl Snapshot {
    /// The status at a time.
    pub fn status(&self, now: Timestamp) -> SnapshotStatus {
        match (now < self.provisioned, self.fails, self.archived) {
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
        self.archived.map(|archived| archived.plus(self.retention_period))
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
        let items_count = snapshot.shown_items(now).len();
        let size_bytes = if items_count == 0 { 0 } else { snapshot.size_bytes };
        let filters: Vec<Value> = snapshot.filters.iter().map(|filter| filter.shown(version)).collect();
        let description = version.has_description().then(|| json!(snapshot.description));
        let expires = snapshot.expires().map(|expires| json!(format_date_time(expires)));
        let fields = [
            (Selection::ETAG, "etag", Some(json!(snapshot.etag_at(now)))),
            (Selection::NAME, "name", Some(json!(snapshot.name))),
            (Selection::STATUS, "status", Some(json!(snapshot.status(now)))),
            (Selection::FILTERS, "filters", Some(json!(filters))),
            (Selection::COMPOSITION_TYPE, "composition_type", Some(json!(snapshot.composition_type))),
            (Selection::CREATED, "created", Some(json!(format_date_time(snapshot.created)))),
            (Selection::EXPIRES, "expires", expires),
            (Selection::SIZE, "size", Some(json!(size_bytes))),
            (Selection::ITEMS_COUNT, "items_count", Some(json!(items_count))),
            (Selection::TAGS, "tags", Some(json!(snapshot.tags))),
            (Selection::DESCRIPTION, "description", description),
            (
                Selection::RETENTION_PERIOD,
                "retention_period",
                Some(json!(snapshot.retention_period.as_secs())),
            ),
        ];
        let shown = fields.into_iter().filter(|(field, ..)| selection.contains(*field));
        serializer.collect_map(shown.filter_map(|(_, name, value)| Some((name, value?))))
    }
}

impl SnapshotFilter {
    fn shown(&self, version: ApiVersion) -> Value {
        let mut shown = json!({ "key": self.key, "label": self.label });
        if version.has_tag_filters() {
            shown["tags"] = json!(self.tags.as_deref().unwrap_or_default());
        }
        shown
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
            archived: None,
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
        snapshot.archived = Some(ready);
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
