//! Who may speak to the operator's port, and who may change something through it.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;

use crate::config::{Guard, Secret};

/// A token file that can neither be read nor created.
#[derive(Debug, thiserror::Error)]
#[error("admin.token_file {}: {error}; name a file that this user may read, or create in a directory that exists", path.display())]
pub struct TokenError {
    path: PathBuf,
    error: std::io::Error,
}

/// Bytes of a new token: nobody guesses 256 bits.
const TOKEN_BYTES: usize = 32;

/// Checks that there is a token, and makes one if there is no file: mode 0600, so that it is for this user alone.
pub(super) fn prepare_token(path: &Path) -> Result<(), TokenError> {
    let failed = |error| TokenError { path: path.to_owned(), error };
    match Secret::read(path) {
        Ok(token) if token.is_empty() => Err(failed(std::io::Error::other("it is empty"))),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create_token(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn create_token(path: &Path) -> std::io::Result<()> {
    let mut random = [0; TOKEN_BYTES];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{}", URL_SAFE_NO_PAD.encode(random))
}

/// Whether a request may be answered at all: not one that a browser sends for another page, and not one for a name that
/// somebody made point here (DNS rebinding). An IP address as `Host` cannot be rebound.
pub(super) fn admit(parts: &Parts, guard: &Guard) -> Result<(), &'static str> {
    let text = |name| parts.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    if hosts.next().is_some() || !is_allowed_host(host, guard) {
        return Err(
            "Host names another machine: use localhost or an IP address, or add the name to guard.allowed_hosts",
        );
    }
    if parts.headers.get("sec-fetch-site").is_some_and(|site| site != "none" && site != "same-origin") {
        return Err("A browser sent this for another page: open the address itself");
    }
    // Browsers of before `Sec-Fetch-Site` send `Origin` with whatever may change something.
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    if parts.headers.contains_key(ORIGIN) && !text(ORIGIN).is_some_and(own) {
        return Err("A page of another origin sent this: open the address itself");
    }
    Ok(())
}

fn is_allowed_host(host: &str, guard: &Guard) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host();
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    literal.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || guard.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// Whether a request may change something: it carries the token, if one is configured. The file is read each time, so that
/// a rotated token holds at once; such requests are rare.
pub(super) fn authorize(parts: &Parts, token_file: Option<&Path>) -> Result<(), String> {
    let Some(path) = token_file else { return Ok(()) };
    let token = Secret::read(path).map_err(|error| format!("admin.token_file cannot be read: {error}"))?;
    let value = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, presented) = value.split_once(' ').unwrap_or_default();
    let presented = Secret::new(presented.trim().to_owned());
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && presented == token {
        Ok(())
    } else {
        Err("Send Authorization: Bearer with the token of admin.token_file".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_long_random_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        prepare_token(&first).unwrap();
        prepare_token(&second).unwrap();
        let token = std::fs::read_to_string(&first).unwrap();
        assert_eq!(token.trim().len(), 43);
        assert_ne!(token, std::fs::read_to_string(&second).unwrap());
        prepare_token(&first).unwrap();
        assert_eq!(token, std::fs::read_to_string(&first).unwrap(), "an existing token stays");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn an_empty_token_lets_nobody_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "\n").unwrap();
        assert!(prepare_token(&path).unwrap_err().to_string().contains("it is empty"));
        let (parts, ()) =
            http::Request::builder().header("authorization", "Bearer ").body(()).unwrap().into_parts();
        assert!(authorize(&parts, Some(&path)).is_err());
        assert!(prepare_token(Path::new("/nowhere/at/all")).is_err());
    }
}
