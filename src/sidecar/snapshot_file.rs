//! The snapshot of this sidecar: which upstreams it is of, and its key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Config, ConfigErrors, UpstreamSettings, Word as _};
use crate::credentials::token_file::Absent;
use crate::proxy::Proxy;
use crate::proxy::assemble::{AssembleError, Environment};
use crate::seal::key::{SealingKey, SealingKeyError, SealingPurpose};
use crate::snapshot::header::SnapshotSource;
use crate::snapshot::keep::{SnapshotUpstream, derived_key};
use crate::snapshot::{SnapshotRefusal, Snapshots};

/// Why `tagalong snapshot show` shows nothing.
#[derive(Debug, thiserror::Error)]
pub enum ShowSnapshotError {
    /// The file may not be opened.
    #[error("{}: {}; {}", path.display(), refusal.as_str(), refusal.advice())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        refusal: SnapshotRefusal,
    },
    /// There is no key.
    #[error(transparent)]
    Key(#[from] SealingKeyError),
    /// The key file is not there.
    #[error("{} is not there; name the key file that the snapshot was written with (--snapshot-key-file)", path.display())]
    NoKeyFile {
        /// The key file.
        path: PathBuf,
    },
    /// Without a key file, the configuration must give the access key.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The same.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
}

/// The snapshot that the configuration names, before it is restored. Without a key there is none, and the log says so.
///
/// # Errors
/// When the key file holds no key.
pub fn open(
    config: &Config,
    proxy: &Proxy,
    environment: &Environment<'_>,
) -> Result<Option<Arc<Snapshots>>, SealingKeyError> {
    let settings = &config.snapshot;
    let Some(path) = &settings.file else { return Ok(None) };
    let key = match &settings.key_file {
        Some(key_file) => {
            SealingKey::from_file(key_file, SealingPurpose::Snapshot, environment.absent_token)?
        }
        None => None,
    };
    if environment.absent_token == Absent::Try {
        return Ok(None);
    }
    let credentials = proxy.destinations().iter().map(|it| it.upstream.credential());
    if key.is_none() && derived_key(credentials).is_none() {
        tracing::warn!(
            file = %path.display(),
            "there is no snapshot, because there is no key for it: set snapshot.key_file, or use an access key"
        );
        return Ok(None);
    }
    if settings.key_file.as_ref().is_some_and(|key_file| key_file.parent() == path.parent()) {
        tracing::warn!(
            file = %path.display(),
            "the key of the snapshot lies beside it: who reads the one can read the other; put snapshot.key_file elsewhere"
        );
    }
    let upstreams =
        proxy.destinations().iter().zip(&config.upstreams).map(|(destination, settings)| SnapshotUpstream {
            source: source(settings, destination.upstream.credential().identity()),
            upstream: Arc::clone(&destination.upstream),
            mirror: destination.mirror.clone(),
        });
    let snapshots = Snapshots::new(
        settings.clone(),
        path,
        key,
        Arc::clone(proxy.store()),
        upstreams.collect(),
        environment.clock.clone(),
        proxy.metrics().snapshot().clone(),
    );
    match snapshots {
        Ok(snapshots) => Ok(Some(Arc::new(snapshots))),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "there is no snapshot: name a file");
            Ok(None)
        }
    }
}

fn source(settings: &UpstreamSettings, identity: String) -> SnapshotSource {
    SnapshotSource {
        name: settings.name.clone(),
        url: settings.url.to_string(),
        profile: format!("{} {}", settings.profile().word(), settings.sharing.word()),
        identity,
    }
}

/// What is in a snapshot, by names and ages, for who has its key: that of `snapshot.key_file`, else the access key.
/// `unvalidated` has the key file; `config` gives the whole configuration where the access key is needed.
///
/// # Errors
/// [`ShowSnapshotError`]
pub fn show_snapshot(
    path: &Path,
    unvalidated: &Config,
    config: impl FnOnce() -> Result<Config, ConfigErrors>,
) -> Result<String, ShowSnapshotError> {
    let environment = Environment { absent_token: Absent::Try, ..Environment::default() };
    let refused = |refusal| ShowSnapshotError::Refused { path: path.to_owned(), refusal };
    let key = match &unvalidated.snapshot.key_file {
        Some(key_file) => SealingKey::from_file(key_file, SealingPurpose::Snapshot, Absent::Try)?
            .ok_or_else(|| ShowSnapshotError::NoKeyFile { path: key_file.clone() })?,
        None => {
            let proxy = Proxy::new(&config()?, &environment)?;
            let credentials = proxy.destinations().iter().map(|it| it.upstream.credential());
            derived_key(credentials).ok_or_else(|| refused(SnapshotRefusal::NoKey))?
        }
    };
    crate::snapshot::show::show(path, &key, environment.clock.now()).map_err(refused)
}
