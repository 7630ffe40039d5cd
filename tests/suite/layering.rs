//! The layout of the sources: imports go one way, files are short, names say what is inside, and documentation refers to what
//! is in this repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which module may import which: a module may import those of its own line and of the lines above it, and no two modules import each
/// other, on whatever way. The modules of the binary (`main`, `cli`, `demo`, `explain`, `probe`, `signals`) come after all of them.
const LAYERS: [&[&str]; 14] = [
    &["words", "error", "clock", "memo", "headers", "body", "metrics", "readiness", "accept_loop"],
    &["config", "sync_token", "stored_response", "presented_request", "logging"],
    &["decide", "profile"],
    &["store", "transport"],
    &["trace"],
    &["credentials", "seal"],
    &["fleet"],
    &["upstream"],
    &["mirror"],
    &["snapshot"],
    &["guard", "identify", "respond"],
    &["proxy"],
    &["accept", "admin"],
    &["sidecar"],
];

/// What the emulator may import: the first two layers, and of the profiles the types of App Configuration alone.
const EMULATOR_MAY_IMPORT: &str = "profile::app_configuration";

/// The modules of the binary: they see the library from outside, as `tagalong::…`.
const BINARY: [&str; 8] = ["main", "cli", "probe", "explain", "top", "demo", "mint", "signals"];

/// What stands at the top of the repository.
const TOP: [&str; 21] = [
    ".cargo",
    ".ci",
    ".dockerignore",
    ".git",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "clippy.toml",
    "config",
    "deny.toml",
    "fuzz",
    "proptest-regressions",
    "rustfmt.toml",
    "src",
    "target",
    "tests",
];

const LINES_LIMIT: usize = 600;

/// Names that say nothing about what is inside.
const EMPTY_WORDS: [&str; 9] =
    ["util", "utils", "helper", "helpers", "manager", "misc", "common", "inner", "impl"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a directory, their paths relative to the repository.
fn rust_files(directory: &str) -> Vec<PathBuf> {
    files(directory, &["rs"])
}

/// The files below a directory with one of these extensions, their paths relative to the repository.
fn files(directory: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let has_extension =
        |path: &Path| path.extension().is_some_and(|extension| extensions.iter().any(|it| extension == *it));
    let mut waiting = vec![root().join(directory)];
    let mut files = Vec::new();
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What client SDKs and builds install is not of this repository.
                if !["node_modules", ".venv", "target"].iter().any(|it| path.ends_with(it)) {
                    waiting.push(path);
                }
            } else if has_extension(&path) {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    assert!(!files.is_empty() || directory != "src");
    files
}

/// `src/decide/reuse.rs` → `decide`.
fn module(file: &Path) -> String {
    let first = file.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Files that exist for tests alone may import anything.
fn is_test_file(file: &Path) -> bool {
    let stem = file.file_stem().unwrap().to_str().unwrap();
    stem == "tests"
        || stem.ends_with("_tests")
        || stem == "conformance"
        || file.components().any(|it| it.as_os_str() == "tests")
}

/// The text in front of the unit tests, without comments: documentation may point anywhere.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Paths after `crate::`, `{` opened: `use crate::{a::b, c}` gives `a::b` and `c`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (start, marker) in code.match_indices("crate::") {
        let rest = &code[start + marker.len()..];
        let path = |text: &str| {
            text.chars().take_while(|it| it.is_alphanumeric() || matches!(it, '_' | ':')).collect::<String>()
        };
        match rest.strip_prefix('{') {
            None => {
                found.insert(path(rest));
            }
            Some(group) => {
                let (mut depth, mut member) = (0_i32, String::new());
                for character in group.chars() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            found.insert(path(member.trim()));
                            member.clear();
                            continue;
                        }
                        _ => {}
                    }
                    member.push(character);
                }
                found.insert(path(member.trim()));
            }
        }
    }
    found.remove("");
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn violations(file: &Path, text: &str) -> Vec<String> {
    let own = module(file);
    let allowed = |import: &str| {
        let imported = import.split("::").next().unwrap_or_default();
        if imported == own {
            return true;
        }
        match own.as_str() {
            "emulator" => layer(imported).is_some_and(|it| it < 2) || import.starts_with(EMULATOR_MAY_IMPORT),
            _ => match (layer(&own), layer(imported)) {
                (Some(own), Some(imported)) => imported <= own,
                _ => false,
            },
        }
    };
    let refused = imports(&code(text)).into_iter().filter(|import| !allowed(import));
    refused.map(|import| format!("{} imports {import}", file.display())).collect()
}

