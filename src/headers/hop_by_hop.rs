//! Hop-by-hop fields (RFC 9110 §7.6.1). They belong to one connection, so they are neither forwarded nor stored.

use http::header::{
    CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};

/// The fields that are removed from every message, named in `Connection` or not.
pub const HOP_BY_HOP_FIELDS: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that `Connection` cannot remove: they are for all recipients, and RFC 9110 §7.6.1 forbids them as connection
/// options. A caller could otherwise strip a condition or a token, and an origin its own `no-store`.
const PROTECTED_FIELDS: [&str; 32] = [
    "accept",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "vary",
    "via",
];

/// Removes the hop-by-hop fields and those that `Connection` names.
pub fn remove_hop_by_hop(fields: &mut HeaderMap) {
    // Mostly there are none: one look at each name costs less than to look each of them up.
    if !fields.keys().any(|name| HOP_BY_HOP_FIELDS.contains(name)) {
        return;
    }
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| {
            !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
        })
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| PROTECTED_FIELDS.binary_search(&name.as_str()).is_err())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP_FIELDS) {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn left_of(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut fields);
        let mut left: Vec<String> = fields.iter().map(|(name, _)| name.to_string()).collect();
        left.sort();
        left
    }

    #[test]
    fn every_hop_by_hop_field_goes() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ] {
            assert_eq!(left_of(&[(name, "x"), (name, "y"), ("etag", "\"1\"")]), ["etag"], "{name}");
        }
    }

    #[test]
    fn what_connection_names_goes_too() {
        for connection in ["a, b", "A,B", " a ,, b ", "close, a, b", "b, a, keep-alive, not a name, \"c\""] {
            let left = left_of(&[("connection", connection), ("a", "1"), ("b", "2"), ("b", "3"), ("c", "4")]);
            assert_eq!(left, ["c"], "{connection}");
        }
        let two_lines = left_of(&[("connection", "a"), ("connection", "b"), ("a", "1"), ("b", "2")]);
        assert!(two_lines.is_empty());
    }

    #[test]
    fn fields_for_all_recipients_stay() {
        assert!(PROTECTED_FIELDS.is_sorted());
        for name in PROTECTED_FIELDS {
            assert_eq!(left_of(&[("connection", name), (name, "x")]), [name]);
        }
    }

    #[test]
    fn nothing_else_is_touched() {
        let strange = [("content-foo", "1"), ("x-strange", "2"), ("set-cookie", "3"), ("set-cookie", "4")];
        assert_eq!(left_of(&strange), ["content-foo", "set-cookie", "set-cookie", "x-strange"]);
    }

    proptest! {
        #[test]
        fn no_connection_field_makes_it_panic(connection in "[ -~]{0,40}") {
            let mut fields = HeaderMap::new();
            fields.append(CONNECTION, HeaderValue::from_str(&connection).expect("visible"));
            fields.append(http::header::ETAG, HeaderValue::from_static("\"1\""));
            remove_hop_by_hop(&mut fields);
            prop_assert_eq!(fields.len(), 1);
        }
    }
}
