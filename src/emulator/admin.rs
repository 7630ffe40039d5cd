//! The emulator's admin port: counts, faults, and the confirmation of event subscriptions.
//!
//! ```text
//! GET    /__emulator/counts       requests by kind and status
//! DELETE /__emulator/counts       start the counters again from zero
//! GET    /__emulator/faults       the plan, and how many requests each rule matched
//! PUT    /__emulator/faults       replaces the plan; the body is JSON
//! DELETE /__emulator/faults       removes every fault
//! GET    /__emulator/events/confirmation?code=CODE   confirms the subscription of the --events webhook
//! ```

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};

use super::counts::Counts;
use super::events::handshake::Confirmation;
use super::faults::act::Faults;
use super::faults::body::FaultyBody;
use super::faults::document::PlanDocument;
use super::serve::BoxError;
use crate::headers::request_source::SourceError;

/// The largest plan that is read.
const MAXIMUM_BODY_BYTES: usize = 64 * 1024;

/// The state that the admin port shows and changes.
#[derive(Debug, Clone)]
pub struct AdminPort {
    /// Requests by kind.
    pub counts: Arc<Counts>,
    /// The faults in force.
    pub faults: Arc<Faults>,
    /// The event subscription that waits for its confirmation, if events are delivered.
    pub confirmation: Option<Confirmation>,
}

/// The answer to a request that may not come from where it comes from.
pub(super) fn refused(error: SourceError) -> Response<FaultyBody> {
    let detail = match error {
        SourceError::HostNotAllowed => {
            "the emulator answers for localhost and loopback addresses; use one of them, or let it listen beyond loopback\n"
        }
        SourceError::CrossOrigin => "web pages may not use the emulator; use curl or a test's client\n",
        SourceError::Host(detail) => detail,
    };
    text(StatusCode::FORBIDDEN, detail)
}

impl AdminPort {
    /// Answers one request to the admin port.
    pub async fn answer<B: Body<Error: Into<BoxError>>>(&self, request: Request<B>) -> Response<FaultyBody> {
        // A browser adds this field to each cross-site request that changes something, and a script cannot remove it.
        // Other clients do not send it.
        if request.headers().contains_key(ORIGIN) {
            return text(
                StatusCode::FORBIDDEN,
                "web pages may not use the admin port; use curl or a test's client\n",
            );
        }
        match (request.uri().path(), request.method()) {
            ("/__emulator/counts", &Method::GET) => json(&self.counts.report()),
            ("/__emulator/counts", &Method::DELETE) => {
                self.counts.reset();
                empty(StatusCode::NO_CONTENT)
            }
            ("/__emulator/faults", &Method::GET) => json(&self.faults.report()),
            ("/__emulator/faults", &Method::PUT) => self.replace_faults(request.into_body()).await,
            ("/__emulator/faults", &Method::DELETE) => {
                self.faults.replace(PlanDocument::default());
                empty(StatusCode::NO_CONTENT)
            }
            ("/__emulator/events/confirmation", &Method::GET) => self.confirm(request.uri().query()),
            ("/__emulator/counts", _) => not_offered("GET, DELETE"),
            ("/__emulator/faults", _) => not_offered("GET, PUT, DELETE"),
            ("/__emulator/events/confirmation", _) => not_offered("GET"),
            _ => text(StatusCode::NOT_FOUND, "no such path; use /__emulator/counts or /__emulator/faults\n"),
        }
    }

    async fn replace_faults<B: Body<Error: Into<BoxError>>>(&self, body: B) -> Response<FaultyBody> {
        let Ok(plan) = Limited::new(body, MAXIMUM_BODY_BYTES).collect().await else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "send the whole fault plan, at most 64 KiB\n");
        };
        match PlanDocument::from_json(&plan.to_bytes()) {
            Ok(document) => {
                self.faults.replace(document);
                empty(StatusCode::NO_CONTENT)
            }
            Err(error) => text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        }
    }

    fn confirm(&self, query: Option<&str>) -> Response<FaultyBody> {
        let code = query.and_then(|query| query.strip_prefix("code="));
        match (&self.confirmation, code) {
            (Some(confirmation), Some(code)) if confirmation.confirm(code) => empty(StatusCode::OK),
            _ => text(
                StatusCode::NOT_FOUND,
                "no event subscription waits for this code; use the address as it was sent\n",
            ),
        }
    }
}

