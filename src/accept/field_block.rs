//! A `#` in the `:path` of an HTTP/2 request, refused in the field block as it arrives (HPACK, RFC 7541).
//!
//! `http::uri::PathAndQuery` cuts a path at a `#` without an error, inside `h2`, where nothing can see it afterwards: another resource
//! would answer. Here the octet is replaced by one that a path must not contain, and `h2` refuses the request as malformed. Its
//! Huffman code, of twelve bits, differs in the last bit alone from that of the replacement, so that nothing moves and both ends
//! keep the same dynamic table.
//!
//! Field blocks are read byte by byte and nothing of them is kept, except for the lengths of what is in the dynamic table and whether
//! its name is `:path`: a later field may name its entry.

use std::collections::VecDeque;

use super::huffman::Decoding;

const FRAGMENT: u8 = b'#';

/// Not allowed in a path or query; its Huffman code is that of `#` with the last bit set.
const REPLACEMENT: u8 = b'>';

/// The bit of a byte, as its last one, by which the Huffman codes of the two differ.
const DIFFERENCE: u8 = 1;

/// The largest dynamic table, in octets as RFC 7541, section 4.1 counts them: `SETTINGS_HEADER_TABLE_SIZE`, which hyper leaves at
/// its default.
const TABLE_OCTETS: usize = 4096;

/// What an entry counts beyond its name and value.
const ENTRY_OCTETS: usize = 32;

/// The lengths of the names of the static table (RFC 7541, Appendix A).
#[rustfmt::skip]
const STATIC_NAME_OCTETS: [u16; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4,
    8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];

/// The entries of the static table whose name is `:path`.
const STATIC_PATHS: [usize; 2] = [4, 5];

const PATH: &[u8] = b":path";

/// A field block that is not HPACK, or a frame whose parts exceed it. The connection cannot go on: its dynamic table is undefined
/// (RFC 9113, section 4.3).
#[derive(Debug, thiserror::Error)]
#[error("a malformed field block or frame")]
pub(super) struct Malformed;

/// A field's name: how long it is and whether it is `:path`.
#[derive(Clone, Copy, Debug, Default)]
struct FieldName {
    octets: u16,
    is_path: bool,
}

/// What an integer is for.
#[derive(Clone, Copy, Debug)]
enum Integer {
    /// An indexed field: nothing to look at, since its value was looked at when it was entered.
    Field,
    /// The name of a literal field.
    NameOf {
        is_indexed: bool,
    },
    TableSize,
    /// The length of a literal name.
    LengthOfName {
        is_indexed: bool,
        is_huffman: bool,
    },
    LengthOfValue {
        name: FieldName,
        is_indexed: bool,
        is_huffman: bool,
    },
}

/// A string of a literal field, as far as it has arrived.
#[derive(Clone, Copy, Debug)]
struct Text {
    left_bytes: usize,
    decoding: Option<Decoding>,
    /// Octets decoded so far.
    octets: usize,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, Default)]
enum Part {
    /// The first of a field.
    #[default]
    Field,
    /// A further one of an integer.
    Integer {
        of: Integer,
        value: usize,
        shift: u32,
    },
    /// The first of the length of a literal name.
    StartOfName {
        is_indexed: bool,
    },
    /// One of a literal name. `is_path` says whether all octets so far are those of `:path`.
    Name {
        text: Text,
        is_path: bool,
        is_indexed: bool,
    },
    StartOfValue {
        name: FieldName,
        is_indexed: bool,
    },
    Value {
        text: Text,
        name: FieldName,
        is_indexed: bool,
    },
}

/// The field blocks of one connection in one direction.
#[derive(Debug)]
pub(super) struct FieldBlocks {
    part: Part,
    /// The newest first: name, and the octets of the whole entry.
    table: VecDeque<(FieldName, u16)>,
    table_octets: usize,
    table_limit_octets: usize,
}

impl Default for FieldBlocks {
    fn default() -> Self {
        Self { part: Part::Field, table: VecDeque::new(), table_octets: 0, table_limit_octets: TABLE_OCTETS }
    }
}

impl FieldBlocks {
    /// Looks at the next bytes of a field block, and refuses a `#` in a path.
    pub(super) fn received(&mut self, mut bytes: &mut [u8]) -> Result<(), Malformed> {
        loop {
            let taken = match &mut self.part {
                Part::Name { text, is_path, .. } => text.name(bytes, is_path)?,
                Part::Value { text, name, .. } => text.value(bytes, name.is_path)?,
                _ => 0,
            };
            self.end_text();
            bytes = &mut bytes[taken..];
            if taken > 0 {
                continue;
            }
            let Some((first, rest)) = bytes.split_first_mut() else { return Ok(()) };
            self.byte(*first)?;
            bytes = rest;
        }
    }

