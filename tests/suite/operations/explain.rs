//! `tagalong explain` as a command, before a sidecar in its own process.

use std::io::Write;
use std::process::Output;

use super::process::{Process, all, closed_address, connect, output};

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_person_gets_the_reason_in_one_command() {
    let process = Process::start(closed_address(), &[]);
    let operator = process.operator.to_string();
    let explain = |more: &[&str]| output(&[&["explain", "--admin-listen", &operator], more].concat());
    let url = format!("http://{}/kv/a?x=1", process.callers);
    let told = stdout(&explain(&[&url]));
    let first = told.lines().next().unwrap();
    assert_eq!(first, "fwd=uri-miss: the origin is asked, because nothing is stored for the target");
    assert!(told.contains("listener main -> upstream main") && told.contains("GET /kv/a?x=1"), "{told}");
    assert!(told.contains("504, Cache-Status: tagalong; fwd=uri-miss; detail=connect"), "{told}");
    // What the answer of the origin showed is told afterwards.
    let mut caller = connect(process.callers);
    write!(caller, "GET /kv/a?x=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert!(all(caller).starts_with("HTTP/1.1 504 "));
    let told = stdout(&explain(&[&url]));
    assert!(
        told.contains("last failure") && told.contains("disconnected 0 s ago: cannot connect to "),
        "{told}"
    );
    let refused = stdout(&explain(&["/a", "-H", "Host: attacker.test"]));
    assert!(refused.starts_with("refused with 403 (host-not-allowed): "), "{refused}");
    let json = stdout(&explain(&[
        "--json",
        "--method",
        "PUT",
        "--with-body",
        "/a",
        "-H",
        "Authorization: Bearer hunter2",
    ]));
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&parsed["decision"], &parsed["request"]["method"]), (&"forward".into(), &"PUT".into()));
    assert!(!json.contains("hunter2"));
    // What cannot be asked is told.
    for (more, code, says) in [
        (&["--upstream", "other", "/a"][..], 1, "No upstream is named \"other\""),
        (&["http://a b/"], 1, "The URL is not one of HTTP"),
        (&["--method", "a b", "/a"], 1, "The method is not one of HTTP"),
        (&["-H", "Accept", "/a"], 2, "-H takes a name and a value"),
    ] {
        let output = explain(more);
        assert_eq!(output.status.code(), Some(code), "{more:?}");
        assert!(stderr(&output).contains(says), "{more:?}: {}", stderr(&output));
    }
    let away = output(&["explain", "--admin-listen", &closed_address().to_string(), "/a"]);
    assert_eq!(away.status.code(), Some(1));
    assert!(stderr(&away).contains("no sidecar answers on its admin port"), "{}", stderr(&away));
}

#[test]
fn where_a_token_is_configured_the_question_needs_it() {
    let directory = tempfile::tempdir().unwrap();
    let token = format!("admin.token_file={}", directory.path().join("token").display());
    let process = Process::start(closed_address(), &["--set", &token]);
    let operator = process.operator.to_string();
    let without = output(&["explain", "--admin-listen", &operator, "/a"]);
    assert_eq!(without.status.code(), Some(1));
    assert!(stderr(&without).contains("Send Authorization: Bearer"), "{}", stderr(&without));
    let with = output(&["explain", "--admin-listen", &operator, "--set", &token, "/a"]);
    assert!(stdout(&with).starts_with("fwd=uri-miss"));
    let mut raw = connect(process.operator);
    let body = "{\"url\":\"/a\"}";
    let head = "POST /admin/explain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n";
    write!(raw, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    assert!(all(raw).starts_with("HTTP/1.1 401 "));
}
