//! The types of keys: how the text of each is read, and what an error tells the operator to write.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use http::uri::PathAndQuery;
use http::{HeaderName, Method, Uri};

use super::duration::{format_duration, parse_duration};
use super::key::{Key, Shape, Value, WrittenValue};
use super::secret::SecretString;
use super::size::{format_size, parse_size};

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    const SHAPE: Shape = Shape::Bare;

    fn parse(text: &str, _: &Key) -> Option<Self> {
        text.parse().ok()
    }
}

/// A count.
impl Value for usize {
    const SHAPE: Shape = Shape::Bare;

    fn parse(text: &str, key: &Key) -> Option<Self> {
        let count = text.parse().ok().filter(|count| key.is_in_range(*count))?;
        Self::try_from(count).ok()
    }

    fn expected(key: &Key) -> String {
        format!("a whole number from {} to {}", key.least, key.most)
    }
}

/// A size in bytes.
impl Value for u64 {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        parse_size(text).filter(|bytes| key.is_in_range(*bytes))
    }

    fn expected(key: &Key) -> String {
        format!("a size from {} to {}, such as \"64KiB\"", format_size(key.least), format_size(key.most))
    }
}

/// The mode of a file: three octal digits behind a zero, as `chmod` takes them.
impl Value for u32 {
    const EXPECTED: &'static str = "a file mode such as \"0660\"";

    fn parse(text: &str, _: &Key) -> Option<Self> {
        let is_mode = text.len() == 4 && text.starts_with('0');
        Self::from_str_radix(text, 8).ok().filter(|_| is_mode)
    }
}

impl Value for Duration {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        let duration = parse_duration(text).ok()?;
        u64::try_from(duration.as_millis()).is_ok_and(|millis| key.is_in_range(millis)).then_some(duration)
    }

    fn expected(key: &Key) -> String {
        let [least, most] = [key.least, key.most].map(|it| format_duration(Self::from_millis(it)));
        format!("a duration from {least} to {most}, such as \"30s\"")
    }
}

/// `None` is `auto` where that is the default, and what is not set in a route.
impl Value for Option<Duration> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        if text == "auto" && key.default == "auto" {
            return Some(None);
        }
        Duration::parse(text, key).map(Some)
    }

    fn expected(key: &Key) -> String {
        let auto = if key.default == "auto" { "\"auto\" or " } else { "" };
        format!("{auto}{}", Duration::expected(key))
    }
}

/// Of a route: `None` is the upstream's, `Some(None)` is `auto`.
impl Value for Option<Option<Duration>> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        if text == "auto" { Some(Some(None)) } else { Duration::parse(text, key).map(|it| Some(Some(it))) }
    }

    fn expected(key: &Key) -> String {
        format!("\"auto\" or {}", Duration::expected(key))
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn parse(text: &str, _: &Key) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Value for SecretString {
    const EXPECTED: &'static str = String::EXPECTED;
    const SHAPE: Shape = Shape::Secret;

    fn parse(text: &str, _: &Key) -> Option<Self> {
        Some(Self::new(text.to_owned()))
    }
}

/// A file or socket; empty means none.
impl Value for Option<PathBuf> {
    const EXPECTED: &'static str = "a path in quotes";

    fn parse(text: &str, _: &Key) -> Option<Self> {
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    }
}

/// The URL of an origin; empty means none.
impl Value for Option<Uri> {
    const EXPECTED: &'static str = "a URL such as \"https://example.com\", without user, path or query";

    fn parse(text: &str, _: &Key) -> Option<Self> {
        if text.is_empty() { Some(None) } else { text.parse().ok().filter(is_origin).map(Some) }
    }
}

/// The same, where the default URI (without authority) means none.
impl Value for Uri {
    const EXPECTED: &'static str = Option::<Self>::EXPECTED;

    fn parse(text: &str, key: &Key) -> Option<Self> {
        Option::<Self>::parse(text, key).map(Option::unwrap_or_default)
    }
}

/// Whether a URL is `http://…` or `https://…` with a host and nothing behind it.
pub(super) fn is_origin(url: &Uri) -> bool {
    matches!(url.scheme_str(), Some("http" | "https"))
        && url
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
        && url.path() == "/"
        && url.query().is_none()
}

/// The name of a header field; empty means none.
impl Value for Option<HeaderName> {
    const EXPECTED: &'static str = "the name of a header field";

    fn parse(text: &str, _: &Key) -> Option<Self> {
        if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
    }
}

/// One of a few words: the names of the variants in kebab-case.
pub trait Word: ValueEnum {
    /// The word in the configuration.
    fn word(&self) -> String {
        self.to_possible_value().map(|word| word.get_name().to_owned()).unwrap_or_default()
    }
}

fn one_of<T: Word>() -> String {
    T::value_variants().iter().map(T::word).collect::<Vec<_>>().join(", ")
}

impl<T: Word + Default> Value for T {
    fn parse(text: &str, _: &Key) -> Option<Self> {
        <T as ValueEnum>::from_str(text, false).ok()
    }

    fn expected(_: &Key) -> String {
        format!("one of {}", one_of::<T>())
    }
}

/// `None` is `auto` where that is the default, and what is not set in a route.
impl<T: Word> Value for Option<T> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        if text == "auto" && key.default == "auto" {
            return Some(None);
        }
        <T as ValueEnum>::from_str(text, false).ok().map(Some)
    }

    fn expected(key: &Key) -> String {
        let auto = if key.default == "auto" { "auto, " } else { "" };
        format!("one of {auto}{}", one_of::<T>())
    }
}

/// What lists consist of. An empty text is never a member.
pub(crate) trait ListMember: FromStr {
    const PLURAL: &'static str;
}

impl ListMember for SocketAddr {
    const PLURAL: &'static str = "IP:PORT, such as [\"127.0.0.1:8484\"]";
}

impl ListMember for String {
    const PLURAL: &'static str = "texts";
}

impl ListMember for HeaderName {
    const PLURAL: &'static str = "names of header fields";
}

impl ListMember for Method {
    const PLURAL: &'static str = "methods, such as [\"GET\", \"HEAD\"]";
}

impl ListMember for Uri {
    const PLURAL: &'static str = "URLs, such as [\"https://contoso-west.azconfig.io\"]";
}

impl ListMember for PathAndQuery {
    const PLURAL: &'static str = "targets, such as [\"/kv/app%3Asentinel?api-version=2023-11-01\"]";
}

impl<T: ListMember> Value for Vec<T> {
    const SHAPE: Shape = Shape::List;

    fn parse(_: &str, _: &Key) -> Option<Self> {
        None
    }

    fn expected(_: &Key) -> String {
        format!("a list of {}", T::PLURAL)
    }

    fn read(written: &WrittenValue, _: &Key) -> Option<Self> {
        let WrittenValue::Many(texts) = written else { return None };
        texts.iter().map(|text| text.parse().ok().filter(|_| !text.is_empty())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_a_path_a_user_or_another_scheme_is_refused() {
        let key = Key::new::<Uri>("upstream.url", "");
        let accepts = |url: &str| key.accepts(&WrittenValue::One(url.to_owned()));
        for good in
            ["http://127.0.0.1:80", "https://x.azconfig.io", "https://x.azconfig.io/", "http://[::1]:8"]
        {
            assert!(accepts(good), "{good}");
        }
        for bad in ["x.azconfig.io", "ftp://a", "http://a/b", "http://u:p@a", "http://a?b", "/x", "http://"] {
            assert!(!accepts(bad), "{bad}");
        }
    }
}
