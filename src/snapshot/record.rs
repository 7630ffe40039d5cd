//! What a snapshot consists of, in the form in which it is written: stored responses, and the ranges of mirrors.
//!
//! A record is its length (four bytes, the least significant first) and its bytes in postcard. The types here are the format: a change
//! of them is another [`FORMAT`](super::header::FORMAT), and so is one of [`ResponseRecord`]. Coverages mean something in one process alone,
//! and are not written.

use std::io::{self, Read, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::mirror::collection::{Collection, CollectionShape, Range};
use crate::mirror::item::Item;
use crate::profile::app_configuration::key_value::KeyValueId;
use crate::stored_response::record::{FieldNames, MalformedRecord, ResponseRecord};
use crate::stored_response::{CacheKey, StoredResponse};

/// One record.
#[derive(Debug, Serialize, Deserialize)]
pub enum SnapshotRecord<'a> {
    /// A stored response.
    #[serde(borrow)]
    Response(StoredRecord<'a>),
    /// The head of a mirrored collection; its ranges follow.
    Collection(CollectionRecord<'a>),
    /// The next range of the collection before it.
    Range(RangeRecord<'a>),
}

/// A stored response and its key.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredRecord<'a> {
    /// The position of its upstream among the sources of the head.
    pub source: u16,
    /// What follows the name of the upstream in its key: the partition, and the digest of fields.
    pub partition: &'a str,
    /// The canonical target.
    pub target: &'a str,
    #[serde(borrow)]
    response: ResponseRecord<'a>,
}

/// A mirrored collection.
#[derive(Debug, Serialize, Deserialize)]
pub struct CollectionRecord<'a> {
    /// The position of its upstream among the sources of the head.
    pub source: u16,
    /// What it selects, as parameters of `/kv`.
    pub selector: &'a str,
    /// The api-version that it was loaded with.
    pub version: &'a str,
    page_size_seen: Option<u64>,
    computes_tags: bool,
    forms: u8,
    is_one_state: bool,
}

/// A range of a collection.
#[derive(Debug, Serialize, Deserialize)]
pub struct RangeRecord<'a> {
    anchor: Option<&'a str>,
    #[serde(borrow)]
    items: Vec<ItemRecord<'a>>,
    #[serde(borrow)]
    answer: ResponseRecord<'a>,
    received_tag: Option<&'a str>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ItemRecord<'a> {
    id: &'a str,
    entity_tag: &'a str,
    json: &'a serde_bytes::Bytes,
}

/// Writes a record.
///
/// # Errors
/// Those of the writer.
pub fn write(record: &SnapshotRecord<'_>, out: &mut impl Write) -> io::Result<()> {
    let bytes = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&bytes)
}

/// Reads the bytes of a record into `into`, which [`parse`] takes.
///
/// # Errors
/// Those of the reader.
pub fn read(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    into.clear();
    if from.take(length).read_to_end(into)? as u64 == length {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

/// The record with these bytes.
///
/// # Errors
/// [`MalformedRecord`]
pub fn parse(bytes: &[u8]) -> Result<SnapshotRecord<'_>, MalformedRecord> {
    postcard::from_bytes(bytes).map_err(|_| MalformedRecord)
}

/// Writes a stored response.
///
/// # Errors
/// Those of the writer.
pub fn write_stored(
    source: u16,
    key: &CacheKey,
    response: &StoredResponse,
    out: &mut impl Write,
) -> io::Result<()> {
    let names = FieldNames::of(response);
    let response = names.record(response, &response.body);
    let (partition, target) = (key.partition_and_fields(), key.canonical_target());
    write(&SnapshotRecord::Response(StoredRecord { source, partition, target, response }), out)
}

/// Writes a collection with its ranges.
///
/// # Errors
/// Those of the writer.
pub fn write_collection(
    source: u16,
    version: &str,
    collection: &Collection,
    out: &mut impl Write,
) -> io::Result<()> {
    let CollectionShape { page_size_seen, computes_tags, forms } = collection.shape();
    let head = CollectionRecord {
        source,
        selector: &collection.selector.query,
        version,
        page_size_seen: page_size_seen.map(|size| size as u64),
        computes_tags,
        forms: forms.bits(),
        is_one_state: collection.is_one_state(0..collection.ranges.len()),
    };
    write(&SnapshotRecord::Collection(head), out)?;
    for range in &collection.ranges {
        let names = FieldNames::of(&range.answer);
        let items = range.items.iter().map(|item| ItemRecord {
            id: item.id.as_str(),
            entity_tag: &item.entity_tag,
            json: serde_bytes::Bytes::new(&item.json),
        });
        let record = RangeRecord {
            anchor: range.anchor.as_ref().map(KeyValueId::as_str),
            items: items.collect(),
            answer: names.record(&range.answer, b""),
            received_tag: range.received_tag.as_deref(),
        };
        write(&SnapshotRecord::Range(record), out)?;
    }
    Ok(())
}

impl StoredRecord<'_> {
    /// The key, for an upstream of this name.
    #[must_use]
    pub fn key(&self, upstream: &str) -> CacheKey {
        CacheKey::new(upstream, self.partition, self.target)
    }

    /// The response. It covers nothing.
    ///
    /// # Errors
    /// [`MalformedRecord`]
    pub fn response(&self) -> Result<StoredResponse, MalformedRecord> {
        self.response.to_response()
    }

    /// When it was received or validated last.
    #[must_use]
    pub const fn response_time(&self) -> Timestamp {
        self.response.response_time()
    }

    /// Bytes of its body.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.response.body_bytes()
    }

    /// Its status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.response.status()
    }
}

