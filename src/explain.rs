//! `tagalong explain`: asks the sidecar on this machine what it would do with a request now, and renders the answer for people.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::{CommandFailure, ConfigArguments};
use crate::probe::Probe;

/// What `tagalong explain` is given.
#[derive(Args)]
pub(crate) struct ExplainOptions {
    /// A URL of the sidecar, such as http://127.0.0.1:8484/kv/a, or a path
    #[arg(value_name = "URL")]
    url: String,
    /// A field of the request; several times for several. Its value is not repeated in the answer
    #[arg(short = 'H', long = "header", value_name = "FIELD: VALUE")]
    fields: Vec<String>,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// The name of the upstream, where listener, path and host do not lead to it
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// The request would have a body
    #[arg(long)]
    with_body: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    /// Configuration file (TOML) of the sidecar, which names its admin port and token
    #[arg(long, value_name = "FILE", env = "TAGALONG_CONFIG")]
    config: Option<PathBuf>,
    /// Address of the admin port; several times for several
    #[arg(long, value_name = "IP:PORT")]
    admin_listen: Vec<String>,
    /// Any key of the configuration, such as admin.token_file=/run/token; several times for several
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
}

/// What the sidecar says, as the options want it.
pub(crate) fn run(options: ExplainOptions) -> Result<String, CommandFailure> {
    let ExplainOptions { url, fields, method, upstream, with_body, json, config, admin_listen, assignments } =
        options;
    let fields = fields.iter().map(|field| name_and_value(field)).collect::<Result<Vec<_>, _>>()?;
    let question = json!({
        "url": url, "method": method, "fields": fields, "upstream": upstream, "has_body": with_body,
    });
    let config = ConfigArguments::of_admin_port(config, admin_listen, assignments).unvalidated()?;
    let answer = Probe::authorized(&config)?
        .question("/admin/explain", &question.to_string())
        .map_err(|reason| CommandFailure::Failed(detail_of(&reason)))?;
    if json {
        return Ok(answer);
    }
    let explanation: Value = serde_json::from_str(&answer).map_err(|error| {
        CommandFailure::Failed(format!("the answer of the admin port is not understood: {error}"))
    })?;
    Ok(rendered(&explanation))
}

fn name_and_value(field: &str) -> Result<(&str, &str), CommandFailure> {
    match field.split_once(':') {
        Some((name, value)) => Ok((name.trim(), value.trim())),
        // What stands there may be a secret.
        None => {
            Err(CommandFailure::NotTried("-H takes a name and a value: -H 'Accept: text/html'".to_owned()))
        }
    }
}

/// What a refusal says to its reader.
fn detail_of(reason: &str) -> String {
    let problem = reason.split_once(": ").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
    problem.as_ref().and_then(|problem| problem["detail"].as_str()).unwrap_or(reason).to_owned()
}

/// The explanation for people: what happens, the facts one a line, and what to do next.
fn rendered(explanation: &Value) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &'static str, text: Option<String>| {
        lines.extend(text.filter(|text| !text.is_empty()).map(|text| (name, text)));
    };
    let request = &explanation["request"];
    line("request", Some(format!("{} {}", text(&request["method"]), text(&request["target"]))));
    line("route", Some(route(request)));
    line("key", request["key"].as_str().map(|key| key.replace('\0', " ")));
    line("answer", Some(answer(&explanation["status"], &explanation["cache_status"])));
    line("stored", present(&explanation["store"]).map(stored));
    if let Some(coverage) = present(&explanation["coverage"]) {
        line("coverage", Some(text(&coverage["verdict"])));
        line("  it has", Some(numbers(&coverage["stored"])));
        line("  required", Some(required(coverage)));
        line("  last change", present(&coverage["last_change"]).map(last_change));
        line(
            "  open writes",
            coverage["open_writes"].as_u64().filter(|count| *count > 0).map(|it| it.to_string()),
        );
    }
    if let Some(forward) = present(&explanation["forward"]) {
        line("first", forward["first"].as_str().map(ToOwned::to_owned));
        line("goes upstream", Some(forwarded(forward)));
        line("flight", Some(flight(forward)));
    }
    if let Some(other) = present(&explanation["if_no_answer"]) {
        line("if no answer", Some(answer(&other["status"], &other["cache_status"])));
        line("", other["problem"].as_str().map(ToOwned::to_owned));
    }
    upstream_lines(&explanation["upstream"], &mut line);
    line("next", explanation["next"].as_str().map(ToOwned::to_owned));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let facts: String = lines.iter().map(|(name, text)| format!("  {name:width$}  {text}\n")).collect();
    format!("{}\n\n{facts}", text(&explanation["summary"]))
}

fn present(value: &Value) -> Option<&Value> {
    (!value.is_null()).then_some(value)
}

/// A value as it is read: a text without quotes, and nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

fn route(request: &Value) -> String {
    let part = |name: &str, value: &Value| {
        present(value).map(|value| format!(", {name} {}", text(value))).unwrap_or_default()
    };
    format!(
        "listener {} -> upstream {}{}{}, consistency {}",
        text(&request["listener"]),
        text(&request["upstream"]),
        part("path prefix", &request["path_prefix"]),
        part("rules of", &request["route"]),
        text(&request["consistency"])
    )
}

fn answer(status: &Value, cache_status: &Value) -> String {
    let cache_status = text(cache_status);
    match present(status) {
        Some(status) => format!("{status}, Cache-Status: {cache_status}"),
        None => format!("as the origin says, Cache-Status: {cache_status}"),
    }
}

