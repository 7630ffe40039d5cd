//! The labels that can be counted, at zero from the start: where a label is absent until it is first counted, a panel shows no data, and
//! the first increase is lost to `rate`.

use crate::config::{Config, UpstreamSettings};
use crate::credentials::refusal::CredentialRefusal;
use crate::decide::storable::NotStored;
use crate::decide::{BypassReason, RequestReason, StaleReason, Staleness, Unreachable};
use crate::fleet::engine::EngineError;
use crate::metrics::Metrics;
use crate::mirror::give_up::GiveUpReason;
use crate::snapshot::refusal::SnapshotRefusal;
use crate::stored_response::StoredResponse;
use crate::sync_token::coverage::UncoveredReason;

use super::outcome;

/// Puts every label that this configuration can count at zero.
pub(super) fn count_from_zero(config: &Config, metrics: &Metrics) {
    metrics.snapshot().count_from_zero(&SnapshotRefusal::words());
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let of_upstream = metrics.upstream(index);
        of_upstream.requests.count_from_zero(&details(upstream, config.fleet.is_configured()));
        of_upstream.origin.count_from_zero(&CredentialRefusal::words());
        of_upstream.mirror.count_from_zero(&GiveUpReason::words());
        of_upstream.fleet.count_from_zero(&EngineError::words());
    }
}

/// The words that `detail` of `Cache-Status` can have at an upstream.
fn details(upstream: &UpstreamSettings, has_fleet: bool) -> Vec<&'static str> {
    let mut words: Vec<&'static str> = Vec::new();
    words.extend(Staleness::SERVED_STALE.iter().filter_map(|staleness| staleness.detail()));
    words.extend([StaleReason::NoCache, StaleReason::Strong].iter().filter_map(|reason| reason.as_str()));
    words.extend(Unreachable::words());
    words.extend(BypassReason::words());
    words.extend(RequestReason::words());
    words.extend(UncoveredReason::words());
    words.extend(NotStored::words());
    if upstream.mirror.enabled {
        words.push(StoredResponse::MIRROR);
        words.extend(GiveUpReason::words());
    }
    if has_fleet {
        words.extend([outcome::FLEET, outcome::FLEET_LOST]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::metrics::FAMILIES;

    fn text(settings: &[&str]) -> String {
        let layers = settings.iter().fold(Layers::new(), |layers, setting| layers.setting(setting));
        let config = Config::new(layers).unwrap();
        let metrics = Metrics::new(config.upstreams.iter().map(|upstream| &*upstream.name));
        count_from_zero(&config, &metrics);
        String::from_utf8(metrics.text().unwrap()).unwrap()
    }

    #[test]
    fn every_detail_is_there_from_the_start() {
        let plain = text(&["upstream.url=http://o"]);
        for word in
            ["own-write", "disconnected", "stale-while-revalidate", "unknown-path", "private", "no-cache"]
        {
            let line = format!("tagalong_request_details_total{{detail=\"{word}\",upstream=\"main\"}} 0");
            assert!(plain.contains(&line), "{line}");
        }
        for absent in ["detail=\"mirror", "detail=\"fleet"] {
            assert!(!plain.contains(absent), "{absent} cannot be counted here");
        }
        let settings = ["upstream.url=https://a.azconfig.io", "upstream.credential.kind=none"];
        let mirrored = text(&[&settings[..], &["upstream.mirror.enabled=true"]].concat());
        assert!(mirrored.contains("detail=\"mirror-bound\"") && mirrored.contains("detail=\"mirror\""));
        let fleet = text(&["upstream.url=http://o", "fleet.url=redis://h", "fleet.key_file=/k"]);
        assert!(fleet.contains("detail=\"fleet-lost\""));
    }

    #[test]
    fn labels_are_few() {
        let lines =
            text(&["upstream.url=http://o"]).lines().filter(|line| line.starts_with("tagalong_")).count();
        assert!(lines < 250, "{lines} series");
        assert!(FAMILIES.len() > 40);
    }
}
