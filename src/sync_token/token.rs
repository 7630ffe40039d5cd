//! Grammar of the `Sync-Token` field (Azure App Configuration, "Real-time consistency").
//!
//! ```text
//! response  = token *( "," token )          token = id "=" value ";sn=" 1*DIGIT
//! request   = pair  *( "," pair )           pair  = id "=" value      (";sn=" allowed, not required)
//! id        = 1*( any char except "=" and those below )
//! value     = 1*( any char except "," ";" DQUOTE, white space and control characters )
//!                                              ; opaque, usually base64, MAY end in "="
//! ```
//!
//! The parsers leave out what is malformed, because a bad token must never cost a caller an otherwise good response, and must
//! never be kept or sent on. A token of a response without `sn` is malformed: nothing tells what it includes. The printers
//! are strict, because the JavaScript and Go clients fail on anything but the exact form.

use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Name of the field, in lower case as `http::HeaderName` wants it.
pub const FIELD_NAME: &str = "sync-token";

/// A longer token is malformed. Real ones have about forty bytes; with the bound on ids this keeps the one line that every request
/// and every answer carries below 16 KiB.
pub const MAX_TOKEN_BYTES: usize = 768;

/// The reason why a text cannot be part of a token that every client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The id is empty or contains `=`, `,`, `;`, a quote, white space or a control character.
    #[error(
        "a sync token id must not be empty nor contain '=', ',', ';', quotes, spaces or control characters; choose another id"
    )]
    Id,
    /// The value is empty or contains `,`, `;`, a quote, white space or a control character.
    #[error(
        "a sync token value must not be empty nor contain ',', ';', quotes, spaces or control characters; encode it as base64"
    )]
    Value,
}

/// `id=value`: what a caller presents, and the part of a token that names a state.
///
/// Both texts always satisfy the grammar, so printing one gives a field value that every client can read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PresentedToken {
    id: Arc<str>,
    value: Arc<str>,
}

/// `id=value;sn=N`: a token as an origin hands it out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SyncToken {
    presented: PresentedToken,
    sequence_number: u64,
}

impl PresentedToken {
    /// A token from its two parts.
    ///
    /// # Errors
    /// [`TokenError`] when a part does not satisfy the grammar.
    pub fn new(id: &str, value: &str) -> Result<Self, TokenError> {
        if !is_part(id) || id.contains('=') {
            return Err(TokenError::Id);
        }
        if !is_part(value) {
            return Err(TokenError::Value);
        }
        Ok(Self { id: id.into(), value: value.into() })
    }

    /// The opaque id; unique neither per store nor per endpoint.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The opaque value, often base64 and so often with `=` at its end.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl SyncToken {
    /// A token from its three parts.
    ///
    /// # Errors
    /// [`TokenError`] when the id or the value does not satisfy the grammar.
    pub fn new(id: &str, value: &str, sequence_number: u64) -> Result<Self, TokenError> {
        Ok(Self { presented: PresentedToken::new(id, value)?, sequence_number })
    }

    /// The opaque id; unique neither per store nor per endpoint.
    pub fn id(&self) -> &str {
        &self.presented.id
    }

    /// The opaque value.
    pub fn value(&self) -> &str {
        &self.presented.value
    }

    /// `sn`: among tokens of one id the highest replaces the others.
    pub fn sequence_number(&self) -> u64 {
        self.sequence_number
    }

    /// The form in which a caller presents this token: without `sn`.
    pub fn presented(&self) -> &PresentedToken {
        &self.presented
    }
}

impl fmt::Display for PresentedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.id, self.value)
    }
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};sn={}", self.presented, self.sequence_number)
    }
}

/// Reads the tokens of a response from all its field lines, in their order. What is not a token, or has no readable `sn`, is
/// left out.
pub fn parse_response<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<SyncToken> {
    parse_pairs(lines)
        .filter_map(|(presented, sequence_number)| {
            Some(SyncToken { presented, sequence_number: sequence_number? })
        })
        .collect()
}

