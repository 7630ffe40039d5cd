//! `tagalong tls init`: a certificate for a TLS listener of this machine, and the authority that clients must trust.
//!
//! The authority signs this one certificate, and then its key is dropped. Its name constraints permit only the names of
//! the certificate, so a client that trusts it accepts no other name.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use tagalong::Timestamp;

use crate::cli::CommandFailure;

/// The names that callers on the same machine use.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The lifetime of the certificate and the authority: the longest that the strictest clients accept.
const DAYS_VALID: i64 = 825;
const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// The flags of `tagalong tls init`.
#[derive(Args)]
pub(crate) struct MintOptions {
    /// Directory for the files: ca.pem for clients, cert.pem and key.pem for the listener
    #[arg(long, value_name = "DIR", default_value = "tagalong-tls")]
    directory: PathBuf,
    /// A further host name or address of the listener; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Replace existing files; give clients the new ca.pem afterwards
    #[arg(long)]
    force: bool,
}

/// A chain for one listener, in PEM.
struct Minted {
    authority: String,
    certificate: String,
    key: zeroize::Zeroizing<String>,
}

/// Writes the files. Returns the instructions for using them.
pub(crate) fn init(options: &MintOptions, now: Timestamp) -> Result<String, CommandFailure> {
    let minted = mint(&options.names, now).map_err(|error| {
        CommandFailure::NotTried(format!("cannot make the certificate: {error}; check each --name"))
    })?;
    let at = |name: &str| options.directory.join(name);
    // The key is written before the certificate, so that a process that finds the certificate finds its key too.
    let files = [
        (at("ca.pem"), minted.authority.as_str(), 0o644),
        (at("key.pem"), minted.key.as_str(), 0o600),
        (at("cert.pem"), minted.certificate.as_str(), 0o644),
    ];
    if !options.force
        && let Some((path, ..)) = files.iter().find(|(path, ..)| path.symlink_metadata().is_ok())
    {
        return Err(CommandFailure::NotTried(format!(
            "{} exists; choose another --directory, or replace all three files with --force",
            path.display()
        )));
    }
    std::fs::create_dir_all(&options.directory).map_err(|error| cannot_write(&options.directory, &error))?;
    for (path, text, mode) in &files {
        write(path, text, *mode, options.force).map_err(|error| cannot_write(path, &error))?;
    }
    let absolute = std::path::absolute(at("ca.pem")).unwrap_or_else(|_| at("ca.pem"));
    let absolute = absolute.display().to_string();
    let [ca, key, certificate] = files.map(|(path, ..)| path.display().to_string());
    Ok(format!(
        "Wrote {ca}, {certificate} and {key}.\n\
         Sidecar: --set listener.tls.certificate_file={certificate} --set listener.tls.key_file={key}\n\
         Clients that must trust {ca}:\n\
         \x20 Python SDK: connection_verify={absolute:?} as an argument of the client\n\
         \x20 JavaScript: NODE_EXTRA_CA_CERTS={absolute}\n\
         \x20 curl:       --cacert {ca}\n\
         They trust their other authorities as before. Do not set SSL_CERT_FILE (azure-core ignores it) or REQUESTS_CA_BUNDLE \
         (it replaces all other authorities).\n\
         Valid for {DAYS_VALID} days; make new ones with --force.\n"
    ))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> CommandFailure {
    CommandFailure::NotTried(format!("cannot write {}: {error}; choose another --directory", path.display()))
}

/// Writes a temporary file and moves it to its place, so that a listener that watches the files never reads an
/// incomplete one.
fn write(path: &Path, text: &str, mode: u32, replace: bool) -> std::io::Result<()> {
    let new_path = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new_path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
        if replace {
            std::fs::rename(&new_path, path)
        } else {
            // Unlike a rename, a link fails if another process has made the file meanwhile.
            std::fs::hard_link(&new_path, path)
        }
    });
    if !replace || written.is_err() {
        let _leftover = std::fs::remove_file(&new_path);
    }
    written
}

