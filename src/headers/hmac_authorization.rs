//! `Authorization: HMAC-SHA256 Credential=…&SignedHeaders=…&Signature=…` (Azure App Configuration, "HMAC
//! authentication"): grammar, string to sign, signing and verification.
//!
//! The string to sign is, byte for byte and without a line feed at its end:
//!
//! ```text
//! METHOD LF request-target-as-on-the-request-line LF values of the signed headers, in the order listed, joined by ";"
//! ```

use http::header::{AUTHORIZATION, DATE, HOST};
use http::{HeaderMap, HeaderName};
use std::time::Duration;
use subtle::ConstantTimeEq as _;

use super::access_key::{AccessKey, EMPTY_CONTENT_SHA256, content_sha256};
use super::request_date::parse_signing_date;
use crate::clock::Timestamp;

/// The authentication scheme.
pub const SCHEME: &str = "HMAC-SHA256";
/// The field with the date of a signed request; it wins over `Date` when both are signed.
pub const X_MS_DATE: HeaderName = HeaderName::from_static("x-ms-date");
/// The field with the base64 SHA-256 of the request body.
pub const X_MS_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-ms-content-sha256");
/// The greatest difference between the date of a signed request and the verifier's clock, in either direction.
pub const MAXIMUM_CLOCK_DIFFERENCE: Duration = Duration::from_secs(15 * 60);

/// Why a request is not authenticated. [`AuthorizationError::description`] is the text on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// No `Authorization` of this scheme.
    #[error("the request is not signed; use a connection string with an access key")]
    Missing,
    /// No `SignedHeaders` parameter.
    #[error("Authorization has no SignedHeaders; list x-ms-date;host;x-ms-content-sha256")]
    SignedHeadersMissing,
    /// `SignedHeaders` contains an invalid field name.
    #[error("SignedHeaders has an empty or invalid name; separate names with single semicolons")]
    SignedHeadersInvalid,
    /// A field that is listed, or must be listed, is absent.
    #[error("the signed header '{0}' is missing; sign and send it")]
    HeaderNotFound(String),
    /// The signed date is not a valid date.
    #[error("the signed date cannot be read; send x-ms-date as an HTTP date in GMT")]
    DateInvalid,
    /// The signed date is more than [`MAXIMUM_CLOCK_DIFFERENCE`] away.
    #[error("the signed date is more than 15 minutes away from this clock; set the clocks right")]
    Expired,
    /// `Credential` is absent or names no known access key.
    #[error("the credential is unknown; check the Id of the connection string")]
    CredentialUnknown,
    /// No `Signature` parameter.
    #[error("Authorization has no Signature; sign the request")]
    SignatureMissing,
    /// The signature is not that of this request under this key.
    #[error("the signature does not fit the request; check the Secret of the connection string")]
    SignatureInvalid,
    /// The signature is that of the target without its leading `/`: the client joins paths to an endpoint that ends in one.
    #[error(
        "the signature fits the target without its leading slash; remove the slash at the end of Endpoint in the \
         connection string"
    )]
    SlashNotSigned,
    /// The body does not hash to `x-ms-content-sha256`.
    #[error("the body does not hash to x-ms-content-sha256; sign the bytes that are sent")]
    ContentHashInvalid,
}

impl AuthorizationError {
    /// The `error_description` on the wire; `None` if the challenge is sent without one.
    #[must_use]
    pub fn description(&self) -> Option<String> {
        let text = match self {
            Self::Missing => return None,
            Self::SignedHeadersMissing => "SignedHeaders parameter is required",
            Self::SignedHeadersInvalid => "Invalid SignedHeaders parameter",
            Self::HeaderNotFound(name) => {
                return Some(format!("Required signing request header '{name}' not found"));
            }
            Self::DateInvalid => "Invalid access token date",
            Self::Expired => "The access token has expired",
            Self::CredentialUnknown => "Invalid Credential",
            Self::SignatureMissing => "Signature is required",
            Self::SignatureInvalid | Self::SlashNotSigned => "Invalid Signature",
            Self::ContentHashInvalid => "Invalid request content hash",
        };
        Some(text.to_owned())
    }

