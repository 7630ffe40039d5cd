//! Faults of an answer's head: those that the real service shows, and those that a cache must tolerate.

use http::header::{ETAG, LINK};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::sync_token::token::FIELD_NAME as SYNC_TOKEN;

/// Changes to an answer's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadFault {
    /// A 304 loses its `Link`. The Python and JavaScript SDKs then take the page for the last one and miss changes on
    /// later pages.
    pub no_link_on_304: bool,
    /// `"x"` becomes `W/"x"`.
    pub weak_etags: bool,
    /// The form of the `Sync-Token`.
    pub tokens: TokenForm,
}

/// The form of the `Sync-Token` of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenForm {
    /// One line, as clients need it.
    #[default]
    Sound,
    /// Absent.
    Absent,
    /// Each token on a line of its own. To a single token a second one with the id `line2` is added.
    TwoLines,
    /// This value instead.
    Replaced(String),
}

/// Makes the changes. An answer without a token stays without one: 400, 401 and 412 never carry tokens.
pub fn spoil_head(fault: &HeadFault, status: StatusCode, fields: &mut HeaderMap) {
    if fault.no_link_on_304 && status == StatusCode::NOT_MODIFIED {
        fields.remove(LINK);
    }
    if fault.weak_etags
        && let Some(weak) = fields.get(ETAG).and_then(weakened)
    {
        fields.insert(ETAG, weak);
    }
    let Some(sound) = fields.get(SYNC_TOKEN).cloned() else { return };
    match &fault.tokens {
        TokenForm::Sound => {}
        TokenForm::Absent => {
            fields.remove(SYNC_TOKEN);
        }
        TokenForm::TwoLines => {
            fields.remove(SYNC_TOKEN);
            let mut lines: Vec<&[u8]> = sound.as_bytes().split(|&byte| byte == b',').collect();
            if lines.len() == 1 {
                lines.push(b"line2=MA==;sn=1");
            }
            for line in lines.into_iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
                fields.append(SYNC_TOKEN, line);
            }
        }
        TokenForm::Replaced(text) => {
            // A plan with an invalid field value is refused, so the conversion cannot fail.
            if let Ok(value) = HeaderValue::from_str(text) {
                fields.insert(SYNC_TOKEN, value);
            }
        }
    }
}

fn weakened(strong: &HeaderValue) -> Option<HeaderValue> {
    if strong.as_bytes().starts_with(b"W/") {
        return None;
    }
    HeaderValue::from_bytes(&[b"W/", strong.as_bytes()].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(ETAG, HeaderValue::from_static("\"x\""));
        fields.insert(LINK, HeaderValue::from_static("</kv?after=a>; rel=\"next\""));
        fields.insert(SYNC_TOKEN, HeaderValue::from_static("a=MQ==;sn=1"));
        fields
    }

    fn spoiled(fault: &HeadFault, status: StatusCode) -> HeaderMap {
        let mut fields = answer();
        spoil_head(fault, status, &mut fields);
        fields
    }

    #[test]
    fn a_head_without_a_fault_is_unchanged() {
        assert_eq!(spoiled(&HeadFault::default(), StatusCode::OK), answer());
    }

    #[test]
    fn link_is_removed_from_a_304_only() {
        let fault = HeadFault { no_link_on_304: true, ..HeadFault::default() };
        assert!(spoiled(&fault, StatusCode::NOT_MODIFIED).get(LINK).is_none());
        assert!(spoiled(&fault, StatusCode::OK).get(LINK).is_some());
    }

    #[test]
    fn etags_are_weakened_once() {
        let fault = HeadFault { weak_etags: true, ..HeadFault::default() };
        let mut fields = spoiled(&fault, StatusCode::OK);
        assert_eq!(fields[ETAG], "W/\"x\"");
        spoil_head(&fault, StatusCode::OK, &mut fields);
        assert_eq!(fields[ETAG], "W/\"x\"");
    }

    #[test]
    fn every_form_of_sync_token_is_made() {
        let lines = |tokens| -> Vec<String> {
            let fault = HeadFault { tokens, ..HeadFault::default() };
            let fields = spoiled(&fault, StatusCode::OK);
            fields.get_all(SYNC_TOKEN).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
        };
        assert!(lines(TokenForm::Absent).is_empty());
        assert_eq!(lines(TokenForm::TwoLines), ["a=MQ==;sn=1", "line2=MA==;sn=1"]);
        assert_eq!(lines(TokenForm::Replaced("nosn=AAAA".to_owned())), ["nosn=AAAA"]);
    }

    #[test]
    fn an_answer_without_tokens_gets_none() {
        let fault = HeadFault { tokens: TokenForm::Replaced("x".to_owned()), ..HeadFault::default() };
        let mut fields = HeaderMap::new();
        spoil_head(&fault, StatusCode::PRECONDITION_FAILED, &mut fields);
        assert!(fields.is_empty());
    }
}