    /// The block has ended.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        if matches!(self.part, Part::Field) { Ok(()) } else { Err(Malformed) }
    }

    /// Goes on behind a string that has arrived whole.
    fn end_text(&mut self) {
        match self.part {
            Part::Name { text: Text { left_bytes: 0, octets, .. }, is_path, is_indexed } => {
                let name = FieldName { octets: saturated(octets), is_path: is_path && octets == PATH.len() };
                self.part = Part::StartOfValue { name, is_indexed };
            }
            Part::Value { text: Text { left_bytes: 0, octets, .. }, name, is_indexed } => {
                if is_indexed {
                    self.enter(name, octets);
                }
                self.part = Part::Field;
            }
            _ => {}
        }
    }

    /// A byte outside strings.
    fn byte(&mut self, byte: u8) -> Result<(), Malformed> {
        let (of, prefix_bits) = match self.part {
            Part::Field => match byte.leading_zeros() {
                0 => (Integer::Field, 7),
                1 => (Integer::NameOf { is_indexed: true }, 6),
                2 => (Integer::TableSize, 5),
                _ => (Integer::NameOf { is_indexed: false }, 4),
            },
            Part::StartOfName { is_indexed } => {
                (Integer::LengthOfName { is_indexed, is_huffman: byte >= 0x80 }, 7)
            }
            Part::StartOfValue { name, is_indexed } => {
                (Integer::LengthOfValue { name, is_indexed, is_huffman: byte >= 0x80 }, 7)
            }
            Part::Integer { of, value, shift } => {
                let value = value + (usize::from(byte & 0x7f) << shift);
                if byte < 0x80 {
                    return self.integer(of, value);
                }
                // Five bytes at most with the prefix, as for `h2`.
                let shift = shift + 7;
                self.part = Part::Integer { of, value, shift };
                return if shift < 28 { Ok(()) } else { Err(Malformed) };
            }
            Part::Name { .. } | Part::Value { .. } => return Err(Malformed),
        };
        let mask = (1 << prefix_bits) - 1;
        let value = byte & mask;
        if value == mask {
            self.part = Part::Integer { of, value: usize::from(value), shift: 0 };
            return Ok(());
        }
        self.integer(of, usize::from(value))
    }

    fn integer(&mut self, of: Integer, value: usize) -> Result<(), Malformed> {
        let text = |is_huffman: bool| Text {
            left_bytes: value,
            decoding: is_huffman.then(Decoding::default),
            octets: 0,
        };
        self.part = match of {
            Integer::Field => Part::Field,
            Integer::NameOf { is_indexed } if value == 0 => Part::StartOfName { is_indexed },
            Integer::NameOf { is_indexed } => Part::StartOfValue { name: self.name(value)?, is_indexed },
            Integer::TableSize if value <= TABLE_OCTETS => {
                self.table_limit_octets = value;
                self.evict(0);
                Part::Field
            }
            Integer::TableSize => return Err(Malformed),
            Integer::LengthOfName { is_indexed, is_huffman } => {
                Part::Name { text: text(is_huffman), is_path: true, is_indexed }
            }
            Integer::LengthOfValue { name, is_indexed, is_huffman } => {
                Part::Value { text: text(is_huffman), name, is_indexed }
            }
        };
        Ok(())
    }

    /// The name of the entry with that number, from one.
    fn name(&self, index: usize) -> Result<FieldName, Malformed> {
        if let Some(octets) = STATIC_NAME_OCTETS.get(index - 1) {
            return Ok(FieldName { octets: *octets, is_path: STATIC_PATHS.contains(&index) });
        }
        self.table.get(index - 1 - STATIC_NAME_OCTETS.len()).map(|(name, _)| *name).ok_or(Malformed)
    }

    /// Enters a field into the dynamic table. One that is larger than the table only empties it.
    fn enter(&mut self, name: FieldName, value_octets: usize) {
        let octets = usize::from(name.octets) + value_octets + ENTRY_OCTETS;
        self.evict(octets);
        if octets <= self.table_limit_octets {
            self.table.push_front((name, saturated(octets)));
            self.table_octets += octets;
        }
    }

    /// Makes room for that many octets.
    fn evict(&mut self, octets: usize) {
        while self.table_octets + octets > self.table_limit_octets {
            let Some((_, evicted)) = self.table.pop_back() else { return };
            self.table_octets -= usize::from(evicted);
        }
    }
}

