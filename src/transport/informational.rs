//! Counts the informational answers (1xx) to one request of HTTP/1.1, in the bytes of its connection: the parser drops them, and
//! would do so without end. An answer that begins with a final status costs one comparison.

use std::io;

/// Most informational answers to one request (RFC 9110 §15.2 names no bound; real origins send one or two).
pub const INFORMATIONAL_LIMIT: usize = 20;

/// The first digit of the status in `HTTP/1.1 200 OK`.
const STATUS_POSITION: usize = 9;

/// The origin sends informational answers without end.
#[derive(Debug, thiserror::Error)]
#[error("it sent more than {INFORMATIONAL_LIMIT} informational answers (1xx) to one request")]
pub struct TooManyInformational;

/// The count for one request, fed with the bytes of its answer as they arrive.
#[derive(Debug, Default)]
pub struct InformationalCount {
    count: usize,
    at: At,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Nothing of an answer yet, or empty lines ahead of it.
    #[default]
    Start,
    /// So many bytes of the status line, up to the status.
    StatusLine(usize),
    /// Inside a line of an informational answer; whether it has any bytes so far.
    Line { is_empty: bool },
    /// In the final answer: nothing more to count.
    Final,
}

impl InformationalCount {
    /// Reads on.
    ///
    /// # Errors
    /// [`TooManyInformational`] inside an I/O error, which ends the connection.
    pub fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at == At::Start && bytes.first() == Some(&b'H') {
            match bytes.get(STATUS_POSITION) {
                None | Some(b'1') => {}
                Some(_) => self.at = At::Final,
            }
        }
        for byte in bytes {
            self.at = match (self.at, byte) {
                (At::Final, _) => return Ok(()),
                (At::Start, b'\r' | b'\n') => At::Start,
                (At::Start, _) => At::StatusLine(1),
                (At::StatusLine(STATUS_POSITION), b'1') => {
                    self.count += 1;
                    if self.count > INFORMATIONAL_LIMIT {
                        return Err(io::Error::other(TooManyInformational));
                    }
                    At::Line { is_empty: false }
                }
                (At::StatusLine(STATUS_POSITION), _) => At::Final,
                (At::StatusLine(length), _) => At::StatusLine(length + 1),
                (At::Line { is_empty: true }, b'\n') => At::Start,
                (At::Line { .. }, b'\n') => At::Line { is_empty: true },
                (line @ At::Line { .. }, b'\r') => line,
                (At::Line { .. }, _) => At::Line { is_empty: false },
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

    /// Whether an answer passes that arrives in pieces of this size.
    fn passes(answer: &str, piece_bytes: usize) -> bool {
        let mut count = InformationalCount::default();
        answer.as_bytes().chunks(piece_bytes).all(|piece| count.read(piece).is_ok())
    }

    #[test]
    fn the_limit_holds_however_the_bytes_are_cut() {
        let end = "HTTP/1.1 200 OK\r\n\r\n";
        for piece_bytes in [1, 2, 7, 9, 10, 11, 40, 41, 1000] {
            assert!(passes(&format!("{}{end}", HINT.repeat(20)), piece_bytes), "{piece_bytes}");
            assert!(!passes(&format!("{}{end}", HINT.repeat(21)), piece_bytes), "{piece_bytes}");
        }
    }

    #[test]
    fn other_line_ends_and_empty_lines_do_not_hide_them() {
        for hint in
            ["HTTP/1.1 100 Continue\n\n", "\r\n\r\nHTTP/1.1 102 x\r\n\r\n", "HTTP/1.0 199 \r\na: b\r\n\r\n"]
        {
            assert!(!passes(&hint.repeat(21), 1000), "{hint:?}");
            assert!(passes(&hint.repeat(20), 3), "{hint:?}");
        }
    }

    #[test]
    fn the_body_of_a_final_answer_is_not_counted() {
        for piece_bytes in [1, 9, 10, 1000] {
            assert!(passes(&format!("HTTP/1.1 200 OK\r\n\r\n{}", HINT.repeat(50)), piece_bytes));
        }
    }
}
