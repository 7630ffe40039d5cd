//! The table of keys for tests of other modules: for each key a value that is not its default.

use super::key::Key;
use super::keys;

/// What a test of all keys needs to know of one.
pub struct KeyFacts {
    /// Its path; `*` stands for a name.
    pub path: &'static str,
    /// Whether a reload that changes it is refused.
    pub needs_restart: bool,
    /// A value other than the default.
    pub other_value: String,
}

/// All keys.
pub fn all() -> impl Iterator<Item = KeyFacts> {
    keys::all().map(|key| KeyFacts {
        path: key.path,
        needs_restart: key.needs_restart,
        other_value: other_value(key),
    })
}

/// Of every type there is one; words follow from what the key expects.
fn other_value(key: &Key) -> String {
    let words = key.expected();
    let words = words.strip_prefix("one of ").unwrap_or_default().split(", ");
    let candidates = [
        "true",
        "false",
        "7",
        "11",
        "1000",
        "1500ms",
        "20s",
        "2h",
        "2KiB",
        "2MiB",
        "GET",
        "x-a",
        "/t",
        "http://127.0.0.1:7",
        "127.0.0.1:7",
    ];
    let mut candidates = words.filter(|it| *it != "auto" && !it.is_empty()).chain(candidates);
    let is_other = |it: &str| it != key.default && key.accepts(&key.split(it));
    candidates.find(|it| is_other(it)).unwrap_or_default().to_owned()
}
