//! Upstreams over real TLS: trusted certificates, HTTP/2 by ALPN, the client certificate of the sidecar, and tunnels.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tagalong::internals::clock::Clock;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::support::sidecar::Sidecar;

/// A certificate authority of the test, with its files for the sidecar.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

/// A certificate and its key.
struct Leaf {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn trusting(&self) -> String {
        format!("upstream.tls.ca_file={}", self.path("ca.pem").display())
    }

    fn leaf(&self, name: &str) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Leaf { certificate: certificate.der().clone(), key }
    }

    fn client_files(&self) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["sidecar".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.path("client.pem"), certificate.pem()).expect("a file");
        std::fs::write(self.path("client.key"), key.serialize_pem()).expect("a file");
        [
            format!("upstream.tls.client_certificate_file={}", self.path("client.pem").display()),
            format!("upstream.tls.client_key_file={}", self.path("client.key").display()),
        ]
    }
}

/// An origin over TLS that records the HTTP version of each request.
struct TlsOrigin {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Version>>>,
}

impl TlsOrigin {
    async fn start(authority: &Authority, protocols: &[&[u8]], wants_client: bool) -> Self {
        let leaf = authority.leaf("localhost");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("protocol versions");
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).expect("a key");
        let mut tls = builder.with_single_cert(vec![leaf.certificate], key).expect("a certificate");
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        seen.lock().expect("not poisoned").push(request.version());
                        let host = request
                            .uri()
                            .authority()
                            .map(ToString::to_string)
                            .or_else(|| Some(request.headers().get("host")?.to_str().ok()?.to_owned()));
                        let body = Full::new(Bytes::from(format!("for {}", host.unwrap_or_default())));
                        let answer = Response::builder().header("cache-control", "max-age=60").body(body);
                        async move { Ok::<_, Infallible>(answer.expect("an answer")) }
                    });
                    let connection = auto::Builder::new(TokioExecutor::new());
                    let _closed = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<Version> {
        self.asked.lock().expect("not poisoned").clone()
    }

    fn url(&self) -> String {
        format!("upstream.url=https://localhost:{}", self.address.port())
    }
}

async fn sidecar(origin: &TlsOrigin, settings: &[String]) -> Sidecar {
    let url = origin.url();
    let mut all = vec![url.as_str(), "upstream.proxy=none"];
    all.extend(settings.iter().map(String::as_str));
    Sidecar::start(origin.address, Clock::System, &all).await
}

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

#[tokio::test]
async fn the_newest_http_version_of_both_sides_is_used() {
    let authority = Authority::new();
    for (protocols, setting, version) in [
        (&[H2, H1][..], "upstream.http2=true", Version::HTTP_2),
        (&[H1][..], "upstream.http2=true", Version::HTTP_11),
        (&[H2, H1][..], "upstream.http2=false", Version::HTTP_11),
    ] {
        let origin = TlsOrigin::start(&authority, protocols, false).await;
        let sidecar = sidecar(&origin, &[authority.trusting(), setting.to_owned()]).await;
        let answer = sidecar.caller().await.send("GET /a").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.text(), format!("for localhost:{}", origin.address.port()));
        assert!(sidecar.caller().await.send("GET /a").await.is_hit());
        assert_eq!(origin.asked(), [version], "{setting}");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_with_the_reason() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(&authority, &[H1], false).await;
    let sidecar = sidecar(&origin, &[]).await;
    let answer = sidecar.caller().await.send("GET /a").await;
    assert_eq!(answer.status, 504);
    assert!(
        answer.text().contains("certificate. Name the file with that authority in upstream.tls.ca_file"),
        "{}",
        answer.text()
    );
    assert_eq!(origin.asked(), []);
}

#[tokio::test]
async fn an_upstream_that_requires_a_certificate_gets_the_configured_one() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(&authority, &[H1], true).await;
    let without = sidecar(&origin, &[authority.trusting()]).await;
    assert_eq!(without.caller().await.send("GET /a").await.status, 504);
    assert_eq!(origin.asked(), []);
    let [certificate, key] = authority.client_files();
    let with = sidecar(&origin, &[authority.trusting(), certificate, key]).await;
    assert_eq!(with.caller().await.send("GET /a").await.status, 200);
}

#[tokio::test]
async fn a_proxy_gets_connect_and_sees_only_the_tunnel() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(&authority, &[H1], false).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let proxy = listener.local_addr().expect("its address");
    let target = origin.address;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.expect("a line");
            if line.trim().is_empty() {
                break;
            }
            seen.lock().expect("not poisoned").push(line.trim().to_owned());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("writable");
        let mut upstream = TcpStream::connect(target).await.expect("the origin");
        let _closed = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    });
    let settings = [authority.trusting(), format!("upstream.proxy=http://{proxy}")];
    let sidecar = sidecar(&origin, &settings).await;
    let answer = sidecar.caller().await.send("GET /a").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = asked.lock().expect("not poisoned").clone();
    assert_eq!(asked[0], format!("CONNECT localhost:{} HTTP/1.1", origin.address.port()));
    assert!(asked.iter().all(|line| !line.to_ascii_lowercase().contains("authorization")), "{asked:?}");
}
