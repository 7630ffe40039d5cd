//! Pages of a list: their entity tag, the continuation token, and the link to the next page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};

use super::problem::Problem;
use crate::profile::app_configuration::key_value::KeyValueId;

/// The maximum number of items of a page at the real service.
pub const PAGE_SIZE: usize = 100;

/// One page of items.
#[derive(Debug)]
pub struct Page<T> {
    /// At most a page of items.
    pub items: Vec<T>,
    /// Whether there is a further page.
    pub continues: bool,
}

impl<T> Page<T> {
    /// Takes a page from the remaining items. It looks one item ahead, so that no list ends in an empty page, as it can
    /// with the vendor's emulator.
    pub fn take(items: impl Iterator<Item = T>, size: usize) -> Self {
        let mut items: Vec<T> = items.take(size + 1).collect();
        let continues = items.len() > size;
        items.truncate(size);
        Self { items, continues }
    }

    /// The plain position of the next page, which `after` makes of the last item; `None` if there is no next page.
    pub fn next(&self, after: impl FnOnce(&T) -> String) -> Option<String> {
        self.items.last().filter(|_| self.continues).map(after)
    }
}

/// The entity tag of a page, without quotes: base64url of SHA-256 over the tags of its items and the plain continuation
/// in UTF-16LE. It does not depend on `$select`. It changes with each item and when a further page appears.
pub fn page_etag<'a>(items: impl Iterator<Item = &'a str>, continuation: Option<&str>) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        hash.update(bytes);
    };
    add("kvset\n");
    let mut items = items.peekable();
    if items.peek().is_none() {
        add("\n");
    }
    for etag in items {
        add(etag);
        add("\n");
    }
    if let Some(continuation) = continuation {
        add(continuation);
    }
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

/// The plain form of a position: `key LF label`, for revisions `key LF label LF change`, for names `name`.
pub mod continuation {
    use super::{KeyValueId, Problem, URL_SAFE_NO_PAD};
    use base64::Engine as _;

    /// After a key-value.
    pub fn after_key_value(id: &KeyValueId) -> String {
        format!("{}\n{}", id.key(), id.label().unwrap_or_default())
    }

    /// After a revision, which its change identifies.
    pub fn after_revision(id: &KeyValueId, sequence_number: u64) -> String {
        format!("{}\n{sequence_number}", after_key_value(id))
    }

    /// The opaque form: base64url, which stays intact when a client percent-decodes it twice.
    pub fn encode(plain: &str) -> String {
        URL_SAFE_NO_PAD.encode(plain)
    }

    /// The plain form of an `after`. An unreadable token is refused. The vendor's emulator starts again at page one,
    /// which turns a client's mistake into an endless list.
    pub fn decode(after: &str) -> Result<String, Problem> {
        URL_SAFE_NO_PAD
            .decode(after.trim_end_matches('='))
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(invalid)
    }

    /// Parses a position of [`after_key_value`].
    pub fn decode_key_value(after: &str) -> Result<KeyValueId, Problem> {
        let plain = decode(after)?;
        let (key, label) = plain.split_once('\n').filter(|(key, _)| !key.is_empty()).ok_or_else(invalid)?;
        if label.contains('\n') {
            return Err(invalid());
        }
        Ok(KeyValueId::new(key, Some(label)))
    }

    /// Parses a position of [`after_revision`].
    pub fn decode_revision(after: &str) -> Result<(KeyValueId, u64), Problem> {
        let plain = decode(after)?;
        let mut parts = plain.splitn(3, '\n');
        match (parts.next(), parts.next(), parts.next().map(str::parse)) {
            (Some(key), Some(label), Some(Ok(number))) if !key.is_empty() => {
                Ok((KeyValueId::new(key, Some(label)), number))
            }
            _ => Err(invalid()),
        }
    }

    /// 400 for an unreadable position.
    pub fn invalid() -> Problem {
        Problem::invalid("after", "Invalid continuation; follow the link of the page before unchanged")
    }
}

/// The relative target of the next page: the path and parameters of the request as sent, with the new `after` last.
/// `after` must not be the first parameter, or the JavaScript client throws; `api-version` always precedes it.
pub fn next_link(path: &str, query: &str, continuation: &str) -> String {
    let mut link = format!("{}?", header_safe(path));
    let is_after = |parameter: &str| {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        percent_decode_str(name).decode_utf8_lossy().eq_ignore_ascii_case("after")
    };
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty() && !is_after(parameter)) {
        link.push_str(&header_safe(parameter));
        link.push('&');
    }
    link.push_str("after=");
    link.push_str(&continuation::encode(continuation));
    link
}

/// A target in the form that is valid between `<` and `>` in a field.
pub fn header_safe(text: &str) -> String {
    const UNSAFE: &percent_encoding::AsciiSet =
        &percent_encoding::CONTROLS.add(b'<').add(b'>').add(b'"').add(b' ');
    percent_encoding::utf8_percent_encode(text, UNSAFE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn page_tags_equal_the_recorded_ones() {
        assert_eq!(page_etag([].into_iter(), None), "00wWELzclWef22f82qcUDI7FbJweVOoKWZDA_JoUeD0");
        assert_eq!(
            page_etag(["A".repeat(22).as_str()].into_iter(), None),
            "vTakqi-YljriSJabCLaC8eLSz80Pn-5nNbgxu5gfEuc"
        );
        let (one, other) = ("A".repeat(22), "B".repeat(22));
        assert_eq!(
            page_etag([one.as_str(), other.as_str()].into_iter(), Some("app:key2\n")),
            "GmgUozjht_swryxoVb4Petgl9P76RtOcrixhk7dql1w"
        );
    }

    #[test]
    fn a_page_knows_whether_it_is_the_last() {
        for (count, items, continues) in [(0, 0, false), (99, 99, false), (100, 100, false), (101, 100, true)]
        {
            let page = Page::take(0..count, 100);
            assert_eq!((page.items.len(), page.continues), (items, continues), "{count}");
        }
    }

    #[test]
    fn after_comes_last_and_the_rest_stays_as_it_was() {
        let link = next_link("/kv", "After=old&api-version=1.0&key=app%3A%2A&%61fter=x&&label=%00", "a\nb");
        assert_eq!(link, "/kv?api-version=1.0&key=app%3A%2A&label=%00&after=YQpi");
        assert_eq!(
            next_link("/kv", "api-version=1.0&key=<é>", "a\n"),
            "/kv?api-version=1.0&key=%3C%C3%A9%3E&after=YQo"
        );
    }

    proptest! {
        #[test]
        fn continuations_round_trip(key in "[^\\p{Cc}%]{1,8}", label in prop::option::of("[^\\p{Cc}]{1,8}"), number: u64) {
            let id = KeyValueId::new(&key, label.as_deref());
            let token = continuation::encode(&continuation::after_key_value(&id));
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(continuation::decode_key_value(&token), Ok(id.clone()));
            let token = continuation::encode(&continuation::after_revision(&id, number));
            prop_assert_eq!(continuation::decode_revision(&token), Ok((id, number)));
        }

        #[test]
        fn no_continuation_panics(token in "[A-Za-z0-9+/=_ -]{0,24}") {
            let _results = (continuation::decode_key_value(&token), continuation::decode_revision(&token));
        }
    }
}
