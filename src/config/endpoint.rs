//! The endpoint of a connection string: the origin of an upstream without `url`.

use http::Uri;
use zeroize::Zeroizing;

use super::error::ConfigError;
use super::input_file;
use super::upstream::{CredentialKind, CredentialSettings, UpstreamSettings};
use super::validate::section;
use super::values::is_origin;

/// Takes the `Endpoint` of the connection string for the `url` of every upstream that has none. Reads the file only there: whether
/// the two agree where both are given is checked where the key is read.
pub(super) fn complete(
    upstreams: &mut [UpstreamSettings],
    variable: impl Fn(&str) -> Option<String>,
) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for upstream in upstreams.iter_mut().filter(|it| it.url.authority().is_none()) {
        if !names_connection_string(&upstream.credential) {
            continue;
        }
        let section = section("upstream", &upstream.name);
        match connection_string(&upstream.credential, &section, &variable) {
            Ok(string) => match endpoint(&string).and_then(origin) {
                Some(url) => upstream.url = url,
                None => {
                    errors.push(ConfigError::Together(format!(
                        "{section}.url is not set, and the connection string has no Endpoint to take instead: copy the \
                         string whole (Endpoint=https://…;Id=…;Secret=…), or name the origin with --upstream"
                    )));
                }
            },
            Err(error) => errors.push(error),
        }
    }
    errors
}

/// Whether a connection string will be read for this credential.
pub(super) fn names_connection_string(credential: &CredentialSettings) -> bool {
    credential.kind == CredentialKind::Hmac
        && (!credential.connection_string.is_empty()
            || credential.connection_string_file.is_some()
            || !credential.connection_string_variable.is_empty())
}

fn connection_string(
    credential: &CredentialSettings,
    section: &str,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Zeroizing<String>, ConfigError> {
    let name = &credential.connection_string_variable;
    if let Some(path) = &credential.connection_string_file {
        input_file::read_secret(path).map(|(_, text)| text).map_err(|error| {
            let named_by = format!("cannot read {section}.credential.connection_string_file");
            ConfigError::Unreadable { named_by, path: path.clone(), error }
        })
    } else if name.is_empty() {
        Ok(Zeroizing::new(credential.connection_string.expose().to_owned()))
    } else {
        variable(name).map(Zeroizing::new).ok_or_else(|| {
            ConfigError::Together(format!(
                "the environment variable {name} is not set; set it to the connection string, or name another one"
            ))
        })
    }
}

/// The `Endpoint` of a connection string as it is written.
fn endpoint(string: &str) -> Option<&str> {
    let mut parts = string.split(';').filter_map(|part| part.split_once('='));
    parts.find(|(name, _)| name.trim().eq_ignore_ascii_case("Endpoint")).map(|(_, value)| value.trim())
}

/// An endpoint as the URL of an upstream; `None` for what is not an origin.
fn origin(endpoint: &str) -> Option<Uri> {
    endpoint.parse().ok().filter(is_origin)
}

/// Whether an endpoint, as a connection string names it, is this origin: the same scheme, host and port.
pub fn is_endpoint_of(endpoint: &str, url: &Uri) -> bool {
    let authority = |url: &Uri| {
        let scheme = url.scheme_str()?.to_ascii_lowercase();
        let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let host = url.host()?.to_ascii_lowercase();
        Some((scheme, host.trim_end_matches('.').to_owned(), port))
    };
    origin(endpoint).is_some_and(|endpoint| authority(&endpoint) == authority(url))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Layers};
    use super::*;

    fn unvalidated(assignments: &[&str]) -> Config {
        let layers = assignments.iter().fold(Layers::new(), |layers, it| layers.setting(it));
        Config::unvalidated(layers).unwrap()
    }

    #[test]
    fn a_connection_string_names_the_upstream() {
        let mut config = unvalidated(&["upstream.credential.connection_string_variable=CS"]);
        let variable =
            |name: &str| (name == "CS").then(|| "Id=a; endpoint = https://S.azconfig.io/;".to_owned());
        assert!(complete(&mut config.upstreams, variable).is_empty());
        assert_eq!(config.upstreams[0].url.to_string(), "https://S.azconfig.io/");
        let missing = complete(
            &mut unvalidated(&["upstream.credential.connection_string_variable=CS"]).upstreams,
            |_| None,
        );
        assert!(missing[0].to_string().contains("variable CS is not set"), "{missing:?}");
    }

    #[test]
    fn a_url_that_is_given_stays() {
        let mut config = unvalidated(&[
            "upstream.url=http://o",
            "upstream.credential.connection_string_file=/nowhere/at/all",
        ]);
        assert!(complete(&mut config.upstreams, |_| None).is_empty());
        assert_eq!(config.upstreams[0].url, "http://o");
    }

    #[test]
    fn what_names_no_origin_says_so_without_the_secret() {
        for string in
            ["Id=a;Secret=hunter2", "Endpoint=hunter2", "Endpoint=https://u:hunter2@h", "Endpoint=", ""]
        {
            let assignment = format!("upstream.credential.connection_string={string}");
            let mut config = unvalidated(&[&assignment, "upstream.credential.kind=hmac"]);
            let errors = complete(&mut config.upstreams, |_| None);
            if string.is_empty() {
                assert!(errors.is_empty(), "nothing is named: that is said elsewhere");
                continue;
            }
            let message = errors[0].to_string();
            assert!(message.contains("no Endpoint") && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn an_endpoint_is_the_upstream_in_any_spelling() {
        let url = Uri::from_static("https://shop.azconfig.io");
        for (endpoint, is_at) in [
            ("https://shop.azconfig.io", true),
            ("https://SHOP.azconfig.io:443/", true),
            ("http://shop.azconfig.io", false),
            ("https://shop.azconfig.io:8443", false),
            ("https://other.azconfig.io", false),
            ("shop.azconfig.io", false),
            ("", false),
        ] {
            assert_eq!(is_endpoint_of(endpoint, &url), is_at, "{endpoint}");
        }
    }
}
