//! What the operator decides about caching: inputs of every decision in `decide`.

use std::time::Duration;

use clap::ValueEnum;
use http::HeaderName;

use super::values::Word;

/// What an App Configuration answer says about its own exchange. A caller that is answered from the store has another request
/// id, and gets the sidecar's own sync token.
static APP_CONFIGURATION_EXCHANGE_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("x-ms-request-id"),
    HeaderName::from_static("x-ms-correlation-request-id"),
    HeaderName::from_static("x-ms-client-request-id"),
];

/// How far the trust in the origin's caching headers goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sharing {
    /// Safe also before an origin that forgets `Vary`: requests with `Cookie`, responses with `Set-Cookie`, and request
    /// fields that steer an origin without being part of the key get special care.
    #[default]
    Guarded,
    /// RFC 9111 and nothing else.
    Rfc9111,
}

impl Word for Sharing {}

/// When a stored response may answer without asking the origin. [`crate::sync_token`] states the rules of coverage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Never without validation.
    Strong,
    /// Fresh, and rules 1 to 3 of coverage hold: read-your-writes and monotonic reads for all callers as one session.
    #[default]
    Session,
    /// Fresh, and rules 1 and 3 hold: known tokens that callers present demand nothing.
    BoundedStaleness,
}

impl Word for Consistency {}

/// Which stale responses may answer while the origin cannot be reached. [`crate::sync_token`] states the rules of coverage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WhenDisconnected {
    /// Only those for which rules 1 to 3 hold.
    Consistent,
    /// Those for which rule 3 holds: what is merely unverified is served and marked.
    #[default]
    UnlessOutdated,
    /// Any, except those under `must-revalidate` and the like.
    Available,
}

impl Word for WhenDisconnected {}

/// Everything that the pure decisions need to know from the configuration of one upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct CachingRules {
    /// How far the trust in the origin's headers goes.
    pub sharing: Sharing,
    /// When a stored response may answer without asking.
    pub consistency: Consistency,
    /// Which stale responses may answer while the origin cannot be reached.
    pub when_disconnected: WhenDisconnected,
    /// Lifetime of a 200, 203 or 206 that names none itself; `None` leaves it to heuristics or to zero.
    pub freshness: Option<Duration>,
    /// Lifetime of a 404 that names none itself.
    pub freshness_not_found: Option<Duration>,
    /// Whether `Last-Modified` may be turned into a heuristic lifetime (RFC 9111 §4.2.2). Never for App Configuration.
    pub heuristics: bool,
    /// The longest heuristic lifetime.
    pub heuristic_limit: Duration,
    /// Whether the credential sent upstream is the sidecar's own: then RFC 9111 §3.5 does not apply, because no caller's
    /// `Authorization` made the response.
    pub owns_credential: bool,
    /// How long past its freshness lifetime a response may still answer while the origin cannot be reached.
    pub stale_limit: Duration,
    /// Whether callers' `Cache-Control` and `Pragma` are honoured (RFC 9111 §5.2.1, §5.4).
    pub honour_request_directives: bool,
    /// Bodies larger than this many bytes stream through and are not stored.
    pub max_stored_body_bytes: u64,
    /// Whether `CDN-Cache-Control` decides where it is valid (RFC 9213 §2.2).
    pub targeted_cache_control: bool,
    /// Fields that belong to one exchange and not to the representation: never stored.
    pub never_stored: &'static [HeaderName],
    /// Whether a 409 or 412 to a write outdates what it names: it shows that the stored state is not current. True for App
    /// Configuration.
    pub conflicts_outdate: bool,
    /// Whether the resources belong together: an answer that shows a change of one outdates what was sent before it of all.
    pub related: bool,
}

impl CachingRules {
    /// The rules of RFC 9111 and nothing else, as `--profile generic --sharing rfc9111` runs them.
    pub fn rfc9111() -> Self {
        Self {
            sharing: Sharing::Rfc9111,
            consistency: Consistency::Session,
            when_disconnected: WhenDisconnected::UnlessOutdated,
            freshness: None,
            freshness_not_found: None,
            heuristics: true,
            heuristic_limit: Duration::from_secs(60 * 60),
            owns_credential: false,
            stale_limit: Duration::from_secs(24 * 60 * 60),
            honour_request_directives: true,
            max_stored_body_bytes: 4 * 1024 * 1024,
            targeted_cache_control: true,
            never_stored: &[],
            conflicts_outdate: false,
            related: false,
        }
    }

    /// The rules of the App Configuration profile: configured lifetimes, no heuristics, own credential.
    pub fn app_configuration() -> Self {
        Self {
            sharing: Sharing::Guarded,
            freshness: Some(Duration::from_secs(30)),
            freshness_not_found: Some(Duration::from_secs(5)),
            heuristics: false,
            owns_credential: true,
            targeted_cache_control: false,
            never_stored: &APP_CONFIGURATION_EXCHANGE_FIELDS,
            conflicts_outdate: true,
            related: true,
            ..Self::rfc9111()
        }
    }
}
