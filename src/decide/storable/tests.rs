use super::*;
use crate::decide::tests::{get, head, request};

fn judge(
    request: &PresentedRequest,
    status: u16,
    lines: &[(&str, &str)],
    rules: &CachingRules,
) -> Result<Storable, NotStored> {
    storable(request, &head(status, lines), rules)
}

/// Why the response to a plain `GET` is refused under RFC 9111 alone.
fn refusal(status: u16, lines: &[(&str, &str)]) -> Option<NotStored> {
    judge(&get(&[]), status, lines, &CachingRules::rfc9111()).err()
}

#[test]
fn responses_that_need_a_reason_to_be_stored() {
    use NotStored::{NoLifetimeNoValidator, StatusNotCacheable};
    for (status, lines, expected) in [
        (200, &[][..], Some(NoLifetimeNoValidator)),
        (200, &[("etag", "\"a\"")], None),
        (200, &[("etag", "W/\"a\"")], None),
        (200, &[("etag", "a")], Some(NoLifetimeNoValidator)),
        (200, &[("etag", "\"a\""), ("etag", "\"b\"")], Some(NoLifetimeNoValidator)),
        (200, &[("last-modified", "@9")], None),
        (200, &[("last-modified", "yesterday")], Some(NoLifetimeNoValidator)),
        (200, &[("cache-control", "max-age=60")], None),
        (200, &[("cache-control", "s-maxage=60")], None),
        (200, &[("expires", "@-60")], None),
        // Stale from the start, but usable while the origin is unreachable.
        (200, &[("cache-control", "max-age=0")], None),
        (200, &[("expires", "0")], None),
        (200, &[("cache-control", "max-age=60"), ("age", "600")], None),
        // Stale from the start, and never usable without a validator.
        (200, &[("cache-control", "max-age=0, must-revalidate")], Some(NoLifetimeNoValidator)),
        (200, &[("cache-control", "max-age=0, must-revalidate"), ("etag", "\"a\"")], None),
        (200, &[("cache-control", "s-maxage=0")], Some(NoLifetimeNoValidator)),
        (200, &[("cache-control", "s-maxage=60"), ("age", "60")], Some(NoLifetimeNoValidator)),
        (200, &[("cache-control", "no-cache")], Some(NoLifetimeNoValidator)),
        (200, &[("cache-control", "no-cache, max-age=60")], Some(NoLifetimeNoValidator)),
        (200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], None),
        (200, &[("cache-control", "public")], Some(NoLifetimeNoValidator)),
        (201, &[("etag", "\"a\"")], Some(StatusNotCacheable)),
        (201, &[("last-modified", "@9")], Some(StatusNotCacheable)),
        (202, &[("etag", "\"a\"")], Some(StatusNotCacheable)),
        (403, &[("etag", "\"a\"")], Some(StatusNotCacheable)),
        (403, &[("etag", "\"a\""), ("cache-control", "public")], None),
        (599, &[("last-modified", "@9"), ("cache-control", "public")], None),
        (404, &[("etag", "\"a\"")], None),
        (404, &[], Some(NoLifetimeNoValidator)),
        (500, &[], Some(StatusNotCacheable)),
        (503, &[("last-modified", "@9")], Some(StatusNotCacheable)),
    ] {
        assert_eq!(refusal(status, lines), expected, "{status} {lines:?}");
    }
}

#[test]
fn any_final_status_is_stored_with_explicit_freshness() {
    for status in (200..=599).filter(|status| ![206, 304, 416].contains(status)) {
        assert_eq!(refusal(status, &[("cache-control", "max-age=60")]), None, "{status}");
        assert_eq!(refusal(status, &[("expires", "@-60")]), None, "{status}");
    }
    for status in (100..=103).chain([304, 416]) {
        assert_eq!(refusal(status, &[("cache-control", "max-age=60")]), Some(NotStored::Status), "{status}");
    }
}

#[test]
fn what_is_about_one_request_is_not_stored() {
    let fresh = [("cache-control", "max-age=60")];
    let conditional = get(&[("if-match", "\"a\"")]);
    let rules = CachingRules::rfc9111();
    assert_eq!(judge(&conditional, 412, &fresh, &rules).err(), Some(NotStored::Status));
    assert_eq!(judge(&get(&[]), 412, &fresh, &rules).err(), None);
}

