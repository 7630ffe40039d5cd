//! Absolute URLs in answers name the origin (`Operation-Location` of App Configuration, for example). A caller that followed one
//! would bypass the sidecar, so they are rewritten.

use http::{HeaderValue, Uri};

/// How a caller addresses this sidecar, as far as its request tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallersView {
    /// Whether the caller speaks TLS.
    pub(super) is_encrypted: bool,
    /// The caller's `Host`.
    pub(super) host: HeaderValue,
    /// The path prefix under which it finds this upstream; empty if there is none.
    pub(super) path_prefix: String,
}

/// An absolute URL at `origin`, as the caller can reach it through the sidecar. `None` when it lies elsewhere or is relative:
/// then it stays as it is.
pub(super) fn rewritten(value: &HeaderValue, origin: &Uri, view: &CallersView) -> Option<HeaderValue> {
    let url: Uri = value.to_str().ok()?.parse().ok()?;
    if url.scheme() != origin.scheme() || url.authority() != origin.authority() || url.authority().is_none() {
        return None;
    }
    let scheme = if view.is_encrypted { "https" } else { "http" };
    let host = view.host.to_str().ok()?;
    let prefix = view.path_prefix.trim_end_matches('/');
    let target = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    HeaderValue::from_str(&format!("{scheme}://{host}{prefix}{target}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(value: &'static str, path_prefix: &str) -> Option<String> {
        let origin = Uri::from_static("https://contoso.azconfig.io/");
        let view = CallersView {
            is_encrypted: false,
            host: HeaderValue::from_static("127.0.0.1:8484"),
            path_prefix: path_prefix.to_owned(),
        };
        let rewritten = rewritten(&HeaderValue::from_static(value), &origin, &view)?;
        Some(rewritten.to_str().expect("text").to_owned())
    }

    #[test]
    fn an_absolute_url_at_the_upstream_leads_through_the_sidecar() {
        let url = "https://contoso.azconfig.io/operations?snapshot=s%201&api-version=2026-04-01";
        let through = "http://127.0.0.1:8484/operations?snapshot=s%201&api-version=2026-04-01";
        assert_eq!(seen(url, "").as_deref(), Some(through));
        assert_eq!(
            seen(url, "/store-a/").as_deref(),
            Some("http://127.0.0.1:8484/store-a/operations?snapshot=s%201&api-version=2026-04-01")
        );
    }

    #[test]
    fn what_lies_elsewhere_stays() {
        for url in [
            "https://other.azconfig.io/operations",
            "http://contoso.azconfig.io/operations",
            "/operations",
            "x y",
        ] {
            assert_eq!(seen(url, ""), None, "{url}");
        }
    }
}
