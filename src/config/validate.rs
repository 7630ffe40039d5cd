//! What must hold between values: addresses beyond loopback, loops, and settings that belong together.

mod listeners;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::effective::Setting;
use super::endpoint::names_connection_string;
use super::error::ConfigError;
use super::{Config, CredentialKind, CredentialSettings, ProfileKind, UpstreamSettings};
use listeners::{addresses_differ, admin_holds, listener_holds};

pub(super) fn validate(config: &Config) -> Vec<ConfigError> {
    let mut errors: Vec<String> = Vec::new();
    let mut refuse = |message: String| errors.push(message);
    for listener in &config.listeners {
        listener_holds(listener, config, &mut refuse);
    }
    admin_holds(config, &mut refuse);
    addresses_differ(config, &mut refuse);
    for upstream in &config.upstreams {
        upstream_holds(upstream, config, &mut refuse);
    }
    let token_files: Vec<_> = config.upstreams.iter().filter_map(|it| it.sync_token_file.as_ref()).collect();
    if let Some((_, file)) =
        token_files.iter().enumerate().find(|(at, file)| token_files[..*at].contains(*file))
    {
        refuse(format!(
            "two upstreams keep their tokens in {}: give each a sync_token_file of its own",
            file.display()
        ));
    }
    snapshot_holds(config, &token_files, &mut refuse);
    if !config.fleet.is_configured() && config.fleet.key_file.is_some() {
        refuse("fleet.key_file is set without fleet.url: name the engine, or leave both out".to_owned());
    }
    if config.fleet.is_configured() && config.fleet.key_file.is_none() {
        refuse(
            "fleet.url is set without fleet.key_file: make a key with `openssl rand -base64 32`, and give it to all members"
                .to_owned(),
        );
    }
    if let Err(error) = log_filter(&config.logging.level) {
        refuse(format!(
            "logging.level = {:?}: {error}; write error, warn, info, debug, trace, or a filter such as \
             \"info,tagalong::access=debug\"",
            config.logging.level
        ));
    }
    if config.limits.buffered_request_body_bytes > config.limits.request_body_bytes {
        refuse(
            "limits.buffered_request_body is larger than limits.request_body: nothing would stream; lower the one or \
             raise the other"
                .to_owned(),
        );
    }
    if config.store.body_limit_bytes > config.store.limit_bytes {
        refuse("store.body_limit is larger than store.limit: lower the one or raise the other".to_owned());
    }
    errors.into_iter().map(|message| ConfigError::Together(located(message, config))).collect()
}

/// With the place where the key or section that the message begins with was written, if it was.
fn located(message: String, config: &Config) -> String {
    let path = message.split([' ', ':']).next().unwrap_or_default();
    let is_there = |setting: &&Setting| {
        let rest = setting.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) && setting.source.is_written()
    };
    match config.effective.0.iter().find(is_there) {
        Some(setting) if path.contains('.') => format!("{}: {message}", setting.source),
        _ => message,
    }
}

/// A snapshot has a file for itself.
fn snapshot_holds(config: &Config, token_files: &[&PathBuf], refuse: &mut impl FnMut(String)) {
    let snapshot = &config.snapshot;
    let Some(file) = &snapshot.file else {
        if snapshot.key_file.is_some() {
            refuse(
                "snapshot.key_file is set without snapshot.file: name the file to keep, or leave both out"
                    .to_owned(),
            );
        }
        return;
    };
    if snapshot.key_file.as_ref() == Some(file) || token_files.contains(&file) {
        refuse(format!(
            "snapshot.file is {}, which is also its key file or a sync_token_file: name another file",
            file.display()
        ));
    }
}

/// A replica is another endpoint of the same store.
fn replicas_hold(upstream: &UpstreamSettings, refuse: &mut impl FnMut(String)) {
    let section = section("upstream", &upstream.name);
    for replica in &upstream.replicas {
        let is_bare = matches!(replica.path(), "" | "/") && replica.query().is_none();
        if replica.scheme() != upstream.url.scheme() || replica.authority().is_none() || !is_bare {
            refuse(format!(
                "{section}.replicas: {replica} must have the scheme of {section}.url, a host, and nothing behind it: write it like {}",
                upstream.url
            ));
        } else if replica.authority() == upstream.url.authority() {
            refuse(format!("{section}.replicas: {replica} is {section}.url itself: leave it out"));
        }
    }
}

