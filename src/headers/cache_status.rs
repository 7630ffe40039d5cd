//! `Cache-Status` (RFC 9211): what the cache did with a request. Every answer carries it.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::lasting::lasting;

/// The field's name.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// A cache key longer than this is truncated: the field must not exceed what callers accept.
const MAX_KEY_BYTES: usize = 1_024;

/// This cache's member of the list: `tagalong` and its parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// The answer came from the store without a request upstream; excludes `fwd`.
    pub hit: bool,
    /// Why the request went forward: a token of RFC 9211 §2.2.
    pub fwd: Option<&'static str>,
    /// The status that the origin answered, if the caller gets another one.
    pub fwd_status: Option<StatusCode>,
    /// Remaining freshness lifetime in seconds, negative when stale.
    pub ttl_seconds: Option<i64>,
    /// The forwarded response was stored.
    pub stored: bool,
    /// Whether the request shared the exchange of another one; `Some(false)` if it tried and could not.
    pub collapsed: Option<bool>,
    /// The cache key, if the operator has switched it on.
    pub key: Option<&'a [u8]>,
    /// The reason, as one of the words of the decisions.
    pub detail: Option<&'static str>,
}

/// The members of plain hits by `ttl`, made at first use: the most frequent answers allocate nothing here.
static PLAIN_HITS: [OnceLock<HeaderValue>; 601] = [const { OnceLock::new() }; 601];

impl CacheStatus<'_> {
    /// Our member, as a field value.
    pub fn header_value(&self) -> HeaderValue {
        let slot = self.ttl_seconds.and_then(|seconds| PLAIN_HITS.get(usize::try_from(seconds).ok()?));
        let plain = CacheStatus { hit: true, ttl_seconds: self.ttl_seconds, ..CacheStatus::default() };
        match slot {
            Some(slot) if *self == plain => slot.get_or_init(|| lasting(&self.write())).clone(),
            _ => self.write(),
        }
    }

    #[expect(clippy::expect_used, reason = "tokens, digits and escaped visible characters only")]
    fn write(&self) -> HeaderValue {
        let mut text = Vec::with_capacity(64 + self.key.map_or(0, <[u8]>::len));
        text.extend_from_slice(b"tagalong");
        if self.hit {
            text.extend_from_slice(b"; hit");
        }
        if let Some(fwd) = self.fwd {
            text.extend_from_slice(b"; fwd=");
            text.extend_from_slice(fwd.as_bytes());
        }
        if let Some(status) = self.fwd_status {
            text.extend_from_slice(b"; fwd-status=");
            text.extend_from_slice(status.as_str().as_bytes());
        }
        if let Some(seconds) = self.ttl_seconds {
            text.extend_from_slice(b"; ttl=");
            push_integer(&mut text, seconds);
        }
        if self.stored {
            text.extend_from_slice(b"; stored");
        }
        match self.collapsed {
            Some(true) => text.extend_from_slice(b"; collapsed"),
            Some(false) => text.extend_from_slice(b"; collapsed=?0"),
            None => {}
        }
        if let Some(key) = self.key {
            text.extend_from_slice(b"; key=");
            push_string(&mut text, key);
        }
        if let Some(detail) = self.detail {
            text.extend_from_slice(b"; detail=");
            if is_token(detail) {
                text.extend_from_slice(detail.as_bytes());
            } else {
                push_string(&mut text, detail.as_bytes());
            }
        }
        HeaderValue::from_maybe_shared(Bytes::from(text)).expect("a valid field value")
    }

    /// Adds the member behind those of the caches nearer to the origin (RFC 9211 §2), which stay unchanged.
    pub fn append_to(&self, fields: &mut HeaderMap) {
        fields.append(CACHE_STATUS, self.header_value());
    }
}

