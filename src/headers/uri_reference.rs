//! URI references in fields such as `Location` and `Content-Location` (RFC 3986 §4.2, §5.2), and equivalent targets
//! (RFC 9110 §4.2.3).

use std::borrow::Cow;

use http::Uri;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};

/// The absolute URI of a target at the origin of this scheme and authority. The bytes of the target stay unchanged. Without one of
/// the two it is the target alone.
pub fn absolute(scheme: Option<&Scheme>, authority: Option<&Authority>, target: PathAndQuery) -> Uri {
    let mut parts = Parts::default();
    parts.scheme = scheme.cloned();
    parts.authority = authority.cloned();
    parts.path_and_query = Some(target.clone());
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from(target))
}

/// The canonical target (path and query) that a reference names, if it is at the origin of this scheme and authority.
/// The reference is relative to `base`.
pub fn target_at_origin(
    scheme: &Scheme,
    authority: &Authority,
    base: &str,
    reference: &str,
) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    let target = match reference_kind(reference) {
        ReferenceKind::Absolute { scheme: named, rest } => {
            if !named.eq_ignore_ascii_case(scheme.as_str()) {
                return None;
            }
            without_authority(scheme, authority, rest.strip_prefix("//")?)?
        }
        ReferenceKind::Network(rest) => without_authority(scheme, authority, rest)?,
        ReferenceKind::AbsolutePath => reference.to_owned(),
        ReferenceKind::RelativePath => {
            let path = base.split('?').next().unwrap_or_default();
            let directory = path.rfind('/').map_or("/", |at| &path[..=at]);
            format!("{directory}{reference}")
        }
        ReferenceKind::Query => format!("{}{reference}", base.split('?').next().unwrap_or_default()),
        ReferenceKind::Empty => base.to_owned(),
    };
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let target = format!("{}{query}", without_dot_segments(path));
    Some(canonical(&target).into_owned())
}

/// The path and query behind an authority, if the authority is this origin's.
fn without_authority(scheme: &Scheme, own: &Authority, rest: &str) -> Option<String> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority: Authority = rest[..end].parse().ok()?;
    let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let same = authority.host().eq_ignore_ascii_case(own.host())
        && authority.port_u16().unwrap_or(default_port) == own.port_u16().unwrap_or(default_port);
    let slash = if rest[end..].starts_with('/') { "" } else { "/" };
    same.then(|| format!("{slash}{}", &rest[end..]))
}

/// The target with the equivalences of RFC 9110 §4.2.3 removed, in its path only: percent-encoded unreserved characters
/// are decoded, and the digits of other percent sequences are in upper case.
///
/// Three things stay as they are. The query: different queries never share a key, and an origin may tell `%41` from `A`
/// there. Dot segments: they are forwarded verbatim. A path with an invalid percent sequence: decoding would turn
/// `%%411` into the different `%A1`.
pub fn canonical(target: &str) -> Cow<'_, str> {
    let path = path_of(target.as_bytes());
    let mut changes = false;
    let mut at = 0;
    while at < path.len() {
        if path[at] != b'%' {
            at += 1;
            continue;
        }
        let Some(byte) = escaped_byte(&path[at..]) else { return Cow::Borrowed(target) };
        changes |= is_unreserved(byte) || path[at + 1..at + 3].iter().any(u8::is_ascii_lowercase);
        at += 3;
    }
    if changes { Cow::Owned(canonical_copy(target, path.len())) } else { Cow::Borrowed(target) }
}

/// The part before the query.
fn path_of(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// The byte that a percent sequence at the beginning of `text` stands for.
fn escaped_byte(text: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match text {
        [b'%', high, low, ..] => Some((digit(high)? << 4) | digit(low)?),
        _ => None,
    }
}

/// Writes a target of which every percent sequence in the path is valid.
fn canonical_copy(target: &str, path_length: usize) -> String {
    let (mut rest, query) = target.split_at(path_length);
    let mut written = String::with_capacity(target.len());
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        written.push_str(before);
        let (escape, after) = escape.split_at(escape.len().min(3));
        match escaped_byte(escape.as_bytes()) {
            Some(byte) if is_unreserved(byte) => written.push(char::from(byte)),
            _ => written.push_str(&escape.to_ascii_uppercase()),
        }
        rest = after;
    }
    written.push_str(rest);
    written.push_str(query);
    written
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The forms of a URI reference (RFC 3986 §4.2).
enum ReferenceKind<'a> {
    Absolute { scheme: &'a str, rest: &'a str },
    Network(&'a str),
    AbsolutePath,
    RelativePath,
    Query,
    Empty,
}

fn reference_kind(reference: &str) -> ReferenceKind<'_> {
    if reference.is_empty() {
        return ReferenceKind::Empty;
    }
    if let Some(rest) = reference.strip_prefix("//") {
        return ReferenceKind::Network(rest);
    }
    if reference.starts_with('/') {
        return ReferenceKind::AbsolutePath;
    }
    if reference.starts_with('?') {
        return ReferenceKind::Query;
    }
    match reference.split_once(':') {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => ReferenceKind::Absolute { scheme, rest },
        _ => ReferenceKind::RelativePath,
    }
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(base: &str, reference: &str) -> Option<String> {
        let authority = Authority::from_static("origin.test:8080");
        target_at_origin(&Scheme::HTTP, &authority, base, reference)
    }

    #[test]
    fn references_are_resolved_as_rfc_3986_says() {
        // The examples of RFC 3986 §5.4 that lie at the origin of their base.
        for (reference, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            ("g?y#s", "/b/c/g?y"),
            (";x", "/b/c/;x"),
            ("g;x", "/b/c/g;x"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            (".g", "/b/c/.g"),
            ("g..", "/b/c/g.."),
            ("..g", "/b/c/..g"),
            ("./../g", "/b/g"),
            ("./g/.", "/b/c/g/"),
            ("g/./h", "/b/c/g/h"),
            ("g/../h", "/b/c/h"),
            ("g;x=1/./y", "/b/c/g;x=1/y"),
            ("g?y/./x", "/b/c/g?y/./x"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("//origin.test:8080/g", "/g"),
            ("http://origin.test:8080", "/"),
            ("%7eg", "/b/c/~g"),
        ] {
            assert_eq!(named("/b/c/d;p?q", reference).as_deref(), Some(expected), "{reference}");
        }
        for elsewhere in ["g:h", "http:g", "//g", "https://origin.test:8080/", "http://origin.test/"] {
            assert_eq!(named("/b/c/d;p?q", elsewhere), None, "{elsewhere}");
        }
    }

    proptest! {
        #[test]
        fn what_shares_a_canonical_target_means_the_same(target in "/[a-c%0-9A-F.~/?&=+-]{0,24}") {
            let canonical_target = canonical(&target);
            prop_assert_eq!(canonical(&canonical_target), canonical_target.clone());
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
            prop_assert_eq!(decoded(&canonical_target), decoded(&target));
            let delimiters = |text: &str| text.matches(['/', '?', '&', '=', '+']).count();
            prop_assert_eq!(delimiters(&canonical_target), delimiters(&target));
            let query = |text: &str| text.split_once('?').map(|(_, query)| query.to_owned());
            prop_assert_eq!(query(&canonical_target), query(&target));
        }

        #[test]
        fn no_reference_makes_it_panic(reference in "\\PC{0,40}") {
            let _ = named("/things/1", &reference);
        }
    }
}