/// Reads the tokens that a request presents from all its field lines, in their order. A `sn` is accepted and dropped:
/// only the origin that made a value knows its sequence number.
pub fn parse_request<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<PresentedToken> {
    parse_pairs(lines).map(|(presented, _)| presented).collect()
}

/// The one field line of a response: `id=value;sn=N,…` without spaces; empty when there are no tokens.
pub fn print_response<'a>(tokens: impl IntoIterator<Item = &'a SyncToken>) -> String {
    print(tokens)
}

/// The one field line of a request: `id=value,…` without spaces; empty when there are no tokens.
pub fn print_request<'a>(tokens: impl IntoIterator<Item = &'a PresentedToken>) -> String {
    print(tokens)
}

fn print(tokens: impl IntoIterator<Item = impl fmt::Display>) -> String {
    tokens.into_iter().fold(String::new(), |mut line, token| {
        let separator = if line.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _infallible = write!(line, "{separator}{token}");
        line
    })
}

fn parse_pairs<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
) -> impl Iterator<Item = (PresentedToken, Option<u64>)> {
    lines.into_iter().flat_map(|line| line.split(|&byte| byte == b',')).filter_map(parse_token)
}

fn parse_token(text: &[u8]) -> Option<(PresentedToken, Option<u64>)> {
    if text.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let mut parameters = text.split(';').map(|parameter| parameter.trim_matches([' ', '\t']));
    // The first `=` splits: an id cannot contain one, a value may.
    let (id, value) = parameters.next()?.split_once('=')?;
    let presented =
        PresentedToken::new(id.trim_end_matches([' ', '\t']), value.trim_start_matches([' ', '\t'])).ok()?;
    // What callers are sent back must be no longer than what is read.
    if presented.id.len() + presented.value.len() + "=;sn=18446744073709551615".len() > MAX_TOKEN_BYTES {
        return None;
    }
    let sequence_number = parameters
        .find_map(|parameter| {
            let (name, digits) = parameter.split_once('=')?;
            name.trim_end_matches([' ', '\t']).eq_ignore_ascii_case("sn").then_some(digits)
        })
        .and_then(parse_sequence_number);
    Some((presented, sequence_number))
}

