//! A key that seals: 32 bytes from a file, or derived from an access key. Each stream has a key of its own, derived with a random salt.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::stream::{OpeningReader, SealingWriter, StreamKey};
use crate::config::input_file::{self, random_bytes};
use crate::credentials::token_file::Absent;
use crate::headers::access_key::derive_key;
use crate::words::words;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

words! {
    /// Where a key comes from.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SealingKeySource {
        /// A key file.
        File = "key-file",
        /// Derived from the access key with which requests are signed.
        AccessKey = "access-key",
    }
}

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}.key_file {}: {cause}", purpose.as_str(), path.display())]
pub struct SealingKeyError {
    purpose: SealingPurpose,
    path: PathBuf,
    cause: String,
}

words! {
    /// What is sealed. A key for one purpose opens nothing of another, although the bytes are the same.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum SealingPurpose {
        /// The snapshot file.
        Snapshot = "snapshot",
        /// What the members of a fleet tell each other.
        Fleet = "fleet",
    }
}

/// The key from which those of the streams are derived.
#[derive(Clone)]
pub struct SealingKey {
    master: Zeroizing<[u8; KEY_BYTES]>,
    purpose: SealingPurpose,
    /// Where it comes from.
    pub source: SealingKeySource,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SealingKey({}, ***)", self.source.as_str())
    }
}

impl SealingKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn new(
        master: Zeroizing<[u8; KEY_BYTES]>,
        purpose: SealingPurpose,
        source: SealingKeySource,
    ) -> Self {
        Self { master, purpose, source }
    }

    /// The key in a file: 32 bytes in base64. A file that is not there is created for this user alone, as `absent` says; `None` where
    /// that was only tried, or where the key is not to be created.
    ///
    /// # Errors
    /// When the file holds something else, or can be neither read nor created.
    pub fn from_file(
        path: &Path,
        purpose: SealingPurpose,
        absent: Absent,
    ) -> Result<Option<Self>, SealingKeyError> {
        let failed = |cause: String| SealingKeyError { purpose, path: path.to_owned(), cause };
        match input_file::read_secret(path) {
            Ok((_, text)) => parse(&text, purpose).map(Some).map_err(failed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match absent {
                Absent::Create => input_file::create_secret(path, |random| STANDARD.encode(random))
                    .map(|master| Some(Self::new(master, purpose, SealingKeySource::File))),
                Absent::Try => input_file::try_to_create(path).map(|()| None),
            }
            .map_err(|error| failed(format!("{error}{}", input_file::advice(&error)))),
            Err(error) => Err(failed(format!("{error}{}", input_file::advice(&error)))),
        }
    }

    /// Tells keys apart, and does not lead back to the key.
    #[must_use]
    pub fn id(&self) -> String {
        self.derived(b"", "key id")[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key of the stream with this salt.
    #[must_use]
    pub fn of_stream(&self, salt: &[u8]) -> StreamKey {
        StreamKey::new(&self.derived(salt, "stream"))
    }

    /// The hash of a text that who has not this key can neither compute nor lead back.
    #[must_use]
    pub fn hash(&self, text: &[u8]) -> [u8; KEY_BYTES] {
        *self.derived(text, "hash")
    }

    /// Seals a short message with a key of its own. `associated` must be the same to open it.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn seal(&self, message: &[u8], associated: &[u8]) -> io::Result<Vec<u8>> {
        let salt = random_bytes()?;
        let mut sealed = Vec::with_capacity(salt.len() + message.len() + 16);
        sealed.extend_from_slice(&salt);
        let mut sealing = SealingWriter::new(sealed, self.of_stream(&salt), associated);
        sealing.write_all(message)?;
        sealing.finish()
    }

    /// Opens what [`SealingKey::seal`] sealed; `None` where it is not authentic.
    #[must_use]
    pub fn open(&self, sealed: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
        let (salt, sealed) = sealed.split_at_checked(KEY_BYTES)?;
        let mut opening = OpeningReader::new(sealed, self.of_stream(salt), associated).ok()?;
        let mut message = Vec::with_capacity(sealed.len());
        opening.read_to_end(&mut message).ok()?;
        opening.is_at_end().ok()?.then_some(message)
    }

    fn derived(&self, salt: &[u8], what: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        derive_key(&*self.master, salt, format!("tagalong {} {what}", self.purpose.as_str()).as_bytes())
    }
}

fn parse(text: &str, purpose: SealingPurpose) -> Result<SealingKey, String> {
    let decoded = STANDARD.decode(text.trim()).map(Zeroizing::new).ok();
    let master = decoded.as_deref().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(&**bytes).ok());
    let advice = "it must hold 32 bytes in base64 and nothing else; make one with: openssl rand -base64 32";
    Ok(SealingKey::new(Zeroizing::new(master.ok_or(advice)?), purpose, SealingKeySource::File))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_file_is_for_its_owner_alone_and_read_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        assert!(SealingKey::from_file(&path, SealingPurpose::Snapshot, Absent::Try).unwrap().is_none());
        assert!(!path.exists(), "trying leaves nothing");
        let made = SealingKey::from_file(&path, SealingPurpose::Snapshot, Absent::Create).unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = SealingKey::from_file(&path, SealingPurpose::Snapshot, Absent::Create).unwrap().unwrap();
        assert_eq!(made.id(), read.id());
        let other =
            SealingKey::from_file(&directory.path().join("other"), SealingPurpose::Snapshot, Absent::Create)
                .unwrap()
                .unwrap();
        assert_ne!(made.id(), other.id());
        assert_ne!(made.derived(b"1", "x"), made.derived(b"2", "x"), "each salt gives another key");
        assert!(!format!("{made:?}").contains(&STANDARD.encode(*made.master)));
    }

    #[test]
    fn what_is_no_key_is_refused_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        for text in ["", "c2VjcmV0", "not base64 at all, is it?"] {
            std::fs::write(&path, text).unwrap();
            let error = SealingKey::from_file(&path, SealingPurpose::Snapshot, Absent::Create)
                .unwrap_err()
                .to_string();
            assert!(error.contains("32 bytes in base64"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        assert!(
            SealingKey::from_file(Path::new("/nowhere/key"), SealingPurpose::Snapshot, Absent::Try).is_err()
        );
    }

    #[test]
    fn a_message_is_opened_as_what_it_was_sealed_as_and_unchanged_alone() {
        let of = |purpose| SealingKey::new(Zeroizing::new([7; KEY_BYTES]), purpose, SealingKeySource::File);
        let key = of(SealingPurpose::Fleet);
        for message in [&b""[..], b"x", &[1; 100_000]] {
            let sealed = key.seal(message, b"as").unwrap();
            assert_eq!(key.open(&sealed, b"as").as_deref(), Some(message));
            assert_ne!(sealed, key.seal(message, b"as").unwrap(), "each has a key of its own");
            assert_eq!(key.open(&sealed, b"other"), None);
            assert_eq!(of(SealingPurpose::Snapshot).open(&sealed, b"as"), None);
            assert_eq!(key.open(&sealed[..sealed.len() - 1], b"as"), None);
            assert_eq!(key.open(&sealed[..20], b"as"), None);
            for at in (0..sealed.len()).step_by(7) {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(key.open(&changed, b"as"), None, "byte {at}");
            }
        }
        assert_ne!(key.hash(b"a"), key.hash(b"b"));
    }
}
