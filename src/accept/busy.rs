//! The answer to a connection over the limit: 503 at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use super::listener::Stream;

/// Sent without waiting for a request, so that the caller learns at once that the limit is reached.
const ANSWER: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Retry-After: 1\r\n\
    Cache-Control: no-store\r\n\
    Content-Type: application/problem+json\r\n\
    Content-Length: 164\r\n\
    Connection: close\r\n\r\n\
    {\"title\":\"Too many connections\",\"status\":503,\
    \"detail\":\"All connections are taken. Reuse connections, or raise limits.connections or limits.connections_per_caller.\"}";

/// Sent to a process whose user may not connect.
const REFUSAL: &str = "HTTP/1.1 403 Forbidden\r\n\
    Cache-Control: no-store\r\n\
    Content-Type: application/problem+json\r\n\
    Content-Length: 135\r\n\
    Connection: close\r\n\r\n\
    {\"title\":\"This user may not connect\",\"status\":403,\
    \"detail\":\"Run the application as one of listener.unix_users, or add its user there.\"}";

/// How long the answer waits for the caller to take it.
const LINGER: Duration = Duration::from_secs(1);

/// How many such answers may be under way; beyond that connections are just closed, so that a flood costs nothing.
pub(super) const MOST_AT_ONCE: usize = 64;

/// Tells callers that the limit of connections is reached.
#[derive(Clone, Debug)]
pub(super) struct Busy(Arc<Semaphore>);

impl Default for Busy {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_AT_ONCE)))
    }
}

impl Busy {
    /// Says that the limit is reached, in a task of its own, and closes.
    pub(super) fn answer(&self, stream: Stream) {
        self.say(ANSWER, stream);
    }

    /// Says that the other side's user may not connect, in the same way.
    pub(super) fn refuse(&self, stream: Stream) {
        self.say(REFUSAL, stream);
    }

    fn say(&self, text: &'static str, mut stream: Stream) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let _permit = permit;
            let answered = async {
                stream.write_all(text.as_bytes()).await?;
                stream.shutdown().await?;
                // Closing while bytes of a request wait unread resets the connection, and the answer is lost with it.
                let mut unread = [0; 1024];
                while stream.read(&mut unread).await? > 0 {}
                Ok::<_, std::io::Error>(())
            };
            // A caller that disconnected, or does not read, gets no more.
            let _ = tokio::time::timeout(LINGER, answered).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        for (text, status) in [(ANSWER, 503), (REFUSAL, 403)] {
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
            let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(problem["status"], status);
        }
    }
}