    /// The value of `WWW-Authenticate` that answers this error.
    #[must_use]
    pub fn challenge(&self) -> String {
        self.description().map_or_else(
            || SCHEME.to_owned(),
            |text| {
                // A field name holds token characters only, so it contains neither quote nor backslash (RFC 9110
                // §5.6.2).
                format!("{SCHEME} error=\"invalid_token\", error_description=\"{text}\"")
            },
        )
    }
}

/// The parts of a request that a signature covers.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The method; signed in upper case.
    pub method: &'a str,
    /// The request target exactly as on the request line: path, `?` and query.
    pub target: &'a str,
    /// The header section, `Authorization` included.
    pub headers: &'a HeaderMap,
    /// `:authority` of HTTP/2, which stands in for an absent `Host`.
    pub authority: Option<&'a str>,
}

/// A request with a valid signature. Its body must still be compared: [`Verified::check_content`].
#[derive(Debug)]
#[must_use = "the body is not covered until check_content has seen it"]
pub struct Verified<'k> {
    /// The key that signed the request.
    pub key: &'k AccessKey,
    content: SignedContent,
}

impl Verified<'_> {
    /// Compares the body with the signed hash.
    ///
    /// # Errors
    /// [`AuthorizationError::ContentHashInvalid`] when they differ.
    pub fn check_content(&self, body: &[u8]) -> Result<(), AuthorizationError> {
        self.content.check(body)
    }

    /// The signed hash that the body must be compared with when it has arrived.
    #[must_use = "the body is not covered until it has been compared"]
    pub fn into_content(self) -> SignedContent {
        self.content
    }
}

/// The signed hash of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedContent {
    sha256: String,
}

impl SignedContent {
    /// Compares the body with the signed hash.
    ///
    /// # Errors
    /// [`AuthorizationError::ContentHashInvalid`] when they differ.
    pub fn check(&self, body: &[u8]) -> Result<(), AuthorizationError> {
        let equal = if body.is_empty() {
            EMPTY_CONTENT_SHA256.as_bytes().ct_eq(self.sha256.as_bytes())
        } else {
            content_sha256(body).as_bytes().ct_eq(self.sha256.as_bytes())
        };
        if equal.into() { Ok(()) } else { Err(AuthorizationError::ContentHashInvalid) }
    }
}

/// The parameters of an `Authorization` of this scheme, as received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HmacAuthorization<'a> {
    /// The id of the access key.
    pub credential: Option<&'a str>,
    /// The names of the signed fields, joined by `;`.
    pub signed_headers: Option<&'a str>,
    /// The base64 signature.
    pub signature: Option<&'a str>,
}

impl<'a> HmacAuthorization<'a> {
    /// Reads a field value; `None` if it has another scheme. Parameters are separated by `&` or, as in some published
    /// samples, by `,`. Each is split at its first `=`, because signatures end in one. The first of a name counts.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let value = value.trim_ascii();
        let (scheme, parameters) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let mut parsed = Self::default();
        for (name, value) in
            parameters.split(['&', ',']).filter_map(|parameter| parameter.trim_ascii().split_once('='))
        {
            let slot = match name {
                _ if name.eq_ignore_ascii_case("Credential") => &mut parsed.credential,
                _ if name.eq_ignore_ascii_case("SignedHeaders") => &mut parsed.signed_headers,
                _ if name.eq_ignore_ascii_case("Signature") => &mut parsed.signature,
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        Some(parsed)
    }
}

/// The bytes that a signature covers, from the values of the signed fields in their order.
#[must_use]
pub fn string_to_sign<'v>(method: &str, target: &str, values: impl IntoIterator<Item = &'v [u8]>) -> Vec<u8> {
    let mut text = method.to_ascii_uppercase().into_bytes();
    text.push(b'\n');
    text.extend_from_slice(target.as_bytes());
    text.push(b'\n');
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            text.push(b';');
        }
        text.extend_from_slice(value);
    }
    text
}

/// The value of `Authorization` for a request that signs `x-ms-date`, `Host` and `x-ms-content-sha256`, which must be
/// sent as given here.
#[must_use]
pub fn authorization(
    key: &AccessKey,
    method: &str,
    target: &str,
    date: &str,
    host: &str,
    content_sha256: &str,
) -> String {
    let text = string_to_sign(method, target, [date.as_bytes(), host.as_bytes(), content_sha256.as_bytes()]);
    let (id, signature) = (key.id(), key.sign(&text));
    format!("{SCHEME} Credential={id}&SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}")
}

