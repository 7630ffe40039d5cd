//! Entity tags (RFC 9110 §8.8.3): exact bytes, weak and strong comparison, lists of them.

/// A well-formed entity tag, as received: a view of the bytes of the field.
///
/// Equality compares the bytes. For a match in the sense of HTTP see [`EntityTag::matches_strongly`] and
/// [`EntityTag::matches_weakly`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntityTag<'a> {
    bytes: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Reads a field value that must be one entity tag. `None` if it is not well-formed: no quotes, `w/` in lower case,
    /// a space or a quote inside. Such a value is not a validator (RFC 9110 §8.8.3).
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let quoted = value.strip_prefix(b"W/").unwrap_or(value);
        let opaque = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        opaque.iter().all(|byte| is_tag_byte(*byte)).then_some(Self { bytes: value })
    }

    /// The entity tag of a message with these `ETag` lines. `None` unless there is exactly one line and it is
    /// well-formed: two lines contradict each other and name no version.
    pub fn of_message(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut lines = lines.into_iter();
        let only_line = lines.next()?;
        if lines.next().is_some() { None } else { Self::parse(only_line) }
    }

    /// The bytes as received, `W/` and quotes included.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Whether it is weak (`W/`): it promises equivalence, not equal bytes.
    pub fn is_weak(self) -> bool {
        self.bytes.starts_with(b"W")
    }

    /// The opaque part with its quotes.
    fn opaque(self) -> &'a [u8] {
        self.bytes.strip_prefix(b"W/").unwrap_or(self.bytes)
    }

    /// Strong comparison (RFC 9110 §8.8.3.2): both strong, and equal.
    pub fn matches_strongly(self, other: EntityTag<'_>) -> bool {
        !self.is_weak() && self.bytes == other.bytes
    }

    /// Weak comparison (RFC 9110 §8.8.3.2): equal apart from `W/`.
    pub fn matches_weakly(self, other: EntityTag<'_>) -> bool {
        self.opaque() == other.opaque()
    }
}

/// `etagc` of RFC 9110 §8.8.3: visible ASCII without the quote, and bytes above 127.
const fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff)
}

/// The well-formed entity tags of one line of `If-Match` or `If-None-Match`. A malformed member is skipped up to the
/// next comma: it can match no tag.
pub const fn entity_tags(line: &[u8]) -> EntityTags<'_> {
    EntityTags { rest: line }
}

/// Iterator over the tags of a list: see [`entity_tags`].
#[derive(Clone, Debug)]
pub struct EntityTags<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for EntityTags<'a> {
    type Item = EntityTag<'a>;

    fn next(&mut self) -> Option<EntityTag<'a>> {
        while !self.rest.is_empty() {
            let end = member_end(self.rest);
            let member = self.rest[..end].trim_ascii();
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if let Some(tag) = EntityTag::parse(member) {
                return Some(tag);
            }
        }
        None
    }
}

