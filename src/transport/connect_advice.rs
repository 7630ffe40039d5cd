//! What the operator can do when no connection to the upstream comes about, by the cause.

use std::error::Error;
use std::io;

use rustls::{CertificateError, InvalidMessage};

/// What is wrong, where the library says it in words of the protocol, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectAdvice {
    /// In place of the library's own words.
    pub(super) cause: Option<&'static str>,
    pub(super) advice: &'static str,
}

impl ConnectAdvice {
    /// The advice for the innermost cause that is known.
    pub(super) fn on(error: &(dyn Error + 'static)) -> Self {
        let any = Self { cause: None, advice: "Check that it is up and that this machine can reach it" };
        Self::within(error).unwrap_or(any)
    }

    fn within(error: &(dyn Error + 'static)) -> Option<Self> {
        // The source of an `io::Error` is that of the error in it, which would be passed over.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
        let of_this = || error.downcast_ref().and_then(Self::on_tls).or_else(|| Self::on_io(error));
        next.and_then(Self::within).or_else(of_this)
    }

    fn on_tls(error: &rustls::Error) -> Option<Self> {
        let (cause, advice) = match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
                Some("it does not speak TLS on that port"),
                "Write http:// in upstream.url, or the port on which it speaks TLS",
            ),
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
                Some("no authority that is trusted here has signed its certificate"),
                "Name the file with that authority in upstream.tls.ca_file",
            ),
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => (None, "Write a host in upstream.url that its certificate names"),
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => (
                None,
                "Check the clock of this machine; the operator of that service must renew its certificate",
            ),
            _ => return None,
        };
        Some(Self { cause, advice })
    }

    fn on_io(error: &(dyn Error + 'static)) -> Option<Self> {
        let error = error.downcast_ref::<io::Error>()?;
        let advice = if error.kind() == io::ErrorKind::ConnectionRefused {
            "Nothing listens there: start it, or correct the port in upstream.url"
        } else if error.to_string().starts_with("failed to lookup address information") {
            "Correct the host in upstream.url, or check how this machine resolves names"
        } else {
            return None;
        };
        Some(Self { cause: None, advice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of a library around its cause.
    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Around(#[source] io::Error);

    fn advice(error: io::Error) -> ConnectAdvice {
        ConnectAdvice::on(&Around(error))
    }

    #[test]
    fn each_cause_has_its_advice() {
        // As rustls and its connector wrap it.
        let tls = |error: rustls::Error| {
            advice(io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error)))
        };
        let plain = tls(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType));
        assert_eq!(plain.cause, Some("it does not speak TLS on that port"));
        assert!(plain.advice.contains("http://"), "{plain:?}");
        let unknown = tls(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(unknown.advice.contains("upstream.tls.ca_file"), "{unknown:?}");
        let other_name = tls(rustls::Error::InvalidCertificate(CertificateError::NotValidForName));
        assert!(other_name.advice.contains("upstream.url"), "{other_name:?}");
        let expired = tls(rustls::Error::InvalidCertificate(CertificateError::Expired));
        assert!(expired.advice.contains("clock"), "{expired:?}");
        assert!(advice(io::ErrorKind::ConnectionRefused.into()).advice.contains("port"));
        let unresolved = io::Error::other("failed to lookup address information: Name or service not known");
        assert!(advice(unresolved).advice.contains("resolves names"));
        assert!(advice(io::ErrorKind::NetworkUnreachable.into()).advice.contains("can reach it"));
    }
}
