//! A store whose replicas lag and drift: a request is answered by any of them, with state as new as its token and maybe no newer.

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
use tagalong::internals::profile::app_configuration::key_value::KeyValueId;
use tagalong::internals::profile::app_configuration::page::{after_key_value, page_etag};
use tagalong::internals::transport::dial::{Dial, UpstreamIo};

use crate::support::serve::serve;

const REPLICAS: usize = 3;

#[derive(Clone, Debug)]
struct Change {
    version: u64,
    at: Timestamp,
    is_present: bool,
}

pub(crate) struct LaggingStore {
    clock: Clock,
    lag: Duration,
    state: Mutex<StoreState>,
}

#[derive(Default)]
struct StoreState {
    /// The count of the partition, which rises without any write.
    sequence_number: u64,
    changes: BTreeMap<usize, Vec<Change>>,
    is_away: bool,
    requests: usize,
    reads: usize,
    bodies: usize,
    way_millis: u64,
    cache_control: Option<&'static str>,
}

impl LaggingStore {
    pub(crate) fn new(clock: Clock, lag: Duration) -> Arc<Self> {
        Arc::new(Self { clock, lag, state: Mutex::default() })
    }

    /// Answers after up to so long.
    pub(crate) fn set_way(&self, millis: u64) {
        self.state.lock().unwrap().way_millis = millis;
    }

    /// From now on its answers say so.
    pub(crate) fn set_cache_control(&self, directives: &'static str) {
        self.state.lock().unwrap().cache_control = Some(directives);
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.state.lock().unwrap().is_away = is_away;
    }

    /// Requests, and among them reads, and answers with a body.
    pub(crate) fn requests(&self) -> (usize, usize, usize) {
        let state = self.state.lock().unwrap();
        (state.requests, state.reads, state.bodies)
    }

