//! Reload of the configuration in the running program: by SIGHUP, and when the file has changed.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tagalong::internals::clock::Clock;

use super::kills::emulator;
use super::process::{Process, connect, output, tagalong};

const APPLIED: &str = r#"tagalong_reloads_total{outcome="applied"}"#;
const REFUSED: &str = r#"tagalong_reloads_total{outcome="refused"}"#;
const UNCHANGED: &str = r#"tagalong_reloads_total{outcome="unchanged"}"#;

const REQUEST: &str = "GET /kv/k?api-version=2026-04-01 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// A configuration file that is replaced as editors and package managers do: by renaming.
struct ConfigFile {
    directory: tempfile::TempDir,
}

impl ConfigFile {
    fn new(text: &str) -> Self {
        let file = Self { directory: tempfile::tempdir().unwrap() };
        file.replace(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("tagalong.toml")
    }

    fn replace(&self, text: &str) {
        let draft = self.directory.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, self.path()).unwrap();
    }
}

/// A sidecar with this file before the emulator of a store, without a look at the file unless the file says so.
fn start(binary: Option<&str>, origin: SocketAddr, path: &Path) -> Process {
    let path = path.display().to_string();
    let more = ["--profile", "app-configuration", "--credential", "none", "--config", &path];
    match binary {
        Some(binary) => Process::start_binary(binary, origin, &more),
        None => Process::start(origin, &more),
    }
}

/// Waits until a metric has that value.
fn becomes(process: &Process, metric: &str, value: f64) {
    while process.metric(metric) != value {
        std::thread::yield_now();
    }
}

/// One answer: its status and its head.
fn answer(stream: &mut impl BufRead) -> std::io::Result<(u16, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix(name)?.trim().parse::<usize>().ok())
    };
    let mut body = vec![0; field("content-length:").unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, head))
}

/// Callers that ask without a pause, each on one connection, several requests at once.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Result<u64, String>>>,
}

const AT_ONCE: usize = 16;

impl Load {
    fn start(address: SocketAddr, connections: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let (mut stream, stop) = (connect(address), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut answers = BufReader::new(stream.try_clone().unwrap());
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    stream
                        .write_all(REQUEST.repeat(AT_ONCE).as_bytes())
                        .map_err(|error| error.to_string())?;
                    for _ in 0..AT_ONCE {
                        match answer(&mut answers) {
                            Ok((200, _)) => answered += 1,
                            Ok((_, head)) => return Err(head),
                            Err(error) => return Err(error.to_string()),
                        }
                    }
                }
                Ok(answered)
            })
        };
        let callers = (0..connections).map(caller).collect();
        Self { stop, callers }
    }

    /// How many requests were answered on each connection, and the failures: a caller stops at its first.
    fn stop(self) -> (Vec<u64>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.callers.into_iter().map(|caller| caller.join().unwrap());
        let (answered, failed): (Vec<_>, Vec<_>) = ended.partition(Result::is_ok);
        let answered = answered.into_iter().filter_map(Result::ok).collect();
        (answered, failed.into_iter().filter_map(Result::err).collect())
    }
}

/// A configuration in which many things differ from one version to the next.
fn version(number: usize) -> String {
    let even = number.is_multiple_of(2);
    let (connections, freshness, idle) = if even { (500, "20m", "60s") } else { (900, "40m", "10s") };
    format!(
        "[limits]\nconnections = {connections}\n[deadlines]\nidle = \"{idle}\"\n[upstream]\nfreshness = \"{freshness}\"\n\
         show_cache_key = {even}\nread_only = {even}\nrefresh_ahead = {even}\nexchange_limit = {connections}\n\
         [reload]\ninterval = \"0s\"\n"
    )
}

