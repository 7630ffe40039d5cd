//! A file, of a secret as a rule, that may be replaced while the process runs. It is checked on use, at most once a second: directly
//! where it is on a local file system, else on a blocking thread while its users get the value that was read last.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::local_filesystem::is_on_local_filesystem;
use crate::clock::Timestamp;
use crate::config::input_file;

/// How long a value is used without another check: a rotated secret takes effect a second later.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Why a watched file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it and what to do. Never holds a part of the file.
    pub cause: String,
}

/// Parses the text of a file. The error says what is wrong without quoting the text.
pub type Reading<T> = dyn Fn(&str) -> Result<T, String> + Send + Sync;

/// A file and what was last read from it.
pub struct WatchedFile<T> {
    path: PathBuf,
    reading: Box<Reading<T>>,
    held: ArcSwapOption<T>,
    looked_at_micros: AtomicI64,
    look_interval: Duration,
    /// Whether others than its owner must not read it.
    is_secret: bool,
    /// Whether a look at it cannot hang.
    is_local: bool,
    /// What the last check found. Locked during a check.
    seen: Mutex<LastLook>,
}

impl<T> std::fmt::Debug for WatchedFile<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WatchedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a check found.
#[derive(Default)]
struct LastLook {
    /// The version that was read, usable or not.
    version: Option<Version>,
    /// Why it could not be used: the log says that once.
    failure: Option<String>,
}

/// The metadata that changes if a file is rewritten, replaced by renaming, or reached through a changed symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl<T: Send + Sync + 'static> WatchedFile<T> {
    /// A file that must be usable at once. It is read on this thread: only at start.
    pub fn open(path: &Path, reading: Box<Reading<T>>) -> Result<Self, FileError> {
        let (version, text) = read(path, true).map_err(|error| cannot_read(path, &error))?;
        let value = reading(&text).map_err(|cause| FileError { path: path.to_owned(), cause })?;
        let file = Self::awaited(path, reading);
        file.held.store(Some(Arc::new(value)));
        Ok(Self { seen: Mutex::new(LastLook { version: Some(version), failure: None }), ..file })
    }

    /// A file that may appear later, because another program writes it.
    pub fn awaited(path: &Path, reading: Box<Reading<T>>) -> Self {
        Self {
            path: path.to_owned(),
            reading,
            held: ArcSwapOption::empty(),
            looked_at_micros: AtomicI64::new(i64::MIN),
            look_interval: LOOK_INTERVAL,
            is_secret: true,
            is_local: is_on_local_filesystem(path),
            seen: Mutex::default(),
        }
    }

    /// A file that others may read, too, which is checked at each use.
    pub fn public(path: &Path, reading: Box<Reading<T>>) -> Self {
        Self { look_interval: Duration::ZERO, is_secret: false, ..Self::awaited(path, reading) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value that was read last, without a look at the file.
    pub fn held(&self) -> Option<Arc<T>> {
        self.held.load_full()
    }

    /// The value of the file, at most a second old. If the file becomes unreadable or malformed, the last value stays
    /// in use and a warning is logged: a half-written file or a failed rotation must not lock out all callers.
    pub async fn current(&self, now: Timestamp) -> Result<Arc<T>, FileError> {
        let failure = if self.is_due(now) { self.look(now).await } else { None };
        self.held.load_full().ok_or_else(|| {
            failure.unwrap_or_else(|| FileError {
                path: self.path.clone(),
                cause: "it holds nothing usable yet; write the secret there".to_owned(),
            })
        })
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let looked_at = Timestamp::from_unix_micros(self.looked_at_micros.load(Ordering::Relaxed));
        // A clock that was set back must not keep an old secret alive.
        now < looked_at || now.since(looked_at) >= self.look_interval
    }

    /// Checks whether the file has changed, and reads it if so. One check runs at a time. Others use the last value,
    /// and wait only if there is none.
    async fn look(&self, now: Timestamp) -> Option<FileError> {
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(_) if self.held.load().is_some() => return None,
            Err(_) => self.seen.lock().await,
        };
        if !self.is_due(now) {
            return None;
        }
        let (before, is_secret) = (seen.version, self.is_secret);
        let read = if self.is_local {
            read_if_changed(&self.path, before, is_secret)
        } else {
            let path = self.path.clone();
            tokio::task::spawn_blocking(move || read_if_changed(&path, before, is_secret))
                .await
                .unwrap_or_else(|_| Err(std::io::Error::other("reading it was given up")))
        };
        let read_anew = matches!(read, Ok(Some(_)));
        let failure = match read {
            Ok(None) => None,
            Ok(Some((version, text))) => {
                seen.version = Some(version);
                match (self.reading)(&text) {
                    Ok(value) => {
                        self.held.store(Some(Arc::new(value)));
                        tracing::info!(path = %self.path.display(), "read a watched file that has changed");
                        None
                    }
                    Err(cause) => Some(FileError { path: self.path.clone(), cause }),
                }
            }
            Err(error) => {
                // A file that reappears is read again even if its metadata is the same.
                seen.version = None;
                Some(cannot_read(&self.path, &error))
            }
        };
        if let Some(failure) = &failure
            && seen.failure.as_ref() != Some(&failure.cause)
        {
            tracing::warn!(error = %failure, "a watched file cannot be used; what was read before stays in force");
        }
        if failure.is_some() || read_anew {
            seen.failure = failure.as_ref().map(|failure| failure.cause.clone());
        }
        self.looked_at_micros.store(now.as_unix_micros(), Ordering::Relaxed);
        failure
    }
}

