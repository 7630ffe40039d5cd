//! How a 401 of the upstream is explained to the caller: whose credential was refused, and what helps.

use http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Credential;
use super::refusal::refusal;
use crate::error::{ProxyError, RefusalReason, Refused};

/// Whose credential goes upstream with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentCredential {
    /// The sidecar's own, of this kind. The caller cannot do anything about a refusal.
    Own(&'static str),
    /// The caller's signature. It covers the `Host` of the sidecar, so it is not valid for the request that the
    /// upstream sees.
    SignedForSidecar,
    /// Another credential of the caller, or none: the 401 is about that, and is passed on.
    Callers,
}

impl SentCredential {
    /// The credential that goes with a request with these fields to the upstream of this authority.
    pub fn of(credential: &dyn Credential, fields: &HeaderMap, upstream: &Authority) -> Self {
        if let Some(kind) = credential.own_kind() {
            return Self::Own(kind);
        }
        let is_signed = credential.forwards_callers()
            && fields.get_all(AUTHORIZATION).iter().any(|line| covers_host(line.as_bytes()));
        let names_upstream = || {
            let host = fields.get(HOST).and_then(|host| host.to_str().ok());
            host.is_some_and(|host| host.eq_ignore_ascii_case(upstream.as_str()))
        };
        if is_signed && !names_upstream() { Self::SignedForSidecar } else { Self::Callers }
    }

    /// The explanation that replaces this answer; `None` if the answer is passed on.
    pub fn explains(
        self,
        status: StatusCode,
        fields: &HeaderMap,
        upstream: &Authority,
    ) -> Option<ProxyError> {
        if status != StatusCode::UNAUTHORIZED {
            return None;
        }
        match self {
            Self::Own(kind) => Some(ProxyError::CredentialRefused {
                upstream: upstream.to_string(),
                kind,
                advice: refusal(status, fields)?.advice(),
            }),
            Self::SignedForSidecar => Some(signed_for_sidecar(upstream).into()),
            Self::Callers => None,
        }
    }
}

/// Whether a value of `Authorization` is a signature in the scheme of Azure App Configuration, made over `Host` among others.
fn covers_host(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line).to_ascii_lowercase();
    let Some(parameters) = line.strip_prefix("hmac-sha256 ") else { return false };
    parameters.split(['&', ',']).any(|parameter| {
        let signed = parameter.trim().strip_prefix("signedheaders=");
        signed.is_some_and(|names| names.split(';').any(|name| name.trim() == "host"))
    })
}

/// The origin's status stays, because the request carried the caller's own credential. Only the reason is explained.
fn signed_for_sidecar(upstream: &Authority) -> Refused {
    let detail = format!(
        "The signature covers the Host of this sidecar, but {upstream} compares it with its own name, so that it can never be \
         valid there. Give the access key to the sidecar instead: upstream.credential.kind = \"hmac\" with \
         connection_string_file; it signs every request anew"
    );
    Refused::new(RefusalReason::SignedForSidecar, detail).with_field(
        WWW_AUTHENTICATE,
        HeaderValue::from_static(
            "HMAC-SHA256 error=\"invalid_token\", error_description=\"The signature covers the host of a sidecar; \
             give the access key to the sidecar (credential.kind = hmac)\"",
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{ForwardedCredential, NoCredential};

    const UPSTREAM: Authority = Authority::from_static("contoso.azconfig.io");

    fn fields(host: &'static str, authorization: &'static str) -> HeaderMap {
        [(HOST, host), (AUTHORIZATION, authorization)]
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .into_iter()
            .collect()
    }

    #[test]
    fn a_signature_fits_the_host_that_it_was_made_for() {
        for (host, authorization, expected) in [
            (
                "127.0.0.1:8484",
                "HMAC-SHA256 Credential=a&SignedHeaders=x-ms-date;host&Signature=b",
                SentCredential::SignedForSidecar,
            ),
            ("127.0.0.1:8484", "hmac-sha256 signedheaders=Host", SentCredential::SignedForSidecar),
            ("Contoso.azconfig.io", "HMAC-SHA256 SignedHeaders=host", SentCredential::Callers),
            ("127.0.0.1:8484", "HMAC-SHA256 SignedHeaders=x-ms-date", SentCredential::Callers),
            ("127.0.0.1:8484", "HMAC host", SentCredential::Callers),
            ("127.0.0.1:8484", "Bearer a", SentCredential::Callers),
        ] {
            let fields = fields(host, authorization);
            assert_eq!(
                SentCredential::of(&ForwardedCredential, &fields, &UPSTREAM),
                expected,
                "{host} {authorization}"
            );
            assert_eq!(
                SentCredential::of(&NoCredential, &fields, &UPSTREAM),
                SentCredential::Callers,
                "removed on the way"
            );
        }
    }

    #[test]
    fn only_a_401_is_explained_and_never_the_callers_own() {
        let status = |proof: SentCredential, status| {
            let status = StatusCode::from_u16(status).unwrap();
            proof.explains(status, &HeaderMap::new(), &UPSTREAM).map(|error| error.status().as_u16())
        };
        assert_eq!(status(SentCredential::Own("hmac"), 401), Some(502));
        assert_eq!(status(SentCredential::SignedForSidecar, 401), Some(401));
        assert_eq!(status(SentCredential::Callers, 401), None);
        for other in [200, 304, 403, 407, 500] {
            assert_eq!(status(SentCredential::Own("hmac"), other), None, "{other}");
            assert_eq!(status(SentCredential::SignedForSidecar, other), None, "{other}");
        }
    }
}
