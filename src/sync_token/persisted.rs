//! The tokens of `newest` in a file, so that no caller is shown less after a restart than before it.
//!
//! ```text
//! tagalong-sync-tokens-1 contoso.azconfig.io zAJw6V16=MDoyOA==;sn=28 3f1c0a5be3c96d70
//! format                 endpoint            newest                  the beginning of the SHA-256 of what precedes
//! ```
//!
//! Invariant: the file is replaced before the answer that brings a newer token is passed on, under the lock of the
//! [`session`](super::session). So it is never behind what a caller was shown, also after a `kill -9`. It is not synchronised with
//! the disk: after a loss of power an older line, or none, may be there.
//!
//! A file that cannot be replaced later (a full disk) is told once in the log, and again when it can be.
//!
//! The price: creating and renaming a small file for each answer of the origin that brings a newer token. A hit costs nothing.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::token::{SyncToken, parse_response, print_response};
use crate::config::input_file;
use crate::words::words;

const FORMAT: &str = "tagalong-sync-tokens-1";

/// Bytes of the digest that are written.
const DIGEST_BYTES: usize = 8;

/// A file that can neither be read nor written at start.
#[derive(Debug, thiserror::Error)]
#[error("sync_token_file {}: {error}; name a file in a directory in which this user may create files", path.display())]
pub struct PersistenceError {
    path: PathBuf,
    error: io::Error,
}

words! {
    /// Why the tokens in a file are not used.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum TokensRefused {
        /// It is no file of tokens, or cut off, or changed by another hand.
        Damaged = "damaged",
        /// Its tokens are those of another endpoint, where they mean nothing.
        Endpoint = "endpoint",
    }
}

/// The file of one upstream endpoint.
#[derive(Debug)]
pub struct PersistedTokens {
    path: PathBuf,
    /// A name beside it that no other process takes.
    draft: PathBuf,
    endpoint: String,
    fails: AtomicBool,
}

impl PersistedTokens {
    /// The file for the endpoint with this authority, and the tokens in it. One that is not there is created. What cannot be used is
    /// told in the log, and replaced.
    ///
    /// # Errors
    /// When the file can be neither read nor replaced.
    pub fn open(path: &Path, endpoint: &str) -> Result<(Self, Vec<SyncToken>), PersistenceError> {
        let failed = |error| PersistenceError { path: path.to_owned(), error };
        let tokens = Self::read(path, endpoint).map_err(failed)?;
        let file = Self {
            path: path.to_owned(),
            draft: input_file::beside(path).map_err(failed)?,
            endpoint: endpoint.to_owned(),
            fails: AtomicBool::new(false),
        };
        file.replace(&print_response(&tokens)).map_err(failed)?;
        Ok((file, tokens))
    }

    /// What [`PersistedTokens::open`] would find. Tries whether the file can be replaced, and leaves everything as it is.
    ///
    /// # Errors
    /// As [`PersistedTokens::open`].
    pub fn check(path: &Path, endpoint: &str) -> Result<(), PersistenceError> {
        let failed = |error| PersistenceError { path: path.to_owned(), error };
        Self::read(path, endpoint).map_err(failed)?;
        input_file::try_to_create(path).map_err(failed)
    }

    fn read(path: &Path, endpoint: &str) -> io::Result<Vec<SyncToken>> {
        let refused = match input_file::read_text(path) {
            Ok((_, text)) => match parse(&text, endpoint) {
                Ok(tokens) => return Ok(tokens),
                Err(refused) => refused,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => TokensRefused::Damaged,
            Err(error) => return Err(error),
        };
        warn!(
            file = %path.display(),
            reason = refused.as_str(),
            "the sync tokens in this file are not used; until the origin has been asked, a caller may be shown less than before",
        );
        Ok(Vec::new())
    }

    /// Replaces the line.
    pub fn write<'a>(&self, newest: impl IntoIterator<Item = &'a SyncToken>) {
        let result = self.replace(&print_response(newest));
        let failed = self.fails.swap(result.is_err(), Ordering::Relaxed);
        let file = self.path.display();
        match result {
            Err(error) if !failed => warn!(
                %file,
                %error,
                "the sync tokens cannot be written; after a restart a caller may be shown less than before: see to the disk",
            ),
            Ok(()) if failed => info!(%file, "the sync tokens are written again"),
            _ => {}
        }
    }

