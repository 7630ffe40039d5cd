//! The request for a token and its answer, as pure functions. There are three ways: an application's secret, a token
//! that the platform projects (workload identity federation), and the instance metadata service (managed identity).

use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::config::SecretString;

/// The audience of App Configuration in the public cloud, for hosts that do not tell it.
const CLOUD_WIDE_AUDIENCE: &str = "https://appconfig.azure.com";

/// A token is renewed when a quarter of its lifetime is left, and at the earliest this long before its end.
const MOST_AHEAD: Duration = Duration::from_secs(15 * 60);

/// Everything but the unreserved characters of RFC 3986 §2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The identity that a token is requested for, and its proof.
#[derive(Clone, Copy, Debug)]
pub enum Principal<'a> {
    /// An application with its secret, or with the assertion that the platform projected.
    Application {
        /// The tenant.
        tenant_id: &'a str,
        /// The application.
        client_id: &'a str,
        /// Its proof.
        proof: ClientCredential<'a>,
    },
    /// The machine's identity; `client_id` names one of several, empty the machine's own.
    Managed {
        /// The user-assigned identity.
        client_id: &'a str,
    },
}

/// The proof of an application.
#[derive(Clone, Copy, Debug)]
pub enum ClientCredential<'a> {
    /// Its secret.
    Secret(&'a SecretString),
    /// A token of the platform, exchanged by federation.
    Assertion(&'a SecretString),
}

/// A request for a token.
#[derive(Debug)]
pub struct TokenRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// Its fields.
    pub fields: HeaderMap,
    /// Its body; empty for `GET`.
    pub body: Zeroizing<Vec<u8>>,
}

/// The tenant cannot be part of a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tenant cannot be a segment of a path; set tenant_id to the id or domain name of the tenant")]
pub struct TenantError;

/// The request for a token for this audience.
pub fn token_request(identity: Principal<'_>, audience: &str) -> Result<TokenRequest, TenantError> {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let mut fields = HeaderMap::new();
    fields.insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
    match identity {
        Principal::Managed { client_id } => {
            fields.insert("metadata", HeaderValue::from_static("true"));
            let mut target = format!(
                "/metadata/identity/oauth2/token?api-version=2018-02-01&resource={}",
                encoded(audience)
            );
            if !client_id.is_empty() {
                target.push_str(&format!("&client_id={}", encoded(client_id)));
            }
            let target = target.parse().map_err(|_| TenantError)?;
            Ok(TokenRequest { method: Method::GET, target, fields, body: Zeroizing::default() })
        }
        Principal::Application { tenant_id, client_id, proof } => {
            let target =
                format!("/{}/oauth2/v2.0/token", encoded(tenant_id)).parse().map_err(|_| TenantError)?;
            fields.insert(
                http::header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
            let scope = format!("{}/.default", audience.trim_end_matches('/'));
            let mut body = Zeroizing::new(String::with_capacity(4096));
            body.push_str("grant_type=client_credentials");
            body.push_str(&format!("&client_id={}&scope={}", encoded(client_id), encoded(&scope)));
            match proof {
                ClientCredential::Secret(secret) => {
                    body.push_str("&client_secret=");
                    body.extend(utf8_percent_encode(secret.expose(), ENCODED));
                }
                ClientCredential::Assertion(assertion) => {
                    body.push_str(
                        "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
                         &client_assertion=",
                    );
                    body.extend(utf8_percent_encode(assertion.expose(), ENCODED));
                }
            }
            let body = Zeroizing::new(body.as_bytes().to_vec());
            Ok(TokenRequest { method: Method::POST, target, fields, body })
        }
    }
}

/// The audience for a host of App Configuration: from the label `azconfig` or `appconfig` on, as the SDKs derive it.
pub fn audience_of(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    match labels.iter().position(|label| matches!(*label, "azconfig" | "appconfig")) {
        Some(index) if index > 0 => format!("https://{}", labels[index..].join(".")),
        _ => CLOUD_WIDE_AUDIENCE.to_owned(),
    }
}

/// A token and its times.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself.
    pub text: SecretString,
    /// When it expires.
    pub expires: Timestamp,
    /// When to request the next one.
    pub refresh_at: Timestamp,
}

