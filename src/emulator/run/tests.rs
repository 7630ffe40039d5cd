use clap::Parser as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    options: Options,
}

fn options(arguments: &[&str]) -> Options {
    let fixed =
        ["emulator", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--random-seed", "1"];
    Command::try_parse_from([&fixed[..], arguments].concat()).unwrap().options
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    // A connection that a fault cuts may end with a reset. The test compares the bytes before it.
    let _may_be_reset = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn an_emulator_serves_counts_fails_and_stops() {
    let running =
        Running::start(&options(&["--fault", "unavailable path=/kv/broken"]), Clock::System).await.unwrap();
    let (address, admin) = (running.addresses()[0], running.admin_address().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(running.until(async {
        let _stop_or_drop = stopped.await;
    }));
    assert!(ask(address, "GET /kv?api-version=2023-11-01 HTTP/1.1").await.starts_with("HTTP/1.1 200"));
    assert!(ask(address, "GET /kv/broken?api-version=2023-11-01 HTTP/1.1").await.starts_with("HTTP/1.1 503"));
    let counts = ask(admin, "GET /__emulator/counts HTTP/1.1").await;
    assert!(counts.contains(r#""GET /kv":{"200":1}"#) && counts.contains(r#""503":1"#), "{counts}");
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn pages_and_rebound_names_are_refused_at_both_ports() {
    let running = Running::start(&options(&[]), Clock::System).await.unwrap();
    let ports = [
        (running.addresses()[0], "/kv?api-version=2023-11-01"),
        (running.admin_address().unwrap(), "/__emulator/counts"),
    ];
    let _served = AbortOnDropHandle::new(tokio::spawn(running.until(std::future::pending())));
    for (address, target) in ports {
        for (status, fields) in [
            ("200", "Host: 127.0.0.1"),
            ("403", "Host: attacker.test"),
            ("403", "Host: localhost\r\nOrigin: http://attacker.test"),
            ("403", "Host: localhost\r\nSec-Fetch-Site: cross-site"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {target} HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target} {fields}: {answer}");
        }
    }
}

#[tokio::test]
async fn connections_are_dropped_where_the_plan_says() {
    let rules = [
        "--fault",
        "drop at=before-head path=/kv/a",
        "--fault",
        "drop at=within-head after_bytes=10 path=/kv/b",
        "--fault",
        "drop at=within-body after_bytes=5 path=/kv",
        "--fault",
        "truncate after_bytes=5 path=/keys",
    ];
    let running = Running::start(&options(&rules), Clock::System).await.unwrap();
    let address = running.addresses()[0];
    let served = tokio::spawn(running.until(std::future::pending()));
    assert_eq!(ask(address, "GET /kv/a?api-version=2023-11-01 HTTP/1.1").await, "");
    assert_eq!(ask(address, "GET /kv/b?api-version=2023-11-01 HTTP/1.1").await, "HTTP/1.1 4");
    for target in ["/kv", "/keys"] {
        let answer = ask(address, &format!("GET {target}?api-version=2023-11-01 HTTP/1.1")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length: usize = head
            .to_ascii_lowercase()
            .split_once("content-length: ")
            .unwrap()
            .1
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(length > 5, "{head}");
        assert_eq!(body.len(), 5, "{target}: {answer}");
    }
    served.abort();
}

#[tokio::test]
async fn data_survives_a_restart_and_a_seed_is_loaded_once() {
    let directory = tempfile::tempdir().unwrap();
    let (data, seed) = (directory.path().join("data"), directory.path().join("seed.json"));
    std::fs::write(&seed, r#"{"items":[{"key":"a","value":"1"}]}"#).unwrap();
    let options = options(&["--data", data.to_str().unwrap(), "--seed", seed.to_str().unwrap()]);
    let first = Running::start(&options, Clock::System).await.unwrap();
    assert_eq!(first.service.emulator().sequence_number(), 1);
    assert!(matches!(Running::start(&options, Clock::System).await, Err(EmulatorError::Journal(_))));
    drop(first);
    let second = Running::start(&options, Clock::System).await.unwrap();
    assert_eq!(second.service.emulator().sequence_number(), 1);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let Err(error) = Running::start(&options(&["--listen", &address]), Clock::System).await else {
        panic!("two emulators listen on {address}");
    };
    assert!(error.to_string().contains(&address), "{error}");
}
