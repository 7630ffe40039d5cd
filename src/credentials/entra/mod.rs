//! A Microsoft Entra access token. One task renews it ahead of expiry with one request at a time, so that neither
//! start-up nor an answer from the store waits for it.
//!
//! `azure_identity` (1.0.0) is not used. It makes every request in the last five minutes of a token wait for the next
//! token and fails them if that fails. It reads its own clock, insists on `https` where tests need loopback, and brings
//! a second HTTP client and a second TLS library. Three requests suffice.

pub mod request;

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, Uri};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use super::refusal::Refusals;
use super::{Authorizing, Credential, CredentialError, Unsigned};
use crate::body::FlowingBody;
use crate::clock::{Clock, Timestamp};
use crate::config::{self, SecretString};
use crate::headers::retry_after::retry_after;
use crate::transport::client::{ExchangeLimits, Outgoing, PooledClient};
use crate::transport::dial::Dial;
use request::{ClientCredential, Principal, Token, audience_of, read_token, token_request};

/// The public cloud's issuer.
const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
/// The instance metadata service, the same on every machine in Azure.
const IMDS: &str = "http://169.254.169.254";
/// How long a request waits for the first token, or for one after an outage of the issuer.
const TOKEN_DEADLINE: Duration = Duration::from_secs(5);
/// The first pause after a failure. Each further failure doubles it, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The least time between two renewals of a refused token: an upstream that refuses every token must not cause a flood
/// of requests to the issuer.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(30);
/// The longest time without a look at the clock while a token lasts: after a suspension of the machine the token may
/// have expired.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The largest accepted answer of an issuer.
const ANSWER_LIMIT_BYTES: usize = 256 * 1024;

/// Why no tokens can be requested.
#[derive(Debug, thiserror::Error)]
pub enum EntraError {
    /// A setting is missing.
    #[error("credential.kind = \"entra\" needs {0}")]
    Missing(&'static str),
    /// The client secret would be sent unencrypted.
    #[error("{authority} would receive a secret over plain http; write https, or use a loopback address")]
    Cleartext {
        /// The issuer.
        authority: Uri,
    },
    /// The file with the client secret.
    #[error("client_secret_file: {error}{}", config::input_file::advice(error))]
    SecretFile {
        /// What the system says.
        error: std::io::Error,
    },
}

/// The sidecar's identity for the issuer. Secrets are read from files, so that they may rotate.
#[derive(Debug)]
enum PrincipalSettings {
    Secret { tenant_id: String, client_id: String, secret: SecretSource },
    Federated { tenant_id: String, client_id: String, file: PathBuf },
    Managed { client_id: String },
}

#[derive(Debug)]
enum SecretSource {
    Fixed(SecretString),
    File(PathBuf),
}

/// The state that the renewing task and the requests share.
#[derive(Debug)]
struct TokenState {
    token: ArcSwapOption<Token>,
    /// Whether there is a usable token. Each change wakes the requests that wait for one.
    available: watch::Sender<bool>,
    /// Why there is no usable token.
    failure: ArcSwapOption<String>,
    /// Notified if the upstream has refused the token.
    renew: Notify,
}

/// Authenticates with an access token.
pub struct EntraCredential {
    shared: Arc<TokenState>,
    renewer: Arc<TokenRenewer>,
    keeping: OnceLock<AbortOnDropHandle<()>>,
    refusals: Refusals,
}

impl std::fmt::Debug for EntraCredential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EntraCredential")
            .field("principal", &self.renewer.principal)
            .field("audience", &self.renewer.audience)
            .field("issuer", self.renewer.client.authority())
            .field("limits", &self.renewer.client.limits())
            .finish_non_exhaustive()
    }
}

/// Those of requests to the issuer, with the deadlines of the upstream.
const fn limits(
    connect_deadline: Duration,
    header_deadline: Duration,
    body_stall_deadline: Duration,
) -> ExchangeLimits {
    ExchangeLimits {
        connect_deadline,
        header_deadline,
        body_stall_deadline,
        pool_idle_time: Duration::ZERO,
        pool_idle_limit: 0,
        // One renewer asks at a time.
        exchange_limit: 2,
        exchange_wait: header_deadline,
        header_section_limit_bytes: 64 * 1024,
    }
}

