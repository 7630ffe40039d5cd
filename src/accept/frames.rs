//! The field blocks in the frames that an HTTP/2 caller sends (RFC 9113, sections 4.1, 6.2 and 6.10), where `field_block` looks for a `#` in
//! the path.

use super::field_block::{FieldBlocks, Malformed};

/// What every HTTP/2 connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD_BYTES: usize = 9;

pub(super) const HEADERS: u8 = 1;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// A stream that this depends on, and a weight.
const PRIORITY_BYTES: usize = 5;

/// The protocol of a connection, by its first bytes.
#[derive(Debug)]
pub(super) enum Protocol {
    /// So many bytes have arrived, and they are the first of HTTP/2.
    Unknown {
        preface_bytes: usize,
    },
    Http1,
    Http2(Box<CallerFrames>),
}

impl Protocol {
    /// Whether HTTP/2 is spoken where HTTP/1 is not.
    pub(super) const fn of_listener(http2: bool) -> Self {
        if http2 { Self::Unknown { preface_bytes: 0 } } else { Self::Http1 }
    }

    /// Looks at what has arrived; true if it is for HTTP/1, or may be yet.
    pub(super) fn received(&mut self, received: &mut [u8]) -> Result<bool, Malformed> {
        let mut rest = received;
        if let Self::Unknown { preface_bytes } = self {
            let length = rest.len().min(PREFACE.len() - *preface_bytes);
            let (preface, behind) = rest.split_at_mut(length);
            if *preface != PREFACE[*preface_bytes..*preface_bytes + length] {
                *self = Self::Http1;
                return Ok(true);
            }
            *preface_bytes += length;
            if *preface_bytes < PREFACE.len() {
                return Ok(true);
            }
            *self = Self::Http2(Box::default());
            rest = behind;
        }
        match self {
            Self::Http2(frames) => frames.received(rest).map(|()| false),
            Self::Http1 | Self::Unknown { .. } => Ok(true),
        }
    }
}

/// The frames of a connection, from the caller.
#[derive(Debug, Default)]
pub(super) struct CallerFrames {
    head: [u8; HEAD_BYTES],
    /// How much of the head has arrived.
    head_bytes: usize,
    /// The byte with the length of the padding is still to come.
    awaits_pad_length: bool,
    /// What is still to come of the bytes before the field block; of all bytes in a frame without one.
    before_bytes: usize,
    /// What is still to come of the field block, or of a fragment of one.
    block_bytes: usize,
    /// What is still to come of the padding.
    padding_bytes: usize,
    /// Whether the field block ends with this frame.
    ends_block: bool,
    blocks: FieldBlocks,
}

impl CallerFrames {
    /// Looks at the next bytes.
    fn received(&mut self, mut bytes: &mut [u8]) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            let taken = self.take(bytes)?;
            bytes = &mut bytes[taken..];
            let left_bytes = self.before_bytes + self.block_bytes + self.padding_bytes;
            if self.head_bytes == HEAD_BYTES && !self.awaits_pad_length && left_bytes == 0 {
                if self.ends_block {
                    self.blocks.end()?;
                }
                self.head_bytes = 0;
            }
        }
        Ok(())
    }

    /// Takes bytes of one kind, at least one. Returns how many they were.
    fn take(&mut self, bytes: &mut [u8]) -> Result<usize, Malformed> {
        let most = |left_bytes: usize| left_bytes.min(bytes.len());
        if self.head_bytes < HEAD_BYTES {
            let taken = most(HEAD_BYTES - self.head_bytes);
            self.head[self.head_bytes..][..taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            if self.head_bytes == HEAD_BYTES {
                self.begin_payload()?;
            }
            return Ok(taken);
        }
        if self.awaits_pad_length {
            self.padding_bytes = usize::from(bytes[0]);
            self.block_bytes = self.block_bytes.checked_sub(self.padding_bytes).ok_or(Malformed)?;
            self.awaits_pad_length = false;
            return Ok(1);
        }
        let taken;
        if self.before_bytes > 0 {
            taken = most(self.before_bytes);
            self.before_bytes -= taken;
        } else if self.block_bytes > 0 {
            taken = most(self.block_bytes);
            self.blocks.received(&mut bytes[..taken])?;
            self.block_bytes -= taken;
        } else {
            taken = most(self.padding_bytes);
            self.padding_bytes -= taken;
        }
        Ok(taken)
    }

    fn begin_payload(&mut self) -> Result<(), Malformed> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let payload_bytes = u32::from_be_bytes([0, high, middle, low]) as usize;
        let has = |flag: u8| flags & flag != 0;
        self.ends_block = matches!(kind, HEADERS | CONTINUATION) && has(END_HEADERS);
        self.awaits_pad_length = kind == HEADERS && has(PADDED);
        self.before_bytes = match kind {
            HEADERS if has(PRIORITY) => PRIORITY_BYTES,
            HEADERS | CONTINUATION => 0,
            _ => payload_bytes,
        };
        self.block_bytes = payload_bytes
            .checked_sub(self.before_bytes + usize::from(self.awaits_pad_length))
            .ok_or(Malformed)?;
        Ok(())
    }
}