fn put(process: &Process) {
    let mut caller = connect(process.callers);
    let body = "{\"value\":\"v\"}";
    write!(
        caller,
        "PUT /kv/k?api-version=2026-04-01 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\nConnection: close\r\n\
         Content-Type: application/vnd.microsoft.appconfig.kv+json\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    assert_eq!(answer(&mut BufReader::new(caller)).unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_fail_no_request_and_close_no_connection() {
    const CONNECTIONS: usize = 8;
    const RELOADS: usize = 20;
    let file = ConfigFile::new(&version(1));
    let process = start(None, emulator().await, &file.path());
    put(&process);
    let mut first = connect(process.callers);
    first.write_all(REQUEST.as_bytes()).unwrap();
    assert_eq!(answer(&mut BufReader::new(first)).unwrap().0, 200);
    let misses = || process.metric(r#"tagalong_requests_total{cache_status="uri-miss",upstream="main"}"#);
    let (missed, before) = (misses(), process.metric("tagalong_connections_total"));
    let load = Load::start(process.callers, CONNECTIONS);
    for number in 2..2 + RELOADS {
        file.replace(&version(number));
        process.signal("-HUP");
        becomes(&process, APPLIED, (number - 1) as f64);
    }
    let (answered, failed) = load.stop();
    assert_eq!(failed, Vec::<String>::new());
    assert!(answered.len() == CONNECTIONS && answered.iter().all(|answered| *answered > 0), "{answered:?}");
    assert_eq!(process.metric("tagalong_connections_total") - before, CONNECTIONS as f64);
    // What was stored before the first reload has answered all along.
    assert_eq!(misses(), missed);
    process.signal("-TERM");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
}

/// With one reload every 100 ms for `SECONDS` (10), and `CONNECTIONS` (16), against an optimised `BINARY`:
///
/// ```text
/// BINARY=target/release/tagalong cargo test --test suite -- --ignored --nocapture reloads_every_100_ms
/// ```
#[tokio::test(flavor = "multi_thread")]
#[ignore = "by hand: it needs an optimised program and some seconds"]
async fn reloads_every_100_ms_under_ten_thousand_requests_a_second() {
    let number =
        |name: &str, default| std::env::var(name).map_or(default, |it| it.parse().expect("a number"));
    let (seconds, connections) = (number("SECONDS", 10), number("CONNECTIONS", 16));
    let binary = std::env::var("BINARY").expect("BINARY names the program");
    let file = ConfigFile::new(&version(1));
    let process = start(Some(&binary), emulator().await, &file.path());
    put(&process);
    let load = Load::start(process.callers, connections);
    let (clock, mut reloads) = (Clock::System, 0);
    let start = clock.now();
    while clock.now().since(start) < Duration::from_secs(seconds as u64) {
        file.replace(&version(reloads));
        process.signal("-HUP");
        reloads += 1;
        becomes(&process, APPLIED, reloads as f64);
        let next = Duration::from_millis(100 * reloads as u64);
        tokio::time::sleep(next.saturating_sub(clock.now().since(start))).await;
    }
    let taken = clock.now().since(start).as_secs_f64();
    let (answered, failed) = load.stop();
    let total: u64 = answered.iter().sum();
    eprintln!(
        "{reloads} reloads in {taken:.1} s, {total} answers on {connections} connections: {:.0} a second, {} failed",
        total as f64 / taken,
        failed.len()
    );
    assert_eq!(failed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_effect_and_a_refused_one_says_what_check_config_says() {
    let file = ConfigFile::new("[upstream]\nfreshness = \"20m\"\n[reload]\ninterval = \"0s\"\n");
    let process = start(None, emulator().await, &file.path());
    put(&process);
    let ask = |field: &str| {
        let mut caller = connect(process.callers);
        let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{field}\r\n"));
        caller.write_all(request.as_bytes()).unwrap();
        let (status, head) = answer(&mut BufReader::new(caller)).unwrap();
        assert_eq!(status, 200, "{head}");
        head
    };
    let ttl = || {
        let head = ask("");
        let ttl = head.split("ttl=").nth(1).unwrap_or_else(|| panic!("{head}"));
        ttl.split(|it: char| !it.is_ascii_digit()).next().unwrap().parse::<u64>().unwrap()
    };
    ask("");
    assert!((1_000..=1_200).contains(&ttl()));
    file.replace("[upstream]\nfreshness = \"40m\"\n[logging]\nlevel = \"info,tagalong::access=debug\"\n[reload]\ninterval = \"0s\"\n");
    process.signal("-HUP");
    becomes(&process, APPLIED, 1.0);
    // What is stored keeps its lifetime until it is validated.
    ask("Cache-Control: no-cache\r\n");
    assert!((2_000..=2_400).contains(&ttl()));
    process.signal("-HUP");
    becomes(&process, UNCHANGED, 1.0);
    // Refused: not valid, and needing a restart.
    let path = file.path().display().to_string();
    file.replace("[upstream]\nfreshness = \"1m\"\n[limits]\nconnections = 0\n");
    let checked = output(&["check-config", "--config", &path]);
    let said = String::from_utf8(checked.stderr).unwrap();
    let said = said.trim().strip_prefix("tagalong: ").unwrap();
    process.signal("-HUP");
    becomes(&process, REFUSED, 1.0);
    file.replace("[upstream]\nfreshness = \"1m\"\n[store]\nlimit = \"1GiB\"\n[runtime]\nworkers = 2\n");
    process.signal("-HUP");
    becomes(&process, REFUSED, 2.0);
    assert_eq!(process.metric("tagalong_config_last_reload_successful"), 0.0);
    assert!((2_000..=2_400).contains(&ttl()), "the one before stays in force");
    process.signal("-TERM");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"/kv/k\""), "the new level holds: {log}");
    assert!(said.contains("limits.connections = 0: write") && log.contains(said), "{said}\n{log}");
    assert!(
        log.contains("runtime.workers, store.limit cannot be changed while the sidecar runs: restart it"),
        "{log}"
    );
    assert!(log.contains(r#"upstream.freshness: \"20m\" -> \"40m\""#), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_that_is_replaced_is_taken_over_without_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (name, secret) in [("..v1", "aHVudGVyMg=="), ("..v2", "aHVudGVyMw==")] {
        std::fs::create_dir(at(name)).unwrap();
        let text = format!(
            "[upstream.credential]\nid = \"a\"\nsecret = \"{secret}\"\nkind = \"hmac\"\n[reload]\ninterval = \"1s\"\n"
        );
        std::fs::write(at(name).join("tagalong.toml"), text).unwrap();
    }
    std::os::unix::fs::symlink("..v1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/tagalong.toml", at("tagalong.toml")).unwrap();
    let path = at("tagalong.toml").display().to_string();
    let process = Process::start(emulator().await, &["--config", &path]);
    std::os::unix::fs::symlink("..v2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    becomes(&process, APPLIED, 1.0);
    process.signal("-TERM");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains(r#"upstream.credential.secret: \"***\" -> \"***\""#) && !log.contains("aHVudGVyM"),
        "{log}"
    );
}

#[test]
fn the_emulator_drains_on_sighup() {
    let mut child = tagalong()
        .args(["emulator", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("is ready") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it gets ready");
    }
    let kill = std::process::Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
