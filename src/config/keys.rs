//! Every configuration key, found by its path. `config/default.toml` documents the same list for people; a test holds the
//! two together.

use super::budget::BudgetSettings;
use super::fleet::FleetSettings;
use super::key::{Flag, Key};
use super::limits::{Deadlines, GuardSettings, Limits, Logging, Runtime, StoreLimits};
use super::listener::{AdminSettings, ListenerSettings, ListenerTls};
use super::reload::ReloadSettings;
use super::snapshot::SnapshotSettings;
use super::tracing::TracingSettings;
use super::upstream::{
    CredentialSettings, MirrorSettings, PrefetchSettings, Route, UpstreamSettings, UpstreamTls,
};

const SECTIONS: [&[Key]; 20] = [
    ListenerSettings::KEYS,
    ListenerTls::KEYS,
    AdminSettings::KEYS,
    UpstreamSettings::KEYS,
    UpstreamTls::KEYS,
    CredentialSettings::KEYS,
    MirrorSettings::KEYS,
    PrefetchSettings::KEYS,
    BudgetSettings::KEYS,
    Route::KEYS,
    StoreLimits::KEYS,
    SnapshotSettings::KEYS,
    FleetSettings::KEYS,
    Limits::KEYS,
    Deadlines::KEYS,
    GuardSettings::KEYS,
    Logging::KEYS,
    ReloadSettings::KEYS,
    Runtime::KEYS,
    TracingSettings::KEYS,
];

/// Every key.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    SECTIONS.into_iter().flatten()
}

/// Every flag of `tagalong run` that sets a key (`--config` and `--set` aside).
pub fn flags() -> impl Iterator<Item = Flag> {
    all().filter_map(|key| key.flag)
}

/// The key that a flag sets.
pub(crate) fn of_flag(name: &str) -> Option<&'static Key> {
    all().find(|key| key.flag.is_some_and(|flag| flag.name == name))
}

/// The key that a path names, `[upstreams.NAME]` and `[listeners.NAME]` taking the keys of `[upstream]` and `[listener]`.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    let path = canonical(path);
    all().find(|key| segments_below(key, &path) == Some(0))
}

/// Whether the path is a section, that is the beginning of the path of some key.
pub(crate) fn is_section(path: &str) -> bool {
    let path = canonical(path);
    matches!(path.as_str(), "upstreams" | "listeners")
        || all().any(|key| segments_below(key, &path).is_some_and(|segments| segments > 0))
}

/// How many segments the path of a key has below this one; `None` where it does not begin with it.
fn segments_below(key: &Key, path: &str) -> Option<usize> {
    let mut pattern = key.path.split('.');
    let mut fits = |segment: &str| {
        pattern.next().is_some_and(|expected| expected == segment || expected == "*" && is_name(segment))
    };
    path.split('.').all(&mut fits).then(|| pattern.count())
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for key in all().filter(|key| !key.path.contains('*')) {
            assert!(
                key.accepts(&key.default_value()),
                "{} = {} is not {}",
                key.path,
                key.default,
                key.expected()
            );
        }
    }

    #[test]
    fn no_path_and_no_flag_stands_twice() {
        let paths: BTreeSet<_> = all().map(|key| key.path).collect();
        assert_eq!(paths.len(), all().count());
        let names: BTreeSet<_> = flags().map(|flag| flag.name).collect();
        assert_eq!(names.len(), flags().count());
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
}
