//! How the sidecar authenticates itself upstream: one file for each kind of credential.

pub mod bearer;
pub mod connection_string;
pub mod entra;
pub mod hmac;
mod local_filesystem;
pub mod partition;
pub mod refusal;
pub mod token_file;
pub mod unauthorized;
pub mod watched_file;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::transport::client::ExchangeLimits;
use refusal::{CredentialRefusal, Refusals};

/// Why a request cannot get its credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream credential is not available: {cause}")]
pub struct CredentialError {
    /// What is wrong and what the operator can do about it. Never holds a secret.
    pub cause: String,
}

/// A request as it will be sent: what a credential is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// The method.
    pub method: &'a http::Method,
    /// Path and query, byte for byte as on the request line.
    pub target: &'a str,
    /// The upstream's authority, as in `Host`.
    pub authority: &'a str,
    /// The whole body; empty if there is none.
    pub body: &'a [u8],
    /// The time by the sidecar's own clock.
    pub now: Timestamp,
    /// A stored response may answer in the place of the origin: the request does not wait for a credential that could not be had.
    pub has_substitute: bool,
}

/// A credential on its way into the fields of a request.
pub type Authorizing<'a> = BoxFuture<'a, Result<(), CredentialError>>;

/// Authenticates the sidecar to one upstream.
pub trait Credential: Send + Sync + std::fmt::Debug {
    /// Adds the credential to `fields`. A kind without a credential of its own adds nothing.
    ///
    /// # Errors
    /// [`CredentialError`] if there is no usable credential at the moment.
    fn authorize<'a>(&'a self, _request: Unsigned<'a>, _fields: &'a mut HeaderMap) -> Authorizing<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether a caller's own `Authorization` goes upstream.
    fn forwards_callers(&self) -> bool {
        false
    }

    /// Whether the whole body must be in memory before the request is sent, because the signature covers it.
    fn signs_body(&self) -> bool {
        false
    }

    /// Whether there is a usable credential, if that can change; `None` if it cannot.
    fn availability(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    /// The sidecar's own credential: the configuration's word for its kind, and what the upstream said of it. `None` if
    /// the sidecar has none of its own.
    fn own(&self) -> Option<(&'static str, &Refusals)> {
        None
    }

    /// Asks for another credential, if there can be one, because the upstream refuses this one.
    fn renew(&self) {}

    /// The configuration's word for this kind; `None` if the sidecar has no credential of its own.
    fn own_kind(&self) -> Option<&'static str> {
        self.own().map(|(kind, _)| kind)
    }

    /// Whether the upstream accepts the credential: false after a 401 until another answer; `None` if the sidecar has
    /// none.
    fn acceptance(&self) -> Option<watch::Receiver<bool>> {
        self.own().map(|(_, refusals)| refusals.acceptance())
    }

    /// Takes note of an answer, so that a refused credential is reported or renewed. Returns why it is refused, if it is.
    fn observe_answer(
        &self,
        status: http::StatusCode,
        fields: &HeaderMap,
        now: Timestamp,
    ) -> Option<CredentialRefusal> {
        let refusal = self.own().and_then(|(_, refusals)| refusals.observe_answer(status, fields, now));
        if refusal == Some(CredentialRefusal::Credential) {
            self.renew();
        }
        refusal
    }

    /// Takes the deadlines of the upstream over, where it asks somebody else for the credential.
    fn set_deadlines(&self, _of_upstream: ExchangeLimits) {}

    /// As whom the sidecar asks, without any secret. Another identity may be allowed to read other things.
    fn identity(&self) -> String {
        self.own_kind().unwrap_or("none").to_owned()
    }

    /// A key that only who has the secret of this credential can derive; `None` where there is no secret that lasts.
    fn derived_key(&self, _purpose: &[u8]) -> Option<zeroize::Zeroizing<[u8; 32]>> {
        None
    }
}

/// Whether an eavesdropper could read what is sent to this URI: it is neither TLS nor on this machine.
pub fn travels_in_the_clear(to: &http::Uri) -> bool {
    let host = to.host().unwrap_or_default();
    let is_loopback = host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    to.scheme_str() != Some("https") && !is_loopback
}

/// No credential: the upstream asks for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCredential;

impl Credential for NoCredential {}

/// The caller's own `Authorization` goes upstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardedCredential;

impl Credential for ForwardedCredential {
    fn identity(&self) -> String {
        "forward".to_owned()
    }

    fn forwards_callers(&self) -> bool {
        true
    }
}