impl CollectionRecord<'_> {
    /// What is known of the origin's pages.
    ///
    /// # Errors
    /// [`MalformedRecord`]
    pub fn shape(&self) -> Result<CollectionShape, MalformedRecord> {
        let page_size_seen =
            self.page_size_seen.map(usize::try_from).transpose().map_err(|_| MalformedRecord)?;
        let forms = crate::profile::app_configuration::page::ContinuationForms::from_bits(self.forms);
        let forms = forms.ok_or(MalformedRecord)?;
        Ok(CollectionShape { page_size_seen, computes_tags: self.computes_tags, forms })
    }

    /// Whether all its ranges show one state of the origin.
    #[must_use]
    pub const fn is_one_state(&self) -> bool {
        self.is_one_state
    }
}

impl RangeRecord<'_> {
    /// The range. It covers nothing.
    ///
    /// # Errors
    /// [`MalformedRecord`]
    pub fn range(&self) -> Result<Range, MalformedRecord> {
        // One allocation for all, as a page has when it comes from the origin.
        let texts: Vec<&[u8]> = self.items.iter().map(|item| &**item.json).collect();
        let page = Bytes::from(texts.concat());
        let mut begins = 0;
        let items = self.items.iter().map(|item| {
            let ends = begins + item.json.len();
            let json = page.slice(begins..ends);
            begins = ends;
            Item { id: KeyValueId::from_text(item.id), entity_tag: item.entity_tag.into(), json }
        });
        let items = items.collect();
        Ok(Range::restored(
            self.anchor.map(KeyValueId::from_text),
            items,
            self.answer.to_response()?,
            self.received_tag.map(Into::into),
        ))
    }

    /// The names of its items, and when they were validated last.
    pub fn names(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.items.iter().map(|item| (item.id, self.answer.response_time()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::*;
    use crate::stored_response::{SelectingKey, StoredFields, StoredPolicy, StoredRange, UseMark};
    use crate::sync_token::coverage::Coverage;

    fn response() -> StoredResponse {
        let mut fields = HeaderMap::new();
        for (name, value) in [("etag", "\"a\""), ("vary", "accept"), ("x-own", "1"), ("x-own", "2")] {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        fields.append("x-octets", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        StoredResponse {
            status: StatusCode::PARTIAL_CONTENT,
            fields: StoredFields::pack(&fields),
            body: Bytes::from_static(b"\0\xff body"),
            share: Default::default(),
            selecting: SelectingKey(Bytes::from_static(b"\x06accept\0")),
            request_time: Timestamp::from_unix_micros(1_700_000_000_123_456),
            response_time: Timestamp::from_unix_micros(1_700_000_000_223_456),
            covers: Coverage { newest_version: 3, closed_position: 2, sent_order: 9, revelation: 1 },
            policy: StoredPolicy {
                freshness_lifetime: Duration::from_millis(1_500),
                initial_age: Duration::from_micros(7),
                no_cache: true,
                must_revalidate: false,
                public: true,
                stale_while_revalidate: Duration::from_secs(5),
                stale_if_error: Some(Duration::from_secs(6)),
                heuristic: true,
                configured: true,
            },
            range: Some(StoredRange { first_byte: 4, complete_length_bytes: 400 }),
            is_mirrored: true,
            in_use: UseMark::default(),
        }
    }

    #[test]
    fn a_stored_response_comes_back_as_it_was_and_covers_nothing() {
        let mut out = Vec::new();
        let key = CacheKey::with_fields("main", "anonymous", "d1ge5t", "/kv/a?api-version=1.0");
        write_stored(2, &key, &response(), &mut out).unwrap();
        let (mut from, mut bytes) = (&out[..], Vec::new());
        read(&mut from, &mut bytes).unwrap();
        assert!(from.is_empty());
        let SnapshotRecord::Response(record) = parse(&bytes).unwrap() else { panic!("expected a response") };
        assert_eq!((record.source, record.key("main")), (2, key));
        let restored = record.response().unwrap();
        assert!(restored.is_restored());
        let expected = StoredResponse { covers: Coverage::NOTHING, ..response() };
        assert_eq!(format!("{restored:?}"), format!("{expected:?}"));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let mut out = Vec::new();
        write_stored(0, &CacheKey::new("main", "", "/"), &response(), &mut out).unwrap();
        let mut bytes = Vec::new();
        assert!(read(&mut &out[..out.len() - 1], &mut bytes).is_err());
        assert!(read(&mut &out[..3], &mut bytes).is_err());
        assert!(parse(&out[4..out.len() - 1]).is_err());
        assert!(parse(&[9, 9, 9]).is_err());
    }
}
