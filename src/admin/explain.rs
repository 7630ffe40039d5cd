//! `POST /admin/explain`: what would happen to one request now, and why. It changes nothing, and starts nothing.
//!
//! Where a token is configured it asks for it, although it changes nothing: it shows cache keys, and with them what callers ask for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use serde::Deserialize;

use super::{AdminResponse, answer as answer_with, problem};
use crate::config::Config;
use crate::proxy::Caller;
use crate::proxy::explain::ExplainedRequest;
use crate::proxy::live::LiveProxy;

/// The body of a question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuestion {
    /// A URL of a listener, or a path.
    url: String,
    #[serde(default = "get")]
    method: String,
    /// Names and values, in their order.
    #[serde(default)]
    fields: Vec<(String, String)>,
    /// The name of the upstream, where it is not to be found by listener, path and host.
    upstream: Option<String>,
    /// The name of the listener, where the URL does not tell.
    listener: Option<String>,
    /// Whether content would follow.
    #[serde(default)]
    has_body: bool,
}

fn get() -> String {
    "GET".to_owned()
}

/// A question that cannot be answered.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error(
        "The body is not understood: {0}. Send {{\"url\":\"/path?query\"}} as JSON; method, fields, upstream, listener and \
         has_body may stand beside it"
    )]
    Json(#[from] serde_json::Error),
    #[error("The {part} is not one of HTTP: {cause}")]
    Http { part: &'static str, cause: String },
    #[error("No listener is at {0}. Name one with \"listener\", or give a path; there are {1}")]
    ListenerAddress(Authority, String),
    #[error("No listener is named {0:?}; there are {1}")]
    ListenerName(String, String),
    #[error("No upstream is named {0:?}; see tagalong check-config")]
    Upstream(String),
}

/// Who asks for explanations, with the names and addresses of listeners.
pub struct Explainer {
    proxy: Arc<LiveProxy>,
    listeners: Vec<(Arc<str>, Vec<SocketAddr>)>,
}

impl Explainer {
    /// Explains what `proxy` would do. Names and addresses of listeners are the same after a reload.
    #[must_use]
    pub fn new(proxy: Arc<LiveProxy>, config: &Config) -> Self {
        let listeners = config.listeners.iter();
        let listeners =
            listeners.map(|listener| (Arc::from(listener.name.as_str()), listener.listen.clone())).collect();
        Self { proxy, listeners }
    }

    async fn explain(&self, body: &[u8]) -> Result<String, ExplainError> {
        let question: ExplainQuestion = serde_json::from_slice(body)?;
        let upstream = question.upstream.clone();
        let request = self.request(question)?;
        let proxy = self.proxy.current();
        let explanation = proxy.explain(request).await;
        let explanation = explanation.ok_or_else(|| ExplainError::Upstream(upstream.unwrap_or_default()))?;
        Ok(serde_json::to_string(&explanation)?)
    }

    /// The request as it would arrive.
    fn request(&self, question: ExplainQuestion) -> Result<ExplainedRequest, ExplainError> {
        let ExplainQuestion { url, method, fields, upstream, listener, has_body } = question;
        let malformed = |part, cause: String| ExplainError::Http { part, cause };
        let url: Uri =
            url.parse().map_err(|error: http::uri::InvalidUri| malformed("URL", error.to_string()))?;
        // What a client makes of a URL: the authority becomes Host. A target in authority form stays what it is.
        let (authority, target) = match (url.scheme(), url.authority(), url.path_and_query()) {
            (Some(_), Some(authority), Some(target)) => (Some(authority.clone()), Uri::from(target.clone())),
            _ => (None, url),
        };
        let (listener, addresses) = self.listener(listener, authority.as_ref())?;
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|error| malformed("method", error.to_string()))?;
        let mut head: Parts = Request::new(()).into_parts().0;
        (head.method, head.uri) = (method, target);
        for (name, value) in fields {
            let parsed = HeaderName::try_from(name.as_str())
                .map_err(|error| malformed("field name", error.to_string()))?;
            // The value may be a secret: it is not repeated.
            let value = HeaderValue::try_from(value)
                .map_err(|error| malformed("value of a field", format!("{name}: {error}")))?;
            head.headers.append(parsed, value);
        }
        if !head.headers.contains_key(HOST) {
            let own = addresses.first().map_or_else(|| "localhost".to_owned(), ToString::to_string);
            let host = authority.map_or(own, |authority| authority.to_string());
            let host = HeaderValue::try_from(host).map_err(|error| malformed("host", error.to_string()))?;
            head.headers.insert(HOST, host);
        }
        let caller = Caller { listener, connection: u64::MAX, is_encrypted: false, peer: "127.0.0.1".into() };
        Ok(ExplainedRequest { caller, upstream, head, has_body })
    }

    /// The listener of that name, or the one that a URL leads to; the first one for a path.
    fn listener(
        &self,
        name: Option<String>,
        authority: Option<&Authority>,
    ) -> Result<(Arc<str>, &[SocketAddr]), ExplainError> {
        let all = || {
            let names = self.listeners.iter().map(|(name, addresses)| {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                format!("{name} ({})", addresses.join(", "))
            });
            names.collect::<Vec<_>>().join(", ")
        };
        let found = match (&name, authority) {
            (Some(name), _) => self.listeners.iter().find(|(known, _)| **known == **name),
            (None, Some(authority)) => self
                .listeners
                .iter()
                .find(|(_, addresses)| addresses.iter().any(|it| leads_to(authority, *it)))
                // The system chooses a port in the place of 0.
                .or_else(|| self.listeners.iter().find(|(_, all)| all.iter().any(|it| it.port() == 0))),
            (None, None) => self.listeners.first(),
        };
        match (found, name, authority) {
            (Some((name, addresses)), ..) => Ok((Arc::clone(name), addresses)),
            (None, Some(name), _) => Err(ExplainError::ListenerName(name, all())),
            (None, None, Some(authority)) => Err(ExplainError::ListenerAddress(authority.clone(), all())),
            (None, None, None) => Err(ExplainError::ListenerName(String::new(), all())),
        }
    }
}

