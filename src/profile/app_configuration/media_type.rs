//! The media types of the API, and which one an answer is labelled with.

/// The kind of a body. All but the last two have a vendor media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// One key-value.
    KeyValue,
    /// A page of key-values or revisions.
    KeyValueSet,
    /// A page of keys.
    KeySet,
    /// A page of labels.
    LabelSet,
    /// One snapshot.
    Snapshot,
    /// A page of snapshots.
    SnapshotSet,
    /// A long-running operation.
    Operation,
    /// An error (RFC 9457).
    Problem,
}

/// The media type of the same bytes for a client that accepts only JSON.
pub const JSON: &str = "application/json; charset=utf-8";

impl MediaType {
    /// The `Content-Type` that the service gives by default.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::KeyValue => "application/vnd.microsoft.appconfig.kv+json; charset=utf-8",
            Self::KeyValueSet => "application/vnd.microsoft.appconfig.kvset+json; charset=utf-8",
            Self::KeySet => "application/vnd.microsoft.appconfig.keyset+json; charset=utf-8",
            Self::LabelSet => "application/vnd.microsoft.appconfig.labelset+json; charset=utf-8",
            Self::Snapshot => "application/vnd.microsoft.appconfig.snapshot+json; charset=utf-8",
            Self::SnapshotSet => "application/vnd.microsoft.appconfig.snapshotset+json; charset=utf-8",
            Self::Operation => JSON,
            Self::Problem => "application/problem+json; charset=utf-8",
        }
    }

    /// The `Content-Type` for a client with this `Accept`: the vendor type, unless only plain JSON is accepted. The
    /// bytes are the same in every case. No `Accept` is refused: the service answers with a type that the client did
    /// not accept as well.
    #[must_use]
    pub fn negotiate(self, accept: Option<&str>) -> &'static str {
        let Some(accept) = accept else { return self.content_type() };
        let own = essence(self.content_type());
        let mut plain_json = false;
        for range in accept.split(',').map(essence) {
            if range.eq_ignore_ascii_case(own)
                || range == "*/*"
                || range.eq_ignore_ascii_case("application/*")
            {
                return self.content_type();
            }
            plain_json |= range.eq_ignore_ascii_case(essence(JSON));
        }
        if plain_json && self != Self::Problem { JSON } else { self.content_type() }
    }

    /// Whether a request body with this `Content-Type` is of this kind: the vendor type, or plain JSON as current
    /// clients send.
    #[must_use]
    pub fn accepts(self, content_type: &str) -> bool {
        let essence_of_body = essence(content_type);
        essence_of_body.eq_ignore_ascii_case(essence(self.content_type()))
            || essence_of_body.eq_ignore_ascii_case(essence(JSON))
    }
}

/// A media type or range without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split_once(';').map_or(media_type, |(essence, _)| essence).trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendor_type_unless_only_json_is_accepted() {
        let own = MediaType::KeyValue.content_type();
        for (accept, expected) in [
            (None, own),
            (Some("*/*"), own),
            (Some("application/vnd.microsoft.appconfig.kv+json, application/problem+json"), own),
            (Some("application/json, */*;q=0.1"), own),
            (Some("application/json"), JSON),
            (Some("Application/JSON; q=1"), JSON),
            (Some("text/html"), own),
            (Some(""), own),
        ] {
            assert_eq!(MediaType::KeyValue.negotiate(accept), expected, "{accept:?}");
        }
        assert_eq!(MediaType::Problem.negotiate(Some("application/json")), MediaType::Problem.content_type());
    }

    #[test]
    fn a_body_may_be_of_its_own_type_or_json() {
        for (content_type, accepted) in [
            ("application/vnd.microsoft.appconfig.kv+json", true),
            ("application/json; charset=utf-8", true),
            ("APPLICATION/JSON", true),
            ("application/vnd.microsoft.appconfig.kvset+json", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(MediaType::KeyValue.accepts(content_type), accepted, "{content_type}");
        }
    }
}
