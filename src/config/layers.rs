//! The layers of the configuration: built-in defaults, then the file, then `TAGALONG_*` variables, then flags. Each
//! value remembers where it came from.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{ConfigError, ConfigErrors, Source};
use super::input_file;
use super::key::{Key, Shape, WrittenValue};
use super::keys;
use super::section::{Layered, Values, names_below};
use toml::de::{DeTable, DeValue};

/// All layers, merged: for each path the value of the last layer that sets it.
#[derive(Default)]
pub struct Layers {
    values: Values,
    errors: Vec<ConfigError>,
}

impl Layers {
    /// The built-in defaults alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a configuration file.
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        match input_file::read_text(path) {
            Ok((_, text)) => self.text(&text, path),
            Err(error) => {
                let (named_by, path) = ("cannot read the configuration file".to_owned(), path.to_owned());
                self.errors.push(ConfigError::Unreadable { named_by, path, error });
            }
        }
        self
    }

    fn text(&mut self, text: &str, path: &Path) {
        if let Some(offset) = text.find('\0') {
            self.errors.push(ConfigError::Syntax {
                source_of: file_line(path, text, offset),
                message: "it is no text file".to_owned(),
            });
            return;
        }
        match DeTable::parse(text) {
            Ok(table) => self.table("", table.get_ref(), text, path),
            Err(error) => self.errors.push(ConfigError::Syntax {
                source_of: file_line(path, text, error.span().map_or(0, |span| span.start)),
                message: error.message().to_owned(),
            }),
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, text: &str, path: &Path) {
        for (name, value) in table {
            let at = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let source = file_line(path, text, name.span().start);
            match value.get_ref() {
                DeValue::Table(nested) if keys::find(&at).is_none() => {
                    if keys::is_section(&at) {
                        self.table(&at, nested, text, path);
                    } else {
                        self.errors.push(ConfigError::unknown_section(at, source));
                    }
                }
                DeValue::Array(members) => {
                    let texts =
                        members.iter().map(|member| scalar(member.get_ref())).collect::<Option<Vec<_>>>();
                    self.set(at, texts.map(WrittenValue::Many), source);
                }
                other => {
                    // One text is as good as a list of one.
                    let written = scalar(other).map(|text| match keys::find(&at) {
                        Some(key) => key.split(&text),
                        None => WrittenValue::One(text),
                    });
                    self.set(at, written, source);
                }
            }
        }
    }

    /// Adds the variables that begin with `TAGALONG_`.
    ///
    /// Left alone are `TAGALONG_CONFIG`, the emulator's own, and what Kubernetes injects for a service whose name begins
    /// with `tagalong` (`TAGALONG_SERVICE_HOST`, `TAGALONG_PORT=tcp://…`).
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix("TAGALONG_") else { continue };
            if is_foreign_variable(rest, &value) {
                continue;
            }
            let flat = rest.to_ascii_lowercase().replace('_', "-");
            let path = match keys::of_flag(&flat) {
                Some(key) => key.path.to_owned(),
                None => rest.to_ascii_lowercase().replace("__", "."),
            };
            let source = Source::Variable(name.clone());
            if let Some(other) = seen.insert(path.clone(), name.clone()) {
                self.errors.push(ConfigError::Twice { key: path, first: other, second: name });
                continue;
            }
            self.one_text(path, &value, source);
        }
        self
    }

    /// Adds the values of a flag of `tagalong run`, named without its dashes; one given several times makes a list.
    #[must_use]
    pub fn flag(mut self, name: &str, values: &[String]) -> Self {
        let source = Source::Flag(format!("--{name}"));
        match keys::of_flag(name) {
            Some(key) => self.one_text(key.path.to_owned(), &values.join(","), source),
            None => self.errors.push(ConfigError::unknown(name.to_owned(), source)),
        }
        self
    }

    /// Adds `--set KEY=VALUE`.
    #[must_use]
    pub fn assignment(mut self, assignment: &str) -> Self {
        match assignment.split_once('=') {
            Some((path, value)) => {
                let path = path.trim().to_owned();
                let source = Source::Flag(format!("--set {path}"));
                self.one_text(path, value.trim(), source);
            }
            None => self.errors.push(ConfigError::NoAssignment(assignment.to_owned())),
        }
        self
    }

    /// Adds `KEY=VALUE` as a variable would.
    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn setting(mut self, setting: &str) -> Self {
        match setting.split_once('=') {
            Some((path, value)) => {
                self.one_text(path.to_owned(), value, Source::Variable(path.to_owned()));
            }
            None => self.errors.push(ConfigError::NoAssignment(setting.to_owned())),
        }
        self
    }

    fn one_text(&mut self, path: String, value: &str, source: Source) {
        let written = keys::find(&path).map(|key| key.split(value));
        self.set(path, written, source);
    }

    fn set(&mut self, path: String, written: Option<WrittenValue>, source: Source) {
        let Some(key) = keys::find(&path) else {
            self.errors.push(ConfigError::unknown(path, source));
            return;
        };
        if key.shape == Shape::Secret && matches!(source, Source::Flag(_)) {
            self.errors.push(ConfigError::SecretFlag { key: path, source_of: source });
            return;
        }
        match written {
            Some(written) if key.accepts(&written) => {
                self.values.insert(path, Layered { key, written, source });
            }
            refused => self.errors.push(ConfigError::Value {
                expected: key.advice(refused.as_ref(), matches!(source, Source::File { .. })),
                written: refused.map_or_else(|| "this".to_owned(), |written| key.shown(&written)),
                key: path,
                source_of: source,
            }),
        }
    }

    /// Fills every path that no layer set: from `[upstream]` or `[listener]` for a named one, else from the default. What a
    /// route does not set stays unset.
    ///
    /// # Errors
    /// All errors of all layers together.
    pub(crate) fn complete(mut self) -> Result<Values, ConfigErrors> {
        if !self.errors.is_empty() {
            return Err(ConfigErrors(self.errors));
        }
        for key in keys::all().filter(|key| !key.path.contains('*')) {
            for path in self.instances(key) {
                if self.values.contains_key(&path) {
                    continue;
                }
                let is_named = path != key.path;
                let inherited = self.values.get(key.path).filter(|_| is_named && key.is_inherited);
                let (written, source) = match inherited {
                    Some(main) => (main.written.clone(), Source::Inherited(key.path.to_owned())),
                    // A named listener that says nothing of addresses has none (it may be a Unix socket).
                    None if is_named && key.path == "listener.listen" => {
                        (WrittenValue::Many(Vec::new()), Source::Default)
                    }
                    None => (key.default_value(), Source::Default),
                };
                self.values.insert(path, Layered { key, written, source });
            }
        }
        Ok(self.values)
    }

    /// The paths at which a key stands: its own, and one for each named upstream or listener in use.
    fn instances(&self, key: &Key) -> Vec<String> {
        let (section, rest) = key.path.split_once('.').unwrap_or((key.path, ""));
        let names = names_below(&self.values, &format!("{section}s"));
        let named = names.into_iter().map(|name| format!("{section}s.{name}.{rest}"));
        std::iter::once(key.path.to_owned()).chain(named).collect()
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn file_line(path: &Path, text: &str, offset: usize) -> Source {
    let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
    Source::File { path: path.to_owned(), line }
}

fn is_foreign_variable(rest: &str, value: &str) -> bool {
    let injected = rest == "SERVICE_HOST"
        || rest.ends_with("_SERVICE_HOST")
        || rest.starts_with("SERVICE_PORT")
        || rest.contains("_SERVICE_PORT")
        || ((rest == "PORT" || rest.ends_with("_PORT")) && value.contains("://"))
        || rest.split('_').collect::<Vec<_>>().windows(3).any(|words| {
            words[0] == "PORT"
                && words[1].bytes().all(|byte| byte.is_ascii_digit())
                && matches!(words[2], "TCP" | "UDP" | "SCTP")
        });
    injected || rest == "CONFIG" || rest.starts_with("EMULATOR_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(text: &str) -> Layers {
        let mut layers = Layers::new();
        layers.text(text, Path::new("t.toml"));
        layers
    }

    fn errors(layers: Layers) -> String {
        layers.complete().map(|_| ()).unwrap_err().to_string()
    }

    fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn value(values: &Values, path: &str) -> (String, String) {
        let layered = &values[path];
        (layered.key.shown(&layered.written), layered.source.to_string())
    }

    #[test]
    fn a_later_layer_wins_and_says_where_it_stands() {
        let text =
            "[upstream]\nfreshness = \"1s\"\nurl = 'http://a'\n[limits]\nconnections = 5\ntarget = '1KiB'\n";
        let merged = layers(text)
            .variables(variables(&[("TAGALONG_FRESHNESS", "2s"), ("TAGALONG_LIMITS__CONNECTIONS", "6")]))
            .flag("workers", &["3".into()])
            .assignment("limits.connections = 7")
            .complete()
            .unwrap();
        assert_eq!(
            value(&merged, "upstream.freshness"),
            ("\"2s\"".into(), "variable TAGALONG_FRESHNESS".into())
        );
        assert_eq!(value(&merged, "upstream.url"), ("\"http://a\"".into(), "t.toml:3".into()));
        assert_eq!(
            value(&merged, "limits.connections"),
            ("7".into(), "flag --set limits.connections".into())
        );
        assert_eq!(value(&merged, "limits.target"), ("\"1KiB\"".into(), "t.toml:6".into()));
        assert_eq!(value(&merged, "runtime.workers"), ("3".into(), "flag --workers".into()));
        assert_eq!(value(&merged, "store.limit"), ("\"64MiB\"".into(), "default".into()));
    }

    #[test]
    fn unknown_keys_name_the_nearest_and_the_place() {
        let message = errors(
            layers("[limits]\nconections = 5\n[storr]\nlimit = 1\n")
                .variables(variables(&[("TAGALONG_LIMITS__TARGT", "1KiB")]))
                .assignment("freshness=1s"),
        );
        assert!(
            message
                .contains("t.toml:2: `limits.conections` is not a key; did you mean `limits.connections`?"),
            "{message}"
        );
        assert!(message.contains("t.toml:3: `storr`"), "{message}");
        assert!(message.contains("variable TAGALONG_LIMITS__TARGT: `limits.targt`"), "{message}");
        assert!(message.contains("did you mean `upstream.freshness`?"), "{message}");
    }

    #[test]
    fn values_out_of_range_name_the_range() {
        let message = errors(layers("[limits]\nconnections = 0\ntarget = 'x'\n[runtime]\nworkers = [1]\n"));
        assert!(
            message.contains("t.toml:2: limits.connections = 0: write a whole number from 1 to 1000000"),
            "{message}"
        );
        assert!(message.contains("t.toml:3: limits.target = \"x\": write a size from 64B"), "{message}");
        assert!(message.contains("t.toml:5: runtime.workers"), "{message}");
    }

    #[test]
    fn a_refused_secret_is_not_shown() {
        let message = errors(layers("[upstream.credential]\nsecret = ['hunter2']\n"));
        assert!(message.contains("\"***\"") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_shown() {
        let secrets: Vec<_> = keys::all().filter(|key| key.shape == Shape::Secret).collect();
        assert!(secrets.len() >= 3, "{}", secrets.len());
        for key in secrets {
            assert!(key.flag.is_none(), "{}", key.path);
            let path = key.path.replace('*', "x");
            let message = errors(Layers::new().assignment(&format!("{path}=hunter2")));
            assert!(message.contains("command line") && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_shown() {
        for (assignment, because) in [
            ("upstream.url=http://user:hunter2@a", "upstream.url"),
            ("upstream.url=Endpoint=http://a;Id=i;Secret=hunter2", "upstream.url"),
            ("upstream.consistency=Secret=hunter2", "upstream.consistency"),
            ("limits.connections=http://u:hunter2@a", "limits.connections"),
            ("http://u:hunter2@a=x", "is not a key"),
            ("Id=a;Secret=hunter2", "is not a key"),
            ("http://u:hunter2@a", "KEY=VALUE"),
        ] {
            let message = errors(Layers::new().assignment(assignment));
            assert!(message.contains(because) && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn what_was_meant_is_said_as_it_must_be_written() {
        for (layers, meant) in [
            (
                layers("[upstrem]\nurl='http://a'\n"),
                "t.toml:1: `upstrem` is not a key; did you mean `upstream`?",
            ),
            (layers("[upstream]\ncredential='hmac'\n"), "did you mean `upstream.credential.kind`?"),
            (
                Layers::new().variables(variables(&[("TAGALONG_UPSTREM", "http://a")])),
                "variable TAGALONG_UPSTREM: `upstrem` is not a key; did you mean `upstream.url` (TAGALONG_UPSTREAM)?",
            ),
            (
                Layers::new().flag("listen", &["localhost:1".into()]),
                "write IP:PORT, such as 127.0.0.1:8484; a comma separates several; did you mean \"127.0.0.1:1\"?",
            ),
            (
                layers("[listener]\nlisten=['localhost:1']\n"),
                "write a list of IP:PORT, such as [\"127.0.0.1:8484\"]; did you mean \"127.0.0.1:1\"?",
            ),
            (layers("[store]\nlimit='64MB'\n"), "did you mean \"64MiB\"? The units are B, KiB, MiB and GiB"),
            (layers("a\0b"), "t.toml:1: it is no text file; the file must be TOML"),
        ] {
            let message = errors(layers);
            assert!(message.contains(meant), "{message}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_gets_one_piece_of_advice() {
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join("binary");
        std::fs::write(&binary, [0xff]).unwrap();
        for (path, advice) in [
            (Path::new("/dev/null"), "/dev/null: it is a device; name a regular file"),
            (directory.path(), ": it is a directory; name a regular file"),
            (&binary, ": it is not UTF-8 text; name a text file"),
            (&directory.path().join("absent"), "(os error 2); correct the path, or create the file"),
        ] {
            let message = errors(Layers::new().file(path));
            assert!(message.starts_with("cannot read the configuration file /"), "{message}");
            assert!(message.ends_with(advice), "{message}");
        }
    }

    #[test]
    fn broken_toml_names_the_line() {
        let message = errors(layers("[limits]\nconnections = \n"));
        assert!(message.starts_with("t.toml:2: "), "{message}");
    }

    #[test]
    fn named_upstreams_inherit_what_is_safe_to_inherit() {
        let merged = layers(
            "[upstream]\nurl='http://a'\nconsistency='strong'\ncredential.secret='s'\nroutes.r.path_prefix='/x'\n\
             [upstreams.b]\nurl='http://b'\n[upstreams.c]\nurl='http://c'\nconsistency='session'\n",
        )
        .complete()
        .unwrap();
        assert_eq!(
            value(&merged, "upstreams.b.consistency"),
            ("\"strong\"".into(), "as upstream.consistency".into())
        );
        assert_eq!(value(&merged, "upstreams.c.consistency").0, "\"session\"");
        assert_eq!(value(&merged, "upstreams.b.credential.secret"), ("\"\"".into(), "default".into()));
        assert!(!merged.contains_key("upstreams.b.routes.r.path_prefix"));
        assert!(merged.contains_key("upstream.routes.r.path_prefix"));
        assert!(!merged.contains_key("upstream.routes.r.consistency"));
    }

    #[test]
    fn what_kubernetes_injects_is_left_alone() {
        let injected = variables(&[
            ("TAGALONG_SERVICE_HOST", "10.0.0.1"),
            ("TAGALONG_SERVICE_PORT_HTTP", "8484"),
            ("TAGALONG_PORT", "tcp://10.0.0.1:8484"),
            ("TAGALONG_PORT_8484_TCP_ADDR", "10.0.0.1"),
            ("TAGALONG_METRICS_PORT", "tcp://10.0.0.1:8485"),
            ("TAGALONG_METRICS_SERVICE_HOST", "10.0.0.1"),
            ("TAGALONG_EMULATOR_LISTEN", "127.0.0.1:1"),
            ("TAGALONG_CONFIG", "f.toml"),
            ("PATH", "/bin"),
        ]);
        assert!(Layers::new().variables(injected).complete().is_ok());
    }

    #[test]
    fn two_variables_for_one_key_are_refused() {
        let both = variables(&[("TAGALONG_UPSTREAM", "http://a"), ("TAGALONG_UPSTREAM__URL", "http://b")]);
        let message = errors(Layers::new().variables(both));
        assert!(
            message.contains("TAGALONG_UPSTREAM") && message.contains("TAGALONG_UPSTREAM__URL"),
            "{message}"
        );
    }

    #[test]
    fn lists_are_split_at_commas_in_variables_and_flags() {
        let merged = Layers::new()
            .variables(variables(&[("TAGALONG_GUARD__ALLOWED_HOSTS", "a, b,")]))
            .flag("listen", &["127.0.0.1:1".into(), "[::1]:1".into()])
            .complete()
            .unwrap();
        assert_eq!(value(&merged, "guard.allowed_hosts").0, r#"["a", "b"]"#);
        assert_eq!(value(&merged, "listener.listen").0, r#"["127.0.0.1:1", "[::1]:1"]"#);
    }
}