/// Whether a client that connects to this authority comes to a listener at that address. A name is taken for this machine's.
fn leads_to(authority: &Authority, address: SocketAddr) -> bool {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(80);
    let is_same_host = match host.parse::<IpAddr>() {
        Ok(ip) => ip == address.ip() || address.ip().is_unspecified(),
        Err(_) => true,
    };
    port == address.port() && is_same_host
}

/// Answers a question.
pub(super) async fn answer(explainer: Option<&Explainer>, body: &[u8]) -> AdminResponse {
    let Some(explainer) = explainer else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "explain", "No requests are served here");
    };
    match explainer.explain(body).await {
        Ok(explanation) => answer_with(StatusCode::OK, "application/json", format!("{explanation}\n").into()),
        Err(error @ (ExplainError::Upstream(_) | ExplainError::ListenerName(..))) => {
            problem(StatusCode::NOT_FOUND, "explain", &error.to_string())
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, "explain", &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_the_listener_with_its_port() {
        let leads =
            |authority: &str, address: &str| leads_to(&authority.parse().unwrap(), address.parse().unwrap());
        assert!(leads("127.0.0.1:8484", "127.0.0.1:8484") && leads("localhost:8484", "127.0.0.1:8484"));
        assert!(leads("[::1]:8484", "[::1]:8484") && leads("10.0.0.7:80", "0.0.0.0:80"));
        assert!(leads("10.0.0.7", "0.0.0.0:80"));
        assert!(!leads("127.0.0.1:8485", "127.0.0.1:8484") && !leads("[::1]:8484", "127.0.0.1:8484"));
    }
}
