//! Authentication of requests: access keys (HMAC-SHA256), bearer tokens, or none.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use subtle::ConstantTimeEq as _;

use super::options::EmulatorSettings;
use super::problem::Problem;
use crate::clock::Timestamp;
use crate::headers::access_key::{AccessKey, SecretBytes};
use crate::headers::hmac_authorization::{AuthorizationError, SCHEME, SignedRequest, Verified, verify};

/// What a credential may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Everything.
    ReadWrite,
    /// GET and HEAD; anything else is answered with 403.
    ReadOnly,
}

/// The credentials that the emulator accepts. If there are none, every request is allowed.
#[derive(Debug, Default)]
pub struct Authentication {
    keys: Vec<(AccessKey, Permission)>,
    bearer_tokens: Vec<(SecretBytes, Permission)>,
}

/// A request that may be answered after its body has been compared with the signed hash.
#[derive(Debug)]
pub enum Authenticated<'k> {
    /// Signed.
    Signed(Verified<'k>),
    /// With a bearer token, or without authentication.
    Other,
}

impl Authentication {
    /// From the configured credentials.
    pub fn new(settings: &EmulatorSettings) -> Self {
        Self {
            keys: with_permissions(&settings.hmac, &settings.hmac_read_only),
            bearer_tokens: with_permissions(&settings.bearer, &settings.bearer_read_only),
        }
    }

