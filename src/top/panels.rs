//! What `tagalong top` shows: panels, each a title with rows of a name and a number.

use std::collections::BTreeMap;

use tagalong::{Status, UpstreamStatus};

/// A title and its rows.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) rows: Vec<(String, String)>,
}

/// So many refusals and keys have a row.
const MOST_ROWS: usize = 10;

/// All panels, those of the upstream first. What is switched off has none.
pub(super) fn panels(status: &Status, upstream: &UpstreamStatus) -> Vec<Panel> {
    let (requests, origin, tokens) = (&upstream.requests, &upstream.origin, &upstream.tokens);
    let mut panels = vec![
        Panel::new("Requests by Cache-Status", shares(&requests.by_cache_status)),
        Panel::new("Origin requests by outcome", shares(&origin.by_outcome)),
    ];
    let now = status.now_unix_seconds;
    let seen = |at: Option<i64>| at.map_or_else(String::new, |at| format!(", {}", ago(now, at)));
    let newest = tokens.newest.iter().map(|it| {
        let number = format!("{}{}", count(it.sequence_number), seen(it.seen_at_unix_seconds));
        (format!("newest {}", it.id), number)
    });
    let required =
        tokens.required.iter().map(|it| (format!("required {}", it.id), count(it.sequence_number)));
    let since = tokens.required_since_unix_seconds.map(|at| row("required since", ago(now, at)));
    let rows = newest.chain(required).chain(since).chain([row("open writes", count(tokens.open_writes))]);
    panels.push(Panel::new("Sync tokens", rows.collect()));
    let details = shares(&requests.by_detail);
    panels.extend((!details.is_empty()).then(|| Panel::new("Details of Cache-Status", details)));
    let pauses = upstream.throttle.iter().map(|it| {
        (format!("{} after a {}", it.held, it.status), format!("{} left", span(it.remaining_seconds + 1.0)))
    });
    panels.extend((!upstream.throttle.is_empty()).then(|| Panel::new("Throttled", pauses.collect())));
    if upstream.endpoints.len() > 1 {
        let rows = upstream.endpoints.iter().map(|it| {
            let mark = if it.is_active { "* " } else { "  " };
            (format!("{mark}{}", it.endpoint), count(it.requests))
        });
        panels.push(Panel::new(
            "Endpoints",
            rows.chain([row("failovers", count(upstream.failovers))]).collect(),
        ));
    }
    panels.extend(upstream.budget.as_ref().map(|budget| {
        Panel::new(
            "Budget",
            vec![
                row("used of this window", percent(budget.used_ratio)),
                row("forecast for its end", percent(budget.forecast_ratio)),
                row("lifetimes stretched by", format!("{:.2}", budget.stretch)),
                row("validations avoided", count(budget.requests_avoided)),
                row("reads held", count(budget.reads_held)),
            ],
        )
    }));
    panels.extend(upstream.mirror.as_ref().map(|mirror| {
        let state = match (&mirror.gave_up, mirror.is_loaded) {
            (Some(reason), _) => reason.clone(),
            (None, true) => "loaded".to_owned(),
            (None, false) => "loading".to_owned(),
        };
        let rows = vec![
            row("state", state),
            row("key-values", count(mirror.items)),
            row("occupied", bytes(mirror.bytes)),
            row("oldest range", span(mirror.oldest_range_seconds as f64)),
        ];
        Panel::new("Mirror", rows.into_iter().chain(named("ranges ", &mirror.validations)).collect())
    }));
    panels.extend(upstream.fleet.as_ref().map(|fleet| {
        let failures = named("failures: ", &fleet.failures).into_iter().filter(|(_, number)| number != "0");
        let live = row("lease", if fleet.is_live { "live" } else { "lost" }.to_owned());
        let rows = named("writes ", &fleet.announcements).into_iter().chain(failures);
        Panel::new("Fleet", [live].into_iter().chain(rows).collect())
    }));
    panels.extend(of_the_process(status));
    panels
}

