//! `--data FILE`: keeps the emulator's state across restarts.
//!
//! Every change is appended to the file and synchronised before its writer is answered, so no crash loses an
//! acknowledged write. Changes that wait while the disk is busy are written together (group commit). When most of its
//! content is obsolete, an atomic rename replaces the file by a shorter one.

pub mod compaction;
pub mod frames;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use self::frames::Damage;
use super::change::{ChangeRecorder, Durable, RecordError, StateChange};

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system returns an error.
    #[error("cannot use {} to keep data: {source}; check the path, its permissions and the space left", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is used by another emulator; stop that emulator or name another file", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The content is damaged.
    #[error("{} is refused: {damage}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage and the remedy.
        damage: Damage,
    },
    /// A frame is whole, but its content is not understood.
    #[error(
        "{} is refused: the record at byte {offset} is not understood ({reason}); open it with the release that wrote it, \
         or name another file", path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// The byte at which the frame begins.
        offset: usize,
        /// The reason.
        reason: String,
    },
}

/// Options of a journal.
#[derive(Debug, Clone, Copy)]
pub struct JournalOptions {
    /// How long the journal keeps states after they were replaced.
    pub retention: Duration,
    /// The file is not compacted below this size.
    pub compact_above_bytes: u64,
}

impl JournalOptions {
    /// The default size below which the file is not compacted.
    pub const fn new(retention: Duration) -> Self {
        Self { retention, compact_above_bytes: 4 * 1024 * 1024 }
    }
}

/// The result of [`Journal::open`].
#[derive(Debug)]
pub struct Opened {
    /// The journal, ready for further changes.
    pub journal: Journal,
    /// The changes in the file, in order.
    pub changes: Vec<StateChange>,
    /// The length in bytes of a torn last record, which is cut off. The process ended while writing it, so its changes
    /// were never acknowledged.
    pub torn_bytes: u64,
}

/// The journal file and the thread that writes it.
#[derive(Debug)]
pub struct Journal {
    queue: Arc<Queue>,
    durable: watch::Receiver<RecordProgress>,
    writer: Option<JoinHandle<()>>,
    /// Locked while the journal is open, so that no second process writes to the file.
    _lock: Option<File>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    payload: Vec<u8>,
    last_sequence_number: u64,
    closing: bool,
    failed: Option<RecordFailure>,
}

/// The first error of the writer. After it nothing is recorded, because the content of the file is unknown.
#[derive(Debug, Clone)]
struct RecordFailure {
    kind: io::ErrorKind,
    text: Arc<str>,
}

impl RecordFailure {
    fn to_error(&self) -> RecordError {
        RecordError(io::Error::new(self.kind, self.text.to_string()))
    }
}

#[derive(Debug, Clone)]
enum RecordProgress {
    /// Everything up to this change is on disk.
    Durable(u64),
    Failed(RecordFailure),
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No panic can leave the queue half changed, so the content of a poisoned lock is sound.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, change: &StateChange) -> Result<(), RecordError> {
        let mut waiting = self.lock();
        if let Some(failure) = &waiting.failed {
            return Err(failure.to_error());
        }
        let before = waiting.payload.len();
        if let Err(error) = serde_json::to_writer(&mut waiting.payload, change) {
            waiting.payload.truncate(before);
            return Err(RecordError(error.into()));
        }
        waiting.payload.push(b'\n');
        waiting.last_sequence_number = change.sequence_number;
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }
}

impl Journal {
    /// Opens or creates a journal, and reads its changes.
    ///
    /// # Errors
    /// [`JournalError`]. A torn last record is no error.
    pub fn open(path: &Path, options: JournalOptions) -> Result<Opened, JournalError> {
        let refused = |source| JournalError::File { path: path.to_owned(), source };
        let lock = File::create(with_ending(path, ".lock")).map_err(refused)?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => JournalError::InUse { path: path.to_owned() },
            std::fs::TryLockError::Error(source) => refused(source),
        })?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(refused)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(refused)?;
        let (changes, sound_bytes) = changes_in(&content, path)?;
        let sound_bytes = made_ready(&mut file, path, sound_bytes as u64).map_err(refused)?;
        let torn_bytes = (content.len() as u64).saturating_sub(sound_bytes);
        let last = changes.last().map_or(0, |change| change.sequence_number);
        let writer =
            Writer { path: path.to_owned(), file, length_bytes: sound_bytes, compacted_bytes: 0, options };
        Ok(Opened {
            journal: Self::start(writer, Queue::default(), last, Some(lock)).map_err(refused)?,
            changes,
            torn_bytes,
        })
    }

    fn start(writer: Writer, queue: Queue, durable: u64, lock: Option<File>) -> io::Result<Self> {
        let (sender, durable) = watch::channel(RecordProgress::Durable(durable));
        let queue = Arc::new(queue);
        let of_writer = Arc::clone(&queue);
        let writer = std::thread::Builder::new()
            .name("emulator journal".to_owned())
            .spawn(move || writer.run(&of_writer, &sender))?;
        Ok(Self { queue, durable, writer: Some(writer), _lock: lock })
    }

    /// Waits until every change up to this one is on disk.
    ///
    /// # Errors
    /// [`RecordError`] if the change will never be on disk.
    pub async fn durable(&self, sequence_number: u64) -> Result<(), RecordError> {
        let mut durable = self.durable.clone();
        let settled = |progress: &RecordProgress| match progress {
            RecordProgress::Durable(reached) => *reached >= sequence_number,
            RecordProgress::Failed(_) => true,
        };
        match durable.wait_for(settled).await {
            Ok(progress) => match &*progress {
                RecordProgress::Durable(_) => Ok(()),
                RecordProgress::Failed(failure) => Err(failure.to_error()),
            },
            Err(_) => Err(RecordError(io::Error::other("the journal was closed; start the emulator again"))),
        }
    }
}

