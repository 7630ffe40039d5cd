//! The effective configuration: every key with its value and where that came from, fit to be shown.

use std::collections::BTreeMap;
use std::fmt;

use super::keys::Kind;
use super::layers::{Layered, Source, Written, shown};

/// One line of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The full path of the key.
    pub path: String,
    /// The value as TOML, `"***"` for a secret.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// Every key with its value and its source, in the order of their paths. `Display` writes TOML that can be read back
/// (but for the masked secrets), with the sources as comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective(pub Vec<Setting>);

impl Effective {
    pub(super) fn of(values: &BTreeMap<String, Layered>) -> Self {
        let setting = |(path, layered): (&String, &Layered)| Setting {
            path: path.clone(),
            value: shown(layered.key, Some(&layered.written)),
            source: layered.source.clone(),
        };
        // What a route leaves to its upstream is no setting.
        Self(values.iter().filter(|(_, layered)| !is_unset_in_route(layered)).map(setting).collect())
    }
}

fn is_unset_in_route(layered: &Layered) -> bool {
    layered.key.path.contains('*') && layered.source == Source::Default
}

impl fmt::Display for Effective {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .0
            .iter()
            .map(|setting| setting.path.len() + setting.value.len() + 3)
            .max()
            .unwrap_or(0)
            .min(72);
        for Setting { path, value, source } in &self.0 {
            let assignment = format!("{path} = {value}");
            writeln!(formatter, "{assignment:width$}  # {source}")?;
        }
        Ok(())
    }
}

/// The values as a TOML document in which every key is present.
pub(super) fn tree(values: &BTreeMap<String, Layered>) -> toml::Table {
    let mut root = toml::Table::new();
    for (path, layered) in values {
        let mut table = &mut root;
        let (sections, name) = path.rsplit_once('.').unwrap_or(("", path));
        for section in sections.split('.') {
            let nested = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            match nested {
                toml::Value::Table(nested) => table = nested,
                // No path of a key is the beginning of another one's; see the test below.
                _ => return root,
            }
        }
        table.insert(name.to_owned(), value(layered));
    }
    root
}

fn value(layered: &Layered) -> toml::Value {
    match (&layered.written, layered.key.kind) {
        (Written::Many(texts), _) => {
            texts.iter().cloned().map(toml::Value::String).collect::<Vec<_>>().into()
        }
        (Written::One(text), Kind::Switch) => toml::Value::Boolean(text == "true"),
        (Written::One(text), Kind::Count { .. }) => toml::Value::Integer(text.parse().unwrap_or(0)),
        (Written::One(text), _) => toml::Value::String(text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Layers, keys::KEYS};

    #[test]
    fn no_key_is_also_a_section() {
        for key in KEYS {
            assert!(
                !KEYS.iter().any(|other| other.path.starts_with(&format!("{}.", key.path))),
                "{}",
                key.path
            );
        }
    }

    #[test]
    fn every_key_has_its_field_and_every_field_its_key() {
        // `deny_unknown_fields` on one side and fields without default on the other make this a proof for both.
        let layers = Layers::new()
            .assignment("upstream.routes.r.path_prefix=/kv/")
            .assignment("upstreams.other.url=http://127.0.0.1:9")
            .assignment("listeners.other.unix=/run/x");
        let config = Config::unvalidated(layers).unwrap();
        assert_eq!(config.upstreams[1].name, "other");
        assert_eq!(config.listeners[1].listen, Vec::new());
        assert_eq!(config.upstreams[0].routes.len(), 1);
    }

    #[test]
    fn the_effective_configuration_reads_back_and_hides_secrets() {
        let layers = Layers::new()
            .assignment("upstream.credential.secret=aHVudGVyMg==")
            .assignment("upstream.url=http://127.0.0.1:9")
            .assignment("guard.allowed_hosts=a,b");
        let config = Config::unvalidated(layers).unwrap();
        let shown = config.effective.to_string();
        assert!(shown.contains("upstream.credential.secret = \"***\""), "{shown}");
        assert!(shown.contains("# flag --set upstream.url"), "{shown}");
        assert!(!shown.contains("aHVudGVyMg"));
        let debug = format!("{config:?}");
        assert!(!debug.contains("aHVudGVyMg"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shown.toml");
        std::fs::write(&path, shown).unwrap();
        let again = Config::unvalidated(Layers::new().file(&path)).unwrap();
        assert_eq!(again.guard, config.guard);
        assert_eq!(again.limits, config.limits);
        assert_eq!(again.listeners[0].listen, config.listeners[0].listen);
    }
}
