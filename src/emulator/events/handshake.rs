//! The handshake: a webhook consents before it receives events. With the Event Grid schema it returns a validation code
//! with status 200, or opens the validation URL. With CloudEvents it answers OPTIONS with `WebHook-Allowed-Origin`. The
//! decisions are pure; [`super::delivery`] sends.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{EventSchema, TOPIC};
use crate::clock::Timestamp;
use crate::profile::app_configuration::key_value::format_date_time;

/// The value of `WebHook-Request-Origin`.
pub const ORIGIN: &str = "tagalong-emulator";

/// A code that confirms the subscription out of band, by a GET of the address that the handshake names.
#[derive(Debug, Clone)]
pub struct Confirmation {
    code: Arc<str>,
    confirmed: Arc<watch::Sender<bool>>,
}

impl Confirmation {
    /// An unconfirmed subscription with this code.
    pub fn new(code: String) -> Self {
        Self { code: code.into(), confirmed: Arc::new(watch::Sender::new(false)) }
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Confirms if the code is right. Returns whether it is.
    pub fn confirm(&self, code: &str) -> bool {
        let right = code == &*self.code;
        if right {
            self.confirmed.send_replace(true);
        }
        right
    }

    /// Waits until the subscription is confirmed.
    pub async fn confirmed(&self) {
        // `self` owns the sender, so the channel cannot close before the value is true.
        let mut confirmed = self.confirmed.subscribe();
        let _never_closes = confirmed.wait_for(|confirmed| *confirmed).await;
    }
}

/// The request that asks a webhook for its consent. `callback` is the base URL of the admin port.
pub fn question(
    schema: EventSchema,
    webhook: &Uri,
    confirmation: &Confirmation,
    callback: &str,
    id: &str,
    now: Timestamp,
) -> Request<Full<Bytes>> {
    let callback = format!("{callback}/__emulator/events/confirmation?code={}", confirmation.code());
    let request = Request::builder().uri(webhook.clone());
    let request = match schema {
        EventSchema::CloudEvents => request
            .method(Method::OPTIONS)
            .header("webhook-request-origin", ORIGIN)
            .header("webhook-request-callback", callback)
            .body(Full::default()),
        EventSchema::EventGrid => {
            let event = json!([{
                "id": id,
                "topic": TOPIC,
                "subject": "",
                "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
                "eventTime": format_date_time(now),
                "data": { "validationCode": confirmation.code(), "validationUrl": callback },
                "dataVersion": "2",
                "metadataVersion": "1",
            }]);
            request
                .method(Method::POST)
                .header(CONTENT_TYPE, schema.media_type())
                .header("aeg-event-type", "SubscriptionValidation")
                .body(Full::new(event.to_string().into()))
        }
    };
    let mut request = request.unwrap_or_default();
    request.headers_mut().remove(HOST);
    request
}

/// Whether a webhook's answer is its consent. Event Grid requires 200 and the code; CloudEvents requires the field
/// `WebHook-Allowed-Origin`.
pub fn consents(
    schema: EventSchema,
    confirmation: &Confirmation,
    status: StatusCode,
    fields: &HeaderMap,
    content: &[u8],
) -> bool {
    match schema {
        EventSchema::EventGrid => {
            let answer = serde_json::from_slice::<Value>(content).unwrap_or_default();
            status == StatusCode::OK && answer["validationResponse"] == confirmation.code()
        }
        EventSchema::CloudEvents => fields.get("webhook-allowed-origin").is_some_and(|allowed| {
            allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(ORIGIN.as_bytes())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Confirmation {
        Confirmation::new("code-1".to_owned())
    }

    #[test]
    fn event_grid_wants_200_and_the_code() {
        let answered = |status, content: &str| {
            consents(EventSchema::EventGrid, &code(), status, &HeaderMap::new(), content.as_bytes())
        };
        let right = r#"{"validationResponse":"code-1"}"#;
        assert!(answered(StatusCode::OK, right));
        assert!(!answered(StatusCode::ACCEPTED, right));
        assert!(!answered(StatusCode::OK, r#"{"validationResponse":"other"}"#));
        assert!(!answered(StatusCode::OK, ""));
    }

    #[test]
    fn cloud_events_want_the_permission_and_no_status_replaces_it() {
        let allowed = |origin: Option<&'static str>| {
            let mut fields = HeaderMap::new();
            origin.map(|origin| fields.insert("webhook-allowed-origin", origin.parse().unwrap()));
            consents(EventSchema::CloudEvents, &code(), StatusCode::OK, &fields, b"")
        };
        assert!(allowed(Some("*")) && allowed(Some(ORIGIN)));
        assert!(!allowed(Some("elsewhere")) && !allowed(None));
    }

    #[test]
    fn the_question_names_code_and_callback() {
        let webhook = Uri::from_static("http://127.0.0.1:9/hook");
        let ask =
            |schema| question(schema, &webhook, &code(), "http://127.0.0.1:8486", "id", Timestamp::default());
        let options = ask(EventSchema::CloudEvents);
        assert_eq!(options.method(), Method::OPTIONS);
        assert_eq!(
            options.headers()["webhook-request-callback"],
            "http://127.0.0.1:8486/__emulator/events/confirmation?code=code-1"
        );
        let post = ask(EventSchema::EventGrid);
        assert_eq!((post.method(), post.uri().path()), (&Method::POST, "/hook"));
        assert_eq!(post.headers()["aeg-event-type"], "SubscriptionValidation");
    }

    #[tokio::test]
    async fn a_confirmation_ends_the_wait() {
        let confirmation = code();
        assert!(!confirmation.confirm("wrong"));
        assert!(confirmation.confirm("code-1"));
        confirmation.confirmed().await;
    }
}
