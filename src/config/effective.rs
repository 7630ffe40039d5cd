//! The effective configuration: every key with its value and where that came from, fit to be shown.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use super::duration::format_duration;
use super::error::Source;
use super::key::WrittenValue;
use super::section::Values;
use super::upstream::UpstreamSettings;
use super::validate::section;
use super::values::Word as _;

/// One line of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The full path of the key.
    pub path: String,
    /// The value as TOML, `"***"` for a secret.
    pub value: String,
    /// Where it came from.
    pub source: Source,
    /// What it comes to where the value leaves that to others: what `auto` means here.
    pub resolved: Option<String>,
    /// Equal for equal values, secrets included, within one process. Tells nothing else.
    pub(super) fingerprint: u64,
}

/// The hash is keyed with a secret of this process, so that nothing can be guessed from it.
pub(super) fn fingerprint(written: &WrittenValue) -> u64 {
    static HASHER: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);
    HASHER.hash_one(written)
}

/// Every key with its value and its source, in the order of their paths. `Display` writes TOML that can be read back
/// (but for the masked secrets), with the sources as comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective(pub Vec<Setting>);

impl Effective {
    pub(super) fn of(values: &Values) -> Self {
        let settings = values.iter().map(|(path, layered)| Setting {
            path: path.clone(),
            value: layered.key.shown(&layered.written),
            source: layered.source.clone(),
            resolved: None,
            fingerprint: fingerprint(&layered.written),
        });
        Self(settings.collect())
    }

    /// Notes what each upstream makes of `auto`, and of a `url` that is not set.
    pub(super) fn resolve(&mut self, upstreams: &[UpstreamSettings]) {
        for upstream in upstreams {
            let section = section("upstream", &upstream.name);
            let rules = upstream.caching_rules();
            let lifetime = |lifetime: Option<Duration>| {
                lifetime.map_or_else(
                    || "what each response says, else heuristics".to_owned(),
                    |lifetime| format!("{:?}", format_duration(lifetime)),
                )
            };
            let profile = if upstream.is_generic_by_default() {
                "\"generic\": the host is not a name of App Configuration; say --profile app-configuration if it is an emulator \
                 or a private name"
                    .to_owned()
            } else {
                format!("{:?}, by the host", upstream.profile().word())
            };
            for (key, unset, resolved) in [
                (
                    "url",
                    "\"\"",
                    format!("{:?}, the Endpoint of the connection string", upstream.url.to_string()),
                ),
                ("profile", "\"auto\"", profile),
                ("credential.kind", "\"auto\"", format!("{:?}", upstream.credential.kind.word())),
                ("freshness", "\"auto\"", lifetime(rules.freshness)),
                ("freshness_not_found", "\"auto\"", lifetime(rules.freshness_not_found)),
            ] {
                let path = format!("{section}.{key}");
                let mut settings = self.0.iter_mut();
                if let Some(setting) = settings.find(|setting| setting.path == path && setting.value == unset)
                {
                    setting.resolved = Some(resolved);
                }
            }
        }
    }
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
        for Setting { path, value, source, resolved, .. } in &self.0 {
            let assignment = format!("{path} = {value}");
            write!(formatter, "{assignment:width$}  # {source}")?;
            match resolved {
                Some(resolved) => writeln!(formatter, "; comes to {resolved}")?,
                None => writeln!(formatter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Layers};

    #[test]
    fn what_auto_comes_to_is_shown() {
        let shown = |assignments: &[&str]| {
            let layers = assignments.iter().fold(Layers::new(), |layers, it| layers.setting(it));
            Config::new(layers).unwrap().effective.to_string()
        };
        let has = |text: &str, start: &str, end: &str| {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
            assert!(line.contains(end), "{text}");
        };
        let text = shown(&[
            "upstream.credential.connection_string=Endpoint=https://a.azconfig.io;Id=i;Secret=c2VjcmV0",
        ]);
        has(&text, "upstream.url = \"\"", "comes to \"https://a.azconfig.io/\"");
        has(&text, "upstream.profile = \"auto\"", "comes to \"app-configuration\", by the host");
        has(&text, "upstream.credential.kind = \"auto\"", "comes to \"hmac\"");
        has(&text, "upstream.freshness = \"auto\"", "comes to \"30s\"");
        has(&text, "upstream.freshness_not_found = \"auto\"", "comes to \"5s\"");
        let text = shown(&["upstream.url=http://127.0.0.1:9", "upstream.freshness=1s"]);
        has(&text, "upstream.profile = \"auto\"", "say --profile app-configuration");
        has(&text, "upstream.credential.kind = \"auto\"", "comes to \"forward\"");
        assert_eq!(text.matches("comes to").count(), 3, "{text}");
        let text = shown(&["upstream.url=http://127.0.0.1:9", "upstream.profile=generic"]);
        assert!(!text.contains("--profile"), "{text}");
    }

    #[test]
    fn passwords_within_values_are_hidden() {
        // The member of a list is not a URL: the mask of a whole line would not find its password.
        let values = [
            "upstream.url=http://127.0.0.1:9",
            "upstream.proxy=http://user:hunter2@127.0.0.1:3128",
            "logging.level=user:hunter2@proxy",
            "upstream.hosts=user:hunter2@a,b",
        ];
        let layers = values.iter().fold(Layers::new(), |layers, value| layers.assignment(value));
        let shown = Config::unvalidated(layers).unwrap().effective.to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("logging.level = \"***@proxy\""), "{shown}");
    }

    #[test]
    fn the_effective_configuration_reads_back_and_hides_secrets() {
        let layers = Layers::new()
            .setting("upstream.credential.secret=aHVudGVyMg==")
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
