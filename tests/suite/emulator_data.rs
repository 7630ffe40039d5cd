//! `tagalong emulator --data`: a process that is killed under load loses no acknowledged write.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

/// A running emulator. Dropping it kills the process with SIGKILL.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tagalong"))
            .args(["emulator", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let before = seen.len();
            assert!(log.read_line(&mut seen).unwrap() > 0, "the emulator ended before it was ready: {seen}");
            // The line about readiness has `listen=[127.0.0.1:PORT]`.
            if let Some((_, rest)) = seen[before..].split_once("listen=[") {
                break rest.split([']', ',']).next().unwrap().parse().unwrap();
            }
        };
        // Reads the rest of the log, so that a full pipe does not block the process.
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Self { child, address }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_waited_for = self.child.wait();
    }
}

/// One keep-alive connection.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// The status and body of the answer; an error if the server is gone.
    fn ask(&mut self, method: &str, key: &str, content: &str) -> io::Result<(u16, String)> {
        let request = format!(
            "{method} /kv/{key}?api-version=2023-11-01 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{content}",
            content.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest.get(..3).and_then(|status| status.parse().ok());
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status.unwrap(), String::from_utf8(body).unwrap()))
    }
}

/// The acknowledged state of each key: `Some` value, or `None` after a deletion. A key with an unacknowledged last
/// write is left out.
type Known = BTreeMap<String, Option<u64>>;

/// Writes, rewrites and deletes until the server is gone. Sends a message for every acknowledgement.
fn write_until_gone(address: SocketAddr, writer: String, acknowledged: &mpsc::Sender<()>) -> Known {
    let mut connection = Connection::open(address);
    let mut known = Known::new();
    for number in 0_u64.. {
        let key = format!("{writer}-{}", number / 3);
        let deletes = number % 9 == 8;
        let before = known.remove(&key);
        let answer = if deletes {
            connection.ask("DELETE", &key, "")
        } else {
            connection.ask("PUT", &key, &format!("{{\"value\":\"{number}\"}}"))
        };
        match answer {
            Ok((status, body)) => {
                assert_eq!(status, 200, "{writer}: {body} (before: {before:?})");
                known.insert(key, (!deletes).then_some(number));
                let _nobody_counts_any_more = acknowledged.send(());
            }
            Err(_) => break,
        }
    }
    known
}

#[test]
fn a_kill_under_load_loses_no_acknowledged_write() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut known = Known::new();
    for round in 0..4 {
        let process = Process::start(&data);
        let (acknowledge, acknowledged) = mpsc::channel();
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (address, acknowledge) = (process.address, acknowledge.clone());
                thread::spawn(move || write_until_gone(address, format!("r{round}w{writer}"), &acknowledge))
            })
            .collect();
        drop(acknowledge);
        assert_eq!(acknowledged.iter().take(400).count(), 400, "the writers stopped before the kill");
        process.kill();
        for writer in writers {
            known.extend(writer.join().unwrap());
        }
        // Every write that was acknowledged in any round so far is present.
        let process = Process::start(&data);
        let mut connection = Connection::open(process.address);
        for (key, value) in &known {
            let (status, body) = connection.ask("GET", key, "").unwrap();
            match value {
                None => assert_eq!(status, 404, "{key} was deleted and exists again: {body}"),
                Some(number) => {
                    assert_eq!(status, 200, "{key} is lost");
                    assert!(
                        body.contains(&format!("\"value\":\"{number}\"")),
                        "{key} has an older value: {body}"
                    );
                }
            }
        }
    }
    assert!(known.values().any(Option::is_none) && known.len() > 300);
}
