//! `Age` (RFC 9111 §5.1): how old a response was when the cache before this one sent it.

use std::time::Duration;

use http::HeaderMap;
use http::header::AGE;

use super::cache_control::parse_delta_seconds;
use super::list;

/// Reads `Age`: the first member of the first field line. A value that is not all digits is ignored (`None`). Too great
/// a number counts as the greatest one, which makes the response old (RFC 9111 §1.2.2).
pub fn parse(fields: &HeaderMap) -> Option<Duration> {
    let line = fields.get(AGE)?;
    parse_delta_seconds(list::members(line.as_bytes()).next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_member_of_the_first_line_counts() {
        for (lines, expected) in [
            (&[][..], None),
            (&["0"], Some(0)),
            (&["7200"], Some(7_200)),
            (&["007"], Some(7)),
            (&[" 7 "], Some(7)),
            (&["7200, 0"], Some(7_200)),
            (&["0, 7200"], Some(0)),
            (&["7200", "0"], Some(7_200)),
            (&["x", "7200"], None),
            (&["x, 7200"], None),
            (&["-7200"], None),
            (&["+7200"], None),
            (&["7200.0"], None),
            (&["7200s"], None),
            (&["7200;x=y"], None),
            (&["\"7200\""], None),
            (&[""], None),
            (&["2147483648"], Some(1 << 31)),
            (&["2147483649"], Some(1 << 31)),
            (&["99999999999999999999999999"], Some(1 << 31)),
        ] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(AGE, line.parse().unwrap());
            }
            assert_eq!(parse(&fields), expected.map(Duration::from_secs), "{lines:?}");
        }
    }
}