/// Why an answer holds no token. It never contains a part of the answer except well-known words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenAnswerError {
    /// An error of the issuer.
    #[error("the issuer of tokens answered {status}{}; check tenant, client and their secret or federation", .code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused {
        /// The status.
        status: StatusCode,
        /// The issuer's own code, such as `invalid_client` or `AADSTS7000215`.
        code: Option<String>,
    },
    /// The answer is not that of a token endpoint.
    #[error("the issuer of tokens answered something that is no token; check authority or imds")]
    Malformed,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    expires_in: Option<Number>,
    expires_on: Option<Number>,
    refresh_in: Option<Number>,
}

#[derive(Deserialize)]
struct ErrorResponse {
    error: Option<String>,
    error_description: Option<String>,
}

/// Seconds, which the metadata service writes in quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

impl Number {
    fn seconds(&self) -> Option<u64> {
        match self {
            Self::Plain(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// Reads the answer to a request for a token that was received at `now`.
pub fn read_token(status: StatusCode, body: &[u8], now: Timestamp) -> Result<Token, TokenAnswerError> {
    if status != StatusCode::OK {
        let refusal = serde_json::from_slice::<ErrorResponse>(body).ok();
        return Err(TokenAnswerError::Refused { status, code: refusal.and_then(|refusal| refusal.code()) });
    }
    let answer: TokenResponse = serde_json::from_slice(body).map_err(|_| TokenAnswerError::Malformed)?;
    let text = SecretString::new(answer.access_token);
    let sendable = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !sendable(text.expose()) {
        return Err(TokenAnswerError::Malformed);
    }
    let seconds = |number: &Option<Number>| number.as_ref().and_then(Number::seconds);
    let lifetime = match (seconds(&answer.expires_in), seconds(&answer.expires_on)) {
        (Some(seconds), _) => Duration::from_secs(seconds),
        (None, Some(at)) => {
            Timestamp::from_unix_seconds(i64::try_from(at).map_err(|_| TokenAnswerError::Malformed)?)
                .since(now)
        }
        (None, None) => return Err(TokenAnswerError::Malformed),
    };
    let ahead = (lifetime / 4).min(MOST_AHEAD);
    let refresh_in = seconds(&answer.refresh_in).map(Duration::from_secs).unwrap_or(lifetime);
    let refresh_at = now.plus(refresh_in.min(lifetime.saturating_sub(ahead)));
    Ok(Token { text, expires: now.plus(lifetime), refresh_at })
}

impl ErrorResponse {
    /// `AADSTS` and its number if the description begins so, else the word of RFC 6749 §5.2. Any other text of an
    /// issuer may repeat the secret that it was sent.
    fn code(&self) -> Option<String> {
        let description = self.error_description.as_deref().unwrap_or_default();
        if let Some(rest) = description.strip_prefix("AADSTS") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).take(12).collect();
            return Some(format!("AADSTS{digits}"));
        }
        const WORDS: [&str; 8] = [
            "invalid_request",
            "invalid_client",
            "invalid_grant",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "invalid_resource",
            "temporarily_unavailable",
        ];
        let error = self.error.as_deref()?;
        WORDS.iter().find(|word| **word == error).map(|word| (*word).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_763_719_200);

    #[test]
    fn the_audience_is_that_of_the_cloud() {
        for (host, audience) in [
            ("contoso.azconfig.io", "https://azconfig.io"),
            ("Contoso-replica.AzConfig.azure.us", "https://azconfig.azure.us"),
            ("contoso.appconfig.azure.example", "https://appconfig.azure.example"),
            ("127.0.0.1", "https://appconfig.azure.com"),
            ("azconfig.io", "https://appconfig.azure.com"),
            ("azconfig.io.evil.test", "https://appconfig.azure.com"),
        ] {
            assert_eq!(audience_of(host), audience, "{host}");
        }
    }

    #[test]
    fn requests_are_as_documented_and_injection_proof() {
        let secret = SecretString::new("a&b=c d".to_owned());
        let application =
            |proof| Principal::Application { tenant_id: "t/../x", client_id: "c&scope=y", proof };
        let request =
            token_request(application(ClientCredential::Secret(&secret)), "https://azconfig.io").unwrap();
        assert_eq!(
            (request.method, request.target.as_str()),
            (Method::POST, "/t%2F..%2Fx/oauth2/v2.0/token")
        );
        assert_eq!(
            String::from_utf8_lossy(&request.body),
            "grant_type=client_credentials&client_id=c%26scope%3Dy&scope=https%3A%2F%2Fazconfig.io%2F.default\
             &client_secret=a%26b%3Dc%20d"
        );
        let request = token_request(application(ClientCredential::Assertion(&secret)), "https://a/").unwrap();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert!(body.contains("scope=https%3A%2F%2Fa%2F.default&client_assertion_type=urn%3Aietf"), "{body}");
        assert!(body.ends_with("jwt-bearer&client_assertion=a%26b%3Dc%20d"), "{body}");
        let request = token_request(Principal::Managed { client_id: "id 1" }, "https://azconfig.io").unwrap();
        assert_eq!(
            request.target.as_str(),
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fazconfig.io&client_id=id%201"
        );
        assert_eq!(
            (request.method, &request.fields["metadata"]),
            (Method::GET, &HeaderValue::from_static("true"))
        );
    }

    #[test]
    fn tokens_are_renewed_well_before_they_end() {
        let read = |body: &str| read_token(StatusCode::OK, body.as_bytes(), NOW).unwrap();
        let minutes = |token: &Token| {
            (token.refresh_at.since(NOW).as_secs() / 60, token.expires.since(NOW).as_secs() / 60)
        };
        assert_eq!(minutes(&read(r#"{"access_token":"t","expires_in":3600}"#)), (45, 60));
        assert_eq!(minutes(&read(r#"{"access_token":"t","expires_in":"86400"}"#)), (24 * 60 - 15, 24 * 60));
        assert_eq!(minutes(&read(r#"{"access_token":"t","expires_on":"1763722800"}"#)), (45, 60));
        assert_eq!(minutes(&read(r#"{"access_token":"t","expires_in":7200,"refresh_in":3600}"#)), (60, 120));
        assert_eq!(minutes(&read(r#"{"access_token":"t","expires_in":3600,"refresh_in":9999}"#)), (45, 60));
        assert_eq!(minutes(&read(r#"{"access_token":"t","expires_in":0}"#)), (0, 0));
    }

    #[test]
    fn what_is_no_token_is_told_without_quoting() {
        let failed = |status, body: &str| {
            read_token(StatusCode::from_u16(status).unwrap(), body.as_bytes(), NOW).unwrap_err()
        };
        for body in [
            "",
            "<html>hunter2</html>",
            r#"{"access_token":"hunter2"}"#,
            r#"{"access_token":"a b","expires_in":1}"#,
        ] {
            assert_eq!(failed(200, body), TokenAnswerError::Malformed, "{body}");
        }
        let text = failed(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret hunter2"}"#,
        )
        .to_string();
        assert!(
            text.contains("401") && text.contains("AADSTS7000215") && !text.contains("hunter2"),
            "{text}"
        );
        let text = failed(400, r#"{"error":"hunter2"}"#).to_string();
        assert!(text.contains("400") && !text.contains("hunter2"), "{text}");
        assert!(failed(400, r#"{"error":"invalid_request"}"#).to_string().contains("invalid_request"));
    }
}