fn parse_sequence_number(digits: &str) -> Option<u64> {
    let digits = digits.trim_start_matches([' ', '\t']);
    // `u64::from_str` alone would accept a leading `+`, which is not `1*DIGIT`.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn is_part(text: &str) -> bool {
    let is_barred = |character: char| {
        matches!(character, ',' | ';' | '"' | '\'') || character.is_whitespace() || character.is_control()
    };
    !text.is_empty() && !text.contains(is_barred)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(lines: &[&str]) -> Vec<(String, String, u64)> {
        parse_response(lines.iter().map(|line| line.as_bytes()))
            .iter()
            .map(|token| (token.id().to_owned(), token.value().to_owned(), token.sequence_number()))
            .collect()
    }

    fn owned(id: &str, value: &str, sequence_number: u64) -> (String, String, u64) {
        (id.to_owned(), value.to_owned(), sequence_number)
    }

    #[test]
    fn reads_the_tokens_seen_on_the_wire() {
        for (line, id, value, sequence_number) in [
            ("zAJw6V16=Njo1IzUxNjQ2NzM=;sn=5164673", "zAJw6V16", "Njo1IzUxNjQ2NzM=", 5_164_673),
            ("jtqGc1I4=MDoyOA==;sn=28", "jtqGc1I4", "MDoyOA==", 28),
            ("kv=MA==;sn=1", "kv", "MA==", 1),
        ] {
            assert_eq!(parse(&[line]), [owned(id, value, sequence_number)]);
        }
    }

    #[test]
    fn combines_lines_and_tolerates_spaces_and_unknown_parameters() {
        assert_eq!(
            parse(&["a=MTE=;sn=7, b=MTI=;sn=8", "\tc=x ; sn=9;foo=bar", "d=y;foo=bar;SN=2"]),
            [owned("a", "MTE=", 7), owned("b", "MTI=", 8), owned("c", "x", 9), owned("d", "y", 2)]
        );
    }

    #[test]
    fn leaves_out_what_is_no_token_and_keeps_the_rest() {
        assert_eq!(
            parse(&["", ",,", "novalue", "=x;sn=1", "id=;sn=1", ";sn=3", "good=v;sn=4,bad\u{1}=v;sn=5"]),
            [owned("good", "v", 4)]
        );
        assert_eq!(
            parse(&["q=\"v\";sn=1,s=v w;sn=2,c=v\u{7f}w;sn=3,n=v\u{a0}w;sn=4,\"id\"=v;sn=5,good=v;sn=6"]),
            [owned("good", "v", 6)],
            "quotes, spaces and control characters"
        );
        assert_eq!(parse_response([&b"a=\xff;sn=1,b=v;sn=2"[..]]).len(), 1);
    }

    #[test]
    fn a_token_without_a_readable_sequence_number_is_left_out() {
        for sn in ["", ";sn=", ";sn=-1", ";sn=+1", ";sn=1x", ";sn=99999999999999999999999999"] {
            assert_eq!(parse(&[&format!("nosn=AAAA{sn}")]), [], "{sn}");
            assert_eq!(parse_request([format!("nosn=AAAA{sn}").as_bytes()]).len(), 1, "callers send none");
        }
        assert_eq!(parse(&["a=v;sn=18446744073709551615"]), [owned("a", "v", u64::MAX)]);
    }

    #[test]
    fn prints_one_line_without_spaces() {
        let tokens = [SyncToken::new("a", "MQ==", 5).unwrap(), SyncToken::new("b", "Mg==", 6).unwrap()];
        assert_eq!(print_response(&tokens), "a=MQ==;sn=5,b=Mg==;sn=6");
        assert_eq!(print_request(tokens.iter().map(SyncToken::presented)), "a=MQ==,b=Mg==");
        assert_eq!(print_response(&[]), "");
    }

    #[test]
    fn refuses_parts_that_would_break_a_client() {
        for id in ["", "a=b", "a,b", "a;b", " a", "a\r\nX: y"] {
            assert_eq!(PresentedToken::new(id, "v"), Err(TokenError::Id), "{id:?}");
        }
        for value in ["", "a,b", "a;b", "v ", "v w", "\"v\"", "v\0"] {
            assert_eq!(PresentedToken::new("id", value), Err(TokenError::Value), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_and_what_parses_prints_back(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let tokens = parse_response(lines.iter().map(Vec::as_slice));
            let line = print_response(&tokens);
            prop_assert_eq!(parse_response([line.as_bytes()]), tokens);
        }

        #[test]
        fn token_like_text_round_trips(
            parts in prop::collection::vec(("[!#-&(-+\\--:<>-~]{1,12}", "[!#-&(-+\\--:<-~]{1,24}", any::<u64>()), 0..6),
        ) {
            let tokens: Vec<SyncToken> =
                parts.iter().map(|(id, value, sn)| SyncToken::new(id, value, *sn).unwrap()).collect();
            let response = print_response(&tokens);
            prop_assert_eq!(parse_response([response.as_bytes()]), tokens.clone());
            let request = print_request(tokens.iter().map(SyncToken::presented));
            let presented: Vec<PresentedToken> = tokens.iter().map(|token| token.presented().clone()).collect();
            prop_assert_eq!(parse_request([request.as_bytes()]), presented);
        }

        #[test]
        fn almost_tokens_never_panic(line in "[a-c=;,sn0-9 \t]{0,60}") {
            let _tokens = parse_request([line.as_bytes()]);
        }
    }

    #[test]
    fn a_token_of_absurd_length_is_left_out_and_the_rest_kept() {
        let line = format!("a=MTE=;sn=7,long={};sn=8", "x".repeat(MAX_TOKEN_BYTES));
        assert_eq!(parse(&[&line]), [owned("a", "MTE=", 7)]);
    }
}
