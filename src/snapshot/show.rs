//! `tagalong snapshot show`: what is in a file, by names and ages. Values are not shown.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use super::contents::{read_header, read_records};
use super::record::SnapshotRecord;
use super::refusal::SnapshotRefusal;
use crate::clock::Timestamp;
use crate::config::duration::format_duration;
use crate::seal::key::SealingKey;

/// What is in a snapshot, for people.
///
/// # Errors
/// [`SnapshotRefusal`]
pub fn show(path: &Path, key: &SealingKey, now: Timestamp) -> Result<String, SnapshotRefusal> {
    let file = File::open(path).map_err(|_| SnapshotRefusal::Unreadable)?;
    let mut file = BufReader::with_capacity(128 * 1024, file);
    let (header, line) = read_header(&mut file)?;
    let whole = |age: Duration| format_duration(Duration::from_secs(age.as_secs()));
    let age = |at: Timestamp| whole(now.since(at));
    let mut shown = String::new();
    // Writing to a text cannot fail.
    let _written = writeln!(
        shown,
        "written {} ago, generation {}, sealed with the {} {}",
        age(header.written_at),
        header.generation,
        header.key,
        header.key_id
    );
    for source in &header.sources {
        let _written = writeln!(
            shown,
            "upstream {}: {}, {}, asked as {}",
            source.name, source.url, source.profile, source.identity
        );
    }
    // No bound on its age: it is only looked at.
    header.check(&key.id(), header.written_at, Duration::MAX)?;
    let name =
        |source: u16| header.sources.get(usize::from(source)).map_or("", |source| source.name.as_str());
    let (mut responses, mut items) = (Vec::new(), Vec::new());
    read_records(&mut file, (&header, &line), key, |record| {
        match record {
            SnapshotRecord::Response(stored) => responses.push(format!(
                "{:>8}  {:>6}  {:>9}  {}  {}",
                age(stored.response_time()),
                stored.status(),
                stored.body_bytes(),
                name(stored.source),
                stored.target
            )),
            SnapshotRecord::Collection(collection) => items.push(format!(
                "mirror of {}, {}",
                name(collection.source),
                if collection.selector.is_empty() { "everything" } else { collection.selector }
            )),
            SnapshotRecord::Range(range) => items.extend(range.names().map(|(id, validated_at)| {
                let (key, label) = id.split_once('\0').unwrap_or((id, ""));
                let label = if label.is_empty() { String::new() } else { format!("  label {label}") };
                format!("{:>8}  {key}{label}", age(validated_at))
            })),
        }
        Ok(())
    })?;
    responses.sort();
    if !responses.is_empty() {
        let _written = writeln!(shown, "{:>8}  {:>6}  {:>9}  upstream and target", "age", "status", "bytes");
    }
    for line in responses.iter().chain(&items) {
        // A key may hold control characters, which a terminal must not get.
        let line: String = line.chars().map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect();
        let _written = writeln!(shown, "{line}");
    }
    Ok(shown)
}
