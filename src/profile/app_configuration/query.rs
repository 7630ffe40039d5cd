//! The query of a request target, percent-decoded once.

use std::borrow::Cow;

/// The parameters of a query in their order: names decoded and in lower case, values decoded with `+` as a space,
/// parameters without a name left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// Why a query, or a path, cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// `%` without two hexadecimal digits, or bytes that are not UTF-8. One SDK sends such targets if a key contains
    /// `%`.
    #[error("the request target has an invalid percent escape; encode '%' as %25")]
    InvalidEscape,
    /// A parameter that may have one value occurs twice with different values.
    #[error("the query has '{0}' twice with different values; send it once")]
    Repeated(&'static str),
}

impl<'a> Query<'a> {
    /// Splits and decodes a query, without its `?`.
    ///
    /// # Errors
    /// [`QueryError::InvalidEscape`]
    pub fn parse(query: &'a str) -> Result<Self, QueryError> {
        let mut parameters = Vec::new();
        for parameter in query.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let mut name = percent_decode_form(name)?;
            if name.is_empty() {
                continue;
            }
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                name = Cow::Owned(name.to_ascii_lowercase());
            }
            parameters.push((name, percent_decode_form(value)?));
        }
        Ok(Self(parameters))
    }

    /// Every value of a parameter whose name is given in lower case, in order.
    pub fn all<'q>(&'q self, name: &str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// The value of a parameter that must not have several.
    pub fn single(&self, name: &'static str) -> Result<Option<&str>, QueryError> {
        let mut values = self.all(name);
        let first = values.next();
        if values.any(|other| Some(other) != first) { Err(QueryError::Repeated(name)) } else { Ok(first) }
    }

    /// Every parameter in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// Decodes percent escapes once; borrows when there are none.
///
/// # Errors
/// [`QueryError::InvalidEscape`]
pub fn percent_decode(text: &str) -> Result<Cow<'_, str>, QueryError> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        if *byte == b'%' {
            let [high, low, tail @ ..] = tail else { return Err(QueryError::InvalidEscape) };
            let (high, low) = (hex_digit(*high)?, hex_digit(*low)?);
            decoded.push(high << 4 | low);
            rest = tail;
        } else {
            decoded.push(*byte);
            rest = tail;
        }
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| QueryError::InvalidEscape)
}

fn percent_decode_form(text: &str) -> Result<Cow<'_, str>, QueryError> {
    if text.contains('+') {
        return percent_decode(&text.replace('+', " ")).map(|decoded| Cow::Owned(decoded.into_owned()));
    }
    percent_decode(text)
}

fn hex_digit(byte: u8) -> Result<u8, QueryError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(QueryError::InvalidEscape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decodes_once_and_lowers_names_only() {
        let query =
            Query::parse("%24Select=Key&API-version=1.0&label=%2500&&=x&tags=a%3Db+c&tags=%00&flag").unwrap();
        let parameters: Vec<_> = query.iter().collect();
        assert_eq!(
            parameters,
            [
                ("$select", "Key"),
                ("api-version", "1.0"),
                ("label", "%00"),
                ("tags", "a=b c"),
                ("tags", "\0"),
                ("flag", "")
            ]
        );
        assert_eq!(query.all("tags").count(), 2);
        assert_eq!(query.all("absent").next(), None);
    }

    #[test]
    fn an_invalid_escape_is_an_error() {
        for text in ["a=%", "a=%d", "a=%d*", "a=%zz", "%=a", "a=%ff", "a=%c3"] {
            assert_eq!(Query::parse(text), Err(QueryError::InvalidEscape), "{text}");
        }
    }

    #[test]
    fn two_values_for_one_thing_are_an_error() {
        let query = Query::parse("label=a&Label=b&key=x&key=x").unwrap();
        assert_eq!(query.single("label"), Err(QueryError::Repeated("label")));
        assert_eq!(query.single("key"), Ok(Some("x")));
        assert_eq!(query.single("after"), Ok(None));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z%&=+0-9$]{0,40}", any in "\\PC{0,40}") {
            let _queries = (Query::parse(&text), Query::parse(&any));
        }

        #[test]
        fn encoded_text_decodes_to_itself(text in "\\PC{0,24}") {
            let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(percent_decode(&encoded).unwrap(), text.as_str());
            let query = format!("a={encoded}");
            let parsed = Query::parse(&query).unwrap();
            prop_assert_eq!(parsed.all("a").next(), Some(text.as_str()));
        }
    }
}
