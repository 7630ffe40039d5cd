//! What is the emulator's own of pages: which items a page takes, and the refusal of positions that cannot be read.

use super::problem::Problem;
use crate::profile::app_configuration::key_value::KeyValueId;
use crate::profile::app_configuration::page::{
    after_key_value, decode_continuation, key_value_before, name_before,
};

/// One page of items.
#[derive(Debug)]
pub struct Page<T> {
    /// At most a page of items.
    pub items: Vec<T>,
    /// Whether there is a further page.
    pub continues: bool,
}

impl<T> Page<T> {
    /// Takes a page from the remaining items. It looks one item ahead, so that no list ends in an empty page, as it can
    /// with the vendor's emulator.
    pub fn take(items: impl Iterator<Item = T>, size: usize) -> Self {
        let mut items: Vec<T> = items.take(size + 1).collect();
        let continues = items.len() > size;
        items.truncate(size);
        Self { items, continues }
    }

    /// The plain position of the next page, which `after` makes of the last item; `None` if there is no next page.
    pub fn next(&self, after: impl FnOnce(&T) -> String) -> Option<String> {
        self.items.last().filter(|_| self.continues).map(after)
    }
}

/// After a revision, which its change identifies.
pub fn after_revision(id: &KeyValueId, sequence_number: u64) -> String {
    format!("{}\n{sequence_number}", after_key_value(id))
}

/// The plain form of an `after`. An unreadable token is refused. The vendor's emulator starts again at page one,
/// which turns a client's mistake into an endless list.
pub fn decode(after: &str) -> Result<String, Problem> {
    decode_continuation(after).ok_or_else(invalid)
}

/// The position in a list of key-values.
pub fn decode_key_value(after: &str) -> Result<KeyValueId, Problem> {
    key_value_before(&decode(after)?).ok_or_else(invalid)
}

/// The position in a list of keys or labels.
pub fn decode_name(after: &str) -> Result<String, Problem> {
    name_before(&decode(after)?).map(str::to_owned).ok_or_else(invalid)
}

/// The position of [`after_revision`].
pub fn decode_revision(after: &str) -> Result<(KeyValueId, u64), Problem> {
    let plain = decode(after)?;
    let mut parts = plain.splitn(3, '\n');
    match (parts.next(), parts.next(), parts.next().map(str::parse)) {
        (Some(key), Some(label), Some(Ok(number))) if !key.is_empty() => {
            Ok((KeyValueId::new(key, Some(label)), number))
        }
        _ => Err(invalid()),
    }
}

/// 400 for an unreadable position.
fn invalid() -> Problem {
    Problem::invalid("after", "Invalid continuation; follow the link of the page before unchanged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::app_configuration::page::encode_continuation;
    use proptest::prelude::*;

    #[test]
    fn a_page_knows_whether_it_is_the_last() {
        for (count, items, continues) in [(0, 0, false), (99, 99, false), (100, 100, false), (101, 100, true)]
        {
            let page = Page::take(0..count, 100);
            assert_eq!((page.items.len(), page.continues), (items, continues), "{count}");
        }
    }

    proptest! {
        #[test]
        fn positions_of_revisions_round_trip(key in "[^\\p{Cc}%]{1,8}", label in prop::option::of("[^\\p{Cc}]{1,8}"), number: u64) {
            let id = KeyValueId::new(&key, label.as_deref());
            let token = encode_continuation(&after_revision(&id, number));
            prop_assert_eq!(decode_revision(&token), Ok((id, number)));
        }

        #[test]
        fn no_position_panics(token in "[A-Za-z0-9+/=_ -]{0,24}") {
            let _results = (decode_key_value(&token), decode_revision(&token), decode_name(&token));
        }
    }
}
