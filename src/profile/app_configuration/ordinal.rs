//! The order of keys and labels in the service's lists: ordinal by UTF-16 unit.
//!
//! It differs from the order of `str` only for characters beyond U+FFFF: in UTF-16 they begin with a surrogate (U+D800 to U+DFFF),
//! and so precede U+E000 to U+FFFF.

use std::cmp::Ordering;

/// A text that is ordered as the service orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordinal<'a>(pub &'a str);

impl Ord for Ordinal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let pairs = self.0.bytes().zip(other.0.bytes());
        // What precedes the first difference is the same, so both bytes begin a character, or both continue one.
        match pairs.into_iter().find(|(one, two)| one != two) {
            Some((one, two)) => rank(one).cmp(&rank(two)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for Ordinal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The place of a byte of UTF-8 in the order. `EE` and `EF` begin the characters from U+E000 (and, harmless to the order, U+F000) on;
/// `F0` to `F4` begin those beyond U+FFFF.
const fn rank(byte: u8) -> u8 {
    if byte == 0xEE || byte == 0xEF { byte + 0x10 } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_beyond_the_basic_plane_precede_the_private_use_area() {
        assert!(Ordinal("\u{1F600}") < Ordinal("\u{E000}"), "D83D precedes E000");
        assert!(Ordinal("\u{1F600}") < Ordinal("\u{FFFD}") && "\u{1F600}" > "\u{FFFD}");
        assert!(Ordinal("\u{D7FF}") < Ordinal("\u{1F600}"));
    }

    proptest! {
        #[test]
        fn it_is_the_order_of_utf_16_units(
            one in "[a-c\u{D7FF}\u{E000}\u{FFFD}\u{10000}\u{10FFFF}é]{0,4}",
            two in "[a-c\u{D7FF}\u{E000}\u{FFFD}\u{10000}\u{10FFFF}é]{0,4}",
        ) {
            prop_assert_eq!(Ordinal(&one).cmp(&Ordinal(&two)), one.encode_utf16().cmp(two.encode_utf16()));
        }
    }
}
