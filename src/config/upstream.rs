//! One upstream: where it is, what its API is, how its answers are cached, and how the sidecar proves itself there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, Method, Uri};
use serde::{Deserialize, Deserializer};

use super::caching::{CachingRules, Consistency, Sharing, WhenDisconnected};
use super::secret::Secret;
use super::texts;
use super::{duration, size};

/// What kind of API an upstream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileKind {
    /// Azure App Configuration.
    AppConfiguration,
    /// Any HTTP API with ETags.
    Generic,
}

impl ProfileKind {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppConfiguration => "app-configuration",
            Self::Generic => "generic",
        }
    }

    /// What a host suggests: the names under which App Configuration is reached in each cloud, and `generic` for any other.
    fn suggested_by(host: &str) -> Self {
        let host = host.to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        let is_known = [".azconfig.io", ".azconfig.azure.us", ".azconfig.azure.cn"]
            .iter()
            .any(|domain| host.strip_suffix(domain).is_some_and(|name| !name.is_empty()))
            || host
                .split_once(".appconfig.")
                .is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty());
        if is_known { Self::AppConfiguration } else { Self::Generic }
    }
}

/// What becomes of writes of applications that know nothing of concurrency control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteStrategy {
    /// Forwarded as they are.
    #[default]
    Pass,
    /// A write without `If-Match` gets 400 before the origin is asked.
    RequireIfMatch,
    /// A write without `If-Match` gets `If-Match: *`.
    LastWriterWins,
    /// A write without `If-Match` gets the entity tag that this caller was last given for the resource; 428 if none.
    Optimistic,
}

/// Which proxy stands between the sidecar and the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamProxy {
    /// What `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    Environment,
    /// None, whatever the environment says.
    None,
    /// This one.
    Url(Uri),
}

/// Which kind of credential goes upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// None at all; a caller's own `Authorization` is removed.
    None,
    /// The caller's own `Authorization`, forwarded.
    #[default]
    Forward,
    /// HMAC-SHA256 with an access key.
    Hmac,
    /// A Microsoft Entra access token.
    Entra,
    /// A bearer token from a file that something else keeps fresh.
    BearerFile,
}

impl CredentialKind {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Forward => "forward",
            Self::Hmac => "hmac",
            Self::Entra => "entra",
            Self::BearerFile => "bearer-file",
        }
    }
}

/// How the sidecar proves itself upstream. Empty texts and paths mean "not set".
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    #[serde(rename = "kind", deserialize_with = "texts::word_or_auto")]
    pub(super) configured_kind: Option<CredentialKind>,
    /// Which kind, as configured, else as the other fields suggest; they belong to one kind each.
    #[serde(skip)]
    pub kind: CredentialKind,
    /// `hmac`: `Endpoint=…;Id=…;Secret=…` in the configuration itself (from a variable, as a rule).
    pub connection_string: Secret,
    /// `hmac`: a file with the connection string.
    #[serde(deserialize_with = "texts::path")]
    pub connection_string_file: Option<PathBuf>,
    /// `hmac`: the name of the environment variable with the connection string.
    pub connection_string_variable: String,
    /// `hmac`: the id of the access key, where no connection string is used.
    pub id: String,
    /// `hmac`: the access key, base64, in the configuration itself.
    pub secret: Secret,
    /// `hmac`: a file with the access key, base64.
    #[serde(deserialize_with = "texts::path")]
    pub secret_file: Option<PathBuf>,
    /// `hmac`: the name of the environment variable with the access key.
    pub secret_variable: String,
    /// `bearer-file`: the file; read again when it changes.
    #[serde(deserialize_with = "texts::path")]
    pub bearer_file: Option<PathBuf>,
    /// `entra`: the tenant.
    pub tenant_id: String,
    /// `entra`: the application, or the user-assigned managed identity.
    pub client_id: String,
    /// `entra`: the application's secret, in the configuration itself.
    pub client_secret: Secret,
    /// `entra`: a file with the application's secret.
    #[serde(deserialize_with = "texts::path")]
    pub client_secret_file: Option<PathBuf>,
    /// `entra`: the token that the platform projects for workload identity federation.
    #[serde(deserialize_with = "texts::path")]
    pub federated_token_file: Option<PathBuf>,
    /// `entra`: the authority that issues tokens; `None` is the public cloud's.
    #[serde(deserialize_with = "texts::url")]
    pub authority: Option<Uri>,
    /// `entra`: the instance metadata service for managed identities; `None` is the platform's own address.
    #[serde(deserialize_with = "texts::url")]
    pub imds: Option<Uri>,
    /// `entra`: the audience to ask for; empty derives it from the upstream's host.
    pub audience: String,
}

