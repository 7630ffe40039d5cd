//! The access keys of local callers, in a file with one line for each key. A line is written like the connection string
//! that the caller gets:
//!
//! ```text
//! # Everything after `Id` and `Secret` is optional.
//! Id=app-a;Secret=MTIzNDU2Nzg5MDEyMzQ1Ng==
//! Id=dashboard;Secret=…;Access=read-only
//! Id=app-b;Secret=…;Prefix=app-b/;Prefix=shared/
//! ```
//!
//! `Access` is `read-write` (default) or `read-only`. `Prefix`, once or several times, restricts what the key may
//! touch: the beginnings of key names for App Configuration, paths for other APIs. An `Endpoint` is allowed and
//! ignored.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use super::permissions::{READING, refuse_steering};
use crate::credentials::connection_string::{ConnectionString, ConnectionStringError};
use crate::error::{RefusalReason, Refused};
use crate::headers::access_key::AccessKey;
use crate::profile::Profile;

/// The permissions of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPermissions {
    read_only: bool,
    /// Empty means everything.
    prefixes: Vec<String>,
}

impl KeyPermissions {
    /// Permits a request or says why not. `target` is as it goes upstream.
    pub fn check(
        &self,
        method: &Method,
        target: &PathAndQuery,
        fields: &HeaderMap,
        profile: &dyn Profile,
    ) -> Result<(), Refused> {
        if self.read_only || !self.prefixes.is_empty() {
            refuse_steering(fields)?;
        }
        let forbidden = |detail: &'static str| Err(Refused::new(RefusalReason::Forbidden, detail));
        if self.read_only && !READING.contains(method) {
            return forbidden("This access key may only read (Access=read-only). Use one that may write");
        }
        if !self.prefixes.is_empty()
            && !self.prefixes.iter().any(|prefix| profile.lies_within(target, prefix))
        {
            return forbidden(
                "This access key may only touch what begins with its Prefix. Narrow the key or filter, or use another \
                 access key",
            );
        }
        Ok(())
    }
}

/// One key of the file.
#[derive(Clone, Debug)]
pub struct LocalKey {
    /// Id and secret.
    pub key: AccessKey,
    /// Its permissions.
    pub access: Arc<KeyPermissions>,
}

/// All keys of the file.
#[derive(Clone, Debug)]
pub struct LocalKeys(Vec<LocalKey>);

/// Why a file has no usable keys. It never contains a part of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalKeysError {
    /// The file has no key.
    #[error("it holds no key; write one line a caller: Id=NAME;Secret=BASE64")]
    Empty,
    /// One line is not a key.
    #[error(
        "line {number}: {problem}; write Id=NAME;Secret=BASE64, with a secret of `openssl rand -base64 32`"
    )]
    Line {
        /// Which line, counted from one.
        number: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// One line has an unknown part.
    #[error(
        "line {number}: only Id, Secret, Endpoint, Prefix and Access=read-only or Access=read-write have a meaning; correct it"
    )]
    Word {
        /// Which line, counted from one.
        number: usize,
    },
    /// Two lines have the same id.
    #[error("line {number}: its Id stands in an earlier line too; give each caller an id of its own")]
    Twice {
        /// Which line, counted from one.
        number: usize,
    },
}

impl LocalKeys {
    /// [`LocalKeysError`] names the line. One malformed line makes the file unusable: it may have been meant as a
    /// restriction.
    pub fn parse(text: &str) -> Result<Self, LocalKeysError> {
        let mut keys: Vec<LocalKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = ConnectionString::parse(line)
                .map_err(|error| LocalKeysError::Line { number, problem: problem(&error) })?;
            if keys.iter().any(|known| known.key.id() == parsed.key.id()) {
                return Err(LocalKeysError::Twice { number });
            }
            let access = access(line).ok_or(LocalKeysError::Word { number })?;
            keys.push(LocalKey { key: parsed.key, access: Arc::new(access) });
        }
        if keys.is_empty() { Err(LocalKeysError::Empty) } else { Ok(Self(keys)) }
    }

    /// The key with that id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&LocalKey> {
        self.0.iter().find(|known| known.key.id() == id)
    }
}

/// What is wrong with a line, in words for who writes the file: it holds no connection string.
fn problem(error: &ConnectionStringError) -> &'static str {
    match error {
        ConnectionStringError::Missing("Id") => "it has no Id",
        ConnectionStringError::Missing(_) => "it has no Secret",
        ConnectionStringError::Twice(_) => "it names Id, Secret or Endpoint twice",
        ConnectionStringError::Elsewhere { .. } => "its Endpoint is another one",
        ConnectionStringError::Key(_) => "its Id is not visible ASCII, or its Secret is not base64",
    }
}

