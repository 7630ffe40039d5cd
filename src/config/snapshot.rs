//! The snapshot: what is kept on disk for a start without the origin.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::key::{DAY, HOUR, MINUTE};
use super::section::section;
use super::values::Word;

/// What becomes of a snapshot when the origin answers 401 or 403 to the sidecar's own credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnForbidden {
    /// It is erased, and answers no more.
    #[default]
    Erase,
    /// It stays.
    Keep,
}

impl Word for OnForbidden {}

section! {
    /// What is kept on disk. Section `[snapshot]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SnapshotSettings in "snapshot" {
        /// Where it is; `None`: there is none.
        pub file: Option<PathBuf> = "", restart(),
            flag("snapshot-file", "FILE", "Where stored responses are kept, encrypted, for a start without the origin");
        /// The key that it is encrypted with; `None`: it is derived from the access key of an upstream.
        pub key_file: Option<PathBuf> = "", restart(),
            flag("snapshot-key-file", "FILE", "The snapshot's key; created if absent [default: derived from the access key]");
        /// The least time between two writes.
        pub interval: Duration = "30s", restart(), within(1000, HOUR);
        /// How old what it holds may be.
        pub max_age: Duration = "24h", restart(), within(MINUTE, 365 * DAY);
        /// What a refusal of the sidecar's credential does to it.
        pub on_forbidden: OnForbidden = "erase", restart();
    }
}
