//! A stream of bytes, encrypted and authenticated in chunks (AES-256-GCM), so that neither writing nor reading holds it whole.
//!
//! ```text
//! chunk 0            chunk 1            …  last chunk
//! 64 KiB + 16 tag    64 KiB + 16 tag       0 to 64 KiB + 16 tag
//! ```
//!
//! The nonce of a chunk is its number and whether it is the last. So a chunk that is changed, moved, repeated or left out is refused,
//! and so is a stream that was cut off between two chunks. What goes before the stream is associated data of every chunk.
//!
//! Invariant: a key seals one stream. [`SealingKey`](super::key::SealingKey) derives a new one for each, with a random salt.

use std::io::{self, Read, Write};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes of a chunk before it is sealed.
const CHUNK_BYTES: usize = 64 * 1024;

/// What sealing adds to a chunk.
const TAG_BYTES: usize = 16;

/// The key of one stream.
pub struct StreamKey(LessSafeKey);

impl std::fmt::Debug for StreamKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("StreamKey(***)")
    }
}

impl StreamKey {
    /// A key of 256 bits.
    #[must_use]
    #[expect(clippy::expect_used, reason = "AES-256 takes every key of 32 bytes")]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes")))
    }
}

fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[0] = u8::from(is_last);
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Seals what is written to it. [`SealingWriter::finish`] writes the last chunk.
pub struct SealingWriter<W> {
    sealed: W,
    key: StreamKey,
    associated: Box<[u8]>,
    chunk: Vec<u8>,
    number: u64,
}

impl<W: Write> SealingWriter<W> {
    /// Seals into `sealed`.
    pub fn new(sealed: W, key: StreamKey, associated: &[u8]) -> Self {
        let chunk = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        Self { sealed, key, associated: associated.into(), chunk, number: 0 }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_chunk(true)?;
        Ok(self.sealed)
    }

    fn write_chunk(&mut self, is_last: bool) -> io::Result<()> {
        let nonce = nonce(self.number, is_last);
        self.key
            .0
            .seal_in_place_append_tag(nonce, Aad::from(&*self.associated), &mut self.chunk)
            .map_err(|_| io::Error::other("a chunk cannot be sealed"))?;
        self.sealed.write_all(&self.chunk)?;
        self.chunk.clear();
        self.number += 1;
        Ok(())
    }
}

impl<W: Write> Write for SealingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK_BYTES && !bytes.is_empty() {
            // More follows, so this is not the last.
            self.write_chunk(false)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sealed.flush()
    }
}

/// Opens what [`SealingWriter`] sealed. Gives no byte of a chunk that is not authentic.
pub struct OpeningReader<R> {
    sealed: R,
    key: StreamKey,
    associated: Box<[u8]>,
    /// The opened chunk, and how much of it was read.
    chunk: Vec<u8>,
    read: usize,
    /// The chunk after it, sealed: only if it is empty is the one before it the last.
    next: Vec<u8>,
    number: u64,
}

impl<R: Read> OpeningReader<R> {
    /// Opens the rest of `sealed`.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn new(mut sealed: R, key: StreamKey, associated: &[u8]) -> io::Result<Self> {
        let mut next = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        fill(&mut sealed, &mut next)?;
        let associated = associated.into();
        Ok(Self { sealed, key, associated, chunk: Vec::new(), read: 0, next, number: 0 })
    }

    /// Whether the stream was read to its authentic end.
    ///
    /// # Errors
    /// As of reading.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.read == self.chunk.len() && !self.open_next()?)
    }

    /// Opens the next chunk; false at the end.
    fn open_next(&mut self) -> io::Result<bool> {
        if self.next.is_empty() {
            return if self.number == 0 { Err(damaged()) } else { Ok(false) };
        }
        std::mem::swap(&mut self.chunk, &mut self.next);
        fill(&mut self.sealed, &mut self.next)?;
        let nonce = nonce(self.number, self.next.is_empty());
        let opened = self
            .key
            .0
            .open_in_place(nonce, Aad::from(&*self.associated), &mut self.chunk)
            .map_err(|_| damaged())?;
        let opened_bytes = opened.len();
        self.chunk.truncate(opened_bytes);
        self.read = 0;
        self.number += 1;
        Ok(opened_bytes > 0 || !self.next.is_empty())
    }
}

impl<R: Read> Read for OpeningReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() {
            if !self.open_next()? {
                return Ok(0);
            }
        }
        let given = into.len().min(self.chunk.len() - self.read);
        into[..given].copy_from_slice(&self.chunk[self.read..self.read + given]);
        self.read += given;
        Ok(given)
    }
}

/// The next sealed chunk.
fn fill(sealed: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<()> {
    chunk.clear();
    sealed.take((CHUNK_BYTES + TAG_BYTES) as u64).read_to_end(chunk).map(drop)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it was changed, or cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut writer = SealingWriter::new(Vec::new(), StreamKey::new(&[7; 32]), b"head");
        writer.write_all(plain).unwrap();
        writer.finish().unwrap()
    }

    fn opened(sealed: &[u8], key: u8, associated: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let mut reader = OpeningReader::new(sealed, StreamKey::new(&[key; 32]), associated)?;
        reader.read_to_end(&mut plain)?;
        assert!(reader.is_at_end()?);
        Ok(plain)
    }

    #[test]
    fn what_was_sealed_is_opened() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 200_000] {
            let plain: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
            let sealed = sealed(&plain);
            assert_eq!(sealed.len(), length + TAG_BYTES * length.div_ceil(CHUNK_BYTES).max(1));
            assert_eq!(opened(&sealed, 7, b"head").unwrap(), plain, "{length} bytes");
        }
    }

    #[test]
    fn nothing_else_is_opened() {
        let whole = sealed(&vec![1; 3 * CHUNK_BYTES + 5]);
        let chunk = CHUNK_BYTES + TAG_BYTES;
        assert!(opened(&whole, 8, b"head").is_err(), "another key");
        assert!(opened(&whole, 7, b"hear").is_err(), "another head");
        for cut in [0, 1, TAG_BYTES, chunk, 2 * chunk, 3 * chunk, whole.len() - 1] {
            assert!(opened(&whole[..cut], 7, b"head").is_err(), "cut off after {cut} bytes");
        }
        let reordered = [&whole[chunk..2 * chunk], &whole[..chunk], &whole[2 * chunk..]].concat();
        let repeated = [&whole[..chunk], &whole[..]].concat();
        let without = [&whole[..chunk], &whole[2 * chunk..]].concat();
        let longer = [&whole[..], &[0]].concat();
        for other in [reordered, repeated, without, longer] {
            assert!(opened(&other, 7, b"head").is_err());
        }
        for at in (0..whole.len()).step_by(997) {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert!(opened(&other, 7, b"head").is_err(), "byte {at}");
        }
    }
}
