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

    fn advice(text: &str) -> Option<String> {
        size_advice(text)
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

    fn advice(text: &str) -> Option<String> {
        duration_advice(text)
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

    fn advice(text: &str) -> Option<String> {
        duration_advice(text)
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

    fn advice(text: &str) -> Option<String> {
        duration_advice(text)
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

    fn advice(text: &str) -> Option<String> {
        origin_advice(text)
    }
}

/// The same, where the default URI (without authority) means none.
impl Value for Uri {
    const EXPECTED: &'static str = Option::<Self>::EXPECTED;

    fn parse(text: &str, key: &Key) -> Option<Self> {
        Option::<Self>::parse(text, key).map(Option::unwrap_or_default)
    }

    fn advice(text: &str) -> Option<String> {
        origin_advice(text)
    }
}

/// Whether a URL is `http://…` or `https://…` with a host and nothing behind it.
pub(super) fn is_origin(url: &Uri) -> bool {
    matches!(url.scheme_str(), Some("http" | "https"))
        && url.authority().is_some_and(|authority| {
            // The library takes any number for a port.
            let port = authority.as_str().strip_prefix(authority.host()).unwrap_or("@");
            !authority.host().is_empty() && (port.is_empty() || authority.port_u16().is_some())
        })
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
    const EXAMPLES: &'static [&'static str] = &[];

    /// What to write instead of a text that is no member, where that can be told.
    fn advice(_: &str) -> Option<String> {
        None
    }
}

impl ListMember for SocketAddr {
    const PLURAL: &'static str = "IP:PORT";
    const EXAMPLES: &'static [&'static str] = &["127.0.0.1:8484"];

    fn advice(text: &str) -> Option<String> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port: u16 = port.parse().ok()?;
        matches!(host, "" | "localhost" | "*").then(|| did_you_mean(&format!("127.0.0.1:{port}")))
    }
}

impl ListMember for String {
    const PLURAL: &'static str = "texts";
}

impl ListMember for HeaderName {
    const PLURAL: &'static str = "names of header fields";
}

impl ListMember for Method {
    const PLURAL: &'static str = "methods";
    const EXAMPLES: &'static [&'static str] = &["GET", "HEAD"];
}

impl ListMember for Uri {
    const PLURAL: &'static str = "URLs";
    const EXAMPLES: &'static [&'static str] = &["https://contoso-west.azconfig.io"];

    fn advice(text: &str) -> Option<String> {
        origin_advice(text)
    }
}

impl ListMember for PathAndQuery {
    const PLURAL: &'static str = "targets";
    const EXAMPLES: &'static [&'static str] = &["/kv/app%3Asentinel?api-version=2023-11-01"];
}

impl<T: ListMember> Value for Vec<T> {
    const SHAPE: Shape = Shape::List;

    fn parse(_: &str, _: &Key) -> Option<Self> {
        None
    }

    fn expected(_: &Key) -> String {
        let examples = T::EXAMPLES;
        let such_as = if examples.is_empty() { String::new() } else { format!(", such as {examples:?}") };
        format!("a list of {}{such_as}", T::PLURAL)
    }

    fn expected_in_text(_: &Key) -> String {
        let examples = T::EXAMPLES.join(",");
        let such_as = if examples.is_empty() { String::new() } else { format!(", such as {examples}") };
        format!("{}{such_as}; a comma separates several", T::PLURAL)
    }

    fn advice(text: &str) -> Option<String> {
        T::advice(text)
    }

    fn read(written: &WrittenValue, _: &Key) -> Option<Self> {
        let WrittenValue::Many(texts) = written else { return None };
        texts.iter().map(|text| text.parse().ok().filter(|_| !text.is_empty())).collect()
    }
}

fn did_you_mean(text: &str) -> String {
    format!("did you mean {text:?}?")
}

/// What is meant by a URL without a scheme, or with something behind the host.
fn origin_advice(text: &str) -> Option<String> {
    if text.contains(['@', ';', '=', ',']) {
        return None;
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some((_, port)) = host.rsplit_once(':')
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_err()
    {
        return Some("a port is a number up to 65535".to_owned());
    }
    let meant = format!("{scheme}://{host}");
    meant.parse().ok().filter(is_origin)?;
    let why = if path.is_empty() { "" } else { " The path comes with each request." };
    Some(format!("{}{why}", did_you_mean(&meant)))
}

/// Which unit is meant. `None` for a size, which is out of range.
fn size_advice(text: &str) -> Option<String> {
    if parse_size(text).is_some() {
        return None;
    }
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => "B",
        "k" | "kb" | "kib" | "ki" => "KiB",
        "m" | "mb" | "mib" | "mi" => "MiB",
        "g" | "gb" | "gib" | "gi" => "GiB",
        _ => "",
    };
    let meant = format!("{number}{unit}");
    let meant = if parse_size(&meant).is_some() { did_you_mean(&meant) + " " } else { String::new() };
    Some(format!("{meant}The units are B, KiB, MiB and GiB"))
}

/// Which unit is meant. `None` for a duration, which is out of range.
fn duration_advice(text: &str) -> Option<String> {
    if parse_duration(text).is_ok() {
        return None;
    }
    let is_bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let meant = if is_bare { did_you_mean(&format!("{text}s")) + " " } else { String::new() };
    Some(format!("{meant}The units are ms, s, m, h and d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_said() {
        for (advice, meant) in [
            (origin_advice("contoso.azconfig.io"), Some("did you mean \"https://contoso.azconfig.io\"?")),
            (
                origin_advice("http://a:81/api"),
                Some("did you mean \"http://a:81\"? The path comes with each request."),
            ),
            (origin_advice("http://a:99999"), Some("a port is a number up to 65535")),
            (origin_advice("ftp://a"), None),
            (origin_advice("http://u:hunter2@a"), None),
            (size_advice("64MB"), Some("did you mean \"64MiB\"? The units are B, KiB, MiB and GiB")),
            (size_advice("64"), Some("did you mean \"64B\"? The units are B, KiB, MiB and GiB")),
            (size_advice("much"), Some("The units are B, KiB, MiB and GiB")),
            (size_advice("64MiB"), None),
            (duration_advice("30"), Some("did you mean \"30s\"? The units are ms, s, m, h and d")),
            (duration_advice("1 hour"), Some("The units are ms, s, m, h and d")),
            (duration_advice("900d"), None),
            (<SocketAddr as ListMember>::advice("localhost:1"), Some("did you mean \"127.0.0.1:1\"?")),
            (<SocketAddr as ListMember>::advice("8080"), Some("did you mean \"127.0.0.1:8080\"?")),
            (<SocketAddr as ListMember>::advice("example.com:1"), None),
        ] {
            assert_eq!(advice.as_deref(), meant);
        }
    }

    #[test]
    fn a_url_with_a_path_a_user_or_another_scheme_is_refused() {
        let key = Key::new::<Uri>("upstream.url", "");
        let accepts = |url: &str| key.accepts(&WrittenValue::One(url.to_owned()));
        for good in [
            "http://127.0.0.1:80",
            "https://x.azconfig.io",
            "https://x.azconfig.io/",
            "http://[::1]:8",
            "http://[::1]",
        ] {
            assert!(accepts(good), "{good}");
        }
        for bad in [
            "x.azconfig.io",
            "ftp://a",
            "http://a/b",
            "http://u:p@a",
            "http://a?b",
            "/x",
            "http://",
            "http://a:99999",
            "http://a:",
        ] {
            assert!(!accepts(bad), "{bad}");
        }
    }
}