/// An integer of RFC 9651 §3.3.1: at most 15 digits.
fn push_integer(text: &mut Vec<u8>, number: i64) {
    const LARGEST: u64 = 999_999_999_999_999;
    if number < 0 {
        text.push(b'-');
    }
    let mut rest = number.unsigned_abs().min(LARGEST);
    let mut digits = [0_u8; 15];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

/// A string of RFC 9651 §3.3.3: visible ASCII and spaces in quotes. Other bytes are written as percent sequences.
fn push_string(text: &mut Vec<u8>, content: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push(b'"');
    for byte in &content[..content.len().min(MAX_KEY_BYTES)] {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => text.push(*byte),
            _ => text.extend_from_slice(&[
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
        }
    }
    text.push(b'"');
}

/// Whether a word is a token of RFC 9651 §3.3.4; the words used here need only a part of its grammar.
fn is_token(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(status: CacheStatus<'_>) -> String {
        status.header_value().to_str().expect("visible").to_owned()
    }

    #[test]
    fn members_read_as_the_rfc_writes_them() {
        let plain = CacheStatus::default();
        for (status, expected) in [
            (plain, "tagalong"),
            (CacheStatus { hit: true, ttl_seconds: Some(27), ..plain }, "tagalong; hit; ttl=27"),
            (CacheStatus { hit: true, ttl_seconds: Some(-412), ..plain }, "tagalong; hit; ttl=-412"),
            (CacheStatus { hit: true, ttl_seconds: Some(0), ..plain }, "tagalong; hit; ttl=0"),
            (
                CacheStatus { hit: true, ttl_seconds: Some(i64::MAX), ..plain },
                "tagalong; hit; ttl=999999999999999",
            ),
            (
                CacheStatus { hit: true, ttl_seconds: Some(i64::MIN), ..plain },
                "tagalong; hit; ttl=-999999999999999",
            ),
            (
                CacheStatus {
                    fwd: Some("stale"),
                    fwd_status: Some(StatusCode::NOT_MODIFIED),
                    stored: true,
                    collapsed: Some(true),
                    detail: Some("own-write"),
                    ..plain
                },
                "tagalong; fwd=stale; fwd-status=304; stored; collapsed; detail=own-write",
            ),
            (
                CacheStatus { fwd: Some("uri-miss"), collapsed: Some(false), ..plain },
                "tagalong; fwd=uri-miss; collapsed=?0",
            ),
            (
                CacheStatus { fwd: Some("miss"), key: Some(b"up\0/a\"b\\c \xc3\xa9"), ..plain },
                r#"tagalong; fwd=miss; key="up%00/a\"b\\c %C3%A9""#,
            ),
            (CacheStatus { detail: Some("two words"), ..plain }, r#"tagalong; detail="two words""#),
            (CacheStatus { detail: Some(""), ..plain }, r#"tagalong; detail="""#),
        ] {
            assert_eq!(written(status), expected);
        }
    }

    #[test]
    fn what_upstream_said_stays_in_front() {
        let mut fields = HeaderMap::new();
        fields.append(CACHE_STATUS, HeaderValue::from_static("Nearer; hit"));
        CacheStatus { fwd: Some("miss"), ..CacheStatus::default() }.append_to(&mut fields);
        let lines: Vec<_> = fields.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["Nearer; hit", "tagalong; fwd=miss"]);
    }

    #[test]
    fn the_member_of_a_plain_hit_is_always_the_same() {
        for seconds in [0, 1, 59, 600, 601, -1] {
            let status = CacheStatus { hit: true, ttl_seconds: Some(seconds), ..CacheStatus::default() };
            for _ in 0..2 {
                assert_eq!(written(status), format!("tagalong; hit; ttl={seconds}"));
            }
            let explained = CacheStatus { detail: Some("max-stale"), ..status };
            assert_eq!(written(explained), format!("tagalong; hit; ttl={seconds}; detail=max-stale"));
        }
    }

    #[test]
    fn a_long_key_is_cut() {
        let key = [b'k'; 5_000];
        let status = CacheStatus { key: Some(&key), ..CacheStatus::default() };
        assert!(written(status).len() < 1_100);
    }

    proptest! {
        #[test]
        fn any_key_is_a_valid_string(key in proptest::collection::vec(any::<u8>(), 0..60), ttl: i64) {
            let text = written(CacheStatus { key: Some(&key), ttl_seconds: Some(ttl), ..CacheStatus::default() });
            let quoted = text.split_once("; key=\"").expect("a key").1.strip_suffix('"').expect("closed");
            let mut characters = quoted.chars();
            while let Some(character) = characters.next() {
                match character {
                    '\\' => prop_assert!(matches!(characters.next(), Some('"' | '\\'))),
                    other => prop_assert!(other != '"' && (' '..='~').contains(&other)),
                }
            }
        }
    }
}
