//! A strict parser of `Cache-Status` (RFC 9211). A value that is not a Structured Field list fails the test.

use super::message::Head;

/// The sidecar's member of `Cache-Status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheStatus {
    pub(crate) hit: bool,
    pub(crate) fwd: Option<String>,
    pub(crate) fwd_status: Option<i64>,
    pub(crate) ttl: Option<i64>,
    pub(crate) stored: bool,
    pub(crate) collapsed: Option<bool>,
    pub(crate) key: Option<String>,
    pub(crate) detail: Option<String>,
    /// The members before it, as sent.
    pub(crate) before: Vec<String>,
}

impl CacheStatus {
    /// The last member, which must be `tagalong`.
    pub(crate) fn ours(head: &Head) -> Self {
        let all = head.lines("cache-status").join(", ");
        let mut members = split(&all, ',');
        let ours = members.pop().unwrap_or_default();
        let mut items = split(&ours, ';').into_iter();
        let name = items.next().unwrap_or_default();
        assert_eq!(name, "tagalong", "the last member of Cache-Status is the sidecar's: {all:?} in {head:?}");
        let mut status = Self { before: members, ..Self::default() };
        for item in items {
            status.set(&item, &all);
        }
        assert!(
            !(status.hit && status.fwd.is_some()),
            "hit and fwd exclude each other (RFC 9211 §2.2): {all:?}"
        );
        status
    }

    fn set(&mut self, item: &str, all: &str) {
        let (name, value) = item.split_once('=').unwrap_or((item, "?1"));
        match name {
            "hit" => self.hit = boolean(value, all),
            "fwd" => {
                const REASONS: [&str; 9] = [
                    "bypass",
                    "method",
                    "uri-miss",
                    "vary-miss",
                    "miss",
                    "request",
                    "stale",
                    "partial",
                    "other",
                ];
                assert!(REASONS[..8].contains(&value), "not a reason of RFC 9211: {all:?}");
                self.fwd = Some(value.to_owned());
            }
            "fwd-status" => self.fwd_status = Some(integer(value, all)),
            "ttl" => self.ttl = Some(integer(value, all)),
            "stored" => self.stored = boolean(value, all),
            "collapsed" => self.collapsed = Some(boolean(value, all)),
            "key" => self.key = Some(string(value, all)),
            "detail" => {
                let detail = if value.starts_with('"') { string(value, all) } else { token(value, all) };
                self.detail = Some(detail);
            }
            other => panic!("{other} is not a parameter of RFC 9211: {all:?}"),
        }
    }
}

fn boolean(value: &str, all: &str) -> bool {
    match value {
        "?1" => true,
        "?0" => false,
        _ => panic!("not a boolean: {value} in {all:?}"),
    }
}

fn integer(value: &str, all: &str) -> i64 {
    let digits = value.strip_prefix('-').unwrap_or(value);
    assert!((1..=15).contains(&digits.len()), "not an integer of RFC 9651: {value} in {all:?}");
    value.parse().unwrap_or_else(|_| panic!("not an integer: {value} in {all:?}"))
}

fn token(value: &str, all: &str) -> String {
    let starts = value.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*');
    let goes_on =
        value.chars().all(|next| next.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(next));
    assert!(starts && goes_on, "not a token: {value} in {all:?}");
    value.to_owned()
}

fn string(value: &str, all: &str) -> String {
    let inside = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inside = inside.unwrap_or_else(|| panic!("no string: {value} in {all:?}"));
    assert!(inside.chars().all(|next| (' '..='~').contains(&next)), "no string: {value} in {all:?}");
    inside.replace("\\\"", "\"").replace("\\\\", "\\")
}

/// Parts between separators outside quotes, trimmed.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut escaped = false;
    for next in text.chars() {
        if next == separator && !quoted {
            parts.push(String::new());
            continue;
        }
        if next == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && next == '\\' && !escaped;
        parts.last_mut().expect("never empty").push(next);
    }
    parts
        .into_iter()
        .map(|part| part.trim_matches([' ', '\t']).to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

#[test]
fn examples_of_rfc_9211_are_parsed() {
    let head = Head::parse(b"HTTP/1.1 200 OK\r\nCache-Status: other; hit; ttl=376, tagalong; fwd=stale;fwd-status=304\r\ncache-status: tagalong;fwd=request;collapsed=?0;key=\"a\\\",;b\";detail=own-write\r\n\r\n");
    let status = CacheStatus::ours(&head);
    assert_eq!(status.before, ["other; hit; ttl=376", "tagalong; fwd=stale;fwd-status=304"]);
    assert_eq!(status.fwd.as_deref(), Some("request"));
    assert_eq!(status.collapsed, Some(false));
    assert_eq!(status.key.as_deref(), Some("a\",;b"));
    assert_eq!(status.detail.as_deref(), Some("own-write"));
    assert!(!status.hit && !status.stored);
}
