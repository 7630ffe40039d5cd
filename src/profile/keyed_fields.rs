//! What of a request's fields is part of the cache key although no `Vary` may name it. [`crate::headers::request_fields`] has the rule.
//!
//! An origin that answers by a field, or repeats it in its answer, and forgets `Vary`, would let one caller choose what all others are
//! shown (cache poisoning). So each distinct set of fields whose meaning is not known has responses of its own.

use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::headers::request_fields::{Treatment, treatment};
use crate::stored_response::{CacheKey, push_hexadecimal};

/// What the operator said about request fields of one upstream.
#[derive(Clone, Debug, Default)]
pub struct FieldRules {
    /// Sent on although `guarded` or the profile would not (`forwarded_request_fields`).
    pub forwarded: Vec<HeaderName>,
    /// No part of the key (`ignored_fields`).
    pub ignored: Vec<HeaderName>,
    /// Identities whose answers are shared among requests with the same value (`partition_fields`).
    pub partition: Vec<HeaderName>,
}

/// What of a request's fields its cache key must show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyedFields {
    /// A digest of names and values; `None` if there is no such field.
    pub digest: Option<String>,
    /// Whether a field names who asks, as `Cookie` does: the request is answered with nothing that is shared.
    pub names_caller: bool,
}

impl KeyedFields {
    /// The same for a target that goes upstream in this spelling, not in the canonical one.
    #[must_use]
    pub fn with_target(&self, target: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(target);
        hash.update([0]);
        hash.update(self.digest.as_deref().unwrap_or_default());
        Self { digest: Some(hexadecimal(hash)), names_caller: self.names_caller }
    }

    /// The cache key of a request with these fields.
    #[must_use]
    pub fn key(&self, upstream: &str, partition: &str, canonical_target: &str) -> CacheKey {
        match &self.digest {
            Some(digest) => CacheKey::with_fields(upstream, partition, digest, canonical_target),
            None => CacheKey::new(upstream, partition, canonical_target),
        }
    }
}

impl FieldRules {
    /// What the key must show of these fields.
    #[must_use]
    pub fn keyed(&self, fields: &HeaderMap) -> KeyedFields {
        let mut lines: Vec<(&HeaderName, &HeaderValue)> = Vec::new();
        let mut names_caller = false;
        for (name, value) in fields {
            match self.treatment(name) {
                Treatment::Keyed => lines.push((name, value)),
                Treatment::Identity => names_caller = true,
                Treatment::Understood | Treatment::Harmless | Treatment::Steering | Treatment::Forwarding => {
                }
            }
        }
        KeyedFields { digest: digest(lines), names_caller }
    }

    /// The names of the fields that are part of the key.
    pub fn keyed_names<'a>(
        &'a self,
        fields: &'a HeaderMap,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        fields.iter().filter(|(name, _)| self.treatment(name) == Treatment::Keyed)
    }

    fn treatment(&self, name: &HeaderName) -> Treatment {
        if self.ignored.contains(name) {
            return Treatment::Harmless;
        }
        let treatment = treatment(name);
        // What steers and is sent on must not steer what others are shown.
        let is_sent_on =
            matches!(treatment, Treatment::Steering | Treatment::Forwarding) && self.forwarded.contains(name);
        if is_sent_on || self.partition.contains(name) { Treatment::Keyed } else { treatment }
    }
}

/// A digest of field lines. Lines of one name keep their order, which counts (RFC 9110 §5.3); that of the names does not. It is stable
/// over processes, and 128 bits: no caller can find two sets of fields with the same digest.
fn digest(mut lines: Vec<(&HeaderName, &HeaderValue)>) -> Option<String> {
    if lines.is_empty() {
        return None;
    }
    lines.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
    let mut hash = Sha256::new();
    for (name, value) in lines {
        hash.update(name.as_str());
        // Neither a name nor a value can have these bytes.
        hash.update([0]);
        hash.update(value);
        hash.update([0]);
    }
    Some(hexadecimal(hash))
}

fn hexadecimal(hash: Sha256) -> String {
    let mut text = String::with_capacity(32);
    push_hexadecimal(&mut text, &hash.finalize()[..16]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(rules: &FieldRules, lines: &[(&str, &str)]) -> KeyedFields {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        rules.keyed(&fields)
    }

    fn names(list: &[&'static str]) -> Vec<HeaderName> {
        list.iter().map(|name| HeaderName::from_static(name)).collect()
    }

    #[test]
    fn what_may_change_an_answer_is_part_of_the_key() {
        let rules = FieldRules::default();
        let plain = keyed(
            &rules,
            &[("host", "a"), ("user-agent", "x"), ("traceparent", "1"), ("cache-control", "no-cache")],
        );
        assert_eq!(plain, KeyedFields::default());
        let one = keyed(&rules, &[("x-feature", "1")]);
        assert!(one.digest.is_some() && !one.names_caller);
        for others in [
            &[("x-feature", "2")][..],
            &[("x-featur", "e1")],
            &[("x-feature", "1"), ("x-feature", "")],
            &[("x-feature", "1"), ("x-other", "1")],
            &[("x_feature", "1")],
        ] {
            assert_ne!(keyed(&rules, others).digest, one.digest, "{others:?}");
        }
        let two = [("accept", "a"), ("x-feature", "1")];
        assert_eq!(keyed(&rules, &two), keyed(&rules, &[two[1], two[0], ("x-request-id", "9")]));
        let lines = [("x-a", "1"), ("x-a", "2")];
        assert_ne!(keyed(&rules, &lines), keyed(&rules, &[lines[1], lines[0]]));
    }

    #[test]
    fn identities_are_told_from_other_fields() {
        let rules = FieldRules { partition: names(&["x-api-key"]), ..FieldRules::default() };
        assert!(keyed(&rules, &[("x-auth-token", "1")]).names_caller);
        assert!(keyed(&rules, &[("cookie", "1")]).names_caller);
        let partition = keyed(&rules, &[("x-api-key", "1")]);
        assert!(partition.digest.is_some() && !partition.names_caller);
        assert_ne!(keyed(&rules, &[("x-api-key", "2")]).digest, partition.digest);
    }

    #[test]
    fn the_operator_decides_about_fields() {
        let rules = FieldRules {
            ignored: names(&["x-feature", "x-auth-token"]),
            forwarded: names(&["x-forwarded-host"]),
            partition: Vec::new(),
        };
        assert_eq!(keyed(&rules, &[("x-feature", "1"), ("x-auth-token", "2")]), KeyedFields::default());
        assert!(keyed(&rules, &[("x-forwarded-host", "a")]).digest.is_some());
        assert_eq!(
            keyed(&rules, &[("x-forwarded-proto", "https")]),
            KeyedFields::default(),
            "is not sent on"
        );
    }
}
