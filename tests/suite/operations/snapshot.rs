//! The snapshot of the program as a process: written, killed, started without origin, network and issuer, and looked at.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::process::{Process, all, connect, output};

/// An origin that answers every request with the next number, and an issuer of tokens. Both at one address.
struct Origin {
    address: SocketAddr,
    is_away: Arc<AtomicBool>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (is_away, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let away = Arc::clone(&is_away);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Closed before an answer, as by a machine that goes down.
                if !away.load(Ordering::SeqCst) {
                    answer(stream, answered.fetch_add(1, Ordering::SeqCst));
                }
            }
        });
        Self { address, is_away }
    }
}

fn answer(mut stream: TcpStream, number: usize) {
    let mut request = [0; 16 * 1024];
    let read = stream.read(&mut request).unwrap_or(0);
    let body = if request[..read].starts_with(b"POST ") {
        r#"{"access_token":"made-up","token_type":"Bearer","expires_in":3600}"#.to_owned()
    } else {
        format!("MARKED-VALUE-{number}")
    };
    let _written = write!(
        stream,
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"{number}\"\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn get(address: SocketAddr, target: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    all(stream)
}

/// The flags of a snapshot in this directory, with its key in a directory of its own.
fn flags(directory: &Path) -> Vec<String> {
    let at = |name: &str| directory.join(name).display().to_string();
    std::fs::create_dir_all(directory.join("keys")).unwrap();
    ["--snapshot-file", &at("snapshot"), "--snapshot-key-file", &at("keys/key"), "--profile", "generic"]
        .map(str::to_owned)
        .to_vec()
}

fn start(origin: SocketAddr, flags: &[String]) -> Process {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Process::start(origin, &flags)
}

fn stop(process: Process) {
    process.signal("-TERM");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_start_without_the_origin_answers_and_readiness_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, flags) = (Origin::start(), flags(directory.path()));
    let process = start(origin.address, &flags);
    assert!(get(process.callers, "/a").ends_with("MARKED-VALUE-0"));
    stop(process);
    origin.is_away.store(true, Ordering::SeqCst);
    let process = start(origin.address, &flags);
    let ready = get(process.operator, "/readyz");
    assert!(ready.trim_end().ends_with(r#"{"notes":["snapshot"],"ready":true,"reasons":[]}"#), "{ready}");
    let answer = get(process.callers, "/a");
    assert!(answer.contains("detail=snapshot") && answer.ends_with("MARKED-VALUE-0"), "{answer}");
    origin.is_away.store(false, Ordering::SeqCst);
    assert!(get(process.callers, "/b").starts_with("HTTP/1.1 200 "));
    let ready = get(process.operator, "/readyz");
    assert!(ready.trim_end().ends_with(r#"{"notes":[],"ready":true,"reasons":[]}"#), "{ready}");
    stop(process);
}

#[test]
fn a_start_without_the_issuer_answers_and_readiness_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let origin = Origin::start();
    let mut flags = flags(directory.path());
    let secret = directory.path().join("keys/client-secret");
    std::fs::write(&secret, "made-up").unwrap();
    let credential = [
        "upstream.credential.kind=entra".to_owned(),
        "upstream.credential.tenant_id=tenant".to_owned(),
        "upstream.credential.client_id=client".to_owned(),
        format!("upstream.credential.client_secret_file={}", secret.display()),
        "upstream.credential.audience=https://origin.example".to_owned(),
        format!("upstream.credential.authority=http://{}", origin.address),
    ];
    flags.extend(credential.into_iter().flat_map(|key| ["--set".to_owned(), key]));
    let process = start(origin.address, &flags);
    assert!(get(process.callers, "/a").starts_with("HTTP/1.1 200 "));
    stop(process);
    origin.is_away.store(true, Ordering::SeqCst);
    let process = start(origin.address, &flags);
    let answer = get(process.callers, "/a");
    assert!(answer.contains("detail=snapshot") && answer.contains("MARKED-VALUE-"), "{answer}");
    let ready = get(process.operator, "/readyz");
    assert!(
        ready.trim_end().ends_with(r#"{"notes":["snapshot","no-credential"],"ready":true,"reasons":[]}"#),
        "{ready}"
    );
    stop(process);
}

#[test]
fn a_killed_sidecar_leaves_a_snapshot_that_loads() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, mut flags) = (Origin::start(), flags(directory.path()));
    flags.extend(["--set".to_owned(), "snapshot.interval=1s".to_owned()]);
    let kills = std::env::var("KILLS").map_or(3, |kills| kills.parse().expect("a number"));
    let mut generations = Vec::new();
    for kill in 0..kills {
        let process = start(origin.address, &flags);
        // The file is written again a second after the first answer, so that kills fall before, into and after it.
        let until = std::time::Duration::from_millis(900 + 10 * (kill % 20));
        let began = tagalong::Clock::System.now();
        while tagalong::Clock::System.now().since(began) < until {
            assert!(
                get(process.callers, &format!("/{}", "x".repeat(usize::try_from(kill % 50).unwrap())))
                    .contains("MARKED-VALUE-")
            );
        }
        process.signal("-KILL");
        process.ended();
        let again = start(origin.address, &flags);
        let metrics = get(again.operator, "/metrics");
        let mut refusals =
            metrics.lines().filter(|line| line.starts_with("tagalong_snapshot_refusals_total{"));
        assert!(refusals.all(|line| line.ends_with(" 0")), "after kill {kill}: {metrics}");
        generations.push(metrics.contains("tagalong_snapshot_restored{what=\"stored\"} 0"));
        again.signal("-KILL");
        again.ended();
    }
    println!(
        "{} of {} kills came before the first write",
        generations.iter().filter(|it| **it).count(),
        kills
    );
}

#[test]
fn a_full_disk_leaves_the_old_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, flags) = (Origin::start(), flags(directory.path()));
    let process = start(origin.address, &flags);
    get(process.callers, "/a");
    stop(process);
    let before = std::fs::read(directory.path().join("snapshot")).unwrap();
    // No file may have more than 2 blocks of 512 bytes; the log goes to a pipe.
    let more: Vec<&str> = flags.iter().map(String::as_str).collect();
    let process = Process::start_with_small_files(2, origin.address, &more);
    for number in 0..100 {
        assert!(get(process.callers, &format!("/{number}")).contains("MARKED-VALUE-"));
    }
    process.signal("-TERM");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the snapshot cannot be written"), "{log}");
    assert_eq!(std::fs::read(directory.path().join("snapshot")).unwrap(), before);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no draft is left");
}

