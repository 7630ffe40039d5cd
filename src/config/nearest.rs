//! Which key was meant by one that does not exist.

use super::error::Source;
use super::key::Key;
use super::keys::{all, canonical, is_name, is_section, of_flag};

/// Words of other programs, and the keys that mean the same here.
const OTHER_WORDS: [(&str, &str); 8] = [
    ("port", "listener.listen"),
    ("host", "listener.listen"),
    ("bind", "listener.listen"),
    ("address", "listener.listen"),
    ("endpoint", "upstream.url"),
    ("origin", "upstream.url"),
    ("ttl", "upstream.freshness"),
    ("verbose", "logging.level"),
];

/// Below this, two names have nothing to do with each other.
const LEAST_LIKENESS: f64 = 0.5;

/// What to do about a key that does not exist, to follow "`x` is not a key".
pub(super) fn advice_on_key(path: &str, source: &Source) -> String {
    let Some(key) = nearest_key(path) else { return nothing_near() };
    let named = with_name_of(path, key.path);
    match source {
        Source::Variable(_) => format!("; did you mean `{named}` ({})?", variable(key, &named)),
        _ => format!("; did you mean `{named}`?"),
    }
}

/// What to do about a section of the file that does not exist.
pub(super) fn advice_on_section(path: &str) -> String {
    let path = canonical(path);
    let sections = all().flat_map(|key| {
        let ends = key.path.match_indices('.').map(|(end, _)| &key.path[..end]);
        ends.filter(|section| !section.contains('*')).collect::<Vec<_>>()
    });
    let nearest =
        sections.map(|section| (section, likeness(&path, section))).max_by(|a, b| a.1.total_cmp(&b.1));
    match nearest {
        Some((section, likeness)) if likeness >= LEAST_LIKENESS => format!("; did you mean `{section}`?"),
        _ => nothing_near(),
    }
}

fn nothing_near() -> String {
    "; `tagalong check-config --defaults` prints all keys".to_owned()
}

/// The key that the operator most likely meant.
fn nearest_key(path: &str) -> Option<&'static Key> {
    let path = canonical(path);
    let last = last_of(&path);
    if let Some(key) = of_flag(&last.replace('_', "-")) {
        return Some(key);
    }
    if is_section(&path) {
        // A value was given to a section: what it says first.
        return all().find(|key| key.path.strip_prefix(&*path).is_some_and(|rest| rest.starts_with('.')));
    }
    if let Some((_, meant)) = OTHER_WORDS.iter().find(|(word, _)| *word == last) {
        return all().find(|key| key.path == *meant);
    }
    let by_path = all().map(|key| (key, likeness(&path, key.path)));
    let by_flag = all().filter_map(|key| Some((key, likeness(&path, &key.flag?.name.replace('-', "_")))));
    let (key, likeness) = by_path.chain(by_flag).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (likeness >= LEAST_LIKENESS).then_some(key)
}

/// How much two paths are alike. The right name in the wrong section is more likely than many wrong letters.
fn likeness(path: &str, candidate: &str) -> f64 {
    let name = strsim::normalized_damerau_levenshtein(last_of(path), last_of(candidate));
    let whole = strsim::jaro_winkler(path, candidate);
    if name < LEAST_LIKENESS && whole < 0.9 { 0.0 } else { name + whole / 2.0 }
}

fn last_of(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

/// The key of `[upstream]` or `[listener]` as that of the named one that `path` is about.
fn with_name_of(path: &str, key: &str) -> String {
    for (plural, singular) in [("upstreams.", "upstream."), ("listeners.", "listener.")] {
        let name =
            path.strip_prefix(plural).and_then(|rest| rest.split('.').next()).filter(|name| is_name(name));
        if let (Some(name), Some(rest)) = (name, key.strip_prefix(singular)) {
            return format!("{plural}{name}.{rest}");
        }
    }
    key.to_owned()
}

/// The variable that sets a key: that of its flag where it has one.
fn variable(key: &Key, path: &str) -> String {
    let name = match key.flag {
        Some(flag) if key.path == path => flag.name.replace('-', "_"),
        _ => path.replace('.', "__"),
    };
    format!("TAGALONG_{}", name.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_with_the_key_that_was_meant() {
        for (wrong, right) in [
            ("limits.conections", "limits.connections"),
            ("target", "limits.target"),
            ("listn", "listener.listen"),
            ("upstrem", "upstream.url"),
            ("upstream", "upstream.url"),
            ("upstream.credential", "upstream.credential.kind"),
            ("upstream.mirror", "upstream.mirror.enabled"),
            ("logging", "logging.level"),
            ("upstream.uri", "upstream.url"),
            ("upstream.conect_deadline", "upstream.connect_deadline"),
            ("store.freshness", "upstream.freshness"),
            ("loging.level", "logging.level"),
            ("listener.listen_unix", "listener.unix"),
            ("connection_string", "upstream.credential.connection_string"),
            ("port", "listener.listen"),
            ("upstreams.orders.freshnes", "upstreams.orders.freshness"),
        ] {
            let advice = advice_on_key(wrong, &Source::Default);
            assert_eq!(advice, format!("; did you mean `{right}`?"), "{wrong}");
        }
    }

    #[test]
    fn a_variable_is_answered_with_a_variable() {
        for (wrong, right) in [
            ("upstrem", "; did you mean `upstream.url` (TAGALONG_UPSTREAM)?"),
            ("limits.targt", "; did you mean `limits.target` (TAGALONG_LIMITS__TARGET)?"),
            ("upstreams.b.uri", "; did you mean `upstreams.b.url` (TAGALONG_UPSTREAMS__B__URL)?"),
        ] {
            assert_eq!(advice_on_key(wrong, &Source::Variable("TAGALONG_X".to_owned())), right);
        }
    }

    #[test]
    fn a_section_is_answered_with_a_section() {
        for (wrong, right) in
            [("upstrem", "upstream"), ("limit", "limits"), ("upstream.credentials", "upstream.credential")]
        {
            assert_eq!(advice_on_section(wrong), format!("; did you mean `{right}`?"));
        }
    }

    #[test]
    fn what_is_like_nothing_is_answered_with_the_list() {
        for advice in [advice_on_key("xyzzy.qqqqq", &Source::Default), advice_on_section("qqqqq")] {
            assert!(advice.contains("check-config --defaults"), "{advice}");
        }
    }
}