/// What is larger is larger than the table, too.
fn saturated(octets: usize) -> u16 {
    u16::try_from(octets).unwrap_or(u16::MAX)
}

impl Text {
    /// Takes those of `bytes` that belong to this string, which is a name. Returns how many they were.
    fn name(&mut self, bytes: &[u8], is_path: &mut bool) -> Result<usize, Malformed> {
        let taken = self.left_bytes.min(bytes.len());
        let mut octets = self.octets;
        let mut compare = |octet| {
            *is_path &= PATH.get(octets) == Some(&octet);
            octets += 1;
        };
        for byte in &bytes[..taken] {
            match &mut self.decoding {
                Some(decoding) => decoding.byte(*byte, |octet, _| compare(octet)).map_err(|_| Malformed)?,
                None => compare(*byte),
            }
        }
        self.octets = octets;
        self.left_bytes -= taken;
        Ok(taken)
    }

    /// Takes those of `bytes` that belong to this string, which is a value, and replaces each `#` if it is a path. Returns how many
    /// they were.
    fn value(&mut self, bytes: &mut [u8], is_path: bool) -> Result<usize, Malformed> {
        let taken = self.left_bytes.min(bytes.len());
        let bytes = &mut bytes[..taken];
        match &mut self.decoding {
            None => {
                self.octets += taken;
                if is_path {
                    bytes
                        .iter_mut()
                        .filter(|octet| **octet == FRAGMENT)
                        .for_each(|octet| *octet = REPLACEMENT);
                }
            }
            Some(decoding) => {
                for byte in bytes {
                    let (mut difference, octets) = (0, &mut self.octets);
                    let decoded = decoding.byte(*byte, |octet, last_bit| {
                        *octets += 1;
                        if is_path && octet == FRAGMENT {
                            difference = DIFFERENCE << last_bit;
                        }
                    });
                    decoded.map_err(|_| Malformed)?;
                    *byte ^= difference;
                }
            }
        }
        self.left_bytes -= taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::huffman::tests::encode;
    use super::*;

    /// A string literal.
    fn string(text: &str, huffman: bool) -> Vec<u8> {
        let bytes = if huffman { encode(text.as_bytes()) } else { text.as_bytes().to_vec() };
        let mut all = integer(bytes.len(), 7, if huffman { 0x80 } else { 0 });
        all.extend(bytes);
        all
    }

    fn integer(value: usize, prefix_bits: u32, pattern: u8) -> Vec<u8> {
        let mask = (1 << prefix_bits) - 1;
        let byte = |value: usize| u8::try_from(value).unwrap();
        if value < mask {
            return vec![pattern | byte(value)];
        }
        let (mut bytes, mut left) = (vec![pattern | byte(mask)], value - mask);
        while left >= 0x80 {
            bytes.push(0x80 | byte(left & 0x7f));
            left >>= 7;
        }
        bytes.push(byte(left));
        bytes
    }

    const INDEXED: (u32, u8) = (6, 0x40);
    const NOT_INDEXED: (u32, u8) = (4, 0);
    const NEVER_INDEXED: (u32, u8) = (4, 0x10);

    /// A literal field whose name is that of an entry.
    fn named(index: usize, (prefix_bits, pattern): (u32, u8), value: &[u8]) -> Vec<u8> {
        [&integer(index, prefix_bits, pattern), value].concat()
    }

    /// A literal field with a literal name.
    fn literal((_, pattern): (u32, u8), name: &[u8], value: &[u8]) -> Vec<u8> {
        [&[pattern], name, value].concat()
    }

    /// What becomes of a block, whatever the pieces that it arrives in.
    fn passed(before: &[Vec<u8>], block: &[u8]) -> Option<Vec<u8>> {
        let in_pieces = |piece_bytes: usize| {
            let mut blocks = FieldBlocks::default();
            for earlier in before {
                blocks.received(&mut earlier.clone()).ok()?;
                blocks.end().ok()?;
            }
            let mut block = block.to_vec();
            for piece in block.chunks_mut(piece_bytes) {
                blocks.received(piece).ok()?;
            }
            blocks.end().ok()?;
            Some(block)
        };
        let whole = in_pieces(usize::MAX);
        for piece_bytes in 1..7 {
            assert_eq!(in_pieces(piece_bytes), whole, "in pieces of {piece_bytes}");
        }
        whole
    }

    #[test]
    fn a_fragment_in_a_path_is_replaced_however_it_is_encoded() {
        for huffman in [false, true] {
            for form in [INDEXED, NOT_INDEXED, NEVER_INDEXED] {
                for text in ["/a#b", "/#", "#", "/a?b#c#d", "/########", "/abcdefgh#", "/0#1", "/~#~"] {
                    let with = |text: &str| {
                        let value = string(text, huffman);
                        [
                            named(4, form, &value),
                            named(5, form, &value),
                            literal(form, &string(":path", !huffman), &value),
                        ]
                        .concat()
                    };
                    assert_eq!(passed(&[], &with(text)).unwrap(), with(&text.replace('#', ">")), "{text}");
                }
            }
        }
    }

    #[test]
    fn all_else_passes_as_it_is() {
        for huffman in [false, true] {
            let value = string("W/\"a#b\"", huffman);
            let path = string("/a%23b?c>d", huffman);
            for block in [
                named(41, INDEXED, &value),
                named(1, NOT_INDEXED, &value),
                literal(NEVER_INDEXED, &string(":pat", huffman), &value),
                literal(NEVER_INDEXED, &string(":paths", huffman), &value),
                literal(INDEXED, &string("x:path", huffman), &value),
                literal(INDEXED, &string("", huffman), &value),
                named(4, INDEXED, &path),
                named(4, NOT_INDEXED, &string("", huffman)),
                [vec![0x82, 0x84, 0x87], integer(4096, 5, 0x20), integer(0, 5, 0x20)].concat(),
            ] {
                assert_eq!(passed(&[], &block).unwrap(), block);
            }
        }
    }

    /// The name of a later field is that of an entry: the newest is number 62.
    #[test]
    fn a_name_from_the_dynamic_table_is_known() {
        for huffman in [false, true] {
            let fragment = string("/a#b", huffman);
            let replaced = string("/a>b", huffman);
            let path = named(4, INDEXED, &string("/", huffman));
            let tag = literal(INDEXED, &string("if-match", huffman), &fragment);
            let entered = [path.clone(), tag.clone(), tag.clone()];
            let is_replaced = |before: &[Vec<u8>], index: usize| {
                let block = named(index, NOT_INDEXED, &fragment);
                let passed = passed(before, &block)?;
                assert!(passed == block || passed == named(index, NOT_INDEXED, &replaced));
                Some(passed != block)
            };
            assert_eq!(is_replaced(&entered, 62), Some(false));
            assert_eq!(is_replaced(&entered, 63), Some(false));
            assert_eq!(is_replaced(&entered, 64), Some(true));
            assert_eq!(is_replaced(&entered, 65), None, "no such entry");
            // What is entered under a name from the table has that name.
            let again = [path.clone(), named(62, INDEXED, &string("/b", huffman)), tag.clone()];
            assert_eq!(is_replaced(&again, 63), Some(true));
            // Each of them counts its octets, decoded, and 32 more: `:path` and `/` are 38, the two tags 44 each.
            for (limit_octets, has_path) in [(126, true), (125, false)] {
                let resized = [&entered[..], &[integer(limit_octets, 5, 0x20)]].concat();
                assert_eq!(is_replaced(&resized, 64).is_some(), has_path, "{limit_octets}");
                assert_eq!(is_replaced(&resized, 63), Some(false));
            }
            let emptied = [path.clone(), named(1, INDEXED, &string(&"x".repeat(4096), huffman))];
            assert_eq!(is_replaced(&emptied, 62), None, "larger than the table");
            let full = [&[path][..], &vec![tag; 92]].concat();
            assert_eq!(is_replaced(&full, 62 + 92), Some(true), "92 * 44 + 38 octets");
            let overfull = [&full[..], &full[1..2]].concat();
            assert_eq!(is_replaced(&overfull, 62 + 93), None);
        }
    }

    #[test]
    fn the_dynamic_table_is_bounded() {
        let mut blocks = FieldBlocks::default();
        for number in 0..10_000 {
            let empty = literal(INDEXED, &string("", false), &string("", false));
            blocks.received(&mut empty.clone()).unwrap();
            assert!(blocks.table.len() <= TABLE_OCTETS / ENTRY_OCTETS, "{number}");
        }
    }

    #[test]
    fn what_is_not_hpack_is_an_error() {
        for block in [
            vec![0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            integer(4097, 5, 0x20),
            named(62, NOT_INDEXED, &string("x", false)),
            vec![0x04, 0x85, 0xff, 0xff, 0xff, 0xff, 0xff],
            vec![0x04, 0x05, b'/'],
            vec![0x00],
        ] {
            assert_eq!(passed(&[], &block), None, "{block:x?}");
        }
    }
}
