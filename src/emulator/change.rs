//! A change of the emulator's state. State changes only by a [`StateChange`]; the journal keeps it and events announce it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;
use crate::clock::Timestamp;
use crate::profile::app_configuration::key_value::KeyValue;

/// One successful change. Its sequence number is one more than that of the change before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateChange {
    /// The `sn` of the state that the change made.
    pub sequence_number: u64,
    /// When it was made.
    #[serde(with = "unix_micros")]
    pub at: Timestamp,
    /// The resource that it affects.
    pub kind: ChangeKind,
}

/// The resource that a change affects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A key-value was written, locked or unlocked: its new state.
    KeyValueModified(#[serde(with = "shared")] Arc<KeyValue>),
    /// A key-value was deleted: its last state.
    KeyValueDeleted(#[serde(with = "shared")] Arc<KeyValue>),
    /// A snapshot was created; includes its items.
    SnapshotCreated(#[serde(with = "shared")] Arc<Snapshot>),
    /// A snapshot was archived or recovered; items included, so that the latest record suffices.
    SnapshotModified(#[serde(with = "shared")] Arc<Snapshot>),
}

/// Why a change was not recorded. The write is then answered with 503 and has no effect.
#[derive(Debug, thiserror::Error)]
#[error("the change could not be recorded; free space on the disk of --data and try again: {0}")]
pub struct RecordError(#[from] pub std::io::Error);

/// Records every change, in order, before it takes effect and before its writer is answered.
pub trait ChangeRecorder: Send + Sync + 'static {
    /// Records a change so that it outlives the process.
    ///
    /// # Errors
    /// [`RecordError`] refuses the change.
    fn record(&self, change: &StateChange) -> Result<(), RecordError>;

    /// Waits until every change up to this one is durable. An answer that shows the change waits for it.
    fn durable(&self, sequence_number: u64) -> Durable<'_> {
        // A recorder that records synchronously has nothing to wait for.
        let _recorded = sequence_number;
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The result of [`ChangeRecorder::durable`]; fails if the change will never be durable.
pub type Durable<'a> = Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send + 'a>>;

/// Serde form of a [`Timestamp`]: microseconds since the Unix epoch.
pub mod unix_micros {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::clock::Timestamp;

    /// Writes the microseconds.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.as_unix_micros())
    }

    /// Reads the microseconds.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_unix_micros)
    }
}

/// Serde form of an `Arc`: that of its content.
pub mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the content.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Serialize, S: Serializer>(shared: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        shared.as_ref().serialize(serializer)
    }

    /// Reads the content into a new `Arc`.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// [`shared`] for the items of a list.
pub mod shared_items {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the items.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Serialize, S: Serializer>(
        items: &[Arc<T>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(items.iter().map(AsRef::as_ref))
    }

    /// Reads each item into a new `Arc`.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Arc<T>>, D::Error> {
        Vec::<T>::deserialize(deserializer).map(|items| items.into_iter().map(Arc::new).collect())
    }
}
