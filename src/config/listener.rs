//! Where callers, and the operator, reach the sidecar.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderName;
use serde::Deserialize;

use super::texts;

/// TLS towards callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// The certificate chain (PEM); the listener speaks TLS if it is set.
    #[serde(deserialize_with = "texts::path")]
    pub certificate_file: Option<PathBuf>,
    /// The private key (PEM).
    #[serde(deserialize_with = "texts::path")]
    pub key_file: Option<PathBuf>,
}

/// One listener for callers. Section `[listener]`, or `[listeners.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The name in `[listeners.NAME]`; `main` for `[listener]`.
    #[serde(skip)]
    pub name: String,
    /// The TCP addresses.
    pub listen: Vec<SocketAddr>,
    /// Whether `listen` is the built-in default, written out or not: then a machine without IPv6 may leave `[::1]` out.
    #[serde(skip)]
    pub listen_is_default: bool,
    /// The Unix socket.
    #[serde(deserialize_with = "texts::path")]
    pub unix: Option<PathBuf>,
    /// The mode bits of the Unix socket.
    #[serde(deserialize_with = "texts::mode")]
    pub unix_mode: u32,
    /// The group of the Unix socket, by name or number; empty leaves it to the system.
    pub unix_group: String,
    /// The users whose processes may connect to the Unix socket, by name or number; empty: whoever its mode lets in.
    pub unix_users: Vec<String>,
    /// The name of the upstream for everything that arrives here; empty: chosen by host and path.
    pub upstream: String,
    /// Whether cleartext HTTP/2 (prior knowledge) is spoken beside HTTP/1.
    pub http2: bool,
    /// Whether addresses beyond loopback are permitted.
    pub allow_remote: bool,
    /// Id and secret pairs with which callers sign; set, a caller must prove itself with one (or with the bearer token).
    #[serde(rename = "local_keys_file", deserialize_with = "texts::path")]
    pub local_keys_file: Option<PathBuf>,
    /// A file with the bearer token that callers must present; created at start if absent.
    #[serde(deserialize_with = "texts::path")]
    pub bearer_file: Option<PathBuf>,
    /// The request field that carries the bearer token.
    #[serde(deserialize_with = "texts::field")]
    pub bearer_field: Option<HeaderName>,
    /// TLS towards callers.
    pub tls: ListenerTls,
}

impl Listener {
    /// Whether callers must prove who they are.
    #[must_use]
    pub fn requires_credential(&self) -> bool {
        self.local_keys_file.is_some() || self.bearer_file.is_some()
    }
}

/// The operator's port. Section `[admin]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// The TCP addresses; none switches the port off.
    pub listen: Vec<SocketAddr>,
    /// Whether `listen` is the built-in default, written out or not: then a machine without IPv6 may leave `[::1]` out.
    #[serde(skip)]
    pub listen_is_default: bool,
    /// Whether addresses beyond loopback are permitted.
    pub allow_remote: bool,
    /// A file with the bearer token for whatever changes state; created at start if absent.
    #[serde(deserialize_with = "texts::path")]
    pub token_file: Option<PathBuf>,
    /// Most connections at once, apart from those of callers.
    pub connections: usize,
}
