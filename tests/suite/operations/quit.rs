//! `tagalong quit` and `POST /admin/quit`: how a Job ends its sidecar.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::time::Duration;

use tagalong::internals::clock::Clock;

use super::process::{Process, all, closed_address, connect, output};

fn quit(operator: SocketAddr, more: &[&str]) -> Output {
    output(&[&["quit", "--admin-listen", &operator.to_string()], more].concat())
}

fn ask(address: SocketAddr, target: &str) -> TcpStream {
    let mut stream = connect(address);
    write!(stream, "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

#[test]
fn it_is_off_unless_the_configuration_allows_it() {
    let process = Process::start(closed_address(), &[]);
    let refused = quit(process.operator, &[]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{message}");
    assert!(message.contains("403") && message.contains("Set admin.quit = true"), "{message}");
    assert!(all(ask(process.operator, "/readyz")).starts_with("HTTP/1.1 200 "));
    let away = quit(closed_address(), &[]);
    assert!(String::from_utf8_lossy(&away.stderr).contains("no sidecar answers"));
    assert_eq!(away.status.code(), Some(1));
}

#[test]
fn it_drains_as_sigterm_does_and_the_process_ends_with_0() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let process = Process::start(origin.local_addr().unwrap(), &["--set", "admin.quit=true"]);
    let running = ask(process.callers, "/slow");
    let (mut upstream, _) = origin.accept().unwrap();
    upstream.read_exact(&mut [0; 16]).unwrap();
    assert!(quit(process.operator, &[]).status.success());
    // A second time changes nothing: it is not taken for impatience.
    assert!(quit(process.operator, &[]).status.success());
    let ready = all(ask(process.operator, "/readyz"));
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("\"draining\""), "{ready}");
    while TcpStream::connect(process.callers).is_ok() {}
    write!(upstream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    let answer = all(running);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("done"), "{answer}");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("asked to stop by POST /admin/quit"), "{log}");
}

#[test]
fn it_needs_the_token_if_there_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let token = format!("admin.token_file={}", directory.path().join("token").display());
    let process = Process::start(closed_address(), &["--set", "admin.quit=true", "--set", &token]);
    let refused = quit(process.operator, &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"));
    let unreadable = quit(process.operator, &["--set", "admin.token_file=/nowhere/token"]);
    assert!(
        String::from_utf8_lossy(&unreadable.stderr)
            .contains("admin.token_file /nowhere/token cannot be read")
    );
    assert!(quit(process.operator, &["--set", &token]).status.success());
    assert_eq!(process.ended().0, Some(0));
}

#[test]
fn callers_are_served_until_the_shutdown_delay_is_over() {
    let delay = ["--set", "admin.quit=true", "--set", "deadlines.shutdown_delay=1h"];
    let process = Process::start(closed_address(), &delay);
    assert!(quit(process.operator, &[]).status.success());
    let ready = all(ask(process.operator, "/readyz"));
    assert!(ready.contains("\"draining\""), "{ready}");
    assert!(all(ask(process.callers, "/x")).starts_with("HTTP/1.1 504 "), "new callers are still accepted");
    drop(process);
    let delay = ["--set", "admin.quit=true", "--set", "deadlines.shutdown_delay=300ms"];
    let process = Process::start(closed_address(), &delay);
    let (clock, start) = (Clock::System, Clock::System.now());
    assert!(quit(process.operator, &[]).status.success());
    assert_eq!(process.ended().0, Some(0));
    assert!(clock.now().since(start) >= Duration::from_millis(300));
}