struct TokenRenewer {
    principal: PrincipalSettings,
    audience: String,
    client: PooledClient,
    clock: Clock,
}

impl EntraCredential {
    /// A credential for the identity that configuration and environment (`AZURE_…`, as workload identity sets it) name.
    /// It requests the first token in the background at once if there is a runtime, else with the first request.
    ///
    /// # Errors
    /// [`EntraError`] if a setting is missing or unusable.
    pub fn new(
        upstream: &config::UpstreamSettings,
        variable: impl Fn(&str) -> Option<String>,
        dial: Arc<dyn Dial>,
        clock: Clock,
        refusals: Refusals,
    ) -> Result<Self, EntraError> {
        let settings = &upstream.credential;
        let or_variable = |text: &str, name: &str| match text {
            "" => variable(name).unwrap_or_default(),
            text => text.to_owned(),
        };
        let principal = principal(settings, &or_variable)?;
        let audience = match (settings.audience.as_str(), upstream.profile()) {
            ("", config::ProfileKind::AppConfiguration) => {
                audience_of(upstream.url.host().unwrap_or_default())
            }
            ("", config::ProfileKind::Generic) => {
                return Err(EntraError::Missing(
                    "audience: only that of App Configuration is known by itself",
                ));
            }
            (audience, _) => audience.to_owned(),
        };
        let issuer = issuer(settings, &principal, &or_variable)?;
        let limits =
            limits(upstream.connect_deadline, upstream.header_deadline, upstream.body_stall_deadline);
        let (Some(scheme), Some(authority)) = (issuer.scheme().cloned(), issuer.authority().cloned()) else {
            return Err(EntraError::Missing("an authority or imds with scheme and host"));
        };
        let client = PooledClient::new(scheme, authority, dial, limits);
        let shared = TokenState {
            token: ArcSwapOption::empty(),
            available: watch::Sender::new(false),
            failure: ArcSwapOption::empty(),
            renew: Notify::new(),
        };
        let credential = Self {
            shared: Arc::new(shared),
            renewer: Arc::new(TokenRenewer { principal, audience, client, clock }),
            keeping: OnceLock::new(),
            refusals,
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            credential.keep();
        }
        Ok(credential)
    }

    /// Starts the task that renews the token, once.
    fn keep(&self) {
        self.keeping.get_or_init(|| {
            let (renewer, shared) = (Arc::clone(&self.renewer), Arc::clone(&self.shared));
            AbortOnDropHandle::new(tokio::spawn(async move { renewer.keep_fresh(&shared).await }))
        });
    }

    fn valid_token(&self, now: Timestamp) -> Option<Arc<Token>> {
        self.shared.token.load_full().filter(|token| now < token.expires)
    }

