//! `/admin/status` beside `/metrics`, of one process after real traffic: the numbers are the same.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::Value;
use tagalong::{Clock, EmulatorOptions, EmulatorSettings, RunningEmulator};
use tokio::task::JoinHandle;

use super::process::{Process, all, connect, output};

/// Series by their names with labels, as `/metrics` writes them.
type Series = BTreeMap<String, f64>;

/// What `/admin/status` leaves out: the buckets of histograms, of which it has estimates.
fn is_left_out(series: &str) -> bool {
    series.contains("_bucket{")
}

/// The parts of the status of one upstream, each with the name of its metric and of the label that its words are in.
const OF_UPSTREAM: [(&str, &str, &str); 34] = [
    ("requests.by_cache_status", "tagalong_requests_total", "cache_status"),
    ("requests.by_detail", "tagalong_request_details_total", "detail"),
    ("requests.stored", "tagalong_responses_stored_total", ""),
    ("requests.collapsed", "tagalong_requests_collapsed_total", ""),
    ("requests.refreshed_ahead", "tagalong_refreshes_ahead_total", ""),
    ("requests.body_bytes_saved", "tagalong_body_bytes_saved_total", ""),
    ("origin.by_outcome", "tagalong_origin_requests_total", "outcome"),
    ("origin.latency.count", "tagalong_origin_latency_seconds_count", ""),
    ("origin.latency.sum_seconds", "tagalong_origin_latency_seconds_sum", ""),
    ("origin.body_bytes", "tagalong_origin_body_bytes_total", ""),
    ("origin.credential_refusals", "tagalong_credential_refusals_total", "reason"),
    ("origin.clock_skew_seconds", "tagalong_origin_clock_skew_seconds", ""),
    ("failovers", "tagalong_failovers_total", ""),
    ("budget.used_ratio", "tagalong_budget_used_ratio", ""),
    ("budget.forecast_ratio", "tagalong_budget_forecast_ratio", ""),
    ("budget.stretch", "tagalong_budget_stretch", ""),
    ("budget.requests_avoided", "tagalong_budget_requests_avoided_total", ""),
    ("budget.reads_held", "tagalong_budget_reads_held_total", ""),
    ("mirror.ranges", "tagalong_mirror_ranges", ""),
    ("mirror.items", "tagalong_mirror_items", ""),
    ("mirror.bytes", "tagalong_mirror_bytes", ""),
    ("mirror.validations", "tagalong_mirror_validations_total", "outcome"),
    ("mirror.audits", "tagalong_mirror_audits_total", "outcome"),
    ("mirror.oldest_range_seconds", "tagalong_mirror_oldest_range_seconds", ""),
    ("mirror.load_seconds", "tagalong_mirror_load_seconds", ""),
    ("mirror.give_ups", "tagalong_mirror_give_ups_total", "reason"),
    ("fleet.is_live", "tagalong_fleet_live", ""),
    ("fleet.announcements", "tagalong_fleet_announcements_total", "outcome"),
    ("fleet.announce_latency.count", "tagalong_fleet_announce_seconds_count", ""),
    ("fleet.announce_latency.sum_seconds", "tagalong_fleet_announce_seconds_sum", ""),
    ("fleet.entries", "tagalong_fleet_entries_total", "what"),
    ("fleet.epochs", "tagalong_fleet_epochs_total", ""),
    ("fleet.failures", "tagalong_fleet_failures_total", "reason"),
    ("fleet.records", "tagalong_fleet_records_total", "outcome"),
];

/// The same of the whole process.
const OF_PROCESS: [(&str, &str, &str); 18] = [
    ("ready", "tagalong_ready", ""),
    ("store.keys", "tagalong_store_keys", ""),
    ("store.weight_bytes", "tagalong_store_weight_bytes", ""),
    ("store.capacity_bytes", "tagalong_store_capacity_bytes", ""),
    ("store.evictions", "tagalong_store_evictions_total", ""),
    ("reload.last_successful", "tagalong_config_last_reload_successful", ""),
    ("reload.applied_at_unix_seconds", "tagalong_config_last_reload_timestamp_seconds", ""),
    ("reload.by_outcome", "tagalong_reloads_total", "outcome"),
    ("snapshot.writes", "tagalong_snapshot_writes_total", "outcome"),
    ("snapshot.bytes", "tagalong_snapshot_bytes", ""),
    ("snapshot.written_at_unix_seconds", "tagalong_snapshot_written_timestamp_seconds", ""),
    ("snapshot.restored", "tagalong_snapshot_restored", "what"),
    ("snapshot.refusals", "tagalong_snapshot_refusals_total", "reason"),
    ("connections.open", "tagalong_connections_open", ""),
    ("connections.total", "tagalong_connections_total", ""),
    ("connections.refused", "tagalong_connections_refused_total", ""),
    ("connections.errors", "tagalong_connection_errors_total", "reason"),
    ("refusals.by_reason", "tagalong_refusals_total", "reason"),
];

