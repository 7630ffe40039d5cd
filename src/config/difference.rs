//! What a new configuration changes, and which of that only a restart can apply. The keys say the latter ([`Key::needs_restart`]); three
//! rules of this file depend on other values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Config;
use super::effective::{Setting, fingerprint};
use super::key::Key;
use super::keys;

/// A key whose value a new configuration changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKey {
    /// Its full path, or `[upstreams.NAME]` or `[listeners.NAME]` where the whole section is new or gone.
    pub path: String,
    /// The value before as TOML, `"***"` for a secret.
    pub before: String,
    /// The value now.
    pub after: String,
    /// Whether only a restart can apply it.
    pub needs_restart: bool,
}

impl fmt::Display for ChangedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, before, after, .. } = self;
        write!(formatter, "{path}: {before} -> {after}")
    }
}

/// A new configuration changes what a reload cannot change.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} cannot be changed while the sidecar runs: restart it, or take {} back",
    .0.join(", "),
    if .0.len() == 1 { "that change" } else { "those changes" }
)]
pub struct NeedsRestart(pub Vec<String>);

impl NeedsRestart {
    /// Refuses changes that need a restart, and names them.
    ///
    /// # Errors
    /// [`NeedsRestart`] with the paths of those keys.
    pub fn check(changes: &[ChangedKey]) -> Result<(), Self> {
        let paths: Vec<_> =
            changes.iter().filter(|change| change.needs_restart).map(|change| change.path.clone()).collect();
        if paths.is_empty() { Ok(()) } else { Err(Self(paths)) }
    }
}

const UNSET: &str = "not set";

impl Config {
    /// What this configuration changes, compared with the one before, in the order of the paths.
    #[must_use]
    pub fn changes_from(&self, before: &Self) -> Vec<ChangedKey> {
        let (old, new) = (by_path(before), by_path(self));
        let (old_sections, new_sections) = (sections(&old), sections(&new));
        let section_changes = old_sections.symmetric_difference(&new_sections).map(|section| {
            let is_new = new_sections.contains(section);
            let [before, after] = if is_new { [UNSET, "set"] } else { ["set", UNSET] };
            ChangedKey {
                path: format!("[{section}]"),
                before: before.to_owned(),
                after: after.to_owned(),
                needs_restart: true,
            }
        });
        let paths: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
        let in_both = paths.into_iter().filter(|path| {
            section_of(path).is_none_or(|it| old_sections.contains(it) && new_sections.contains(it))
        });
        let key_changes = in_both.filter_map(|path| {
            let (key, old_setting, new_setting) =
                (keys::find(path)?, old.get(path).copied(), new.get(path).copied());
            if is_same(key, old_setting, new_setting) {
                return None;
            }
            let is_related = || [&old, &new].into_iter().any(|settings| belongs_to_related(path, settings));
            let is_fixed = key.path.starts_with("upstream.credential.")
                && (self.fleet.is_configured() || self.snapshot.file.is_some());
            Some(ChangedKey {
                path: path.to_owned(),
                before: shown(old_setting),
                after: shown(new_setting),
                needs_restart: key.needs_restart || is_fixed || is_related(),
            })
        });
        section_changes.chain(key_changes).collect()
    }
}

fn by_path(config: &Config) -> BTreeMap<&str, &Setting> {
    config.effective.0.iter().map(|setting| (setting.path.as_str(), setting)).collect()
}

/// The named upstreams and listeners.
fn sections<'a>(settings: &BTreeMap<&'a str, &Setting>) -> BTreeSet<&'a str> {
    settings.keys().filter_map(|path| section_of(path)).collect()
}

/// `upstreams.orders` of `upstreams.orders.url`.
fn section_of(path: &str) -> Option<&str> {
    let (plural, rest) = path.split_once('.')?;
    let (name, _) = rest.split_once('.')?;
    matches!(plural, "upstreams" | "listeners").then(|| &path[..plural.len() + 1 + name.len()])
}

/// What is not set in a route is as good as its default. A value that leaves itself to others (`auto`) has changed when they have.
fn is_same(key: &Key, before: Option<&Setting>, after: Option<&Setting>) -> bool {
    let value = |setting: Option<&Setting>| {
        let written = setting.map_or_else(|| fingerprint(&key.default_value()), |it| it.fingerprint);
        (written, setting.and_then(|it| it.resolved.clone()))
    };
    value(before) == value(after)
}

/// Whether the path is the prefix of a route whose resources belong together: what was shown below another prefix was not noted for all
/// of them, so that a caller could be shown less than before.
fn belongs_to_related(path: &str, settings: &BTreeMap<&str, &Setting>) -> bool {
    let related = |route: &str| settings.get(format!("{route}.related").as_str()).map(|it| it.value.as_str());
    path.strip_suffix(".path_prefix").is_some_and(|route| related(route) == Some("true"))
}