    /// A token, waited for if there is none. With `fails_early` only until an attempt has failed.
    async fn token(&self, now: Timestamp, fails_early: bool) -> Result<Arc<Token>, CredentialError> {
        if let Some(token) = self.valid_token(now) {
            return Ok(token);
        }
        self.keep();
        let mut available = self.shared.available.subscribe();
        let waited = async {
            loop {
                if let Some(token) = self.valid_token(self.renewer.clock.now()) {
                    return Some(token);
                }
                if fails_early && self.shared.failure.load().is_some() {
                    return None;
                }
                if available.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(TOKEN_DEADLINE, waited).await.ok().flatten().ok_or_else(|| {
            let failure = self.shared.failure.load();
            let why = failure.as_deref().map_or("the issuer of tokens has not answered yet", String::as_str);
            CredentialError { cause: format!("there is no access token: {why}") }
        })
    }
}

fn principal(
    settings: &config::CredentialSettings,
    or_variable: &impl Fn(&str, &str) -> String,
) -> Result<PrincipalSettings, EntraError> {
    let client_id = or_variable(&settings.client_id, "AZURE_CLIENT_ID");
    let tenant_id = or_variable(&settings.tenant_id, "AZURE_TENANT_ID");
    let secret = match &settings.client_secret_file {
        Some(path) => {
            // Read once at start, so that a wrong path is reported at once.
            SecretString::read(path).map_err(|error| EntraError::SecretFile { error })?;
            Some(SecretSource::File(path.clone()))
        }
        None if !settings.client_secret.is_empty() => {
            Some(SecretSource::Fixed(settings.client_secret.clone()))
        }
        None => None,
    };
    let file = settings
        .federated_token_file
        .clone()
        .or_else(|| Some(PathBuf::from(or_variable("", "AZURE_FEDERATED_TOKEN_FILE"))))
        .filter(|path| !path.as_os_str().is_empty());
    let complete = || match (tenant_id.is_empty(), client_id.is_empty()) {
        (true, _) => Err(EntraError::Missing("tenant_id (or AZURE_TENANT_ID)")),
        (_, true) => Err(EntraError::Missing("client_id (or AZURE_CLIENT_ID)")),
        _ => Ok((tenant_id.clone(), client_id.clone())),
    };
    Ok(match (secret, file) {
        (Some(secret), _) => {
            let (tenant_id, client_id) = complete()?;
            PrincipalSettings::Secret { tenant_id, client_id, secret }
        }
        (None, Some(file)) => {
            let (tenant_id, client_id) = complete()?;
            PrincipalSettings::Federated { tenant_id, client_id, file }
        }
        (None, None) => PrincipalSettings::Managed { client_id },
    })
}

/// The issuer. A secret is never sent over plain HTTP, except to this machine.
fn issuer(
    settings: &config::CredentialSettings,
    principal: &PrincipalSettings,
    or_variable: &impl Fn(&str, &str) -> String,
) -> Result<Uri, EntraError> {
    if matches!(principal, PrincipalSettings::Managed { .. }) {
        return Ok(settings.imds.clone().unwrap_or_else(|| Uri::from_static(IMDS)));
    }
    let authority = match &settings.authority {
        Some(authority) => authority.clone(),
        None => {
            let named = or_variable("", "AZURE_AUTHORITY_HOST");
            if named.is_empty() {
                Uri::from_static(PUBLIC_AUTHORITY)
            } else {
                named.parse().map_err(|_| EntraError::Missing("an AZURE_AUTHORITY_HOST that is a URL"))?
            }
        }
    };
    if super::travels_in_the_clear(&authority) {
        return Err(EntraError::Cleartext { authority });
    }
    Ok(authority)
}

/// Why no token was issued, and the pause that the issuer asked for.
struct NoToken {
    cause: String,
    pause: Option<Duration>,
}

impl TokenRenewer {
    /// Requests tokens in an endless loop: ahead of expiry, with growing pauses after failures, and if the upstream
    /// refuses one.
    async fn keep_fresh(&self, shared: &TokenState) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ask().await {
                Ok(token) => {
                    pause = FIRST_PAUSE;
                    tracing::debug!(
                        lasts_seconds = token.expires.since(self.clock.now()).as_secs(),
                        "got a token"
                    );
                    let refresh_at = token.refresh_at;
                    shared.token.store(Some(Arc::new(token)));
                    shared.failure.store(None);
                    shared.available.send_replace(true);
                    self.wait_until_due(refresh_at, shared).await;
                }
                Err(failure) => {
                    tracing::warn!(error = %failure.cause, "no access token");
                    shared.failure.store(Some(Arc::new(failure.cause)));
                    let now = self.clock.now();
                    if shared.token.load().as_ref().is_none_or(|token| now >= token.expires) {
                        shared.available.send_replace(false);
                    }
                    let wait = failure.pause.unwrap_or(pause).min(LONGEST_PAUSE).max(FIRST_PAUSE);
                    tokio::time::sleep(wait).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn wait_until_due(&self, refresh_at: Timestamp, shared: &TokenState) {
        let mut refused = std::pin::pin!(async {
            // A token that was just issued is refused for another reason than its age.
            tokio::time::sleep(RENEWAL_INTERVAL).await;
            shared.renew.notified().await;
        });
        // Bounds the requests to an issuer whose tokens are due for renewal at once.
        tokio::time::sleep(FIRST_PAUSE).await;
        loop {
            let left = refresh_at.since(self.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LONGEST_SLEEP)) => {}
                () = &mut refused => return,
            }
        }
    }

    async fn ask(&self) -> Result<Token, NoToken> {
        let failed = |cause: String| NoToken { cause, pause: None };
        let read = |path: PathBuf, what: &'static str| async move {
            let shown = path.display().to_string();
            let read = tokio::task::spawn_blocking(move || SecretString::read(&path)).await;
            let read = read.unwrap_or_else(|_| Err(std::io::Error::other("reading it was given up")));
            read.map_err(|error| NoToken { cause: format!("{what} {shown}: {error}"), pause: None })
        };
        let held;
        let identity = match &self.principal {
            PrincipalSettings::Managed { client_id } => Principal::Managed { client_id },
            PrincipalSettings::Secret { tenant_id, client_id, secret } => {
                held = match secret {
                    SecretSource::Fixed(secret) => secret.clone(),
                    SecretSource::File(path) => read(path.clone(), "client_secret_file").await?,
                };
                Principal::Application { tenant_id, client_id, proof: ClientCredential::Secret(&held) }
            }
            PrincipalSettings::Federated { tenant_id, client_id, file } => {
                held = read(file.clone(), "federated_token_file").await?;
                Principal::Application { tenant_id, client_id, proof: ClientCredential::Assertion(&held) }
            }
        };
        let request = token_request(identity, &self.audience).map_err(|error| failed(error.to_string()))?;
        let outgoing = Box::new(Outgoing {
            method: request.method,
            target: request.target,
            fields: request.fields,
            body: FlowingBody::from(Bytes::copy_from_slice(&request.body)),
            body_deadline: Duration::ZERO,
        });
        let response = self.client.exchange(outgoing).await.map_err(|error| failed(error.to_string()))?;
        let now = self.clock.now();
        let status = response.status();
        let pause = retry_after(status, response.headers(), now);
        let body = Limited::new(response.into_body(), ANSWER_LIMIT_BYTES).collect();
        let body = bounded(self.client.limits().header_deadline, body).await;
        let body = body.ok_or_else(|| failed("the issuer of tokens broke off its answer".to_owned()))?;
        read_token(status, &zeroize::Zeroizing::new(body), now)
            .map_err(|error| NoToken { cause: error.to_string(), pause })
    }
}

async fn bounded<B: bytes::Buf, E>(
    deadline: Duration,
    body: impl Future<Output = Result<http_body_util::Collected<B>, E>>,
) -> Option<Vec<u8>> {
    let collected = tokio::time::timeout(deadline, body).await.ok()?.ok()?;
    Some(collected.to_bytes().to_vec())
}

impl Credential for EntraCredential {
    fn authorize<'a>(&'a self, request: Unsigned<'a>, fields: &'a mut HeaderMap) -> Authorizing<'a> {
        Box::pin(async move {
            let token = self.token(request.now, request.has_substitute).await?;
            super::bearer::present(&token.text, fields)
        })
    }

    fn own(&self) -> Option<(&'static str, &Refusals)> {
        Some(("entra", &self.refusals))
    }

    fn set_deadlines(&self, of_upstream: ExchangeLimits) {
        let ExchangeLimits { connect_deadline, header_deadline, body_stall_deadline, .. } = of_upstream;
        self.renewer.client.set_limits(limits(connect_deadline, header_deadline, body_stall_deadline));
    }

    fn identity(&self) -> String {
        match &self.renewer.principal {
            PrincipalSettings::Secret { tenant_id, client_id, .. }
            | PrincipalSettings::Federated { tenant_id, client_id, .. } => {
                format!("entra {tenant_id} {client_id}")
            }
            PrincipalSettings::Managed { client_id } => format!("entra managed {client_id}"),
        }
    }

    fn renew(&self) {
        self.shared.renew.notify_one();
    }

    fn availability(&self) -> Option<watch::Receiver<bool>> {
        Some(self.shared.available.subscribe())
    }
}
