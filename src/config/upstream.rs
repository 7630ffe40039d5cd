//! One upstream: where it is, what its API is, how its answers are cached, and how the sidecar proves itself there.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, Method, Uri};

use super::budget::BudgetSettings;
use super::caching::{CachingRules, Consistency, Sharing, WhenDisconnected};
use super::key::{DAY, HOUR, KIB, Key, MIB, MINUTE, TIB, Value};
use super::masked::masked_value;
use super::secret::SecretString;
use super::section::{Section, names_below, section};
use super::values::Word;

/// What kind of API an upstream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum ProfileKind {
    /// Azure App Configuration.
    AppConfiguration,
    /// Any HTTP API with ETags.
    Generic,
}

impl Word for ProfileKind {}

impl ProfileKind {
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

/// How writes without a condition are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WriteStrategy {
    /// Passed on as they are.
    #[default]
    Pass,
    /// A write without `If-Match` gets 400 before the origin is asked.
    RequireIfMatch,
    /// A write without `If-Match` gets `If-Match: *`.
    LastWriterWins,
    /// A write without `If-Match` gets the entity tag that this caller was last given for the resource; 428 if none.
    Optimistic,
}

impl Word for WriteStrategy {}

/// Which proxy stands between the sidecar and the upstream.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum UpstreamProxy {
    /// What `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    /// None, whatever the environment says.
    None,
    /// This one.
    Url(Uri),
}

/// A URL may carry a password.
impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => formatter.write_str("Environment"),
            Self::None => formatter.write_str("None"),
            Self::Url(url) => write!(formatter, "Url({})", masked_value(&url.to_string())),
        }
    }
}

impl Value for UpstreamProxy {
    const EXPECTED: &'static str = "\"environment\", \"none\" or the URL of a proxy";

    fn parse(text: &str, _: &Key) -> Option<Self> {
        match text {
            "environment" => Some(Self::Environment),
            "none" => Some(Self::None),
            url => {
                let url: Uri = url.parse().ok()?;
                (url.authority().is_some() && url.scheme().is_some()).then_some(Self::Url(url))
            }
        }
    }
}

/// Which kind of credential goes upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
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

impl Word for CredentialKind {}

section! {
    /// How the sidecar proves itself upstream. Empty texts and paths mean "not set".
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CredentialSettings in "upstream.credential" {
        pub(super) configured_kind as "kind": Option<CredentialKind> = "auto", restart(), not_inherited(),
            flag("credential", "KIND", "none, forward, hmac, entra or bearer-file [default: hmac with an access key, else forward]");
        /// `hmac`: `Endpoint=…;Id=…;Secret=…` in the configuration itself (from a variable, as a rule).
        pub connection_string: SecretString = "", not_inherited();
        /// `hmac`: a file with the connection string.
        pub connection_string_file: Option<PathBuf> = "", not_inherited(),
            flag("connection-string-file", "FILE", "File with the connection string: the key to sign with, and the upstream if none is named");
        /// `hmac`: the name of the environment variable with the connection string.
        pub connection_string_variable: String = "", not_inherited();
        /// `hmac`: the id of the access key, where no connection string is used.
        pub id: String = "", not_inherited();
        /// `hmac`: the access key, base64, in the configuration itself.
        pub secret: SecretString = "", not_inherited();
        /// `hmac`: a file with the access key, base64.
        pub secret_file: Option<PathBuf> = "", not_inherited();
        /// `hmac`: the name of the environment variable with the access key.
        pub secret_variable: String = "", not_inherited();
        /// `bearer-file`: the file; read again when it changes.
        pub bearer_file: Option<PathBuf> = "", not_inherited();
        /// `entra`: the tenant.
        pub tenant_id: String = "", not_inherited();
        /// `entra`: the application, or the user-assigned managed identity.
        pub client_id: String = "", not_inherited();
        /// `entra`: the application's secret, in the configuration itself.
        pub client_secret: SecretString = "", not_inherited();
        /// `entra`: a file with the application's secret.
        pub client_secret_file: Option<PathBuf> = "", not_inherited();
        /// `entra`: the token that the platform projects for workload identity federation.
        pub federated_token_file: Option<PathBuf> = "", not_inherited();
        /// `entra`: the authority that issues tokens; `None` is the public cloud's.
        pub authority: Option<Uri> = "", not_inherited();
        /// `entra`: the instance metadata service for managed identities; `None` is the platform's own address.
        pub imds: Option<Uri> = "", not_inherited();
        /// `entra`: the audience to ask for; empty derives it from the upstream's host.
        pub audience: String = "", not_inherited();
    }
    beside |_section| {
        /// Which kind, as configured, else as the other fields suggest; they belong to one kind each.
        pub kind: CredentialKind = CredentialKind::default();
    }
}

