//! Which requests the operator's port accepts, and which of them may change state.

use std::path::Path;

use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::config::SecretString;
use crate::credentials::token_file::{self, Absent, TokenFileError};

/// Checks that there is a token, and makes one (or tries whether one could be made) if there is no file.
pub(super) fn prepare_token(path: &Path, absent: Absent) -> Result<(), AdminTokenError> {
    token_file::prepare(path, absent)?;
    Ok(())
}

/// The token for what changes state cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("admin.token_file {0}")]
pub struct AdminTokenError(#[from] TokenFileError);

/// Whether a request may change something: it carries the token, if one is configured. The file is read each time, so that
/// a rotated token holds at once; such requests are rare.
pub(super) fn authorize(parts: &Parts, token_file: Option<&Path>) -> Result<(), String> {
    let Some(path) = token_file else { return Ok(()) };
    let token =
        SecretString::read(path).map_err(|error| format!("admin.token_file cannot be read: {error}"))?;
    let value = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, presented) = value.split_once(' ').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.is(presented.trim()) {
        Ok(())
    } else {
        Err("Send Authorization: Bearer with the token of admin.token_file".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_token_is_never_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "\n").unwrap();
        assert!(prepare_token(&path, Absent::Create).unwrap_err().to_string().contains("it is empty"));
        let (parts, ()) =
            http::Request::builder().header("authorization", "Bearer ").body(()).unwrap().into_parts();
        assert!(authorize(&parts, Some(&path)).is_err());
        assert!(prepare_token(Path::new("/nowhere/at/all"), Absent::Create).is_err());
    }
}
