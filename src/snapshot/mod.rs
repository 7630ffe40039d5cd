//! The snapshot: what is stored, in a file, so that a sidecar that starts while its origin is away has something to answer with.
//!
//! ```text
//! start ──▶ restore ──▶ stored responses and mirrored ranges that cover nothing
//!                           │ asked for: validated first; while the origin is away, `when_disconnected` says whether they answer
//!                           ▼
//! after changes, at most once an interval, and at drain ──▶ write ──▶ sealed records ──▶ the file, replaced whole
//! 401 or 403 to the sidecar's own credential ──▶ forget what was restored, and erase what the file has of that upstream
//! ```
//!
//! # Rules
//!
//! - What is restored has the coverage [`NOTHING`](crate::sync_token::coverage::Coverage::NOTHING): rule 1 fails until an answer of the
//!   origin has confirmed or replaced it. So it is used in the place of an origin that does not answer, and in no other case.
//! - A file is used whole or not at all: nothing is restored before its last byte has been found authentic. What it holds of an upstream
//!   that has another URL, profile or identity now is left out. Each refusal has its reason ([`SnapshotRefusal`]).
//! - Only responses that were obtained under the sidecar's own identity, or under none, are written: the partitions of callers'
//!   credentials are named with a secret that one process knows.
//! - Nothing about it stops the start or a request, except a key file that holds no key.
//!
//! # The file
//!
//! One line of JSON ([`header`]), then one [sealed](crate::seal) stream of records ([`record`]). [`file`](mod@file) says how it is replaced.
//!
//! The price: the whole file is written again after changes, so its size over the interval is what the disk must bear.

pub mod contents;
pub mod file;
pub mod header;
pub mod keep;
pub mod record;
pub mod refusal;
pub mod show;

pub use keep::{RestoredSnapshot, Snapshots};
pub use refusal::SnapshotRefusal;
