//! Authentication of callers: the access keys and the bearer token of one listener.

use std::path::Path;
use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::local_keys::{KeyPermissions, LocalKeys};
use crate::clock::Timestamp;
use crate::config::{self, SecretString};
use crate::credentials::token_file::{self, Absent, TokenFileError};
use crate::credentials::watched_file::{FileError, WatchedFile};
use crate::error::{RefusalReason, Refused};
use crate::headers::hmac_authorization::{
    AuthorizationError, SCHEME, SignedContent, SignedRequest, X_MS_CONTENT_SHA256, X_MS_DATE, verify,
};

/// Why authentication of callers cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum CallersError {
    /// The file of access keys.
    #[error("local_keys_file {0}")]
    Keys(#[from] FileError),
    /// The file of the bearer token.
    #[error("bearer_file {0}")]
    Token(#[from] TokenFileError),
}

/// The credentials that one listener accepts.
#[derive(Debug)]
pub struct Callers {
    keys: Option<WatchedFile<LocalKeys>>,
    bearer: Option<Bearer>,
}

#[derive(Debug)]
struct Bearer {
    token: WatchedFile<SecretString>,
    field: HeaderName,
}

/// An authenticated caller.
#[derive(Debug)]
pub struct AuthenticatedCaller {
    /// Its name in limits and logs. It contains no secret.
    pub name: Arc<str>,
    /// Its permissions.
    pub access: Arc<KeyPermissions>,
    /// The hash that its body must have, if it signed one.
    pub content: Option<SignedContent>,
}

impl Callers {
    /// The credentials of a listener; `None` if it accepts every caller. `absent_token` says what to do if the
    /// configured token file is missing.
    ///
    /// # Errors
    /// [`CallersError`] if a file cannot be used.
    pub fn new(
        listener: &config::ListenerSettings,
        absent_token: Absent,
    ) -> Result<Option<Self>, CallersError> {
        if !listener.requires_credential() {
            return Ok(None);
        }
        let keys = |path: &Path| {
            WatchedFile::open(
                path,
                Box::new(|text| LocalKeys::parse(text).map_err(|error| error.to_string())),
            )
        };
        let bearer = |path: &Path| {
            let token = if token_file::prepare(path, absent_token)? {
                WatchedFile::open(path, Box::new(token_file::read))?
            } else {
                WatchedFile::awaited(path, Box::new(token_file::read))
            };
            let field = listener.bearer_field.clone().unwrap_or(AUTHORIZATION);
            Ok::<_, CallersError>(Bearer { token, field })
        };
        Ok(Some(Self {
            keys: listener.local_keys_file.as_deref().map(keys).transpose()?,
            bearer: listener.bearer_file.as_deref().map(bearer).transpose()?,
        }))
    }

    /// Authenticates the sender of a request, and removes the credential from the head: it is for the sidecar alone.
    ///
    /// # Errors
    /// 401 with one challenge for each scheme, as the service answers.
    pub async fn authenticate(
        &self,
        head: &mut Parts,
        now: Timestamp,
    ) -> Result<AuthenticatedCaller, Refused> {
        if head.headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
            return Err(self.refused(None, "Authorization stands on several lines. Send one"));
        }
        if let Some(bearer) = &self.bearer
            && let Some(presented) = bearer.presented(&head.headers)
        {
            let token = bearer.token.current(now).await;
            let token = token.map_err(|error| self.refused(None, error.to_string()))?;
            if !token.is_empty() && token.is(presented) {
                head.headers.remove(&bearer.field);
                return Ok(AuthenticatedCaller {
                    name: "bearer".into(),
                    access: Arc::default(),
                    content: None,
                });
            }
            return Err(self.refused(
                None,
                "The bearer token is not that of this listener. Send the one in the file that bearer_file names",
            ));
        }
        let Some(keys) = &self.keys else {
            return Err(
                self.refused(None, "This listener asks for the token in the file that bearer_file names")
            );
        };
        let keys = keys.current(now).await.map_err(|error| self.refused(None, error.to_string()))?;
        let verified = verify(&signed(head), now, |id| keys.find(id).map(|known| &known.key))
            .map_err(|error| self.refused(Some(&error), error.to_string()))?;
        let access = keys.find(verified.key.id()).map(|known| Arc::clone(&known.access));
        let name = verified.key.id().into();
        let content = verified.into_content();
        for field in [AUTHORIZATION, X_MS_DATE, X_MS_CONTENT_SHA256] {
            head.headers.remove(field);
        }
        // The key was just found. If it were missing, the request would be refused.
        let access = access.ok_or_else(|| self.refused(Some(&AuthorizationError::CredentialUnknown), ""))?;
        Ok(AuthenticatedCaller { name, access, content: Some(content) })
    }

    /// Refuses a body that is not the signed one.
    pub fn check_content(&self, content: &SignedContent, body: &[u8]) -> Result<(), Refused> {
        content.check(body).map_err(|error| self.refused(Some(&error), error.to_string()))
    }

    fn refused(
        &self,
        signature: Option<&AuthorizationError>,
        detail: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Refused {
        let mut refused = Refused::new(RefusalReason::Unauthenticated, detail);
        if self.keys.is_some() {
            let challenge = signature.map_or_else(|| SCHEME.to_owned(), AuthorizationError::challenge);
            if let Ok(value) = HeaderValue::try_from(challenge) {
                refused = refused.with_field(WWW_AUTHENTICATE, value);
            }
        }
        if self.bearer.is_some() {
            refused = refused.with_field(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        refused
    }
}

/// The request as its sender signed it, with method and target as received.
fn signed(head: &Parts) -> SignedRequest<'_> {
    SignedRequest {
        method: head.method.as_str(),
        target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
        headers: &head.headers,
        authority: head.uri.authority().map(|authority| authority.as_str()),
    }
}

impl Bearer {
    /// The presented token, if there is one.
    fn presented<'a>(&self, fields: &'a HeaderMap) -> Option<&'a str> {
        let value = fields.get(&self.field)?.to_str().ok()?;
        let token = if self.field == AUTHORIZATION {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("Bearer").then_some(token)?
        } else {
            value
        };
        Some(token.trim())
    }
}

#[cfg(test)]
mod tests;
