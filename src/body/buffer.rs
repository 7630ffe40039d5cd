//! A body that is read into memory, within the budget.

use std::sync::Arc;

use bytes::Bytes;

use super::budget::{BufferBudget, BufferPermit};

/// A body as far as it was read, in one allocation for which it holds a permit.
#[derive(Debug)]
pub struct BodyBuffer {
    content: Vec<u8>,
    /// The length of the whole body, if it is known.
    expected_bytes: Option<u64>,
    permit: BufferPermit,
}

impl BodyBuffer {
    /// An empty one. `expected_bytes` is the length of the whole body, if it is known: no more is allocated then.
    #[must_use]
    pub fn new(budget: &Arc<BufferBudget>, expected_bytes: Option<u64>) -> Self {
        Self { content: Vec::new(), expected_bytes, permit: budget.permit() }
    }

    /// Adds a piece. False if the budget does not permit it; then nothing is added.
    #[must_use]
    pub fn push(&mut self, data: &[u8]) -> bool {
        let length_bytes = self.content.len() + data.len();
        let capacity_bytes = self.content.capacity();
        if length_bytes > capacity_bytes {
            let expected_bytes =
                self.expected_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
            // Doubled, so that the content is seldom moved.
            let target_bytes = (2 * capacity_bytes).min(expected_bytes).max(length_bytes);
            if !self.permit.grow((target_bytes - capacity_bytes) as u64) {
                return false;
            }
            self.content.reserve_exact(target_bytes - self.content.len());
        }
        self.content.extend_from_slice(data);
        true
    }

    /// The bytes read so far.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.content.len() as u64
    }

    /// The content. The permit is released with its last clone.
    #[must_use]
    pub fn freeze(mut self) -> Bytes {
        self.content.shrink_to_fit();
        self.permit.shrink_to(self.content.len() as u64);
        if self.content.is_empty() { Bytes::new() } else { Bytes::from_owner(self) }
    }
}

impl AsRef<[u8]> for BodyBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_holds_its_permit_until_its_last_clone_is_gone() {
        let budget = BufferBudget::new(100);
        let mut buffer = BodyBuffer::new(&budget, None);
        for _ in 0..5 {
            assert!(buffer.push(b"abcdefg"));
        }
        let content = buffer.freeze();
        assert_eq!(budget.used_bytes(), 35, "no more than the content");
        let part = content.slice(30..);
        drop(content);
        assert_eq!(part, b"cdefg"[..]);
        assert_eq!(budget.used_bytes(), 35);
        drop(part);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn an_announced_length_is_not_exceeded() {
        let budget = BufferBudget::new(12);
        let mut buffer = BodyBuffer::new(&budget, Some(12));
        assert!(buffer.push(&[1; 7]) && buffer.push(&[2; 5]));
        assert_eq!(budget.used_bytes(), 12);
        assert_eq!(buffer.freeze().len(), 12);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn what_is_not_permitted_is_not_added() {
        let budget = BufferBudget::new(10);
        let mut buffer = BodyBuffer::new(&budget, None);
        assert!(buffer.push(&[1; 6]));
        assert!(!buffer.push(&[2; 6]));
        assert_eq!(buffer.len_bytes(), 6);
        assert_eq!(buffer.freeze(), [1; 6][..]);
    }
}
