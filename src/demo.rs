//! `tagalong demo`: the emulator, a sidecar in front of it, and a tour of what the sidecar does.
//!
//! The tour makes real requests over loopback and checks each of its statements. With `--once` the command ends after
//! the tour, and succeeds only if every check holds.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tagalong::{
    Address, Clock, Config, EmulatorOptions, EmulatorSettings, Environment, Layers, RunningEmulator, Sidecar,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::cli::{CommandFailure, print};
use crate::signals::{Signals, until_stopped};

/// How long a change takes to reach every replica of the emulator: long enough for the tour to see an older state.
const SETTLE: Duration = Duration::from_secs(3);

/// The limit for one request of the tour.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

const GREETING: &str = "/kv/demo:greeting?api-version=2023-11-01";

/// A key that the tour does not read, so that the first request of the user is a miss.
const COLOUR: &str = "/kv/demo:colour?api-version=2023-11-01";

/// Flags of `tagalong demo`.
#[derive(Args)]
pub(crate) struct DemoOptions {
    /// Run the tour on free ports, check each statement, and stop
    #[arg(long)]
    once: bool,
}

/// A response.
struct Seen {
    status: StatusCode,
    fields: HeaderMap,
    body: String,
}

impl Seen {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The member of `Cache-Status` that the sidecar wrote.
    fn cache_status(&self) -> &str {
        self.field("cache-status").rsplit(", ").next().unwrap_or_default()
    }

    fn is_hit(&self) -> bool {
        self.cache_status().starts_with("tagalong; hit")
    }

    fn value(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        json["value"].as_str().unwrap_or_default().to_owned()
    }
}

/// Runs the demo.
pub(crate) async fn run(options: &DemoOptions) -> Result<(), CommandFailure> {
    let signals = Signals::listen_with_hangup()?;
    let emulator = RunningEmulator::start(&emulator_options(options), Clock::System).await?;
    let origin = first(emulator.addresses())?;
    let config = config(options, origin)?;
    let sidecar = Sidecar::bind(&config, &Environment::default()).await?;
    let tcp = sidecar.addresses()?.into_iter().filter_map(|address| match address {
        Address::Tcp(address) => Some(address),
        _ => None,
    });
    let (address, admin) = (first(tcp.collect())?, first(sidecar.admin_addresses()?)?);
    let closing = CancellationToken::new();
    let serving_emulator = tokio::spawn(emulator.until(closing.clone().cancelled_owned()));
    let serving = sidecar.run(closing.clone());
    let touring = async {
        let tour = Tour { origin, address, admin }.play().await;
        if tour.is_ok() && !options.once {
            print(&invitation(origin, address, admin))?;
            until_stopped(signals, CancellationToken::cancelled_owned).await;
        }
        closing.cancel();
        tour
    };
    let (tour, served) = tokio::join!(touring, serving);
    served?;
    let stopped = serving_emulator.await.map_err(|error| CommandFailure::Failed(error.to_string()))?;
    stopped.map_err(|error| CommandFailure::Failed(error.to_string()))?;
    tour
}

fn first(addresses: Vec<SocketAddr>) -> Result<SocketAddr, CommandFailure> {
    addresses.into_iter().next().ok_or_else(|| {
        CommandFailure::NotTried(
            "the listeners have no address; set listener.listen and admin.listen".to_owned(),
        )
    })
}