#[test]
fn directives_that_forbid_storing() {
    use NotStored::{NoStore, NotUnderstood, Private};
    for (status, directives, expected) in [
        (200, "no-store, max-age=60", Some(NoStore)),
        (200, "NO-STORE, max-age=60", Some(NoStore)),
        (200, "private, max-age=60", Some(Private)),
        (200, "private=\"\", max-age=60", Some(Private)),
        (200, "private=\"x\", max-age=60", None),
        (200, "private, s-maxage=60", Some(Private)),
        (200, "private, public, max-age=60", Some(Private)),
        (200, "x=\"no-store\", max-age=60", None),
        (200, "no-store, must-understand, max-age=60", None),
        (200, "must-understand, max-age=60", None),
        (404, "no-store, must-understand, max-age=60", None),
        (499, "must-understand, max-age=60", Some(NotUnderstood)),
        (499, "no-store, must-understand, max-age=60", Some(NotUnderstood)),
        (599, "must-understand, public, max-age=60", Some(NotUnderstood)),
        (200, "no-store, must-understand, private, max-age=60", Some(Private)),
    ] {
        assert_eq!(refusal(status, &[("cache-control", directives)]), expected, "{status} {directives}");
    }
}

#[test]
fn a_targeted_field_alone_decides() {
    for (cdn, cache_control, expected) in [
        ("max-age=60", "no-store", None),
        ("max-age=60", "private", None),
        ("no-store", "max-age=60", Some(NotStored::NoStore)),
        ("private", "max-age=60", Some(NotStored::Private)),
        ("no-store,", "max-age=60", None),
        ("max-age=60,", "no-store", Some(NotStored::NoStore)),
    ] {
        let lines = [("cdn-cache-control", cdn), ("cache-control", cache_control)];
        assert_eq!(refusal(200, &lines), expected, "{cdn} {cache_control}");
    }
}

#[test]
fn authorization_needs_permission_to_share() {
    let request = get(&[("authorization", "Bearer x")]);
    let rules = CachingRules::rfc9111();
    for (directives, expected) in [
        ("max-age=60", Some(NotStored::Authorization)),
        ("max-age=60, public", None),
        ("max-age=60, must-revalidate", None),
        ("max-age=60, proxy-revalidate", Some(NotStored::Authorization)),
        ("s-maxage=60", None),
        ("max-age=60, no-cache=\"x\"", Some(NotStored::Authorization)),
    ] {
        let lines = [("cache-control", directives)];
        assert_eq!(judge(&request, 200, &lines, &rules).err(), expected, "{directives}");
        let own = CachingRules { owns_credential: true, ..rules.clone() };
        assert_eq!(judge(&request, 200, &lines, &own).err(), None, "{directives}, the sidecar's credential");
    }
}

#[test]
fn the_partition_of_one_identity_is_a_private_cache() {
    let request = PresentedRequest { private_partition: true, ..get(&[("authorization", "Bearer x")]) };
    let rules = CachingRules::rfc9111();
    for (directives, expected) in [
        ("max-age=60", None),
        ("private, max-age=60", None),
        ("max-age=60, private=\"x\"", None),
        ("private, no-store", Some(NotStored::NoStore)),
        ("private, no-cache", Some(NotStored::NoLifetimeNoValidator)),
    ] {
        let lines = [("cache-control", directives)];
        assert_eq!(judge(&request, 200, &lines, &rules).err(), expected, "{directives}");
    }
}

#[test]
fn guarded_sharing_is_careful_with_cookies() {
    let guarded = CachingRules { sharing: Sharing::Guarded, ..CachingRules::rfc9111() };
    let with_cookie = get(&[("cookie", "a=b")]);
    for (directives, rules, expected) in [
        ("max-age=60", &guarded, Some(NotStored::Cookie)),
        ("max-age=60, s-maxage=60", &guarded, Some(NotStored::Cookie)),
        ("max-age=60, public", &guarded, None),
        ("max-age=60", &CachingRules::rfc9111(), None),
    ] {
        let lines = [("cache-control", directives)];
        assert_eq!(judge(&with_cookie, 200, &lines, rules).err(), expected, "{directives}");
        assert_eq!(judge(&get(&[]), 200, &lines, rules).err(), None, "{directives}, no cookie");
    }
    let lines = [("cache-control", "max-age=60"), ("set-cookie", "a=b"), ("set-cookie", "c=d")];
    let kept = |rules| {
        judge(&get(&[]), 200, &lines, rules).unwrap().fields.get_all(&http::header::SET_COOKIE).count()
    };
    assert_eq!(kept(&guarded), 0);
    assert_eq!(kept(&CachingRules::rfc9111()), 2);
}

