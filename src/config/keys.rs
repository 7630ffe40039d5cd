//! Every configuration key: its path, what values it takes, and its default. `config/default.toml` documents the same
//! list for people; a test holds the two together.

use std::time::Duration;

use super::duration::{format_duration, parse_duration};
use super::size::{format_size, parse_size};

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Switch,
    Count {
        least: u64,
        most: u64,
    },
    Duration {
        least: Duration,
        most: Duration,
    },
    /// A duration, or the word `auto`.
    DurationOrAuto {
        least: Duration,
        most: Duration,
    },
    Size {
        least_bytes: u64,
        most_bytes: u64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    Text,
    /// A file or socket; empty means none.
    Path,
    /// Three octal digits behind a zero, as `chmod` takes them.
    Mode,
    /// Text that is never shown.
    Secret,
    /// `http://…` or `https://…` without path; empty means none.
    Url,
    /// A proxy: `environment`, `none`, or a URL.
    Proxy,
    /// The name of a header field.
    Field,
    /// A list of names of header fields.
    Fields,
    /// A list of `IP:PORT`.
    Addresses,
    /// A list of any texts.
    Texts,
}

/// One key of the configuration. In `path`, `*` stands for a name that the operator chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    /// As it would be written in the file, without the quotes; a list is separated by commas.
    pub(crate) default: &'static str,
    /// Whether `[upstreams.NAME]` and `[listeners.NAME]` take the value of `[upstream]` and `[listener]` where they
    /// set none. What names a destination or proves an identity is never inherited: a secret must not reach a host
    /// that it was not meant for.
    pub(crate) inherited: bool,
}

/// A flag of `tagalong run` and the key it sets. `--listen` is also the variable `TAGALONG_LISTEN`.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
}

const fn own(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, kind, default, inherited: false }
}

const fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, kind, default, inherited: true }
}

const fn millis(least: u64, most: u64) -> Kind {
    Kind::Duration { least: Duration::from_millis(least), most: Duration::from_millis(most) }
}

const fn auto_millis(least: u64, most: u64) -> Kind {
    Kind::DurationOrAuto { least: Duration::from_millis(least), most: Duration::from_millis(most) }
}

const fn bytes(least_bytes: u64, most_bytes: u64) -> Kind {
    Kind::Size { least_bytes, most_bytes }
}

