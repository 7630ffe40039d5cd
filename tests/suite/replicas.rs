//! Failover to replicas that lag behind: no caller is shown anything older than what any caller was told.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tagalong::internals::clock::{Clock, Timestamp};
use tagalong::internals::headers::http_date;
use tagalong::internals::transport::dial::{Dial, UpstreamIo};
use tagalong::internals::transport::replica_discovery::ReplicaDiscovery;

use crate::support::scene::START;
use crate::support::serve::serve;
use crate::support::sidecar::Sidecar;

const ENDPOINTS: usize = 3;
const KEYS: usize = 6;
const LONGEST_LAG: Duration = Duration::from_secs(20);

/// One state of a key: `None` is absent.
#[derive(Clone, Debug)]
struct Change {
    version: u64,
    at: Timestamp,
    endpoint: usize,
    is_present: bool,
}

/// A store with an endpoint in each region. What is written at one reaches the others after their lag.
struct Store {
    clock: Clock,
    state: Mutex<StoreState>,
}

struct StoreState {
    versions: u64,
    history: BTreeMap<usize, Vec<Change>>,
    lag: [Duration; ENDPOINTS],
    is_alive: [bool; ENDPOINTS],
    /// What each endpoint has shown of each key: it never goes back.
    shown: [[u64; KEYS]; ENDPOINTS],
}

impl Store {
    fn new(clock: Clock) -> Arc<Self> {
        let state = StoreState {
            versions: 0,
            history: BTreeMap::new(),
            lag: [Duration::ZERO, LONGEST_LAG / 2, LONGEST_LAG],
            is_alive: [true; ENDPOINTS],
            shown: [[0; KEYS]; ENDPOINTS],
        };
        Arc::new(Self { clock, state: Mutex::new(state) })
    }

    fn write(&self, endpoint: usize, key: usize, is_present: bool) -> Change {
        let mut state = self.state.lock().unwrap();
        state.versions += 1;
        let change = Change { version: state.versions, at: self.clock.now(), endpoint, is_present };
        state.history.entry(key).or_default().push(change.clone());
        change
    }

    /// The latest change of a key that an endpoint knows of.
    fn visible(&self, endpoint: usize, key: usize) -> Option<Change> {
        let mut state = self.state.lock().unwrap();
        let now = self.clock.now();
        let (lag, shown) = (state.lag[endpoint], state.shown[endpoint][key]);
        let changes = state.history.get(&key)?;
        let knows = |change: &&Change| {
            change.version <= shown || change.endpoint == endpoint || change.at.plus(lag) <= now
        };
        let latest = changes.iter().rev().find(knows).cloned()?;
        state.shown[endpoint][key] = latest.version.max(shown);
        Some(latest)
    }

    /// How many changes an endpoint knows of: its sequence number.
    fn sequence_number(&self, endpoint: usize) -> u64 {
        (0..KEYS).filter_map(|key| self.visible(endpoint, key)).map(|change| change.version).sum::<u64>() + 1
    }

    fn is_alive(&self, endpoint: usize) -> bool {
        self.state.lock().unwrap().is_alive[endpoint]
    }

    fn answer(&self, endpoint: usize, request: &Parts) -> Response<Full<Bytes>> {
        let path = request.uri.path();
        let key = path.strip_prefix("/kv/k").and_then(|key| key.parse::<usize>().ok());
        let (status, tag, modified, body) = match (request.method.as_str(), key) {
            ("PUT", Some(key)) => present(key, &self.write(endpoint, key, true)),
            ("DELETE", Some(key)) => {
                self.write(endpoint, key, false);
                (204, None, None, String::new())
            }
            (_, Some(key)) => match self.visible(endpoint, key).filter(|change| change.is_present) {
                Some(change) => present(key, &change),
                None => (404, None, None, String::new()),
            },
            _ => self.list(endpoint),
        };
        let matches = tag.as_ref().is_some_and(|tag| {
            let condition = request.headers.get("if-none-match").and_then(|value| value.to_str().ok());
            condition.is_some_and(|condition| condition.contains(tag.as_str()))
        });
        let sequence_number = self.sequence_number(endpoint);
        let value = STANDARD.encode(format!("{endpoint}:{sequence_number}"));
        let mut answer = Response::builder()
            .header("date", http_date::format(self.clock.now()))
            .header("content-type", "application/json")
            .header("sync-token", format!("zAJw6V16={value};sn={sequence_number}"));
        if matches {
            return answer.status(304).body(Full::default()).unwrap();
        }
        if let Some(tag) = tag {
            answer = answer.header("etag", tag);
        }
        if let Some(modified) = modified {
            answer = answer.header("last-modified", http_date::format(modified));
        }
        answer.status(status).body(Full::from(body)).unwrap()
    }

