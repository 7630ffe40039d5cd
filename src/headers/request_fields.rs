//! How a cache that shares answers treats each request field, so that no field can steer an origin, or stand in an answer,
//! without being part of the cache key.
//!
//! | treatment | fields | under `sharing = "guarded"` |
//! |---|---|---|
//! | [`Treatment::Understood`] | what HTTP and the cache itself interpret: `Host`, `Cache-Control`, `If-None-Match`, `Range`, `Authorization` … | each by its own rule |
//! | [`Treatment::Steering`] | names another method or target: `X-HTTP-Method-Override`, `X-Original-URL` … | not sent on |
//! | [`Treatment::Forwarding`] | says where a request came from: `Forwarded`, `X-Forwarded-For`, `X-Real-IP` … | not sent on |
//! | [`Treatment::Identity`] | names who asks: `Cookie`, `X-API-Key`, `X-Auth-Token` … | never answered from what is shared, unless `partition_fields` names it |
//! | [`Treatment::Harmless`] | tracing, request ids, `User-Agent`, dates of signatures | sent on, no part of the key |
//! | [`Treatment::Keyed`] | every other field | part of the key, as if `Vary` named it |
//!
//! Steering fields are refused where methods or paths are restricted, under any `sharing`: an origin that obeys one would step
//! round the restriction.
//!
//! **Hazard.** CGI, WSGI and Rack turn both `-` and `_` into `_`, so `X_HTTP_Method_Override` reaches an application as
//! `X-HTTP-Method-Override`. Names are compared with underscores as hyphens. The cache itself understands no name with an
//! underscore: `Accept_Datetime` may select an answer behind its back, so it is keyed.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::HeaderName;

use super::hop_by_hop::HOP_BY_HOP_FIELDS;
use crate::memo::Memo;

/// What becomes of a request field. The module documentation has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// HTTP or the cache interprets it.
    Understood,
    /// It names another method or target than the request line.
    Steering,
    /// It says where the request came from, or which host it was for.
    Forwarding,
    /// It says who asks.
    Identity,
    /// It never changes the answer.
    Harmless,
    /// Its meaning is not known: it may change the answer.
    Keyed,
}

/// Beside the hop-by-hop fields. Sorted for binary search.
const UNDERSTOOD: [&str; 18] = [
    "accept-datetime",
    "authorization",
    "cache-control",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "pragma",
    "range",
    "sync-token",
    "via",
    "x-accept-datetime",
    "x-ms-return-client-request-id",
];

/// Sorted for binary search.
const HARMLESS: [&str; 31] = [
    "baggage",
    "client-request-id",
    "correlation-context",
    "correlation-id",
    "date",
    "elastic-apm-traceparent",
    "from",
    "newrelic",
    "priority",
    "request-context",
    "request-id",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "user-agent",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amzn-trace-id",
    "x-client-trace-id",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-date",
    "x-ms-client-request-id",
    "x-ms-content-sha256",
    "x-ms-correlation-request-id",
    "x-ms-date",
    "x-ms-useragent",
    "x-request-id",
    "x-request-start",
    "x-trace-id",
];

/// Fields of tracing systems come in families.
const HARMLESS_BEGINNINGS: [&str; 4] = ["b3", "x-b3-", "x-datadog-", "x-ot-span-"];

/// Names of fields that carry a method or a target, in all common spellings.
const STEERING: [&str; 12] = [
    "destination",
    "x-amz-website-redirect-location",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-url",
    "x-method",
    "x-method-override",
    "x-real-url",
    "x-request-uri",
    "x-script-name",
    "x-wap-profile",
];

const STEERING_BEGINNINGS: [&str; 7] = [
    "x-http-method",
    "x-http-path",
    "x-http-destinationurl",
    "x-original-",
    "x-override-",
    "x-proxy-ur",
    "x-rewrite-",
];

const FORWARDING: [&str; 18] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-custom-ip-authorization",
    "x-forwarded",
    "x-forwarder-for",
    "x-host",
    "x-original-host",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
];