/// The permissions that a line grants. `None` if it has an unknown part: a misspelt restriction must not count as none.
fn access(line: &str) -> Option<KeyPermissions> {
    let mut access = KeyPermissions::default();
    for part in line.split(';').filter(|part| !part.trim().is_empty()) {
        let (name, value) = part.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("Access") {
            access.read_only = match value {
                "read-only" => true,
                "read-write" => false,
                _ => return None,
            };
        } else if name.eq_ignore_ascii_case("Prefix") {
            if value.is_empty() {
                return None;
            }
            access.prefixes.push(value.to_owned());
        } else if !["Endpoint", "Id", "Secret"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return None;
        }
    }
    Some(access)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::caching::Sharing;
    use crate::profile::app_configuration::AppConfiguration;
    use crate::profile::generic::Generic;
    use crate::profile::keyed_fields::FieldRules;

    #[test]
    fn reads_keys_and_what_they_may() {
        let keys = LocalKeys::parse(
            "# callers\n\nEndpoint=http://127.0.0.1:8484;Id=a;Secret=c2VjcmV0\n Id=b;Secret=c2VjcmV0;Access=read-only;\n\
             Id=c;Secret=c2VjcmV0;prefix=app/;Prefix=shared/;Access=read-write\n",
        )
        .unwrap();
        assert_eq!(*keys.find("a").unwrap().access, KeyPermissions::default());
        assert!(keys.find("b").unwrap().access.read_only);
        assert_eq!(keys.find("c").unwrap().access.prefixes, ["app/", "shared/"]);
        assert!(keys.find("d").is_none());
    }

    #[test]
    fn one_bad_line_spoils_the_file_and_is_not_quoted() {
        let good = "Id=a;Secret=c2VjcmV0\n";
        for (text, because) in [
            ("", "no key"),
            ("# nothing\n", "no key"),
            (&*format!("{good}Id=b"), "line 2: it has no Secret; write Id=NAME;Secret=BASE64"),
            (&*format!("{good}Id=a;Secret=aHVudGVyMg=="), "line 2: its Id"),
            ("Id=a;Secret=hunter2!", "line 1: its Id is not visible ASCII, or its Secret is not base64"),
            ("hello", "line 1: it has no Id; write"),
            ("Id=a;Secret=aHVudGVyMg==;Acess=read-only", "line 1: only"),
            ("Id=a;Secret=aHVudGVyMg==;Access=readonly", "line 1: only"),
            ("Id=a;Secret=aHVudGVyMg==;Prefix=", "line 1: only"),
            ("Id=a;Secret=aHVudGVyMg==;read-only", "line 1: only"),
        ] {
            let message = LocalKeys::parse(text).unwrap_err().to_string();
            assert!(message.contains(because), "{text}: {message}");
            assert!(!message.contains("hunter2") && !message.contains("aHVudGVyMg"), "{message}");
        }
    }

    fn may(line: &str, method: Method, target: &'static str, profile: &dyn Profile) -> bool {
        let keys = LocalKeys::parse(&format!("Id=a;Secret=c2VjcmV0;{line}")).unwrap();
        let access = &keys.find("a").unwrap().access;
        access.check(&method, &PathAndQuery::from_static(target), &HeaderMap::new(), profile).is_ok()
    }

    #[test]
    fn a_read_only_key_reads() {
        let profile = AppConfiguration::new(Vec::new());
        assert!(may("Access=read-only", Method::GET, "/kv/a", &profile));
        assert!(may("Access=read-only", Method::HEAD, "/kv/a", &profile));
        for method in [Method::PUT, Method::DELETE, Method::POST, Method::PATCH] {
            assert!(!may("Access=read-only", method, "/locks/a", &profile));
        }
    }

    #[test]
    fn a_prefix_bounds_keys_and_filters() {
        let profile = AppConfiguration::new(Vec::new());
        for target in [
            "/kv/app%2Fa",
            "/kv/app/a?label=x",
            "/locks/app%2fa",
            "/kv?key=app/*",
            "/kv?key=app/a,app/b&api-version=1.0",
            "/revisions?key=app/x*",
            "/keys?name=app/*",
        ] {
            assert!(may("Prefix=app/", Method::GET, target, &profile), "{target}");
        }
        for target in [
            "/kv/other",
            "/kv/app",
            "/kv/app/../other",
            "/kv/app%2F..%2Fother",
            "/kv",
            "/kv?key=*",
            "/kv?key=app*",
            "/kv?key=app/a,b",
            "/kv?key=app/*&key=b",
            "/kv?key=app/*&snapshot=s",
            "/revisions",
            "/keys",
            "/labels",
            "/snapshots",
            "/snapshots/s",
            "/operations",
            "/else",
            "/kv/app/%zz",
        ] {
            assert!(!may("Prefix=app/", Method::GET, target, &profile), "{target}");
        }
        assert!(may("Prefix=app/;Prefix=b", Method::GET, "/kv/b1", &profile));
    }

    #[test]
    fn a_prefix_bounds_paths_of_other_apis() {
        let profile =
            Generic::new(&http::Uri::from_static("http://o"), Sharing::Guarded, FieldRules::default());
        assert!(may("Prefix=/orders", Method::PUT, "/orders/1?x", &profile));
        assert!(may("Prefix=/orders/", Method::PUT, "/orders", &profile));
        for target in
            ["/orderss", "/", "/orders/../users", "/orders/%2e%2e/users", "/orders%2f1", "/users?/orders/"]
        {
            assert!(!may("Prefix=/orders", Method::GET, target, &profile), "{target}");
        }
    }

    #[test]
    fn a_restricted_key_refuses_fields_that_steer() {
        let profile =
            Generic::new(&http::Uri::from_static("http://o"), Sharing::Guarded, FieldRules::default());
        let fields = HeaderMap::from_iter([("x-original-url".parse().unwrap(), "/users".parse().unwrap())]);
        let target = PathAndQuery::from_static("/orders/1");
        for (restriction, refused) in
            [("Access=read-only", true), ("Prefix=/orders", true), ("Access=read-write", false)]
        {
            let keys = LocalKeys::parse(&format!("Id=a;Secret=c2VjcmV0;{restriction}")).unwrap();
            let access = &keys.find("a").unwrap().access;
            assert_eq!(
                access.check(&Method::GET, &target, &fields, &profile).is_err(),
                refused,
                "{restriction}"
            );
        }
    }
}
