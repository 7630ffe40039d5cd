//! `Via` (RFC 9110 §7.6.3): which intermediaries have forwarded a message, and whether this one is among them.

use http::header::VIA;
use http::{HeaderMap, HeaderValue, Version};

use super::lasting::lasting;

/// The name of this sidecar in `Via`.
///
/// It must differ between instances that may be chained: a request that carries it is treated as a loop.
#[derive(Clone, Debug)]
pub struct Pseudonym {
    name: Box<str>,
    http_1_0: HeaderValue,
    http_1_1: HeaderValue,
    http_2: HeaderValue,
}

impl Pseudonym {
    /// A pseudonym; `None` if `name` is not a token of RFC 9110 §5.6.2.
    pub fn new(name: &str) -> Option<Self> {
        let is_token = !name.is_empty() && name.bytes().all(is_token_byte);
        if !is_token {
            return None;
        }
        let value = |version: &str| {
            let value = HeaderValue::try_from(format!("{version} {name}")).ok()?;
            Some(lasting(&value))
        };
        Some(Self {
            name: name.into(),
            http_1_0: value("1.0")?,
            http_1_1: value("1.1")?,
            http_2: value("2")?,
        })
    }

    /// The member of `Via` for a message that was received in this version.
    pub fn value(&self, received: Version) -> HeaderValue {
        match received {
            Version::HTTP_09 | Version::HTTP_10 => self.http_1_0.clone(),
            Version::HTTP_2 => self.http_2.clone(),
            _ => self.http_1_1.clone(),
        }
    }

    /// Whether this sidecar has forwarded the message before.
    pub fn is_in(&self, fields: &HeaderMap) -> bool {
        fields
            .get_all(VIA)
            .iter()
            .flat_map(|line| Members { rest: line.as_bytes() })
            .filter_map(received_by)
            .any(|name| name.eq_ignore_ascii_case(self.name.as_bytes()))
    }
}

/// The second word of a member: a host with a port, or a pseudonym.
fn received_by(member: &[u8]) -> Option<&[u8]> {
    member.split(|byte| matches!(byte, b' ' | b'\t' | b'(')).filter(|word| !word.is_empty()).nth(1)
}

/// The members of a list whose members may contain comments, which may contain commas.
struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let mut depth = 0_usize;
        let mut escaped = false;
        let end = self.rest.iter().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if depth > 0 => escaped = true,
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                b',' => return depth == 0,
                _ => {}
            }
            false
        });
        let end = end.unwrap_or(self.rest.len());
        let member = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Some(member)
    }
}

/// `tchar` of RFC 9110 §5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pseudonym() -> Pseudonym {
        Pseudonym::new("tagalong-1").expect("a token")
    }

    #[test]
    fn we_are_added_behind_the_others() {
        let mut fields = HeaderMap::new();
        fields.append(VIA, HeaderValue::from_static("1.0 fred"));
        for (version, expected) in [
            (Version::HTTP_10, "1.0 tagalong-1"),
            (Version::HTTP_11, "1.1 tagalong-1"),
            (Version::HTTP_2, "2 tagalong-1"),
        ] {
            let mut fields = fields.clone();
            fields.append(VIA, pseudonym().value(version));
            let lines: Vec<_> = fields.get_all(VIA).iter().collect();
            assert_eq!(lines, ["1.0 fred", expected]);
            assert!(pseudonym().is_in(&fields));
        }
    }

    #[test]
    fn loops_are_found() {
        for (lines, expected) in [
            (&[][..], false),
            (&["1.1 fred"], false),
            (&["1.1 tagalong-1"], true),
            (&["1.1 TAGALONG-1"], true),
            (&["HTTP/1.1 tagalong-1"], true),
            (&["1.1 fred, 1.1 tagalong-1"], true),
            (&["1.1 fred", "2 tagalong-1 (a comment)"], true),
            (&["1.1 tagalong-1(comment)"], true),
            (&["1.1 fred (one, 1.1 tagalong-1)"], false),
            (&["1.1 fred (one (two), 1.1 tagalong-1), 1.1 tagalong-1"], true),
            (&["1.1 fred (a \\) b, 1.1 tagalong-1)"], false),
            (&["1.1 tagalong-10"], false),
            (&["1.1 tagalong"], false),
            (&["tagalong-1"], false),
            (&["1.1 fred tagalong-1"], false),
            (&["1.1 fred)), 1.1 tagalong-1"], true),
            (&[",, 1.1\ttagalong-1 ,"], true),
            (&[""], false),
        ] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(VIA, HeaderValue::from_static(line));
            }
            assert_eq!(pseudonym().is_in(&fields), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_pseudonym_is_a_token() {
        for name in ["", "a b", "a,b", "a(b)", "a\"", "é", "a/b", "a:1"] {
            assert!(Pseudonym::new(name).is_none(), "{name}");
        }
        for name in ["a", "tagalong", "tagalong-7f.3_x~"] {
            assert!(Pseudonym::new(name).is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(0x20_u8..=0x7e, 0..60)) {
            let mut fields = HeaderMap::new();
            fields.append(VIA, HeaderValue::from_bytes(&line).expect("visible"));
            let _ = pseudonym().is_in(&fields);
        }
    }
}
