//! What can be wrong with an answer's head: things that the real service was seen to do, or that a cache must survive.

use http::header::{ETAG, LINK};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::sync_token::token::FIELD_NAME as SYNC_TOKEN;

/// Changes to an answer's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadFault {
    /// A 304 loses its `Link`, so that clients believe the page was the last (hazard 5 of protocol §13).
    pub no_link_on_304: bool,
    /// `"x"` becomes `W/"x"`.
    pub weak_etags: bool,
    /// How the `Sync-Token` is spelled.
    pub tokens: TokenForm,
}

/// How the `Sync-Token` of an answer is spelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenForm {
    /// One line, as clients need it.
    #[default]
    Sound,
    /// Not at all.
    Absent,
    /// Each token on a line of its own; a single token is joined by one more, of the id `line2`.
    TwoLines,
    /// This text in its place.
    Replaced(String),
}

/// Makes the changes. Tokens are only changed where there were some: their absence on 400, 401 and 412 is no fault.
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
            // The plan was refused if this text cannot be sent, so the other branch is never taken.
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
    fn a_sound_head_stays() {
        assert_eq!(spoiled(&HeadFault::default(), StatusCode::OK), answer());
    }

    #[test]
    fn link_goes_from_a_304_only() {
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
    fn tokens_take_every_form() {
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