const fn count(least: u64, most: u64) -> Kind {
    Kind::Count { least, most }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const CONSISTENCY: Kind = Kind::Word(&["strong", "session", "bounded-staleness"]);
const WHEN_DISCONNECTED: Kind = Kind::Word(&["consistent", "unless-outdated", "available"]);
const WRITE_STRATEGY: Kind = Kind::Word(&["pass", "require-if-match", "last-writer-wins", "optimistic"]);

/// Every key, in the order in which `config/default.toml` explains them.
pub(crate) const KEYS: &[Key] = &[
    own("listener.listen", Kind::Addresses, "127.0.0.1:8484,[::1]:8484"),
    own("listener.unix", Kind::Path, ""),
    key("listener.unix_mode", Kind::Mode, "0600"),
    key("listener.unix_group", Kind::Text, ""),
    key("listener.unix_users", Kind::Texts, ""),
    own("listener.upstream", Kind::Text, ""),
    key("listener.http2", Kind::Switch, "false"),
    key("listener.allow_remote", Kind::Switch, "false"),
    key("listener.local_keys_file", Kind::Path, ""),
    key("listener.bearer_file", Kind::Path, ""),
    key("listener.bearer_field", Kind::Field, "Authorization"),
    key("listener.tls.certificate_file", Kind::Path, ""),
    key("listener.tls.key_file", Kind::Path, ""),
    own("admin.listen", Kind::Addresses, "127.0.0.1:8485,[::1]:8485"),
    own("admin.allow_remote", Kind::Switch, "false"),
    own("admin.token_file", Kind::Path, ""),
    own("admin.connections", count(1, 1_000), "16"),
    own("upstream.url", Kind::Url, ""),
    own("upstream.profile", Kind::Word(&["auto", "app-configuration", "generic"]), "auto"),
    own("upstream.hosts", Kind::Texts, ""),
    own("upstream.path_prefix", Kind::Text, ""),
    key("upstream.sharing", Kind::Word(&["guarded", "rfc9111"]), "guarded"),
    key("upstream.consistency", CONSISTENCY, "session"),
    key("upstream.when_disconnected", WHEN_DISCONNECTED, "unless-outdated"),
    key("upstream.freshness", auto_millis(0, 365 * DAY), "auto"),
    key("upstream.freshness_not_found", auto_millis(0, 365 * DAY), "auto"),
    key("upstream.heuristic_limit", millis(0, 365 * DAY), "1h"),
    key("upstream.stale_limit", millis(0, 365 * DAY), "24h"),
    key("upstream.honour_request_directives", Kind::Switch, "true"),
    key("upstream.write_strategy", WRITE_STRATEGY, "pass"),
    key("upstream.caller_field", Kind::Field, ""),
    key("upstream.settle_time", millis(0, HOUR), "10s"),
    key("upstream.conflict_wait", millis(0, MINUTE), "2s"),
    key("upstream.read_only", Kind::Switch, "false"),
    own("upstream.allowed_methods", Kind::Texts, ""),
    own("upstream.allowed_paths", Kind::Texts, ""),
    key("upstream.forwarded_request_fields", Kind::Fields, ""),
    key("upstream.show_cache_key", Kind::Switch, "false"),
    key("upstream.http2", Kind::Switch, "true"),
    key("upstream.proxy", Kind::Proxy, "environment"),
    key("upstream.connect_deadline", millis(1, 5 * MINUTE), "2s"),
    key("upstream.header_deadline", millis(1, HOUR), "10s"),
    key("upstream.body_stall_deadline", millis(1, HOUR), "30s"),
    key("upstream.pool_idle_time", millis(0, HOUR), "60s"),
    key("upstream.header_section_limit", bytes(KIB, MIB), "32KiB"),
    key("upstream.retry_after_limit", millis(0, HOUR), "60s"),
    key("upstream.tls.ca_file", Kind::Path, ""),
    own("upstream.tls.client_certificate_file", Kind::Path, ""),
    own("upstream.tls.client_key_file", Kind::Path, ""),
    own(
        "upstream.credential.kind",
        Kind::Word(&["auto", "none", "forward", "hmac", "entra", "bearer-file"]),
        "auto",
    ),
    own("upstream.credential.connection_string", Kind::Secret, ""),
    own("upstream.credential.connection_string_file", Kind::Path, ""),
    own("upstream.credential.connection_string_variable", Kind::Text, ""),
    own("upstream.credential.id", Kind::Text, ""),
    own("upstream.credential.secret", Kind::Secret, ""),
    own("upstream.credential.secret_file", Kind::Path, ""),
    own("upstream.credential.secret_variable", Kind::Text, ""),
    own("upstream.credential.bearer_file", Kind::Path, ""),
    own("upstream.credential.tenant_id", Kind::Text, ""),
    own("upstream.credential.client_id", Kind::Text, ""),
    own("upstream.credential.client_secret", Kind::Secret, ""),
    own("upstream.credential.client_secret_file", Kind::Path, ""),
    own("upstream.credential.federated_token_file", Kind::Path, ""),
    own("upstream.credential.authority", Kind::Url, ""),
    own("upstream.credential.imds", Kind::Url, ""),
    own("upstream.credential.audience", Kind::Text, ""),
    own("upstream.routes.*.path_prefix", Kind::Text, ""),
    own("upstream.routes.*.consistency", CONSISTENCY, ""),
    own("upstream.routes.*.when_disconnected", WHEN_DISCONNECTED, ""),
    own("upstream.routes.*.freshness", auto_millis(0, 365 * DAY), ""),
    own("upstream.routes.*.write_strategy", WRITE_STRATEGY, ""),
    own("upstream.routes.*.outdates", Kind::Texts, ""),
    own("upstream.routes.*.related", Kind::Switch, "false"),
    own("store.limit", bytes(MIB, 1 << 40), "64MiB"),
    own("store.variants", count(1, 10_000), "32"),
    own("store.body_limit", bytes(0, 1 << 40), "4MiB"),
    own("limits.header_section", bytes(KIB, MIB), "64KiB"),
    own("limits.header_fields", count(8, 1_000), "100"),
    own("limits.target", bytes(64, 64 * KIB - 2), "16KiB"),
    own("limits.request_body", bytes(0, 1 << 40), "1MiB"),
    own("limits.buffered_request_body", bytes(0, 64 * MIB), "64KiB"),
    own("limits.connections", count(1, 1_000_000), "800"),
    own("limits.connections_per_caller", count(0, 1_000_000), "0"),
    own("limits.requests", count(0, 1_000_000), "0"),
    own("limits.requests_per_caller", count(0, 1_000_000), "0"),
    own("deadlines.request_header", millis(10, HOUR), "10s"),
    own("deadlines.request_body", millis(10, DAY), "60s"),
    own("deadlines.idle", millis(10, DAY), "60s"),
    own("deadlines.drain", millis(0, HOUR), "10s"),
    own("guard.allowed_hosts", Kind::Texts, ""),
    own("guard.allowed_origins", Kind::Texts, ""),
    own("guard.allow_forwarded", Kind::Switch, "false"),
    own("logging.level", Kind::Text, "info"),
    own("logging.format", Kind::Word(&["human", "json"]), "human"),
    own("runtime.workers", count(1, 1_024), "1"),
];

/// Every flag of `tagalong run` that sets a key (`--config` and `--set` aside).
pub(crate) const FLAGS: &[Flag] = &[
    Flag { name: "listen", key: "listener.listen" },
    Flag { name: "listen-unix", key: "listener.unix" },
    Flag { name: "admin-listen", key: "admin.listen" },
    Flag { name: "upstream", key: "upstream.url" },
    Flag { name: "profile", key: "upstream.profile" },
    Flag { name: "sharing", key: "upstream.sharing" },
    Flag { name: "consistency", key: "upstream.consistency" },
    Flag { name: "freshness", key: "upstream.freshness" },
    Flag { name: "workers", key: "runtime.workers" },
    Flag { name: "credential", key: "upstream.credential.kind" },
    Flag { name: "connection-string-file", key: "upstream.credential.connection_string_file" },
    Flag { name: "local-keys", key: "listener.local_keys_file" },
];

/// The key that a path names, `[upstreams.NAME]` and `[listeners.NAME]` taking the keys of `[upstream]` and `[listener]`.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| matches(key, path))
}