    fn replace(&self, tokens: &str) -> io::Result<()> {
        let mut line = format!("{FORMAT} {} {tokens}", self.endpoint);
        let digest = digest(&line);
        line.push(' ');
        line.push_str(&digest);
        line.push('\n');
        input_file::create_private(&self.draft, false)?.write_all(line.as_bytes())?;
        std::fs::rename(&self.draft, &self.path)
    }
}

fn parse(text: &str, endpoint: &str) -> Result<Vec<SyncToken>, TokensRefused> {
    let line = text.strip_suffix('\n').ok_or(TokensRefused::Damaged)?;
    let (said, written_digest) = line.rsplit_once(' ').ok_or(TokensRefused::Damaged)?;
    if digest(said) != written_digest {
        return Err(TokensRefused::Damaged);
    }
    let mut parts = said.split(' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(FORMAT), Some(of), Some(tokens), None) if of == endpoint => {
            Ok(parse_response([tokens.as_bytes()]))
        }
        (Some(FORMAT), Some(_), Some(_), None) => Err(TokensRefused::Endpoint),
        _ => Err(TokensRefused::Damaged),
    }
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "contoso.azconfig.io";

    fn token(sequence_number: u64) -> SyncToken {
        SyncToken::new("zAJw6V16", "MDoyOA==", sequence_number).unwrap()
    }

    #[test]
    fn what_was_written_last_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let (file, tokens) = PersistedTokens::open(&path, HERE).unwrap();
        assert_eq!(tokens, []);
        let other = SyncToken::new("b", "x=y", 3).unwrap();
        file.write([&token(1)]);
        file.write([&token(28), &other]);
        assert_eq!(PersistedTokens::open(&path, HERE).unwrap().1, [token(28), other]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(
                "tagalong-sync-tokens-1 contoso.azconfig.io zAJw6V16=MDoyOA==;sn=28,b=x=y;sn=3 "
            )
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");
        file.write([]);
        assert_eq!(PersistedTokens::open(&path, HERE).unwrap().1, []);
    }

    #[test]
    fn tokens_of_another_endpoint_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        PersistedTokens::open(&path, HERE).unwrap().0.write([&token(1)]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(parse(&text, "fabrikam.azconfig.io"), Err(TokensRefused::Endpoint));
        assert_eq!(PersistedTokens::open(&path, "fabrikam.azconfig.io").unwrap().1, []);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        PersistedTokens::open(&path, HERE).unwrap().0.write([&token(28)]);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(PersistedTokens::open(&path, HERE).unwrap().1, [], "cut to {length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(PersistedTokens::open(&path, HERE).unwrap().1, [], "bit {bit}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_at_start() {
        let directory = tempfile::tempdir().unwrap();
        for path in [Path::new("/nowhere/at/all"), Path::new("/"), directory.path()] {
            let error = PersistedTokens::open(path, HERE).unwrap_err().to_string();
            assert!(error.contains("sync_token_file"), "{error}");
            assert!(PersistedTokens::check(path, HERE).is_err(), "{}", path.display());
        }
        PersistedTokens::check(&directory.path().join("tokens"), HERE).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a check leaves nothing");
    }

    #[test]
    fn a_directory_that_vanishes_stops_nothing_and_may_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let path = inside.join("tokens");
        let (file, _) = PersistedTokens::open(&path, HERE).unwrap();
        std::fs::remove_dir_all(&inside).unwrap();
        file.write([&token(1)]);
        assert!(file.fails.load(Ordering::Relaxed));
        std::fs::create_dir(&inside).unwrap();
        file.write([&token(2)]);
        assert!(!file.fails.load(Ordering::Relaxed));
        assert_eq!(PersistedTokens::open(&path, HERE).unwrap().1, [token(2)]);
    }
}
