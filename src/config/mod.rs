//! The configuration: types, defaults, ranges, and where each value came from.
//!
//! [`Layers`] merges built-in defaults, a TOML file, `TAGALONG_*` variables and flags; [`Config::new`] makes one typed,
//! validated [`Config`] of them. Each key is declared once, as a field of its section (`section!`); `config/default.toml`
//! explains each for people.

pub mod budget;
pub mod caching;
mod difference;
mod documented;
pub mod duration;
mod effective;
mod endpoint;
mod error;
pub mod fleet;
pub mod input_file;
mod key;
mod keys;
mod layers;
mod limits;
mod listener;
pub mod masked;
mod nearest;
pub mod reload;
pub mod secret;
mod section;
pub mod size;
pub mod snapshot;
#[cfg(test)]
pub mod test_keys;
pub mod tracing;
mod upstream;
mod validate;
mod values;

pub use caching::CachingRules;
pub use difference::{ChangedKey, NeedsRestart};
pub use documented::DEFAULT_TOML;
pub use effective::Effective;
pub use endpoint::is_endpoint_of;
pub use error::ConfigErrors;
pub use fleet::FleetSettings;
pub use keys::flags;
pub use layers::Layers;
pub use limits::{Deadlines, GuardSettings, Limits, LogFormat, Logging, Runtime, StoreLimits};
pub use listener::{AdminSettings, ListenerSettings};
pub use reload::ReloadSettings;
pub use secret::SecretString;
pub use snapshot::SnapshotSettings;
pub use tracing::TracingSettings;
pub use upstream::{
    CredentialKind, CredentialSettings, ProfileKind, UpstreamProxy, UpstreamSettings, UpstreamTls,
    WriteStrategy,
};
pub use values::Word;

use section::{Section, Values, names_below};

/// The whole configuration, complete and consistent.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listeners for callers: `[listener]` first, then `[listeners.NAME]` in the order of their names.
    pub listeners: Vec<ListenerSettings>,
    /// The operator's port.
    pub admin: AdminSettings,
    /// Where requests go: `[upstream]` first (it takes what no other claims), then `[upstreams.NAME]`. Never empty.
    pub upstreams: Vec<UpstreamSettings>,
    /// What is stored.
    pub store: StoreLimits,
    /// What is kept on disk.
    pub snapshot: SnapshotSettings,
    /// The fleet that this sidecar is a member of.
    pub fleet: FleetSettings,
    /// What one caller may cost.
    pub limits: Limits,
    /// How long callers may take.
    pub deadlines: Deadlines,
    /// Which requests the sidecar accepts.
    pub guard: GuardSettings,
    /// What is logged, and how.
    pub logging: Logging,
    /// Where spans of requests go.
    pub tracing: TracingSettings,
    /// When the configuration is read anew.
    pub reload: ReloadSettings,
    /// How the process runs.
    pub runtime: Runtime,
    /// Every value as it was written, secrets masked, with its source.
    pub effective: Effective,
}

impl Config {
    /// Makes the configuration of its layers. Reads a connection string only where it must tell the upstream.
    ///
    /// # Errors
    /// Every unknown key, every value of the wrong kind or out of range, and every contradiction, together.
    pub fn new(layers: Layers) -> Result<Self, ConfigErrors> {
        let mut config = Self::unvalidated(layers)?;
        let mut errors = endpoint::complete(&mut config.upstreams, |name| std::env::var(name).ok());
        errors.extend(validate::validate(&config));
        config.effective.resolve(&config.upstreams);
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
    }

    /// Reads the layers without checking that the values fit together: enough for the commands that only need to find
    /// the admin port of a running sidecar.
    ///
    /// # Errors
    /// Every unknown key and every value of the wrong kind or out of range.
    pub fn unvalidated(layers: Layers) -> Result<Self, ConfigErrors> {
        let values = layers.complete()?;
        let section = |path: &str| Section { values: &values, path: path.to_owned() };
        Ok(Self {
            listeners: with_named(&values, "listener", ListenerSettings::read),
            admin: AdminSettings::read(&section("admin")),
            upstreams: with_named(&values, "upstream", UpstreamSettings::read),
            store: StoreLimits::read(&section("store")),
            snapshot: SnapshotSettings::read(&section("snapshot")),
            fleet: FleetSettings::read(&section("fleet")),
            limits: Limits::read(&section("limits")),
            deadlines: Deadlines::read(&section("deadlines")),
            guard: GuardSettings::read(&section("guard")),
            logging: Logging::read(&section("logging")),
            tracing: TracingSettings::read(&section("tracing")),
            reload: ReloadSettings::read(&section("reload")),
            runtime: Runtime::read(&section("runtime")),
            effective: Effective::of(&values),
        })
    }

    /// Warns of each file with a secret that others than its owner may read, the file of `--config` included. To be called when
    /// nothing can fail any more.
    pub fn warn_of_readable_secrets(&self) {
        for setting in self.effective.0.iter().filter(|setting| setting.value == "\"***\"") {
            if let error::Source::File { path, .. } = &setting.source
                && let Ok(metadata) = std::fs::metadata(path)
            {
                input_file::warn_of_mode(path, &metadata);
            }
        }
        input_file::tell_readable_secrets();
    }
}

/// The main section, then the named ones in the order of their names.
fn with_named<T>(values: &Values, singular: &str, read: impl Fn(&Section<'_>) -> T) -> Vec<T> {
    let named = names_below(values, &format!("{singular}s")).into_iter();
    let paths = std::iter::once(singular.to_owned()).chain(named.map(|name| format!("{singular}s.{name}")));
    paths.map(|path| read(&Section { values, path })).collect()
}
