//! What a member asks the engine for beside its stream: records of stored responses, leases to renew them, and notes.

use std::time::Duration;

use super::{AwaitWithin as _, FleetMember, Membership};
use crate::fleet::engine::{EngineError, LookedUp, Publication};
use crate::fleet::message::SealedAs;

/// How long the engine keeps a note.
const NOTE_KEPT: Duration = Duration::from_secs(24 * 3600);

impl FleetMember {
    /// Looks for a record. `wants_lease`: with the right to renew it.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn look_up(
        &self,
        membership: &Membership,
        record: &str,
        wants_lease: bool,
    ) -> Result<LookedUp, EngineError> {
        let lease = wants_lease.then_some(self.settings.lease);
        membership.stream.look_up(record, &self.name, lease).await_within(self.settings.lease).await
    }

    /// The body of a record with this digest, if it is there and authentic.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn body(
        &self,
        membership: &Membership,
        record: &str,
        digest: &[u8],
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let sealed = membership.stream.body(record).await_within(self.settings.lease).await?;
        Ok(sealed.and_then(|sealed| membership.seal.open(&sealed, SealedAs::Body { record, digest })))
    }

    /// Publishes a record.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn publish(
        &self,
        membership: &Membership,
        (record, fence): (&str, u64),
        (head, body): (Vec<u8>, Option<Vec<u8>>),
        keep: Duration,
    ) -> Result<(), EngineError> {
        let publication = Publication { record, member: &self.name, fence, head, body, keep };
        membership.stream.publish(publication).await_within(self.settings.lease).await
    }

    /// The note that a member left under a name.
    pub async fn read_note(&self, name: &str) -> Option<Vec<u8>> {
        let membership = self.second_level()?;
        let record = &membership.seal.name_of(name.as_bytes());
        let found = self.look_up(&membership, record, false).await.ok()?;
        membership.seal.open(&found.head?, SealedAs::Note { record })
    }

    /// Leaves a note under a name, in place of the one that is there.
    pub async fn leave_note(&self, name: &str, note: &[u8]) -> Option<()> {
        let membership = self.second_level()?;
        let record = &membership.seal.name_of(name.as_bytes());
        let fence = self.look_up(&membership, record, true).await.ok()?.fence?;
        let sealed = membership.seal.seal(note, SealedAs::Note { record })?;
        self.publish(&membership, (record, fence), (sealed, None), NOTE_KEPT).await.ok()
    }

    /// Gives a lease back. Without an answer it runs out.
    pub async fn release(&self, membership: &Membership, record: &str) {
        let released = membership.stream.release(record, &self.name);
        let _runs_out = released.await_within(self.settings.lease).await;
    }
}
