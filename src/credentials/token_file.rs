//! A file with the bearer token that the sidecar demands from callers. If it is missing at start it is created,
//! readable by this user alone.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::{SecretString, input_file};

/// A token file that can neither be read nor created.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}{}", path.display(), input_file::advice(error))]
pub struct TokenFileError {
    path: PathBuf,
    error: std::io::Error,
}

/// What to do if the token file is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Absent {
    /// Create it.
    #[default]
    Create,
    /// Test whether it could be created, and leave nothing: a check of the configuration must not create it, because
    /// another user may run the sidecar.
    Try,
}

/// Checks that there is a token, and creates the file with mode 0600 if it is missing. Returns whether there is a file
/// now.
pub fn prepare(path: &Path, absent: Absent) -> Result<bool, TokenFileError> {
    let failed = |error| TokenFileError { path: path.to_owned(), error };
    match (SecretString::read(path), absent) {
        (Ok(token), _) if token.is_empty() => Err(failed(std::io::Error::other(
            "it is empty; write the token there, or remove it and it is created",
        ))),
        (Ok(_), _) => Ok(true),
        (Err(error), Absent::Create) if error.kind() == std::io::ErrorKind::NotFound => {
            input_file::create_secret(path, |random| URL_SAFE_NO_PAD.encode(random))
                .map(|_| true)
                .map_err(failed)
        }
        (Err(error), Absent::Try) if error.kind() == std::io::ErrorKind::NotFound => {
            input_file::try_to_create(path).map(|()| false).map_err(failed)
        }
        (Err(error), _) => Err(failed(error)),
    }
}

/// If there is none, or it cannot be sent in a header field.
pub fn read(text: &str) -> Result<SecretString, String> {
    let token = text.trim();
    if token.is_empty() {
        Err("it is empty; write the token there".to_owned())
    } else if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(SecretString::new(token.to_owned()))
    } else {
        Err("a token is one line of visible ASCII without spaces; write that and nothing else".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_long_random_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        assert!(!prepare(&first, Absent::Try).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "trying leaves nothing");
        assert!(prepare(&first, Absent::Create).unwrap());
        assert!(prepare(&second, Absent::Create).unwrap());
        let token = std::fs::read_to_string(&first).unwrap();
        assert_eq!(token.trim().len(), 43);
        assert_ne!(token, std::fs::read_to_string(&second).unwrap());
        assert!(prepare(&first, Absent::Create).unwrap() && prepare(&first, Absent::Try).unwrap());
        assert_eq!(token, std::fs::read_to_string(&first).unwrap(), "an existing token stays");
        assert_eq!(std::fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "\n").unwrap();
        for absent in [Absent::Create, Absent::Try] {
            assert!(prepare(&path, absent).unwrap_err().to_string().contains("it is empty"));
            assert!(prepare(Path::new("/nowhere/at/all"), absent).is_err());
        }
        assert_eq!(read(" abc\n").unwrap().expose(), "abc");
        for text in ["", "\n", "a b", "a\nb", "é"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
