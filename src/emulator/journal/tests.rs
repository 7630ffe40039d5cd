use std::sync::Arc;

use super::*;
use crate::clock::Timestamp;
use crate::emulator::change::ChangeKind;
use crate::profile::app_configuration::key_value::{KeyValue, KeyValueContent, KeyValueId};

fn key_value(key: &str, sequence_number: u64) -> Arc<KeyValue> {
    Arc::new(KeyValue {
        id: KeyValueId::new(key, None),
        etag: format!("e{sequence_number}").into(),
        content: KeyValueContent { value: Some(format!("v{sequence_number}")), ..KeyValueContent::default() },
        locked: false,
        last_modified: Timestamp::from_unix_seconds(0),
    })
}

/// A change that writes a key-value.
pub(super) fn modified(sequence_number: u64, seconds: i64, key: &str) -> StateChange {
    let kind = ChangeKind::KeyValueModified(key_value(key, sequence_number));
    StateChange { sequence_number, at: Timestamp::from_unix_seconds(seconds), kind }
}

/// A change that deletes a key-value.
pub(super) fn deleted(sequence_number: u64, seconds: i64, key: &str) -> StateChange {
    let kind = ChangeKind::KeyValueDeleted(key_value(key, sequence_number));
    StateChange { sequence_number, at: Timestamp::from_unix_seconds(seconds), kind }
}

const OPTIONS: JournalOptions = JournalOptions::new(Duration::from_secs(1_000_000));

fn open(path: &Path) -> Opened {
    Journal::open(path, OPTIONS).unwrap()
}

/// A path in a new directory, which lives as long as the handle.
fn new_path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    (directory, path)
}

/// A journal of three changes, each in a frame of its own.
async fn journal_of_three(path: &Path) -> Vec<StateChange> {
    let changes: Vec<StateChange> = (1..=3).map(|number| modified(number, 0, "k")).collect();
    let journal = open(path).journal;
    for change in &changes {
        journal.record(change).unwrap();
        journal.durable(change.sequence_number).await.unwrap();
    }
    changes
}

#[tokio::test]
async fn recorded_changes_are_restored() {
    let (_directory, path) = new_path();
    assert!(open(&path).changes.is_empty());
    let changes = journal_of_three(&path).await;
    let opened = open(&path);
    assert_eq!((opened.changes, opened.torn_bytes), (changes, 0));
    opened.journal.record(&deleted(4, 0, "k")).unwrap();
    opened.journal.durable(4).await.unwrap();
    drop(opened.journal);
    assert_eq!(open(&path).changes.len(), 4);
}

#[tokio::test]
async fn a_durable_change_is_in_the_file() {
    let (_directory, path) = new_path();
    let journal = open(&path).journal;
    for number in 1..=50 {
        journal.record(&modified(number, 0, "k")).unwrap();
        journal.durable(number).await.unwrap();
        let (changes, _) = changes_in(&std::fs::read(&path).unwrap(), &path).unwrap();
        assert_eq!(changes.len() as u64, number);
    }
}

/// The state of the thread, with a file that has its heading.
fn writer(path: &Path, file: File) -> Writer {
    Writer { path: path.to_owned(), file, length_bytes: 28, compacted_bytes: 0, options: OPTIONS }
}

#[tokio::test]
async fn changes_that_wait_together_are_written_together() {
    let (_directory, path) = new_path();
    std::fs::write(&path, frames::HEADING).unwrap();
    let queue = Queue::default();
    for number in 1..=2_000 {
        queue.push(&modified(number, 0, "k")).unwrap();
    }
    let file = OpenOptions::new().append(true).open(&path).unwrap();
    let journal = Journal::start(writer(&path, file), queue, 0, None).unwrap();
    journal.durable(2_000).await.unwrap();
    let content = std::fs::read(&path).unwrap();
    assert_eq!(frames::read(&content).unwrap().payloads.len(), 1);
    assert_eq!(changes_in(&content, &path).unwrap().0.len(), 2_000);
}

