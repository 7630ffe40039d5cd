//! The Huffman code of HPACK (RFC 7541, Appendix B), decoded four bits at a time.

/// Code lengths in bits of the 256 octets and of the end of the string. The code is canonical: codes of one length are in the order
/// of their octets, so that the lengths determine all codes.
#[rustfmt::skip]
const CODE_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const LONGEST_CODE_BITS: u8 = 30;

/// The code of the end of a string, which must not occur in one.
const END_OF_STRING: usize = 256;

/// A node of the code's tree, and what is below it for 0 and for 1: another node, or a symbol as `LEAF + symbol`.
type Node = [u16; 2];

/// More than there are nodes.
const LEAF: u16 = 512;

/// A tree of 257 leaves.
const NODES: usize = 256;

const TREE: [Node; NODES] = tree();

const fn tree() -> [Node; NODES] {
    let mut nodes = [[0; 2]; NODES];
    // Node 0 is the root: below a node, zero says that nothing is there yet.
    let mut used = 1;
    let mut code: u32 = 0;
    let mut bits: u8 = 1;
    while bits <= LONGEST_CODE_BITS {
        let mut symbol: u16 = 0;
        while symbol as usize <= END_OF_STRING {
            if CODE_BITS[symbol as usize] == bits {
                let mut node = 0;
                let mut left = bits;
                while left > 1 {
                    left -= 1;
                    let side = ((code >> left) & 1) as usize;
                    if nodes[node][side] == 0 {
                        nodes[node][side] = used;
                        used += 1;
                    }
                    node = nodes[node][side] as usize;
                }
                nodes[node][(code & 1) as usize] = LEAF + symbol;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        bits += 1;
    }
    assert!(used as usize == NODES);
    nodes
}

/// What four bits lead to.
#[derive(Clone, Copy)]
struct FourBits {
    node: u8,
    symbol: u8,
    /// How many of the four bits belong to the symbol that ends in them. No code is shorter than five bits, so that one symbol
    /// ends at most.
    bits_of_symbol: u8,
    is_end_of_string: bool,
}

static STEPS: [[FourBits; 16]; NODES] = steps();

#[expect(clippy::cast_possible_truncation, reason = "nodes and octets are below 256, bits below five")]
const fn steps() -> [[FourBits; 16]; NODES] {
    let none = FourBits { node: 0, symbol: 0, bits_of_symbol: 0, is_end_of_string: false };
    let mut steps = [[none; 16]; NODES];
    let mut from = 0;
    while from < NODES {
        let mut four_bits = 0;
        while four_bits < 16 {
            let mut step = none;
            let mut node = from;
            let mut taken = 0;
            while taken < 4 {
                let below = TREE[node][(four_bits >> (3 - taken)) & 1];
                taken += 1;
                if below < LEAF {
                    node = below as usize;
                } else {
                    let symbol = (below - LEAF) as usize;
                    step.bits_of_symbol = taken as u8;
                    step.symbol = (symbol % END_OF_STRING) as u8;
                    step.is_end_of_string = symbol == END_OF_STRING;
                    node = 0;
                }
            }
            step.node = node as u8;
            steps[from][four_bits] = step;
            four_bits += 1;
        }
        from += 1;
    }
    steps
}

/// A string that is being decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decoding {
    node: u8,
}

/// The string contains the end of a string, which is a decoding error (RFC 7541, section 5.2).
#[derive(Debug)]
pub(super) struct EndInside;

impl Decoding {
    /// Decodes the next byte of the string. `decoded` gets each octet that ends in it, with the number of the bit in `byte` that is
    /// the last of its code (0 is the lowest).
    pub(super) fn byte(&mut self, byte: u8, mut decoded: impl FnMut(u8, u8)) -> Result<(), EndInside> {
        for (four_bits, lowest_bit) in [(byte >> 4, 4), (byte & 0xf, 0)] {
            let step = STEPS[usize::from(self.node)][usize::from(four_bits)];
            self.node = step.node;
            if step.bits_of_symbol > 0 {
                if step.is_end_of_string {
                    return Err(EndInside);
                }
                decoded(step.symbol, lowest_bit + 4 - step.bits_of_symbol);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The codes, each as its bits.
    fn codes() -> Vec<String> {
        let mut symbols: Vec<usize> = (0..CODE_BITS.len()).collect();
        symbols.sort_by_key(|symbol| CODE_BITS[*symbol]);
        let (mut codes, mut next) = (vec![String::new(); CODE_BITS.len()], 0u64);
        for symbol in symbols {
            let bits = u32::from(CODE_BITS[symbol]);
            // `next` counts in units of the longest code.
            let code = next >> (u32::from(LONGEST_CODE_BITS) - bits);
            codes[symbol] = format!("{code:0width$b}", width = bits as usize);
            next += 1 << (u32::from(LONGEST_CODE_BITS) - bits);
        }
        assert_eq!(next, 1 << LONGEST_CODE_BITS, "the code is complete");
        codes
    }

    /// Encodes a string, padded with ones.
    pub(in crate::accept) fn encode(text: &[u8]) -> Vec<u8> {
        let codes = codes();
        let mut bits: String = text.iter().map(|octet| codes[usize::from(*octet)].as_str()).collect();
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    fn decode(encoded: &[u8]) -> Result<Vec<u8>, EndInside> {
        let (mut decoding, mut text) = (Decoding::default(), Vec::new());
        for byte in encoded {
            decoding.byte(*byte, |octet, _| text.push(octet))?;
        }
        Ok(text)
    }

    #[test]
    fn the_examples_of_rfc_7541_are_decoded() {
        let hex = |text: &str| -> Vec<u8> {
            text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
        };
        for (encoded, text) in [
            ("f1 e3 c2 e5 f2 3a 6b a0 ab 90 f4 ff", "www.example.com"),
            ("a8 eb 10 64 9c bf", "no-cache"),
            ("25 a8 49 e9 5b a9 7d 7f", "custom-key"),
            (
                "d0 7a be 94 10 54 d4 44 a8 20 05 95 04 0b 81 66 e0 82 a6 2d 1b ff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            ("9d 29 ad 17 18 63 c7 8f 0b 97 c8 e9 ae 82 ae 43 d3", "https://www.example.com"),
        ] {
            assert_eq!(decode(&hex(encoded)).unwrap(), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), hex(encoded));
        }
    }

    #[test]
    fn every_octet_is_decoded_after_every_other() {
        for first in 0..=255 {
            for second in 0..=255 {
                assert_eq!(decode(&encode(&[first, second])).unwrap(), [first, second]);
            }
        }
    }

    #[test]
    fn the_end_of_a_string_inside_one_is_an_error() {
        assert!(decode(&[0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decode(&[0xff, 0xff, 0xff]).is_ok());
    }
}