/// The version and text of a file, unless it is of the version that was read before.
fn read_if_changed(
    path: &Path,
    before: Option<Version>,
    is_secret: bool,
) -> std::io::Result<Option<(Version, Zeroizing<String>)>> {
    let metadata = std::fs::metadata(path)?;
    if before == Some(Version::of(&metadata)) { Ok(None) } else { read(path, is_secret).map(Some) }
}

/// A file's version and text. The version is taken first, so that a change in between is noticed at the next check.
fn read(path: &Path, is_secret: bool) -> std::io::Result<(Version, Zeroizing<String>)> {
    let (metadata, text) =
        if is_secret { input_file::read_secret(path)? } else { input_file::read_text(path)? };
    Ok((Version::of(&metadata), text))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> FileError {
    let cause = format!("cannot be read: {error}{}", input_file::advice(error));
    FileError { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_763_719_200);

    fn number() -> Box<Reading<u32>> {
        Box::new(|text| text.trim().parse().map_err(|_| "it is no number".to_owned()))
    }

    fn later(millis: u64) -> Timestamp {
        START.plus(Duration::from_millis(millis))
    }

    #[tokio::test]
    async fn a_replaced_file_is_read_a_second_later_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        for is_local in [true, false] {
            std::fs::write(&path, "1\n").unwrap();
            let file = WatchedFile { is_local, ..WatchedFile::open(&path, number()).unwrap() };
            assert_eq!(*file.current(START).await.unwrap(), 1);
            let new = directory.path().join("new");
            std::fs::write(&new, "2\n").unwrap();
            std::fs::rename(&new, &path).unwrap();
            assert_eq!(*file.current(later(999)).await.unwrap(), 1);
            assert_eq!(*file.current(later(1_000)).await.unwrap(), 2);
        }
    }

    #[tokio::test]
    async fn a_turned_link_is_a_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("a"), "1").unwrap();
        std::fs::write(at("b"), "2").unwrap();
        std::os::unix::fs::symlink(at("a"), at("link")).unwrap();
        let file = WatchedFile::open(&at("link"), number()).unwrap();
        std::os::unix::fs::symlink(at("b"), at("next")).unwrap();
        std::fs::rename(at("next"), at("link")).unwrap();
        assert_eq!(*file.current(START).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn what_was_read_stays_in_force_when_the_file_breaks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "1").unwrap();
        let file = WatchedFile::open(&path, number()).unwrap();
        std::fs::write(&path, "one").unwrap();
        assert_eq!(*file.current(START).await.unwrap(), 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*file.current(later(2_000)).await.unwrap(), 1);
        std::fs::write(&path, "3").unwrap();
        assert_eq!(*file.current(later(4_000)).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn an_awaited_file_may_appear_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(WatchedFile::open(&path, number()).unwrap_err().to_string().contains("cannot be read"));
        let file = WatchedFile::awaited(&path, number());
        assert!(file.current(START).await.is_err());
        assert!(file.current(later(1)).await.unwrap_err().to_string().contains("nothing usable yet"));
        std::fs::write(&path, "7").unwrap();
        assert_eq!(*file.current(later(1_001)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_clock_set_back_does_not_keep_an_old_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "1").unwrap();
        let file = WatchedFile::open(&path, number()).unwrap();
        assert_eq!(*file.current(later(60_000)).await.unwrap(), 1);
        std::fs::write(&path, "22").unwrap();
        assert_eq!(*file.current(START).await.unwrap(), 22);
    }
}
