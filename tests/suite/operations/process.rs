//! The program as a process: exit codes, messages, readiness, draining.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A limit that makes a hang a failure.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn tagalong() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagalong"));
    command.env_clear();
    command
}

pub(super) fn output(arguments: &[&str]) -> Output {
    tagalong().args(arguments).output().unwrap()
}

/// Asserts that a command exits with code 2 and one line of explanation.
pub(super) fn not_tried(arguments: &[&str], because: &str) {
    let output = output(arguments);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.starts_with("tagalong: ") && message.contains(because), "{message}");
}

/// A sidecar in its own process, on ports that the system chose.
pub(super) struct Process {
    child: Child,
    pub(super) callers: SocketAddr,
    pub(super) operator: SocketAddr,
    /// The log until its listeners are open.
    pub(super) said_at_start: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Process {
    pub(super) fn start(upstream: SocketAddr, more: &[&str]) -> Self {
        Self::started_by(tagalong(), upstream, more)
    }

    /// Of another program than the one that was built for the tests.
    pub(super) fn start_binary(binary: &str, upstream: SocketAddr, more: &[&str]) -> Self {
        let mut command = Command::new(binary);
        command.env_clear();
        Self::started_by(command, upstream, more)
    }

    /// With at most so many open files.
    pub(super) fn start_with_open_files(limit: usize, upstream: SocketAddr, more: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        shell.env_clear().args(["-c", &script, env!("CARGO_BIN_EXE_tagalong")]);
        Self::started_by(shell, upstream, more)
    }

    /// With no file larger than so many blocks of 512 bytes: writing more fails.
    pub(super) fn start_with_small_files(blocks: usize, upstream: SocketAddr, more: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks} && exec \"$0\" \"$@\"");
        shell.env_clear().args(["-c", &script, env!("CARGO_BIN_EXE_tagalong")]);
        Self::started_by(shell, upstream, more)
    }

    fn started_by(mut command: Command, upstream: SocketAddr, more: &[&str]) -> Self {
        let mut child = command
            .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--set", "logging.format=json", "--upstream", &format!("http://{upstream}")])
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said_at_start = String::new();
        let callers = listening(&mut log, &mut said_at_start, "listening for callers");
        let operator = listening(&mut log, &mut said_at_start, "listening for the operator");
        let process = Self { child, callers, operator, said_at_start, log };
        assert!(process.probe("wait").status.success());
        process
    }

    fn probe(&self, command: &str) -> Output {
        output(&[command, "--admin-listen", &self.operator.to_string()])
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The value of a metric, with its labels as they stand there.
    pub(super) fn metric(&self, name: &str) -> f64 {
        let mut operator = connect(self.operator);
        ask(&mut operator, "/metrics");
        let text = all(operator);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
    }

    /// The most memory that the process has had resident so far.
    pub(super) fn peak_kib(&self) -> u64 {
        memory_kib(self.id(), "VmHWM")
    }

    pub(super) fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Waits for the end and returns the exit code and the rest of the log.
    pub(super) fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

/// A line of the memory of a process, such as `VmRSS`, in KiB.
pub(super) fn memory_kib(process: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let value =
        status.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(':')).expect("a line of that name");
    value.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The CPU time that a process has used so far.
pub(super) fn cpu_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    // The name of the process stands in parentheses. `/proc` counts in hundredths of a second on every Linux.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().expect("a number"));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// A test that fails leaves no process behind.
impl Drop for Process {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// The address in the log line with that message. The lines that are read go to `seen`.
fn listening(log: &mut impl BufRead, seen: &mut String, message: &str) -> SocketAddr {
    loop {
        let start = seen.len();
        assert_ne!(log.read_line(seen).unwrap(), 0, "it ended before it was {message}: {seen}");
        let Ok(line) = serde_json::from_str::<serde_json::Value>(&seen[start..]) else { continue };
        if line["message"] == message {
            return line["address"].as_str().unwrap().parse().unwrap();
        }
    }
}

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, target: &str) {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
}

/// Reads until the peer closes.
pub(super) fn all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A closed address.
pub(super) fn closed_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn an_error_at_start_is_one_line_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let upstream = ["run", "--upstream", "http://127.0.0.1:9", "--admin-listen", "127.0.0.1:0"];
    let with = |more: &[&'static str]| [&upstream[..], more].concat();
    not_tried(&["run", "--upstream", "http://127.0.0.1:9", "--listen", &address], "is in use");
    not_tried(
        &["run", "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--admin-listen", &address],
        &address,
    );
    not_tried(
        &["run", "--config", "/nowhere/tagalong.toml"],
        "cannot read the configuration file /nowhere/tagalong.toml",
    );
    not_tried(&["run", "--config", &file("broken.toml", "[limits\n")], "broken.toml:1");
    not_tried(&with(&["--set", "limits.conections=1"]), "did you mean `limits.connections`");
    not_tried(&with(&["--listen", "0.0.0.0:0"]), "listener.allow_remote");
    not_tried(&["run"], "--upstream");
    let certificate = file("cert.pem", "no certificate");
    let tls = format!("listener.tls.certificate_file={certificate}");
    let key = format!("listener.tls.key_file={certificate}");
    let bad = [&upstream[..], &["--listen", "127.0.0.1:0", "--set", &tls, "--set", &key]].concat();
    not_tried(&bad, "cert.pem");
    let ca = format!("upstream.tls.ca_file={certificate}");
    not_tried(&[&upstream[..], &["--listen", "127.0.0.1:0", "--set", &ca]].concat(), "cert.pem");
    not_tried(&["emulator", "--listen", &address, "--admin-listen", "127.0.0.1:0"], &address);
}

#[test]
fn check_config_shows_each_value_and_its_source() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tagalong.toml");
    std::fs::write(
        &path,
        "[upstream]\nurl = \"https://x.azconfig.io\"\ncredential.secret = \"aHVudGVyMg==\"\ncredential.id = \"a\"\n",
    )
    .unwrap();
    let output = tagalong()
        .args(["check-config", "--freshness", "5s"])
        .env("TAGALONG_CONFIG", &path)
        .env("TAGALONG_LIMITS__CONNECTIONS", "7")
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line =
        |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(line("upstream.url = ").ends_with("tagalong.toml:2"), "{shown}");
    assert!(line("upstream.freshness = \"5s\"").ends_with("# flag --freshness"), "{shown}");
    assert!(line("limits.connections = 7").ends_with("# variable TAGALONG_LIMITS__CONNECTIONS"), "{shown}");
    assert!(line("upstream.credential.secret = \"***\"").ends_with("tagalong.toml:3"), "{shown}");
    assert!(!shown.contains("aHVudGVyMg"), "{shown}");
}

