//! `check-config` refuses the same configurations as `run`, and the log states the rules of each upstream at start.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use super::process::{Process, all, closed_address, connect, not_tried, output, tagalong};

/// A listener address with a free port.
const FREE: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn check_config_refuses_what_run_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let broken = write(directory.path(), "broken", "no key, no certificate, nothing\n");
    let empty = write(directory.path(), "empty", "\n");
    let elsewhere =
        write(directory.path(), "string", "Endpoint=https://other.azconfig.io;Id=a;Secret=c2VjcmV0");
    let set = |key: &str, value: &str| format!("{key}={value}");
    let upstream = "upstream.url=http://127.0.0.1:9".to_owned();
    let hmac = set("upstream.credential.kind", "hmac");
    let entra = set("upstream.credential.kind", "entra");
    let missing = "/nowhere/at/all";
    for (settings, because) in [
        (vec![set("upstream.credential.connection_string_file", missing)], missing),
        (vec![set("upstream.credential.connection_string_file", &broken)], "no Id"),
        (vec![set("upstream.credential.connection_string_file", &elsewhere)], "is not the upstream"),
        (vec![set("upstream.credential.connection_string_variable", "UNSET")], "UNSET is not set"),
        (
            vec![hmac, set("upstream.credential.id", "a"), set("upstream.credential.secret_file", missing)],
            missing,
        ),
        (vec![entra.clone()], "audience"),
        (
            vec![
                entra,
                set("upstream.credential.audience", "a"),
                set("upstream.credential.client_secret_file", missing),
            ],
            "client_secret_file",
        ),
        (vec![set("upstream.tls.ca_file", missing)], missing),
        (vec![set("upstream.tls.ca_file", &broken)], &broken),
        (vec![set("listener.local_keys_file", missing)], missing),
        (vec![set("listener.bearer_file", missing)], missing),
        (vec![set("listener.bearer_file", &empty)], "it is empty"),
        (vec![set("admin.token_file", missing)], missing),
        (vec![set("admin.token_file", &empty)], "it is empty"),
        (vec![set("listener.tls.certificate_file", &broken), set("listener.tls.key_file", &broken)], &broken),
        (vec![set("listener.unix_users", "missing-user")], "there is no such user"),
        (
            vec![set("listener.unix", "/s"), set("listener.unix_group", "none-by-that-name")],
            "there is no such group",
        ),
    ] {
        let settings: Vec<&str> =
            std::iter::once(&upstream).chain(&settings).flat_map(|it| ["--set", it.as_str()]).collect();
        for command in ["run", "check-config"] {
            not_tried(&[&[command][..], &FREE, &settings].concat(), because);
        }
    }
}

#[test]
fn check_config_creates_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = |key: &str, name: &str| format!("{key}={}", directory.path().join(name).display());
    let (bearer, token) = (file("listener.bearer_file", "bearer"), file("admin.token_file", "token"));
    let checked =
        output(&["check-config", "--upstream", "http://127.0.0.1:9", "--set", &bearer, "--set", &token]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_connection_string_is_all_that_must_be_given() {
    let directory = tempfile::tempdir().unwrap();
    let string = write(directory.path(), "string", "Endpoint=http://127.0.0.1:9;Id=a;Secret=c2VjcmV0");
    let checked = output(&["check-config", "--connection-string-file", &string]);
    let shown = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let has = |start: &str, end: &str| {
        let line = shown.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        assert!(line.contains(end), "{shown}");
    };
    has("upstream.url = \"\"", "comes to \"http://127.0.0.1:9/\"");
    has("upstream.credential.kind = \"auto\"", "comes to \"hmac\"");
    let without = write(directory.path(), "without", "Id=a;Secret=c2VjcmV0");
    not_tried(&["check-config", "--connection-string-file", &without], "has no Endpoint");
    not_tried(
        &["check-config", "--connection-string-file", "/nowhere/at/all"],
        "cannot read upstream.credential.connection_string_file /nowhere/at/all",
    );
    let two = ["--upstream", "http://127.0.0.1:8", "--connection-string-file", &string];
    not_tried(&[&["check-config"][..], &two].concat(), "is not the upstream http://127.0.0.1:8/");
    let variable = tagalong()
        .args(["check-config", "--set", "upstream.credential.connection_string_variable=CS"])
        .env("CS", "Endpoint=https://s.azconfig.io;Id=a;Secret=c2VjcmV0")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&variable.stdout).contains("\"https://s.azconfig.io/\""));
}

