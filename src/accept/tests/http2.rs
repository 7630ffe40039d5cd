//! HTTP/2, with frames by hand where a real caller keeps the rules.

use std::collections::HashMap;

use tokio::sync::watch;

use super::*;
use crate::accept::frames::{CONTINUATION, END_HEADERS, HEADERS, PADDED, PREFACE, PRIORITY};
use crate::accept::huffman;

const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field block of a request for `path`, encoded as an ordinary caller does it.
fn block(path: &str, huffman: bool) -> Vec<u8> {
    let path = if huffman { huffman::tests::encode(path.as_bytes()) } else { path.as_bytes().to_vec() };
    let length = u8::try_from(path.len()).unwrap() | if huffman { 0x80 } else { 0 };
    // GET, http, `:authority` and `:path` with incremental indexing.
    [&[0x82, 0x86, 0x41, 4], &b"test"[..], &[0x44, length], &path].concat()
}

fn request(stream: u32, path: &str, huffman: bool) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(path, huffman))
}

/// The next frame: its kind, stream and payload.
async fn read_frame(caller: &mut DuplexStream) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    caller.read_exact(&mut head).await.expect("a frame");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    caller.read_exact(&mut payload).await.expect("a payload");
    (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
}

/// What comes first on each of so many streams: HEADERS, or RST_STREAM.
async fn first_frames(caller: &mut DuplexStream, streams: usize) -> HashMap<u32, u8> {
    let mut first = HashMap::new();
    while first.len() < streams {
        let (kind, stream, payload) = read_frame(caller).await;
        if stream != 0 && !first.contains_key(&stream) {
            first.insert(stream, kind);
            assert!(kind != RST_STREAM || payload == [0, 0, 0, 1], "PROTOCOL_ERROR, not {payload:?}");
        }
    }
    first
}

#[tokio::test(start_paused = true)]
async fn a_fragment_in_an_http2_target_is_refused_and_not_cut() {
    let serving = serve_with(AcceptLimits::default(), true, |request: Request<Incoming>| async move {
        full(request.uri().path().to_owned())
    });
    let padded = |path: &str| {
        let payload = [&[3, 0, 0, 0, 0, 16], &block(path, true)[..], b"###"].concat();
        frame(HEADERS, END_STREAM | END_HEADERS | PADDED | PRIORITY, 1, &payload)
    };
    let continued = |path: &str| {
        let whole = block(path, true);
        let (first, rest) = whole.split_at(whole.len() - 3);
        let (second, third) = rest.split_at(2);
        [
            frame(HEADERS, END_STREAM, 1, first),
            frame(CONTINUATION, 0, 1, second),
            frame(CONTINUATION, END_HEADERS, 1, third),
        ]
        .concat()
    };
    for (first, expected) in [
        (request(1, "/a#b", false), RST_STREAM),
        (request(1, "/a#b", true), RST_STREAM),
        (request(1, "/a?b#", true), RST_STREAM),
        (padded("/a#b"), RST_STREAM),
        (continued("/abc#"), RST_STREAM),
        (padded("/ab"), HEADERS),
        (continued("/abc"), HEADERS),
        (request(1, "/a%23b", true), HEADERS),
    ] {
        for piece_bytes in [1, 7, usize::MAX] {
            let mut caller = serving.connector.connect(1 << 16);
            // The second request is from the dynamic table of the first, whatever became of that.
            let second = frame(HEADERS, END_STREAM | END_HEADERS, 3, &[0x82, 0x86, 0xbf, 0xbe]);
            let all =
                [PREFACE, &frame(SETTINGS, 0, 0, &[]), &first, &second, &request(5, "/c", true)].concat();
            for piece in all.chunks(piece_bytes) {
                caller.write_all(piece).await.expect("writable");
                tokio::task::yield_now().await;
            }
            let answers = first_frames(&mut caller, 3).await;
            assert_eq!(answers, HashMap::from([(1, expected), (3, expected), (5, HEADERS)]), "{first:x?}");
        }
    }
}