impl CredentialSettings {
    /// With the kind as configured, else `hmac` where an access key is given: a configured key is always used.
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

section! {
    /// TLS towards the upstream.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct UpstreamTls in "upstream.tls" {
        /// Certificate authorities (PEM) trusted beside those of the system and the bundled ones.
        pub ca_file: Option<PathBuf> = "", restart();
        /// The sidecar's own certificate chain (PEM), for upstreams that ask for one.
        pub client_certificate_file: Option<PathBuf> = "", restart(), not_inherited();
        /// The private key (PEM) of that certificate.
        pub client_key_file: Option<PathBuf> = "", restart(), not_inherited();
    }
}

section! {
    /// Collections of an App Configuration store that are held whole.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct MirrorSettings in "upstream.mirror" {
        /// Whether there are any.
        pub enabled: bool = "false", restart(), not_inherited(),
            switch("mirror", "Hold the store, or what upstream.mirror.select names, whole in memory");
        /// Which key-values, such as `key=app:*&label=prod`; empty means all.
        pub select: Vec<String> = "", restart(), not_inherited();
        /// How long what was read or validated counts as current; `None` is the upstream's `freshness`.
        pub interval: Option<Duration> = "auto", within(1000, DAY);
        /// The most key-values.
        pub items_limit: usize = "100000", within(1, 10_000_000);
        /// The most bytes that they may occupy.
        pub bytes_limit: u64 = "64MiB", within(MIB, TIB);
    }
}

section! {
    /// What is fetched at start and kept fresh.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PrefetchSettings in "upstream.prefetch" {
        /// Targets as callers ask for them; of a list every page.
        pub targets: Vec<PathAndQuery> = "", not_inherited();
    }
}

section! {
    /// What is different for the targets below one path.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Route in "upstream.routes.*" {
        /// The beginning of the path; of several that match, the longest counts.
        pub path_prefix: String = "";
        /// Instead of the upstream's.
        pub consistency: Option<Consistency> = "";
        /// Instead of the upstream's.
        pub when_disconnected: Option<WhenDisconnected> = "";
        /// Instead of the upstream's; `Some(None)` is `auto`.
        pub freshness: Option<Option<Duration>> = "", within(0, 365 * DAY);
        /// Instead of the upstream's, for lists that show an item below `path_prefix` as well.
        pub stale_limit: Option<Duration> = "", within(0, 365 * DAY);
        /// Instead of the upstream's.
        pub write_strategy: Option<WriteStrategy> = "";
        /// Paths (with all below them) of which a write below `path_prefix` outdates the stored responses, beside its own
        /// target, `Location` and `Content-Location`. For the generic profile.
        pub outdates: Vec<String> = "";
        /// Whether what lies below `path_prefix` belongs together, with all else that is said to: an answer that shows a change of one
        /// resource outdates what was sent before it of all. For the generic profile.
        pub related: bool = "false", restart();
    }
    beside |section| {
        /// Its section: `upstream.routes.NAME`.
        pub section: String = section.path.clone();
    }
}

