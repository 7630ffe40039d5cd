//! Text without the secrets that operators paste into places which are shown: user information of URLs, and `Secret=` of
//! connection strings.

use std::borrow::Cow;

const MASK: &str = "***";

/// What ends a secret within a text.
fn ends_secret(character: char) -> bool {
    character.is_whitespace() || matches!(character, ';' | '"' | '\'' | '\\' | ',' | '&' | ')')
}

/// The name in front of a secret; what stands before it does not matter (`client_secret`).
const SECRET: &str = "secret=";

/// A text for people, such as a log line, without those secrets.
pub fn masked(text: &str) -> Cow<'_, str> {
    if !text.contains("://") && memchr::memchr(b'=', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    // Up to here the text has been looked at, and up to here it has been copied.
    let (mut looked, mut copied) = (0, 0);
    while let Some(start) = next_secret(text, looked) {
        let rest = &text[start..];
        let secret = rest.find(ends_secret).map_or(rest, |end| &rest[..end]);
        let is_url = text[..start].ends_with("://");
        // A password may contain what ends an authority: the last `@` counts.
        let length = if is_url { secret.rfind('@') } else { Some(secret.len()) };
        looked = start;
        if let Some(length) = length.filter(|length| *length > 0) {
            shown.push_str(&text[copied..start]);
            shown.push_str(MASK);
            copied = start + length;
            looked = copied;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[copied..]);
    Cow::Owned(shown)
}

/// Where the next thing begins that may be a secret.
fn next_secret(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let url = text[from..].find("://").map(|at| from + at + 3);
    let named = memchr::memchr_iter(b'=', &bytes[from..]).map(|at| from + at + 1).find(|end| {
        end.checked_sub(SECRET.len())
            .is_some_and(|start| bytes[start..*end].eq_ignore_ascii_case(SECRET.as_bytes()))
    });
    match (url, named) {
        (Some(url), Some(named)) => Some(url.min(named)),
        (url, named) => url.or(named),
    }
}

/// The value of a key without those secrets. It is one thing: whatever stands before its last `@` may belong to a password.
pub(super) fn masked_value(value: &str) -> Cow<'_, str> {
    let lower = value.to_ascii_lowercase();
    if let Some(at) = lower.find(SECRET) {
        let before = masked_value(&value[..at]).into_owned();
        return Cow::Owned(format!("{before}{}{MASK}", &value[at..at + SECRET.len()]));
    }
    let begin = value.find("://").map_or(0, |at| at + 3);
    match value.rfind('@') {
        Some(end) if end > begin && value.contains(':') => {
            Cow::Owned(format!("{}{MASK}{}", &value[..begin], &value[end..]))
        }
        _ => Cow::Borrowed(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_within_a_text_are_masked() {
        for (text, expected) in [
            ("url http://user:hunter2@a:80/b is", "url http://***@a:80/b is"),
            ("\"http://hunter2@a\", b@c", "\"http://***@a\", b@c"),
            ("http://u:hun/ter?2#x@a and https://v:hunter2@b", "http://***@a and https://***@b"),
            ("Endpoint=http://a;Id=i;Secret=hunter2==;X=y", "Endpoint=http://a;Id=i;Secret=***;X=y"),
            ("secret=hunter2, SECRET=hunter2", "secret=***, SECRET=***"),
            ("client_secret=hunter2&x=y", "client_secret=***&x=y"),
            ("{\"error\":\"Id=a;Secret=hunter2\"}", "{\"error\":\"Id=a;Secret=***\"}"),
        ] {
            assert_eq!(masked(text), expected);
        }
        for plain in ["", "key=value", "http://a/b", "Secret=", "http://", "a@b: c", "ä://ö=ü"] {
            assert_eq!(masked(plain), plain);
        }
    }

    #[test]
    fn a_value_is_masked_up_to_its_last_at() {
        for (value, expected) in [
            ("http://user:hun ter,2;\"@a:80", "http://***@a:80"),
            ("user:hunter2@proxy:3128", "***@proxy:3128"),
            ("http://user@a", "http://***@a"),
            ("Endpoint=http://a;Id=i;Secret=hunter2;hunter2", "Endpoint=http://a;Id=i;Secret=***"),
            ("Endpoint=http://u:hunter2@a;Secret=x", "Endpoint=http://***@a;Secret=***"),
            ("http://a:80", "http://a:80"),
            ("name@realm", "name@realm"),
        ] {
            assert_eq!(masked_value(value), expected);
        }
    }
}
