//! The proxy in force. A reload puts another in its place; requests that have begun end with the one that they began with.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

use super::{Caller, Proxy};
use crate::body::FlowingBody;

/// See the module.
pub struct LiveProxy(ArcSwap<Proxy>);

impl LiveProxy {
    /// With this proxy in force.
    #[must_use]
    pub fn new(proxy: Arc<Proxy>) -> Self {
        Self(ArcSwap::new(proxy))
    }

    /// The proxy in force.
    #[must_use]
    pub fn current(&self) -> Arc<Proxy> {
        self.0.load_full()
    }

    /// Puts another in force for the requests that begin from now on.
    pub fn replace(&self, proxy: Arc<Proxy>) {
        self.0.store(proxy);
    }

    /// The path of one request, by the proxy that is in force now: see [`Proxy::handle`].
    pub fn handle<B>(
        &self,
        caller: &Arc<Caller>,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<FlowingBody>, Infallible>> + Send + use<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        self.0.load().handle(caller, request)
    }
}