#[test]
fn probes_report_by_their_exit_code() {
    let away = closed_address().to_string();
    for command in ["live", "ready"] {
        let output = output(&[command, "--admin-listen", &away]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("no sidecar answers"), "{command}");
    }
    assert_eq!(output(&["wait", "--timeout", "1ms", "--admin-listen", &away]).status.code(), Some(1));
    assert_eq!(output(&["ready", "--admin-listen", "somewhere"]).status.code(), Some(2));
    // Readiness does not depend on the origin, which is closed here.
    let process = Process::start(closed_address(), &[]);
    assert!(process.probe("live").status.success() && process.probe("ready").status.success());
    process.signal("-INT");
    assert_eq!(process.ended().0, Some(0));
}

#[test]
fn while_draining_requests_finish_and_readiness_says_draining() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let process = Process::start(origin.local_addr().unwrap(), &[]);
    let mut idle = connect(process.callers);
    let mut running = connect(process.callers);
    ask(&mut running, "/slow");
    let (mut upstream, _) = origin.accept().unwrap();
    let mut head = [0; 16];
    upstream.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"GET /slow "));
    process.signal("-TERM");
    // The sidecar closes the idle connection when it starts draining.
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    let mut operator = connect(process.operator);
    ask(&mut operator, "/readyz");
    let ready = all(operator);
    assert!(
        ready.starts_with("HTTP/1.1 503 ")
            && ready.contains(r#"{"notes":[],"ready":false,"reasons":["draining"]}"#),
        "{ready}"
    );
    assert!(process.probe("live").status.success(), "a draining process is alive");
    let refused = process.probe("ready");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("draining"));
    assert!(TcpStream::connect(process.callers).is_err(), "nothing new is accepted");
    write!(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=9\r\n\r\ndone").unwrap();
    let answer = all(running);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("done"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn the_drain_deadline_cuts_requests_and_a_second_signal_stops_at_once() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = |more: &[&str]| {
        let process = Process::start(origin.local_addr().unwrap(), more);
        let mut caller = connect(process.callers);
        ask(&mut caller, "/never");
        let upstream = origin.accept().unwrap().0;
        process.signal("-TERM");
        (process, caller, upstream)
    };
    let (process, caller, _upstream) = hanging(&["--set", "deadlines.drain=50ms"]);
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(r#""cut":1"#), "{log}");
    drop(caller);
    let (process, _caller, _upstream) = hanging(&["--set", "deadlines.drain=1h"]);
    // The closed idle connection shows that the first signal has been handled.
    while process.probe("ready").status.success() {}
    process.signal("-TERM");
    assert_eq!(process.ended().0, Some(1));
}

#[test]
fn several_workers_serve_and_drain() {
    let process = Process::start(closed_address(), &["--workers", "2"]);
    for _ in 0..4 {
        let mut caller = connect(process.callers);
        write!(caller, "GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
        assert!(all(caller).starts_with("HTTP/1.1 504 "));
    }
    process.signal("-TERM");
    assert_eq!(process.ended().0, Some(0));
}

#[test]
fn the_demo_runs_its_tour_and_every_check_holds() {
    let output = output(&["demo", "--once"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        told.contains("cache-status: tagalong; hit; ttl=") && told.ends_with("Every check holds.\n"),
        "{told}"
    );
}