fn mint(more_names: &[String], now: Timestamp) -> Result<Minted, rcgen::Error> {
    let mut names: Vec<String> = LOCAL_NAMES.iter().map(|&name| name.to_owned()).collect();
    names.extend(more_names.iter().filter(|name| !LOCAL_NAMES.contains(&name.as_str())).cloned());

    let seconds = now.as_unix_seconds();
    // Valid from a day earlier, because the clocks of containers and their host may differ.
    let [from, until] = [seconds - SECONDS_A_DAY, seconds + DAYS_VALID * SECONDS_A_DAY].map(|second| {
        let time = jiff::Timestamp::from_second(second).unwrap_or_default();
        let date = jiff::tz::Offset::UTC.to_datetime(time);
        date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    });
    let mut authority = CertificateParams::default();
    authority.not_before = from;
    authority.not_after = until;
    authority.distinguished_name.push(DnType::CommonName, "tagalong, this machine only");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.name_constraints = Some(NameConstraints {
        permitted_subtrees: names.iter().map(|name| subtree(name)).collect(),
        excluded_subtrees: Vec::new(),
    });
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut leaf = CertificateParams::new(names)?;
    leaf.not_before = from;
    leaf.not_after = until;
    leaf.distinguished_name.push(DnType::CommonName, "tagalong");
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &authority)?;
    Ok(Minted {
        authority: authority.pem(),
        certificate: certificate.pem(),
        key: zeroize::Zeroizing::new(key.serialize_pem()),
    })
}

fn subtree(name: &str) -> GeneralSubtree {
    match name.parse() {
        Ok(IpAddr::V4(address)) => GeneralSubtree::IpAddress(CidrSubnet::V4(address.octets(), [u8::MAX; 4])),
        Ok(IpAddr::V6(address)) => GeneralSubtree::IpAddress(CidrSubnet::V6(address.octets(), [u8::MAX; 16])),
        Err(_) => GeneralSubtree::DnsName(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_305_600);

    fn options(directory: &Path, force: bool) -> MintOptions {
        MintOptions { directory: directory.to_owned(), names: vec!["sidecar.svc".to_owned()], force }
    }

    fn accepted(directory: &Path, name: &str, days_later: u64) -> bool {
        let certificate = |file: &str| CertificateDer::from_pem_file(directory.join(file)).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate("ca.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let at = std::time::Duration::from_secs(1_795_305_600 + days_later * 24 * 60 * 60);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier
            .verify_server_cert(&certificate("cert.pem"), &[], &name, &[], UnixTime::since_unix_epoch(at))
            .is_ok()
    }

    #[test]
    fn clients_that_trust_the_authority_accept_the_listener_under_its_names_only() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("deep/tls");
        let said = init(&options(&directory, false), NOW).map_err(|_| "refused").unwrap();
        assert!(
            said.contains("listener.tls.certificate_file") && said.contains("NODE_EXTRA_CA_CERTS=/"),
            "{said}"
        );
        let path = format!("connection_verify={:?}", directory.join("ca.pem"));
        assert!(said.contains(&path), "{said}");
        for name in ["localhost", "127.0.0.1", "::1", "sidecar.svc"] {
            assert!(accepted(&directory, name, 0), "{name}");
            assert!(accepted(&directory, name, 800), "{name}");
        }
        for (name, days) in [("example.com", 0), ("127.0.0.2", 0), ("localhost", 900)] {
            assert!(!accepted(&directory, name, days), "{name} after {days} days");
        }
        let mode = |file: &str| std::fs::metadata(directory.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("key.pem"), 0o600);
        let mut files: Vec<_> =
            std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["ca.pem", "cert.pem", "key.pem"], "the authority's key is not kept");
    }

    #[test]
    fn nothing_is_overwritten_without_force() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key.pem");
        std::fs::write(&key, "mine").unwrap();
        assert!(init(&options(directory.path(), false), NOW).is_err());
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "mine");
        assert!(!directory.path().join("ca.pem").exists());
        assert!(init(&options(directory.path(), true), NOW).is_ok());
        assert!(accepted(directory.path(), "localhost", 0));
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(init(&options(Path::new("/proc/nowhere"), false), NOW).is_err());
    }
}
