//! An access key: each request is signed with the sidecar's own clock (Azure App Configuration, "HMAC authentication").

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Uri};

use super::connection_string::{ConnectionString, ConnectionStringError};
use super::refusal::Refusals;
use super::watched_file::{FileError, WatchedFile};
use super::{Authorizing, Credential, CredentialError, Unsigned};
use crate::config;
use crate::headers::access_key::{AccessKey, AccessKeyError, SecretBytes, content_sha256};
use crate::headers::hmac_authorization::{X_MS_CONTENT_SHA256, X_MS_DATE, authorization};
use crate::headers::http_date;

/// Why no access key is available at start.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The environment variable is not set, or not text.
    #[error("the environment variable {0} is not set; set it, or name another one")]
    Variable(String),
    /// The connection string.
    #[error(transparent)]
    ConnectionString(#[from] ConnectionStringError),
    /// Id or secret.
    #[error(transparent)]
    Key(#[from] AccessKeyError),
}

/// Signs with an access key.
#[derive(Debug)]
pub struct HmacCredential {
    key: KeySource,
    refusals: Refusals,
}

#[derive(Debug)]
enum KeySource {
    Fixed(AccessKey),
    File(WatchedFile<AccessKey>),
}

impl KeySource {
    /// What follows from the key that was read last.
    fn held<T>(&self, follows: impl FnOnce(&AccessKey) -> T) -> Option<T> {
        match self {
            Self::Fixed(key) => Some(follows(key)),
            Self::File(file) => file.held().map(|key| follows(&key)),
        }
    }
}

impl HmacCredential {
    /// A credential from the key that the configuration names; `variable` reads the environment.
    ///
    /// # Errors
    /// [`KeyError`] if there is no usable key.
    pub fn new(
        upstream: &config::UpstreamSettings,
        variable: impl Fn(&str) -> Option<String>,
        refusals: Refusals,
    ) -> Result<Self, KeyError> {
        let (settings, url) = (&upstream.credential, upstream.url.clone());
        let variable = |name: &str| {
            variable(name).map(zeroize::Zeroizing::new).ok_or_else(|| KeyError::Variable(name.to_owned()))
        };
        let key = if let Some(path) = &settings.connection_string_file {
            KeySource::File(WatchedFile::open(
                path,
                Box::new(move |text| from_string(text, &url).map_err(said)),
            )?)
        } else if let Some(path) = &settings.secret_file {
            let id = settings.id.clone();
            KeySource::File(WatchedFile::open(
                path,
                Box::new(move |text| from_parts(&id, text).map_err(said)),
            )?)
        } else if !settings.connection_string_variable.is_empty() {
            KeySource::Fixed(from_string(&variable(&settings.connection_string_variable)?, &url)?)
        } else if !settings.secret_variable.is_empty() {
            KeySource::Fixed(from_parts(&settings.id, &variable(&settings.secret_variable)?)?)
        } else if !settings.connection_string.is_empty() {
            KeySource::Fixed(from_string(settings.connection_string.expose(), &url)?)
        } else {
            KeySource::Fixed(from_parts(&settings.id, settings.secret.expose())?)
        };
        Ok(Self { key, refusals })
    }
}

/// Reads a connection string. Its `Endpoint`, if there is one, must be the upstream: a key never signs for another
/// store than its own.
fn from_string(text: &str, upstream: &Uri) -> Result<AccessKey, ConnectionStringError> {
    let string = ConnectionString::parse(text)?;
    match string.endpoint {
        Some(endpoint) if !config::is_endpoint_of(endpoint, upstream) => {
            Err(ConnectionStringError::Elsewhere { upstream: upstream.to_string() })
        }
        _ => Ok(string.key),
    }
}

fn from_parts(id: &str, secret: &str) -> Result<AccessKey, AccessKeyError> {
    AccessKey::new(id, SecretBytes::from_base64(secret)?)
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Adds date, hash and signature.
fn sign(key: &AccessKey, request: &Unsigned<'_>, fields: &mut HeaderMap) -> Result<(), CredentialError> {
    let date = http_date::format(request.now);
    let hash = content_sha256(request.body);
    let value = authorization(
        key,
        request.method.as_str(),
        request.target,
        date.to_str().unwrap_or_default(),
        request.authority,
        &hash,
    );
    let unsendable = |_| CredentialError {
        cause: "the id of the access key cannot be sent in a header field; copy the connection string again"
            .to_owned(),
    };
    let mut value = HeaderValue::try_from(value).map_err(unsendable)?;
    value.set_sensitive(true);
    fields.insert(X_MS_DATE, date);
    fields.insert(X_MS_CONTENT_SHA256, HeaderValue::try_from(hash).map_err(unsendable)?);
    fields.insert(AUTHORIZATION, value);
    Ok(())
}

impl Credential for HmacCredential {
    fn authorize<'a>(&'a self, request: Unsigned<'a>, fields: &'a mut HeaderMap) -> Authorizing<'a> {
        Box::pin(async move {
            match &self.key {
                KeySource::Fixed(key) => sign(key, &request, fields),
                KeySource::File(file) => {
                    let key = file.current(request.now).await;
                    let key = key.map_err(|error| CredentialError { cause: error.to_string() })?;
                    sign(&key, &request, fields)
                }
            }
        })
    }

    fn signs_body(&self) -> bool {
        true
    }

    fn own(&self) -> Option<(&'static str, &Refusals)> {
        Some(("hmac", &self.refusals))
    }

    fn identity(&self) -> String {
        self.key.held(|key| format!("hmac {}", key.id())).unwrap_or_default()
    }

    fn derived_key(&self, purpose: &[u8]) -> Option<zeroize::Zeroizing<[u8; 32]>> {
        self.key.held(|key| key.derived(purpose))
    }
}

#[cfg(test)]
mod tests;