fn of_the_process(status: &Status) -> Vec<Panel> {
    let (store, connections, now) = (&status.store, &status.connections, status.now_unix_seconds);
    let mut panels = vec![
        Panel::new(
            "Store",
            vec![
                row("keys", count(store.keys)),
                row("occupied", format!("{} of {}", bytes(store.weight_bytes), bytes(store.capacity_bytes))),
                row("evicted keys", count(store.evictions)),
            ],
        ),
        Panel::new(
            "Connections of callers",
            vec![
                row("open", count(connections.open)),
                row("accepted", count(connections.total)),
                row("closed at the limit", count(connections.refused)),
            ],
        ),
    ];
    panels.extend(status.snapshot.as_ref().map(|snapshot| {
        let written =
            snapshot.written_at_unix_seconds.map_or_else(|| "not yet".to_owned(), |at| ago(now, at));
        Panel::new("Snapshot file", vec![row("written", written), row("size", bytes(snapshot.bytes))])
    }));
    panels.extend(status.process.as_ref().map(|process| {
        Panel::new(
            "Process",
            vec![
                row("memory", bytes(process.resident_bytes)),
                row("processor time", span(process.cpu_seconds as f64)),
                row(
                    "open files",
                    format!("{} of {}", count(process.open_files), count(process.open_files_limit)),
                ),
            ],
        )
    }));
    let last = status.refusals.last.iter().take(MOST_ROWS);
    let refusals: Vec<_> =
        last.map(|it| (format!("{} {}", it.status, it.reason), ago(now, it.at_unix_seconds))).collect();
    panels.extend((!refusals.is_empty()).then(|| Panel::new("Last refusals", refusals)));
    let keys = status.hottest_keys.keys.iter().take(MOST_ROWS);
    let keys: Vec<_> = keys.map(|it| (it.key.clone(), percent(it.share))).collect();
    panels.extend((!keys.is_empty()).then(|| Panel::new("Hottest keys (estimates)", keys)));
    panels
}

impl Panel {
    const fn new(title: &'static str, rows: Vec<(String, String)>) -> Self {
        Self { title, rows }
    }
}

fn row(name: &str, number: String) -> (String, String) {
    (name.to_owned(), number)
}

fn named(before: &str, counts: &BTreeMap<String, u64>) -> Vec<(String, String)> {
    counts.iter().map(|(word, number)| (format!("{before}{word}"), count(*number))).collect()
}

/// Those that occurred, the most frequent first, with the part that each is of all.
fn shares(counts: &BTreeMap<String, u64>) -> Vec<(String, String)> {
    let sum: u64 = counts.values().sum();
    let mut some: Vec<_> = counts.iter().filter(|(_, number)| **number > 0).collect();
    some.sort_by(|one, other| other.1.cmp(one.1));
    let share = |number: u64| percent(number as f64 / sum as f64);
    some.into_iter()
        .map(|(word, number)| (word.clone(), format!("{} {:>7}", count(*number), share(*number))))
        .collect()
}

/// With commas between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b',')).into_owned()
}

/// Rounded down: 100 % is all.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1} %", (part * 1000.0).floor() / 10.0)
}

pub(super) fn bytes(number: u64) -> String {
    let (mut scaled, mut units) = (number as f64, ["B", "KiB", "MiB", "GiB"].iter().peekable());
    while let Some(unit) = units.next() {
        if scaled < 1024.0 || units.peek().is_none() {
            let places = usize::from(scaled < 100.0 && *unit != "B");
            return format!("{scaled:.places$} {unit}");
        }
        scaled /= 1024.0;
    }
    String::new()
}

pub(super) fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".to_owned(),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1000.0),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a cast from a float saturates")]
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (1.., ..) => format!("{days} d {} h", hours % 24),
        (_, 1.., _) => format!("{hours} h {} min", minutes % 60),
        (_, _, 1..) if seconds.is_multiple_of(60) => format!("{minutes} min"),
        (_, _, 1..) => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{seconds} s"),
    }
}

fn ago(now: i64, at: i64) -> String {
    format!("{} ago", span((now - at) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!((count(0), count(999), count(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!((percent(0.9999), percent(1.0)), ("99.9 %".into(), "100.0 %".into()));
        assert_eq!(
            (bytes(900), bytes(1_536), bytes(3 << 30)),
            ("900 B".into(), "1.5 KiB".into(), "3.0 GiB".into())
        );
        assert_eq!(
            (span(59.9), span(300.0), span(3_700.0)),
            ("59 s".into(), "5 min".into(), "1 h 1 min".into())
        );
        assert_eq!(
            (latency(None), latency(Some(0.0015)), latency(Some(2.5))),
            ("–".into(), "1.5 ms".into(), "2.50 s".into())
        );
    }
}
