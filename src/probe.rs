//! `tagalong live|ready|wait|top|quit|explain`: requests to the admin port of the sidecar on this machine, for images without a shell or
//! curl.

use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use tagalong::{Clock, Config};

use crate::cli::CommandFailure;

/// The limit for one request. The default limit of a Kubernetes probe is 1 s.
const DEADLINE: Duration = Duration::from_millis(900);

/// The limit for a question of a person.
const QUESTION_DEADLINE: Duration = Duration::from_secs(5);

/// The pause between two requests of `wait`.
const PAUSE: Duration = Duration::from_millis(50);

/// The maximum length of an answer that is read.
const ANSWER_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// The admin port of a sidecar.
pub(crate) struct Probe {
    addresses: Vec<SocketAddr>,
    /// The field line that proves the operator, if there is one.
    authorization: String,
}

impl Probe {
    /// The admin port that a configuration names.
    pub(crate) fn of(config: &Config) -> Result<Self, CommandFailure> {
        let addresses: Vec<SocketAddr> = config
            .admin
            .listen
            .iter()
            .filter(|address| address.port() != 0)
            .map(|it| reachable(*it))
            .collect();
        if addresses.is_empty() {
            let advice = "admin.listen has no address with a port; set one with --admin-listen";
            return Err(CommandFailure::NotTried(advice.to_owned()));
        }
        Ok(Self { addresses, authorization: String::new() })
    }

    /// The same for what asks for the token of `admin.token_file`, if the configuration names one.
    pub(crate) fn authorized(config: &Config) -> Result<Self, CommandFailure> {
        let probe = Self::of(config)?;
        let Some(path) = &config.admin.token_file else { return Ok(probe) };
        let unreadable = |cause: &dyn Display| {
            CommandFailure::NotTried(format!("admin.token_file {} cannot be read: {cause}", path.display()))
        };
        // What is no regular file could keep the reader waiting.
        if !path.is_file() {
            return Err(unreadable(&"there is no such file"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
        // A line break within it would end the field.
        let token = text.split_whitespace().next().unwrap_or_default();
        Ok(Self { authorization: format!("Authorization: Bearer {token}\r\n"), ..probe })
    }

    pub(crate) fn live(&self) -> Result<(), String> {
        self.ask("/livez")
    }

    pub(crate) fn ready(&self) -> Result<(), String> {
        self.ask("/readyz")
    }

    /// The body of `/admin/status`. Names of keys are told to who has the token.
    pub(crate) fn status(&self) -> Result<String, String> {
        self.send("GET /admin/status", "", DEADLINE)
    }

    /// Asks the sidecar to drain and to end.
    pub(crate) fn quit(&self) -> Result<(), String> {
        self.question("/admin/quit", "").map(drop)
    }

    #[expect(clippy::disallowed_methods, reason = "nothing else runs in this process, so nothing is blocked")]
    pub(crate) fn wait(&self, timeout: Duration) -> Result<(), String> {
        let clock = Clock::System;
        let start = clock.now();
        loop {
            match self.ready() {
                Err(reason) if clock.now().since(start) >= timeout => return Err(reason),
                Err(_) => std::thread::sleep(PAUSE),
                Ok(()) => return Ok(()),
            }
        }
    }

    fn ask(&self, path: &str) -> Result<(), String> {
        self.send(&format!("GET {path}"), "", DEADLINE).map(drop)
    }

    /// The answer to a `POST` of JSON.
    pub(crate) fn question(&self, path: &str, body: &str) -> Result<String, String> {
        self.send(&format!("POST {path}"), body, QUESTION_DEADLINE)
    }

    /// The body of an answer. Asks the addresses in order; the first answer decides.
    fn send(&self, line: &str, body: &str, deadline: Duration) -> Result<String, String> {
        let mut unreachable = String::new();
        for address in &self.addresses {
            match exchange(*address, line, &self.authorization, body, deadline) {
                Ok(answer) => return judge(*address, &answer),
                Err(error) => {
                    let separator = if unreachable.is_empty() { "" } else { "; " };
                    unreachable = format!("{unreachable}{separator}{address}: {error}");
                }
            }
        }
        Err(format!(
            "no sidecar answers on its admin port ({unreachable}); start it, or name its port with --admin-listen"
        ))
    }
}

/// The address to connect to: loopback for a listener on all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn exchange(
    address: SocketAddr,
    line: &str,
    authorization: &str,
    body: &str,
    deadline: Duration,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, deadline)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    let content = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    let head =
        format!("{line} HTTP/1.1\r\nHost: {address}\r\n{authorization}{content}Connection: close\r\n\r\n");
    // At once: the port may answer, and close, before it has read a body.
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The body of an answer that succeeds. What the operator's port refuses it explains in a problem (RFC 9457).
fn judge(address: SocketAddr, answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next());
    let explains = head.to_ascii_lowercase().contains("content-type: application/problem+json");
    match status {
        Some("200") => Ok(body.to_owned()),
        Some(status) if status == "503" || explains => Err(format!("{status}: {}", body.trim())),
        other => Err(format!(
            "{address} is not the operator's port of a sidecar: it answers {}; name that port with --admin-listen",
            other.unwrap_or("no HTTP")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_succeeds_and_other_answers_give_the_reason() {
        let judge = |answer| judge("127.0.0.1:85".parse().unwrap(), answer);
        assert_eq!(judge("HTTP/1.1 200 OK\r\n\r\n{}"), Ok("{}".to_owned()));
        let refused =
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n\r\n{\"title\":\"url\"}\n";
        assert_eq!(judge(refused), Err("400: {\"title\":\"url\"}".to_owned()));
        let draining = judge("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"reasons\":[\"draining\"]}\n");
        assert_eq!(draining, Err("503: {\"reasons\":[\"draining\"]}".to_owned()));
        for (answer, what) in [
            ("", "no HTTP"),
            ("SSH-2.0-x", "no HTTP"),
            ("HTTP/1.1 404 Not Found\r\n\r\n", "404"),
            ("HTTP/1.1 504 Gateway Timeout\r\n\r\n{}", "504"),
        ] {
            let message = judge(answer).unwrap_err();
            assert!(message.contains("127.0.0.1:85 is not the operator's port"), "{message}");
            assert!(
                message.contains(&format!("it answers {what}; name that port with --admin-listen")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:85".parse().unwrap()), "127.0.0.1:85".parse().unwrap());
        assert_eq!(reachable("[::]:85".parse().unwrap()), "[::1]:85".parse().unwrap());
        assert_eq!(reachable("10.0.0.1:85".parse().unwrap()), "10.0.0.1:85".parse().unwrap());
    }
}