/// Verifies the signature of a request in the order of the service: signed headers, date, clock, credential, signature.
/// The caller then compares the body with [`Verified::check_content`].
///
/// A signature over the host in capitals, or over a spelling of `localhost` with capitals, is accepted and marked: one
/// SDK signs the host as its user wrote it but sends it in lower case. No other deviation is accepted.
///
/// # Errors
/// [`AuthorizationError`] with the text that the service answers.
pub fn verify<'k>(
    request: &SignedRequest<'_>,
    now: Timestamp,
    key_of: impl FnOnce(&str) -> Option<&'k AccessKey>,
) -> Result<Verified<'k>, AuthorizationError> {
    use AuthorizationError as Error;

    let field =
        request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or(Error::Missing)?;
    let presented = HmacAuthorization::parse(field).ok_or(Error::Missing)?;

    let listed =
        presented.signed_headers.filter(|list| !list.is_empty()).ok_or(Error::SignedHeadersMissing)?;
    let names = listed
        .split(';')
        .map(|name| HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::SignedHeadersInvalid))
        .collect::<Result<Vec<_>, _>>()?;
    let values = names.iter().map(|name| request.value(name)).collect::<Result<Vec<_>, _>>()?;
    let value_of = |name: &HeaderName| {
        names.iter().position(|listed| listed == name).and_then(|index| values.get(index)).map(Vec::as_slice)
    };
    let date = value_of(&X_MS_DATE).or_else(|| value_of(&DATE)).ok_or_else(|| not_found(&X_MS_DATE))?;
    let host = value_of(&HOST).ok_or_else(|| not_found(&HOST))?;
    let content_sha256 = value_of(&X_MS_CONTENT_SHA256).ok_or_else(|| not_found(&X_MS_CONTENT_SHA256))?;

    let signed_at = std::str::from_utf8(date).ok().and_then(parse_signing_date).ok_or(Error::DateInvalid)?;
    if now.since(signed_at).max(signed_at.since(now)) > MAXIMUM_CLOCK_DIFFERENCE {
        return Err(Error::Expired);
    }
    let key = presented.credential.and_then(key_of).ok_or(Error::CredentialUnknown)?;
    let signature = presented.signature.filter(|text| !text.is_empty()).ok_or(Error::SignatureMissing)?;

    let signs = |target: &str, signed_host: &[u8]| {
        let signed =
            names.iter().zip(&values).map(|(name, value)| if *name == HOST { signed_host } else { value });
        key.verify(&string_to_sign(request.method, target, signed), signature)
    };
    let content = SignedContent { sha256: String::from_utf8_lossy(content_sha256).into_owned() };
    let as_written = |spelling: &Vec<u8>| spelling != host && signs(request.target, spelling);
    if signs(request.target, host) || spellings(host).iter().any(as_written) {
        return Ok(Verified { key, content });
    }
    let without_slash = request.target.strip_prefix('/').is_some_and(|target| signs(target, host));
    Err(if without_slash { Error::SlashNotSigned } else { Error::SignatureInvalid })
}

/// The spellings of a host that a user may have written and its client sends in lower case.
fn spellings(host: &[u8]) -> Vec<Vec<u8>> {
    let mut spellings = vec![host.to_ascii_uppercase()];
    let name = b"localhost";
    if let Some((sent, port)) = host.split_at_checked(name.len())
        && sent.eq_ignore_ascii_case(name)
        && (port.is_empty() || port.starts_with(b":"))
    {
        spellings.extend([&b"Localhost"[..], b"LocalHost"].map(|written| [written, port].concat()));
    }
    spellings
}

impl SignedRequest<'_> {
    /// The value of a signed field, its lines joined by commas (RFC 9110 §5.3).
    fn value(&self, name: &HeaderName) -> Result<Vec<u8>, AuthorizationError> {
        let lines: Vec<&[u8]> = self.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
        match (lines.is_empty(), self.authority) {
            (false, _) => Ok(lines.join(&b","[..])),
            (true, Some(authority)) if *name == HOST => Ok(authority.as_bytes().to_vec()),
            (true, _) => Err(not_found(name)),
        }
    }
}

fn not_found(name: &HeaderName) -> AuthorizationError {
    AuthorizationError::HeaderNotFound(name.as_str().to_owned())
}

#[cfg(test)]
mod tests;
