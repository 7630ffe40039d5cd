//! Whether a request may come from where it comes from, for every port of this process: names in `Host` that a page could have
//! rebound (DNS rebinding), and what browsers send for pages of other origins.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is refused for where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// `Host` is absent, malformed, or contradicts the target.
    #[error("{0}")]
    Host(&'static str),
    /// `Host` is a name that this port does not answer for.
    #[error(
        "This port answers for localhost, loopback addresses and the names in guard.allowed_hosts. Use one of them, or add \
         the name"
    )]
    HostNotAllowed,
    /// A browser sent it for a page of another origin.
    #[error(
        "A browser sent this request for a page of another origin. Serve the page from here, or add its origin to \
         guard.allowed_origins"
    )]
    CrossOrigin,
}

/// The names that a port answers for, and the origins whose pages may use it.
#[derive(Clone, Debug, Default)]
pub struct AllowedSources {
    hosts: AllowedHosts,
    origins: Vec<String>,
}

impl AllowedSources {
    /// Loopback names and addresses, and these. `*` is any.
    pub fn new(hosts: &[String], origins: &[String]) -> Self {
        Self { hosts: AllowedHosts::new(hosts), origins: origins.to_vec() }
    }

    /// The same, and every IP address as a `Host`: for a port that is reached from other machines by its address. No page can
    /// rebind an address.
    #[must_use]
    pub fn with_any_address(mut self) -> Self {
        self.hosts.any_address = true;
        self
    }

    /// Both checks.
    pub fn check(&self, head: &Parts) -> Result<(), SourceError> {
        let authority = self.check_host(head)?;
        self.check_browser(&head.headers, authority)
    }

    /// Checks `Host`, and returns the authority that the request is for; `None` for an HTTP/1.0 request without one.
    pub fn check_host<'a>(&self, head: &'a Parts) -> Result<Option<HostName<'a>>, SourceError> {
        let host = SourceError::Host;
        let mut lines = head.headers.get_all(HOST).iter();
        let named = lines.next();
        if lines.next().is_some() {
            return Err(host("The request has more than one Host field. Send one"));
        }
        let named = match named {
            Some(value) => Some(
                HostName::parse(value.as_bytes())
                    .ok_or_else(|| host("Host must be a host name or address, with a port or without"))?,
            ),
            None => None,
        };
        let in_target = match head.uri.authority() {
            Some(authority) => Some(
                HostName::parse(authority.as_str().as_bytes())
                    .ok_or_else(|| host("The target must name a host, without user information"))?,
            ),
            None => None,
        };
        let authority = match (named, in_target) {
            (Some(named), Some(in_target)) if !named.is_same(in_target, head.uri.scheme()) => {
                return Err(host("Host and the target name different hosts. Send the same in both"));
            }
            (named, in_target) => in_target.or(named),
        };
        match authority {
            Some(authority) if self.hosts.allows(authority.host) => Ok(Some(authority)),
            Some(_) => Err(SourceError::HostNotAllowed),
            // RFC 9112 §3.2 demands Host from HTTP/1.1 on. Browsers do not speak HTTP/1.0, so DNS rebinding cannot use
            // it.
            None if head.version <= Version::HTTP_10 => Ok(None),
            None => Err(host("The request has no Host field. Send one")),
        }
    }

    /// Refuses what a browser sends for pages of other origins.
    ///
    /// # Errors
    /// [`SourceError::CrossOrigin`]
    pub fn check_browser(
        &self,
        fields: &HeaderMap,
        authority: Option<HostName<'_>>,
    ) -> Result<(), SourceError> {
        let mut origins = fields.get_all(ORIGIN).iter();
        let listed = match (origins.next(), origins.next()) {
            (None, _) => false,
            (Some(origin), None) => {
                let is_listed = self.origins.iter().any(|allowed| {
                    allowed == "*"
                        || origin.as_bytes().eq_ignore_ascii_case(allowed.trim_end_matches('/').as_bytes())
                });
                if !is_listed && !is_own_origin(origin, authority) {
                    return Err(SourceError::CrossOrigin);
                }
                is_listed
            }
            (Some(_), Some(_)) => return Err(SourceError::CrossOrigin),
        };
        // `none` is a request that the user typed. `same-site` may be another port or another name of the same machine.
        let own_page = fields
            .get_all(SEC_FETCH_SITE)
            .iter()
            .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
        if listed || own_page { Ok(()) } else { Err(SourceError::CrossOrigin) }
    }
}

