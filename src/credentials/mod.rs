//! How the sidecar proves itself upstream. One file per kind of credential.

pub mod bearer;
pub mod connection_string;
pub mod entra;
pub mod hmac;
pub mod partition;
pub mod refusal;
pub mod token_file;
pub mod unauthorized;
pub mod watched_file;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use tokio::sync::watch;

use crate::clock::Timestamp;

/// Why a request could not be given its credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream credential is not available: {cause}")]
pub struct CredentialError {
    /// What is wrong and what the operator can do about it. Never holds a secret.
    pub cause: String,
}

/// What a credential is made for: a request as it will leave.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// The method.
    pub method: &'a http::Method,
    /// Path and query, byte for byte as they will stand on the request line.
    pub target: &'a str,
    /// The upstream's authority, as it will stand in `Host`.
    pub authority: &'a str,
    /// The whole body; empty when there is none.
    pub body: &'a [u8],
    /// The time by the sidecar's own clock.
    pub now: Timestamp,
}

/// Proves the sidecar to one upstream.
pub trait Credential: Send + Sync + std::fmt::Debug {
    /// Adds what proves the sidecar to `fields`: nothing, unless a credential of its own does.
    ///
    /// # Errors
    /// [`CredentialError`] when there is nothing to prove it with at the moment.
    fn authorize<'a>(
        &'a self,
        _request: Unsigned<'a>,
        _fields: &'a mut HeaderMap,
    ) -> BoxFuture<'a, Result<(), CredentialError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether a caller's own `Authorization` goes upstream.
    fn forwards_callers(&self) -> bool {
        false
    }

    /// Whether the whole body must be at hand before the request leaves, because it is part of the signature.
    fn signs_body(&self) -> bool {
        false
    }

    /// Whether there is anything to prove the sidecar with, where that can change; `None` where it cannot.
    fn availability(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    /// The word of the configuration for a credential of the sidecar's own; `None` where it has none.
    fn own_kind(&self) -> Option<&'static str> {
        None
    }

    /// Whether the last answer did not refuse the credential as one that is not known, where there is one.
    fn acceptance(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    /// Hears of every answer, so that a refused credential can be reported or renewed.
    fn heed(&self, _status: http::StatusCode, _fields: &HeaderMap, _now: Timestamp) {}
}

/// Whether what is sent there can be read on the way: not by TLS, and not within this machine.
#[must_use]
pub fn travels_in_the_clear(to: &http::Uri) -> bool {
    let host = to.host().unwrap_or_default();
    let is_loopback = host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    to.scheme_str() != Some("https") && !is_loopback
}

/// No credential at all: the upstream asks for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCredential;

impl Credential for NoCredential {}

/// The caller's own `Authorization` goes upstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardedCredential;

impl Credential for ForwardedCredential {
    fn forwards_callers(&self) -> bool {
        true
    }
}
