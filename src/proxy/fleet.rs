//! The fleet of a configuration: its engine and key, from which each upstream gets its membership.

use std::sync::Arc;

use super::Proxy;
use super::assemble::{AssembleError, Environment};
use crate::config::{Config, FleetSettings, UpstreamSettings, Word as _};
use crate::credentials::Credential;
use crate::credentials::token_file::Absent;
use crate::fleet::engine::FleetEngine;
use crate::fleet::member::{FleetMember, MemberSettings};
use crate::fleet::redis::RedisEngine;
use crate::metrics::FleetMetrics;
use crate::seal::key::{SealingKey, SealingKeyError, SealingPurpose};

/// Why there is no key of the fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetKeyError {
    /// The file holds no key.
    #[error(transparent)]
    Key(#[from] SealingKeyError),
    /// The file is not there. It is never created, because the other members would not have it.
    #[error(
        "fleet.key_file {} is not there; make one with `openssl rand -base64 32` and give it to all members",
        path.display()
    )]
    Absent {
        /// The file.
        path: std::path::PathBuf,
    },
}

/// See the module.
pub(super) struct Fleet<'a> {
    settings: &'a FleetSettings,
    engine: Arc<dyn FleetEngine>,
    key: SealingKey,
}

impl<'a> Fleet<'a> {
    /// The fleet that the configuration names, if it names one.
    pub(super) fn new(
        config: &'a Config,
        environment: &Environment<'_>,
    ) -> Result<Option<Self>, AssembleError> {
        let settings = &config.fleet;
        if !settings.is_configured() {
            return Ok(None);
        }
        let engine = match &environment.engine {
            Some(engine) => Arc::clone(engine),
            None => Arc::new(RedisEngine::new(settings)?),
        };
        let path = settings.key_file.clone().unwrap_or_default();
        let key = if path.exists() {
            SealingKey::from_file(&path, SealingPurpose::Fleet, Absent::Try).map_err(FleetKeyError::Key)?
        } else {
            None
        };
        let key = key.ok_or(FleetKeyError::Absent { path })?;
        Ok(Some(Self { settings, engine, key }))
    }

    /// The membership of one upstream.
    pub(super) fn member(
        &self,
        upstream: &UpstreamSettings,
        credential: &dyn Credential,
        metrics: FleetMetrics,
    ) -> FleetMember {
        let settings = MemberSettings {
            lease: self.settings.lease,
            announce: self.settings.announce,
            second_level: self.settings.second_level && !credential.forwards_callers(),
            source: format!(
                "{} {} {}",
                upstream.profile().word(),
                upstream.sharing.word(),
                credential.identity()
            ),
        };
        FleetMember::new(settings, Arc::clone(&self.engine), self.key.clone(), metrics)
    }
}

impl Proxy {
    /// Follows the fleet of an upstream, if it is a member of one, until the task is dropped.
    pub async fn follow_fleet(self: Arc<Self>, destination: usize) {
        let Some(to) = self.destinations.get(destination) else { return };
        let mirror = to.mirror.clone();
        let changed = |canonical_target: &str| {
            if let Some(mirror) = &mirror {
                mirror.heed_change(canonical_target);
            }
        };
        to.upstream.follow_fleet(changed).await;
    }
}
