//! Whether a path lies below another one: for permissions by path prefix.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// How often a path is decoded in search of dot segments: an origin behind another proxy may decode more than once.
const MOST_DECODINGS: usize = 4;

/// Whether a path (still encoded) is another one or lies below it. Whole segments are compared: an encoded slash ends
/// no segment. An ambiguous path lies below no other.
#[must_use]
pub fn lies_below(path: &str, above: &str) -> bool {
    let mut found = segments(path);
    let mut above = segments(above.trim_end_matches('/'));
    !is_ambiguous(path) && above.all(|segment| found.next().is_some_and(|it| it == segment))
}

fn segments(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    path.split('/').map(|segment| percent_decode_str(segment).decode_utf8_lossy())
}

/// Whether recipients may read a path in different ways, so that its beginning says nothing about what it names. After any number of
/// decodings it has one of these:
///
/// - a dot segment (RFC 3986 §3.3): an origin resolves it before it selects the resource. Neither a path parameter (`..;x`) nor
///   blanks beside the dots nor full-width dots, which normalisation (NFKC) makes plain ones, hide it;
/// - bytes that are no UTF-8, among them overlong forms of `.` and `/`, or `%u` escapes: some decoders accept them;
/// - control characters: some recipients end the path there.
#[must_use]
pub fn is_ambiguous(path: &str) -> bool {
    let mut path = Cow::Borrowed(path);
    for _ in 0..MOST_DECODINGS {
        if has_dot_segments(&path) || path.contains(char::is_control) || has_unicode_escape(&path) {
            return true;
        }
        let Ok(decoded) = percent_decode_str(&path).decode_utf8() else { return true };
        if decoded == path {
            return false;
        }
        path = Cow::Owned(decoded.into_owned());
    }
    // No honest client encodes a path so often: treat it as an attempt to hide something.
    true
}

fn has_dot_segments(path: &str) -> bool {
    let plain = |character| match character {
        '\u{FF0E}' | '\u{FE52}' | '\u{2024}' => '.',
        '\u{FF0F}' | '\u{FF3C}' | '\u{FE68}' | '\\' => '/',
        other => other,
    };
    let is_plain = path.bytes().all(|byte| byte.is_ascii() && byte != b'\\');
    let path = if is_plain { Cow::Borrowed(path) } else { Cow::Owned(path.chars().map(plain).collect()) };
    path.split('/').any(|segment| matches!(segment.split(';').next().map(str::trim), Some("." | "..")))
}

/// `%uXXXX`, an escape that no standard knows.
fn has_unicode_escape(path: &str) -> bool {
    path.as_bytes().windows(6).any(
        |six| matches!(six, [b'%', b'u' | b'U', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_recipients_may_read_differently_is_found() {
        for path in [
            "/a/..",
            "/../a",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a%2f..%2fb",
            "/a\\..\\b",
            "/a/%252e%252e",
            "/./a",
            "/a/..;x/b",
            "/a/..%20/b",
            "/a/%2e%2e%09/b",
            "/a/%20../b",
            "/a/%ef%bc%8e%ef%bc%8e/b",
            "/%ef%bc%8e",
            "/a%ef%bc%8f..%ef%bc%8fb",
            "/a/%ff",
            "/a/%c0%ae%c0%ae/b",
            "/a/%e0%80%af",
            "/a/%25c0%25ae",
            "/a/%u002e%u002e/b",
            "/a/%25u002e",
            "/a%00",
            "/a%0d%0ab",
            "/a%2500",
            "/a%7f",
            "/a%c2%85",
            "/%2525252525",
        ] {
            assert!(is_ambiguous(path), "{path}");
        }
        for path in
            ["/", "/a/b", "/a..b/...", "/a/.b", "/a%20b", "/100%", "/%zz", "/%c3%a9", "/a%20/b", "/%user"]
        {
            assert!(!is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn below_is_below_by_whole_segments() {
        assert!(
            lies_below("/a/b", "/a")
                && lies_below("/a", "/a")
                && lies_below("/a", "/")
                && lies_below("/%61", "/a")
        );
        assert!(!lies_below("/ab", "/a") && !lies_below("/a%2Fb", "/a") && !lies_below("/a/../b", "/a"));
    }
}
