//! A snapshot as bytes: written from what is stored, and read into a [`SnapshotContents`] once all of it was found authentic.

use std::io::{self, BufRead, Read as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::header::{FORMAT, HEADER_LIMIT_BYTES, SnapshotHeader, SnapshotSource};
use super::record::{self, SnapshotRecord};
use super::refusal::SnapshotRefusal;
use crate::clock::Timestamp;
use crate::config::input_file::random_bytes;
use crate::mirror::collection::{CollectionShape, Range};
use crate::seal::key::SealingKey;
use crate::seal::stream::{OpeningReader, SealingWriter};
use crate::stored_response::record::MalformedRecord;
use crate::stored_response::{CacheKey, StoredResponse};

/// What stands before the head, so that a file of another kind is not taken for a damaged snapshot.
const MARK: &str = "tagalong-snapshot ";

/// What a snapshot restores.
#[derive(Debug, Default)]
pub struct SnapshotContents {
    /// Stored responses, each with the position of its upstream and its key.
    pub responses: Vec<(usize, CacheKey, StoredResponse)>,
    /// Mirrored collections.
    pub collections: Vec<RestoredCollection>,
}

/// A collection as it was written.
#[derive(Debug)]
pub struct RestoredCollection {
    /// The position of its upstream; `None`: it is not to be restored.
    pub upstream: Option<usize>,
    /// What it selects, as parameters of `/kv`.
    pub selector: String,
    /// The api-version that it was loaded with.
    pub version: String,
    /// What was known of the origin's pages.
    pub shape: CollectionShape,
    /// Whether its ranges show one state.
    pub is_one_state: bool,
    /// Its ranges in order.
    pub ranges: Vec<Range>,
}

/// Writes a snapshot: the head, and what `write_records` writes, sealed.
///
/// # Errors
/// Those of the writer.
pub fn write<W: Write>(
    out: W,
    key: &SealingKey,
    (generation, written_at): (u64, Timestamp),
    sources: Vec<SnapshotSource>,
    write_records: impl FnOnce(&mut SealingWriter<W>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = out;
    let salt = random_bytes()?;
    let header = SnapshotHeader {
        format: FORMAT,
        generation,
        written_at,
        key: key.source.as_str().to_owned(),
        key_id: key.id(),
        salt: STANDARD.encode(salt),
        sources,
    };
    let line = format!("{MARK}{}\n", serde_json::to_string(&header).map_err(io::Error::other)?);
    out.write_all(line.as_bytes())?;
    let mut sealing = SealingWriter::new(out, key.of_stream(&salt), line.as_bytes());
    write_records(&mut sealing)?;
    sealing.finish()?.flush()
}

/// The head of a file, and its line as it stands there.
///
/// # Errors
/// [`SnapshotRefusal::Unreadable`], [`SnapshotRefusal::Damaged`] or [`SnapshotRefusal::Format`].
pub fn read_header(file: &mut impl BufRead) -> Result<(SnapshotHeader, String), SnapshotRefusal> {
    #[derive(Deserialize)]
    struct AnyFormat {
        format: u32,
    }
    let mut line = String::new();
    file.take(HEADER_LIMIT_BYTES).read_line(&mut line).map_err(|error| refusal_of(&error))?;
    let json = line.strip_prefix(MARK).ok_or(SnapshotRefusal::Damaged)?;
    let any: AnyFormat = serde_json::from_str(json).map_err(|_| SnapshotRefusal::Damaged)?;
    if any.format != FORMAT {
        return Err(SnapshotRefusal::Format);
    }
    let header = serde_json::from_str(json).map_err(|_| SnapshotRefusal::Damaged)?;
    Ok((header, line))
}

/// Gives every record after the head to `take`, and then says whether all of them were authentic.
///
/// # Errors
/// [`SnapshotRefusal`]. What was taken by then counts for nothing.
pub fn read_records(
    file: &mut impl BufRead,
    (header, line): (&SnapshotHeader, &str),
    key: &SealingKey,
    mut take: impl FnMut(SnapshotRecord<'_>) -> Result<(), MalformedRecord>,
) -> Result<(), SnapshotRefusal> {
    let salt = STANDARD.decode(&header.salt).map_err(|_| SnapshotRefusal::Damaged)?;
    let failed = |error: io::Error| refusal_of(&error);
    let mut opening = OpeningReader::new(file, key.of_stream(&salt), line.as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    while !opening.is_at_end().map_err(failed)? {
        record::read(&mut opening, &mut bytes).map_err(failed)?;
        record::parse(&bytes).and_then(&mut take).map_err(|MalformedRecord| SnapshotRefusal::Damaged)?;
    }
    Ok(())
}

impl SnapshotContents {
    /// Takes a record in. `upstream_of` gives position and name of the upstream of a source that is to be restored.
    ///
    /// # Errors
    /// [`MalformedRecord`]
    pub fn take<'a>(
        &mut self,
        record: &SnapshotRecord<'_>,
        upstream_of: impl Fn(u16) -> Option<(usize, &'a str)>,
    ) -> Result<(), MalformedRecord> {
        match record {
            SnapshotRecord::Response(stored) => {
                if let Some((position, name)) = upstream_of(stored.source) {
                    self.responses.push((position, stored.key(name), stored.response()?));
                }
            }
            SnapshotRecord::Collection(collection) => self.collections.push(RestoredCollection {
                upstream: upstream_of(collection.source).map(|(position, _)| position),
                selector: collection.selector.to_owned(),
                version: collection.version.to_owned(),
                shape: collection.shape()?,
                is_one_state: collection.is_one_state(),
                ranges: Vec::new(),
            }),
            SnapshotRecord::Range(range) => {
                self.collections.last_mut().ok_or(MalformedRecord)?.ranges.push(range.range()?);
            }
        }
        Ok(())
    }
}

/// What an error while reading means for the file.
#[must_use]
pub fn refusal_of(error: &io::Error) -> SnapshotRefusal {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => SnapshotRefusal::Damaged,
        _ => SnapshotRefusal::Unreadable,
    }
}