#[test]
fn the_start_tells_the_rules_of_each_upstream_in_one_line() {
    let process = Process::start(
        closed_address(),
        &[
            "--profile",
            "app-configuration",
            "--set",
            "upstreams.b.url=http://b.test",
            "--set",
            "upstreams.b.hosts=b",
        ],
    );
    let log = process.said_at_start.clone();
    process.signal("-INT");
    assert_eq!(process.ended().0, Some(0));
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &serde_json::Value| line["message"] == "starting")
        .collect();
    assert_eq!(lines.len(), 2, "{log}");
    for (line, name, profile, guessed, freshness) in [
        (&lines[0], "main", "app-configuration", false, "30s"),
        (&lines[1], "b", "generic", true, "as each response says"),
    ] {
        assert_eq!(line["upstream"], name, "{log}");
        assert_eq!(line["profile"], profile, "{log}");
        assert_eq!(line["profile_is_guessed"], guessed, "{log}");
        assert_eq!(line["freshness"], freshness, "{log}");
        assert_eq!(line["credential"], "forward", "{log}");
        assert_eq!(line["consistency"], "session", "{log}");
        assert_eq!(line["version"], env!("CARGO_PKG_VERSION"), "{log}");
        assert!(line["url"].as_str().unwrap().starts_with("http://"), "{log}");
    }
}

/// The sidecar's answer for an origin that answers whatever it is sent with these bytes.
fn answer_before(scheme: &str, bytes: &'static [u8]) -> String {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in origin.incoming().map_while(Result::ok) {
            let mut read = [0; 4096];
            let _length = stream.read(&mut read).unwrap();
            stream.write_all(bytes).unwrap();
        }
    });
    let upstream = format!("upstream.url={scheme}://{address}");
    let process = Process::start(address, &["--set", &upstream]);
    let mut caller = connect(process.callers);
    write!(caller, "GET /a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    all(caller)
}

#[test]
fn a_scheme_that_the_upstream_does_not_speak_is_named() {
    let plain = answer_before("https", b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(plain.contains("it does not speak TLS on that port. Write http:// in upstream.url"), "{plain}");
    // A TLS alert, unexpected_message.
    let tls = answer_before("http", &[0x15, 3, 3, 0, 2, 2, 10]);
    assert!(tls.contains("if it speaks TLS there, write https:// in upstream.url"), "{tls}");
}

/// How many lines at start say that an ETag alone saves bodies, not requests.
fn hints_of_freshness(flags: &[&str]) -> usize {
    let process = Process::start(closed_address(), flags);
    process.said_at_start.matches("that saves its body, not the request; --freshness").count()
}

#[test]
fn an_api_with_entity_tags_alone_is_told_how_to_save_requests() {
    assert_eq!(hints_of_freshness(&["--profile", "generic"]), 1);
    assert_eq!(hints_of_freshness(&["--profile", "generic", "--freshness", "30s"]), 0);
    assert_eq!(hints_of_freshness(&["--profile", "app-configuration"]), 0);
}

/// Sends two answers of an emulator through a sidecar with these flags. Returns how many warnings name the flag
/// `--profile`.
fn warnings(flags: &[&str]) -> usize {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let process = Process::start(origin.local_addr().unwrap(), flags);
    for _ in 0..2 {
        let mut caller = connect(process.callers);
        write!(caller, "GET /kv/a HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
        let (mut upstream, _) = origin.accept().unwrap();
        upstream.read_exact(&mut [0; 16]).unwrap();
        let fields = "Content-Type: application/vnd.microsoft.appconfig.kv+json\r\nSync-Token: a=b;sn=1\r\n";
        write!(upstream, "HTTP/1.1 200 OK\r\n{fields}Cache-Control: no-store\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}")
            .unwrap();
        assert!(all(caller).starts_with("HTTP/1.1 200 "));
    }
    process.signal("-INT");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
    log.lines().filter(|line| line.contains("WARN") && line.contains("--profile app-configuration")).count()
}

#[test]
fn an_emulator_under_the_guessed_generic_profile_is_reported() {
    assert_eq!(warnings(&[]), 1);
    assert_eq!(warnings(&["--profile", "generic"]), 0, "an explicit profile is not questioned");
    assert_eq!(warnings(&["--profile", "app-configuration"]), 0);
}
