//! Runs the fuzz targets over the committed corpus and over mutations of it, briefly on every `cargo test`.
//!
//! `FUZZ_ROUNDS=1000000 cargo test --test suite fuzz` runs longer. `FUZZ_SEED` repeats a failed run.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

type Body = fn(&[u8]);

const TARGETS: [(&str, Body); 10] = [
    ("cache_key", bodies::cache_key),
    ("cache_control", bodies::cache_control),
    ("entity_tags", bodies::entity_tags),
    ("http_dates", bodies::http_dates),
    ("sync_tokens", bodies::sync_tokens),
    ("authorization", bodies::authorization),
    ("response_heads", bodies::response_heads),
    ("ranges", bodies::ranges),
    ("vary", bodies::vary),
    ("filters", bodies::filters),
];

/// The default number of inputs for one target: one or two seconds without optimisation.
const ROUNDS: u64 = 3_000;

/// The maximum length of an input, so that no input takes long.
const MOST_BYTES: usize = 2_048;

/// Characters and words with a meaning in the grammars.
const WORDS: [&[u8]; 44] = [
    b"\n",
    b"\n---\n",
    b"\"",
    b"W/\"",
    b",",
    b";",
    b"=",
    b"*",
    b"\\",
    b"%",
    b"%00",
    b"%2F",
    b"%25",
    b"%zz",
    b"..",
    b"/",
    b"?",
    b"&",
    b"#",
    b" ",
    b"\t",
    b"\0",
    b"\xFF",
    b"\xC3\xA9",
    b"-",
    b"0",
    b"9",
    b"18446744073709551616",
    b"bytes=",
    b"sn=",
    b"no-cache",
    b"no-store",
    b"max-age=",
    b"s-maxage=",
    b"private",
    b"ETag: \"a\"\n",
    b"Vary: ",
    b"Age: 99999999999\n",
    b"Date: ",
    b"Set-Cookie: a=b\n",
    b"Connection: ",
    b"HMAC-SHA256 Credential=",
    b"$select=",
    b"key=",
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a file of the corpus")).collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// One of the inputs with a few bytes inserted, removed, overwritten, repeated, or copied from another input.
fn mutated(random: &mut fastrand::Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let any = |random: &mut fastrand::Rng| inputs[random.usize(..inputs.len())].clone();
    let mut input = any(random);
    for _ in 0..random.usize(1..=6) {
        let at = random.usize(..=input.len());
        let until = random.usize(at..=input.len()).min(at + 16);
        match random.u8(..7) {
            0 => input.insert(at, random.u8(..)),
            1 => drop(input.drain(at..until)),
            2 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            3 => drop(input.splice(at..until, WORDS[random.usize(..WORDS.len())].iter().copied())),
            4 => drop(input.splice(at..at, WORDS[random.usize(..WORDS.len())].repeat(random.usize(1..40)))),
            5 => {
                let part = input[at..until].to_vec();
                drop(input.splice(until..until, part));
            }
            _ => {
                let other = any(random);
                input.truncate(at);
                input.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
        }
    }
    input.truncate(MOST_BYTES);
    input
}

fn hold(target: &str, body: Body, input: &[u8], origin: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| body(input)));
    assert!(outcome.is_ok(), "{target} fails for b\"{}\" ({origin})", input.escape_ascii());
}

#[test]
fn every_target_holds_over_its_corpus() {
    for (target, body) in TARGETS {
        let inputs = corpus(target);
        assert!(inputs.len() >= 3, "add inputs to the corpus of {target}");
        for input in inputs {
            hold(target, body, &input, "corpus");
        }
    }
}

#[test]
fn every_target_holds_over_mutations_of_its_corpus() {
    let seed = setting("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = setting("FUZZ_ROUNDS").unwrap_or(ROUNDS);
    println!("FUZZ_SEED={seed} FUZZ_ROUNDS={rounds}");
    std::thread::scope(|scope| {
        for (target, body) in TARGETS {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let inputs = corpus(target);
                for _ in 0..rounds {
                    hold(target, body, &mutated(&mut random, &inputs), &format!("FUZZ_SEED={seed}"));
                }
            });
        }
    });
}

#[test]
fn every_target_is_one_of_cargo_fuzz_too() {
    let manifest =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml"));
    let manifest = manifest.expect("the manifest of the fuzz targets");
    let named: Vec<&str> =
        manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert_eq!(named[0], "tagalong-fuzz");
    assert_eq!(named[1..], TARGETS.map(|(target, _)| target));
}