    fn list(&self, endpoint: usize) -> (u16, Option<String>, Option<Timestamp>, String) {
        let items: Vec<(usize, Change)> = (0..KEYS)
            .filter_map(|key| Some((key, self.visible(endpoint, key).filter(|change| change.is_present)?)))
            .collect();
        let tag: Vec<String> = items.iter().map(|(_, change)| change.version.to_string()).collect();
        let items: Vec<String> = items.iter().map(|(key, change)| json(*key, change)).collect();
        (
            200,
            Some(format!("\"list-{}\"", tag.join("-"))),
            None,
            format!("{{\"items\":[{}]}}", items.join(",")),
        )
    }
}

fn present(key: usize, change: &Change) -> (u16, Option<String>, Option<Timestamp>, String) {
    (200, Some(format!("\"e{}\"", change.version)), Some(change.at), json(key, change))
}

fn json(key: usize, change: &Change) -> String {
    let modified = humantime_of(change.at);
    format!(
        r#"{{"etag":"e{0}","key":"k{key}","label":null,"content_type":null,"value":"{0}","last_modified":"{modified}","locked":false,"tags":{{}}}}"#,
        change.version
    )
}

/// RFC 3339 in whole seconds, as the service writes it.
fn humantime_of(at: Timestamp) -> String {
    let seconds = at.as_unix_seconds() - START.as_unix_seconds();
    let (day, rest) = (22 + seconds / 86_400, seconds % 86_400);
    assert!(day <= 30, "the test ends within November");
    format!("2026-11-{day:02}T{:02}:{:02}:{:02}+00:00", rest / 3600, rest / 60 % 60, rest % 60)
}

struct Regions(Arc<Store>);

impl Dial for Regions {
    fn dial(&self, uri: Uri) -> BoxFuture<'static, io::Result<Box<dyn UpstreamIo>>> {
        let store = Arc::clone(&self.0);
        let endpoint: usize = uri.port_u16().map_or(0, |port| usize::from(port - 9));
        Box::pin(async move {
            if !store.is_alive(endpoint) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let service = service_fn(move |request: Request<Incoming>| {
                let store = Arc::clone(&store);
                async move {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..30))).await;
                    if !store.is_alive(endpoint) {
                        return Err(io::Error::from(io::ErrorKind::ConnectionReset));
                    }
                    let (head, body) = request.into_parts();
                    let _whole = body.collect().await;
                    let answer = store.answer(endpoint, &head);
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..30))).await;
                    Ok(answer)
                }
            });
            tokio::spawn(serve(theirs, service));
            Ok(Box::new(ours) as Box<dyn UpstreamIo>)
        })
    }
}

/// What callers were told: of each key the least version that every later answer must have.
struct Told {
    floors: Mutex<[u64; KEYS]>,
}

#[derive(Debug, Default)]
struct Counts {
    answers: usize,
    older: usize,
    unavailable: usize,
    writes: usize,
}

impl Told {
    fn floors(&self) -> [u64; KEYS] {
        *self.floors.lock().unwrap()
    }

    fn tell(&self, key: usize, version: u64) {
        let mut floors = self.floors.lock().unwrap();
        floors[key] = floors[key].max(version);
    }

    /// Checks what an answer shows of a key against what had been told when it was asked for. `None`: that it is absent.
    fn check(&self, store: &Store, key: usize, floor: u64, shown: Option<u64>) -> bool {
        let version = shown.or_else(|| {
            // The least deletion that may have been shown.
            let state = store.state.lock().unwrap();
            let changes = state.history.get(&key).map(Vec::as_slice).unwrap_or_default();
            let deletion = changes.iter().find(|change| !change.is_present && change.version >= floor);
            deletion.map(|change| change.version).or((floor == 0).then_some(0))
        });
        match version {
            Some(version) if version >= floor => {
                self.tell(key, version);
                true
            }
            _ => false,
        }
    }
}