#[test]
fn the_callers_no_store_is_honoured() {
    let request = get(&[("cache-control", "no-store")]);
    let stored = judge(&request, 200, &[("cache-control", "max-age=60")], &CachingRules::rfc9111());
    assert_eq!(stored.err(), Some(NotStored::RequestNoStore));
}

#[test]
fn only_get_is_stored_and_post_when_it_names_itself() {
    let rules = CachingRules::rfc9111();
    let lines = |location| [("cache-control", "max-age=60"), ("content-location", location)];
    for method in ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "M-SEARCH", "get", "QUERY"] {
        let judged = judge(&request(method, &[]), 200, &lines("/a?b=c"), &rules);
        assert_eq!(judged.err(), Some(NotStored::Method), "{method}");
    }
    let post = request("POST", &[]);
    for location in [
        "/a?b=c",
        "http://origin.example/a?b=c",
        "http://ORIGIN.example/a?b=c",
        "HTTP://origin.example:80/a?b=c",
        "/a?b=c#part",
        "a?b=c",
        "./a?b=c",
        "?b=c",
        "?b=c#part",
        "//origin.example/a?b=c",
        "//ORIGIN.example:80/a?b=c",
        "/%61?b=c",
        "http://origin.example/x/../a?b=c",
    ] {
        assert_eq!(judge(&post, 200, &lines(location), &rules).err(), None, "{location}");
    }
    for location in [
        "/a",
        "/a?b=C",
        "/A?b=c",
        "/a?b=c&d",
        "",
        "?",
        "b?b=c",
        "a",
        "a/?b=c",
        "/a?%62=c",
        "/a%3Fb=c",
        "//other.example/a?b=c",
        "//origin.example:8080/a?b=c",
        "http://origin.example@other.example/a?b=c",
        "http://other.example/a?b=c",
        "http://origin.example:8080/a?b=c",
        "https://origin.example/a?b=c",
        "http://origin.example",
        "ftp://origin.example/a?b=c",
        "\u{fc}",
    ] {
        assert_eq!(judge(&post, 200, &lines(location), &rules).err(), Some(NotStored::Method), "{location}");
    }
    let located = ("content-location", "/a?b=c");
    for lines in [
        &[located][..],
        &[located, ("etag", "\"a\"")],
        &[located, ("last-modified", "@100")],
        &[("cache-control", "max-age=60")],
        &[located, ("content-location", "/a?b=c"), ("cache-control", "max-age=60")],
    ] {
        assert_eq!(judge(&post, 200, lines, &rules).err(), Some(NotStored::Method), "{lines:?}");
    }
    assert_eq!(judge(&post, 404, &lines("/a?b=c"), &rules).err(), Some(NotStored::Method));
    assert_eq!(judge(&post, 200, &[located, ("expires", "@-60")], &rules).err(), None);
}

#[test]
fn vary_decides_which_requests_are_answered() {
    let fresh = ("cache-control", "max-age=60");
    for (vary, expected) in [("foo", None), ("*", Some(NotStored::Vary)), ("foo, *", Some(NotStored::Vary))] {
        assert_eq!(refusal(200, &[fresh, ("vary", vary)]), expected, "{vary}");
    }
    let rules = CachingRules::rfc9111();
    let one = judge(&get(&[("foo", "1")]), 200, &[fresh, ("vary", "foo")], &rules).unwrap();
    let other = judge(&get(&[("foo", "2")]), 200, &[fresh, ("vary", "foo")], &rules).unwrap();
    assert_ne!(one.selecting, other.selecting);
}

#[test]
fn a_part_says_which_bytes_it_holds() {
    let fresh = ("cache-control", "max-age=60");
    let tag = ("etag", "\"a\"");
    let held = |lines: &[(&str, &str)]| {
        judge(&get(&[("range", "bytes=2-4")]), 206, lines, &CachingRules::rfc9111())
            .map(|storable| (storable.range, storable.body_length_bytes))
    };
    let range = StoredRange { first_byte: 2, complete_length_bytes: 10 };
    assert_eq!(held(&[fresh, tag, ("content-range", "bytes 2-4/10")]), Ok((Some(range), Some(3))));
    assert_eq!(held(&[tag, ("content-range", "bytes 2-4/10")]), Ok((Some(range), Some(3))));
    for lines in [
        &[fresh, tag][..],
        &[fresh, ("content-range", "bytes 2-4/10")],
        &[fresh, tag, ("content-range", "bytes 2-4/*")],
        &[fresh, tag, ("content-range", "bytes */10")],
        &[fresh, tag, ("content-range", "bytes 4-2/10")],
        &[fresh, tag, ("content-range", "bytes 2-10/10")],
        &[fresh, tag, ("content-range", "lines 2-4/10")],
        &[fresh, tag, ("content-range", "garbage")],
        &[fresh, tag, ("content-range", "bytes 2-4/10"), ("content-range", "bytes 2-4/10")],
        &[fresh, tag, ("content-type", "multipart/byteranges; boundary=x")],
    ] {
        assert_eq!(held(lines), Err(NotStored::PartialContent), "{lines:?}");
    }
}