fn shown(setting: Option<&Setting>) -> String {
    let Some(Setting { value, resolved, .. }) = setting else { return UNSET.to_owned() };
    match resolved {
        Some(resolved) => format!("{value} ({resolved})"),
        None => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Layers;
    use super::*;

    fn config(assignments: &[&str]) -> Config {
        let layers = Layers::new().setting("upstream.url=http://127.0.0.1:9");
        Config::new(assignments.iter().fold(layers, |layers, it| layers.setting(it))).unwrap()
    }

    fn changes(before: &[&str], after: &[&str]) -> Vec<(String, bool)> {
        let changes = config(after).changes_from(&config(before));
        changes.into_iter().map(|it| (it.to_string(), it.needs_restart)).collect()
    }

    #[test]
    fn a_change_tells_both_values_and_nothing_of_a_secret() {
        assert!(changes(&[], &[]).is_empty());
        assert_eq!(
            changes(&["upstream.stale_limit=1h"], &["upstream.stale_limit=2h", "limits.connections=7"]),
            [
                ("limits.connections: 800 -> 7".to_owned(), false),
                ("upstream.stale_limit: \"1h\" -> \"2h\"".to_owned(), false)
            ]
        );
        let secret = |text| ["upstream.credential.kind=hmac", "upstream.credential.id=a", text];
        assert_eq!(
            changes(
                &secret("upstream.credential.secret=aHVudGVyMg=="),
                &secret("upstream.credential.secret=b3RoZXI=")
            ),
            [("upstream.credential.secret: \"***\" -> \"***\"".to_owned(), false)]
        );
    }

    #[test]
    fn what_auto_comes_to_is_compared() {
        let auto = changes(&[], &["upstream.credential.id=a", "upstream.credential.secret=aHVudGVyMg=="]);
        let kind = auto.iter().find(|(text, _)| text.starts_with("upstream.credential.kind")).unwrap();
        assert_eq!(
            kind,
            &("upstream.credential.kind: \"auto\" (\"forward\") -> \"auto\" (\"hmac\")".to_owned(), true)
        );
    }

    #[test]
    fn a_section_that_is_new_or_gone_is_named_as_a_whole() {
        let with = ["upstreams.b.url=http://127.0.0.1:8", "upstreams.b.path_prefix=/b"];
        assert_eq!(changes(&[], &with), [("[upstreams.b]: not set -> set".to_owned(), true)]);
        assert_eq!(changes(&with, &[]), [("[upstreams.b]: set -> not set".to_owned(), true)]);
    }

    #[test]
    fn routes_come_and_go_but_not_related_ones() {
        let route = ["upstream.routes.r.path_prefix=/a", "upstream.routes.r.freshness=1s"];
        assert!(changes(&[], &route).iter().all(|(_, needs_restart)| !needs_restart));
        let related = ["upstream.routes.r.path_prefix=/a", "upstream.routes.r.related=true"];
        let explicit = ["upstream.routes.r.path_prefix=/a", "upstream.routes.r.related=false"];
        assert!(changes(&explicit, &["upstream.routes.r.path_prefix=/a"]).is_empty());
        for (before, after) in [(&related, &explicit), (&explicit, &related)] {
            let [change] = &changes(before, after)[..] else { panic!("one change") };
            assert!(change.0.starts_with("upstream.routes.r.related") && change.1);
        }
        let moved = ["upstream.routes.r.path_prefix=/b", "upstream.routes.r.related=true"];
        assert_eq!(
            changes(&related, &moved),
            [("upstream.routes.r.path_prefix: \"/a\" -> \"/b\"".to_owned(), true)]
        );
    }

    #[test]
    fn a_credential_stays_where_others_were_told_whose_it_is() {
        let key = |secret| ["upstream.credential.id=a", secret, "snapshot.file=/s/x"];
        let [change] = &changes(
            &key("upstream.credential.secret=aHVudGVyMg=="),
            &key("upstream.credential.secret=b3RoZXI="),
        )[..] else {
            panic!("one change")
        };
        assert!(change.1);
    }

    #[test]
    fn a_refusal_names_every_key_that_needs_a_restart() {
        let changed = config(&["store.limit=1GiB", "runtime.workers=2", "limits.connections=9"]);
        let refusal = NeedsRestart::check(&changed.changes_from(&config(&[]))).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "runtime.workers, store.limit cannot be changed while the sidecar runs: restart it, or take those changes back"
        );
        assert!(NeedsRestart::check(&config(&["limits.connections=9"]).changes_from(&config(&[]))).is_ok());
    }
}
