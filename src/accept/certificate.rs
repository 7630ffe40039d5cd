//! The certificate of a TLS listener, read again when its files change, so that it is renewed without restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::input_file::{self, CERTIFICATES_LIMIT_BYTES};

/// How often the files are looked at. Renewals happen days before an expiry.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Why a listener's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A PEM file cannot be read or holds no such thing.
    #[error("cannot read {what} from {path}: {source}; check the path, the permissions and that it is PEM", path = path.display())]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// The two do not belong together, or are of a kind that is not understood.
    #[error("cannot use the certificate {path} (tls.certificate_file): {source}; check that the key belongs to it", path = path.display())]
    Unusable {
        /// The file of the certificate.
        path: PathBuf,
        /// What went wrong.
        source: rustls::Error,
    },
}

/// The certificate of one listener.
#[derive(Debug)]
pub struct Certificate {
    certificate_file: PathBuf,
    key_file: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// Reads chain and key (PEM).
    ///
    /// # Errors
    /// [`CertificateError`] names the file that cannot be used.
    pub fn read(certificate_file: &Path, key_file: &Path) -> Result<Arc<Self>, CertificateError> {
        let current = ArcSwap::from_pointee(read(certificate_file, key_file)?);
        Ok(Arc::new(Self { certificate_file: certificate_file.into(), key_file: key_file.into(), current }))
    }

    /// What a listener needs to speak TLS with this certificate; HTTP/2 is offered if `http2`.
    ///
    /// # Errors
    /// When the cryptography library refuses its own defaults.
    pub fn acceptor(self: &Arc<Self>, http2: bool) -> Result<TlsAcceptor, CertificateError> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| CertificateError::Unusable { path: self.certificate_file.clone(), source })?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        let http1: [&[u8]; 1] = [b"http/1.1"];
        let both: [&[u8]; 2] = [b"h2", b"http/1.1"];
        let offered: &[&[u8]] = if http2 { &both } else { &http1 };
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again, now. What was read before stays in use if they cannot be used.
    ///
    /// # Errors
    /// [`CertificateError`] names the file that cannot be used.
    pub fn read_again(&self) -> Result<(), CertificateError> {
        self.current.store(Arc::new(read(&self.certificate_file, &self.key_file)?));
        Ok(())
    }

    /// Looks at the files from time to time and reads them again when they have changed. Runs until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut seen = self.changed();
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        loop {
            interval.tick().await;
            let now = self.changed();
            if now == seen {
                continue;
            }
            let path = self.certificate_file.display();
            match self.read_again() {
                Ok(()) => {
                    tracing::info!(%path, "the certificate was read again");
                    seen = now;
                }
                // The two files may be written one after the other: it is tried again until it works.
                Err(error) => tracing::warn!(%error, "the certificate in use stays"),
            }
        }
    }

    fn changed(&self) -> [Option<SystemTime>; 2] {
        // Through symbolic links: Kubernetes swaps one to change both files at once.
        let modified = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        [modified(&self.certificate_file), modified(&self.key_file)]
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(certificate_file: &Path, key_file: &Path) -> Result<CertifiedKey, CertificateError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::Pem { what, path, source }
    };
    let chain = input_file::read(certificate_file, CERTIFICATES_LIMIT_BYTES)
        .map_err(pem::Error::Io)
        .and_then(|(_, text)| CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>())
        .map_err(failed("the certificate (tls.certificate_file)", certificate_file))?;
    let key = input_file::read_secret(key_file)
        .map_err(pem::Error::Io)
        .and_then(|(_, text)| PrivateKeyDer::from_pem_slice(text.as_bytes()))
        .map_err(failed("its private key (tls.key_file)", key_file))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|source| CertificateError::Unusable { path: certificate_file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(directory: &Path, name: &str) -> (PathBuf, PathBuf, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (certificate_file, key_file) = (directory.join("cert.pem"), directory.join("key.pem"));
        std::fs::write(&certificate_file, made.cert.pem()).unwrap();
        std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
        (certificate_file, key_file, made.cert.der().to_vec())
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate_file, key_file, first) = write_pair(directory.path(), "first.test");
        let certificate = Certificate::read(&certificate_file, &key_file).unwrap();
        let in_use = || certificate.current.load().cert[0].to_vec();
        assert_eq!(in_use(), first);
        let (_, _, second) = write_pair(directory.path(), "second.test");
        certificate.read_again().unwrap();
        assert_eq!(in_use(), second);
        std::fs::write(&certificate_file, "no certificate").unwrap();
        assert!(certificate.read_again().is_err());
        assert_eq!(in_use(), second);
        assert!(certificate.acceptor(true).is_ok());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_with_the_files_name() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (certificate_file, ..) = write_pair(one.path(), "one.test");
        let (_, key_file, _) = write_pair(other.path(), "other.test");
        let message = Certificate::read(&certificate_file, &key_file).unwrap_err().to_string();
        assert!(message.contains("cert.pem") && message.contains("key belongs"), "{message}");
        let absent = one.path().join("absent.pem");
        let message = Certificate::read(&absent, &key_file).unwrap_err().to_string();
        assert!(message.contains("absent.pem"), "{message}");
    }
}
