//! Whether a path lies below another one: for permissions by path prefix.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// How often a path is decoded in search of dot segments: an origin behind another proxy may decode more than once.
const MOST_DECODINGS: usize = 4;

/// Whether a path (still encoded) is another one or lies below it. Whole segments are compared: an encoded slash ends
/// no segment. A path with dot segments lies below no other.
#[must_use]
pub fn lies_below(path: &str, above: &str) -> bool {
    let mut found = segments(path);
    let mut above = segments(above.trim_end_matches('/'));
    !has_dot_segments(path) && above.all(|segment| found.next().is_some_and(|it| it == segment))
}

fn segments(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    path.split('/').map(|segment| percent_decode_str(segment).decode_utf8_lossy())
}

/// Whether a path has a dot segment (RFC 3986 §3.3) after any number of decodings. An origin resolves dot segments
/// before it selects the resource, so the beginning of such a path says nothing about what it names. A path parameter
/// (`..;x`) hides no dot segment.
#[must_use]
pub fn has_dot_segments(path: &str) -> bool {
    let mut path = Cow::Borrowed(path);
    for _ in 0..MOST_DECODINGS {
        let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
        if path.split(['/', '\\']).any(is_dots) {
            return true;
        }
        let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        if decoded == *path {
            return false;
        }
        path = Cow::Owned(decoded);
    }
    // No honest client encodes a path so often: treat it as an attempt to hide dot segments.
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_found_however_they_are_written() {
        for path in [
            "/a/..",
            "/../a",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a%2f..%2fb",
            "/a\\..\\b",
            "/a/%252e%252e",
            "/./a",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in ["/", "/a/b", "/a..b/...", "/a/.b", "/a%20b", "/100%", "/%zz"] {
            assert!(!has_dot_segments(path), "{path}");
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
