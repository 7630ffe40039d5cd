//! A bearer token from a file that another program keeps up to date. The file is read again when it changes.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::refusal::Refusals;
use super::token_file;
use super::watched_file::WatchedFile;
use super::{Authorizing, Credential, CredentialError, Unsigned};
use crate::clock::Clock;
use crate::config::SecretString;

/// How often a missing file is looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Authenticates with the token in a file. The file may appear after the sidecar has started.
pub struct BearerFile {
    file: Arc<WatchedFile<SecretString>>,
    available: watch::Sender<bool>,
    clock: Clock,
    waiting: OnceLock<AbortOnDropHandle<()>>,
    refusals: Refusals,
}

impl std::fmt::Debug for BearerFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BearerFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl BearerFile {
    /// A credential from the token in this file.
    pub fn new(path: &Path, clock: Clock, refusals: Refusals) -> Self {
        let file = Arc::new(WatchedFile::awaited(path, Box::new(token_file::read)));
        let credential =
            Self { file, available: watch::Sender::new(false), clock, waiting: OnceLock::new(), refusals };
        if tokio::runtime::Handle::try_current().is_ok() {
            credential.look_until_there();
        }
        credential
    }

    /// Looks for the file until it has a token, so that `/readyz` is correct before the first request.
    fn look_until_there(&self) {
        self.waiting.get_or_init(|| {
            let (file, available, clock) =
                (Arc::clone(&self.file), self.available.clone(), self.clock.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                while file.current(clock.now()).await.is_err() {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                available.send_replace(true);
            }))
        });
    }
}

/// Adds a bearer token to the fields of a request.
pub(super) fn present(token: &SecretString, fields: &mut HeaderMap) -> Result<(), CredentialError> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| CredentialError {
        cause: "the token cannot be sent in a header field; write one line of visible ASCII".to_owned(),
    })?;
    value.set_sensitive(true);
    fields.insert(AUTHORIZATION, value);
    Ok(())
}

impl Credential for BearerFile {
    fn authorize<'a>(&'a self, request: Unsigned<'a>, fields: &'a mut HeaderMap) -> Authorizing<'a> {
        Box::pin(async move {
            let token = self.file.current(request.now).await;
            let token = token.map_err(|error| CredentialError { cause: format!("bearer_file {error}") })?;
            present(&token, fields)
        })
    }

    fn own(&self) -> Option<(&'static str, &Refusals)> {
        Some(("bearer-file", &self.refusals))
    }

    fn identity(&self) -> String {
        // Tokens come and go; whoever fills this file is taken for one identity.
        format!("bearer-file {}", self.file.path().display())
    }

    fn availability(&self) -> Option<watch::Receiver<bool>> {
        Some(self.available.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::metrics::Metrics;

    const START: Timestamp = Timestamp::from_unix_seconds(1_763_719_200);

    #[tokio::test]
    async fn the_token_may_come_later_and_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let clock = Clock::manual(START);
        let metrics = Metrics::new(["main"]).upstream(0).origin.clone();
        let credential = BearerFile::new(&path, clock.clone(), Refusals::new("main".to_owned(), metrics));
        let authorize = async || {
            let mut fields = HeaderMap::new();
            let unsigned = Unsigned {
                has_substitute: false,
                method: &http::Method::GET,
                target: "/",
                authority: "o",
                body: b"",
                now: clock.now(),
            };
            credential.authorize(unsigned, &mut fields).await.map(|()| fields)
        };
        let error = authorize().await.unwrap_err().to_string();
        assert!(error.contains("token"), "{error}");
        assert!(!*credential.availability().unwrap().borrow());
        std::fs::write(&path, "first\n").unwrap();
        clock.advance(LOOK_INTERVAL);
        assert_eq!(authorize().await.unwrap()[AUTHORIZATION], "Bearer first");
        credential.availability().unwrap().wait_for(|it| *it).await.unwrap();
        std::fs::write(&path, "second one").unwrap();
        clock.advance(LOOK_INTERVAL);
        assert_eq!(authorize().await.unwrap()[AUTHORIZATION], "Bearer first", "no token has a space");
        std::fs::write(&path, "second").unwrap();
        clock.advance(LOOK_INTERVAL);
        let fields = authorize().await.unwrap();
        assert_eq!(fields[AUTHORIZATION], "Bearer second");
        assert!(!format!("{fields:?} {credential:?}").contains("second"));
    }
}