fn is_own_origin(origin: &HeaderValue, authority: Option<HostName<'_>>) -> bool {
    let (Some(authority), Ok(origin)) = (authority, origin.to_str()) else { return false };
    let (scheme, rest) = match origin.split_once("://") {
        Some(("http", rest)) => (Scheme::HTTP, rest),
        Some(("https", rest)) => (Scheme::HTTPS, rest),
        _ => return false,
    };
    HostName::parse(rest.as_bytes()).is_some_and(|named| named.is_same(authority, Some(&scheme)))
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostName<'a> {
    /// Name or address, in visible ASCII; an IPv6 address with its brackets.
    host: &'a [u8],
    port: Option<u16>,
}

impl<'a> HostName<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let host_length = if text.first() == Some(&b'[') {
            text.iter().position(|byte| *byte == b']')? + 1
        } else {
            text.iter().position(|byte| !is_host_byte(*byte)).unwrap_or(text.len())
        };
        let (host, rest) = text.split_at(host_length);
        let port = match rest {
            [] | [b':'] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        let is_valid =
            if host.starts_with(b"[") { ipv6_in_brackets(host).is_some() } else { !host.is_empty() };
        is_valid.then_some(Self { host, port })
    }

    fn is_same(self, other: HostName<'_>, scheme: Option<&Scheme>) -> bool {
        let default_port = if scheme.is_some_and(|scheme| *scheme == Scheme::HTTPS) { 443 } else { 80 };
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

/// Characters of host names and IPv4 addresses. The other ones that RFC 3986 §3.2.2 allows do not occur in practice,
/// and recipients read them differently.
const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

fn port(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |port, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        port.checked_mul(10)?.checked_add(u16::from(digit))
    })
}

fn ipv6_in_brackets(host: &[u8]) -> Option<Ipv6Addr> {
    std::str::from_utf8(host.strip_prefix(b"[")?.strip_suffix(b"]")?).ok()?.parse().ok()
}

/// The names that this listener answers for, on any port. A page that rebinds its own name to a loopback address sends
/// that name in `Host` (DNS rebinding).
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts {
    names: Vec<String>,
    any: bool,
    any_address: bool,
}

impl AllowedHosts {
    /// Loopback names and addresses, and `names`; `*` among them allows every name.
    pub fn new(names: &[String]) -> Self {
        let names: Vec<String> =
            names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect();
        Self { any: names.iter().any(|name| name == "*"), any_address: false, names }
    }

    /// Whether a host without its port is allowed. An IPv6 address is in brackets.
    pub fn allows(&self, host: &[u8]) -> bool {
        // The usual names on the same machine come first: each request asks this.
        if self.any || host == b"127.0.0.1" || host == b"localhost" {
            return true;
        }
        let host = host.strip_suffix(b".").unwrap_or(host);
        is_loopback(host)
            || self.any_address && is_address(host)
            || self.names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(host))
    }
}

/// `localhost`, names below it (RFC 6761 §6.3), and loopback addresses. Other spellings of addresses (`127.1`,
/// `2130706433`) are not: browsers normalise them before they send `Host`.
fn is_loopback(host: &[u8]) -> bool {
    if let Some(address) = ipv6_in_brackets(host) {
        return address.is_loopback()
            || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback());
    }
    if host.starts_with(b"127.") {
        return std::str::from_utf8(host).is_ok_and(|host| host.parse::<Ipv4Addr>().is_ok());
    }
    let (above, last) = match host.iter().rposition(|byte| *byte == b'.') {
        Some(dot) => (Some(&host[..dot]), &host[dot + 1..]),
        None => (None, host),
    };
    last.eq_ignore_ascii_case(b"localhost") && above.is_none_or(|above| !above.is_empty())
}

fn is_address(host: &[u8]) -> bool {
    ipv6_in_brackets(host).is_some()
        || std::str::from_utf8(host).is_ok_and(|host| host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &AllowedSources, lines: &[(&str, &str)]) -> Result<(), SourceError> {
        let mut request = http::Request::builder().uri("/");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        allowed.check(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn an_address_that_is_not_loopback_is_allowed_where_other_machines_are() {
        let local = AllowedSources::default();
        let remote = AllowedSources::default().with_any_address();
        for host in ["10.1.2.3:8485", "[fd00::1]:8485"] {
            assert_eq!(check(&local, &[("host", host)]), Err(SourceError::HostNotAllowed));
            assert_eq!(check(&remote, &[("host", host)]), Ok(()));
        }
        for allowed in [local, remote] {
            assert_eq!(check(&allowed, &[("host", "127.0.0.1:8485")]), Ok(()));
            assert_eq!(check(&allowed, &[("host", "attacker.test")]), Err(SourceError::HostNotAllowed));
            assert!(check(&allowed, &[]).is_err());
            for page in [("origin", "http://attacker.test"), ("sec-fetch-site", "same-site")] {
                assert_eq!(check(&allowed, &[("host", "localhost"), page]), Err(SourceError::CrossOrigin));
            }
        }
    }
}