impl Credential {
    /// With the kind as configured, else `hmac` where an access key is given: a key that is not used would be a surprise.
    #[must_use]
    pub(super) fn of_its_kind(mut self) -> Self {
        let has_key = !self.connection_string.is_empty()
            || self.connection_string_file.is_some()
            || !self.connection_string_variable.is_empty()
            || !self.secret.is_empty()
            || self.secret_file.is_some()
            || !self.secret_variable.is_empty();
        let suggested = if has_key { CredentialKind::Hmac } else { CredentialKind::Forward };
        self.kind = self.configured_kind.unwrap_or(suggested);
        self
    }
}

/// TLS towards the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Certificate authorities (PEM) trusted beside those of the system and the bundled ones.
    #[serde(deserialize_with = "texts::path")]
    pub ca_file: Option<PathBuf>,
    /// The sidecar's own certificate chain (PEM), for upstreams that ask for one.
    #[serde(deserialize_with = "texts::path")]
    pub client_certificate_file: Option<PathBuf>,
    /// The private key (PEM) of that certificate.
    #[serde(deserialize_with = "texts::path")]
    pub client_key_file: Option<PathBuf>,
}

/// What is different for the targets below one path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The beginning of the path; of several that match, the longest counts.
    pub path_prefix: String,
    /// Instead of the upstream's.
    #[serde(deserialize_with = "texts::optional_word")]
    pub consistency: Option<Consistency>,
    /// Instead of the upstream's.
    #[serde(deserialize_with = "texts::optional_word")]
    pub when_disconnected: Option<WhenDisconnected>,
    /// Instead of the upstream's; `Some(None)` is `auto`.
    #[serde(deserialize_with = "texts::optional_freshness")]
    pub freshness: Option<Option<Duration>>,
    /// Instead of the upstream's.
    #[serde(deserialize_with = "texts::optional_word")]
    pub write_strategy: Option<WriteStrategy>,
    /// Paths (with all below them) of which a write below `path_prefix` outdates the stored responses, beside its own
    /// target, `Location` and `Content-Location`. For the generic profile.
    pub outdates: Vec<String>,
    /// Whether what lies below `path_prefix` belongs together, with all else that is said to: an answer that shows a change of one
    /// resource outdates what was sent before it of all. For the generic profile.
    pub related: bool,
}

/// One upstream. Section `[upstream]`, or `[upstreams.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The name in `[upstreams.NAME]`; `main` for `[upstream]`.
    #[serde(skip)]
    pub name: String,
    /// Scheme and authority; the path is `/`. Always set once the configuration has been validated.
    #[serde(deserialize_with = "texts::url_or_default")]
    pub url: Uri,
    #[serde(rename = "profile", deserialize_with = "texts::word_or_auto")]
    pub(crate) configured_profile: Option<ProfileKind>,
    /// Requests with one of these hosts in `Host` go to this upstream.
    pub hosts: Vec<String>,
    /// Requests whose path begins so go to this upstream, with the prefix taken off; empty means none.
    pub path_prefix: String,
    /// How far the trust in the origin's headers goes.
    pub sharing: Sharing,
    /// When a stored response may answer without asking.
    pub consistency: Consistency,
    /// Which stale responses may answer while the origin cannot be reached.
    pub when_disconnected: WhenDisconnected,
    /// Lifetime of what names none itself; `None` is the profile's own.
    #[serde(deserialize_with = "texts::duration_or_auto")]
    pub freshness: Option<Duration>,
    /// Lifetime of a 404 that names none itself; `None` is the profile's own.
    #[serde(deserialize_with = "texts::duration_or_auto")]
    pub freshness_not_found: Option<Duration>,
    /// The longest lifetime that `Last-Modified` alone may give a response (RFC 9111 §4.2.2).
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub heuristic_limit: Duration,
    /// How long past its lifetime a response may still answer while the origin cannot be reached.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub stale_limit: Duration,
    /// Whether callers' `Cache-Control` and `Pragma` are honoured.
    pub honour_request_directives: bool,
    /// What becomes of writes without `If-Match`.
    pub write_strategy: WriteStrategy,
    /// The request field whose value names a caller for `optimistic`; `None`: a caller is a connection.
    #[serde(deserialize_with = "texts::field")]
    pub caller_field: Option<HeaderName>,
    /// How long a write without known outcome stays open at an origin without tokens.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub settle_time: Duration,
    /// How long the answer to a write that carries no token waits for other open writes to the same key.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub conflict_wait: Duration,
    /// Whether writes are refused before the origin is asked.
    pub read_only: bool,
    /// The methods that are let through; empty means all.
    #[serde(deserialize_with = "texts::methods")]
    pub allowed_methods: Vec<Method>,
    /// The paths (with all below them) that are let through; empty means all.
    pub allowed_paths: Vec<String>,
    /// Request fields forwarded although `guarded` or the profile would strip them.
    #[serde(deserialize_with = "texts::fields")]
    pub forwarded_request_fields: Vec<HeaderName>,
    /// Whether `Cache-Status` carries the cache key.
    pub show_cache_key: bool,
    /// Whether HTTP/2 is offered to the upstream (by ALPN, so over TLS only).
    pub http2: bool,
    /// Which proxy stands between.
    #[serde(deserialize_with = "texts::proxy")]
    pub proxy: UpstreamProxy,
    /// To establish a connection, TLS included.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub connect_deadline: Duration,
    /// From the request's last byte to the end of the answer's header section.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub header_deadline: Duration,
    /// Between two pieces of the answer's body.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub body_stall_deadline: Duration,
    /// How long an unused connection is kept.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub pool_idle_time: Duration,
    /// Most bytes of an answer's header section.
    #[serde(rename = "header_section_limit", deserialize_with = "size::deserialize_size")]
    pub header_section_limit_bytes: u64,
    /// The longest `Retry-After` that is obeyed.
    #[serde(deserialize_with = "duration::deserialize_duration")]
    pub retry_after_limit: Duration,
    /// TLS towards the upstream.
    pub tls: UpstreamTls,
    /// How the sidecar proves itself.
    pub credential: Credential,
    /// What is different below certain paths, the longest prefix first.
    #[serde(default, deserialize_with = "routes")]
    pub routes: Vec<Route>,
    /// From `[store]`: bodies larger than this are not stored.
    #[serde(skip)]
    pub(crate) stored_body_limit_bytes: u64,
}