#[test]
fn imports_go_one_way() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let own = module(&file);
        if own == "lib" || is_test_file(&file) || BINARY.contains(&own.as_str()) {
            continue;
        }
        if layer(&own).is_none() && own != "emulator" {
            wrong.push(format!("{} stands in no layer", file.display()));
        }
        wrong.extend(violations(&file, &fs::read_to_string(root().join(&file)).unwrap()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What remains of the modules when those that import none of the others are taken away, again and again: circles.
fn circles(mut imports: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let before = imports.len();
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        imports.retain(|_, imported| imported.iter().any(|it| left.contains(it)));
        if imports.len() == before {
            return imports;
        }
    }
}

#[test]
fn no_modules_import_one_another_in_a_circle() {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files("src") {
        let own = module(&file);
        if own == "lib" || is_test_file(&file) || BINARY.contains(&own.as_str()) {
            continue;
        }
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let imported = imports(&code(&text));
        let imported = imported.iter().filter_map(|path| path.split("::").next()).map(ToOwned::to_owned);
        all.entry(own.clone()).or_default().extend(imported.filter(|it| *it != own));
    }
    assert_eq!(circles(all.clone()), BTreeMap::new());
    all.entry("clock".to_owned()).or_default().insert("proxy".to_owned());
    assert!(circles(all).contains_key("clock"), "proxy reads the clock");
}

#[test]
fn an_import_against_the_direction_is_found() {
    let wrong = |file: &str, text: &str| violations(Path::new(file), text).len();
    assert_eq!(wrong("src/headers/vary.rs", "use crate::stored_response::X;"), 1);
    assert_eq!(wrong("src/decide/reuse.rs", "use crate::{clock::Clock, store::{Store, X}, headers};"), 1);
    assert_eq!(wrong("src/decide/reuse.rs", "let now = crate::admin::x();"), 1);
    assert_eq!(
        wrong(
            "src/emulator/api.rs",
            "use crate::profile::app_configuration::Filter;\nuse crate::clock::Clock;"
        ),
        0
    );
    assert_eq!(wrong("src/emulator/api.rs", "use crate::profile::generic::X;"), 1);
    assert_eq!(wrong("src/proxy.rs", "use crate::emulator::X;"), 1);
    assert_eq!(wrong("src/clock.rs", "// crate::proxy\n#[cfg(test)]\nmod tests {\nuse crate::proxy;\n}"), 0);
}

#[test]
fn files_are_short_and_their_names_say_something() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "benches", "fuzz"].into_iter().flat_map(rust_files) {
        let lines = fs::read_to_string(root().join(&file)).unwrap().lines().count();
        if lines > LINES_LIMIT {
            wrong.push(format!("{} has {lines} lines, {LINES_LIMIT} are the limit", file.display()));
        }
        let stem = file.file_stem().unwrap().to_str().unwrap();
        if stem.split('_').any(|word| EMPTY_WORDS.contains(&word)) {
            wrong.push(format!("{} is named after nothing", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn items_are_not_named_after_nothing() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let mut words = line.split(|it: char| !(it.is_alphanumeric() || it == '_'));
            let is_item = line.contains("fn ")
                || line.contains("struct ")
                || line.contains("enum ")
                || line.contains("trait ");
            if line.starts_with("//") || !is_item {
                continue;
            }
            let named = words
                .find(|word| matches!(*word, "fn" | "struct" | "enum" | "trait"))
                .and_then(|_| words.next());
            let Some(name) = named else { continue };
            let lower = name.to_ascii_lowercase();
            // `get_all` is what `http` calls it.
            if (name.starts_with("get_") && name != "get_all")
                || ["helper", "manager", "util"].iter().any(|it| lower.contains(it))
            {
                wrong.push(format!("{}:{}: {name}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The types that a file defines in front of its unit tests, macro-made ones included. Aliases inside of items are associated types.
fn defined_types(text: &str) -> BTreeSet<String> {
    let of_line = |line: &str| {
        let is_item = |word: &str| {
            matches!(word, "struct" | "enum" | "trait") || (word == "type" && !line.starts_with(' '))
        };
        let mut words = line.split(|it: char| !(it.is_alphanumeric() || it == '_'));
        words.find(|word| is_item(word))?;
        let name = words.next().filter(|name| name.starts_with(char::is_uppercase));
        name.map(ToOwned::to_owned)
    };
    code(text).lines().filter_map(of_line).collect()
}

/// The names that several files give to a type, with these files.
fn names_of_several_types(files: &[(&Path, &str)]) -> Vec<String> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in files {
        for name in defined_types(text) {
            all.entry(name).or_default().push(file.display().to_string());
        }
    }
    all.retain(|_, files| files.len() > 1);
    all.into_iter().map(|(name, files)| format!("{name}: {}", files.join(", "))).collect()
}

#[test]
fn no_two_types_share_a_name() {
    let files: Vec<(PathBuf, String)> = rust_files("src")
        .into_iter()
        .filter(|file| !is_test_file(file))
        .map(|file| (file.clone(), fs::read_to_string(root().join(file)).unwrap()))
        .collect();
    let files: Vec<(&Path, &str)> = files.iter().map(|(file, text)| (&**file, &**text)).collect();
    let shared = names_of_several_types(&files);
    assert!(shared.is_empty(), "name each after what it is:\n{}", shared.join("\n"));
    let (first, second) = (Path::new("src/a.rs"), Path::new("src/b.rs"));
    let unlike = "impl A for B {\n    type Output = u8;\n}\n// struct Same;\n#[cfg(test)]\nmod tests {\n    struct Same;\n}";
    assert!(names_of_several_types(&[(first, "pub struct Same;"), (second, unlike)]).is_empty());
    for twin in ["enum Same {", "    pub struct Same in \"table\" {", "pub(super) type Same = u8;"] {
        assert_eq!(
            names_of_several_types(&[(first, "pub struct Same;"), (second, twin)]),
            ["Same: src/a.rs, src/b.rs"]
        );
    }
}

#[test]
fn the_top_of_the_repository_holds_nothing_else() {
    // Only tracked files: a working copy may hold others.
    let listed = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Ok(listed) = listed.map(|output| output.stdout) else { return };
    let listed = String::from_utf8(listed).unwrap();
    let top: BTreeSet<&str> =
        listed.split('\0').filter_map(|path| path.split('/').next()).filter(|it| !it.is_empty()).collect();
    let unknown: Vec<&&str> = top.iter().filter(|name| !TOP.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The paths to files of this repository that a Markdown text names in backticks: words that end in `.rs`, and those whose first
/// component is in `src/` or at the top. Not those in `target`, which a build makes.
fn named_paths(markdown: &str) -> BTreeSet<String> {
    let is_path = |word: &&str| {
        let first = word.split('/').next().unwrap_or_default();
        let is_known = !first.is_empty() && (TOP.contains(&first) || root().join("src").join(first).exists());
        let is_plain =
            word.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '.' | '/'));
        is_plain && first != "target" && (word.ends_with(".rs") || (is_known && word.contains('/')))
    };
    let mut is_fenced = false;
    let mut found = BTreeSet::new();
    for line in markdown.lines() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(spans.flat_map(str::split_whitespace).filter(is_path).map(ToOwned::to_owned));
        }
    }
    found
}

/// Those that are neither in `src/` nor at the top.
fn missing_paths(markdown: &str) -> Vec<String> {
    let exists = |path: &String| root().join(path).exists() || root().join("src").join(path).exists();
    named_paths(markdown).into_iter().filter(|path| !exists(path)).collect()
}

#[test]
fn the_files_that_the_documents_name_exist() {
    let mut all = files("config", &["md"]);
    all.push(PathBuf::from("README.md"));
    let text = all.iter().map(|file| fs::read_to_string(root().join(file)).unwrap()).collect::<String>();
    assert!(named_paths(&text).len() > 80, "{:?}", named_paths(&text));
    assert_eq!(missing_paths(&text), Vec::<String>::new());
    let wrong = "`decide/reuse.rs` `GET /kv/x` `gone/board.rs` `tests/gone.py --all` `target/gone/program`\n```text\n`fenced/gone.rs`\n```";
    assert_eq!(missing_paths(wrong), ["gone/board.rs", "tests/gone.py"]);
}

/// Documents that are not in this repository. The parts stand apart, so that this file does not cite them itself.
const DOCUMENTS_ELSEWHERE: [&str; 6] = [
    concat!("design", ".md"),
    concat!("caching", ".md"),
    concat!("protocol", ".md"),
    concat!("fact", " sheet"),
    concat!("design,", " section"),
    concat!("design", " section"),
];

/// What a text cites of them, line breaks within comments notwithstanding.
fn citations(text: &str) -> Vec<&'static str> {
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches(['/', '!', '#', '*']).trim());
    let text = lines.collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    DOCUMENTS_ELSEWHERE.into_iter().filter(|document| text.contains(document)).collect()
}

#[test]
fn nothing_cites_a_document_outside_the_repository() {
    let mut all = vec![PathBuf::from("README.md")];
    for directory in ["src", "tests", "benches", "config"] {
        all.extend(files(directory, &["rs", "py", "js", "toml", "yaml", "json", "sh", "md"]));
    }
    let mut wrong = Vec::new();
    for file in all {
        let text = String::from_utf8_lossy(&fs::read(root().join(&file)).unwrap()).into_owned();
        wrong.extend(citations(&text).into_iter().map(|it| format!("{} cites {it:?}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let cited = concat!("/// Coverage (design,\n/// section 3).\n// See Caching", ".md, rule 4.");
    assert_eq!(citations(cited), [DOCUMENTS_ELSEWHERE[1], DOCUMENTS_ELSEWHERE[4]]);
}