/// Parts of names of fields that carry an identity or a secret.
const IDENTITY_PARTS: [&str; 21] = [
    "access-key",
    "api-key",
    "apikey",
    "assertion",
    "auth",
    "certificate",
    "client-cert",
    "cookie",
    "credential",
    "dpop",
    "functions-key",
    "identity",
    "jwt",
    "password",
    "principal",
    "secret",
    "session",
    "signature",
    "subscription-key",
    "token",
    "user",
];

/// How a field is treated.
pub fn treatment(name: &HeaderName) -> Treatment {
    /// A name is compared with a hundred others, and each field of each hit is asked about.
    static KNOWN: LazyLock<Memo<Treatment>> = LazyLock::new(Memo::default);
    KNOWN.of(name.as_str()).unwrap_or_else(|| {
        let treatment = treatment_by_lists(name);
        KNOWN.keep(name.as_str(), treatment);
        treatment
    })
}

fn treatment_by_lists(name: &HeaderName) -> Treatment {
    if UNDERSTOOD.binary_search(&name.as_str()).is_ok() || HOP_BY_HOP_FIELDS.contains(name) {
        return Treatment::Understood;
    }
    let name = name.as_str();
    let name = if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) };
    let name = &*name;
    let begins_with = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
    if HARMLESS.binary_search(&name).is_ok() || begins_with(&HARMLESS_BEGINNINGS) {
        Treatment::Harmless
    } else if FORWARDING.binary_search(&name).is_ok() {
        Treatment::Forwarding
    } else if STEERING.binary_search(&name).is_ok() || begins_with(&STEERING_BEGINNINGS) {
        Treatment::Steering
    } else if IDENTITY_PARTS.iter().any(|part| name.contains(part)) {
        Treatment::Identity
    } else if name.starts_with("x-forwarded-") {
        Treatment::Forwarding
    } else {
        Treatment::Keyed
    }
}

#[cfg(test)]
mod tests {
    use super::Treatment::{Forwarding, Harmless, Identity, Keyed, Steering, Understood};
    use super::*;

    #[test]
    fn each_field_has_its_treatment() {
        for (treated, names) in [
            (
                Understood,
                "host cache-control pragma if-none-match if-range range authorization via te sync-token",
            ),
            (
                Steering,
                "x-http-method x-http-method-override x-method-override x_http_method_override x-original-url \
                 x-original-uri x_original_url x-rewrite-url x-override-url x-forwarded-prefix x-forwarded-path \
                 x-forwarded-uri x-http-path-override x-proxy-url",
            ),
            (
                Forwarding,
                "forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-anything x-host x-original-host \
                 x-real-ip true-client-ip x_forwarded_for x-client-ip",
            ),
            (
                Identity,
                "cookie x-api-key api-key apikey ocp-apim-subscription-key x-auth-token x-access-token private-token \
                 x-ms-client-principal x-ms-client-principal-id x-forwarded-user x-user x-remote-user x-amz-security-token \
                 x_api_key dpop x-csrf-token x-session-id x-functions-key x-client-cert",
            ),
            (
                Harmless,
                "user-agent traceparent tracestate baggage x-request-id x-ms-client-request-id x-b3-traceid b3 \
                 x-datadog-trace-id x-ms-date x_request_id",
            ),
            (
                Keyed,
                "accept accept-language accept-encoding content-type origin prefer referer sec-fetch-site x-unknown x-feature x \
                 prefers save-data sec-ch-ua accept_datetime cache_control if_none_match transfer_encoding",
            ),
        ] {
            for name in names.split_whitespace() {
                assert_eq!(treatment(&HeaderName::try_from(name).unwrap()), treated, "{name}");
            }
        }
    }

    #[test]
    fn lists_are_sorted_and_no_field_is_in_two() {
        let lists: [&[&str]; 4] = [&UNDERSTOOD, &HARMLESS, &STEERING, &FORWARDING];
        for list in lists {
            assert!(list.is_sorted(), "{list:?}");
        }
        let mut all: Vec<&str> = lists.concat();
        all.sort_unstable();
        assert!(all.windows(2).all(|two| two[0] != two[1]));
        for name in STEERING {
            assert_eq!(treatment(&HeaderName::from_static(name)), Steering, "{name}");
        }
        for name in HARMLESS {
            assert_eq!(treatment(&HeaderName::from_static(name)), Harmless, "{name}");
        }
    }
}
