//! One pass over the header section of a request, so that the stages behind it look up only what is there.

use http::{HeaderMap, HeaderValue};

bitflags::bitflags! {
    /// A set of the request fields that the path of a request asks about.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FieldSet: u32 {
        /// `Host`
        const HOST = 1;
        /// `Content-Length`
        const CONTENT_LENGTH = 1 << 1;
        /// `Transfer-Encoding`
        const TRANSFER_ENCODING = 1 << 2;
        /// `Connection`
        const CONNECTION = 1 << 3;
        /// Any of the hop-by-hop fields besides `Connection` and `Transfer-Encoding`, or a `Connection` that names fields.
        const HOP_BY_HOP = 1 << 4;
        /// `Via`
        const VIA = 1 << 5;
        /// `Forwarded` or `X-Forwarded-For`
        const FORWARDED = 1 << 6;
        /// `Origin`
        const ORIGIN = 1 << 7;
        /// `Sec-Fetch-Site`
        const SEC_FETCH_SITE = 1 << 8;
        /// `Expect`
        const EXPECT = 1 << 9;
        /// `Cookie`
        const COOKIE = 1 << 10;
        /// `Authorization`
        const AUTHORIZATION = 1 << 11;
        /// `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since` or `If-Range`
        const CONDITIONAL = 1 << 12;
        /// `Range`
        const RANGE = 1 << 13;
        /// `Cache-Control` or `Pragma`
        const CACHE_DIRECTIVES = 1 << 14;
        /// `Sync-Token`
        const SYNC_TOKEN = 1 << 15;
        /// `Accept-Datetime` (RFC 7089), or `X-Accept-Datetime` as it was called before
        const ACCEPT_DATETIME = 1 << 16;
        /// The fields that name ids which an answer of App Configuration repeats: `x-ms-correlation-request-id`,
        /// `x-ms-return-client-request-id`
        const REQUEST_IDS = 1 << 17;

        /// What cannot be left to chance when it stands on more than one line.
        const FRAMING = Self::HOST.bits() | Self::CONTENT_LENGTH.bits() | Self::TRANSFER_ENCODING.bits();
    }
}

impl FieldSet {
    /// Which set a field name belongs to; the empty one for all the others. By length first: this runs once a field on the
    /// hot path.
    fn of(name: &str) -> Self {
        match name.len() {
            2 if name == "te" => Self::HOP_BY_HOP,
            3 if name == "via" => Self::VIA,
            4 if name == "host" => Self::HOST,
            5 if name == "range" => Self::RANGE,
            6 => match name {
                "cookie" => Self::COOKIE,
                "expect" => Self::EXPECT,
                "origin" => Self::ORIGIN,
                "pragma" => Self::CACHE_DIRECTIVES,
                _ => Self::default(),
            },
            7 if name == "trailer" || name == "upgrade" => Self::HOP_BY_HOP,
            8 if name == "if-match" || name == "if-range" => Self::CONDITIONAL,
            9 if name == "forwarded" => Self::FORWARDED,
            10 => match name {
                "connection" => Self::CONNECTION,
                "keep-alive" => Self::HOP_BY_HOP,
                "sync-token" => Self::SYNC_TOKEN,
                _ => Self::default(),
            },
            13 => match name {
                "authorization" => Self::AUTHORIZATION,
                "cache-control" => Self::CACHE_DIRECTIVES,
                "if-none-match" => Self::CONDITIONAL,
                _ => Self::default(),
            },
            14 => match name {
                "content-length" => Self::CONTENT_LENGTH,
                "sec-fetch-site" => Self::SEC_FETCH_SITE,
                _ => Self::default(),
            },
            15 => match name {
                "x-forwarded-for" => Self::FORWARDED,
                "accept-datetime" => Self::ACCEPT_DATETIME,
                _ => Self::default(),
            },
            16 if name == "proxy-connection" => Self::HOP_BY_HOP,
            17 => match name {
                "transfer-encoding" => Self::TRANSFER_ENCODING,
                "if-modified-since" => Self::CONDITIONAL,
                "x-accept-datetime" => Self::ACCEPT_DATETIME,
                _ => Self::default(),
            },
            18 if name == "proxy-authenticate" => Self::HOP_BY_HOP,
            19 => match name {
                "if-unmodified-since" => Self::CONDITIONAL,
                "proxy-authorization" => Self::HOP_BY_HOP,
                _ => Self::default(),
            },
            25 if name == "proxy-authentication-info" => Self::HOP_BY_HOP,
            27 if name == "x-ms-correlation-request-id" => Self::REQUEST_IDS,
            29 if name == "x-ms-return-client-request-id" => Self::REQUEST_IDS,
            _ => Self::default(),
        }
    }
}

/// What one pass over a header section finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Which fields there are.
    pub present: FieldSet,
    /// Which framing fields (`Host`, `Content-Length`, `Transfer-Encoding`) stand on more than one line.
    pub repeated: FieldSet,
    /// Number of field lines.
    pub lines: usize,
    /// Size of the header section in bytes, as HTTP/1.1 writes it.
    pub size_bytes: usize,
}

