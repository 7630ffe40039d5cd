//! How an emulator behaves.

use std::time::Duration;

use super::authentication::Permission;
use super::drift::DEFAULT_RATE_PER_SECOND;
use super::page::PAGE_SIZE;
use super::tokens::TokenMode;
use crate::headers::access_key::{AccessKey, Secret};

/// How an emulator behaves. The default is a store that is consistent at once and open to everyone, whose
/// sequence numbers rise by themselves as those of the real service do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many replicas requests are routed over.
    pub replicas: usize,
    /// Within which time a change settles on every replica; none makes changes visible at once.
    pub settle: Duration,
    /// Which `Sync-Token` answers carry.
    pub token_mode: TokenMode,
    /// How many token ids are in use.
    pub token_ids: usize,
    /// How often a second the `sn` of tokens rises without a write; 0 for never.
    pub drift_per_second: f64,
    /// Whether 304s carry `ETag`; those of today's service do not.
    pub tagged_304: bool,
    /// How long a revision stays once it was replaced: 30 days in the standard tier, 7 in the free one.
    pub retention: Duration,
    /// How long a snapshot is provisioned.
    pub snapshot_provisioning: Duration,
    /// Whether the provisioning of snapshots fails.
    pub snapshots_fail: bool,
    /// Whether every write must name its concurrency strategy.
    pub require_if_match: bool,
    /// How many items a page has at most.
    pub page_size: usize,
    /// The access keys that requests are signed with.
    pub access_keys: Vec<(AccessKey, Permission)>,
    /// Bearer tokens that are accepted. Without these and access keys everyone may do everything.
    pub bearer_tokens: Vec<(Secret, Permission)>,
}

impl Default for Settings {
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
