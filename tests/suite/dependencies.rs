//! Checks the dependencies against `deny.toml` (licences, sources, bans and lowest versions) without `cargo deny`, so
//! that `cargo test` finds violations.

use std::process::Command;

use toml::Table;

const MANIFEST_DIRECTORY: &str = env!("CARGO_MANIFEST_DIR");

fn toml_file(name: &str) -> Table {
    std::fs::read_to_string(format!("{MANIFEST_DIRECTORY}/{name}")).unwrap().parse().unwrap()
}

/// Name and version of every package in the lock file, with its source if it has one.
fn locked() -> Vec<(String, String, Option<String>)> {
    let lock = toml_file("Cargo.lock");
    let text =
        |package: &toml::Value, key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let packages = lock["package"].as_array().unwrap().iter();
    packages.map(|it| (text(it, "name").unwrap(), text(it, "version").unwrap(), text(it, "source"))).collect()
}

/// The three numbers of a version; a pre-release counts as the version before it.
fn numbers(version: &str) -> [u64; 3] {
    let release = version.split(['-', '+']).next().unwrap();
    let mut parts = release.split('.').map(|part| part.parse().unwrap());
    let numbers = std::array::from_fn(|_| parts.next().unwrap_or(0));
    let [major, minor, patch] = numbers;
    if version.contains('-') { [major, minor, u64::saturating_sub(patch, 1)] } else { numbers }
}

/// Whether a ban (`name`, optionally with `version = "<1.2.3"`) matches a package.
fn is_banned(ban: &toml::Value, name: &str, version: &str) -> bool {
    let lowest =
        ban.get("version").map(|it| it.as_str().unwrap().strip_prefix('<').expect("only < is understood"));
    ban["name"].as_str() == Some(name) && lowest.is_none_or(|lowest| numbers(version) < numbers(lowest))
}

#[test]
fn no_dependency_is_banned_or_below_its_lowest_version() {
    let deny = toml_file("deny.toml");
    let bans = deny["bans"]["deny"].as_array().unwrap();
    let hits: Vec<_> = locked()
        .into_iter()
        .filter(|(name, version, _)| bans.iter().any(|ban| is_banned(ban, name, version)))
        .collect();
    assert!(
        hits.is_empty(),
        "banned by deny.toml: {hits:?}; run cargo update -p NAME, or choose another one"
    );
}

#[test]
fn a_ban_matches_the_named_versions() {
    let ban: Table = "ban = { name = 'h2', version = '<0.4.16' }".parse().unwrap();
    for (version, banned) in
        [("0.4.15", true), ("0.3.99", true), ("0.4.16", false), ("0.4.20", false), ("1.0.0", false)]
    {
        assert_eq!(is_banned(&ban["ban"], "h2", version), banned, "{version}");
    }
    assert!(is_banned(&ban["ban"], "h2", "0.4.16-rc.1"));
    assert!(!is_banned(&ban["ban"], "h2o", "0.1.0"));
}

/// `deny.toml` refuses unknown registries and repositories and allows the default registry of cargo, so there is
/// exactly one source.
#[test]
fn everything_comes_from_one_registry() {
    let deny = toml_file("deny.toml");
    for unknown in ["unknown-registry", "unknown-git"] {
        assert_eq!(deny["sources"][unknown].as_str(), Some("deny"), "{unknown}");
    }
    let mut registries = std::collections::BTreeSet::new();
    for (name, _, source) in locked() {
        let Some(source) = source else {
            assert!(name.starts_with("tagalong"), "{name} has no source");
            continue;
        };
        assert!(source.starts_with("registry+"), "{name} is from {source}");
        registries.insert(source);
    }
    assert_eq!(registries.len(), 1, "{registries:?}");
}

#[test]
fn every_licence_is_allowed() {
    let deny = toml_file("deny.toml");
    let allowed: Vec<&str> =
        deny["licenses"]["allow"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    let cargo = std::env::var_os("CARGO").expect("cargo test sets CARGO");
    let host = Command::new("rustc").arg("-vV").output().unwrap().stdout;
    let host = String::from_utf8(host).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let arguments = ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host];
    let output = Command::new(cargo).args(arguments).current_dir(MANIFEST_DIRECTORY).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(
            is_allowed(licence, &allowed),
            "{}: {licence:?} is not allowed by deny.toml",
            package["name"]
        );
    }
}

/// Parses a licence expression (SPDX, with the old `/` for OR). True if a choice with allowed licences only exists.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = alternatives(&mut words, allowed);
    words.next().is_none() && verdict
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn alternatives(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut verdict = together(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        verdict |= together(words, allowed);
    }
    verdict
}

fn together(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut verdict = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        verdict &= one(words, allowed);
    }
    verdict
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let Some(word) = words.next() else { return false };
    if word == "(" {
        let verdict = alternatives(words, allowed);
        return words.next() == Some(")") && verdict;
    }
    match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
        Some(exception) => allowed.contains(&format!("{word} WITH {exception}").as_str()),
        None => allowed.contains(&word),
    }
}

#[test]
fn licence_expressions_are_read() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
    for (expression, verdict) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("", false),
        ("MIT MIT", false),
        ("(MIT", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), verdict, "{expression}");
    }
}