impl Survey {
    /// Looks at every field line once.
    pub fn of(fields: &HeaderMap) -> Self {
        // Colon, space, carriage return and line feed of each line.
        let mut survey = Self { lines: fields.len(), size_bytes: 4 * fields.len(), ..Self::default() };
        for (name, value) in fields {
            let name = name.as_str();
            survey.size_bytes += name.len() + value.len();
            let mut set = FieldSet::of(name);
            // Most fields belong to no set.
            if set.is_empty() {
                continue;
            }
            if set == FieldSet::CONNECTION && names_fields(value) {
                set |= FieldSet::HOP_BY_HOP;
            }
            survey.repeated |= survey.present & set & FieldSet::FRAMING;
            survey.present |= set;
        }
        survey
    }

    /// Whether there is anything of `fields`.
    pub const fn has(&self, fields: FieldSet) -> bool {
        self.present.intersects(fields)
    }
}

/// Whether a `Connection` line says more than most do.
fn names_fields(connection: &HeaderValue) -> bool {
    let option = connection.as_bytes();
    !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close")
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::headers::conditional::CONDITIONAL_FIELDS;
    use crate::headers::hop_by_hop::HOP_BY_HOP_FIELDS;

    fn survey(lines: &[(&'static str, &'static str)]) -> Survey {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Survey::of(&fields)
    }

    #[test]
    fn every_field_is_told_apart() {
        for (name, set) in [
            ("host", FieldSet::HOST),
            ("content-length", FieldSet::CONTENT_LENGTH),
            ("transfer-encoding", FieldSet::TRANSFER_ENCODING),
            ("connection", FieldSet::CONNECTION),
            ("via", FieldSet::VIA),
            ("forwarded", FieldSet::FORWARDED),
            ("x-forwarded-for", FieldSet::FORWARDED),
            ("origin", FieldSet::ORIGIN),
            ("sec-fetch-site", FieldSet::SEC_FETCH_SITE),
            ("expect", FieldSet::EXPECT),
            ("cookie", FieldSet::COOKIE),
            ("authorization", FieldSet::AUTHORIZATION),
            ("range", FieldSet::RANGE),
            ("cache-control", FieldSet::CACHE_DIRECTIVES),
            ("pragma", FieldSet::CACHE_DIRECTIVES),
            ("sync-token", FieldSet::SYNC_TOKEN),
            ("x-ms-correlation-request-id", FieldSet::REQUEST_IDS),
            ("x-ms-return-client-request-id", FieldSet::REQUEST_IDS),
            ("accept-datetime", FieldSet::ACCEPT_DATETIME),
            ("x-accept-datetime", FieldSet::ACCEPT_DATETIME),
            ("accept", FieldSet::default()),
            ("x-forwarded-host", FieldSet::default()),
            ("user-agent", FieldSet::default()),
            ("hosts", FieldSet::default()),
        ] {
            assert_eq!(survey(&[(name, "close")]).present, set, "{name}");
        }
    }

    #[test]
    fn a_connection_that_names_fields_is_told_from_one_that_does_not() {
        for (value, names_fields) in
            [("keep-alive", false), ("Close", false), ("x-a", true), ("close, x-a", true), ("", true)]
        {
            assert_eq!(survey(&[("connection", value)]).has(FieldSet::HOP_BY_HOP), names_fields, "{value}");
        }
        assert!(survey(&[("connection", "close"), ("connection", "x-a")]).has(FieldSet::HOP_BY_HOP));
    }

    #[test]
    fn families_are_known_whole() {
        for name in CONDITIONAL_FIELDS {
            assert_eq!(FieldSet::of(name.as_str()), FieldSet::CONDITIONAL, "{name}");
        }
        for name in HOP_BY_HOP_FIELDS {
            let family = FieldSet::HOP_BY_HOP.union(FieldSet::CONNECTION).union(FieldSet::TRANSFER_ENCODING);
            assert!(FieldSet::of(name.as_str()).intersects(family), "{name}");
        }
    }

    #[test]
    fn lines_and_bytes_are_counted() {
        let found = survey(&[("host", "a"), ("accept", "*/*"), ("accept", "")]);
        assert_eq!((found.lines, found.size_bytes), (3, 9 + 13 + 10));
        assert_eq!(survey(&[]), Survey::default());
    }

    #[test]
    fn repeated_framing_is_noticed() {
        assert!(!survey(&[("host", "a"), ("via", "x"), ("via", "y")]).repeated.intersects(FieldSet::VIA));
        for (name, set) in [
            ("host", FieldSet::HOST),
            ("content-length", FieldSet::CONTENT_LENGTH),
            ("transfer-encoding", FieldSet::TRANSFER_ENCODING),
        ] {
            assert_eq!(survey(&[(name, "1"), ("accept", "x"), (name, "1")]).repeated, set, "{name}");
            assert_eq!(survey(&[(name, "1"), ("accept", "x")]).repeated, FieldSet::default(), "{name}");
        }
    }
}