fn empty(status: StatusCode) -> Response<FaultyBody> {
    let mut answer = Response::new(FaultyBody::sound(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

fn typed(status: StatusCode, media_type: &'static str, content: Bytes) -> Response<FaultyBody> {
    let mut answer = empty(status).map(|_| FaultyBody::sound(content));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

fn text(status: StatusCode, content: &str) -> Response<FaultyBody> {
    typed(status, "text/plain; charset=utf-8", Bytes::copy_from_slice(content.as_bytes()))
}

fn json(document: &serde_json::Value) -> Response<FaultyBody> {
    typed(StatusCode::OK, "application/json", document.to_string().into())
}

fn not_offered(allow: &'static str) -> Response<FaultyBody> {
    let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn admin() -> AdminPort {
        let faults = Arc::new(Faults::new(PlanDocument::default(), 1));
        AdminPort {
            counts: Arc::default(),
            faults,
            confirmation: Some(Confirmation::new("right".to_owned())),
        }
    }

    async fn ask(admin: &AdminPort, method: &str, target: &str, body: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let answer = admin.answer(request).await;
        let status = answer.status().as_u16();
        let content = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(content.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn counts_are_shown_and_reset() {
        let admin = admin();
        admin.counts.add(&Method::GET, "/kv", Some(StatusCode::OK));
        let (status, counts) = ask(&admin, "GET", "/__emulator/counts", "").await;
        assert_eq!((status, counts.as_str()), (200, r#"{"requests":{"GET /kv":{"200":1}},"total":1}"#));
        assert_eq!(ask(&admin, "DELETE", "/__emulator/counts", "").await.0, 204);
        assert_eq!(admin.counts.report()["total"], 0);
    }

    #[tokio::test]
    async fn faults_are_planned_shown_and_ended() {
        let admin = admin();
        let plan = r#"{"faults":[{"do":{"kind":"weak-etags"}}]}"#;
        assert_eq!(ask(&admin, "PUT", "/__emulator/faults", plan).await.0, 204);
        assert!(ask(&admin, "GET", "/__emulator/faults", "").await.1.contains("weak-etags"));
        assert_eq!(ask(&admin, "DELETE", "/__emulator/faults", "").await.0, 204);
        assert!(!ask(&admin, "GET", "/__emulator/faults", "").await.1.contains("weak-etags"));
    }

    #[tokio::test]
    async fn a_bad_plan_is_refused_and_the_old_one_stays() {
        let admin = admin();
        ask(&admin, "PUT", "/__emulator/faults", r#"{"faults":[{"do":{"kind":"weak-etags"}}]}"#).await;
        let (status, reason) =
            ask(&admin, "PUT", "/__emulator/faults", r#"{"faults":[{"do":{"kind":"x"}}]}"#).await;
        assert!(status == 400 && reason.contains("fault 1"), "{status} {reason}");
        assert_eq!(ask(&admin, "PUT", "/__emulator/faults", &"x".repeat(70_000)).await.0, 413);
        assert!(ask(&admin, "GET", "/__emulator/faults", "").await.1.contains("weak-etags"));
    }

    #[tokio::test]
    async fn other_methods_paths_and_web_pages_are_refused() {
        let admin = admin();
        assert_eq!(ask(&admin, "POST", "/__emulator/counts", "").await.0, 405);
        assert_eq!(ask(&admin, "PATCH", "/__emulator/faults", "").await.0, 405);
        assert_eq!(ask(&admin, "GET", "/kv", "").await.0, 404);
        let from_page =
            Request::delete("/__emulator/counts").header(ORIGIN, "http://x").body(Full::<Bytes>::default());
        assert_eq!(admin.answer(from_page.unwrap()).await.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn only_the_right_code_confirms() {
        let admin = admin();
        for target in ["/__emulator/events/confirmation", "/__emulator/events/confirmation?code=wrong"] {
            assert_eq!(ask(&admin, "GET", target, "").await.0, 404);
        }
        assert_eq!(ask(&admin, "GET", "/__emulator/events/confirmation?code=right", "").await.0, 200);
    }
}
