//! Connections over the network: TCP, TLS by rustls with HTTP/2 by ALPN, and the proxy that the environment names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tower_service::Service;

use super::dial::{Dial, UpstreamIo};
use crate::config::input_file::{self, CERTIFICATES_LIMIT_BYTES};
use crate::config::{UpstreamProxy, UpstreamTls};

/// Why the upstream's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read, or does not contain what was looked for.
    #[error("cannot read {what} from {path}: {source}; check the path, the permissions and that it is PEM", path = path.display())]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate authority, client certificate or key is not usable.
    #[error("cannot use {what} from {path}: {source}; check that it is a valid X.509 PEM file", path = path.display())]
    Certificate {
        /// What was refused.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: rustls::Error,
    },
    /// One of a client certificate's two files is not configured.
    #[error(
        "a client certificate needs both tls.client_certificate_file and tls.client_key_file; set both or none"
    )]
    HalfClientCertificate,
    /// The cryptography library refuses its own defaults.
    #[error("TLS cannot be set up: {0}; report this with your version")]
    Protocol(rustls::Error),
}

/// Dials over the network.
#[derive(Clone, Debug)]
pub struct NetworkDial {
    tcp: HttpConnector,
    proxies: Arc<Matcher>,
    settings: Arc<UpstreamTls>,
    /// Made for the first connection that needs it: to read all roots of the system takes longer than the rest of the start, and
    /// their memory is wasted on an upstream without TLS.
    tls: Arc<OnceCell<Arc<ClientConfig>>>,
    http2: bool,
}

impl NetworkDial {
    /// A dialler that trusts the roots of the system, the bundled ones and the configured one. What is configured is read now, so
    /// that a mistake in it shows at start.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be used.
    pub fn new(tls: &UpstreamTls, proxy: &UpstreamProxy, http2: bool) -> Result<Self, TlsError> {
        let _checked = client_config(tls, RootCertStore::empty())?;
        let proxies = match proxy {
            UpstreamProxy::Environment => Matcher::from_env(),
            UpstreamProxy::None => Matcher::builder().build(),
            UpstreamProxy::Url(url) => Matcher::builder().all(url.to_string()).build(),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let (settings, tls) = (Arc::new(tls.clone()), Arc::default());
        Ok(Self { tcp, proxies: Arc::new(proxies), settings, tls, http2 })
    }

    async fn dial(self, uri: Uri) -> io::Result<Box<dyn UpstreamIo>> {
        if uri.scheme_str() != Some("https") {
            // A proxy is asked for a tunnel only: plain HTTP goes straight to the upstream, which is on this machine or its
            // network, and never through a proxy that could read the credential.
            let connected = self.tcp.clone().call(uri).await;
            return boxed(connected.map(MaybeHttpsStream::Http));
        }
        let tls = self.tls.get_or_try_init(|| client_config_with_roots(Arc::clone(&self.settings))).await?;
        let Some(proxy) = self.proxies.intercept(&uri) else {
            return boxed(https(tls, self.http2, self.tcp).call(uri).await);
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        boxed(https(tls, self.http2, tunnel).call(uri).await)
    }
}

impl Dial for NetworkDial {
    fn dial(&self, uri: Uri) -> BoxFuture<'static, io::Result<Box<dyn UpstreamIo>>> {
        Box::pin(self.clone().dial(uri))
    }
}

type NetworkStream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

impl UpstreamIo for NetworkStream {
    fn is_http2(&self) -> bool {
        self.inner().connected().is_negotiated_h2()
    }
}

fn boxed(
    connected: Result<
        MaybeHttpsStream<TokioIo<TcpStream>>,
        impl Into<Box<dyn std::error::Error + Send + Sync>>,
    >,
) -> io::Result<Box<dyn UpstreamIo>> {
    match connected {
        Ok(stream) => Ok(Box::new(TokioIo::new(stream))),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn https<C>(tls: &Arc<ClientConfig>, http2: bool, connector: C) -> HttpsConnector<C> {
    let builder = HttpsConnectorBuilder::new().with_tls_config(ClientConfig::clone(tls)).https_or_http();
    if http2 {
        builder.enable_all_versions().wrap_connector(connector)
    } else {
        builder.enable_http1().wrap_connector(connector)
    }
}

/// The same with the roots that are there without being configured.
async fn client_config_with_roots(tls: Arc<UpstreamTls>) -> io::Result<Arc<ClientConfig>> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        // Roots of the system that cannot be read are left out: the bundled ones remain.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        client_config(&tls, roots)
    });
    let config = reading.await.map_err(io::Error::other)?;
    config.map(Arc::new).map_err(io::Error::other)
}

fn client_config(tls: &UpstreamTls, mut roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    if let Some(path) = &tls.ca_file {
        for certificate in certificates("certificate authorities (tls.ca_file)", path)? {
            roots.add(certificate).map_err(|source| TlsError::Certificate {
                what: "a certificate authority (tls.ca_file)",
                path: path.to_owned(),
                source,
            })?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Protocol)?
        .with_root_certificates(roots);
    match (&tls.client_certificate_file, &tls.client_key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(chain), Some(key)) => {
            let private_key = input_file::read_secret(key)
                .map_err(pem::Error::Io)
                .and_then(|(_, text)| PrivateKeyDer::from_pem_slice(text.as_bytes()))
                .map_err(|source| TlsError::Pem {
                    what: "the client's private key (tls.client_key_file)",
                    path: key.to_owned(),
                    source,
                })?;
            let chain_certificates =
                certificates("the client's certificate (tls.client_certificate_file)", chain)?;
            builder.with_client_auth_cert(chain_certificates, private_key).map_err(|source| {
                TlsError::Certificate {
                    what: "the client's certificate (tls.client_certificate_file)",
                    path: chain.to_owned(),
                    source,
                }
            })
        }
        _ => Err(TlsError::HalfClientCertificate),
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { what, path: path.to_owned(), source };
    let (_, text) =
        input_file::read(path, CERTIFICATES_LIMIT_BYTES).map_err(|error| pem(pem::Error::Io(error)))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(pem)?;
    if found.is_empty() { Err(pem(rustls::pki_types::pem::Error::NoItemsFound)) } else { Ok(found) }
}
