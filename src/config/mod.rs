//! The configuration: types, defaults, ranges, and where each value came from.
//!
//! [`Layers`] merges built-in defaults, a TOML file, `TAGALONG_*` variables and flags; [`Config::new`] makes one typed,
//! validated [`Config`] of them. `keys` lists every key; `config/default.toml` explains each for people.

pub mod caching;
mod documented;
pub mod duration;
mod effective;
mod endpoint;
mod error;
mod keys;
mod layers;
mod limits;
mod listener;
pub mod secret;
pub mod size;
mod texts;
mod upstream;
mod validate;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use caching::CachingRules;
pub use documented::DEFAULT_TOML;
pub use effective::Effective;
pub use endpoint::is_endpoint_of;
pub use error::{ConfigError, ConfigErrors};
pub use layers::Layers;
pub use limits::{Deadlines, Guard, Limits, LogFormat, Logging, Runtime, StoreLimits};
pub use listener::{Admin, Listener};
pub use secret::Secret;
pub use upstream::{
    Credential, CredentialKind, ProfileKind, Upstream, UpstreamProxy, UpstreamTls, WriteStrategy,
};

/// The whole configuration, complete and consistent.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where callers are heard: `[listener]` first, then `[listeners.NAME]` in the order of their names.
    pub listeners: Vec<Listener>,
    /// The operator's port.
    pub admin: Admin,
    /// Where requests go: `[upstream]` first (it takes what no other claims), then `[upstreams.NAME]`. Never empty.
    pub upstreams: Vec<Upstream>,
    /// What is stored.
    pub store: StoreLimits,
    /// What one caller may cost.
    pub limits: Limits,
    /// How long callers may take.
    pub deadlines: Deadlines,
    /// Who may speak to the sidecar at all.
    pub guard: Guard,
    /// What is logged, and how.
    pub logging: Logging,
    /// How the process runs.
    pub runtime: Runtime,
    /// Every value as it was written, secrets masked, with its source.
    pub effective: Effective,
}

/// The configuration as it is laid out in the file, every key present.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    listener: Listener,
    #[serde(default)]
    listeners: BTreeMap<String, Listener>,
    admin: Admin,
    upstream: Upstream,
    #[serde(default)]
    upstreams: BTreeMap<String, Upstream>,
    store: StoreLimits,
    limits: Limits,
    deadlines: Deadlines,
    guard: Guard,
    logging: Logging,
    runtime: Runtime,
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
        let effective = Effective::of(&values);
        let document: Document = effective::tree(&values)
            .try_into()
            .map_err(|error: toml::de::Error| ConfigErrors(vec![ConfigError::Together(error.to_string())]))?;
        let is_default = |path: &str| values.get(path).is_some_and(layers::Layered::is_default);
        let Document { listener, listeners, admin, upstream, upstreams, store, .. } = document;
        let body_limit_bytes = store.body_limit_bytes;
        let upstreams = std::iter::once(("main".to_owned(), upstream))
            .chain(upstreams)
            .map(|(name, upstream)| Upstream {
                name,
                stored_body_limit_bytes: body_limit_bytes,
                credential: upstream.credential.of_its_kind(),
                ..upstream
            })
            .collect();
        let main_is_default = is_default("listener.listen");
        let listeners = std::iter::once(("main".to_owned(), main_is_default, listener))
            .chain(listeners.into_iter().map(|(name, listener)| (name, false, listener)))
            .map(|(name, listen_is_default, listener)| Listener { name, listen_is_default, ..listener })
            .collect();
        Ok(Self {
            listeners,
            admin: Admin { listen_is_default: is_default("admin.listen"), ..admin },
            upstreams,
            store,
            limits: document.limits,
            deadlines: document.deadlines,
            guard: document.guard,
            logging: document.logging,
            runtime: document.runtime,
            effective,
        })
    }

    /// What the pure decisions need to know about one upstream.
    #[must_use]
    pub fn caching_rules(&self, upstream: &Upstream) -> CachingRules {
        upstream.caching_rules()
    }
}
