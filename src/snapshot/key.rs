//! The key of snapshots: 32 bytes from a file, or derived from the access key. Each file has a key of its own, derived with a random
//! salt.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::seal::StreamKey;
use crate::config::input_file;
use crate::credentials::token_file::Absent;
use crate::headers::access_key::derive_key;
use crate::words::words;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

words! {
    /// Where a key comes from.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SnapshotKeySource {
        /// `snapshot.key_file`.
        File = "key-file",
        /// Derived from the access key with which requests are signed.
        AccessKey = "access-key",
    }
}

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("snapshot.key_file {}: {cause}", path.display())]
pub struct SnapshotKeyError {
    path: PathBuf,
    cause: String,
}

/// The key from which those of the files are derived.
#[derive(Clone)]
pub struct SnapshotKey {
    master: Zeroizing<[u8; KEY_BYTES]>,
    /// Where it comes from.
    pub source: SnapshotKeySource,
}

impl std::fmt::Debug for SnapshotKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SnapshotKey({}, ***)", self.source.as_str())
    }
}

impl SnapshotKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn new(master: Zeroizing<[u8; KEY_BYTES]>, source: SnapshotKeySource) -> Self {
        Self { master, source }
    }

    /// The key in a file: 32 bytes in base64. A file that is not there is created for this user alone, as `absent` says; `None` where
    /// that was only tried.
    ///
    /// # Errors
    /// When the file holds something else, or can be neither read nor created.
    pub fn from_file(path: &Path, absent: Absent) -> Result<Option<Self>, SnapshotKeyError> {
        let failed = |cause: String| SnapshotKeyError { path: path.to_owned(), cause };
        let advice = "name a file that this user may read, or create in a directory that exists";
        match input_file::read_secret(path) {
            Ok((_, text)) => parse(&text).map(Some).map_err(failed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match absent {
                Absent::Create => input_file::create_secret(path, |random| STANDARD.encode(random))
                    .map(|master| Some(Self::new(master, SnapshotKeySource::File))),
                Absent::Try => input_file::try_to_create(path).map(|()| None),
            }
            .map_err(|error| failed(format!("{error}; {advice}"))),
            Err(error) => Err(failed(format!("{error}; {advice}"))),
        }
    }

    /// Tells keys apart, and does not lead back to the key.
    #[must_use]
    pub fn id(&self) -> String {
        self.derived(b"", b"tagalong snapshot key id")[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key of the stream with this salt.
    #[must_use]
    pub fn of_stream(&self, salt: &[u8]) -> StreamKey {
        StreamKey::new(&self.derived(salt, b"tagalong snapshot stream"))
    }

    fn derived(&self, salt: &[u8], purpose: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
        derive_key(&*self.master, salt, purpose)
    }
}

fn parse(text: &str) -> Result<SnapshotKey, String> {
    let decoded = STANDARD.decode(text.trim()).map(Zeroizing::new).ok();
    let master = decoded.as_deref().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(&**bytes).ok());
    let advice = "it must hold 32 bytes in base64 and nothing else; make one with: openssl rand -base64 32";
    Ok(SnapshotKey::new(Zeroizing::new(master.ok_or(advice)?), SnapshotKeySource::File))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_file_is_for_its_owner_alone_and_read_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        assert!(SnapshotKey::from_file(&path, Absent::Try).unwrap().is_none());
        assert!(!path.exists(), "trying leaves nothing");
        let made = SnapshotKey::from_file(&path, Absent::Create).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = SnapshotKey::from_file(&path, Absent::Create).unwrap().unwrap();
        assert_eq!(made.id(), read.id());
        let other = SnapshotKey::from_file(&directory.path().join("other"), Absent::Create).unwrap().unwrap();
        assert_ne!(made.id(), other.id());
        assert_ne!(made.derived(b"1", b"x"), made.derived(b"2", b"x"), "each salt gives another key");
        assert!(!format!("{made:?}").contains(&STANDARD.encode(*made.master)));
    }

    #[test]
    fn what_is_no_key_is_refused_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        for text in ["", "c2VjcmV0", "not base64 at all, is it?"] {
            std::fs::write(&path, text).unwrap();
            let error = SnapshotKey::from_file(&path, Absent::Create).unwrap_err().to_string();
            assert!(error.contains("32 bytes in base64"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert!(SnapshotKey::from_file(Path::new("/nowhere/key"), Absent::Try).is_err());
    }
}
