//! The forms of a fault plan: TOML or JSON in a file, JSON over the admin port, words on the command line.
//!
//! ```toml
//! [[faults]]
//! method = ["GET"]          # any method unless given
//! path = "/kv/app*"         # percent-decoded; a final `*` matches any rest; any path unless given
//! skip = 2                  # the first matching requests without the fault
//! count = 10                # at most this many faults
//! probability = 0.5         # for each matching request
//! do = { kind = "throttle", quota = 1000, per = "1h", burst = 20 }
//! ```
//!
//! On the command line the same rule is `throttle quota=1000 per=1h burst=20 method=GET path=/kv/app* skip=2 count=10`.

use std::path::{Path, PathBuf};

use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::kind::{FaultKind, WriteAnswer};

/// Why a fault plan is refused.
#[derive(Debug, thiserror::Error)]
pub enum FaultPlanError {
    /// The file cannot be read.
    #[error("cannot read the fault plan {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The text is not JSON, or not a plan.
    #[error("the fault plan is not understood: {0}; correct the place that this names")]
    Json(#[from] serde_json::Error),
    /// The text is not TOML, or not a plan.
    #[error("the fault plan is not understood: {0}; correct the place that this names")]
    Toml(#[from] Box<toml::de::Error>),
    /// A word of the command line is not `name=value`.
    #[error("'{0}' in a fault is not name=value; write for example 'delay fixed=50ms path=/kv/* count=3'")]
    Word(String),
    /// A well-formed value that is not allowed.
    #[error("fault {position} is refused: {reason}")]
    Rule {
        /// The number of the rule, counted from 1.
        position: usize,
        /// What is allowed.
        reason: String,
    },
}

/// A whole plan in its written form.
#[derive(Debug, Clone, Default)]
pub struct PlanDocument {
    rules: Vec<(RuleDocument, Value)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultsDocument {
    faults: Vec<Value>,
}

/// One rule: which requests, how often, and which fault.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleDocument {
    /// The methods that the rule matches; any method if empty.
    #[serde(default)]
    pub method: Vec<String>,
    /// The percent-decoded path; a final `*` matches any rest.
    #[serde(default)]
    pub path: Option<String>,
    /// How many of the first matching requests get no fault.
    #[serde(default)]
    pub skip: u64,
    /// The maximum number of requests that get the fault.
    #[serde(default)]
    pub count: Option<u64>,
    /// The probability, from 0 to 1, that a matching request gets the fault.
    #[serde(default = "always")]
    pub probability: f64,
    /// What happens.
    #[serde(rename = "do")]
    pub fault: FaultKind,
}

fn always() -> f64 {
    1.0
}

impl PlanDocument {
    /// Reads a plan from JSON: `{"faults": [rule, …]}`.
    ///
    /// # Errors
    /// [`FaultPlanError`], naming the place or the rule.
    pub fn from_json(text: &[u8]) -> Result<Self, FaultPlanError> {
        Self::from_values(serde_json::from_slice::<FaultsDocument>(text)?.faults)
    }

    /// Reads a plan from TOML: `[[faults]]` tables.
    ///
    /// # Errors
    /// [`FaultPlanError`], naming the place or the rule.
    pub fn from_toml(text: &str) -> Result<Self, FaultPlanError> {
        Self::from_values(toml::from_str::<FaultsDocument>(text).map_err(Box::new)?.faults)
    }

    /// Reads a plan from a file: JSON if its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// [`FaultPlanError`], naming the file, the place or the rule.
    pub fn from_file(path: &Path) -> Result<Self, FaultPlanError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| FaultPlanError::Read { path: path.to_owned(), source })?;
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            Self::from_json(text.as_bytes())
        } else {
            Self::from_toml(&text)
        }
    }

    /// Reads rules from the command line, one string for each rule: `KIND name=value …`.
    ///
    /// # Errors
    /// [`FaultPlanError`], naming the word or the rule.
    pub fn from_words<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, FaultPlanError> {
        Self::from_values(rules.into_iter().map(rule_from_words).collect::<Result<_, _>>()?)
    }

    /// Joins two plans: the rules of this one, then those of the other.
    #[must_use]
    pub fn followed_by(mut self, more: Self) -> Self {
        self.rules.extend(more.rules);
        self
    }

    /// The rules, each with its written form.
    pub fn into_rules(self) -> impl Iterator<Item = (RuleDocument, Value)> {
        self.rules.into_iter()
    }

    fn from_values(values: Vec<Value>) -> Result<Self, FaultPlanError> {
        let read = |(index, value): (usize, Value)| {
            let fail = |reason: String| FaultPlanError::Rule { position: index + 1, reason };
            let rule = RuleDocument::deserialize(&value).map_err(|error| fail(error.to_string()))?;
            match nonsense(&rule) {
                Some(reason) => Err(fail(reason.to_owned())),
                None => Ok((rule, value)),
            }
        };
        Ok(Self { rules: values.into_iter().enumerate().map(read).collect::<Result<_, _>>()? })
    }
}

fn rule_from_words(text: &str) -> Result<Value, FaultPlanError> {
    let mut words = text.split_ascii_whitespace();
    let (mut rule, mut fault) = (Map::new(), Map::new());
    fault.insert("kind".to_owned(), words.next().unwrap_or_default().into());
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| FaultPlanError::Word(word.to_owned()))?;
        if name == "method" {
            rule.insert(name.to_owned(), value.split(',').map(Value::from).collect());
            continue;
        }
        let value = value.parse::<serde_json::Number>().map_or_else(|_| Value::from(value), Value::Number);
        let of_rule = matches!(name, "path" | "skip" | "count" | "probability");
        if of_rule { &mut rule } else { &mut fault }.insert(name.to_owned(), value);
    }
    rule.insert("do".to_owned(), Value::Object(fault));
    Ok(Value::Object(rule))
}

/// Checks the values that the types cannot restrict.
fn nonsense(rule: &RuleDocument) -> Option<&'static str> {
    if !(0.0..=1.0).contains(&rule.probability) {
        return Some("probability must be between 0 and 1");
    }
    if rule.method.iter().any(|method| Method::from_bytes(method.as_bytes()).is_err()) {
        return Some("method must be a list of method names, for example [\"GET\", \"PUT\"]");
    }
    match &rule.fault {
        FaultKind::Throttle { per, burst_per, .. } if per.is_zero() || burst_per.is_zero() => {
            Some("per and burst_per must be longer than 0")
        }
        FaultKind::Unavailable { status, .. }
            if !StatusCode::from_u16(*status).is_ok_and(|status| status.is_server_error()) =>
        {
            Some("status must be a 5xx")
        }
        FaultKind::SlowBody { chunk_bytes: 0, .. } => Some("chunk_bytes must be at least 1"),
        FaultKind::Write { answer: WriteAnswer::Late, applied_after: Some(_), .. } => {
            Some("a late answer is sent after the write, so remove applied_after")
        }
        FaultKind::MalformedSyncToken { value } if HeaderValue::from_str(value).is_err() => {
            Some("value must be a valid field value, without control characters")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