fn upstream_holds(upstream: &UpstreamSettings, config: &Config, refuse: &mut impl FnMut(String)) {
    replicas_hold(upstream, refuse);
    let section = section("upstream", &upstream.name);
    if upstream.authority().is_none() {
        if names_connection_string(&upstream.credential) {
            // It names no endpoint, which is reported already.
            return;
        }
        refuse(format!(
            "{section}.url is not set: name the origin, with --upstream https://NAME.azconfig.io for example, or give a \
             connection string with its Endpoint (--connection-string-file)"
        ));
        return;
    }
    let ours = config.listeners.iter().flat_map(|listener| &listener.listen).chain(&config.admin.listen);
    for address in ours.filter(|address| upstream.is_at(**address)) {
        refuse(format!(
            "{section}.url = {} is the sidecar's own listener {address}: requests would go round in circles; name the \
             origin itself",
            upstream.url
        ));
    }
    if upstream.name != "main" && upstream.hosts.is_empty() && upstream.path_prefix.is_empty() {
        let claimed = config.listeners.iter().any(|listener| listener.upstream == upstream.name);
        if !claimed {
            refuse(format!(
                "no request can reach {section}: give it hosts or path_prefix, or name it in a listener's upstream"
            ));
        }
    }
    for (key, paths) in [
        ("path_prefix", std::slice::from_ref(&upstream.path_prefix)),
        ("allowed_paths", upstream.allowed_paths.as_slice()),
    ] {
        for path in paths.iter().filter(|path| !path.is_empty() && !path.starts_with('/')) {
            refuse(format!("{section}.{key} = {path:?}: a path begins with /"));
        }
    }
    for route in &upstream.routes {
        let named = &route.section;
        if route.path_prefix.is_empty() {
            refuse(format!(
                "{named} has no path_prefix: say for which paths it is, such as path_prefix = \"/kv\""
            ));
        } else if !route.path_prefix.starts_with('/') {
            refuse(format!("{named}.path_prefix = {:?}: a path begins with /", route.path_prefix));
        }
        for path in route.outdates.iter().filter(|path| !path.starts_with('/')) {
            refuse(format!("{named}.outdates: {path:?}: a path begins with /"));
        }
        for (is_set, key, why) in [
            (!route.outdates.is_empty(), "outdates", "app-configuration knows what its writes touch"),
            (route.related, "related", "in app-configuration all resources belong together"),
        ] {
            if is_set && upstream.profile() == ProfileKind::AppConfiguration {
                refuse(format!("{named}.{key} is for the generic profile; {why}. Take it out"));
            }
        }
    }
    if upstream.mirror.enabled {
        if upstream.profile() != ProfileKind::AppConfiguration {
            refuse(format!(
                "{section}.mirror is for App Configuration: set {section}.profile = \"app-configuration\" if the upstream \
                 is one, or take the mirror out"
            ));
        }
        if upstream.credential.kind == CredentialKind::Forward {
            refuse(format!(
                "{section}.mirror needs a credential of the sidecar's own, and callers' own are forwarded: set \
                 {section}.credential, or kind = \"none\" if the origin asks for none"
            ));
        }
    }
    for target in upstream.prefetch.targets.iter().filter(|target| !target.as_str().starts_with('/')) {
        refuse(format!("{section}.prefetch.targets: {:?} does not begin with /", target.as_str()));
    }
    if !upstream.prefetch.targets.is_empty() && upstream.credential.kind == CredentialKind::Forward {
        refuse(format!(
            "{section}.prefetch needs a credential of the sidecar's own, and callers' own are forwarded: set \
             {section}.credential, or kind = \"none\" if the origin asks for none"
        ));
    }
    let tls = &upstream.tls;
    if tls.client_certificate_file.is_some() != tls.client_key_file.is_some() {
        refuse(format!(
            "{section}.tls needs client_certificate_file and client_key_file together: set both or none"
        ));
    }
    if let Some(missing) = missing(&upstream.credential) {
        refuse(format!("{section}.credential.kind = {missing}"));
    }
}

/// What a kind of credential lacks, to follow "kind = ".
fn missing(credential: &CredentialSettings) -> Option<String> {
    let string = [
        !credential.connection_string.is_empty(),
        credential.connection_string_file.is_some(),
        !credential.connection_string_variable.is_empty(),
    ];
    let secret = [
        !credential.secret.is_empty(),
        credential.secret_file.is_some(),
        !credential.secret_variable.is_empty(),
    ];
    let sources = string.iter().chain(&secret).filter(|given| **given).count();
    match credential.kind {
        CredentialKind::Hmac if sources == 0 => Some(
            "\"hmac\" has no key: set connection_string_file (--connection-string-file), or id and secret_file".to_owned(),
        ),
        CredentialKind::Hmac if sources > 1 => {
            Some("\"hmac\" has its key from several sources: keep one of connection_string* and secret*".to_owned())
        }
        CredentialKind::Hmac if secret.contains(&true) && credential.id.is_empty() => {
            Some("\"hmac\" has a secret without id: set id, or use a connection string".to_owned())
        }
        CredentialKind::BearerFile if credential.bearer_file.is_none() => {
            Some("\"bearer-file\" has no file: set bearer_file".to_owned())
        }
        _ => None,
    }
}

