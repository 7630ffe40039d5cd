//! No output shows a secret. The program runs in each of its modes with marked secrets and with the most verbose log.
//! The mark must not occur in logs, metrics, answers, the operator's pages, check-config or errors at start.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const MARK: &str = "MARKED-5ecret";

/// Whether a text shows the mark, plain or in the base64 of an access key.
fn shows_mark(text: &str) -> bool {
    let encoded = STANDARD.encode(MARK);
    text.contains(MARK) || text.contains(encoded.trim_end_matches('=')) || text.contains("Signature=")
}

/// Answers every request on every connection with this answer, until the test ends.
fn serve(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            std::thread::spawn(move || {
                let (mut buffer, mut seen) = ([0; 4096], Vec::new());
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    seen.extend_from_slice(&buffer[..read]);
                    if seen.windows(4).any(|it| it == b"\r\n\r\n") {
                        // The body of a request does not matter here.
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                        seen.clear();
                    }
                }
            });
        }
    });
    address
}

fn message(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// One exchange. The answer is empty if the other side closes without one.
fn ask(address: SocketAddr, request: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _closed = stream.write_all(request.replace('\n', "\r\n").as_bytes());
    let mut text = Vec::new();
    let _closed = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn program(directory: &Path, settings: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
    command.env_clear().current_dir(directory);
    command.env("MARKED_STRING", format!("Id=marked;Secret={}", STANDARD.encode(MARK)));
    command.env("TAGALONG_UPSTREAM__CREDENTIAL__AUDIENCE", "https://azconfig.io");
    // Secrets are set by environment variables.
    for (key, value) in settings.iter().filter_map(|setting| setting.split_once('=')) {
        if value.contains(MARK) || value.contains(&STANDARD.encode(MARK)) {
            command.env(format!("TAGALONG_{}", key.replace('.', "__").to_uppercase()), value);
        }
    }
    command
}

/// Runs the program in one mode and returns its whole output.
fn everything_said(
    directory: &Path,
    upstream: SocketAddr,
    settings: &[String],
    requests: &[String],
) -> String {
    let flags = |command: &mut Command| {
        for setting in settings {
            if !setting.contains(MARK) && !setting.contains(&STANDARD.encode(MARK)) {
                command.args(["--set", setting]);
            }
        }
        command.args(["--upstream", &format!("http://{upstream}"), "--profile", "app-configuration"]);
        command.args([
            "--set",
            "logging.level=trace",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ]);
    };
    let mut check = program(directory, settings);
    flags(check.arg("check-config"));
    let checked = check.output().unwrap();
    let mut said = String::from_utf8(checked.stdout).unwrap();
    said.push_str(&String::from_utf8(checked.stderr).unwrap());

    let log = directory.join("log");
    let mut run = program(directory, settings);
    flags(run.arg("run"));
    run.args(["--set", "logging.format=json"]);
    let mut child = run.stderr(Stdio::from(std::fs::File::create(&log).unwrap())).spawn().unwrap();
    let address = |message: &str| loop {
        let text = std::fs::read_to_string(&log).unwrap();
        let line = text.lines().find(|line| line.contains(message));
        let parsed = line.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        if let Some(line) = parsed {
            break line["address"].as_str().unwrap().parse::<SocketAddr>().unwrap();
        }
        std::thread::yield_now();
    };
    let callers = address("listening for callers");
    let operator = address("listening for the operator");
    for request in requests {
        said.push_str(&ask(callers, request));
    }
    for page in [
        "GET /metrics",
        "GET /readyz",
        "GET /livez",
        "POST /admin/purge",
        "DELETE /admin/sync-tokens",
        "POST /admin/explain",
    ] {
        let bearer = format!("Authorization: Bearer {MARK}");
        said.push_str(&ask(
            operator,
            &format!("{page} HTTP/1.1\nHost: localhost\n{bearer}\nConnection: close\n\n"),
        ));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("DEBUG"), "requests were logged");
    said + &logged
}

#[test]
fn the_marked_secret_is_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let encoded = STANDARD.encode(MARK);
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write("string", &format!("Id=marked;Secret={encoded}"));
    write("token", MARK);
    write("keys", &format!("Id=caller;Secret={encoded}"));
    write("admin-token", MARK);
    let refuses = message(
        "401 Unauthorized",
        "WWW-Authenticate: HMAC-SHA256 error=\"invalid_token\", error_description=\"The access token has expired\"\r\n",
        "",
    );
    let refusing = serve(refuses);
    let answering = serve(message("200 OK", "ETag: \"1\"\r\n", "{}"));
    let token = format!("{{\"access_token\":\"{MARK}\",\"expires_in\":3600}}");
    let issuer = serve(message("200 OK", "", &token));
    let echo = format!("{{\"error\":\"{MARK}\",\"error_description\":\"{MARK} is wrong\"}}");
    let echoing_issuer = serve(message("400 Bad Request", "", &echo));

    let text = |settings: &[&str]| settings.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let credential =
        |settings: &[&str]| settings.iter().map(|it| format!("upstream.credential.{it}")).collect::<Vec<_>>();
    let application = |issuer: SocketAddr| {
        let authority = format!("authority=http://{issuer}");
        let secret = format!("client_secret={MARK}");
        credential(&["kind=entra", "tenant_id=t", "client_id=c", &secret, &authority])
    };
    let inline = format!("connection_string=Id=marked;Secret={encoded}");
    let secret = format!("secret={encoded}");
    let federated = format!("authority=http://{issuer}");
    let modes = [
        text(&[]),
        credential(&["kind=none"]),
        credential(&["kind=hmac", "connection_string_file=string"]),
        credential(&["kind=hmac", "connection_string_variable=MARKED_STRING"]),
        credential(&["kind=hmac", &inline]),
        credential(&["kind=hmac", "id=marked", &secret]),
        credential(&["kind=bearer-file", "bearer_file=token"]),
        credential(&["kind=entra", "tenant_id=t", "client_id=c", "federated_token_file=token", &federated]),
        application(issuer),
        application(echoing_issuer),
        text(&["listener.local_keys_file=keys", "admin.token_file=admin-token"]),
        text(&["listener.bearer_file=token", "upstream.credential.kind=none"]),
        text(&["listener.bearer_file=token", "listener.bearer_field=X-Token"]),
    ];
    let ends = "Host: localhost\nConnection: close\n\n";
    let requests = [
        format!("GET /kv/a HTTP/1.1\nAuthorization: Bearer {MARK}\n{ends}"),
        format!("GET /kv/a HTTP/1.1\nAuthorization: Bearer {MARK}\nX-Token: {MARK}\n{ends}"),
        format!("GET /kv/a HTTP/1.1\nAuthorization: HMAC-SHA256 Credential=x&Signature={MARK}\n{ends}"),
        format!(
            "PUT /kv/a HTTP/1.1\nAuthorization: Basic {MARK}\nCookie: a={MARK}\nContent-Length: 2\n{ends}{{}}"
        ),
        format!("GET /kv/a HTTP/1.1\nAuthorization: Bearer {MARK}\nX-Forwarded-For: 1\n{ends}"),
        format!("GET /kv/a HTTP/1.1\nProxy-Authorization: Basic {MARK}\n{ends}"),
    ];
    for settings in &modes {
        for upstream in [answering, refusing] {
            // Without a token each request waits for one, so the test sends a single request.
            let asks = if settings.iter().any(|it| it.contains(&echoing_issuer.to_string())) {
                1
            } else {
                requests.len()
            };
            let said = everything_said(directory, upstream, settings, &requests[..asks]);
            let shown = said.lines().find(|line| shows_mark(line));
            assert!(shown.is_none(), "{settings:?} shows it: {shown:?}");
        }
    }
}

#[test]
fn a_start_that_fails_for_a_secret_does_not_show_it() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::write(directory.join("bad"), format!("Id={MARK};Secret={MARK}!\n")).unwrap();
    for settings in [
        ["upstream.credential.kind=hmac", "upstream.credential.connection_string_file=bad"],
        ["upstream.credential.kind=none", "listener.local_keys_file=bad"],
    ] {
        let mut run = program(directory, &[]);
        run.args([
            "run",
            "--upstream",
            "http://127.0.0.1:9",
            "--listen",
            "127.0.0.1:0",
            "--set",
            "admin.listen=",
        ]);
        for setting in settings {
            run.args(["--set", setting]);
        }
        let output = run.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("bad") && !said.contains(MARK), "{said}");
    }
}
