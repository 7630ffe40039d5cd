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
    pub at: Timestamp,
    /// The resource that it affects.
    pub kind: ChangeKind,
}

/// The resource that a change affects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A key-value was written, locked or unlocked: its new state.
    KeyValueModified(Arc<KeyValue>),
    /// A key-value was deleted: its last state.
    KeyValueDeleted(Arc<KeyValue>),
    /// A snapshot was created; includes its items.
    SnapshotCreated(Arc<Snapshot>),
    /// A snapshot was archived or recovered; items included, so that the latest record suffices.
    SnapshotModified(Arc<Snapshot>),
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
