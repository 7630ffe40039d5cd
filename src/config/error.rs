//! What can be wrong with a configuration, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use super::input_file::advice;
use super::masked::masked;
use super::nearest;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in; `config/default.toml` gives the reason.
    Default,
    /// A line of the configuration file.
    File {
        /// The path as it was given to `--config`.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// A flag of the command line, as it is written there.
    Flag(String),
    /// Taken over from `[upstream]` or `[listener]`, from the named key.
    Inherited(String),
}

impl Source {
    /// Whether the operator wrote the value at this place.
    pub(crate) const fn is_written(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Variable(_) | Self::Flag(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Variable(name) => write!(formatter, "variable {name}"),
            Self::Flag(name) => write!(formatter, "flag {name}"),
            Self::Inherited(path) => write!(formatter, "as {path}"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that the configuration consists of, or names, cannot be read.
    #[error("{named_by} {}: {error}{}", path.display(), advice(error))]
    Unreadable {
        /// The key or flag that names the file.
        named_by: String,
        /// The file.
        path: PathBuf,
        /// The operating system's word for it.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error(
        "{source_of}: {message}; the file must be TOML: `tagalong check-config --defaults` prints one with every key"
    )]
    Syntax {
        /// File and line.
        source_of: Source,
        /// The parser's word for it.
        message: String,
    },
    /// A key that does not exist.
    #[error("{source_of}: `{key}` is not a key{advice}")]
    Unknown {
        /// The key as it was written.
        key: String,
        /// Which one was meant.
        advice: String,
        /// Where it was written.
        source_of: Source,
    },
    /// A secret on the command line, which every user of the machine can read.
    #[error(
        "{source_of}: every user of this machine can read a command line; put the secret into a file (`{key}_file`), into \
         the file of --config, or into a variable"
    )]
    SecretFlag {
        /// The key.
        key: String,
        /// The flag.
        source_of: Source,
    },
    /// A value of the wrong kind or out of range.
    #[error("{source_of}: {key} = {written}: write {expected}")]
    Value {
        /// The key.
        key: String,
        /// What was written, masked if it is a secret.
        written: String,
        /// What to write instead: kind and range.
        expected: String,
        /// Where it was written.
        source_of: Source,
    },
    /// Two variables set one key.
    #[error("variables {first} and {second} both set {key}: unset one of them")]
    Twice {
        /// The key.
        key: String,
        /// One variable.
        first: String,
        /// The other one.
        second: String,
    },
    /// `--set` without `=`.
    #[error("flag --set {0}: write --set KEY=VALUE")]
    NoAssignment(String),
    /// Values that are each valid but not together.
    #[error("{0}")]
    Together(String),
}

impl ConfigError {
    pub(crate) fn unknown(key: String, source_of: Source) -> Self {
        Self::Unknown { advice: nearest::advice_on_key(&key, &source_of), key, source_of }
    }

    pub(crate) fn unknown_section(key: String, source_of: Source) -> Self {
        Self::Unknown { advice: nearest::advice_on_section(&key), key, source_of }
    }
}

/// Everything that is wrong with the configuration, so that it can be mended at once: one line each.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let line_feed = if index == 0 { "" } else { "\n" };
            // Whatever was written where it does not belong: none of them shows a secret.
            write!(formatter, "{line_feed}{}", masked(&error.to_string()))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