/// Whether the path is a section, that is the beginning of the path of some key.
pub(crate) fn is_section(path: &str) -> bool {
    if matches!(path, "upstreams" | "listeners") {
        return true;
    }
    let canonical = canonical(path);
    KEYS.iter().any(|key| {
        let mut pattern = key.path.split('.');
        let mut segments = canonical.split('.');
        segments.all(|segment| pattern.next().is_some_and(|expected| fits(expected, segment)))
            && pattern.next().is_some()
    })
}

fn matches(key: &Key, path: &str) -> bool {
    let canonical = canonical(path);
    let mut segments = canonical.split('.');
    key.path.split('.').all(|expected| segments.next().is_some_and(|segment| fits(expected, segment)))
        && segments.next().is_none()
}

fn fits(expected: &str, segment: &str) -> bool {
    expected == segment || (expected == "*" && is_name(segment))
}

/// Whether the text may name an upstream, a listener or a route.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// `upstreams.orders.url` → `upstream.url`; `listeners.x.unix` → `listener.unix`; anything else as it is.
pub(crate) fn canonical(path: &str) -> String {
    for (plural, singular) in [("upstreams.", "upstream"), ("listeners.", "listener")] {
        if let Some(rest) = path.strip_prefix(plural) {
            let (name, rest) = rest.split_once('.').unwrap_or((rest, ""));
            if is_name(name) {
                return if rest.is_empty() { singular.to_owned() } else { format!("{singular}.{rest}") };
            }
        }
    }
    path.to_owned()
}

/// The valid key nearest to a path that is none: what the operator most likely meant.
pub(crate) fn nearest(path: &str) -> String {
    let canonical = canonical(path);
    let last = canonical.rsplit('.').next().unwrap_or_default();
    let score = |key: &Key| {
        let key_last = key.path.rsplit('.').next().unwrap_or_default();
        let whole = strsim::jaro_winkler(&canonical, key.path);
        // The right name in the wrong section is a likelier slip than many wrong letters.
        strsim::normalized_damerau_levenshtein(last, key_last) + whole / 2.0
    };
    KEYS.iter()
        .max_by(|a, b| score(a).total_cmp(&score(b)))
        .map_or_else(String::new, |key| key.path.to_owned())
}