#[tokio::test]
async fn closing_writes_the_changes_that_wait() {
    let (_directory, path) = new_path();
    let journal = open(&path).journal;
    journal.record(&modified(1, 0, "k")).unwrap();
    drop(journal);
    assert_eq!(open(&path).changes.len(), 1);
}

#[tokio::test]
async fn a_torn_last_record_is_cut_off_and_later_changes_are_recorded() {
    let (_directory, path) = new_path();
    let changes = journal_of_three(&path).await;
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let opened = open(&path);
    assert_eq!(opened.changes, changes[..2]);
    assert!(opened.torn_bytes > 0);
    opened.journal.record(&changes[2]).unwrap();
    drop(opened.journal);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[tokio::test]
async fn a_damaged_middle_is_refused_with_its_offset_and_the_file_is_unchanged() {
    let (_directory, path) = new_path();
    journal_of_three(&path).await;
    let mut damaged = std::fs::read(&path).unwrap();
    let offset = frames::read(&damaged).unwrap().payloads[1].0;
    damaged[offset + 40] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let error = Journal::open(&path, OPTIONS).unwrap_err().to_string();
    assert!(error.contains(&format!("at byte {offset}")) && error.contains("checksum"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
}

#[tokio::test]
async fn sound_frames_that_are_not_understood_are_refused() {
    let (_directory, path) = new_path();
    let twice = [
        serde_json::to_vec(&modified(2, 0, "k")).unwrap(),
        serde_json::to_vec(&modified(2, 0, "k")).unwrap(),
    ];
    for (payload, reason) in [(b"{\"other\":1}".to_vec(), "not understood"), (twice.concat(), "out of order")]
    {
        std::fs::write(&path, [frames::HEADING, &frames::frame(&payload)].concat()).unwrap();
        let error = Journal::open(&path, OPTIONS).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("byte 28"), "{error}");
    }
    std::fs::write(&path, "{\"items\":[]}").unwrap();
    let error = Journal::open(&path, OPTIONS).unwrap_err().to_string();
    assert!(error.contains("name another file"), "{error}");
}

#[tokio::test]
async fn a_second_emulator_is_refused() {
    let (_directory, path) = new_path();
    let first = open(&path);
    assert!(matches!(Journal::open(&path, OPTIONS), Err(JournalError::InUse { .. })));
    drop(first);
    open(&path);
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let error = Journal::open(Path::new("/nowhere/at/all"), OPTIONS).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");
}

#[tokio::test]
async fn compacting_keeps_the_needed_changes_and_later_changes_are_recorded() {
    let (_directory, path) = new_path();
    let options = JournalOptions { retention: Duration::from_secs(10), compact_above_bytes: 10_000 };
    let journal = Journal::open(&path, options).unwrap().journal;
    for number in 1..=1_000_u32 {
        journal.record(&modified(number.into(), number.into(), "k")).unwrap();
        journal.durable(number.into()).await.unwrap();
    }
    drop(journal);
    assert!(std::fs::metadata(&path).unwrap().len() < 25_000);
    let opened = Journal::open(&path, options).unwrap();
    let numbers: Vec<u64> = opened.changes.iter().map(|change| change.sequence_number).collect();
    assert!(numbers.ends_with(&(989..=1_000).collect::<Vec<u64>>()), "{numbers:?}");
    assert!(!with_ending(&path, ".new").exists());
}

#[tokio::test]
async fn a_disk_that_fails_fails_every_write_from_then_on() {
    let (_directory, path) = new_path();
    std::fs::write(&path, frames::HEADING).unwrap();
    // Opened for reading only, so that every write to it fails.
    let file = File::open(&path).unwrap();
    let journal = Journal::start(writer(&path, file), Queue::default(), 0, None).unwrap();
    journal.record(&modified(1, 0, "k")).unwrap();
    assert!(journal.durable(1).await.is_err());
    assert!(journal.record(&modified(2, 0, "k")).is_err());
}