#[test]
fn a_body_must_be_whole_and_within_the_limit() {
    let rules = CachingRules { max_stored_body_bytes: 10, ..CachingRules::rfc9111() };
    let with_body = |lines: &[(&str, &str)], body: &'static [u8]| {
        let head = head(200, lines);
        let storable = storable(&get(&[]), &head, &rules)?;
        storable
            .with_body(&head, Bytes::from_static(body), Coverage::default(), &rules)
            .map(|stored| stored.body)
    };
    let fresh = ("cache-control", "max-age=60");
    for (lines, body, expected) in [
        (&[fresh][..], &b"0123456789"[..], None),
        (&[fresh], b"", None),
        (&[fresh], b"0123456789x", Some(NotStored::BodyTooLarge)),
        (&[fresh, ("content-length", "10")], b"0123456789", None),
        (&[fresh, ("content-length", "10")], b"012345678", Some(NotStored::BodyBroken)),
        (&[fresh, ("content-length", "3")], b"0123", Some(NotStored::BodyBroken)),
        (&[fresh, ("content-length", "11")], b"", Some(NotStored::BodyTooLarge)),
    ] {
        assert_eq!(with_body(lines, body).err(), expected, "{lines:?} {body:?}");
    }
}

#[test]
fn what_is_stored_of_a_head() {
    let lines = [
        ("cache-control", "max-age=60, x-extension=\"a, b\", private=\"x-user\", no-cache=\"x-once\""),
        ("connection", "x-hop, close"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "x"),
        ("proxy-connection", "close"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("age", "5"),
        ("x-user", "me"),
        ("x-once", "1"),
        ("content-foo", "1"),
        ("content-md5", "x"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("etag", "\"a\""),
    ];
    let stored = judge(&get(&[]), 200, &lines, &CachingRules::rfc9111()).unwrap().fields.to_header_map();
    let mut names: Vec<_> = stored.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-foo", "content-md5", "date", "etag", "x-twice"]);
    assert_eq!(stored.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(stored["cache-control"], lines[0].1, "no extension is lost");
    assert_eq!(stored["date"], crate::decide::tests::date(0).as_str(), "the time of receipt");
}

#[test]
fn a_date_is_never_rewritten() {
    for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "garbage"] {
        let lines = [("cache-control", "max-age=60"), ("date", date)];
        let stored = judge(&get(&[]), 200, &lines, &CachingRules::rfc9111()).unwrap();
        assert_eq!(stored.fields.get(&http::header::DATE), Some(date.as_bytes()));
    }
}

#[test]
fn app_configuration_keeps_what_belongs_to_one_exchange_out() {
    let lines = [
        ("etag", "\"a\""),
        ("x-ms-request-id", "1"),
        ("x-ms-correlation-request-id", "2"),
        ("x-ms-client-request-id", "3"),
        ("sync-token", "jtqGc1I4=MDoyOA==;sn=28"),
        ("link", "</kv?after=x>; rel=\"next\""),
    ];
    let rules = CachingRules::app_configuration();
    let stored = judge(&get(&[("authorization", "HMAC")]), 200, &lines, &rules).unwrap();
    let mut names: Vec<_> = stored.fields.iter().map(|(name, _)| name.to_string()).collect();
    names.sort_unstable();
    assert_eq!(names, ["date", "etag", "link"]);
    assert_eq!(stored.policy.freshness_lifetime.as_secs(), 30);
    assert_eq!(judge(&get(&[]), 404, &[], &rules).unwrap().policy.freshness_lifetime.as_secs(), 5);
    for status in [301, 403, 410, 429, 500, 503] {
        assert!(judge(&get(&[]), status, &[], &rules).is_err(), "{status}");
    }
}