impl Kind {
    /// What the value must look like, to finish the sentence "write …".
    pub(crate) fn expected(&self) -> String {
        let span = |least: &Duration, most: &Duration| {
            format!(
                "a duration from {} to {}, such as \"30s\"",
                format_duration(*least),
                format_duration(*most)
            )
        };
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Count { least, most } => format!("a whole number from {least} to {most}"),
            Self::Duration { least, most } => span(least, most),
            Self::DurationOrAuto { least, most } => format!("\"auto\" or {}", span(least, most)),
            Self::Size { least_bytes, most_bytes } => format!(
                "a size from {} to {}, such as \"64KiB\"",
                format_size(*least_bytes),
                format_size(*most_bytes)
            ),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Text | Self::Secret => "a text in quotes".to_owned(),
            Self::Path => "a path in quotes".to_owned(),
            Self::Mode => "a file mode such as \"0660\"".to_owned(),
            Self::Url => "a URL such as \"https://example.com\", without user, path or query".to_owned(),
            Self::Proxy => "\"environment\", \"none\" or the URL of a proxy".to_owned(),
            Self::Field => "the name of a header field".to_owned(),
            Self::Fields => "a list of names of header fields".to_owned(),
            Self::Addresses => "a list of IP:PORT, such as [\"127.0.0.1:8484\"]".to_owned(),
            Self::Texts => "a list of texts".to_owned(),
        }
    }

    /// Whether the value is written as a list.
    pub(crate) const fn is_list(&self) -> bool {
        matches!(self, Self::Addresses | Self::Texts | Self::Fields)
    }

    /// Whether one text (a member, for a list) is a value of this kind and in its range.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Switch => matches!(text, "true" | "false"),
            Self::Count { least, most } => {
                text.parse().is_ok_and(|count: u64| (*least..=*most).contains(&count))
            }
            Self::Duration { least, most } => {
                parse_duration(text).is_ok_and(|it| (*least..=*most).contains(&it))
            }
            Self::DurationOrAuto { least, most } => {
                text == "auto" || parse_duration(text).is_ok_and(|it| (*least..=*most).contains(&it))
            }
            Self::Size { least_bytes, most_bytes } => {
                parse_size(text).is_some_and(|it| (*least_bytes..=*most_bytes).contains(&it))
            }
            Self::Word(words) => words.contains(&text),
            Self::Text | Self::Secret | Self::Path => true,
            Self::Mode => text.len() == 4 && text.starts_with('0') && u32::from_str_radix(text, 8).is_ok(),
            Self::Url => text.is_empty() || is_origin_url(text),
            Self::Proxy => {
                matches!(text, "environment" | "none")
                    || text
                        .parse::<http::Uri>()
                        .is_ok_and(|uri| uri.authority().is_some() && uri.scheme().is_some())
            }
            Self::Field => text.is_empty() || http::HeaderName::from_bytes(text.as_bytes()).is_ok(),
            Self::Fields => http::HeaderName::from_bytes(text.as_bytes()).is_ok(),
            Self::Addresses => text.parse::<std::net::SocketAddr>().is_ok(),
            Self::Texts => !text.is_empty(),
        }
    }
}

fn is_origin_url(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
            && uri.path() == "/"
            && uri.query().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for key in KEYS {
            let unset_in_a_route = key.path.contains('*') && key.default.is_empty();
            let empty_list = key.kind.is_list() && key.default.is_empty();
            let members =
                if key.kind.is_list() { key.default.split(',').collect() } else { vec![key.default] };
            for member in members {
                assert!(
                    unset_in_a_route || empty_list || key.kind.accepts(member),
                    "{} = {member} is not {}",
                    key.path,
                    key.kind.expected()
                );
            }
        }
    }

    #[test]
    fn every_flag_sets_a_key() {
        for flag in FLAGS {
            assert!(find(flag.key).is_some(), "--{} sets {}, which is no key", flag.name, flag.key);
        }
    }

    #[test]
    fn named_upstreams_and_listeners_take_the_keys_of_the_main_one() {
        assert_eq!(find("upstreams.orders.url").unwrap().path, "upstream.url");
        assert_eq!(
            find("upstreams.orders.routes.writes.outdates").unwrap().path,
            "upstream.routes.*.outdates"
        );
        assert_eq!(find("listeners.second.unix").unwrap().path, "listener.unix");
        assert!(find("upstreams.Bad Name.url").is_none());
        assert!(
            is_section("upstreams.orders") && is_section("upstreams") && is_section("upstream.routes.any")
        );
        assert!(!is_section("upstream.url") && !is_section("stores"));
    }

    #[test]
    fn a_slip_is_answered_with_the_key_that_was_meant() {
        for (wrong, right) in [
            ("limits.conections", "limits.connections"),
            ("target", "limits.target"),
            ("listn", "listener.listen"),
            ("upstream.uri", "upstream.url"),
            ("upstream.conect_deadline", "upstream.connect_deadline"),
            ("store.freshness", "upstream.freshness"),
            ("loging.level", "logging.level"),
            ("upstreams.orders.freshnes", "upstream.freshness"),
        ] {
            assert_eq!(nearest(wrong), right, "{wrong}");
        }
    }

    #[test]
    fn a_url_with_a_path_a_user_or_another_scheme_is_refused() {
        for good in
            ["http://127.0.0.1:80", "https://x.azconfig.io", "https://x.azconfig.io/", "http://[::1]:8"]
        {
            assert!(Kind::Url.accepts(good), "{good}");
        }
        for bad in ["x.azconfig.io", "ftp://a", "http://a/b", "http://u:p@a", "http://a?b", "/x", "http://"] {
            assert!(!Kind::Url.accepts(bad), "{bad}");
        }
    }
}
