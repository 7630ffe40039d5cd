//! Whether a caller may use this listener, and whether its request means the same to every recipient.
//!
//! The guard comes before every other stage: a refused request neither reads the store nor reaches the origin.

pub mod callers;
pub mod in_flight;
pub mod local_keys;
pub mod permissions;

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{EXPECT, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use crate::config::{GuardSettings, Limits};
use crate::error::{RefusalReason, Refused};
use crate::headers::survey::{FieldSet, Survey};
use crate::headers::via::Pseudonym;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules of one listener.
#[derive(Clone, Debug)]
pub struct Guard {
    allowed_hosts: AllowedHosts,
    allowed_origins: Vec<String>,
    allow_forwarded: bool,
    limit_target_bytes: usize,
    limit_section_bytes: usize,
    limit_lines: usize,
    pseudonym: Pseudonym,
}

impl Guard {
    /// The rules of a configuration; `pseudonym` is the name of this sidecar in `Via`.
    #[must_use]
    pub fn new(settings: &GuardSettings, limits: &Limits, pseudonym: Pseudonym) -> Self {
        Self {
            allowed_hosts: AllowedHosts::new(&settings.allowed_hosts),
            allowed_origins: settings.allowed_origins.clone(),
            allow_forwarded: settings.allow_forwarded,
            limit_target_bytes: usize::try_from(limits.target_bytes).unwrap_or(usize::MAX),
            limit_section_bytes: usize::try_from(limits.header_section_bytes).unwrap_or(usize::MAX),
            limit_lines: limits.header_fields,
            pseudonym,
        }
    }

    /// The name of this sidecar in `Via`.
    #[must_use]
    pub const fn pseudonym(&self) -> &Pseudonym {
        &self.pseudonym
    }

    /// Admits a request or says why not. `survey` is the survey of its header section.
    ///
    /// # Errors
    ///
    /// The refusal that answers the caller. Its connection must be closed if the end of the request is in doubt
    /// ([`closes_connection`]).
    pub fn admit(&self, head: &Parts, survey: &Survey) -> Result<(), Refused> {
        self.check_sizes(head, survey)?;
        check_method(&head.method)?;
        check_framing(head, survey)?;
        check_target(head)?;
        let authority = self.check_host(head, survey)?;
        if survey.has(FieldSet::EXPECT) {
            check_expectation(&head.headers)?;
        }
        if survey.has(FieldSet::VIA) && self.pseudonym.is_in(&head.headers) {
            return Err(Refused::new(
                RefusalReason::Loop,
                "The request has passed through this sidecar before. Point the upstream at the API, not at a sidecar",
            ));
        }
        if !self.allow_forwarded && survey.has(FieldSet::FORWARDED.union(FieldSet::VIA)) {
            return Err(Refused::new(
                RefusalReason::Forwarded,
                "Another proxy forwarded this request (X-Forwarded-For, Forwarded or Via). Call the sidecar directly, or \
                 set guard.allow_forwarded",
            ));
        }
        if survey.has(FieldSet::ORIGIN.union(FieldSet::SEC_FETCH_SITE)) {
            self.check_browser(&head.headers, authority)?;
        }
        Ok(())
    }

    fn check_sizes(&self, head: &Parts, survey: &Survey) -> Result<(), Refused> {
        let target_bytes = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target_bytes > self.limit_target_bytes {
            return Err(Refused::new(
                RefusalReason::TargetTooLong,
                format!(
                    "The target has {target_bytes} bytes, {} are accepted. Ask for less at once, or raise limits.target",
                    self.limit_target_bytes
                ),
            ));
        }
        if survey.lines > self.limit_lines {
            return Err(Refused::new(
                RefusalReason::HeaderSectionTooLarge,
                format!(
                    "The request has {} header fields, {} are accepted. Send fewer, or raise limits.header_fields",
                    survey.lines, self.limit_lines
                ),
            ));
        }
        if survey.size_bytes > self.limit_section_bytes {
            return Err(Refused::new(
                RefusalReason::HeaderSectionTooLarge,
                format!(
                    "The header section has {} bytes, {} are accepted. Send less, or raise limits.header_section",
                    survey.size_bytes, self.limit_section_bytes
                ),
            ));
        }
        Ok(())
    }

    /// Checks `Host`, and returns the authority that the request is for; `None` for an HTTP/1.0 request without one.
    fn check_host<'a>(&self, head: &'a Parts, survey: &Survey) -> Result<Option<HostName<'a>>, Refused> {
        let host = |detail: &'static str| Refused::new(RefusalReason::Host, detail);
        if survey.repeated.intersects(FieldSet::HOST) {
            return Err(host("The request has more than one Host field. Send one"));
        }
        let named = if survey.has(FieldSet::HOST) { head.headers.get(HOST) } else { None };
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
            Some(authority) if self.allowed_hosts.allows(authority.host) => Ok(Some(authority)),
            Some(_) => Err(Refused::new(
                RefusalReason::HostNotAllowed,
                "This sidecar answers for localhost, loopback addresses and the names in guard.allowed_hosts. Use one of \
                 them, or add the name",
            )),
            // RFC 9112 §3.2 demands Host from HTTP/1.1 on. Browsers do not speak HTTP/1.0, so DNS rebinding cannot use
            // it.
            None if head.version <= Version::HTTP_10 => Ok(None),
            None => Err(host("The request has no Host field. Send one")),
        }
    }

    /// Refuses what a browser sends for pages of other origins.
    fn check_browser(&self, fields: &HeaderMap, authority: Option<HostName<'_>>) -> Result<(), Refused> {
        let refused = || {
            Refused::new(
                RefusalReason::CrossOrigin,
                "A browser sent this request for a page of another origin. Serve the page from here, or add its origin to \
                 guard.allowed_origins",
            )
        };
        let mut origins = fields.get_all(ORIGIN).iter();
        let listed = match (origins.next(), origins.next()) {
            (None, _) => false,
            (Some(origin), None) => {
                let is_listed = self.allowed_origins.iter().any(|allowed| {
                    allowed == "*"
                        || origin.as_bytes().eq_ignore_ascii_case(allowed.trim_end_matches('/').as_bytes())
                });
                if !is_listed && !is_own_origin(origin, authority) {
                    return Err(refused());
                }
                is_listed
            }
            (Some(_), Some(_)) => return Err(refused()),
        };
        // `none` is a request that the user typed. `same-site` may be another port or another name of the same machine.
        let own_page = fields
            .get_all(SEC_FETCH_SITE)
            .iter()
            .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
        if listed || own_page { Ok(()) } else { Err(refused()) }
    }
}