fn number(value: &Value) -> f64 {
    match value {
        Value::Bool(it) => f64::from(u8::from(*it)),
        // What is not known is 0 in a metric.
        Value::Null => 0.0,
        _ => value.as_f64().unwrap_or_else(|| panic!("a number: {value}")),
    }
}

/// The series that these parts of the status stand for.
fn series_of(part: &Value, upstream: Option<&str>, names: &[(&str, &str, &str)]) -> Series {
    let mut series = Series::new();
    for (path, metric, label) in names {
        let found = part.pointer(&format!("/{}", path.replace('.', "/"))).unwrap_or(&Value::Null);
        let mut put = |word: Option<&str>, value: &Value| {
            let word = word.map(|word| format!("{label}=\"{word}\""));
            let upstream = upstream.map(|name| format!("upstream=\"{name}\""));
            let labels: Vec<String> = word.into_iter().chain(upstream).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            series.insert(format!("{metric}{labels}"), number(value));
        };
        match found {
            Value::Object(words) => words.iter().for_each(|(word, value)| put(Some(word), value)),
            // Nothing of it has been counted, or its part is switched off.
            Value::Null if !label.is_empty() => {}
            value => put(None, value),
        }
    }
    series
}

fn series_of_status(status: &Value) -> Series {
    let mut series = series_of(status, None, &OF_PROCESS);
    for upstream in status["upstreams"].as_array().unwrap() {
        let name = upstream["name"].as_str().unwrap();
        series.extend(series_of(upstream, Some(name), &OF_UPSTREAM));
        for endpoint in upstream["endpoints"].as_array().unwrap() {
            let labels =
                format!("{{endpoint=\"{}\",upstream=\"{name}\"}}", endpoint["endpoint"].as_str().unwrap());
            series.insert(format!("tagalong_endpoint_requests_total{labels}"), number(&endpoint["requests"]));
            series.insert(format!("tagalong_endpoint_active{labels}"), number(&endpoint["is_active"]));
        }
    }
    series.insert(format!("tagalong_build_info{{version={}}}", status["version"]), 1.0);
    series
}

fn series_of_metrics(text: &str) -> Series {
    let lines = text.lines().filter(|line| line.starts_with("tagalong_"));
    let series = lines.map(|line| line.rsplit_once(' ').unwrap());
    let series = series.map(|(series, value)| (series.to_owned(), value.parse().unwrap()));
    series.filter(|(series, _)| !is_left_out(series)).collect()
}

/// Whether they are the same number. The reader of JSON may miss the last bit of one with many digits.
fn are_same(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-12 * one.abs()
}

/// What differs. Words of parts that are switched off stand in `/metrics` alone, with 0.
fn differences(status: &Series, metrics: &Series) -> Vec<String> {
    let in_metrics =
        metrics.iter().filter(|(name, value)| !are_same(**value, status.get(*name).copied().unwrap_or(0.0)));
    let mut differences: Vec<String> =
        in_metrics.map(|(name, value)| format!("{name} {value}, not {:?}", status.get(name))).collect();
    differences.extend(status.keys().filter(|name| !metrics.contains_key(*name)).cloned());
    differences
}

fn ask(address: SocketAddr, method: &str, target: &str, fields: &str, body: &str) -> String {
    let mut stream = connect(address);
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    all(stream)
}

fn body(answer: &str) -> &str {
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1
}

fn status(process: &Process) -> Value {
    serde_json::from_str(body(&ask(process.operator, "GET", "/admin/status", "", ""))).unwrap()
}

async fn emulator() -> (SocketAddr, JoinHandle<()>) {
    let options = EmulatorOptions {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        admin_listen: Some("127.0.0.1:0".parse().unwrap()),
        settings: EmulatorSettings::default(),
        ..EmulatorOptions::default()
    };
    let running = RunningEmulator::start(&options, Clock::System).await.unwrap();
    let address = running.addresses()[0];
    let serving = tokio::spawn(async move {
        let _ended = running.until(std::future::pending()).await;
    });
    (address, serving)
}

fn target(key: &str) -> String {
    format!("/kv/{key}?api-version=2023-11-01")
}

