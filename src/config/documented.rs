//! `config/default.toml`: every key explained for people, built into the binary so that `check-config --defaults` can
//! print it, and held against `keys` by the tests below.

/// The text of `config/default.toml`.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::keys;
    use super::super::{Config, Layers};
    use super::DEFAULT_TOML;

    /// The documented keys: path (`NAME` for a name of the operator's choice), value, and the comment above it.
    fn documented() -> BTreeMap<String, (String, String)> {
        let (mut section, mut comment, mut found) = (String::new(), String::new(), BTreeMap::new());
        for line in DEFAULT_TOML.lines() {
            // `#key = …` without a space is a key that is only shown; `# text` is a comment.
            let shown = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
            if let Some(name) = shown.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
            } else if let Some((name, value)) = shown.split_once(" = ").filter(|_| !shown.starts_with('#')) {
                let previous = found.insert(format!("{section}.{name}"), (value.to_owned(), comment.clone()));
                assert!(previous.is_none(), "{section}.{name} stands twice");
            } else if let Some(text) = line.strip_prefix("# ") {
                comment = format!("{comment}{text}\n");
                continue;
            }
            comment.clear();
        }
        found
    }

    #[test]
    fn every_key_is_documented_with_range_default_and_reason() {
        let mut documented = documented();
        for key in keys::all() {
            let path = key.path.replace('*', "NAME");
            let (value, comment) =
                documented.remove(&path).unwrap_or_else(|| panic!("{path} is not documented"));
            let default_as_toml = key.shown(&key.default_value());
            let default = if key.default.is_empty() { "none" } else { &default_as_toml };
            assert!(
                comment.contains(&format!("Takes: {}.\n", key.expected())),
                "{path} takes something else"
            );
            assert!(comment.contains(&format!("Default: {default}.\n")), "{path} has default {default}");
            let reload = if key.needs_restart { "needs a restart" } else { "at once" };
            assert!(comment.contains(&format!("Reload: {reload}.\n")), "{path}: a reload: {reload}");
            assert!(comment.contains("Reason: "), "{path} gives no reason");
            assert!(!comment.starts_with("Takes"), "{path} does not say what it is");
            if !key.path.contains('*') {
                assert_eq!(value, default_as_toml, "{path}");
            }
        }
        assert!(documented.is_empty(), "documented, but no keys: {:?}", documented.keys());
    }

    #[test]
    fn running_with_the_file_changes_nothing() {
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/default.toml"));
        let with = Config::unvalidated(Layers::new().file(file)).unwrap();
        let without = Config::unvalidated(Layers::new()).unwrap();
        let values = |config: &Config| {
            config.effective.0.iter().map(|it| (it.path.clone(), it.value.clone())).collect::<Vec<_>>()
        };
        assert_eq!(values(&with), values(&without));
    }

    #[test]
    fn what_is_only_shown_would_be_accepted() {
        let text: String = DEFAULT_TOML
            .lines()
            .map(|line| {
                let shown = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
                shown.replace("NAME]", "example]") + "\n"
            })
            .collect();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shown.toml");
        std::fs::write(&path, text).unwrap();
        let config = Config::unvalidated(Layers::new().file(&path)).unwrap();
        assert_eq!(config.upstreams[0].routes.len(), 1);
    }
}
