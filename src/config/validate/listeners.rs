//! What must hold of the listeners: for callers, and for the operator.

use std::net::SocketAddr;

use super::section;
use crate::config::{Config, ListenerSettings};

pub(super) fn listener_holds(listener: &ListenerSettings, config: &Config, refuse: &mut impl FnMut(String)) {
    let section = section("listener", &listener.name);
    if listener.listen.is_empty() && listener.unix.is_none() {
        refuse(format!("{section} has neither listen nor unix: give it an address or a socket"));
    }
    for address in listener.listen.iter().filter(|address| !address.ip().is_loopback()) {
        if !listener.allow_remote {
            refuse(format!(
                "{section}.listen = {address} is reachable from other machines: choose 127.0.0.1 or [::1], or set \
                 {section}.allow_remote = true and a caller credential"
            ));
        } else if !listener.requires_credential() {
            refuse(format!(
                "{section}.listen = {address} is reachable from other machines and accepts every caller: set \
                 {section}.local_keys_file or {section}.bearer_file"
            ));
        }
    }
    let tls = &listener.tls;
    if tls.certificate_file.is_some() != tls.key_file.is_some() {
        refuse(format!("{section}.tls needs certificate_file and key_file together: set both or none"));
    }
    if listener.bearer_file.is_some() && listener.bearer_field.is_none() {
        refuse(format!(
            "{section}.bearer_field is empty: name the field that carries the token, such as Authorization"
        ));
    }
    if !listener.upstream.is_empty() && !config.upstreams.iter().any(|it| it.name == listener.upstream) {
        let names: Vec<&str> = config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        refuse(format!(
            "{section}.upstream = {:?} is not an upstream: choose one of {}",
            listener.upstream,
            names.join(", ")
        ));
    }
}

pub(super) fn admin_holds(config: &Config, refuse: &mut impl FnMut(String)) {
    for address in config.admin.listen.iter().filter(|address| !address.ip().is_loopback()) {
        if !config.admin.allow_remote || config.admin.token_file.is_none() {
            refuse(format!(
                "admin.listen = {address} is reachable from other machines: choose 127.0.0.1 or [::1], or set \
                 admin.allow_remote = true and admin.token_file"
            ));
        }
    }
}

/// No two listeners have one address, the operator's included.
pub(super) fn addresses_differ(config: &Config, refuse: &mut impl FnMut(String)) {
    let callers = config.listeners.iter().flat_map(|listener| {
        let key = format!("{}.listen", section("listener", &listener.name));
        listener.listen.iter().map(move |address| (key.clone(), *address))
    });
    let operator = config.admin.listen.iter().map(|address| ("admin.listen".to_owned(), *address));
    let mut seen: Vec<(String, SocketAddr)> = Vec::new();
    for (key, address) in callers.chain(operator).filter(|(_, address)| address.port() != 0) {
        if let Some((other, _)) = seen.iter().find(|(_, known)| *known == address) {
            refuse(format!(
                "{key} = {address} is an address of {other} too: choose another port for one of them"
            ));
        }
        seen.push((key, address));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{UPSTREAM, config, refused};

    #[test]
    fn beyond_loopback_needs_a_switch_and_a_credential() {
        refused(&[UPSTREAM, "listener.listen=0.0.0.0:8484"], "listener.allow_remote = true");
        refused(&[UPSTREAM, "listener.listen=[::]:1", "listener.allow_remote=true"], "accepts every caller");
        let open =
            [UPSTREAM, "listener.listen=10.0.0.1:1", "listener.allow_remote=true", "listener.bearer_file=/t"];
        assert!(config(&open).is_ok());
        refused(&[UPSTREAM, "admin.listen=0.0.0.0:1", "admin.allow_remote=true"], "admin.token_file");
        refused(&[UPSTREAM, "admin.listen=0.0.0.0:1", "admin.token_file=/t"], "admin.allow_remote");
        assert!(
            config(&[UPSTREAM, "admin.listen=0.0.0.0:1", "admin.token_file=/t", "admin.allow_remote=true"])
                .is_ok()
        );
    }

    #[test]
    fn no_two_listeners_have_one_address() {
        refused(
            &[UPSTREAM, "listener.listen=127.0.0.1:1", "admin.listen=127.0.0.1:1"],
            "admin.listen = 127.0.0.1:1 is an address of listener.listen too",
        );
        refused(
            &[UPSTREAM, "listener.listen=127.0.0.1:1", "listeners.b.listen=127.0.0.1:2,127.0.0.1:1"],
            "listeners.b.listen = 127.0.0.1:1 is an address of listener.listen too",
        );
        assert!(config(&[UPSTREAM, "listener.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"]).is_ok());
    }
}
