//! The format of the journal: a heading, then frames. Each frame has the changes of one group commit.
//!
//! ```text
//! file    = "tagalong emulator journal 1" LF *frame
//! frame   = "\xF5TJ1" length checksum payload
//! length  = 4 bytes, big-endian: bytes of the payload
//! checksum = the first 16 bytes of SHA-256 over length and payload
//! payload = JSON documents, each followed by LF
//! ```
//!
//! A frame is written and synchronised before the next one begins, so only the last frame can be incomplete. A bad
//! frame before a good one was damaged later, and its changes may have been acknowledged. Such a file is refused.

use sha2::{Digest, Sha256};

/// The first bytes of every journal.
pub const HEADING: &[u8] = b"tagalong emulator journal 1\n";

/// The first bytes of a frame. The first one never occurs in UTF-8, so no payload contains it.
const MARK: [u8; 4] = *b"\xF5TJ1";
const CHECKSUM_BYTES: usize = 16;
const FRAME_HEAD_BYTES: usize = MARK.len() + 4 + CHECKSUM_BYTES;

/// Why the bytes of a journal are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file is not a journal.
    #[error("it is not a journal of this emulator; name another file")]
    NoJournal,
    /// A frame before the last one is bad.
    #[error(
        "the record at byte {offset} is damaged ({reason}), and sound ones follow it; restore the file from a copy, or \
         cut it off at that byte to go on with what was written before"
    )]
    Frame {
        /// The byte at which the frame begins.
        offset: usize,
        /// The damage.
        reason: &'static str,
    },
}

/// The content of a journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Frames<'a> {
    /// The payloads of the sound frames, each with the byte at which its frame begins.
    pub payloads: Vec<(usize, &'a [u8])>,
    /// The length of the sound part of the file. The rest is a frame that was being written when the process ended.
    pub sound_bytes: usize,
}

/// Makes a frame of a payload.
///
/// # Panics
/// Never: a payload is far below 4 GiB, since a request body is limited to 10 KiB and a group to what is waiting.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    frame.extend_from_slice(&MARK);
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&checksum(length, payload));
    frame.extend_from_slice(payload);
    frame
}

/// Parses a journal.
///
/// # Errors
/// [`Damage`] if the content is not a journal, or has a bad frame that is not the last.
pub fn read(journal: &[u8]) -> Result<Frames<'_>, Damage> {
    if !journal.starts_with(HEADING) {
        // A process that ended while it created the file leaves an incomplete heading.
        return if HEADING.starts_with(journal) {
            Ok(Frames { payloads: Vec::new(), sound_bytes: 0 })
        } else {
            Err(Damage::NoJournal)
        };
    }
    let mut payloads = Vec::new();
    let mut offset = HEADING.len();
    while offset < journal.len() {
        match payload_at(journal, offset) {
            Ok(payload) => {
                payloads.push((offset, payload));
                offset += FRAME_HEAD_BYTES + payload.len();
            }
            Err(reason) => {
                if sound_frame_after(journal, offset) {
                    return Err(Damage::Frame { offset, reason });
                }
                break;
            }
        }
    }
    Ok(Frames { payloads, sound_bytes: offset })
}

fn payload_at(journal: &[u8], offset: usize) -> Result<&[u8], &'static str> {
    let rest = journal.get(offset..).unwrap_or_default();
    let (head, rest) = rest.split_at_checked(FRAME_HEAD_BYTES).ok_or("it is cut short")?;
    let (mark, head) = head.split_at(MARK.len());
    if mark != MARK {
        return Err("it has no mark");
    }
    let (length, expected) = head.split_first_chunk::<4>().ok_or("it is cut short")?;
    let payload_bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let payload = rest.get(..payload_bytes).ok_or("its length goes beyond the end of the file")?;
    if checksum(*length, payload) != expected {
        return Err("its checksum is wrong");
    }
    Ok(payload)
}

fn sound_frame_after(journal: &[u8], bad: usize) -> bool {
    let mut from = bad + 1;
    while let Some(found) =
        journal.get(from..).and_then(|rest| rest.windows(MARK.len()).position(|window| window == MARK))
    {
        if payload_at(journal, from + found).is_ok() {
            return true;
        }
        from += found + 1;
    }
    false
}

fn checksum(length: [u8; 4], payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(length).chain_update(payload).finalize();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    checksum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn journal(payloads: &[&[u8]]) -> Vec<u8> {
        let mut journal = HEADING.to_vec();
        payloads.iter().for_each(|payload| journal.extend(frame(payload)));
        journal
    }

    fn payloads(journal: &[u8]) -> Vec<&[u8]> {
        read(journal).unwrap().payloads.into_iter().map(|(_, payload)| payload).collect()
    }

    #[test]
    fn written_frames_are_read_back() {
        let written: [&[u8]; 3] = [b"{\"a\":1}\n", b"", b"{\"b\":2}\n{\"c\":3}\n"];
        let journal = journal(&written);
        assert_eq!(payloads(&journal), written);
        assert_eq!(read(&journal).unwrap().sound_bytes, journal.len());
    }

    #[test]
    fn a_journal_torn_at_any_byte_keeps_every_whole_frame() {
        let journal = journal(&[b"first", b"second", b"third"]);
        let ends: Vec<usize> =
            [&[][..], &[b"first".as_slice()], &[b"first", b"second"], &[b"first", b"second", b"third"]]
                .iter()
                .map(|payloads| self::journal(payloads).len())
                .collect();
        for length in 0..=journal.len() {
            let frames = read(&journal[..length]).unwrap();
            let whole = ends.iter().skip(1).filter(|&&end| end <= length).count();
            assert_eq!(frames.payloads.len(), whole, "cut at {length}");
            let sound = if length < HEADING.len() { 0 } else { ends[whole] };
            assert_eq!(frames.sound_bytes, sound, "cut at {length}");
        }
    }

    #[test]
    fn a_tail_of_zeros_or_garbage_is_a_torn_frame() {
        for tail in [&[0; 4096][..], b"garbage", &frame(b"last")[..20]] {
            let mut journal = journal(&[b"first"]);
            let sound_bytes = journal.len();
            journal.extend_from_slice(tail);
            assert_eq!(read(&journal).unwrap().sound_bytes, sound_bytes);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_before_the_last_frame_is_refused_with_its_offset() {
        let sound = journal(&[b"first", b"second", b"third"]);
        let second = journal(&[b"first"]).len();
        let third = journal(&[b"first", b"second"]).len();
        for byte in second..third {
            let mut damaged = sound.clone();
            damaged[byte] ^= 0x10;
            let Err(Damage::Frame { offset, .. }) = read(&damaged) else {
                panic!("byte {byte} was accepted")
            };
            assert_eq!(offset, second, "byte {byte}");
        }
    }

    #[test]
    fn another_file_is_refused() {
        assert_eq!(read(b"{\"items\":[]}"), Err(Damage::NoJournal));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_no_payload_is_invented(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut journal = journal(&[b"first"]);
            journal.extend(&noise);
            if let Ok(frames) = read(&journal) {
                prop_assert_eq!(frames.payloads.len(), 1);
            }
        }
    }
}
