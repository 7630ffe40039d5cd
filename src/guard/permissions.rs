//! Which requests one upstream accepts from any caller: methods, paths, and whether writes are allowed.

use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, Method};

use crate::config;
use crate::error::{RefusalReason, Refused};
use crate::headers::request_fields::{Treatment, treatment};
use crate::profile::path::lies_below;

/// The methods that change nothing at the origin, for `read_only`. `TRACE` is always refused.
pub(super) const READING: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];

/// The allow-lists of one upstream.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    read_only: bool,
    /// Empty means all.
    methods: Vec<Method>,
    /// Each path includes all paths below it; empty means all.
    paths: Vec<String>,
}

impl Permissions {
    /// The allow-lists of the configuration.
    #[must_use]
    pub fn new(upstream: &config::UpstreamSettings) -> Self {
        Self {
            read_only: upstream.read_only,
            methods: upstream.allowed_methods.clone(),
            paths: upstream.allowed_paths.clone(),
        }
    }

    /// Permits a request or says why not. `path` is that of the target as it goes upstream, still encoded.
    pub fn check(&self, method: &Method, path: &str, fields: &HeaderMap) -> Result<(), Refused> {
        if self.read_only || !self.methods.is_empty() || !self.paths.is_empty() {
            refuse_steering(fields)?;
        }
        if !self.methods.is_empty() && !self.methods.contains(method) {
            let allowed = self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            let detail =
                format!("{method} is not among upstream.allowed_methods. Use one of {allowed}, or add it");
            let refused = Refused::new(RefusalReason::MethodNotAllowed, detail);
            // RFC 9110 §15.5.6: a 405 names what is allowed.
            return Err(match HeaderValue::try_from(allowed) {
                Ok(value) => refused.with_field(ALLOW, value),
                Err(_) => refused,
            });
        }
        if self.read_only && !READING.contains(method) {
            return Err(Refused::new(
                RefusalReason::Forbidden,
                "This upstream is read-only here (upstream.read_only). Write to the origin itself",
            ));
        }
        if !self.paths.is_empty() && !self.paths.iter().any(|allowed| lies_below(path, allowed)) {
            return Err(Refused::new(
                RefusalReason::Forbidden,
                "The path is not among upstream.allowed_paths. Ask for another one, or add it",
            ));
        }
        Ok(())
    }
}

/// Refuses a request with a field that names another method or target than its request line. To be called wherever methods or paths
/// are restricted: an origin that obeys the field would step round the restriction.
pub(super) fn refuse_steering(fields: &HeaderMap) -> Result<(), Refused> {
    match fields.keys().find(|name| treatment(name) == Treatment::Steering) {
        None => Ok(()),
        Some(name) => Err(Refused::new(
            RefusalReason::Forbidden,
            format!(
                "The field {name} names another method or target, and access is restricted here. Leave it out"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(read_only: bool, methods: &[Method], paths: &[&str]) -> Permissions {
        let layers = config::Layers::new()
            .assignment("upstream.url=http://o")
            .assignment(&format!("upstream.read_only={read_only}"))
            .assignment(&format!("upstream.allowed_paths={}", paths.join(",")));
        let mut upstream = config::Config::unvalidated(layers).unwrap().upstreams.remove(0);
        upstream.allowed_methods = methods.to_vec();
        Permissions::new(&upstream)
    }

    fn status(permissions: &Permissions, method: &Method, path: &str) -> Option<u16> {
        permissions.check(method, path, &HeaderMap::new()).err().map(|refused| refused.status.as_u16())
    }

    #[test]
    fn without_lists_everything_passes() {
        let open = permissions(false, &[], &[]);
        for method in [Method::GET, Method::PUT, Method::from_bytes(b"ODD").unwrap()] {
            assert_eq!(status(&open, &method, "/a/../b"), None);
        }
    }

    #[test]
    fn read_only_refuses_whatever_may_write() {
        let reader = permissions(true, &[], &[]);
        for method in READING {
            assert_eq!(status(&reader, &method, "/kv"), None, "{method}");
        }
        for method in
            [Method::PUT, Method::POST, Method::DELETE, Method::PATCH, Method::from_bytes(b"get").unwrap()]
        {
            assert_eq!(status(&reader, &method, "/kv"), Some(403), "{method}");
        }
    }

    #[test]
    fn a_method_off_the_list_is_told_which_are_on_it() {
        let some = permissions(false, &[Method::GET, Method::PUT], &[]);
        assert_eq!(status(&some, &Method::PUT, "/"), None);
        let refused = some.check(&Method::DELETE, "/", &HeaderMap::new()).unwrap_err();
        assert_eq!(refused.status, 405);
        assert_eq!(refused.fields, [(ALLOW, HeaderValue::from_static("GET, PUT"))]);
    }

    #[test]
    fn a_path_passes_with_all_below_it_and_nothing_else() {
        let some = permissions(false, &[], &["/kv/app", "/keys/"]);
        for path in ["/kv/app", "/kv/app/", "/kv/app/x%2Fy", "/kv/%61pp/x", "/keys", "/keys/", "/kv/app/a..b"]
        {
            assert_eq!(status(&some, &Method::GET, path), None, "{path}");
        }
        for path in [
            "/",
            "/kv",
            "/kv/apple",
            "/kv/app%2Fx",
            "/kv%2Fapp",
            "/KV/app",
            "//kv/app",
            "/kv//app",
            "/kv/app/../secret",
            "/kv/app/%2e%2E/secret",
            "/kv/app/%2e%2e%2fsecret",
            "/kv/app/%252e%252e/secret",
            "/kv/app/..%5csecret",
            "/kv/app/..\\secret",
            "/kv/app/./x",
            "/kv/app/..;a=b/secret",
            "/kv/app/%25252525252e",
        ] {
            assert_eq!(status(&some, &Method::GET, path), Some(403), "{path}");
        }
    }

    #[test]
    fn fields_that_steer_are_refused_where_anything_is_restricted() {
        for name in ["x-http-method-override", "x_http_method_override", "x-original-uri", "x-override-url"] {
            let fields = HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static("/secret"))]);
            for restricted in [
                permissions(true, &[], &[]),
                permissions(false, &[Method::GET], &[]),
                permissions(false, &[], &["/kv"]),
            ] {
                let refused = restricted.check(&Method::GET, "/kv/a", &fields).unwrap_err();
                assert!(refused.detail.contains(name), "{}", refused.detail);
            }
            assert!(permissions(false, &[], &[]).check(&Method::GET, "/kv/a", &fields).is_ok());
        }
    }
}