fn emulator_options(options: &DemoOptions) -> EmulatorOptions {
    let any_port = options.once.then(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    EmulatorOptions {
        listen: any_port.into_iter().collect(),
        admin_listen: any_port,
        settings: EmulatorSettings { replicas: 3, settle: SETTLE, ..EmulatorSettings::default() },
        ..EmulatorOptions::default()
    }
}

fn config(options: &DemoOptions, origin: SocketAddr) -> Result<Config, CommandFailure> {
    let mut layers = Layers::new()
        .assignment(&format!("upstream.url=http://{origin}"))
        .assignment("upstream.profile=app-configuration")
        .assignment("upstream.credential.kind=none")
        .assignment("deadlines.drain=1s");
    if options.once {
        layers = layers.assignment("listener.listen=127.0.0.1:0").assignment("admin.listen=127.0.0.1:0");
    }
    Ok(Config::new(layers)?)
}

fn invitation(origin: SocketAddr, address: SocketAddr, admin: SocketAddr) -> String {
    format!(
        "\nThe emulator and the sidecar keep running. In another terminal:\n\n  \
         curl -i 'http://{address}{COLOUR}'          # twice: a miss, then a hit with Age\n  \
         curl -i -X PUT -H 'Content-Type: application/json' -d '{{\"value\":\"red\"}}' 'http://{address}{COLOUR}'\n  \
         curl -s 'http://{admin}/metrics' | grep tagalong_requests\n  \
         tagalong top --admin-listen {admin}   # or open http://{admin}/ in a browser\n  \
         curl -s 'http://{origin}{COLOUR}'           # the origin itself: up to {} s after a write it may show the old value\n\n\
         Ctrl-C stops it.\n",
        SETTLE.as_secs()
    )
}

/// The tour. It checks each of its statements.
struct Tour {
    origin: SocketAddr,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Tour {
    async fn play(&self) -> Result<(), CommandFailure> {
        print(&format!(
            "tagalong demo: an App Configuration emulator on {} with 3 replicas that settle within {} s,\n\
             and a sidecar in front of it on {} (admin port {}).\n",
            self.origin,
            SETTLE.as_secs(),
            self.address,
            self.admin
        ))?;
        self.read_twice().await?;
        self.write_and_read().await?;
        self.validate().await?;
        self.count().await?;
        print("\nEvery check holds.\n")
    }

    async fn read_twice(&self) -> Result<(), CommandFailure> {
        heading("A caller writes a value through the sidecar")?;
        let put = shown(self.address, write_request(GREETING, r#"{"value":"hello"}"#)).await?;
        check(put.status == StatusCode::OK, "the write went through", &put)?;
        let put = quiet(self.address, write_request(COLOUR, r#"{"value":"blue"}"#)).await?;
        check(
            put.status == StatusCode::OK,
            "the second write, of a value for you to read, went through",
            &put,
        )?;
        heading("It is read for the first time")?;
        let miss = shown(self.address, read_request(GREETING)).await?;
        check(
            miss.cache_status().contains("fwd=uri-miss"),
            "nothing was stored, so the request went to the origin",
            &miss,
        )?;
        check(miss.cache_status().contains("stored"), "the answer was stored", &miss)?;
        heading("It is read again: from memory, with its age")?;
        let hit = shown(self.address, read_request(GREETING)).await?;
        check(hit.is_hit(), "it is a hit", &hit)?;
        check(!hit.field("age").is_empty(), "the answer has an Age", &hit)?;
        check(hit.value() == miss.value() && hit.value() == "hello", "it is the same value", &hit)
    }

    async fn write_and_read(&self) -> Result<(), CommandFailure> {
        heading("One caller writes; another one, on its own connection, reads at once")?;
        let put = shown(self.address, write_request(GREETING, r#"{"value":"hello again"}"#)).await?;
        check(put.status == StatusCode::OK, "the write went through", &put)?;
        let read = shown(self.address, read_request(GREETING)).await?;
        check(
            !read.is_hit(),
            "the stored answer is older than the write, so the request went to the origin",
            &read,
        )?;
        check(read.value() == "hello again", "and the reader sees what was written", &read)?;
        let mut old = 0;
        for _ in 0..12 {
            let direct = quiet(self.origin, read_request(GREETING)).await?;
            old += u32::from(direct.value() != "hello again");
        }
        say(&format!(
            "(The origin itself, asked 12 times without a Sync-Token, showed an older state {old} times.)"
        ))?;
        let hit = shown(self.address, read_request(GREETING)).await?;
        check(hit.is_hit() && hit.value() == "hello again", "the next read is a hit with the new value", &hit)
    }

    async fn validate(&self) -> Result<(), CommandFailure> {
        heading("A caller that has the value already asks whether it is still current")?;
        let known = quiet(self.address, read_request(GREETING)).await?;
        let mut conditional = read_request(GREETING);
        conditional.headers_mut().extend(known.fields.get(ETAG).map(|tag| (IF_NONE_MATCH, tag.clone())));
        let fresh = shown(self.address, conditional).await?;
        check(fresh.status == StatusCode::NOT_MODIFIED, "the answer is 304, without a body", &fresh)?;
        check(fresh.is_hit() && fresh.body.is_empty(), "the sidecar did not ask the origin", &fresh)
    }

    async fn count(&self) -> Result<(), CommandFailure> {
        heading("The metrics agree")?;
        let metrics = quiet(self.admin, read_request("/metrics")).await?;
        let requests = |outcome: &str| {
            let start = format!("tagalong_requests_total{{cache_status=\"{outcome}\",upstream=\"main\"}} ");
            metrics.body.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok())
        };
        for line in metrics
            .body
            .lines()
            .filter(|line| line.starts_with("tagalong_requests_total") && !line.ends_with(" 0"))
        {
            say(line)?;
        }
        check(requests("hit") == Some(4), "four hits", &metrics)?;
        check(requests("uri-miss") == Some(1), "one miss", &metrics)?;
        check(requests("method") == Some(3), "three writes", &metrics)?;
        check(requests("stale") == Some(1), "one stored answer that the write outdated", &metrics)?;
        let ready = quiet(self.admin, read_request("/readyz")).await?;
        check(ready.status == StatusCode::OK, "the sidecar is ready for callers", &ready)
    }
}

fn heading(text: &str) -> Result<(), CommandFailure> {
    print(&format!("\n== {text}\n"))
}

fn say(text: &str) -> Result<(), CommandFailure> {
    print(&format!("   {text}\n"))
}

fn check(held: bool, what: &str, seen: &Seen) -> Result<(), CommandFailure> {
    if held {
        return say(&format!("ok: {what}"));
    }
    let head = head("<", &format!("{:?} {}", http::Version::HTTP_11, seen.status), &seen.fields);
    Err(CommandFailure::Failed(format!(
        "the demo expected: {what}; please report this answer:\n{head}{}",
        seen.body
    )))
}

/// Makes a request on its own connection and prints both heads.
async fn shown(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Seen, CommandFailure> {
    print(&head(">", &format!("{} {} HTTP/1.1", request.method(), request.uri()), request.headers()))?;
    let seen = quiet(address, request).await?;
    print(&head("<", &format!("HTTP/1.1 {}", seen.status), &seen.fields))?;
    Ok(seen)
}

fn read_request(target: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = Uri::from_static(target);
    request
}

fn write_request(target: &'static str, body: &'static str) -> Request<Full<Bytes>> {
    let mut request = read_request(target).map(|_| Full::from(body));
    *request.method_mut() = Method::PUT;
    let media_type = HeaderValue::from_static("application/vnd.microsoft.appconfig.kv+json");
    request.headers_mut().insert(CONTENT_TYPE, media_type);
    request
}

/// Makes a request on its own connection.
async fn quiet(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Result<Seen, CommandFailure> {
    request.headers_mut().insert(HOST, HeaderValue::try_from(address.to_string())?);
    let failed = |error: &dyn std::fmt::Display| {
        CommandFailure::Failed(format!(
            "no answer from {address}: {error}; check that no other process uses this port"
        ))
    };
    let exchanging = async {
        let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        connection.abort();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Seen { status: parts.status, fields: parts.headers, body })
    };
    tokio::time::timeout(STEP_DEADLINE, exchanging).await.map_err(|error| failed(&error))?
}

/// A head in the form of curl, with the fields that the tour explains.
fn head(direction: &str, first_line: &str, fields: &HeaderMap) -> String {
    const SHOWN: [&str; 6] = ["cache-status", "age", "etag", "if-none-match", "sync-token", "content-length"];
    let mut text = format!("{direction} {first_line}\n");
    for (name, value) in fields.iter().filter(|(name, _)| SHOWN.contains(&name.as_str())) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{direction} {name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}