/// Hits, misses, writes, validations, what is refused, and a connection that breaks.
fn make_traffic(process: &Process) {
    let media_type = "Content-Type: application/vnd.microsoft.appconfig.kv+json\r\n";
    for key in ["a", "b", "c"] {
        let put = ask(process.callers, "PUT", &target(key), media_type, r#"{"value":"x"}"#);
        assert!(put.starts_with("HTTP/1.1 200 "), "{put}");
        for _ in 0..5 {
            assert!(ask(process.callers, "GET", &target(key), "", "").starts_with("HTTP/1.1 200 "));
        }
    }
    assert!(ask(process.callers, "GET", &target("absent"), "", "").starts_with("HTTP/1.1 404 "));
    assert!(ask(process.callers, "GET", &target("a"), "Cache-Control: no-cache\r\n", "").contains(" 200 "));
    assert!(ask(process.callers, "GET", "/kv/a", "Origin: http://attacker.test\r\n", "").contains(" 403 "));
    assert!(ask(process.callers, "GET", "/kv/a", "Sec-Fetch-Site: cross-site\r\n", "").contains(" 403 "));
    let mut broken = connect(process.callers);
    broken.write_all(b"NO HTTP\r\n\r\n").unwrap();
    let _answer = all(broken);
}

/// Compares until nothing happens in between.
fn assert_the_same_numbers(process: &Process) -> Value {
    let mut last = Vec::new();
    for _ in 0..50 {
        let before = status(process);
        let metrics = series_of_metrics(body(&ask(process.operator, "GET", "/metrics", "", "")));
        let after = status(process);
        last = differences(&series_of_status(&before), &metrics);
        if last.is_empty() && series_of_status(&before) == series_of_status(&after) {
            return after;
        }
    }
    panic!("the numbers differ: {last:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_numbers_are_those_of_the_metrics() {
    let (origin, emulator) = emulator().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("keys")).unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (snapshot, key) = (at("snapshot"), at("keys/key"));
    let profile = ["--profile", "app-configuration", "--credential", "none"];
    let more: [&[&str]; 3] = [
        &["--snapshot-file", &snapshot, "--snapshot-key-file", &key, "--set", "snapshot.interval=1s"],
        &["--set", "upstream.budget.requests=6000"],
        &["--mirror", "--set", "upstream.mirror.interval=1h"],
    ];
    for more in more {
        let process = Process::start(origin, &[&profile, more].concat());
        make_traffic(&process);
        let status = assert_the_same_numbers(&process);
        let upstream = &status["upstreams"][0];
        let requests = &upstream["requests"];
        let words = requests["by_cache_status"].as_object().unwrap();
        let total: u64 = words.values().map(|it| it.as_u64().unwrap()).sum();
        assert_eq!(requests["total"].as_u64(), Some(total));
        assert!(requests["hits"].as_u64() >= Some(12), "{requests}");
        assert_eq!(requests["hits"], words["hit"]);
        let (ratio, hits) = (number(&requests["hit_ratio"]), number(&requests["hits"]));
        assert!((ratio - hits / total as f64).abs() < 1e-9);
        assert_eq!(requests["recent"]["total"], requests["total"], "it runs for less than five minutes");
        let refusals = status["refusals"]["last"].as_array().unwrap();
        assert_eq!(refusals.len(), 2, "{refusals:?}");
        assert_eq!((&refusals[0]["status"], &refusals[0]["upstream"]), (&403.into(), &"main".into()));
        assert!(upstream["tokens"]["newest"][0]["sequence_number"].as_u64() >= Some(3), "{upstream}");
        assert_eq!(upstream["active_endpoint"], origin.to_string());
        assert_eq!(upstream["profile"], "app-configuration");
        assert_eq!(status["snapshot"].is_null(), !more.contains(&"--snapshot-file"));
        assert_eq!(upstream["budget"].is_null(), !more.concat().contains("budget"));
        assert_eq!(upstream["mirror"].is_null(), !more.contains(&"--mirror"));
        assert_eq!(status["hottest_keys"]["are_shown"], false);
        let text = status.to_string();
        assert!(!text.contains("api-version") && !text.contains("attacker"), "{text}");
    }
    emulator.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_shows_it_once_as_text_and_as_json() {
    let (origin, emulator) = emulator().await;
    let process =
        Process::start(origin, &["--profile", "app-configuration", "--set", "admin.show_keys=true"]);
    make_traffic(&process);
    (0..300).for_each(|_| drop(ask(process.callers, "GET", &target("a"), "", "")));
    let operator = process.operator.to_string();
    let once = output(&["top", "--once", "--admin-listen", &operator]);
    let text = String::from_utf8(once.stdout).unwrap();
    assert!(once.status.success(), "{}", String::from_utf8_lossy(&once.stderr));
    for part in ["upstream main", "Requests by Cache-Status", "hit", "Sync tokens", "/kv/a?"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let json = output(&["top", "--json", "--admin-listen", &operator]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let requests = |status: &Value| status["upstreams"][0]["requests"]["by_cache_status"].clone();
    assert_eq!(requests(&json), requests(&status(&process)));
    let no_terminal = output(&["top", "--admin-listen", &operator]);
    let message = String::from_utf8(no_terminal.stderr).unwrap();
    assert_eq!((no_terminal.status.code(), message.contains("--once")), (Some(2), true), "{message}");
    process.signal("-TERM");
    let _log = process.ended();
    let nobody = output(&["top", "--admin-listen", &operator]);
    let message = String::from_utf8(nobody.stderr).unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(message.contains("no sidecar answers on its admin port"), "{message}");
    emulator.abort();
}