impl ChangeRecorder for Journal {
    /// Queues a change. [`Journal::durable`] waits until it is on disk.
    fn record(&self, change: &StateChange) -> Result<(), RecordError> {
        self.queue.push(change)
    }

    fn durable(&self, sequence_number: u64) -> Durable<'_> {
        Box::pin(self.durable(sequence_number))
    }
}

impl Drop for Journal {
    /// Writes the changes that wait, then ends the thread.
    fn drop(&mut self) {
        self.queue.lock().closing = true;
        self.queue.arrived.notify_one();
        if let Some(writer) = self.writer.take() {
            // The callers of `durable` got the thread's errors. A panic of the thread must not become one in `drop`.
            let _ended = writer.join();
        }
    }
}

/// The state of the thread.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: File,
    length_bytes: u64,
    compacted_bytes: u64,
    options: JournalOptions,
}

impl Writer {
    fn run(mut self, queue: &Queue, progress: &watch::Sender<RecordProgress>) {
        loop {
            let mut waiting = queue.lock();
            while waiting.payload.is_empty() && !waiting.closing {
                waiting = queue.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if waiting.payload.is_empty() {
                return;
            }
            let payload = std::mem::take(&mut waiting.payload);
            let last_sequence_number = waiting.last_sequence_number;
            drop(waiting);
            if let Err(error) = self.append(&payload) {
                let failure = RecordFailure { kind: error.kind(), text: error.to_string().into() };
                queue.lock().failed = Some(failure.clone());
                progress.send_replace(RecordProgress::Failed(failure));
                return;
            }
            progress.send_replace(RecordProgress::Durable(last_sequence_number));
            self.compact_if_worthwhile();
        }
    }

    fn append(&mut self, payload: &[u8]) -> io::Result<()> {
        let frame = frames::frame(payload);
        self.file.write_all(&frame)?;
        self.file.sync_data()?;
        self.length_bytes += frame.len() as u64;
        Ok(())
    }

    /// Compacts when the file has grown to twice its size after the last compaction. A failure leaves the old file,
    /// which has every change; the next attempt is at the next doubling.
    fn compact_if_worthwhile(&mut self) {
        let threshold = self.options.compact_above_bytes.max(self.compacted_bytes.saturating_mul(2));
        if self.length_bytes <= threshold {
            return;
        }
        if let Err(error) = self.compact() {
            tracing::warn!(path = %self.path.display(), %error, "the journal could not be compacted and keeps growing; check the permissions of its directory and the space left");
        }
        self.compacted_bytes = self.length_bytes;
    }

    fn compact(&mut self) -> Result<(), JournalError> {
        let refused = |source| JournalError::File { path: self.path.clone(), source };
        let content = std::fs::read(&self.path).map_err(refused)?;
        let (changes, _) = changes_in(&content, &self.path)?;
        let kept = compaction::compacted(changes, self.options.retention);
        let replacement = with_ending(&self.path, ".new");
        let mut payload = Vec::new();
        for change in &kept {
            serde_json::to_writer(&mut payload, change).map_err(|error| refused(error.into()))?;
            payload.push(b'\n');
        }
        let content = [frames::HEADING, &frames::frame(&payload)].concat();
        let mut file = File::create(&replacement).map_err(refused)?;
        let replaced = file
            .write_all(&content)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&replacement, &self.path))
            .and_then(|()| synchronise_directory(&self.path));
        replaced.map_err(refused)?;
        self.file = file;
        self.length_bytes = content.len() as u64;
        Ok(())
    }
}

/// Prepares the file for appending: cuts a torn record off, or writes the heading of a new file. Returns its length in
/// bytes.
fn made_ready(file: &mut File, path: &Path, sound_bytes: u64) -> io::Result<u64> {
    file.set_len(sound_bytes)?;
    file.seek(io::SeekFrom::End(0))?;
    if sound_bytes == 0 {
        file.write_all(frames::HEADING)?;
    }
    file.sync_all()?;
    synchronise_directory(path)?;
    Ok(sound_bytes.max(frames::HEADING.len() as u64))
}

/// Synchronises the directory: without that a power failure can lose the name of a new file.
fn synchronise_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The changes of a journal and how many of its bytes are sound.
fn changes_in(content: &[u8], path: &Path) -> Result<(Vec<StateChange>, usize), JournalError> {
    let frames =
        frames::read(content).map_err(|damage| JournalError::Damaged { path: path.to_owned(), damage })?;
    let mut changes: Vec<StateChange> = Vec::new();
    for (offset, payload) in frames.payloads {
        let fail = |reason: String| JournalError::Content { path: path.to_owned(), offset, reason };
        for change in serde_json::Deserializer::from_slice(payload).into_iter::<StateChange>() {
            let change = change.map_err(|error| fail(error.to_string()))?;
            if changes.last().is_some_and(|last| last.sequence_number >= change.sequence_number) {
                return Err(fail(format!("change {} comes out of order", change.sequence_number)));
            }
            changes.push(change);
        }
    }
    Ok((changes, frames.sound_bytes))
}

#[cfg(test)]
mod tests;
