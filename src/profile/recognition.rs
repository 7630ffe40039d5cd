//! Recognizing Azure App Configuration by its answers, where the host name does not tell: a local emulator, or a
//! private name.

use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::sync_token::token::{FIELD_NAME, parse_response};

/// The common beginning of its media types.
const MEDIA_TYPE: &str = "application/vnd.microsoft.appconfig.";

/// Whether an answer is from App Configuration: it has one of its media types, or a sync token in its syntax. Its 304s
/// and 404s carry a token as well.
#[must_use]
pub fn is_app_configuration(fields: &HeaderMap) -> bool {
    let text =
        |value: &http::HeaderValue| value.to_str().unwrap_or_default().trim_start().to_ascii_lowercase();
    fields.get(CONTENT_TYPE).is_some_and(|value| text(value).starts_with(MEDIA_TYPE))
        || fields.get_all(FIELD_NAME).iter().any(|value| !parse_response([value.as_bytes()]).is_empty())
}

/// Examines the answers under a guessed profile until one shows that the guess is wrong.
#[derive(Debug)]
pub struct Recognition {
    looking: AtomicBool,
}

impl Recognition {
    /// `looking` is false if the operator has named the profile.
    #[must_use]
    pub const fn new(looking: bool) -> Self {
        Self { looking: AtomicBool::new(looking) }
    }

    /// Whether this answer is the first one that shows App Configuration.
    pub fn shows_app_configuration(&self, fields: &HeaderMap) -> bool {
        self.looking.load(Ordering::Relaxed)
            && is_app_configuration(fields)
            && self.looking.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn its_media_types_and_tokens_tell() {
        for (lines, expected) in [
            (&[("content-type", "application/vnd.microsoft.appconfig.kv+json; charset=utf-8")][..], true),
            (&[("content-type", "Application/vnd.microsoft.AppConfig.kvset+json")], true),
            (&[("content-type", "application/json"), ("sync-token", "zAJw6V16=NTo1IzQ=;sn=4")], true),
            (&[("sync-token", "zAJw6V16=NTo1IzQ=;sn=4")], true),
            (&[("content-type", "application/json")], false),
            (&[("content-type", "application/vnd.microsoft.other+json")], false),
            (&[("sync-token", "http://example.com/ns/sync/1234")], false),
            (&[], false),
        ] {
            assert_eq!(is_app_configuration(&fields(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn it_is_reported_once_and_only_for_a_guessed_profile() {
        let (ours, other) = (fields(&[("sync-token", "a=b;sn=1")]), fields(&[]));
        let recognition = Recognition::new(true);
        let told = [&other, &ours, &ours].map(|it| recognition.shows_app_configuration(it));
        assert_eq!(told, [false, true, false]);
        assert!(!Recognition::new(false).shows_app_configuration(&ours));
    }
}
