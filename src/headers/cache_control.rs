//! `Cache-Control` and `Pragma` (RFC 9111 §5.2, §5.4): directives of requests and of responses, parsed once.
//!
//! A directive that restricts reuse counts even if its argument is malformed. A directive that permits reuse counts
//! only if it is well-formed: a malformed argument never lengthens a lifetime (RFC 9111 §4.2.1 "encouraged to consider
//! responses that have invalid freshness information to be stale"). Arguments in quotes are opaque: `x="max-age=1"` is
//! one unknown directive.

use std::time::Duration;

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName};

use super::list;

/// The greatest number of seconds: 2³¹, about 68 years (RFC 9111 §1.2.2). Greater values count as this one, so sums
/// cannot overflow. A response with such an `Age` is stale under such a lifetime.
pub const GREATEST_DELTA_SECONDS: u64 = 1 << 31;

/// Reads `delta-seconds` (RFC 9111 §1.2.2): digits only, leading zeros allowed, saturating at [`GREATEST_DELTA_SECONDS`].
pub fn parse_delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0_u64, |sum, digit| {
        (sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))).min(GREATEST_DELTA_SECONDS)
    });
    Some(Duration::from_secs(seconds))
}

/// What a caller demands of a stored response (RFC 9111 §5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-cache`, or `Pragma: no-cache`: no stored response without validation.
    pub no_cache: bool,
    /// `no-store`: neither store this exchange nor answer it from the store.
    pub no_store: bool,
    /// `only-if-cached`: a stored response or 504.
    pub only_if_cached: bool,
    /// `max-age`: the greatest age of a stored response.
    pub max_age: Option<Duration>,
    /// `min-fresh`: how long the response must still be fresh.
    pub min_fresh: Option<Duration>,
    /// `max-stale`: the accepted staleness; [`Duration::MAX`] if the caller named no limit.
    pub max_stale: Option<Duration>,
}

impl RequestDirectives {
    /// Reads the request's `Cache-Control`, or `Pragma` if there is no `Cache-Control` (RFC 9111 §5.4).
    pub fn from_fields(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if !fields.contains_key(CACHE_CONTROL) {
            let pragma = fields.get_all(PRAGMA).iter().flat_map(|line| members(line.as_bytes()));
            directives.no_cache = { pragma }.any(|member| member.name.eq_ignore_ascii_case(b"no-cache"));
            return directives;
        }
        for line in fields.get_all(CACHE_CONTROL) {
            for member in members(line.as_bytes()) {
                directives.apply(&member);
            }
        }
        directives
    }

    fn apply(&mut self, member: &Member<'_>) {
        match member.lowercase_name(&mut [0; LONGEST_NAME_BYTES]) {
            b"no-cache" => self.no_cache = true,
            b"no-store" => self.no_store = true,
            b"only-if-cached" => self.only_if_cached = true,
            // A malformed demand counts as the strictest one. The first of several counts (RFC 9111 §4.2.1).
            b"max-age" => _ = self.max_age.get_or_insert(member.seconds().unwrap_or_default()),
            b"min-fresh" => _ = self.min_fresh.get_or_insert(member.seconds().unwrap_or(Duration::MAX)),
            b"max-stale" => {
                let limit = match member.argument {
                    Argument::Absent => Duration::MAX,
                    _ => member.seconds().unwrap_or_default(),
                };
                self.max_stale.get_or_insert(limit);
            }
            _ => {}
        }
    }
}