fn stored(store: &Value) -> String {
    let variants = match store["variants"].as_u64() {
        Some(1) => "1 variant".to_owned(),
        count => format!("{} variants", count.unwrap_or_default()),
    };
    let Some(selected) = present(&store["selected"]) else {
        let of_these = if store["variants"] == 0 { "" } else { ", none of them for this request" };
        return format!("{variants}{of_these}");
    };
    let lifetime = present(&selected["stretched_lifetime_seconds"]).map_or_else(
        || format!("{} s", selected["lifetime_seconds"]),
        |stretched| format!("{stretched} s, stretched from {} s", selected["lifetime_seconds"]),
    );
    let tag = present(&selected["entity_tag"]).map(|tag| format!(", ETag {}", text(tag))).unwrap_or_default();
    let marks =
        [("is_part", "a part"), ("is_mirrored", "made by the mirror"), ("is_restored", "from a snapshot")];
    let marks: String = marks
        .iter()
        .filter(|(name, _)| is_true(&selected[*name]))
        .map(|(_, text)| format!(", {text}"))
        .collect();
    format!(
        "{variants}: {}, age {} s of {lifetime}{tag}, {} bytes{marks}",
        selected["status"], selected["age_seconds"], selected["body_bytes"]
    )
}

fn numbers(coverage: &Value) -> String {
    let number = |name: &str| match coverage[name].as_u64() {
        // What no response can have: too many token ids.
        Some(u64::MAX) => "never".to_owned(),
        number => number.unwrap_or_default().to_string(),
    };
    format!(
        "tokens {}, sent {}, writes {}, revelation {}",
        number("newest_version"),
        number("sent_order"),
        number("closed_position"),
        number("revelation")
    )
}

fn required(coverage: &Value) -> String {
    let presented = match coverage["presented_version"].as_u64() {
        Some(0) => String::new(),
        Some(version) => format!("; the caller's Sync-Token demands tokens {version}"),
        None => "; what the caller's Sync-Token demands is not known".to_owned(),
    };
    let of_writes = "of the writes only those that may touch it count";
    format!("{}; {of_writes}{presented}", numbers(&coverage["required"]))
}

fn last_change(change: &Value) -> String {
    let when = if is_true(&change["is_after_stored"]) { "after" } else { "before" };
    format!(
        "{} was shown as {} {} s ago, {when} the stored response was asked for",
        text(&change["target"]),
        change["status"],
        change["ago_seconds"]
    )
}

fn forwarded(forward: &Value) -> String {
    let conditions = forward["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let conditions: String =
        conditions.iter().map(|line| format!(", {}: {}", text(&line[0]), text(&line[1]))).collect();
    format!(
        "{} {} to {}{conditions}",
        text(&forward["method"]),
        text(&forward["target"]),
        text(&forward["endpoint"])
    )
}

fn flight(forward: &Value) -> String {
    let mut words = Vec::new();
    if is_true(&forward["asks_fleet_first"]) {
        words.push("looks for a record of the fleet first".to_owned());
    }
    if let Some(reason) = forward["hit_for_miss"].as_str() {
        words.push(format!("hit-for-miss: alone, because the last answer could not be stored ({reason})"));
    } else if is_true(&forward["is_alone"]) {
        words.push("alone".to_owned());
    }
    words.extend(forward["joins"].as_str().map(ToOwned::to_owned));
    words.join("; ")
}

fn upstream_lines(upstream: &Value, line: &mut impl FnMut(&'static str, Option<String>)) {
    let replica = if is_true(&upstream["is_replica"]) { " (a replica)" } else { "" };
    line("endpoint", Some(format!("{}{replica}", text(&upstream["endpoint"]))));
    let paused: Vec<String> = ["reads", "writes", "bodies"]
        .iter()
        .filter_map(|what| Some(format!("{what} for {} s", present(&upstream["paused_seconds"][*what])?)))
        .collect();
    line("throttled", Some(paused.join(", ")));
    line("last failure", present(&upstream["last_failure"]).map(failure));
    line("budget", present(&upstream["budget"]).map(budget));
    line("mirror", present(&upstream["mirror"]).map(mirror));
    line("fleet", present(&upstream["fleet"]).map(fleet));
}

fn failure(failure: &Value) -> String {
    format!("{} {} s ago: {}", text(&failure["word"]), failure["ago_seconds"], text(&failure["detail"]))
}

fn budget(budget: &Value) -> String {
    let number = |name: &str| budget[name].as_f64().unwrap_or_default();
    format!(
        "{:.0} of {:.0} requests used, {} s left, lifetimes × {:.2}",
        number("used"),
        number("quota"),
        budget["window_left_seconds"],
        number("stretch")
    )
}

fn mirror(mirror: &Value) -> String {
    match (mirror["gave_up"].as_str(), present(&mirror["ranges"])) {
        (Some(reason), _) => format!("gave up: {reason}"),
        (None, Some(ranges)) => format!(
            "{} of {} ranges of collection {}, validated {} s ago at most, counted for {} s",
            ranges["count"],
            ranges["of"],
            ranges["collection"],
            ranges["oldest_seconds"],
            ranges["lifetime_seconds"]
        ),
        (None, None) if is_true(&mirror["is_loaded"]) => "does not hold what is asked for".to_owned(),
        (None, None) => "is loading".to_owned(),
    }
}

fn fleet(fleet: &Value) -> String {
    let lease = if is_true(&fleet["has_live_lease"]) {
        "live lease"
    } else {
        "no live lease: what others tell does not count"
    };
    let records = if is_true(&fleet["second_level"]) { ", records of others are used" } else { "" };
    format!("{lease}{records}")
}
