//! The mirror against the emulator asked directly: random stores, random reads, equal answers.
//!
//! `cargo test --release --test suite -- --ignored --nocapture mirror::differential::long_form` compares a million.

use std::time::Duration;

use tagalong::internals::emulator::{Emulator, EmulatorSettings};
use tagalong::internals::profile::app_configuration::resource::canonicalize;

use super::super::scene::{Scene, pass, straight, told, write};
use crate::support::caller::Response;

const VERSIONS: [&str; 5] = ["1.0", "2023-10-01", "2023-11-01", "2024-09-01", "2026-04-01"];
const KEYS: [&str; 12] = [
    "a",
    "a/b",
    "app:1",
    "app:2",
    "b,c",
    "b*",
    "é",
    "\u{E000}",
    "\u{FFFD}x",
    "\u{1F600}",
    "z z",
    "back\\slash",
];
const LABELS: [&str; 6] = ["", "prod", "dev", "a,b", "\u{1F600}", "\u{E000}"];

/// Draws from a seed.
struct Draw(fastrand::Rng);

impl Draw {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.usize(..of.len())]
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.0.u8(..100) < percent
    }

    fn key(&mut self) -> String {
        let base = self.one(&KEYS);
        if self.chance(70) { format!("{base}{}", self.0.u8(..40)) } else { base.to_owned() }
    }

    fn filter(&mut self, texts: &[&str]) -> String {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,").replace('*', "\\*");
        match self.0.u8(..8) {
            0 => "*".to_owned(),
            1 => String::new(),
            2 | 3 => format!("{}*", escaped(self.one(texts))),
            4 => (0..self.0.usize(1..4)).map(|_| escaped(self.one(texts))).collect::<Vec<_>>().join(","),
            5 => "\0".to_owned(),
            // Bad ones, too: the origin's words must come.
            6 if self.chance(30) => "a*b".to_owned(),
            _ => escaped(self.one(texts)),
        }
    }

    /// A read as SDKs send it; `tags` are entity tags that were seen.
    fn read(&mut self, tags: &[String]) -> String {
        let mut query = vec![("api-version", self.one(&VERSIONS).to_owned())];
        let path = match self.0.u8(..10) {
            0..=3 => {
                let label = self.one(&LABELS).to_owned();
                if !label.is_empty() || self.chance(20) {
                    query.push(("label", label));
                }
                format!("/kv/{}", encoded(&self.key()))
            }
            4..=7 => {
                if self.chance(70) {
                    query.push(("key", self.filter(&KEYS)));
                }
                if self.chance(50) {
                    query.push(("label", self.filter(&LABELS)));
                }
                "/kv".to_owned()
            }
            8 => {
                query.push(("name", self.filter(&KEYS)));
                "/keys".to_owned()
            }
            _ => {
                query.push(("name", self.filter(&LABELS)));
                "/labels".to_owned()
            }
        };
        if self.chance(20) && path.starts_with("/kv") {
            query.push(("tags", format!("t={}", self.0.u8(..3))));
        }
        if self.chance(20) {
            query.push((
                "$select",
                self.one(&["key", "key,value", "etag,label", "name", "nothing", "*"]).to_owned(),
            ));
        }
        let query: Vec<_> =
            query.into_iter().map(|(name, value)| format!("{name}={}", encoded(&value))).collect();
        let target = format!("{path}?{}", query.join("&"));
        let target = canonical(&target);
        let method = if self.chance(15) { "HEAD" } else { "GET" };
        // No client has the tag of a page that does not show it.
        let has_tag = !target.starts_with("/kv?") || !target.contains("api-version=1.0");
        match tags.last().filter(|_| has_tag && self.chance(25)) {
            None => format!("{method} {target}"),
            Some(_) => {
                // Names have no tag: the origin ignores the asterisk, and a cache answers 304 (RFC 9110 §13.1.2).
                let is_any = target.starts_with("/kv") && self.chance(10);
                let tag = if is_any { "*" } else { &tags[self.0.usize(..tags.len())] };
                let field = if self.chance(70) { "If-None-Match" } else { "If-Match" };
                format!("{method} {target}\n{field}: {tag}")
            }
        }
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The spelling that goes upstream, so that links are spelled alike; bad filters have none.
fn canonical(target: &str) -> String {
    let (path, query) = target.split_once('?').expect("a query");
    canonicalize(path, Some(query)).map_or_else(|| target.to_owned(), |canonical| canonical.text)
}

async fn fill(emulator: &Emulator, draw: &mut Draw) {
    for _ in 0..draw.0.usize(..300) {
        change(emulator, draw).await;
    }
}

async fn change(emulator: &Emulator, draw: &mut Draw) {
    let (target, body) = a_write(draw);
    write(emulator, &target, &body).await;
}

fn a_write(draw: &mut Draw) -> (String, String) {
    let label = draw.one(&LABELS);
    let target = format!("/kv/{}?label={}&api-version=2026-04-01", encoded(&draw.key()), encoded(label));
    let (value, tag) = (draw.0.u32(..), draw.0.u8(..3));
    (target, format!(r#"{{"value":"{value}\"é","tags":{{"t":"{tag}"}},"description":"d{value}"}}"#))
}

async fn run(seed: u64, reads: usize) -> usize {
    let mut draw = Draw(fastrand::Rng::with_seed(seed));
    let page_size = [2, 3, 5, 10, 100][draw.0.usize(..5)];
    let settings = EmulatorSettings { page_size, drift_per_second: 0.5, ..EmulatorSettings::default() };
    let scene = Scene::loaded(settings, async |emulator| fill(emulator, &mut draw).await, &[]).await;
    let mut caller = scene.caller().await;
    let (mut tags, mut mirrored) = (Vec::new(), 0);
    let mut next: Option<String> = None;
    for number in 0..reads {
        if draw.chance(3) {
            if draw.chance(50) {
                let (target, body) = a_write(&mut draw);
                let request = format!("PUT {target}\nContent-Type: application/json\n\n{body}");
                assert_eq!(caller.send(&request).await.status, 200, "{request}");
            } else {
                change(&scene.origin.emulator, &mut draw).await;
                pass(Duration::from_secs(31)).await;
                // The other one was idle for too long.
                caller = scene.caller().await;
            }
        }
        let request = next.take().map_or_else(|| draw.read(&tags), |target| format!("GET {target}"));
        let expected = straight(&scene.origin.emulator, &request).await;
        let answer = caller.send(&request).await;
        let place = format!("seed {seed}, read {number}: {request:?}");
        equal(&expected, &answer, &place);
        let (is_hit, detail) = told(&answer);
        mirrored += usize::from(is_hit && detail.as_deref() == Some("mirror"));
        if let Some(tag) = answer.field("etag") {
            tags.push(tag.to_owned());
        }
        // Half of the pages are followed.
        let link =
            answer.field("link").and_then(|link| Some(link.strip_prefix('<')?.split_once('>')?.0.to_owned()));
        next = link.filter(|_| draw.chance(50)).map(|link| canonical(&link));
    }
    mirrored
}

fn equal(expected: &http::Response<bytes::Bytes>, answer: &Response, place: &str) {
    assert_eq!(answer.status, expected.status().as_u16(), "{place}");
    assert_eq!(String::from_utf8_lossy(&answer.body), String::from_utf8_lossy(expected.body()), "{place}");
    for name in ["content-type", "etag", "last-modified", "link", "content-length"] {
        // A 304 of the service has no ETag; ours has. `Content-Length` is of the transport.
        if (answer.status == 304 && name != "link")
            || (name == "content-length" && expected.headers().get(name).is_none())
        {
            continue;
        }
        let expected = expected.headers().get(name).map(|value| value.to_str().expect("text"));
        assert_eq!(answer.field(name), expected, "{name} of {place}");
    }
}

#[tokio::test(start_paused = true)]
async fn reads_equal_those_of_the_origin() {
    let first: u64 = std::env::var("FIRST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in first..first + 12 {
        let mirrored = run(seed, 150).await;
        assert!(mirrored > 75, "seed {seed}: only {mirrored} of 150 reads were answered from the mirror");
    }
}

/// A million reads: `SEEDS` stores of 1,000 reads each.
#[tokio::test(start_paused = true)]
#[ignore = "takes minutes"]
async fn long_form() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default);
    let (first, seeds) = (number("FIRST_SEED", 1), number("SEEDS", 1_000));
    let mut mirrored = 0;
    for seed in first..first + seeds {
        mirrored += run(seed, 1_000).await;
    }
    println!("{} reads, {mirrored} of them from the mirror, all equal", seeds * 1_000);
}
