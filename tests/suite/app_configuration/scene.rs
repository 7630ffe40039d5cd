//! A sidecar before an emulator, both in memory; with a mirror, or without.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::once;
use http::{Request, Response, Uri};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tagalong::internals::clock::Clock;
use tagalong::internals::emulator::{Emulator, EmulatorSettings};
use tagalong::internals::transport::dial::{Dial, UpstreamIo};

use super::emulator::START;
use crate::support::caller::Caller;
use crate::support::caller::Response as CallersResponse;
use crate::support::serve::serve;
use crate::support::sidecar::Sidecar;

/// What an origin that misbehaves does with an answer of the emulator. It gets the target and the answer.
pub(crate) type Spoil = dyn Fn(&str, Response<Bytes>) -> Response<Bytes> + Send + Sync;

/// The emulator as an upstream. Remembers what it was asked.
pub(crate) struct EmulatedOrigin {
    pub(crate) emulator: Emulator,
    clock: Clock,
    spoil: Mutex<Option<Box<Spoil>>>,
    asked: Mutex<Vec<(String, u16)>>,
    pub(crate) ignores_conditions: AtomicBool,
    pub(crate) breaks_answers_to_writes: AtomicBool,
    /// It takes no connection, and answers on none.
    pub(crate) is_away: AtomicBool,
}

impl EmulatedOrigin {
    /// An emulator with these settings, filled by `fill`.
    pub(crate) async fn filled(
        settings: EmulatorSettings,
        fill: impl AsyncFnOnce(&Emulator),
        spoil: Option<Box<Spoil>>,
    ) -> Arc<Self> {
        let clock = Clock::tokio(START);
        let emulator = Emulator::new(settings, clock.clone(), 1);
        fill(&emulator).await;
        Arc::new(Self {
            emulator,
            clock,
            spoil: Mutex::new(spoil),
            asked: Mutex::default(),
            ignores_conditions: AtomicBool::default(),
            breaks_answers_to_writes: AtomicBool::default(),
            is_away: AtomicBool::default(),
        })
    }

    /// A sidecar before it.
    pub(crate) fn sidecar(self: &Arc<Self>, keys: &[&str]) -> Sidecar {
        let keys: Vec<&str> = ["upstream.profile=app-configuration", "upstream.credential.kind=none"]
            .into_iter()
            .chain(keys.iter().copied())
            .collect();
        Sidecar::in_memory(Arc::new(InMemory(Arc::clone(self))), self.clock.clone(), &keys)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Bytes> {
        let (mut head, body) = request.into_parts();
        if self.ignores_conditions.load(Ordering::Relaxed) {
            head.headers.remove("if-none-match");
        }
        let line = format!("{} {}", head.method, head.uri);
        let target = head.uri.to_string();
        let body = body.collect().await.expect("a whole request").to_bytes();
        let answer = self.emulator.respond(Request::from_parts(head, Full::new(body))).await;
        let answer = match &*self.spoil.lock().expect("no panic") {
            Some(spoil) => spoil(&target, answer),
            None => answer,
        };
        self.asked.lock().expect("no panic").push((line, answer.status().as_u16()));
        answer
    }

    /// The requests since the last call, each with the status of its answer.
    pub(crate) fn asked(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut *self.asked.lock().expect("no panic"))
    }

    pub(crate) fn spoil(
        &self,
        spoil: impl Fn(&str, Response<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) {
        *self.spoil.lock().expect("no panic") = Some(Box::new(spoil));
    }

    pub(crate) fn behave(&self) {
        *self.spoil.lock().expect("no panic") = None;
    }
}

struct InMemory(Arc<EmulatedOrigin>);

impl Dial for InMemory {
    fn dial(&self, _: Uri) -> BoxFuture<'static, io::Result<Box<dyn UpstreamIo>>> {
        let origin = Arc::clone(&self.0);
        Box::pin(async move {
            if origin.is_away.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(256 * 1024);
            let service = service_fn(move |request: Request<Incoming>| {
                let origin = Arc::clone(&origin);
                async move {
                    if origin.is_away.load(Ordering::Relaxed) {
                        return Err(io::Error::from(io::ErrorKind::ConnectionReset));
                    }
                    let breaks = !request.method().is_safe()
                        && origin.breaks_answers_to_writes.load(Ordering::Relaxed);
                    let answer = origin.answer(request).await;
                    Ok::<_, io::Error>(answer.map(|body| body_of(body, breaks)))
                }
            });
            tokio::spawn(serve(theirs, service));
            Ok(Box::new(ours) as Box<dyn UpstreamIo>)
        })
    }
}

/// A body; one that breaks off has half of it.
fn body_of(body: Bytes, breaks: bool) -> UnsyncBoxBody<Bytes, io::Error> {
    let half = body.slice(..body.len() / 2);
    if !breaks {
        return Full::new(body).map_err(|never| match never {}).boxed_unsync();
    }
    let breaking_off = async {
        // The server sends what it has while the body waits.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    };
    let frames = once(ready(Ok(Frame::data(half)))).chain(once(breaking_off));
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// A sidecar before an emulator.
pub(crate) struct Scene {
    pub(crate) origin: Arc<EmulatedOrigin>,
    pub(crate) sidecar: Sidecar,
}

impl Scene {
    /// An emulator with these settings, filled by `fill`, and a sidecar whose mirror has loaded.
    pub(crate) async fn loaded(
        settings: EmulatorSettings,
        fill: impl AsyncFnOnce(&Emulator),
        keys: &[&str],
    ) -> Self {
        let scene = Self::started(settings, fill, keys).await;
        scene.sidecar.mirror().loaded().await;
        scene.origin.asked();
        scene
    }

    /// The same before the mirror has loaded.
    pub(crate) async fn started(
        settings: EmulatorSettings,
        fill: impl AsyncFnOnce(&Emulator),
        keys: &[&str],
    ) -> Self {
        Self::spoiled(settings, fill, keys, None).await
    }

    /// The same with an origin that misbehaves from the beginning.
    pub(crate) async fn spoiled(
        settings: EmulatorSettings,
        fill: impl AsyncFnOnce(&Emulator),
        keys: &[&str],
        spoil: Option<Box<Spoil>>,
    ) -> Self {
        let origin = EmulatedOrigin::filled(settings, fill, spoil).await;
        let keys: Vec<&str> =
            ["upstream.mirror.enabled=true"].into_iter().chain(keys.iter().copied()).collect();
        let sidecar = origin.sidecar(&keys);
        Self { origin, sidecar }
    }

    pub(crate) async fn caller(&self) -> Caller {
        self.sidecar.caller().await
    }
}

/// What an emulator answers to a request in the short form.
pub(crate) async fn straight(emulator: &Emulator, request: &str) -> Response<Bytes> {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).expect("a request line");
    let mut built = Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a field line");
        built = built.header(name, value);
    }
    let request = built.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
    emulator.respond(request).await
}

/// Writes a key-value straight to an emulator.
pub(crate) async fn write(emulator: &Emulator, target: &str, body: &str) {
    let request = format!("PUT {target}\nContent-Type: application/json\n\n{body}");
    let status = straight(emulator, &request).await.status().as_u16();
    assert_eq!(status, 200, "{request}");
}

/// `detail` of `Cache-Status`, and whether it was a hit.
pub(crate) fn told(answer: &CallersResponse) -> (bool, Option<String>) {
    let status = answer.field("cache-status").expect("a Cache-Status");
    let detail = status.split("; ").find_map(|word| word.strip_prefix("detail="));
    (status.contains("; hit"), detail.map(str::to_owned))
}

/// Lets time pass.
pub(crate) async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}