/// What an origin allows and forbids (RFC 9111 §5.2.2, RFC 5861), for a shared cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `max-age`; zero if it is malformed.
    pub max_age: Option<Duration>,
    /// `s-maxage`; zero if it is malformed.
    pub s_maxage: Option<Duration>,
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache` without field names: validate on each use.
    pub no_cache: bool,
    /// The fields that `no-cache="…"` names: they need validation before reuse.
    pub no_cache_fields: Vec<HeaderName>,
    /// `private` without field names: not for a shared cache.
    pub private: bool,
    /// The fields that `private="…"` names: not for a shared cache.
    pub private_fields: Vec<HeaderName>,
    /// `public`: storable and reusable even where the request forbids it (RFC 9111 §5.2.2.9).
    pub public: bool,
    /// `must-revalidate`: never stale without validation.
    pub must_revalidate: bool,
    /// `proxy-revalidate`: the same for shared caches.
    pub proxy_revalidate: bool,
    /// `must-understand`: a cache that implements the status ignores `no-store` (RFC 9111 §5.2.2.3).
    pub must_understand: bool,
    /// `stale-while-revalidate` (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
}

impl ResponseDirectives {
    /// Reads the response's `Cache-Control`. All field lines count as one list.
    pub fn from_fields(fields: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in fields.get_all(CACHE_CONTROL) {
            for member in members(line.as_bytes()) {
                directives.apply(&member);
            }
        }
        directives
    }

    /// Whether the response may never be served stale to callers of a shared cache (RFC 9111 §4.2.4).
    pub const fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.no_cache || self.s_maxage.is_some()
    }

    /// Applies one directive. [`targeted_cache_control`](super::targeted_cache_control) uses it too: its directives
    /// mean the same in another syntax.
    pub(crate) fn apply(&mut self, member: &Member<'_>) {
        match member.lowercase_name(&mut [0; LONGEST_NAME_BYTES]) {
            b"no-store" => self.no_store = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"no-cache" => match member.field_names() {
                Some(names) => self.no_cache_fields.extend(names),
                None => self.no_cache = true,
            },
            b"private" => match member.field_names() {
                Some(names) => self.private_fields.extend(names),
                None => self.private = true,
            },
            // RFC 9111 §4.2.1: of several values the first counts.
            b"max-age" => _ = self.max_age.get_or_insert(member.seconds().unwrap_or_default()),
            b"s-maxage" => _ = self.s_maxage.get_or_insert(member.seconds().unwrap_or_default()),
            b"public" => self.public |= member.is_plain(),
            b"must-understand" => self.must_understand |= member.is_plain(),
            b"stale-while-revalidate" => {
                self.stale_while_revalidate.get_or_insert(member.seconds().unwrap_or_default());
            }
            b"stale-if-error" => _ = self.stale_if_error.get_or_insert(member.seconds().unwrap_or_default()),
            _ => {}
        }
    }
}

/// One directive of a list.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) argument: Argument<'a>,
}

/// The argument of a directive.
#[derive(Debug)]
pub(crate) enum Argument<'a> {
    /// No argument.
    Absent,
    /// `=` and a token.
    Token(&'a [u8]),
    /// `=` and a quoted string, without its quotes.
    Quoted(&'a [u8]),
    /// Text that the grammar does not allow.
    Malformed,
}

/// The length of the longest known name: `stale-while-revalidate`.
const LONGEST_NAME_BYTES: usize = 22;

impl Member<'_> {
    /// The name in lower case; empty if it is longer than any known one. It does not allocate, because requests with
    /// directives are on the hot path.
    fn lowercase_name<'b>(&self, buffer: &'b mut [u8; LONGEST_NAME_BYTES]) -> &'b [u8] {
        let Some(lowercase) = buffer.get_mut(..self.name.len()) else { return &[] };
        lowercase.copy_from_slice(self.name);
        lowercase.make_ascii_lowercase();
        lowercase
    }

    fn is_plain(&self) -> bool {
        matches!(self.argument, Argument::Absent)
    }

    fn seconds(&self) -> Option<Duration> {
        match self.argument {
            Argument::Token(text) | Argument::Quoted(text) => parse_delta_seconds(text),
            Argument::Absent | Argument::Malformed => None,
        }
    }

    /// The field names of `private="…"` and `no-cache="…"`. `None` if there are none or one is malformed: then the
    /// directive applies to the whole response.
    fn field_names(&self) -> Option<Vec<HeaderName>> {
        let (Argument::Token(text) | Argument::Quoted(text)) = self.argument else { return None };
        let names = text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
        let names: Vec<_> = names.map(HeaderName::from_bytes).collect::<Result<_, _>>().ok()?;
        (!names.is_empty()).then_some(names)
    }
}

/// The directives of one field line. A member that does not start with a token is ignored.
fn members(line: &[u8]) -> impl Iterator<Item = Member<'_>> {
    list::members(line).filter_map(parse_member)
}

fn parse_member(text: &[u8]) -> Option<Member<'_>> {
    let name_length = text.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(text.len());
    let (name, after) = text.split_at(name_length);
    if name.is_empty() {
        return None;
    }
    let argument = match after.split_first() {
        None => Argument::Absent,
        Some((b'=', value)) if value.first() == Some(&b'"') => match list::quoted_string_length(value) {
            Some(length) if length == value.len() => Argument::Quoted(&value[1..length - 1]),
            _ => Argument::Malformed,
        },
        Some((b'=', value)) if !value.is_empty() && value.iter().all(|byte| is_token_byte(*byte)) => {
            Argument::Token(value)
        }
        Some(_) => Argument::Malformed,
    };
    Some(Member { name, argument })
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(lines: &[&str]) -> ResponseDirectives {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CACHE_CONTROL, line.parse().unwrap());
        }
        ResponseDirectives::from_fields(&fields)
    }

    fn request(fields: &[(&'static str, &str)]) -> RequestDirectives {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        RequestDirectives::from_fields(&map)
    }

    const fn seconds(count: u64) -> Option<Duration> {
        Some(Duration::from_secs(count))
    }

    #[test]
    fn lifetimes_are_read_generously_and_saturate() {
        for (line, max_age, s_maxage) in [
            ("max-age=60", seconds(60), None),
            ("MAX-AGE=60", seconds(60), None),
            ("mAx-AgE=0060", seconds(60), None),
            ("max-age=\"60\"", seconds(60), None),
            ("max-age='60'", seconds(0), None),
            ("max-age=0", seconds(0), None),
            ("max-age=-1", seconds(0), None),
            ("max-age=+60", seconds(0), None),
            ("max-age=60.5", seconds(0), None),
            ("max-age=60s", seconds(0), None),
            ("max-age=", seconds(0), None),
            ("max-age", seconds(0), None),
            ("max-age=\"\"", seconds(0), None),
            ("max-age =60", seconds(0), None),
            ("max-age= 60", seconds(0), None),
            ("max-age=60 s", seconds(0), None),
            ("max-age=60;x", seconds(0), None),
            ("max-age=60, max-age=90", seconds(60), None),
            ("max-age=2147483648", seconds(1 << 31), None),
            ("max-age=2147483649", seconds(1 << 31), None),
            ("max-age=99999999999999999999999999999999", seconds(1 << 31), None),
            ("max-age=18446744073709551616", seconds(1 << 31), None),
            ("max-age=60, s-maxage=5", seconds(60), seconds(5)),
            ("s-maxage=5,max-age=60", seconds(60), seconds(5)),
            (" , ,max-age=60 ,, ", seconds(60), None),
            ("\tmax-age=60\t", seconds(60), None),
            ("unknown, max-age=60, other=1", seconds(60), None),
            ("x=\"max-age=1\"", None, None),
            ("x=\"max-age=1\", max-age=60", seconds(60), None),
            ("x=\"a, max-age=1, b\", max-age=60", seconds(60), None),
            ("x=\"a\\\", max-age=1\", max-age=60", seconds(60), None),
            ("x='a, max-age=60, b'", seconds(60), None),
            ("xmax-age=60", None, None),
            ("max-age-x=60", None, None),
            ("x max-age=60", None, None),
            ("=60", None, None),
            ("\"max-age=60\"", None, None),
            ("", None, None),
        ] {
            let directives = response(&[line]);
            assert_eq!((directives.max_age, directives.s_maxage), (max_age, s_maxage), "{line}");
        }
    }

    #[test]
    fn field_lines_make_one_list() {
        let directives = response(&["max-age=60", "public", "s-maxage=5, no-cache=\"a\"", "no-cache=b"]);
        assert_eq!(directives.s_maxage, seconds(5));
        assert!(directives.public);
        assert_eq!(directives.no_cache_fields, ["a", "b"]);
        assert!(!directives.no_cache);
        assert_eq!(response(&["max-age=7", "max-age=60"]).max_age, seconds(7));
    }

    #[test]
    fn what_forbids_is_understood_however_it_is_written() {
        for line in [
            "no-store",
            "No-Store",
            "no-store=x",
            "no-store=\"\"",
            "no-store;x",
            "max-age=60, no-store",
            "x=\"unclosed, no-store",
            "no-store x",
            "\"closed\", no-store",
        ] {
            assert!(response(&[line]).no_store, "{line}");
        }
        for line in ["x=\"no-store\"", "no-stored", "xno-store", "x=no-store", "x=\"a\\\", no-store\""] {
            assert!(!response(&[line]).no_store, "{line}");
        }
    }

    #[test]
    fn what_permits_is_understood_strictly() {
        assert!(response(&["public"]).public);
        for line in ["public=1", "public=\"\"", "public x", "x=\"public\""] {
            assert!(!response(&[line]).public, "{line}");
        }
        assert!(response(&["must-understand, no-store"]).must_understand);
        assert!(!response(&["must-understand=0"]).must_understand);
        assert_eq!(response(&["stale-while-revalidate=-5"]).stale_while_revalidate, seconds(0));
        assert_eq!(response(&["stale-if-error"]).stale_if_error, seconds(0));
        assert_eq!(response(&["stale-if-error=\"9\""]).stale_if_error, seconds(9));
    }

    #[test]
    fn field_names_narrow_a_directive_only_when_all_can_be_read() {
        for (line, private, names) in [
            ("private", true, &[][..]),
            ("private=\"set-cookie\"", false, &["set-cookie"]),
            ("private=\"Set-Cookie , X-User\"", false, &["set-cookie", "x-user"]),
            ("private=Set-Cookie", false, &["set-cookie"]),
            ("private=\"\"", true, &[]),
            ("private=\" , \"", true, &[]),
            ("private=\"a b\"", true, &[]),
            ("private=\"a", true, &[]),
            ("private=\"a\", private", true, &["a"]),
        ] {
            let directives = response(&[line]);
            assert_eq!(directives.private, private, "{line}");
            assert_eq!(directives.private_fields, names, "{line}");
        }
    }

    #[test]
    fn kin_of_must_revalidate_forbid_stale() {
        for line in ["must-revalidate", "proxy-revalidate", "s-maxage=9", "no-cache"] {
            assert!(response(&[line]).forbids_stale(), "{line}");
        }
        for line in ["max-age=9", "no-cache=\"x\"", "public", "immutable"] {
            assert!(!response(&[line]).forbids_stale(), "{line}");
        }
    }

    #[test]
    fn request_directives_are_read() {
        let default = RequestDirectives::default();
        for (line, expected) in [
            ("no-cache", RequestDirectives { no_cache: true, ..default }),
            ("NO-CACHE=x", RequestDirectives { no_cache: true, ..default }),
            ("no-store", RequestDirectives { no_store: true, ..default }),
            ("only-if-cached", RequestDirectives { only_if_cached: true, ..default }),
            ("max-age=0", RequestDirectives { max_age: seconds(0), ..default }),
            ("max-age=5", RequestDirectives { max_age: seconds(5), ..default }),
            ("max-age=\"5\"", RequestDirectives { max_age: seconds(5), ..default }),
            ("max-age=x", RequestDirectives { max_age: seconds(0), ..default }),
            ("min-fresh=5", RequestDirectives { min_fresh: seconds(5), ..default }),
            ("min-fresh=x", RequestDirectives { min_fresh: Some(Duration::MAX), ..default }),
            ("max-stale", RequestDirectives { max_stale: Some(Duration::MAX), ..default }),
            ("max-stale=9", RequestDirectives { max_stale: seconds(9), ..default }),
            ("max-stale=x", RequestDirectives { max_stale: seconds(0), ..default }),
            ("no-transform, x=\"no-store\"", default),
        ] {
            assert_eq!(request(&[("cache-control", line)]), expected, "{line}");
        }
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        assert!(request(&[("pragma", "no-cache")]).no_cache);
        assert!(request(&[("pragma", "x, No-Cache")]).no_cache);
        assert!(!request(&[("pragma", "x")]).no_cache);
        assert!(!request(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]).no_cache);
        assert!(!request(&[("pragma", "no-cache"), ("cache-control", "")]).no_cache);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
            for member in members(&line) {
                prop_assert!(!member.name.is_empty());
                _ = member.seconds();
                _ = member.field_names();
            }
        }

        #[test]
        fn delta_seconds_saturate(digits in "[0-9]{1,60}") {
            let expected = digits.parse::<u64>().unwrap_or(u64::MAX).min(GREATEST_DELTA_SECONDS);
            let expected = if digits.trim_start_matches('0').len() > 19 { GREATEST_DELTA_SECONDS } else { expected };
            prop_assert_eq!(parse_delta_seconds(digits.as_bytes()), Some(Duration::from_secs(expected)));
        }

        #[test]
        fn a_quoted_argument_is_opaque(argument in "[a-z=, \\t0-9-]{0,40}") {
            let directives = response(&[&format!("x=\"{argument}\", max-age=60")]);
            prop_assert_eq!(directives, ResponseDirectives { max_age: seconds(60), ..Default::default() });
        }

        #[test]
        fn no_store_is_found_wherever_it_stands(before in "[a-z]{1,8}(=[0-9]{1,3})?", after in "[a-z]{1,8}") {
            let line = format!("{before} ,no-store,\t{after}");
            prop_assert!(response(&[&line]).no_store);
        }
    }
}