section! {
    /// One upstream. Section `[upstream]`, or `[upstreams.NAME]`.
    #[derive(Clone, Debug)]
    pub struct UpstreamSettings in "upstream" {
        /// Scheme and authority; the path is `/`. Always set once the configuration has been validated.
        pub url: Uri = "", restart(), not_inherited(),
            flag("upstream", "URL", "The origin [default: the Endpoint of the connection string]");
        /// Other endpoints of the same store, asked in this order when the one before does not answer.
        pub replicas: Vec<Uri> = "", restart(), not_inherited();
        /// Whether replicas are looked for by SRV records.
        pub srv: bool = "false", restart(), not_inherited();
        /// How long a replica may lag behind.
        pub replica_lag: Duration = "60s", within(0, DAY);
        pub(crate) configured_profile as "profile": Option<ProfileKind> = "auto", restart(), not_inherited(),
            flag("profile", "PROFILE", "app-configuration or generic [default: by the upstream's host]");
        /// Requests with one of these hosts in `Host` go to this upstream.
        pub hosts: Vec<String> = "", not_inherited();
        /// Requests whose path begins so go to this upstream, with the prefix taken off; empty means none.
        pub path_prefix: String = "", not_inherited();
        /// How far the trust in the origin's headers goes.
        pub sharing: Sharing = "guarded", restart(),
            flag("sharing", "SHARING", "guarded or rfc9111 [default: guarded]");
        /// When a stored response may answer without asking.
        pub consistency: Consistency = "session",
            flag("consistency", "LEVEL", "strong, session or bounded-staleness [default: session]");
        /// Which stale responses may answer while the origin cannot be reached.
        pub when_disconnected: WhenDisconnected = "unless-outdated";
        /// Lifetime of what names none itself; `None` is the profile's own.
        pub freshness: Option<Duration> = "auto", within(0, 365 * DAY),
            flag("freshness", "DURATION", "Lifetime of responses that name none [default: 30s for App Configuration]");
        /// Lifetime of a 404 that names none itself; `None` is the profile's own.
        pub freshness_not_found: Option<Duration> = "auto", within(0, 365 * DAY);
        /// The longest lifetime that `Last-Modified` alone may give a response (RFC 9111 §4.2.2).
        pub heuristic_limit: Duration = "1h", within(0, 365 * DAY);
        /// How long past its lifetime a response may still answer while the origin cannot be reached.
        pub stale_limit: Duration = "24h", within(0, 365 * DAY);
        /// Whether responses in use are validated before they become stale.
        pub refresh_ahead: bool = "true";
        /// Whether callers' `Cache-Control` and `Pragma` are honoured.
        pub honour_request_directives: bool = "true";
        /// What becomes of writes without `If-Match`.
        pub write_strategy: WriteStrategy = "pass";
        /// The request field whose value names a caller for `optimistic`; `None`: a caller is a connection.
        pub caller_field: Option<HeaderName> = "";
        /// Where the tokens of the origin are kept for the time after a restart; `None`: nowhere.
        pub sync_token_file: Option<PathBuf> = "", restart(), not_inherited(),
            flag("sync-token-file", "FILE", "Where sync tokens are kept, so that a restart shows no caller less than before");
        /// How long a write without known outcome stays open at an origin without tokens.
        pub settle_time: Duration = "10s", within(0, HOUR);
        /// How long the answer to a write that carries no token waits for other open writes to the same key.
        pub conflict_wait: Duration = "2s", within(0, MINUTE);
        /// Whether writes are refused before the origin is asked.
        pub read_only: bool = "false";
        /// The methods that are let through; empty means all.
        pub allowed_methods: Vec<Method> = "", not_inherited();
        /// The paths (with all below them) that are let through; empty means all.
        pub allowed_paths: Vec<String> = "", not_inherited();
        /// Request fields forwarded although `guarded` or the profile would strip them.
        pub forwarded_request_fields: Vec<HeaderName> = "", restart();
        /// Request fields that are no part of the cache key although their meaning is not known.
        pub ignored_fields: Vec<HeaderName> = "", restart();
        /// Request fields that name who asks, and whose answers are shared among requests with the same value.
        pub partition_fields: Vec<HeaderName> = "", restart();
        /// Whether `Cache-Status` carries the cache key.
        pub show_cache_key: bool = "false";
        /// Whether HTTP/2 is offered to the upstream (by ALPN, so over TLS only).
        pub http2: bool = "true", restart();
        /// Which proxy stands between.
        pub proxy: UpstreamProxy = "environment", restart();
        /// To establish a connection, TLS included.
        pub connect_deadline: Duration = "2s", within(1, 5 * MINUTE);
        /// From the request's last byte to the end of the answer's header section.
        pub header_deadline: Duration = "10s", within(1, HOUR);
        /// Between two pieces of the answer's body.
        pub body_stall_deadline: Duration = "30s", within(1, HOUR);
        /// How long an unused connection is kept.
        pub pool_idle_time: Duration = "60s", within(0, HOUR);
        /// How many unused connections are kept.
        pub pool_idle_limit: usize = "64", within(0, 4096);
        /// How many exchanges may be under way at once.
        pub exchange_limit: usize = "256", within(1, 65_536);
        /// How long a request waits for a place among them.
        pub exchange_wait: Duration = "1s", within(0, MINUTE);
        /// Most bytes of an answer's header section.
        pub header_section_limit_bytes as "header_section_limit": u64 = "32KiB", within(KIB, MIB);
        /// The longest `Retry-After` that is obeyed.
        pub retry_after_limit: Duration = "60s", within(0, HOUR);
    }
    beside |section| {
        /// The name in `[upstreams.NAME]`; `main` for `[upstream]`.
        pub name: String = section.name();
        /// TLS towards the upstream.
        pub tls: UpstreamTls = UpstreamTls::read(&section.inside("tls"));
        /// What its quota allows.
        pub budget: BudgetSettings = BudgetSettings::read(&section.inside("budget"));
        /// What is fetched before anybody asks for it.
        pub prefetch: PrefetchSettings = PrefetchSettings::read(&section.inside("prefetch"));
        /// What is held whole.
        pub mirror: MirrorSettings = MirrorSettings::read(&section.inside("mirror"));
        /// How the sidecar proves itself.
        pub credential: CredentialSettings = CredentialSettings::read(&section.inside("credential")).of_its_kind();
        /// What is different below certain paths, the longest prefix first.
        pub routes: Vec<Route> = routes(section);
        /// From `[store]`: bodies larger than this are not stored.
        pub(crate) stored_body_limit_bytes: u64 = section.elsewhere("store").get("body_limit");
    }
}

