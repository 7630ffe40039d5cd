//! `POST /admin/quit`: the sidecar drains and ends as after SIGTERM. For Jobs: the last container that needs it ends it.

use http::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{AdminResponse, answer_json, problem};

/// Begins the drain, if that is allowed. It may be asked for again.
pub(super) fn quit(is_allowed: bool, quitting: &CancellationToken) -> AdminResponse {
    if !is_allowed {
        let advice = "The sidecar is not stopped here. Set admin.quit = true to allow it; a running sidecar takes that over";
        return problem(StatusCode::FORBIDDEN, "quit", advice);
    }
    if !quitting.is_cancelled() {
        tracing::info!("asked to stop by POST /admin/quit");
    }
    quitting.cancel();
    answer_json(StatusCode::OK, &json!({ "draining": true }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_only_where_that_is_allowed() {
        let quitting = CancellationToken::new();
        assert_eq!(quit(false, &quitting).status(), 403);
        assert!(!quitting.is_cancelled());
        for _ in 0..2 {
            assert_eq!(quit(true, &quitting).status(), 200);
            assert!(quitting.is_cancelled());
        }
    }
}