/// Whether the connection must be closed after a refusal, because the end of the request is in doubt.
#[must_use]
pub const fn closes_connection(reason: RefusalReason) -> bool {
    matches!(
        reason,
        RefusalReason::Method
            | RefusalReason::Target
            | RefusalReason::TargetTooLong
            | RefusalReason::HeaderSectionTooLarge
            | RefusalReason::Host
            | RefusalReason::TransferCoding
            | RefusalReason::ContentLength
            | RefusalReason::Expectation
            | RefusalReason::BodyOnRetrieval
    )
}

fn check_method(method: &Method) -> Result<(), Refused> {
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(Refused::new(
            RefusalReason::Method,
            format!("{method} is never passed on. Use the method that the API documents"),
        ));
    }
    Ok(())
}

/// Framing as RFC 9112 §6 demands it. hyper is less strict: it passes lists such as `identity, chunked`.
fn check_framing(head: &Parts, survey: &Survey) -> Result<(), Refused> {
    if survey.has(FieldSet::TRANSFER_ENCODING) {
        let is_chunked = head
            .headers
            .get(TRANSFER_ENCODING)
            .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !is_chunked
            || survey.repeated.intersects(FieldSet::TRANSFER_ENCODING)
            || head.version <= Version::HTTP_10
        {
            return Err(Refused::new(
                RefusalReason::TransferCoding,
                "The only transfer coding understood is `chunked`, once, in HTTP/1.1. Send that, or Content-Length",
            ));
        }
    }
    if survey.repeated.intersects(FieldSet::CONTENT_LENGTH) {
        let mut lengths = head.headers.get_all(http::header::CONTENT_LENGTH).iter();
        let first = lengths.next();
        if lengths.any(|other| Some(other) != first) {
            return Err(Refused::new(
                RefusalReason::ContentLength,
                "Content-Length stands on several lines that differ. Send one",
            ));
        }
    }
    Ok(())
}

/// The request target: origin form, absolute form, or `*` for `OPTIONS` (RFC 9112 §3.2).
fn check_target(head: &Parts) -> Result<(), Refused> {
    let uri = &head.uri;
    let scheme_is_http =
        uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let path = uri.path();
    let is_understood = scheme_is_http
        && (uri.scheme().is_some() || uri.authority().is_none())
        && (path.starts_with('/') || (path == "*" && head.method == Method::OPTIONS));
    if is_understood {
        return Ok(());
    }
    Err(Refused::new(
        RefusalReason::Target,
        "The target must be a path that begins with a slash, or an http or https URI",
    ))
}

fn check_expectation(fields: &HeaderMap) -> Result<(), Refused> {
    let is_known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if fields.get_all(EXPECT).iter().all(is_known) {
        return Ok(());
    }
    Err(Refused::new(
        RefusalReason::Expectation,
        "The only expectation that can be met is 100-continue. Leave the Expect field out",
    ))
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
struct HostName<'a> {
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
}

impl AllowedHosts {
    /// Loopback names and addresses, and `names`; `*` among them allows every name.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        let names: Vec<String> =
            names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect();
        Self { any: names.iter().any(|name| name == "*"), names }
    }

    /// Whether a host without its port is allowed. An IPv6 address is in brackets.
    #[must_use]
    pub fn allows(&self, host: &[u8]) -> bool {
        // The usual names on the same machine come first: each request asks this.
        if self.any || host == b"127.0.0.1" || host == b"localhost" {
            return true;
        }
        let host = host.strip_suffix(b".").unwrap_or(host);
        is_loopback(host) || self.names.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(host))
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

#[cfg(test)]
mod tests;
