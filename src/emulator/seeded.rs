//! Every random value of the emulator depends on one seed and a position, not on the order of calls, so that a test
//! with a seed gets the same values with any interleaving of threads.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// Draws numbers that depend on a seed and a position.
#[derive(Debug, Clone, Copy)]
pub struct Seeded(u64);

impl Seeded {
    /// The draws of one seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits for a position in a sequence of draws.
    pub const fn bits(self, sequence: u64, position: u64) -> u64 {
        mix(mix(mix(self.0) ^ sequence) ^ position)
    }

    /// A number from 0 to 1, for a change and a replica.
    pub fn fraction(self, sequence_number: u64, replica: usize) -> f64 {
        let bits = self.bits(sequence_number, 0x7265_706c_6963_6100 ^ replica as u64);
        // 32 bits are exact in an f64.
        f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
    }

    /// The entity tag of the state that a change made: 22 characters of base64url, as the vendor's emulator makes them.
    pub fn etag(self, sequence_number: u64) -> String {
        let (high, low) = (self.bits(sequence_number, 0xe7a6), self.bits(sequence_number, 0xe7a7));
        URL_SAFE_NO_PAD.encode((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

/// Gives each of several concurrent requests the next draw.
#[derive(Debug)]
pub struct Sequence {
    seeded: Seeded,
    next: AtomicU64,
}

impl Sequence {
    /// The draws of one seed, from its first.
    pub const fn new(seeded: Seeded) -> Self {
        Self { seeded, next: AtomicU64::new(0) }
    }

    /// The next 128 bits.
    pub fn next_bits(&self) -> (u64, u64) {
        let position = self.next.fetch_add(1, Ordering::Relaxed);
        (self.seeded.bits(position, 0x1d_01), self.seeded.bits(position, 0x1d_02))
    }
}

/// 128 bits in the form of a random UUID (RFC 9562 §5.4).
pub fn uuid(bits: (u64, u64)) -> String {
    let bytes = Uuid::from_u64_pair(bits.0, bits.1).into_bytes();
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// The finaliser of SplitMix64: every bit of the input changes every bit of the output.
const fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_the_form_of_rfc_9562() {
        assert_eq!(uuid((u64::MAX, u64::MAX)), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid((0, 0)), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn tags_are_22_characters_and_differ_by_change_and_seed() {
        let tags: std::collections::HashSet<String> =
            (0..500).flat_map(|number| [Seeded::new(1).etag(number), Seeded::new(2).etag(number)]).collect();
        assert_eq!(tags.len(), 1_000);
        assert!(tags.iter().all(|tag| tag.len() == 22));
    }

    #[test]
    fn a_sequence_never_repeats_and_follows_its_seed() {
        let (one, other) = (Sequence::new(Seeded::new(3)), Sequence::new(Seeded::new(3)));
        let first = one.next_bits();
        assert_eq!(first, other.next_bits());
        assert_ne!(first, one.next_bits());
    }
}
