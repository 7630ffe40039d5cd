//! `GET /admin/`: the status as a page for people. One document without anything from elsewhere; it reads `/admin/status` each second.
//!
//! The policy lets run the one script and the one style sheet that are in it, by their hashes, and lets it ask this port alone. The
//! script cannot turn text into markup (`require-trusted-types-for`), so that no name in the status becomes an element.

use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};

use super::{AdminResponse, answer};

const PAGE: &str = include_str!("page.html");

/// Where it is.
pub(super) const PATH: &str = "/admin/";

static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    HeaderValue::try_from(policy(PAGE)).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

fn policy(page: &str) -> String {
    let hash = |element| BASE64_STANDARD.encode(Sha256::digest(content(page, element)));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
        hash("script"),
        hash("style")
    )
}

/// What stands in the only element with this name.
fn content<'a>(page: &'a str, element: &str) -> &'a str {
    let (start, end) = (format!("<{element}>"), format!("</{element}>"));
    let content = page.split_once(&start).and_then(|(_, rest)| rest.split_once(&end));
    content.map_or("", |(content, _)| content)
}

/// The page.
pub(super) fn page() -> AdminResponse {
    let mut page = answer(StatusCode::OK, "text/html; charset=utf-8", PAGE.into());
    let fields = page.headers_mut();
    fields.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    fields.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    page
}

/// From the root of the port to the page.
pub(super) fn redirect() -> AdminResponse {
    let mut redirect = answer(StatusCode::FOUND, "text/plain; charset=utf-8", "See /admin/\n".into());
    redirect.headers_mut().insert(LOCATION, HeaderValue::from_static(PATH));
    redirect
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_one_script_and_the_one_style_sheet() {
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(content(PAGE, element).len() > 100, "{element}");
        }
        // The hash of "x" in the notation of CSP.
        let policy = policy("<style>y</style><script>x</script>");
        assert!(
            policy.contains("script-src 'sha256-LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=';"),
            "{policy}"
        );
        assert_eq!(page().headers()[CONTENT_SECURITY_POLICY], *POLICY);
    }

    #[test]
    fn the_page_loads_nothing_and_makes_no_markup_of_text() {
        let urls = ["http://", "https://", "src=", "url(", "@import"];
        // The namespace of SVG is a name, and nothing is loaded from it.
        let page = PAGE.replace("http://www.w3.org/2000/svg", "");
        for forbidden in urls.iter().chain(&[
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            " style=",
        ]) {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }
}