fn routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Route>, D::Error> {
    let mut routes: Vec<Route> =
        BTreeMap::<String, Route>::deserialize(deserializer)?.into_values().collect();
    routes.sort_by_key(|route| std::cmp::Reverse(route.path_prefix.len()));
    Ok(routes)
}

impl Upstream {
    /// The upstream's scheme.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        self.url.scheme().unwrap_or(&Scheme::HTTP)
    }

    /// The upstream's authority: what goes into `Host`.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.url.authority()
    }

    /// The profile as configured, else as the host suggests.
    #[must_use]
    pub fn profile(&self) -> ProfileKind {
        self.configured_profile
            .unwrap_or_else(|| ProfileKind::suggested_by(self.url.host().unwrap_or_default()))
    }

    /// Whether nobody chose the generic profile: the host is no name of App Configuration, which an emulator's and a private
    /// name are not either.
    #[must_use]
    pub fn is_generic_by_default(&self) -> bool {
        self.configured_profile.is_none() && self.profile() == ProfileKind::Generic
    }

    /// The first (longest) route whose prefix the path begins with.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| path.starts_with(&route.path_prefix))
    }

    /// The rules for targets that no route covers.
    #[must_use]
    pub fn caching_rules(&self) -> CachingRules {
        let profile = match self.profile() {
            ProfileKind::AppConfiguration => CachingRules::app_configuration(),
            ProfileKind::Generic => CachingRules::rfc9111(),
        };
        CachingRules {
            sharing: self.sharing,
            consistency: self.consistency,
            when_disconnected: self.when_disconnected,
            freshness: self.freshness.or(profile.freshness),
            freshness_not_found: self.freshness_not_found.or(profile.freshness_not_found),
            heuristics: profile.heuristics && self.freshness.is_none(),
            heuristic_limit: self.heuristic_limit,
            owns_credential: self.credential.kind != CredentialKind::Forward,
            stale_limit: self.stale_limit,
            honour_request_directives: self.honour_request_directives,
            max_stored_body_bytes: self.stored_body_limit_bytes,
            ..profile
        }
    }

    /// The rules for targets under one of [`Upstream::routes`].
    #[must_use]
    pub fn caching_rules_of(&self, route: &Route) -> CachingRules {
        let mut upstream = self.clone();
        upstream.consistency = route.consistency.unwrap_or(self.consistency);
        upstream.when_disconnected = route.when_disconnected.unwrap_or(self.when_disconnected);
        upstream.freshness = route.freshness.unwrap_or(self.freshness);
        let rules = upstream.caching_rules();
        CachingRules { related: rules.related || route.related, ..rules }
    }
}
