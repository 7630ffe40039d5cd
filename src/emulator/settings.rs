//! The settings of an emulator.

use std::time::Duration;

use super::authentication::Permission;
use super::drift::DEFAULT_RATE_PER_SECOND;
use super::page::PAGE_SIZE;
use super::tokens::TokenMode;
use crate::headers::access_key::{AccessKey, SecretBytes};

/// The settings of an emulator. By default changes are visible at once, no credential is needed, and sequence numbers
/// rise without a write, like those of the real service.
#[derive(Debug, Clone)]
pub struct EmulatorSettings {
    /// The number of replicas that answer requests.
    pub replicas: usize,
    /// The time within which every replica shows a change; zero makes changes visible at once.
    pub settle: Duration,
    /// Which `Sync-Token` answers carry.
    pub token_mode: TokenMode,
    /// The number of token ids.
    pub token_ids: usize,
    /// How much the `sn` of tokens rises in a second without a write; 0 for no rise.
    pub drift_per_second: f64,
    /// Whether 304s carry `ETag`; those of today's service do not.
    pub tagged_304: bool,
    /// How long a replaced revision is kept: 30 days in the standard tier, 7 days in the free tier.
    pub retention: Duration,
    /// How long the provisioning of a snapshot takes.
    pub snapshot_provisioning: Duration,
    /// Whether the provisioning of snapshots fails.
    pub snapshots_fail: bool,
    /// Whether every write must name its concurrency strategy.
    pub require_if_match: bool,
    /// The maximum number of items of a page.
    pub page_size: usize,
    /// The access keys that are accepted.
    pub access_keys: Vec<(AccessKey, Permission)>,
    /// The bearer tokens that are accepted. Without these and access keys every request is allowed.
    pub bearer_tokens: Vec<(SecretBytes, Permission)>,
}

impl Default for EmulatorSettings {
    fn default() -> Self {
        Self {
            replicas: 1,
            settle: Duration::ZERO,
            token_mode: TokenMode::default(),
            token_ids: 1,
            drift_per_second: DEFAULT_RATE_PER_SECOND,
            tagged_304: false,
            retention: Duration::from_secs(30 * 24 * 60 * 60),
            snapshot_provisioning: Duration::from_millis(500),
            snapshots_fail: false,
            require_if_match: false,
            page_size: PAGE_SIZE,
            access_keys: Vec::new(),
            bearer_tokens: Vec::new(),
        }
    }
}
