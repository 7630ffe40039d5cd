//! Where callers, and the operator, reach the sidecar.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderName;

use super::section::section;

section! {
    /// TLS towards callers.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct ListenerTls in "listener.tls" {
        /// The certificate chain (PEM); the listener speaks TLS if it is set.
        pub certificate_file: Option<PathBuf> = "", restart();
        /// The private key (PEM).
        pub key_file: Option<PathBuf> = "", restart();
    }
}

section! {
    /// One listener for callers. Section `[listener]`, or `[listeners.NAME]`.
    #[derive(Clone, Debug)]
    pub struct ListenerSettings in "listener" {
        /// The TCP addresses.
        pub listen: Vec<SocketAddr> = "127.0.0.1:8484,[::1]:8484", restart(), not_inherited(),
            flag("listen", "IP:PORT", "Address for callers; several times for several [default: 127.0.0.1:8484 and [::1]:8484]");
        /// The Unix socket.
        pub unix: Option<PathBuf> = "", restart(), not_inherited(),
            flag("listen-unix", "PATH", "Unix socket for callers");
        /// The mode bits of the Unix socket.
        pub unix_mode: u32 = "0600", restart();
        /// The group of the Unix socket, by name or number; empty leaves it to the system.
        pub unix_group: String = "", restart();
        /// The users whose processes may connect to the Unix socket, by name or number; empty: those that its mode admits.
        pub unix_users: Vec<String> = "", restart();
        /// The name of the upstream for everything that arrives here; empty: chosen by host and path.
        pub upstream: String = "", not_inherited();
        /// Whether cleartext HTTP/2 (prior knowledge) is spoken beside HTTP/1.
        pub http2: bool = "false", restart();
        /// Whether addresses beyond loopback are permitted.
        pub allow_remote: bool = "false";
        /// Id and secret pairs with which callers sign; set, a caller must prove itself with one (or with the bearer token).
        pub local_keys_file: Option<PathBuf> = "",
            flag("local-keys", "FILE", "File with the ids and secrets with which callers sign");
        /// A file with the bearer token that callers must present; created at start if absent.
        pub bearer_file: Option<PathBuf> = "";
        /// The request field that carries the bearer token.
        pub bearer_field: Option<HeaderName> = "Authorization";
    }
    beside |section| {
        /// The name in `[listeners.NAME]`; `main` for `[listener]`.
        pub name: String = section.name();
        /// Whether `listen` is the built-in default, written out or not: then a machine without IPv6 may leave `[::1]` out.
        pub listen_is_default: bool = section.path == "listener" && section.is_default("listen");
        /// TLS towards callers.
        pub tls: ListenerTls = ListenerTls::read(&section.inside("tls"));
    }
}

impl ListenerSettings {
    /// Whether callers must prove who they are.
    pub fn requires_credential(&self) -> bool {
        self.local_keys_file.is_some() || self.bearer_file.is_some()
    }
}

section! {
    /// The operator's port. Section `[admin]`.
    #[derive(Clone, Debug)]
    pub struct AdminSettings in "admin" {
        /// The TCP addresses; none switches the port off.
        pub listen: Vec<SocketAddr> = "127.0.0.1:8485,[::1]:8485", restart(),
            flag("admin-listen", "IP:PORT", "Address for the operator: metrics, probes, purges [default: 127.0.0.1:8485 and [::1]:8485]");
        /// Whether addresses beyond loopback are permitted.
        pub allow_remote: bool = "false";
        /// Whether `/admin/status` names the keys that answer most.
        pub show_keys: bool = "false", restart();
        /// A file with the bearer token for whatever changes state, and for names of keys; created at start if absent.
        pub token_file: Option<PathBuf> = "";
        /// Whether `POST /admin/quit` stops the sidecar.
        pub quit: bool = "false";
        /// Most connections at once, apart from those of callers.
        pub connections: usize = "16", restart(), within(1, 1_000);
    }
    beside |section| {
        /// Whether `listen` is the built-in default, written out or not: then a machine without IPv6 may leave `[::1]` out.
        pub listen_is_default: bool = section.is_default("listen");
    }
}