/// The length of a frame may be the number of `#`.
#[tokio::test(start_paused = true)]
async fn a_number_sign_elsewhere_in_http2_frames_passes() {
    let serving = serve_with(AcceptLimits::default(), true, |request: Request<Incoming>| async move {
        assert_eq!(request.headers()["x"], "#");
        full("hello")
    });
    for path_bytes in 1..60 {
        let mut caller = serving.connector.connect(1 << 16);
        let fields =
            [&block(&format!("/{}", "a".repeat(path_bytes)), false), &b"\x00\x01x\x01#"[..]].concat();
        let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields);
        let all = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &request].concat();
        caller.write_all(&all).await.expect("writable");
        assert_eq!(first_frames(&mut caller, 1).await[&1], HEADERS, "{} bytes", fields.len());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_real_caller_sends_arrives_as_it_is() {
    let serving = serve_with(AcceptLimits::default(), true, |request: Request<Incoming>| async move {
        let mut values: Vec<_> =
            request.headers().iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        values.sort();
        full(format!("{} {}", request.uri().path_and_query().expect("a target"), values.concat()))
    });
    let mut sender = http2_caller(serving.connector.connect(1 << 16)).await;
    for number in 0..500 {
        let target = format!("/{number}?q=%23{}", "x".repeat(number % 90));
        let (tag, long) = (format!("\"#{number}#\""), "#".repeat(number * 7 % 1_500));
        let fields =
            [("if-none-match", tag.as_str()), ("x-long", &long), ("x-path", "/a#b"), ("x-same", "#")];
        let request =
            fields.iter().fold(Request::get(format!("http://test{target}")), |request, (name, value)| {
                request.header(*name, *value)
            });
        let answer =
            sender.send_request(request.body(Full::default()).expect("a request")).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let values = fields.map(|(name, value)| format!("{name}={value:?}"));
        assert_eq!(String::from_utf8_lossy(&body), format!("{target} {}", values.concat()));
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_frames_and_field_blocks_end_the_connection() {
    let serving = serve_with(AcceptLimits::default(), true, |_| async { full("hello") });
    for malformed in [
        frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x82]),
        frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0]),
        frame(HEADERS, END_HEADERS | PADDED, 1, &[]),
        frame(HEADERS, END_HEADERS, 1, &[0x82, 0x44, 9]),
        frame(HEADERS, END_HEADERS, 1, &[0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let mut caller = serving.connector.connect(1 << 16);
        let all = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &malformed].concat();
        caller.write_all(&all).await.expect("writable");
        let mut received = Vec::new();
        let _closed = caller.read_to_end(&mut received).await;
    }
}

/// Requests that are answered when told so, up to a limit, on two connections; then as many as before.
#[tokio::test(start_paused = true)]
async fn http2_requests_over_the_limit_are_refused_at_once() {
    let (end_all, _) = watch::channel(());
    let limits = AcceptLimits { http2_requests: 5, ..AcceptLimits::default() };
    let serving = serve_with(limits, true, {
        let end_all = end_all.clone();
        move |_| {
            let mut end = end_all.subscribe();
            // The head is sent at once, and the body at the end: the request is under way until then.
            let body = futures_util::stream::once(async move {
                end.changed().await.expect("a sender");
                Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(b"hello")))
            });
            async { Response::new(StreamBody::new(body).boxed_unsync()) }
        }
    });
    let mut senders = [
        http2_caller(serving.connector.connect(1 << 16)).await,
        http2_caller(serving.connector.connect(1 << 16)).await,
    ];
    let mut ask = async |number: usize| {
        let request = Request::get("http://test/").body(Full::<Bytes>::default()).expect("a request");
        senders[number % 2].send_request(request).await.expect("an answer")
    };
    for _ in 0..2 {
        let mut under_way = Vec::new();
        for number in 0..5 {
            let answer = ask(number).await;
            assert_eq!(answer.status(), 200, "{number}");
            under_way.push(answer);
        }
        for number in 0..2 {
            let refused = ask(number).await;
            assert_eq!(refused.status(), 503);
            assert_eq!(refused.headers()["retry-after"], "1");
            let body = refused.into_body().collect().await.expect("a body").to_bytes();
            let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(problem["status"], 503);
        }
        // HTTP/1 is bounded by its connections.
        let mut caller = serving.connector.connect(4096);
        caller.write_all(GET).await.expect("writable");
        let mut status = [0; 12];
        caller.read_exact(&mut status).await.expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 200");
        drop(caller);
        // One ends because its caller leaves it, which makes room for another, and all others because their bodies end.
        drop(under_way.pop());
        let_others_run().await;
        let another = ask(0).await;
        assert_eq!(another.status(), 200);
        under_way.push(another);
        end_all.send_replace(());
        for answer in under_way {
            answer.into_body().collect().await.expect("a body");
        }
        let_others_run().await;
    }
}

/// Lets what both ends have sent arrive.
async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_a_hundred_streams() {
    let serving = serve_with(AcceptLimits::default(), true, |_| std::future::pending());
    let mut caller = serving.connector.connect(1 << 16);
    caller.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.expect("writable");
    for number in 0..101 {
        caller.write_all(&request(2 * number + 1, "/", true)).await.expect("writable");
    }
    loop {
        let (kind, stream, payload) = read_frame(&mut caller).await;
        match kind {
            RST_STREAM => {
                assert_eq!((stream, &payload[..]), (201, &[0, 0, 0, 7][..]), "REFUSED_STREAM");
                break;
            }
            SETTINGS if !payload.is_empty() => {
                let most = payload.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("the setting");
                assert_eq!(most[2..], [0, 0, 0, 100]);
            }
            _ => {}
        }
    }
}