fn routes(section: &Section<'_>) -> Vec<Route> {
    let routes = section.inside("routes");
    let names = names_below(section.values, &routes.path).into_iter();
    let mut routes: Vec<Route> = names.map(|name| Route::read(&routes.inside(name))).collect();
    routes.sort_by_key(|route| std::cmp::Reverse(route.path_prefix.len()));
    routes
}

impl UpstreamSettings {
    /// The upstream's scheme.
    pub fn scheme(&self) -> &Scheme {
        self.url.scheme().unwrap_or(&Scheme::HTTP)
    }

    /// The upstream's authority: what goes into `Host`.
    pub fn authority(&self) -> Option<&Authority> {
        self.url.authority()
    }

    /// The profile as configured, else as the host suggests.
    pub fn profile(&self) -> ProfileKind {
        self.configured_profile
            .unwrap_or_else(|| ProfileKind::suggested_by(self.url.host().unwrap_or_default()))
    }

    /// Whether the generic profile is a default, not a choice: the host is not a name of App Configuration. Nor is that of an
    /// emulator, or a private name of a store.
    pub fn is_generic_by_default(&self) -> bool {
        self.configured_profile.is_none() && self.profile() == ProfileKind::Generic
    }

    /// The first (longest) route whose prefix the path begins with.
    pub fn route(&self, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| path.starts_with(&route.path_prefix))
    }

    /// The rules for targets that no route covers.
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

    /// The rules for targets under one of [`UpstreamSettings::routes`].
    pub fn caching_rules_of(&self, route: &Route) -> CachingRules {
        let mut upstream = self.clone();
        upstream.consistency = route.consistency.unwrap_or(self.consistency);
        upstream.when_disconnected = route.when_disconnected.unwrap_or(self.when_disconnected);
        upstream.freshness = route.freshness.unwrap_or(self.freshness);
        upstream.stale_limit = route.stale_limit.unwrap_or(self.stale_limit);
        let rules = upstream.caching_rules();
        CachingRules { related: rules.related || route.related, ..rules }
    }
}