fn values(body: &str) -> Vec<(usize, u64)> {
    let json: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let items = json.get("items").and_then(|items| items.as_array().cloned()).unwrap_or_else(|| vec![json]);
    let of = |item: &serde_json::Value| {
        let key = item["key"].as_str()?.strip_prefix('k')?.parse().ok()?;
        Some((key, item["value"].as_str()?.parse().ok()?))
    };
    items.iter().map(|item| of(item).expect("a key-value")).collect()
}

/// So many operations of eight callers, while endpoints go down and come back. Tells what came of them, and how often the sidecar failed
/// over.
async fn simulate(operations: usize, seed: u64, keys: &[&str]) -> (Counts, f64) {
    // What the sidecar and the endpoints draw on this thread.
    fastrand::seed(seed);
    let clock = Clock::tokio(START);
    let store = Store::new(clock.clone());
    let replicas = "upstream.replicas=http://127.0.0.1:10,http://127.0.0.1:11";
    let lag = format!("upstream.replica_lag={}s", LONGEST_LAG.as_secs() + 2);
    let keys: Vec<&str> = [
        "upstream.profile=app-configuration",
        "upstream.credential.kind=none",
        "upstream.freshness=5s",
        // What is stored answers only where it is known to be as new as all that was told.
        "upstream.when_disconnected=consistent",
        replicas,
        &lag,
    ]
    .into_iter()
    .chain(keys.iter().copied())
    .collect();
    let sidecar = Arc::new(Sidecar::in_memory(Arc::new(Regions(Arc::clone(&store))), clock, &keys));
    let (told, counts) =
        (Arc::new(Told { floors: Mutex::default() }), Arc::new(Mutex::new(Counts::default())));
    let mut draw = fastrand::Rng::with_seed(seed);
    let outages = {
        let (store, mut draw) = (Arc::clone(&store), draw.fork());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(draw.u64(3..15))).await;
                let mut state = store.state.lock().unwrap();
                for endpoint in 0..ENDPOINTS {
                    state.is_alive[endpoint] = draw.u8(..3) > 0;
                    state.lag[endpoint] = LONGEST_LAG.mul_f64(draw.f64());
                }
                let survivor = draw.usize(..ENDPOINTS);
                state.is_alive[survivor] = true;
            }
        })
    };
    let callers = (0..8_usize).map(|_| {
        let (sidecar, store) = (Arc::clone(&sidecar), Arc::clone(&store));
        let (told, counts, mut draw) = (Arc::clone(&told), Arc::clone(&counts), draw.fork());
        tokio::spawn(async move {
            for _ in 0..operations / 8 {
                tokio::time::sleep(Duration::from_millis(draw.u64(..600))).await;
                let (key, what, floors) = (draw.usize(..KEYS), draw.u8(..100), told.floors());
                let mut caller = sidecar.caller().await;
                let (method, target, body) = match what {
                    0..70 => ("GET", format!("/kv/k{key}?api-version=2026-04-01"), ""),
                    70..85 => ("GET", "/kv?api-version=2026-04-01".to_owned(), ""),
                    85..96 => ("PUT", format!("/kv/k{key}?api-version=2026-04-01"), "{\"value\":\"\"}"),
                    _ => ("DELETE", format!("/kv/k{key}?api-version=2026-04-01"), ""),
                };
                if draw.u8(..20) == 0 {
                    // Another client of the store, at some region.
                    store.write(draw.usize(..ENDPOINTS), draw.usize(..KEYS), draw.u8(..5) > 0);
                }
                let request = if body.is_empty() {
                    format!("{method} {target}")
                } else {
                    format!("{method} {target}\nContent-Type: application/json\n\n{body}")
                };
                let answer = caller.send(&request).await;
                let is_right = match (method, answer.status) {
                    ("GET", 200) if what >= 70 => {
                        let values = values(answer.text());
                        (0..KEYS).all(|key| {
                            let shown = values.iter().find(|(it, _)| *it == key).map(|(_, version)| *version);
                            told.check(&store, key, floors[key], shown)
                        })
                    }
                    ("GET", 200) => told.check(&store, key, floors[key], Some(values(answer.text())[0].1)),
                    ("GET", 404) => told.check(&store, key, floors[key], None),
                    ("PUT", 200) => {
                        told.tell(key, values(answer.text())[0].1);
                        true
                    }
                    ("DELETE", 204) => {
                        told.check(&store, key, floors[key], None);
                        true
                    }
                    _ => {
                        counts.lock().unwrap().unavailable += 1;
                        continue;
                    }
                };
                let mut counts = counts.lock().unwrap();
                counts.answers += 1;
                counts.writes += usize::from(method != "GET");
                if !is_right {
                    counts.older += 1;
                    if counts.older <= 3 {
                        eprintln!(
                            "seed {seed}: older than told: {request:?}: {} {}",
                            answer.status,
                            answer.text()
                        );
                        eprintln!("  floors {floors:?}, {:?}", answer.field("cache-status"));
                    }
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    outages.abort();
    let failovers = sidecar.metric("tagalong_failovers_total{upstream=\"main\"}").unwrap();
    (Arc::try_unwrap(counts).unwrap().into_inner().unwrap(), failovers)
}

#[tokio::test(start_paused = true)]
async fn no_caller_is_shown_anything_older_than_any_was_told() {
    for seed in 1..=4 {
        let (counts, failovers) = simulate(4_000, seed, &[]).await;
        eprintln!("seed {seed}: {counts:?}, {failovers} failovers");
        assert_eq!(counts.older, 0, "seed {seed}");
        assert!(failovers >= 2.0 && counts.answers > counts.unavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_comparison_older_answers_are_shown() {
    let (counts, failovers) = simulate(8_000, 1, &["upstream.replica_lag=0s"]).await;
    eprintln!("{counts:?}, {failovers} failovers");
    assert!(counts.older > 0);
}

/// `cargo test --release --test suite -- --ignored --nocapture replicas::a_million_operations`
#[tokio::test(start_paused = true)]
#[ignore = "by hand: a million operations"]
async fn a_million_operations() {
    let (mut answers, mut unavailable, mut failovers) = (0, 0, 0.0);
    for seed in 1..=100 {
        let (counts, failed_over) = simulate(10_000, seed, &[]).await;
        assert_eq!(counts.older, 0, "seed {seed}");
        answers += counts.answers;
        unavailable += counts.unavailable;
        failovers += failed_over;
    }
    eprintln!(
        "1,000,000 operations: {answers} answers, none older; {unavailable} unavailable; {failovers} failovers"
    );
}

/// A name server that knows these SRV records, over UDP.
async fn name_server(records: &'static [(&'static str, &'static str, u16)]) -> std::net::SocketAddr {
    use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::rdata::SRV;
    use hickory_resolver::proto::rr::{Name, RData, Record};
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut bytes = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
            let query = Message::from_vec(&bytes[..length]).unwrap();
            let mut answer = Message::response(query.metadata.id, OpCode::Query);
            let name = query.queries[0].name().clone();
            answer.queries = query.queries.clone();
            let asked = name.to_utf8();
            match records.iter().find(|(record, ..)| asked.trim_end_matches('.') == *record) {
                Some((_, target, port)) => {
                    let record = SRV::new(0, 0, *port, Name::from_utf8(target).unwrap());
                    answer.add_answer(Record::from_rdata(name, 60, RData::SRV(record)));
                }
                None => answer.metadata.response_code = ResponseCode::NXDomain,
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn replicas_are_found_by_their_records_and_only_within_the_domain() {
    let server = name_server(&[
        ("_origin._tcp.west.azconfig.io", "contoso.azconfig.io.", 443),
        ("_origin._tcp.contoso.azconfig.io", "contoso.azconfig.io.", 443),
        ("_alt0._tcp.contoso.azconfig.io", "west.azconfig.io.", 443),
        ("_alt1._tcp.contoso.azconfig.io", "north.azconfig.io.", 8443),
        ("_alt3._tcp.contoso.azconfig.io", "beyond-a-gap.azconfig.io.", 443),
        ("_origin._tcp.fabrikam.azconfig.io", "fabrikam.azconfig.io.", 443),
        ("_alt0._tcp.fabrikam.azconfig.io", "fabrikam.azconfig.io.evil.example.", 443),
        ("_alt1._tcp.fabrikam.azconfig.io", "fabrikam-west.azconfig.io.", 443),
    ])
    .await;
    let discovery = ReplicaDiscovery::at(server).unwrap();
    let found = async |host: &str| {
        let found = discovery.replicas(host).await.unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(found("contoso.azconfig.io").await, ["west.azconfig.io", "north.azconfig.io:8443"]);
    assert_eq!(found("west.azconfig.io").await, ["contoso.azconfig.io", "north.azconfig.io:8443"]);
    assert!(found("fabrikam.azconfig.io").await.is_empty(), "a host of another domain ends the search");
    assert!(found("adatum.azconfig.io").await.is_empty());
}
