//! The fleet: many sidecars that share what they know through an engine.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::section::section;
use super::values::Word;

/// When the caller of a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AnnounceMode {
    /// Once the engine has the write: the other members learn of it within milliseconds, at the latest after the lease.
    #[default]
    Engine,
    /// Once every member with a live lease has confirmed it.
    All,
}

impl Word for AnnounceMode {}

section! {
    /// The fleet that this sidecar is a member of. Section `[fleet]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FleetSettings in "fleet" {
        /// Where the engine is: one URL, or those of its nodes, of which one is the primary. Empty: there is no fleet.
        pub url: Vec<String> = "", restart(), flag("fleet-url", "URL", "Where the Valkey or Redis is through which sidecars share what they know");
        /// The file with the engine's password.
        pub password_file: Option<PathBuf> = "", restart();
        /// The certificates that are trusted for `rediss://`; `None`: those of the system.
        pub ca_file: Option<PathBuf> = "", restart();
        /// The key of the fleet.
        pub key_file: Option<PathBuf> = "", restart(), flag("fleet-key-file", "FILE", "The key of the fleet, the same for all its members");
        /// How long what the fleet told counts after the engine's last answer.
        pub lease: Duration = "1s", restart(), within(200, 10_000);
        /// When the caller of a write is answered.
        pub announce: AnnounceMode = "engine", restart();
        /// Whether stored responses are shared, too.
        pub second_level: bool = "true", restart();
    }
}

impl FleetSettings {
    /// Whether this sidecar is a member of a fleet.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.url.is_empty()
    }
}
