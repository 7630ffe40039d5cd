//! The files under `config/` agree with the program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tagalong::internals::config::{Config, Layers};
use tagalong::internals::metrics::FAMILIES;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(path)
}

#[test]
fn every_example_is_a_valid_configuration() {
    let mut count = 0;
    for entry in std::fs::read_dir(shipped("examples")).unwrap() {
        let path = entry.unwrap().path();
        if let Err(errors) = Config::new(Layers::new().file(&path)) {
            panic!("{}: {errors}", path.display());
        }
        count += 1;
    }
    assert!(count >= 5);
}

#[test]
fn the_variables_of_the_kubernetes_manifests_are_known_and_fit_together() {
    for manifest in ["sidecar", "sidecar-tls", "offline", "fleet"] {
        variables_fit_together(&format!("kubernetes/{manifest}.yaml"));
    }
}

fn variables_fit_together(manifest: &str) {
    let manifest = std::fs::read_to_string(shipped(manifest)).unwrap();
    let variables: Vec<(String, String)> = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- { name: TAGALONG_")?.split_once(", value: \""))
        .map(|(name, value)| (format!("TAGALONG_{name}"), value.trim_end_matches("\" }").to_owned()))
        .collect();
    assert!(variables.len() >= 5, "{variables:?}");
    let config = Config::new(Layers::new().variables(variables)).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.admin.listen[0].port(), 8485);
}

/// The files that Cargo.toml declares as targets. Cargo requires each of them for every build.
fn declared_targets() -> Vec<String> {
    let manifest = std::fs::read_to_string(shipped("../Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let text =
        |target: &toml::Value, key: &str| target.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let several = ["bin", "test", "bench"].iter().flat_map(|kind| {
        let targets = manifest[*kind].as_array().unwrap().iter();
        targets.map(move |target| {
            let directory = if *kind == "bench" { "benches" } else { kind };
            text(target, "path")
                .unwrap_or_else(|| format!("{directory}/{}.rs", text(target, "name").unwrap()))
        })
    });
    text(&manifest["lib"], "path").into_iter().chain(several).collect()
}

#[test]
fn the_image_has_every_file_that_cargo_requires() {
    let dockerfile = std::fs::read_to_string(shipped("../Dockerfile")).unwrap();
    let ignored = std::fs::read_to_string(shipped("../.dockerignore")).unwrap();
    let copied: Vec<&str> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY ").filter(|rest| !rest.starts_with("--")))
        .flat_map(|rest| rest.rsplit_once(' ').unwrap().0.split(' '))
        .collect();
    let admitted: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let within = |paths: &[&str], file: &str| paths.iter().any(|path| Path::new(file).starts_with(path));
    let targets = declared_targets();
    assert!(targets.len() >= 8, "{targets:?}");
    for file in targets.iter().map(String::as_str).chain(["Cargo.lock", "config/default.toml"]) {
        assert!(within(&copied, file), "the Dockerfile does not copy {file}; add it to a COPY line");
        assert!(within(&admitted, file), ".dockerignore excludes {file}; add it there with !");
    }
    for path in copied {
        assert!(
            shipped("..").join(path).exists(),
            "the Dockerfile copies {path}, which does not exist; correct its COPY line"
        );
    }
}

/// Every word of a label is counted from zero: most of them stay there.
#[test]
fn the_dashboard_draws_no_word_that_was_never_counted() {
    let dashboard = std::fs::read_to_string(shipped("grafana/tagalong.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let by_word: Vec<&str> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .filter(|query| {
            ["reason", "detail", "outcome", "what", "cache_status"]
                .iter()
                .any(|label| query.contains(&format!("{label})")))
        })
        .collect();
    assert!(by_word.len() >= 16, "{by_word:?}");
    for query in by_word {
        assert!(query.ends_with(" > 0"), "{query}");
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard = std::fs::read_to_string(shipped("grafana/tagalong.json")).unwrap();
    let _: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let shown: BTreeSet<&str> = dashboard
        .split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'))
        .filter(|word| word.starts_with("tagalong_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect();
    let known: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(shown, known);
    assert!(
        dashboard.contains("tagalong_origin_latency_seconds_bucket"),
        "the one histogram is shown by its buckets"
    );
}
