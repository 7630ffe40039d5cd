//! Reload: the whole configuration is read anew, checked whole, and put in force whole while requests run; or it is refused, and the one before
//! stays in force.
//!
//! ```text
//! SIGHUP, or the file has changed ──▶ all layers ──▶ checked ──▶ what changes? ──▶ only what can ──▶ built beside the old one ──▶ in force
//!                                                       │            └── nothing: unchanged   │                │
//!                                                       └────────────────────── refused ◀─────┴────────────────┘
//! ```
//!
//! Building has no effect that a refusal would have to take back, but for token files that were not there and are created.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::SidecarError;
use super::followers::Followers;
use crate::accept::{AcceptLimits, LiveAcceptLimits, descriptors};
use crate::admin::{AdminRules, AdminState};
use crate::clock::Clock;
use crate::config::{ChangedKey, Config, ConfigErrors, Layers, NeedsRestart};
use crate::credentials::token_file::Absent;
use crate::logging;
use crate::proxy::Proxy;
use crate::proxy::assemble::Environment;
use crate::proxy::live::LiveProxy;
use crate::readiness::Readiness;
use crate::sync_token::clauses::Clauses;

/// Why a configuration is not taken over. The texts are those of `tagalong check-config`.
#[derive(Debug, thiserror::Error)]
pub enum ReloadRefusal {
    /// It is not valid.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// It changes what a reload cannot change.
    #[error(transparent)]
    NeedsRestart(#[from] NeedsRestart),
    /// What it asks for cannot be had.
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    /// The task that reads it has panicked.
    #[error("reading the configuration broke off: {0}; see the log, and report it")]
    BrokeOff(#[from] tokio::task::JoinError),
}

/// Reloads the configuration of a running sidecar.
pub struct Reloader {
    proxy: Arc<LiveProxy>,
    admin: Arc<AdminState>,
    limits: LiveAcceptLimits,
    readiness: Readiness,
    clock: Clock,
    clauses: Clauses,
    interval: watch::Sender<Duration>,
    /// Locked while a reload runs: one at a time.
    in_force: Mutex<InForce>,
}

struct InForce {
    config: Arc<Config>,
    /// `None` for a moment while they are replaced.
    followers: Option<Followers>,
}

/// What is put in force together.
struct Built {
    config: Config,
    proxy: Proxy,
    admin: AdminRules,
}

impl Reloader {
    pub(super) fn new(
        config: &Config,
        proxy: Arc<LiveProxy>,
        admin: Arc<AdminState>,
        limits: LiveAcceptLimits,
        readiness: Readiness,
        environment: &Environment<'_>,
    ) -> Self {
        let followers = Some(Followers::start(proxy.current(), &readiness));
        Self {
            proxy,
            admin,
            limits,
            readiness,
            clock: environment.clock.clone(),
            clauses: environment.clauses,
            interval: watch::Sender::new(config.reload.interval),
            in_force: Mutex::new(InForce { config: Arc::new(config.clone()), followers }),
        }
    }

    /// How often the file is to be looked at; zero: never.
    #[must_use]
    pub fn interval(&self) -> watch::Receiver<Duration> {
        self.interval.subscribe()
    }

    /// Reads the configuration anew and puts it in force. The result is what has changed: nothing, if it was in force already. The log
    /// and the metrics tell the outcome. `layers` is called on a thread that may block.
    ///
    /// # Errors
    /// [`ReloadRefusal`]; then everything is as before.
    pub async fn reload(
        &self,
        layers: impl FnOnce() -> Layers + Send + 'static,
    ) -> Result<Vec<ChangedKey>, ReloadRefusal> {
        let outcome = self.apply(layers).await;
        let metrics = self.proxy.current().metrics().reload().clone();
        match &outcome {
            Ok(changes) if changes.is_empty() => {
                metrics.unchanged();
                tracing::info!("the configuration was read anew; nothing in it has changed");
            }
            Ok(changes) => {
                metrics.applied(self.clock.now());
                let changed = changes.iter().map(ChangedKey::to_string).collect::<Vec<_>>().join("; ");
                tracing::info!(changed, "the configuration was reloaded");
            }
            Err(refusal) => {
                metrics.refused();
                for reason in refusal.to_string().lines() {
                    tracing::error!(
                        reason,
                        "the configuration was not reloaded; the one before stays in force"
                    );
                }
            }
        }
        outcome
    }

    async fn apply(
        &self,
        layers: impl FnOnce() -> Layers + Send + 'static,
    ) -> Result<Vec<ChangedKey>, ReloadRefusal> {
        let mut in_force = self.in_force.lock().await;
        let (before, proxy) = (Arc::clone(&in_force.config), self.proxy.current());
        let (clock, clauses) = (self.clock.clone(), self.clauses);
        let building = tokio::task::spawn_blocking(move || {
            let environment =
                Environment { clock, clauses, absent_token: Absent::Create, ..Environment::default() };
            build(Config::new(layers())?, &before, &proxy, &environment)
        });
        let Some((built, changes)) = building.await?? else { return Ok(Vec::new()) };
        let Built { config, proxy, admin } = built;
        // Nothing below can fail.
        let proxy = Arc::new(proxy);
        self.proxy.replace(Arc::clone(&proxy));
        proxy.take_over(&config);
        self.admin.set_rules(admin);
        let connections = descriptors::connections(&config);
        self.limits
            .replace(AcceptLimits { connections, ..AcceptLimits::new(&config.limits, &config.deadlines) });
        // It was checked with the rest.
        let _is_a_filter = logging::set_level(&config.logging.level);
        self.interval.send_replace(config.reload.interval);
        in_force.followers =
            in_force.followers.take().map(|before| before.replaced_by(proxy, &self.readiness));
        config.warn_of_readable_secrets();
        in_force.config = Arc::new(config);
        Ok(changes)
    }
}

/// Builds what is to be put in force, and says what that changes; `None` if nothing.
fn build(
    config: Config,
    before: &Config,
    proxy: &Proxy,
    environment: &Environment<'_>,
) -> Result<Option<(Built, Vec<ChangedKey>)>, ReloadRefusal> {
    let changes = config.changes_from(before);
    if changes.is_empty() {
        return Ok(None);
    }
    NeedsRestart::check(&changes)?;
    let proxy = proxy.reconfigured(before, &config, environment).map_err(SidecarError::from)?;
    let admin = AdminRules::new(&config, environment.absent_token).map_err(SidecarError::from)?;
    Ok(Some((Built { config, proxy, admin }, changes)))
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
