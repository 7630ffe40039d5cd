//! What stands between the callers and the origin.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tagalong::internals::config::caching::Consistency;
use tagalong::internals::config::{self, Config, Layers};
use tagalong::internals::proxy::{self, Caller, Proxy};
use tagalong::internals::sync_token::clauses::Clauses;
use tagalong::internals::transport::dial::Dial;

use super::callers::{Front, FrontAnswer};
use super::simulation::{Api, HEADER_DEADLINE, Scenario};
use super::timeline::Timeline;

/// No sidecar at all: each request goes to the origin as it is, over a connection of its own.
pub(crate) struct Directly {
    dial: Arc<dyn Dial>,
    deadline: Duration,
}

impl Directly {
    pub(crate) fn new(dial: Arc<dyn Dial>, deadline: Duration) -> Self {
        Self { dial, deadline }
    }
}

impl Front for Directly {
    fn ask(&self, mut request: Request<Bytes>) -> BoxFuture<'static, Option<FrontAnswer>> {
        request.headers_mut().insert("host", HeaderValue::from_static("origin.test"));
        let dialling = self.dial.dial(Uri::from_static("http://origin.test"));
        let asking = async move {
            let io = TokioIo::new(dialling.await.ok()?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
            let serving = tokio::spawn(connection);
            let (head, body) = sender.send_request(request.map(Full::new)).await.ok()?.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            serving.abort();
            Some(FrontAnswer { status: head.status, fields: head.headers, body })
        };
        let deadline = self.deadline;
        Box::pin(async move { tokio::time::timeout(deadline, asking).await.ok()? })
    }
}

/// The sidecar, called in this process as its listener would.
pub(crate) struct Sidecar {
    proxy: Arc<Proxy>,
    caller: Arc<Caller>,
}

impl Sidecar {
    pub(crate) fn new(
        scenario: &Scenario,
        clauses: Clauses,
        store_limit_bytes: u64,
        dial: Arc<dyn Dial>,
        timeline: &Timeline,
    ) -> Self {
        let profile = match scenario.api {
            Api::AppConfiguration => "app-configuration",
            Api::Generic => "generic",
        };
        let level = match scenario.level {
            Consistency::Strong => "strong",
            Consistency::Session => "session",
            Consistency::BoundedStaleness => "bounded-staleness",
        };
        let settings = [
            "upstream.url=http://origin.test".to_owned(),
            "upstream.credential.kind=none".to_owned(),
            "upstream.when_disconnected=consistent".to_owned(),
            format!("upstream.profile={profile}"),
            format!("upstream.consistency={level}"),
            format!("upstream.freshness={}s", scenario.lifetime.as_secs()),
            format!("upstream.freshness_not_found={}s", scenario.lifetime.as_secs()),
            format!("upstream.header_deadline={}s", HEADER_DEADLINE.as_secs()),
            format!("upstream.settle_time={}s", scenario.settle_time.as_secs()),
            // Longer than any write that is answered at all, so that no answer of another is passed on before it.
            format!("upstream.conflict_wait={}s", (HEADER_DEADLINE * 2).as_secs()),
        ];
        let mirror = [
            format!("upstream.mirror.enabled={}", scenario.mirrored),
            format!("upstream.mirror.interval={}s", scenario.lifetime.as_secs()),
        ];
        let layers =
            settings.iter().chain(&mirror).fold(Layers::new(), |layers, setting| layers.setting(setting));
        let mut config = Config::new(layers).expect("a valid configuration");
        // Smaller than any operator may set it: then nearly everything is evicted before it is outdated.
        config.store.limit_bytes = store_limit_bytes;
        let environment = proxy::assemble::Environment {
            clock: timeline.clock().clone(),
            dial: Some(&move |_: &config::UpstreamSettings| Arc::clone(&dial)),
            clauses,
            ..proxy::assemble::Environment::default()
        };
        let proxy = Proxy::new(&config, &environment).expect("nothing is missing");
        for mirror in proxy.destinations().iter().filter_map(|to| to.mirror.clone()) {
            // It ends with the runtime of the run.
            drop(tokio::spawn(mirror.run()));
        }
        Self {
            proxy: Arc::new(proxy),
            caller: Arc::new(Caller {
                listener: "main".into(),
                connection: 1,
                is_encrypted: false,
                peer: "memory".into(),
            }),
        }
    }
}

impl Front for Sidecar {
    fn ask(&self, request: Request<Bytes>) -> BoxFuture<'static, Option<FrontAnswer>> {
        let answering = self.proxy.handle(&self.caller, request.map(Full::new));
        Box::pin(async move {
            let Ok(answer) = answering.await;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            Some(FrontAnswer { status: head.status, fields: head.headers, body })
        })
    }
}
