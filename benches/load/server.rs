//! The emulator and the sidecar of a scenario, each a process of its own, and what the emulator starts with.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::CONNECTIONS_LIMIT;

/// Key-values that are older than the sidecar, as most of a store are.
pub(crate) fn seed(keys: usize) -> NamedTempFile {
    let items: Vec<_> = (0..keys)
        .map(|key| {
            serde_json::json!({
                "key": format!("load/{key}"), "label": null, "value": "v0", "content_type": null, "tags": {},
                "locked": false, "last_modified": "2026-01-01T00:00:00+00:00"
            })
        })
        .collect();
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(serde_json::json!({ "items": items }).to_string().as_bytes()).expect("room for it");
    file
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The program that is measured: the one that the environment names, or the one that was built with this bench.
fn binary() -> String {
    std::env::var("BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tagalong").to_owned())
}

/// A server; ended with this program.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a server on two free ports; on others if another process took one of them meanwhile.
    pub(crate) async fn start(arguments: impl Fn([u16; 2]) -> String) -> (Self, [u16; 2]) {
        for _ in 0..5 {
            let ports = [free_port(), free_port()];
            let mut command = Command::new(binary());
            command.args(arguments(ports).split(' '));
            command.env("TAGALONG_LIMITS__CONNECTIONS", CONNECTIONS_LIMIT.to_string());
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary");
            let mut process = Self(child);
            while process.0.try_wait().expect("a child").is_none() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0])).await.is_ok()
                    && TcpStream::connect((Ipv4Addr::LOCALHOST, ports[1])).await.is_ok()
                {
                    return (process, ports);
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("does not start: {}", arguments([0, 0]))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, if this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
