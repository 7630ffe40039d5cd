//! `CDN-Cache-Control` (RFC 9213): directives for shared caches as a Structured-Field dictionary (RFC 9651 §3.2).

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::cache_control::{Argument, Member, ResponseDirectives};

/// The name of the field.
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Reads the field. `None` if it is absent, empty or not a valid dictionary: all three are treated as absent (RFC 9213
/// §2.2).
pub fn from_fields(fields: &HeaderMap) -> Option<ResponseDirectives> {
    let mut lines = fields.get_all(CDN_CACHE_CONTROL).iter();
    let mut list = lines.next()?.as_bytes().to_vec();
    for line in lines {
        list.extend_from_slice(b", ");
        list.extend_from_slice(line.as_bytes());
    }
    let dictionary: Dictionary = Parser::new(&list).parse().ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives::default();
    for (name, entry) in &dictionary {
        apply(&mut directives, name.as_str().as_bytes(), entry);
    }
    Some(directives)
}

/// Applies one member. A value of the wrong type is a malformed argument: a directive that forbids still counts.
fn apply(directives: &mut ResponseDirectives, name: &[u8], entry: &ListEntry) {
    let ListEntry::Item(item) = entry else {
        return directives.apply(&Member { name, argument: Argument::Malformed });
    };
    match &item.bare_item {
        BareItem::Boolean(true) => directives.apply(&Member { name, argument: Argument::Absent }),
        BareItem::Boolean(false) => {}
        BareItem::Integer(number) => {
            let digits = number.to_string();
            directives.apply(&Member { name, argument: Argument::Token(digits.as_bytes()) });
        }
        BareItem::String(text) if matches!(name, b"private" | b"no-cache") => {
            directives.apply(&Member { name, argument: Argument::Quoted(text.as_str().as_bytes()) });
        }
        _ => directives.apply(&Member { name, argument: Argument::Malformed }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    fn directives(lines: &[&str]) -> Option<ResponseDirectives> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CDN_CACHE_CONTROL, line.parse().unwrap());
        }
        from_fields(&fields)
    }

    fn max_age(lines: &[&str]) -> Option<Option<u64>> {
        directives(lines).map(|directives| directives.max_age.map(|max_age| max_age.as_secs()))
    }

    #[test]
    fn a_valid_dictionary_is_read() {
        for (lines, expected) in [
            (&["max-age=60"][..], Some(60)),
            (&["max-age=60, x=?0, y=(a b);c, z=1.5, w=:YQ==:"], Some(60)),
            (&["max-age=60;x=y"], Some(60)),
            (&["max-age=0060"], Some(60)),
            (&["max-age=60, max-age=70"], Some(70)),
            (&["max-age=60", "max-age=70"], Some(70)),
            (&["x", "max-age=70"], Some(70)),
            (&["max-age=-60"], Some(0)),
            (&["max-age=60.0"], Some(0)),
            (&["max-age=\"60\""], Some(0)),
            (&["max-age"], Some(0)),
            (&["max-age=(60)"], Some(0)),
            (&["max-age=?0"], None),
            (&["max-age=999999999999999"], Some(1 << 31)),
            (&["no-store"], None),
        ] {
            assert_eq!(max_age(lines), Some(expected), "{lines:?}");
        }
    }

    #[test]
    fn an_invalid_one_is_as_if_absent() {
        for lines in [
            &[][..],
            &[""],
            &[" "],
            &["max-age=60,"],
            &["max-age=60, , x"],
            &["MAX-AGE=60"],
            &["max-age=60;"],
            &["max-age= 60"],
            &["max-age=60 x"],
            &["max-age='60'"],
            &["x=\"unclosed, max-age=60"],
            &["max-age=60, &&"],
            &["max-age=9999999999999999"],
            &["max-age=60", "&&"],
        ] {
            assert_eq!(directives(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn directives_mean_the_same_as_elsewhere() {
        let all = directives(&[
            "s-maxage=5, no-cache=\"a, b\", private, must-revalidate, public, stale-if-error=9, no-store=?0",
        ])
        .unwrap();
        assert_eq!(all.s_maxage, Some(Duration::from_secs(5)));
        assert_eq!(all.no_cache_fields, ["a", "b"]);
        assert!(all.private && all.must_revalidate && all.public && !all.no_store && !all.no_cache);
        assert_eq!(all.stale_if_error, Some(Duration::from_secs(9)));
        assert!(directives(&["no-store=1"]).unwrap().no_store);
        assert!(directives(&["no-store=(a)"]).unwrap().no_store);
        assert!(!directives(&["public=1"]).unwrap().public);
    }

    proptest! {
        #[test]
        fn any_value_is_read_without_panic(line in "[ -~]{0,60}") {
            _ = directives(&[&line]);
        }
    }
}
