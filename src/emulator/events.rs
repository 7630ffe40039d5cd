//! `--events URL`: change events in the form in which Azure Event Grid delivers them to a webhook.
//!
//! This module makes the events. [`handshake`] asks the webhook for its consent, and [`delivery`] sends.

pub mod delivery;
pub mod handshake;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::change::{ChangeKind, StateChange};
use crate::profile::app_configuration::key_value::{KeyValue, format_date_time};

/// The schema of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EventSchema {
    /// The Event Grid schema: an array of events.
    #[default]
    EventGrid,
    /// CloudEvents 1.0, structured mode: one event in each request.
    CloudEvents,
}

impl EventSchema {
    /// The media type of a delivery.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::EventGrid => "application/json; charset=utf-8",
            Self::CloudEvents => "application/cloudevents+json; charset=utf-8",
        }
    }
}

/// The origin of events, for their subject and id.
#[derive(Debug, Clone)]
pub struct EventSource {
    /// The store's base URL without a slash at the end. The .NET provider compares the host and port of an event's
    /// subject with its own endpoint, so this is the address at which clients reach the emulator.
    pub endpoint: String,
    /// Makes the event ids of this emulator differ from those of others.
    pub seed: u64,
}

/// The resource id of the emulator. The subscription does not exist.
const TOPIC: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/tagalong/providers/\
                     microsoft.appconfiguration/configurationstores/emulator";

/// Everything but the unreserved characters of RFC 3986.
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl EventSource {
    /// Makes the event of a change. `sync_token` is the whole token that asks for the state after it. The same change
    /// always gets the same id, so that a receiver recognises repeated deliveries.
    pub fn event(&self, change: &StateChange, sync_token: &str, schema: EventSchema) -> Value {
        let name = match &change.kind {
            ChangeKind::KeyValueModified(_) => "KeyValueModified",
            ChangeKind::KeyValueDeleted(_) => "KeyValueDeleted",
            ChangeKind::SnapshotCreated(_) => "SnapshotCreated",
            ChangeKind::SnapshotModified(_) => "SnapshotModified",
        };
        let event_type = format!("Microsoft.AppConfiguration.{name}");
        let (subject, mut data) = match &change.kind {
            ChangeKind::KeyValueModified(state) | ChangeKind::KeyValueDeleted(state) => (
                self.key_value_subject(state),
                json!({ "key": state.id.key(), "label": state.id.label(), "etag": &*state.etag }),
            ),
            ChangeKind::SnapshotCreated(snapshot) | ChangeKind::SnapshotModified(snapshot) => (
                self.snapshot_subject(&snapshot.name),
                json!({ "name": snapshot.name, "etag": snapshot.etag }),
            ),
        };
        data["syncToken"] = sync_token.into();
        let id = Uuid::from_u64_pair(self.seed, change.sequence_number).to_string();
        let time = format_date_time(change.at);
        match schema {
            EventSchema::EventGrid => json!([{
                "id": id, "topic": TOPIC, "subject": subject, "eventType": event_type, "eventTime": time, "data": data,
                "dataVersion": "2", "metadataVersion": "1",
            }]),
            EventSchema::CloudEvents => json!({
                "id": id, "source": TOPIC, "subject": subject, "type": event_type, "time": time, "data": data,
                "specversion": "1.0", "datacontenttype": "application/json",
            }),
        }
    }

    fn key_value_subject(&self, state: &KeyValue) -> String {
        let key = utf8_percent_encode(state.id.key(), NOT_UNRESERVED);
        match state.id.label() {
            Some(label) => {
                format!("{}/kv/{key}?label={}", self.endpoint, utf8_percent_encode(label, NOT_UNRESERVED))
            }
            None => format!("{}/kv/{key}", self.endpoint),
        }
    }

    fn snapshot_subject(&self, name: &str) -> String {
        format!("{}/snapshots/{}", self.endpoint, utf8_percent_encode(name, NOT_UNRESERVED))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::profile::app_configuration::key_value::{KeyValueContent, KeyValueId};

    fn source() -> EventSource {
        EventSource { endpoint: "http://127.0.0.1:8483".to_owned(), seed: 7 }
    }

    fn state(key: &str, label: Option<&str>) -> Arc<KeyValue> {
        Arc::new(KeyValue {
            id: KeyValueId::new(key, label),
            etag: "e1".into(),
            content: KeyValueContent::default(),
            locked: false,
            last_modified: Timestamp::from_unix_seconds(0),
        })
    }

    fn change(kind: ChangeKind) -> StateChange {
        StateChange { sequence_number: 9, at: Timestamp::from_unix_seconds(1_559_333_103), kind }
    }

    #[test]
    fn a_modification_in_the_event_grid_schema() {
        let change = change(ChangeKind::KeyValueModified(state("Foo/é", Some("Fizz Buzz"))));
        let events = source().event(&change, "a=b==;sn=9", EventSchema::EventGrid);
        let event = &events[0];
        assert_eq!(event["subject"], "http://127.0.0.1:8483/kv/Foo%2F%C3%A9?label=Fizz%20Buzz");
        assert_eq!(event["eventType"], "Microsoft.AppConfiguration.KeyValueModified");
        assert_eq!(event["eventTime"], "2019-05-31T20:05:03+00:00");
        let data = json!({"key": "Foo/é", "label": "Fizz Buzz", "etag": "e1", "syncToken": "a=b==;sn=9"});
        assert_eq!(event["data"], data);
        for field in ["id", "topic", "dataVersion", "metadataVersion"] {
            assert!(event[field].is_string(), "{field}");
        }
    }

    #[test]
    fn a_deletion_in_the_cloud_events_schema() {
        let change = change(ChangeKind::KeyValueDeleted(state("Foo", None)));
        let event = source().event(&change, "a=b==;sn=9", EventSchema::CloudEvents);
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["type"], "Microsoft.AppConfiguration.KeyValueDeleted");
        assert_eq!(event["subject"], "http://127.0.0.1:8483/kv/Foo");
        assert_eq!(
            event["data"],
            json!({"key": "Foo", "label": null, "etag": "e1", "syncToken": "a=b==;sn=9"})
        );
        assert!(event["source"].is_string() && event["time"].is_string());
    }

    #[test]
    fn one_change_has_one_id() {
        let first = change(ChangeKind::KeyValueModified(state("a", None)));
        let second = StateChange { sequence_number: 10, ..first.clone() };
        let id = |change: &StateChange| source().event(change, "a=b", EventSchema::CloudEvents)["id"].clone();
        assert_eq!(id(&first), id(&first));
        assert_ne!(id(&first), id(&second));
    }
}