impl UpstreamSettings {
    /// Whether a connection to this upstream would arrive at `listener`, as far as that can be told without resolving names.
    pub fn is_at(&self, listener: SocketAddr) -> bool {
        let Some(authority) = self.authority() else { return false };
        let default_port = if self.scheme() == &http::uri::Scheme::HTTPS { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default_port);
        if port != listener.port() || port == 0 {
            return false;
        }
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_loopback_name =
            bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost");
        match bare.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(ip) => {
                ip == listener.ip()
                    || (ip.is_unspecified() && listener.ip().is_loopback())
                    || (ip.is_loopback() && listener.ip().is_unspecified())
            }
            Err(_) => is_loopback_name && (listener.ip().is_loopback() || listener.ip().is_unspecified()),
        }
    }
}

pub(super) fn section(kind: &str, name: &str) -> String {
    if name == "main" { kind.to_owned() } else { format!("{kind}s.{name}") }
}

/// What is wrong with a level or a filter. The library takes any word for the name of a module: a misspelt level would switch all
/// logs off.
fn log_filter(filter: &str) -> Result<(), String> {
    for directive in filter.split(',').map(str::trim) {
        let (names_more, level) = match directive.rsplit_once('=') {
            Some((_, level)) => (true, level),
            None => (false, directive),
        };
        // Filters by spans: there are none.
        if directive.contains('[') {
            return Err(format!("{directive:?} names a span, and there are none; name a target"));
        }
        let is_level = level.parse::<LevelFilter>().is_ok();
        // The library reads an empty level as one, too.
        if level.is_empty() || !is_level && !names_more {
            return Err(format!("{directive:?} is not a level"));
        }
    }
    filter.parse::<Targets>().map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Layers;
    use super::*;

    pub(super) fn config(assignments: &[&str]) -> Result<Config, String> {
        let layers = assignments.iter().fold(Layers::new(), |layers, assignment| layers.setting(assignment));
        Config::new(layers).map_err(|errors| errors.to_string())
    }

    pub(super) fn refused(assignments: &[&str], because: &str) {
        let message = config(assignments).unwrap_err();
        assert!(message.contains(because), "{message}");
    }

    pub(super) const UPSTREAM: &str = "upstream.url=https://shop.azconfig.io";

    #[test]
    fn an_upstream_is_all_that_must_be_said() {
        let config = config(&[UPSTREAM]).unwrap();
        assert_eq!(config.upstreams[0].profile(), ProfileKind::AppConfiguration);
        assert_eq!(config.upstreams[0].credential.kind, CredentialKind::Forward);
        assert!(config.listeners[0].listen_is_default);
        refused(&[], "upstream.url is not set");
    }

    #[test]
    fn the_profile_is_guessed_from_the_host_alone() {
        for (url, profile) in [
            ("http://127.0.0.1:8483", ProfileKind::Generic),
            ("https://A.AZCONFIG.IO", ProfileKind::AppConfiguration),
            ("https://azconfig.io.example.com", ProfileKind::Generic),
            ("https://evilazconfig.io", ProfileKind::Generic),
            ("https://azconfig.io", ProfileKind::Generic),
            ("https://.azconfig.io", ProfileKind::Generic),
            ("https://a.azconfig.io.:443", ProfileKind::AppConfiguration),
            ("https://a.azconfig.azure.us", ProfileKind::AppConfiguration),
            ("https://a.azconfig.azure.cn", ProfileKind::AppConfiguration),
            ("https://a.b.appconfig.azure.example", ProfileKind::AppConfiguration),
            ("https://appconfig.example.com", ProfileKind::Generic),
            ("https://a.appconfig", ProfileKind::Generic),
        ] {
            assert_eq!(
                config(&[&format!("upstream.url={url}")]).unwrap().upstreams[0].profile(),
                profile,
                "{url}"
            );
        }
        let explicit =
            config(&["upstream.url=http://127.0.0.1:1", "upstream.profile=app-configuration"]).unwrap();
        assert_eq!(explicit.upstreams[0].profile(), ProfileKind::AppConfiguration);
    }

    #[test]
    fn an_upstream_that_is_our_own_listener_is_refused() {
        for url in [
            "http://127.0.0.1:8484",
            "http://localhost:8484",
            "http://[::1]:8484",
            "http://0.0.0.0:8484",
            "http://127.0.0.1:8485",
            "http://[::ffff:127.0.0.1]:8484",
        ] {
            refused(&[&format!("upstream.url={url}")], "circles");
        }
        assert!(config(&["upstream.url=http://127.0.0.1:8483"]).is_ok());
        assert!(config(&["upstream.url=http://127.0.0.1", "listener.listen=127.0.0.1:0"]).is_ok());
    }

    #[test]
    fn an_upstream_is_at_a_port_that_a_connection_to_it_would_reach() {
        for (url, listener, is_at) in [
            ("http://127.0.0.1:9999", "127.0.0.1:9999", true),
            ("http://127.0.0.1:9999", "127.0.0.1:9998", false),
            ("http://127.0.0.1", "127.0.0.1:80", true),
            ("http://[::ffff:127.0.0.1]:9999", "127.0.0.1:9999", true),
            ("http://localhost:9999", "0.0.0.0:9999", true),
            ("http://localhost:9999", "10.0.0.1:9999", false),
        ] {
            let upstream = config(&[&format!("upstream.url={url}")]).unwrap().upstreams.remove(0);
            assert_eq!(upstream.is_at(listener.parse().unwrap()), is_at, "{url} {listener}");
        }
    }

    #[test]
    fn an_incomplete_credential_says_what_is_missing() {
        refused(&[UPSTREAM, "upstream.credential.kind=hmac"], "--connection-string-file");
        refused(
            &[UPSTREAM, "upstream.credential.kind=hmac", "upstream.credential.secret_file=/s"],
            "secret without id",
        );
        refused(&[UPSTREAM, "upstream.credential.kind=bearer-file"], "set bearer_file");
        refused(&[UPSTREAM, "upstream.prefetch.targets=/kv"], "upstream.prefetch needs a credential");
        let none = "upstream.credential.kind=none";
        refused(&[UPSTREAM, none, "upstream.prefetch.targets=*"], "begin with /");
        assert!(config(&[UPSTREAM, none, "upstream.prefetch.targets=/kv?a=b"]).is_ok());
        let tokens = ["upstream.sync_token_file=/t", "upstreams.b.sync_token_file=/t"];
        let second = ["upstreams.b.url=http://b", "upstreams.b.path_prefix=/b"];
        refused(&[&[UPSTREAM][..], &tokens, &second].concat(), "a sync_token_file of its own");
        let twice = "upstream.credential.connection_string_variable=CS";
        refused(
            &[
                UPSTREAM,
                "upstream.credential.kind=hmac",
                "upstream.credential.connection_string_file=/s",
                twice,
            ],
            "several sources",
        );
    }

    #[test]
    fn a_key_alone_implies_that_it_signs() {
        for key in ["connection_string_file=/c", "connection_string_variable=C", "connection_string=x"] {
            let key = format!("upstream.credential.{key}");
            let kind = |more: &[&str]| {
                let all = [&[UPSTREAM, key.as_str()], more].concat();
                config(&all).unwrap().upstreams[0].credential.kind
            };
            assert_eq!(kind(&[]), CredentialKind::Hmac);
            assert_eq!(kind(&["upstream.credential.kind=auto"]), CredentialKind::Hmac);
            assert_eq!(kind(&["upstream.credential.kind=none"]), CredentialKind::None, "what is said holds");
        }
        refused(&[UPSTREAM, "upstream.credential.secret_file=/s"], "secret without id");
    }

    #[test]
    fn an_upstream_that_no_request_reaches_is_refused() {
        refused(&[UPSTREAM, "upstreams.b.url=http://b"], "no request can reach upstreams.b");
        assert!(config(&[UPSTREAM, "upstreams.b.url=http://b", "upstreams.b.path_prefix=/b"]).is_ok());
        refused(&[UPSTREAM, "upstreams.b.url=http://b", "upstreams.b.path_prefix=b"], "begins with /");
        refused(&[UPSTREAM, "listener.upstream=c"], "choose one of main");
    }

    #[test]
    fn a_misspelt_level_does_not_switch_logs_off() {
        for level in [
            "nonsense",
            "inof",
            "bogus=",
            "info,,",
            "",
            "info,tagalong::access",
            "tagalong=loud",
            "tagalong[request{id=1}]=trace",
        ] {
            refused(
                &[UPSTREAM, &format!("logging.level={level}")],
                "write error, warn, info, debug, trace, or",
            );
        }
        for level in ["info", "WARN", "off", "info,tagalong::access=debug"] {
            config(&[UPSTREAM, &format!("logging.level={level}")]).expect(level);
        }
    }

    #[test]
    fn what_does_not_fit_together_names_its_place() {
        refused(
            &[UPSTREAM, "upstream.routes.x.freshness=3s"],
            "variable upstream.routes.x.freshness: upstream.routes.x has no path_prefix",
        );
        refused(
            &[UPSTREAM, "upstream.routes.x.path_prefix=kv"],
            "variable upstream.routes.x.path_prefix: upstream.routes.x.path_prefix = \"kv\": a path begins with /",
        );
        refused(
            &[UPSTREAM, "listener.tls.key_file=/k"],
            "variable listener.tls.key_file: listener.tls needs certificate_file and key_file together",
        );
        assert!(config(&[]).unwrap_err().starts_with("upstream.url is not set"), "it is written nowhere");
    }

    #[test]
    fn a_key_of_a_fleet_without_an_engine_is_refused() {
        refused(&[UPSTREAM, "fleet.key_file=/f"], "fleet.key_file is set without fleet.url");
    }

    #[test]
    fn what_else_a_write_outdates_is_for_profiles_that_do_not_know_it() {
        let route = ["upstream.routes.a.path_prefix=/a", "upstream.routes.a.outdates=/b"];
        refused(&[UPSTREAM, route[0], route[1]], "outdates is for the generic profile");
        assert!(config(&["upstream.url=http://o", route[0], route[1]]).is_ok());
    }

    #[test]
    fn what_belongs_together_is_for_profiles_that_do_not_know_it() {
        let route = ["upstream.routes.a.path_prefix=/a", "upstream.routes.a.related=true"];
        refused(&[UPSTREAM, route[0], route[1]], "related is for the generic profile");
        let generic = config(&["upstream.url=http://o", route[0], route[1]]).unwrap();
        let upstream = &generic.upstreams[0];
        assert!(upstream.caching_rules_of(&upstream.routes[0]).related);
        assert!(!upstream.caching_rules().related, "the route alone");
        let unsaid = config(&["upstream.url=http://o", route[0]]).unwrap();
        let upstream = &unsaid.upstreams[0];
        assert!(!upstream.caching_rules_of(&upstream.routes[0]).related);
        let known = config(&[UPSTREAM, route[0]]).unwrap();
        let upstream = &known.upstreams[0];
        assert!(upstream.caching_rules_of(&upstream.routes[0]).related, "as all of its profile");
    }

    #[test]
    fn caching_rules_follow_profile_and_settings() {
        use std::time::Duration;
        let app = config(&[UPSTREAM, "upstream.credential.kind=none"]).unwrap();
        let rules = app.upstreams[0].caching_rules();
        assert_eq!(rules, super::super::CachingRules::app_configuration());
        let plain = config(&["upstream.url=http://o", "upstream.sharing=rfc9111"]).unwrap();
        assert_eq!(plain.upstreams[0].caching_rules(), super::super::CachingRules::rfc9111());
        let set =
            config(&["upstream.url=http://o", "upstream.freshness=7s", "store.body_limit=1KiB"]).unwrap();
        let rules = set.upstreams[0].caching_rules();
        assert_eq!((rules.freshness, rules.heuristics), (Some(Duration::from_secs(7)), false));
        let bounded = config(&["upstream.url=http://o", "upstream.heuristic_limit=5m"]).unwrap();
        assert_eq!(bounded.upstreams[0].caching_rules().heuristic_limit, Duration::from_secs(300));
        assert_eq!((rules.max_stored_body_bytes, rules.owns_credential), (1_024, false));
    }

    #[test]
    fn the_longest_route_counts() {
        let config = config(&[
            UPSTREAM,
            "upstream.routes.all.path_prefix=/kv",
            "upstream.routes.all.consistency=strong",
            "upstream.routes.one.path_prefix=/kv/app",
            "upstream.routes.one.freshness=1s",
            "upstream.routes.one.write_strategy=optimistic",
        ])
        .unwrap();
        let upstream = &config.upstreams[0];
        let route = upstream.route("/kv/app1").unwrap();
        assert_eq!(route.write_strategy, Some(super::super::WriteStrategy::Optimistic));
        assert_eq!(upstream.caching_rules_of(route).freshness, Some(std::time::Duration::from_secs(1)));
        let wide = upstream.route("/kv/other").unwrap();
        assert_eq!(upstream.caching_rules_of(wide).consistency, super::super::caching::Consistency::Strong);
        assert!(upstream.route("/keys").is_none());
    }
}