    /// Changes a key behind the back of every sidecar.
    pub(crate) fn write(&self, key: usize, is_present: bool) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.sequence_number += 1;
        let version = state.sequence_number;
        state.changes.entry(key).or_default().push(Change { version, at: self.clock.now(), is_present });
        version
    }

    /// What a replica shows of a key to who presents this sequence number.
    fn visible(&self, key: usize, presented: u64, replica: usize) -> Option<Change> {
        let state = self.state.lock().unwrap();
        let now = self.clock.now();
        let lag = self.lag.mul_f64(replica as f64 / (REPLICAS - 1) as f64);
        let shows = |change: &&Change| change.version <= presented || change.at.plus(lag) <= now;
        state.changes.get(&key)?.iter().rev().find(shows).cloned()
    }

    fn answer(&self, request: &Parts) -> Response<Full<Bytes>> {
        let replica = fastrand::usize(..REPLICAS);
        let presented = presented(request);
        {
            let mut state = self.state.lock().unwrap();
            state.requests += 1;
            state.sequence_number += u64::from(fastrand::u8(..4) == 0);
        }
        let key = request.uri.path().strip_prefix("/kv/k").and_then(|key| key.parse::<usize>().ok());
        let mut modified = None;
        let (status, tag, body, version) = match (request.method.as_str(), key) {
            ("PUT", Some(key)) => {
                let version = self.write(key, true);
                modified = Some(self.clock.now());
                (200, Some(version.to_string()), json(key, version), version)
            }
            ("DELETE", Some(key)) => (204, None, String::new(), self.write(key, false)),
            (_, Some(key)) => {
                self.state.lock().unwrap().reads += 1;
                match self.visible(key, presented, replica).filter(|change| change.is_present) {
                    Some(Change { version, at, .. }) => {
                        modified = Some(at);
                        (200, Some(version.to_string()), json(key, version), version)
                    }
                    None => (404, None, String::new(), 0),
                }
            }
            _ => self.list(request, presented, replica),
        };
        let mut state = self.state.lock().unwrap();
        // As new as what it shows; a front may know more.
        let newest = state.sequence_number.max(version);
        let token = presented.max(version).max(newest - fastrand::u64(..=(newest - version).min(3)));
        let is_condition = |tag: &String| {
            let condition = request.headers.get("if-none-match").and_then(|value| value.to_str().ok());
            condition.is_some_and(|condition| condition.contains(&format!("\"{tag}\"")))
        };
        let answer = Response::builder()
            .header("date", http_date::format(self.clock.now()))
            .header("content-type", "application/vnd.microsoft.appconfig.kv+json")
            .header("sync-token", format!("zAJw6V16=v{token};sn={token}"));
        let answer = match state.cache_control {
            Some(directives) => answer.header("cache-control", directives),
            None => answer,
        };
        if request.method == "GET" && tag.as_ref().is_some_and(is_condition) {
            return answer.status(304).body(Full::default()).unwrap();
        }
        state.bodies += 1;
        let answer = match modified {
            Some(at) => answer.header("last-modified", http_date::format(at)),
            None => answer,
        };
        let answer = match tag {
            Some(tag) => answer.header("etag", format!("\"{tag}\"")),
            None => answer,
        };
        answer.status(status).body(Full::from(body)).unwrap()
    }

    /// A page of at most 100 items in the order of their keys.
    fn list(&self, request: &Parts, presented: u64, replica: usize) -> (u16, Option<String>, String, u64) {
        self.state.lock().unwrap().reads += 1;
        let query = request.uri.query().unwrap_or_default();
        let after = query.split('&').find_map(|it| it.strip_prefix("after="));
        let after = after.and_then(after_key);
        let keys: Vec<usize> = self.state.lock().unwrap().changes.keys().copied().collect();
        let items = keys.into_iter().filter(|key| after.is_none_or(|after| *key > after)).filter_map(|key| {
            Some((key, self.visible(key, presented, replica).filter(|change| change.is_present)?))
        });
        let items: Vec<(usize, Change)> = items.collect();
        let page = &items[..items.len().min(100)];
        let version = page.iter().map(|(_, change)| change.version).max().unwrap_or_default();
        let shown: Vec<String> = page.iter().map(|(key, change)| json(*key, change.version)).collect();
        let next = (items.len() > 100).then(|| after_text(page[99].0));
        let tags: Vec<String> = page.iter().map(|(_, change)| change.version.to_string()).collect();
        let tag = page_etag(tags.iter().map(String::as_str), next.as_deref());
        let link = next.map_or_else(String::new, |next| {
            format!(r#","@nextLink":"/kv?api-version=2026-04-01&after={}""#, percent(&next))
        });
        let body = format!(r#"{{"items":[{}]{link}}}"#, shown.join(","));
        (200, Some(tag), body, version)
    }
}

/// Keys have four digits, so that their order is that of their numbers.
pub(crate) fn name(key: usize) -> String {
    format!("k{key:04}")
}

/// The position after a key, as the service writes it in plain text.
fn after_text(key: usize) -> String {
    after_key_value(&KeyValueId::new(&name(key), None))
}

fn percent(text: &str) -> String {
    let encoded = STANDARD.encode(text);
    encoded.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

fn after_key(value: &str) -> Option<usize> {
    let value = value.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    let plain = match STANDARD.decode(&value) {
        Ok(plain) => String::from_utf8(plain).ok()?,
        Err(_) => value,
    };
    let at = plain.find('k')?;
    plain[at + 1..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

fn presented(request: &Parts) -> u64 {
    let line = request.headers.get("sync-token").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let value = line.split(',').find_map(|token| token.trim().strip_prefix("zAJw6V16=v"));
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

fn json(key: usize, version: u64) -> String {
    format!(
        r#"{{"etag":"{version}","key":"{}","label":null,"content_type":null,"value":"{version}","last_modified":"2026-11-22T00:00:00+00:00","locked":false,"tags":{{}}}}"#,
        name(key)
    )
}

/// Connections to the store in memory.
pub(crate) struct StoreDial(pub(super) Arc<LaggingStore>);

impl Dial for StoreDial {
    fn dial(&self, _: Uri) -> BoxFuture<'static, io::Result<Box<dyn UpstreamIo>>> {
        let store = Arc::clone(&self.0);
        Box::pin(async move {
            if store.state.lock().unwrap().is_away {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let service = service_fn(move |request: Request<Incoming>| {
                let store = Arc::clone(&store);
                async move { store.serve(request).await }
            });
            tokio::spawn(serve(theirs, service));
            Ok(Box::new(ours) as Box<dyn UpstreamIo>)
        })
    }
}

impl LaggingStore {
    /// Answers a request, after a way there and back.
    pub(crate) async fn serve(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let way = self.state.lock().unwrap().way_millis;
        let pause = || tokio::time::sleep(Duration::from_millis(fastrand::u64(..=way)));
        pause().await;
        if self.state.lock().unwrap().is_away {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let (head, body) = request.into_parts();
        let _whole = body.collect().await;
        let answer = self.answer(&head);
        pause().await;
        Ok(answer)
    }
}
