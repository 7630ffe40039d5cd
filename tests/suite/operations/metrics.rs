//! What `/metrics` of a sidecar shows before anything has happened.

use std::io::Write;

use super::process::{Process, all, closed_address, connect};

const REFERENCE: &str = include_str!("../../../config/OPERATIONS.md");

/// The families in the table of the reference.
fn promised() -> Vec<&'static str> {
    REFERENCE.lines().filter_map(|line| line.strip_prefix("| `tagalong_")?.split('`').next()).collect()
}

#[test]
fn every_family_has_a_sample_from_the_start() {
    let process = Process::start(closed_address(), &[]);
    let mut operator = connect(process.operator);
    write!(operator, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    let text = all(operator);
    assert!(promised().len() > 40, "{:?}", promised());
    for name in promised() {
        let has_sample = text.lines().any(|line| {
            let rest = line.strip_prefix("tagalong_").and_then(|line| line.strip_prefix(name));
            rest.is_some_and(|rest| ["{", " ", "_bucket{"].iter().any(|next| rest.starts_with(next)))
        });
        assert!(has_sample, "tagalong_{name} has no sample in\n{text}");
    }
    for line in [
        r#"tagalong_refusals_total{reason="connect"} 0"#,
        r#"tagalong_request_details_total{detail="own-write",upstream="main"} 0"#,
        r#"tagalong_connection_errors_total{reason="slow-header"} 0"#,
        r#"tagalong_credential_refusals_total{reason="clock",upstream="main"} 0"#,
    ] {
        assert!(text.lines().any(|it| it.trim() == line), "{line} is missing in\n{text}");
    }
}
