//! Text that must not be shown: prints as `***`, is zeroed when dropped.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret from the configuration or from a file it names: a connection string, a key, a token.
///
/// It has no `Display` of its own, no `Serialize`, and its `Debug` is `***`, so that neither a log line nor an error
/// nor `check-config` can show it by accident. Comparing two secrets takes the same time whatever they hold.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct SecretString(String);

impl SecretString {
    /// Takes ownership of the text; a copy that the caller keeps must be zeroed there.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that signs or sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the text. Takes the same time whatever they hold, and copies nothing.
    pub fn is(&self, presented: &str) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_bytes(), presented.as_bytes()).into()
    }

    /// Whether there is no text at all: the configuration writes "not set" as an empty string.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a secret from a file, without the white space around it (editors end files with a line feed).
    ///
    /// # Errors
    /// The operating system's, when the file cannot be read; `InvalidData` when it is not UTF-8; one for what is no regular
    /// file, or larger than 1 MiB.
    pub fn read(path: &std::path::Path) -> std::io::Result<Self> {
        let (_, text) = super::input_file::read_secret(path)?;
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl PartialEq for SecretString {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for SecretString {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_what_it_holds() {
        let secret = SecretString::new("c2VjcmV0".to_owned());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(format!("{:?}", Some(vec![secret.clone()])), "Some([***])");
        assert_eq!(secret.expose(), "c2VjcmV0");
    }

    #[test]
    fn secrets_are_equal_by_content() {
        assert_eq!(SecretString::new("a".into()), SecretString::new("a".into()));
        assert_ne!(SecretString::new("a".into()), SecretString::new("ab".into()));
        assert!(SecretString::default().is_empty());
    }

    #[test]
    fn a_secret_file_is_read_without_the_white_space_around_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "  abc=\n").unwrap();
        assert_eq!(SecretString::read(&path).unwrap().expose(), "abc=");
        assert!(SecretString::read(&directory.path().join("absent")).is_err());
    }
}