/// The end of the first member of a list: the first comma outside quotes. An entity tag may contain commas.
fn member_end(list: &[u8]) -> usize {
    let mut quoted = false;
    for (at, byte) in list.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    list.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(text: &str) -> EntityTag<'_> {
        EntityTag::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is well-formed"))
    }

    #[test]
    fn well_formed_tags_keep_their_bytes() {
        for text in [
            r#""xyzzy""#,
            r#"W/"xyzzy""#,
            r#""""#,
            r#"W/"""#,
            r#""a,b""#,
            r#""W/""#,
            r#""!#$%&'()*+,-./:;<=>?@[\]^_`{|}~""#,
            "\"\u{e9}\"",
        ] {
            assert_eq!(tag(text).as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn malformed_tags_are_none() {
        for text in [
            "",
            "xyzzy",
            "\"",
            "\"xyzzy",
            "xyzzy\"",
            "W/",
            "W/xyzzy",
            "W/\"",
            r#"w/"xyzzy""#,
            r#"W "xyzzy""#,
            r#"W/ "xyzzy""#,
            r#"WW/"xyzzy""#,
            r#""a b""#,
            r#""a"b""#,
            r#""a","b""#,
            r#" "xyzzy""#,
            r#""xyzzy" "#,
            "'xyzzy'",
            "*",
            "\"\x7f\"",
            "\"\t\"",
            r#""xyzzy"; foo"#,
        ] {
            assert_eq!(EntityTag::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn comparison_is_the_table_of_the_rfc() {
        for (one, other, strongly, weakly) in [
            (r#"W/"1""#, r#"W/"1""#, false, true),
            (r#"W/"1""#, r#"W/"2""#, false, false),
            (r#"W/"1""#, r#""1""#, false, true),
            (r#""1""#, r#""1""#, true, true),
            (r#""1""#, r#""2""#, false, false),
            (r#""a""#, r#""A""#, false, false),
            (r#""""#, r#""""#, true, true),
        ] {
            assert_eq!(tag(one).matches_strongly(tag(other)), strongly, "{one} {other}");
            assert_eq!(tag(other).matches_strongly(tag(one)), strongly, "{other} {one}");
            assert_eq!(tag(one).matches_weakly(tag(other)), weakly, "{one} {other}");
            assert_eq!(tag(other).matches_weakly(tag(one)), weakly, "{other} {one}");
        }
    }

    #[test]
    fn only_a_single_line_names_a_version() {
        let of = |lines: &[&'static str]| EntityTag::of_message(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[r#""a""#]), Some(tag(r#""a""#)));
        assert_eq!(of(&[r#""a""#, r#""b""#]), None);
        assert_eq!(of(&[r#""a""#, r#""a""#]), None);
        assert_eq!(of(&[r#""a", "b""#]), None);
        assert_eq!(of(&["a"]), None);
    }

    #[test]
    fn lists_are_read_whole() {
        for (line, expected) in [
            ("", &[][..]),
            (",", &[]),
            (" , ,, ", &[]),
            (r#""a""#, &[r#""a""#]),
            (r#""a","b""#, &[r#""a""#, r#""b""#]),
            (r#""a" , W/"b" ,"c""#, &[r#""a""#, r#"W/"b""#, r#""c""#]),
            (r#",, "a" ,, "b","#, &[r#""a""#, r#""b""#]),
            (r#""a,b", "c""#, &[r#""a,b""#, r#""c""#]),
            (r#"a, "b""#, &[r#""b""#]),
            (r#"w/"a", "b""#, &[r#""b""#]),
            (r#""a" "b", "c""#, &[r#""c""#]),
            (r#""a b", "c""#, &[r#""c""#]),
            (r#""abc, W/ , ,,"#, &[]),
            (r#"*, "a""#, &[r#""a""#]),
            ("\t\"a\"\t,\t\"b\"", &[r#""a""#, r#""b""#]),
        ] {
            let found: Vec<&[u8]> = entity_tags(line.as_bytes()).map(EntityTag::as_bytes).collect();
            let expected: Vec<&[u8]> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = EntityTag::parse(&line);
            prop_assert!(entity_tags(&line).count() <= line.len() / 2 + 1);
        }

        #[test]
        fn a_list_of_tags_is_read_back(tags in proptest::collection::vec("(W/)?\"[!#-~]{0,9}\"", 0..6)) {
            let line = tags.join(", ");
            let found: Vec<&[u8]> = entity_tags(line.as_bytes()).map(EntityTag::as_bytes).collect();
            prop_assert_eq!(found, tags.iter().map(String::as_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn a_strong_match_is_a_weak_match(one in "(W/)?\"[ab]?\"", other in "(W/)?\"[ab]?\"") {
            let (one, other) = (tag(&one), tag(&other));
            prop_assert!(!one.matches_strongly(other) || one.matches_weakly(other));
        }
    }
}
