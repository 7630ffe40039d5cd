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

use super::access_key::{AccessKey, EMPTY_CONTENT_SHA256, Signature, SigningMac, content_sha256};
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
/// How many fields a signature may cover. Clients sign three.
pub const MAX_SIGNED_HEADERS: usize = 16;
/// The greatest length of the name of a signed field.
pub const MAX_SIGNED_NAME_BYTES: usize = 128;
/// No date and no hash is longer.
const MAX_SHORT_VALUE_BYTES: usize = 64;

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
    /// `SignedHeaders` lists a name twice, a very long one, or more than [`MAX_SIGNED_HEADERS`].
    #[error(
        "SignedHeaders lists a name twice, one of more than 128 bytes, or more than 16; list x-ms-date;host;x-ms-content-sha256"
    )]
    SignedHeadersExcessive,
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
    pub fn description(&self) -> Option<String> {
        let text = match self {
            Self::Missing => return None,
            Self::SignedHeadersMissing => "SignedHeaders parameter is required",
            Self::SignedHeadersInvalid | Self::SignedHeadersExcessive => "Invalid SignedHeaders parameter",
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

/// The value of `Authorization` for a request that signs `x-ms-date`, `Host` and `x-ms-content-sha256`, which must be
/// sent as given here.
pub fn authorization(
    key: &AccessKey,
    method: &str,
    target: &str,
    date: &str,
    host: &str,
    content_sha256: &str,
) -> String {
    let mut mac = key.mac();
    mac.update_in_capitals(method.as_bytes());
    for piece in ["\n", target, "\n", date, ";", host, ";", content_sha256] {
        mac.update(piece.as_bytes());
    }
    let (id, signature) = (key.id(), mac.signature());
    format!("{SCHEME} Credential={id}&SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}")
}

/// Verifies the signature of a request in the order of the service: signed headers, date, clock, credential, signature.
/// The caller then compares the body with [`Verified::check_content`].
///
/// Until the signature has been found right nothing of the request is copied but the signed names, of which there are at most
/// [`MAX_SIGNED_HEADERS`] of [`MAX_SIGNED_NAME_BYTES`]; each signed field is read where it is, at most five times.
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
    let names = signed_names(listed)?;
    if let Some(absent) = names.iter().find(|name| request.lines(name).next().is_none()) {
        return Err(not_found(absent));
    }
    let is_listed = |name: &HeaderName| names.contains(name);
    let date = [X_MS_DATE, DATE].into_iter().find(is_listed).ok_or_else(|| not_found(&X_MS_DATE))?;
    for needed in [HOST, X_MS_CONTENT_SHA256] {
        if !is_listed(&needed) {
            return Err(not_found(&needed));
        }
    }
    let signed_at = request
        .only_line(&date)
        .filter(|line| line.len() <= MAX_SHORT_VALUE_BYTES)
        .and_then(|line| std::str::from_utf8(line).ok())
        .and_then(parse_signing_date)
        .ok_or(Error::DateInvalid)?;
    if now.since(signed_at).max(signed_at.since(now)) > MAXIMUM_CLOCK_DIFFERENCE {
        return Err(Error::Expired);
    }
    let key = presented.credential.and_then(key_of).ok_or(Error::CredentialUnknown)?;
    let signature = presented.signature.filter(|text| !text.is_empty()).ok_or(Error::SignatureMissing)?;
    let signature = Signature::from_base64(signature).ok_or(Error::SignatureInvalid)?;

    let signs = |target: &str, host: HostSpelling| {
        let mut mac = key.mac();
        request.feed(&mut mac, target, &names, host);
        mac.fits(&signature)
    };
    if HostSpelling::ALL.into_iter().any(|host| request.may_be(host) && signs(request.target, host)) {
        // Another value than one hash of this length fits no body.
        let content_sha256 =
            request.only_line(&X_MS_CONTENT_SHA256).filter(|line| line.len() <= MAX_SHORT_VALUE_BYTES);
        let sha256 = String::from_utf8_lossy(content_sha256.unwrap_or_default()).into_owned();
        return Ok(Verified { key, content: SignedContent { sha256 } });
    }
    let without_slash =
        request.target.strip_prefix('/').is_some_and(|target| signs(target, HostSpelling::AsSent));
    Err(if without_slash { Error::SlashNotSigned } else { Error::SignatureInvalid })
}

/// The names that `SignedHeaders` lists.
fn signed_names(listed: &str) -> Result<Vec<HeaderName>, AuthorizationError> {
    use AuthorizationError as Error;

    let mut names: Vec<HeaderName> = Vec::with_capacity(4);
    for name in listed.split(';') {
        if names.len() == MAX_SIGNED_HEADERS || name.len() > MAX_SIGNED_NAME_BYTES {
            return Err(Error::SignedHeadersExcessive);
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::SignedHeadersInvalid)?;
        if names.contains(&name) {
            return Err(Error::SignedHeadersExcessive);
        }
        names.push(name);
    }
    Ok(names)
}

/// How a user may have written the host that its client sends in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostSpelling {
    AsSent,
    Capitals,
    /// This in the place of `localhost`.
    Localhost(&'static str),
}

impl HostSpelling {
    const ALL: [Self; 4] =
        [Self::AsSent, Self::Capitals, Self::Localhost("Localhost"), Self::Localhost("LocalHost")];
}

const LOCALHOST: &[u8] = b"localhost";

impl<'a> SignedRequest<'a> {
    /// The lines of a signed field.
    fn lines(&self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let mut sent = self.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).peekable();
        let absent = sent.peek().is_none() && *name == HOST;
        sent.chain(self.authority.filter(|_| absent).map(str::as_bytes))
    }

    /// The one line of a signed field; `None` if there are none or several.
    fn only_line(&self, name: &HeaderName) -> Option<&'a [u8]> {
        let mut lines = self.lines(name);
        lines.next().filter(|_| lines.next().is_none())
    }

    /// Whether the host that was sent may have been written like that.
    fn may_be(&self, spelling: HostSpelling) -> bool {
        match spelling {
            HostSpelling::AsSent => true,
            HostSpelling::Capitals => self.lines(&HOST).flatten().any(u8::is_ascii_lowercase),
            HostSpelling::Localhost(_) => self.only_line(&HOST).is_some_and(|host| {
                host.split_at_checked(LOCALHOST.len()).is_some_and(|(name, port)| {
                    name.eq_ignore_ascii_case(LOCALHOST) && (port.is_empty() || port.starts_with(b":"))
                })
            }),
        }
    }

    /// Feeds the string to sign piece by piece. The lines of a field are joined by commas (RFC 9110 §5.3).
    fn feed(&self, mac: &mut SigningMac, target: &str, names: &[HeaderName], spelling: HostSpelling) {
        mac.update_in_capitals(self.method.as_bytes());
        mac.update(b"\n");
        mac.update(target.as_bytes());
        mac.update(b"\n");
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                mac.update(b";");
            }
            let spelling = if *name == HOST { spelling } else { HostSpelling::AsSent };
            for (index, line) in self.lines(name).enumerate() {
                if index > 0 {
                    mac.update(b",");
                }
                match spelling {
                    HostSpelling::AsSent => mac.update(line),
                    HostSpelling::Capitals => mac.update_in_capitals(line),
                    HostSpelling::Localhost(written) => {
                        mac.update(written.as_bytes());
                        mac.update(line.get(LOCALHOST.len()..).unwrap_or_default());
                    }
                }
            }
        }
    }
}

fn not_found(name: &HeaderName) -> AuthorizationError {
    AuthorizationError::HeaderNotFound(name.as_str().to_owned())
}

#[cfg(test)]
mod tests;