#[test]
fn a_place_that_cannot_be_written_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, mut flags) = (Origin::start(), flags(directory.path()));
    // No file can be created there, whoever asks.
    "/proc/tagalong-snapshot".clone_into(&mut flags[1]);
    let process = start(origin.address, &flags);
    assert!(get(process.callers, "/a").contains("MARKED-VALUE-"));
    process.signal("-TERM");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the snapshot cannot be written"), "{log}");
}

#[test]
fn show_tells_names_and_ages_to_who_has_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, flags) = (Origin::start(), flags(directory.path()));
    let process = start(origin.address, &flags);
    get(process.callers, "/named?in=it");
    stop(process);
    let file = directory.path().join("snapshot").display().to_string();
    let key = directory.path().join("keys/key").display().to_string();
    let shown = output(&["snapshot", "show", &file, "--snapshot-key-file", &key]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    assert!(text.contains("/named?in=it") && text.contains("generation 1"), "{text}");
    assert!(!text.contains("MARKED-VALUE"), "{text}");
    let other = directory.path().join("keys/other").display().to_string();
    std::fs::write(&other, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
    let refused = output(&["snapshot", "show", &file, "--snapshot-key-file", &other]);
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("key; name the key file"), "{message}");
    let missing = output(&["snapshot", "show", &file, "--snapshot-key-file", "/nowhere/key"]);
    assert_eq!(missing.status.code(), Some(2));
    // Checking a configuration creates no key.
    let fresh = directory.path().join("keys/fresh").display().to_string();
    let checked = output(&[
        "check-config",
        "--upstream",
        "http://127.0.0.1:9",
        "--snapshot-file",
        &file,
        "--snapshot-key-file",
        &fresh,
    ]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(!Path::new(&fresh).exists());
}
