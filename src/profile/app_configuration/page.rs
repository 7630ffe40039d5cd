//! Pages of a list: their entity tag, the continuation, the link to the next page, and their JSON.
//!
//! The tag of a page is base64url (without padding) of SHA-256 over UTF-16LE of `kvset LF`, the tag of each item and LF (one LF if
//! there is none), then the plain continuation `key LF label`. So the tag of any page can be made from its items: it does not
//! depend on the filter, on `$select` or on the api-version. Recorded pages of the service hold this in the tests.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::key_value::KeyValueId;

/// The maximum number of items of a page at the service.
pub const PAGE_SIZE: usize = 100;

/// The entity tag of a page, without quotes.
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

/// The plain form of a position in a list of key-values: after this one.
pub fn after_key_value(id: &KeyValueId) -> String {
    format!("{}\n{}", id.key(), id.label().unwrap_or_default())
}

/// The position that [`after_key_value`] gives. `None` if the text is none.
pub fn key_value_before(plain: &str) -> Option<KeyValueId> {
    let (key, label) = plain.split_once('\n').filter(|(key, _)| !key.is_empty())?;
    (!label.contains('\n')).then(|| KeyValueId::new(key, Some(label)))
}

/// Precedes the name in a position, because the position after "no label" would otherwise be empty.
const NAME_MARK: char = '\n';

/// The plain form of a position in a list of keys or labels: after this name, where "no label" is empty.
pub fn after_name(name: &str) -> String {
    format!("{NAME_MARK}{name}")
}

/// The name that [`after_name`] was given.
pub fn name_before(plain: &str) -> Option<&str> {
    plain.strip_prefix(NAME_MARK)
}

/// The opaque form of a position, the value of `after`: base64url, which stays intact when a client percent-decodes it twice.
pub fn encode_continuation(plain: &str) -> String {
    URL_SAFE_NO_PAD.encode(plain)
}

/// The plain form of an `after` in any of the [`ContinuationForms`], percent-decoded; `None` if it is unreadable.
pub fn decode_continuation(after: &str) -> Option<String> {
    let after = after.trim_end_matches('=').replace(['+', ' '], "-").replace('/', "_");
    let bytes = URL_SAFE_NO_PAD.decode(after).ok()?;
    String::from_utf8(bytes).ok()
}

bitflags::bitflags! {
    /// In which forms an origin can have written the continuations of its links, as far as they were seen. All forms say the
    /// same to an origin; a link is written in the form that the origin itself would write.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ContinuationForms: u8 {
        /// base64url without padding.
        const URL_SAFE_BARE = 1;
        /// base64url with padding.
        const URL_SAFE = 1 << 1;
        /// The same with the padding percent-encoded.
        const URL_SAFE_ENCODED = 1 << 2;
        /// base64 with padding, percent-encoded.
        const STANDARD_ENCODED = 1 << 3;
        /// base64 with padding.
        const STANDARD = 1 << 4;
        /// base64 without padding.
        const STANDARD_BARE = 1 << 5;
    }
}

impl ContinuationForms {
    /// The forms in which the link to the page after this plain position can have been written.
    #[must_use]
    pub fn of_link(link: &str, plain: &str) -> Self {
        let after = link.rsplit_once("after=").map_or("", |(_, after)| after);
        Self::all().iter().filter(|form| form.encode(plain) == after).collect()
    }

    /// A position as it stands in a link: in the first of the forms.
    #[must_use]
    pub fn encode(self, plain: &str) -> String {
        let percent = |text: String| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
        match self.iter().next() {
            Some(Self::URL_SAFE) => URL_SAFE.encode(plain),
            Some(Self::URL_SAFE_ENCODED) => {
                percent(URL_SAFE.encode(plain)).replace("%2D", "-").replace("%5F", "_")
            }
            Some(Self::STANDARD_ENCODED) => percent(STANDARD.encode(plain)),
            Some(Self::STANDARD) => STANDARD.encode(plain),
            Some(Self::STANDARD_BARE) => STANDARD_NO_PAD.encode(plain),
            _ => URL_SAFE_NO_PAD.encode(plain),
        }
    }
}

/// [`link_after`] with a position in the form of [`encode_continuation`].
pub fn next_link(path: &str, query: &str, continuation: &str) -> String {
    link_after(path, query, &encode_continuation(continuation))
}

/// The relative target of the next page: the path and parameters of the request as sent, with the new `after` last.
/// `after` must not be the first parameter, or the JavaScript client throws; `api-version` always precedes it.
pub fn link_after(path: &str, query: &str, after: &str) -> String {
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
    link.push_str(after);
    link
}

/// The value of `Link` that leads to the next page.
pub fn link_to_next(target: &str) -> String {
    format!("<{}>; rel=\"next\"", header_safe(target))
}

/// A target in the form that is valid between `<` and `>` in a field.
pub fn header_safe(text: &str) -> String {
    const UNSAFE: &percent_encoding::AsciiSet =
        &percent_encoding::CONTROLS.add(b'<').add(b'>').add(b'"').add(b' ');
    percent_encoding::utf8_percent_encode(text, UNSAFE).to_string()
}

/// The JSON of a page: `etag`, `items`, `@nextLink`.
pub fn page_json<'a>(
    etag: Option<&str>,
    items: impl Iterator<Item = &'a [u8]>,
    next: Option<&str>,
) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 * 1024);
    body.push(b'{');
    if let Some(etag) = etag {
        // A tag of a page is base64url and needs no escapes.
        body.extend_from_slice(format!("\"etag\":\"{etag}\",").as_bytes());
    }
    body.extend_from_slice(b"\"items\":[");
    for (index, item) in items.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    body.push(b']');
    if let Some(next) = next {
        body.extend_from_slice(b",\"@nextLink\":");
        // Serialising a string cannot fail.
        body.extend_from_slice(&serde_json::to_vec(next).unwrap_or_default());
    }
    body.push(b'}');
    body
}

/// The JSON of a page of keys or labels. Each item is an empty object if the name is not selected.
pub fn names_json<'a>(
    names: impl Iterator<Item = Option<&'a str>>,
    shows_name: bool,
    next: Option<&str>,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Name<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<Option<&'a str>>,
    }
    // Serialising a string cannot fail.
    let json = |name| serde_json::to_vec(&Name { name: shows_name.then_some(name) }).unwrap_or_default();
    let items: Vec<Vec<u8>> = names.map(json).collect();
    page_json(None, items.iter().map(Vec::as_slice), next)
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