    /// Authenticates and authorises a request, except its body.
    ///
    /// # Errors
    /// 401 with one challenge for each scheme that is configured, or 403.
    pub fn check(&self, request: &SignedRequest<'_>, now: Timestamp) -> Result<Authenticated<'_>, Problem> {
        if self.keys.is_empty() && self.bearer_tokens.is_empty() {
            return Ok(Authenticated::Other);
        }
        if let Some(token) = bearer_token(request.headers) {
            let known = self.bearer_tokens.iter().filter(|(known, _)| known.expose().ct_eq(token).into());
            let permission =
                known.map(|(_, permission)| *permission).next().ok_or_else(|| self.refuse_bearer())?;
            authorise(permission, request.method)?;
            return Ok(Authenticated::Other);
        }
        let find = |id: &str| self.keys.iter().find(|(key, _)| key.id() == id);
        let key_of = |id: &str| find(id).map(|(key, _)| key);
        let verified = verify(request, now, key_of).map_err(|error| self.refuse_signature(&error))?;
        let permission = find(verified.key.id()).map(|(_, permission)| *permission);
        authorise(permission.unwrap_or(Permission::ReadOnly), request.method)?;
        Ok(Authenticated::Signed(verified))
    }

    /// Compares the body of a signed request.
    ///
    /// # Errors
    /// 401
    pub fn check_body(&self, authenticated: &Authenticated<'_>, body: &[u8]) -> Result<(), Problem> {
        match authenticated {
            Authenticated::Signed(verified) => {
                verified.check_content(body).map_err(|error| self.refuse_signature(&error))
            }
            Authenticated::Other => Ok(()),
        }
    }

    fn refuse_signature(&self, error: &AuthorizationError) -> Problem {
        let hmac = (!self.keys.is_empty()).then(|| error.challenge());
        let bearer = (!self.bearer_tokens.is_empty()).then(|| "Bearer".to_owned());
        Problem::Unauthorized(hmac.into_iter().chain(bearer).collect())
    }

    fn refuse_bearer(&self) -> Problem {
        let hmac = (!self.keys.is_empty()).then(|| SCHEME.to_owned());
        let bearer =
            "Bearer error=\"invalid_token\", error_description=\"Authorization token failed validation\""
                .to_owned();
        Problem::Unauthorized(hmac.into_iter().chain([bearer]).collect())
    }
}

fn with_permissions<T: Clone>(read_write: &[T], read_only: &[T]) -> Vec<(T, Permission)> {
    let read_write = read_write.iter().map(|credential| (credential.clone(), Permission::ReadWrite));
    read_write.chain(read_only.iter().map(|credential| (credential.clone(), Permission::ReadOnly))).collect()
}

fn authorise(permission: Permission, method: &str) -> Result<(), Problem> {
    let reads = method == Method::GET.as_str() || method == Method::HEAD.as_str();
    if permission == Permission::ReadOnly && !reads { Err(Problem::Forbidden) } else { Ok(()) }
}

fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::hmac_authorization::authorization;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_763_719_200);
    const EMPTY: &str = crate::headers::access_key::EMPTY_CONTENT_SHA256;

    fn key(id: &str) -> AccessKey {
        format!("{id}:c2VjcmV0").parse().unwrap()
    }

    fn both() -> Authentication {
        Authentication::new(&EmulatorSettings {
            hmac: vec![key("all")],
            hmac_read_only: vec![key("read")],
            bearer: vec![SecretBytes::new(b"writer".to_vec())],
            bearer_read_only: vec![SecretBytes::new(b"reader".to_vec())],
            ..EmulatorSettings::default()
        })
    }

    fn check(authentication: &Authentication, method: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let request = SignedRequest { method, target: "/kv", headers, authority: None };
        authentication.check(&request, NOW).and_then(|found| authentication.check_body(&found, b""))
    }

    fn signed(id: &str, method: &str, hash: &str) -> HeaderMap {
        let date = "Fri, 21 Nov 2025 10:00:00 GMT";
        let mut headers = HeaderMap::new();
        headers
            .insert(AUTHORIZATION, authorization(&key(id), method, "/kv", date, "h", hash).parse().unwrap());
        headers.insert("x-ms-date", date.parse().unwrap());
        headers.insert("host", "h".parse().unwrap());
        headers.insert("x-ms-content-sha256", hash.parse().unwrap());
        headers
    }

    fn bearer(token: &str) -> HeaderMap {
        [(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn without_credentials_every_request_is_allowed() {
        assert_eq!(check(&Authentication::default(), "DELETE", &HeaderMap::new()), Ok(()));
        assert_eq!(check(&Authentication::default(), "PUT", &signed("unknown", "PUT", EMPTY)), Ok(()));
    }

    #[test]
    fn keys_and_tokens_have_their_permissions() {
        for (method, headers, expected) in [
            ("PUT", signed("all", "PUT", EMPTY), Ok(())),
            ("GET", signed("read", "GET", EMPTY), Ok(())),
            ("HEAD", signed("read", "HEAD", EMPTY), Ok(())),
            ("PUT", signed("read", "PUT", EMPTY), Err(Problem::Forbidden)),
            ("PATCH", signed("read", "PATCH", EMPTY), Err(Problem::Forbidden)),
            ("PUT", bearer("writer"), Ok(())),
            ("GET", bearer("reader"), Ok(())),
            ("DELETE", bearer("reader"), Err(Problem::Forbidden)),
        ] {
            assert_eq!(check(&both(), method, &headers), expected, "{method}");
        }
    }

    #[test]
    fn a_401_has_one_challenge_for_each_scheme() {
        let challenges = |headers: &HeaderMap| match check(&both(), "GET", headers) {
            Err(Problem::Unauthorized(challenges)) => challenges,
            other => panic!("{other:?}"),
        };
        assert_eq!(challenges(&HeaderMap::new()), ["HMAC-SHA256", "Bearer"]);
        assert_eq!(
            challenges(&signed("other", "GET", EMPTY)),
            ["HMAC-SHA256 error=\"invalid_token\", error_description=\"Invalid Credential\"", "Bearer"]
        );
        assert_eq!(
            challenges(&signed("all", "GET", "AAAA")),
            [
                "HMAC-SHA256 error=\"invalid_token\", error_description=\"Invalid request content hash\"",
                "Bearer"
            ]
        );
        assert_eq!(
            challenges(&bearer("wrong")),
            [
                "HMAC-SHA256",
                "Bearer error=\"invalid_token\", error_description=\"Authorization token failed validation\""
            ]
        );
    }
}
