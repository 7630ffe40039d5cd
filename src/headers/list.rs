//! Lists in field values (RFC 9110 §5.6.1): members between the commas that stand outside quoted strings (§5.6.4).

/// The members of one field line, without white space around them; empty ones are left out.
///
/// A quote that is never closed does not start a quoted string: otherwise it could hide the members behind it.
pub(crate) fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = member_length(rest);
            let member = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    })
}

/// The length of the quoted string at the start of `text`, both quotes included; `None` if it is not closed.
pub(crate) fn quoted_string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The length of the first member: up to the next comma outside quotes, or the whole text.
fn member_length(text: &[u8]) -> usize {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b',' => return at,
            b'"' => at += quoted_string_length(&text[at..]).unwrap_or(1),
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commas_outside_quotes_separate() {
        for (line, expected) in [
            ("", &[][..]),
            (" , ,", &[]),
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            (" a ,\tb b ,", &["a", "b b"]),
            ("\"a,b\",c", &["\"a,b\"", "c"]),
            ("x=\"a,\\\",b\",c", &["x=\"a,\\\",b\"", "c"]),
            ("\"a,b", &["\"a", "b"]),
            ("a,\"b\\\",c", &["a", "\"b\\\"", "c"]),
        ] {
            let members: Vec<_> =
                members(line.as_bytes()).map(|text| std::str::from_utf8(text).unwrap()).collect();
            assert_eq!(members, expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn members_are_trimmed_pieces_of_the_line(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut total = 0;
            for member in members(&line) {
                prop_assert!(!member.is_empty());
                prop_assert_eq!(member, member.trim_ascii());
                total += member.len();
            }
            prop_assert!(total <= line.len());
        }
    }
}
