//! The files under `config/` keep pace with the program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tagalong::config::{Config, Layers};
use tagalong::metrics::{FAMILIES, FamilyKind};

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
fn the_variables_of_the_kubernetes_manifest_are_known_and_fit_together() {
    let manifest = std::fs::read_to_string(shipped("kubernetes/sidecar.yaml")).unwrap();
    let variables: Vec<(String, String)> = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- { name: TAGALONG_")?.split_once(", value: \""))
        .map(|(name, value)| (format!("TAGALONG_{name}"), value.trim_end_matches("\" }").to_owned()))
        .collect();
    assert!(variables.len() >= 5, "{variables:?}");
    let config = Config::new(Layers::new().variables(variables)).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.admin.listen[0].port(), 8485);
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
    let buckets = FAMILIES.iter().filter(|family| family.kind == FamilyKind::Histogram);
    assert!(buckets.into_iter().all(|family| dashboard.contains(&format!("{}_bucket", family.name))));
}
