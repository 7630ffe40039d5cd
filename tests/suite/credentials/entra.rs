//! Microsoft Entra tokens: the three ways to get one, with an issuer and a metadata service that the test serves;
//! expiry, errors, slow issuers, rotation.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};
use tagalong::internals::clock::Clock;
use tagalong::internals::config::{Config, Layers};
use tagalong::internals::credentials::entra::EntraCredential;
use tagalong::internals::credentials::refusal::Refusals;
use tagalong::internals::credentials::{Credential, CredentialError, Unsigned};
use tagalong::internals::metrics::Metrics;
use tagalong::internals::proxy::assemble::Environment;
use tagalong::internals::sidecar::Sidecar;

use crate::support::answer::{Answer, Gate};
use crate::support::caller::Caller;
use crate::support::origin::Origin;
use crate::support::scene::{START, Scene};

const TOKEN_TARGET: &str = "/tenant/oauth2/v2.0/token";
const IMDS_TARGET: &str =
    "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fappconfig.azure.com";

fn token(text: &str, lifetime_seconds: u64) -> String {
    format!(
        "200\nContent-Type: application/json\n\n{{\"token_type\":\"Bearer\",\"access_token\":\"{text}\",\"expires_in\":\"{lifetime_seconds}\"}}"
    )
}

/// An issuer on loopback, and a scene with a sidecar that uses it.
async fn scene(more: &[String]) -> (Origin, Scene) {
    let issuer = Origin::start(Clock::manual(START)).await;
    let mut settings =
        vec!["upstream.profile=app-configuration".to_owned(), "upstream.credential.kind=entra".to_owned()];
    settings.extend(more.iter().map(|it| it.replace('@', &format!("http://{}", issuer.address))));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    // The answers are scripted before the sidecar starts.
    issuer.on(IMDS_TARGET, token("from-imds", 3_600).as_str());
    issuer.on(TOKEN_TARGET, token("from-issuer", 3_600).as_str());
    let scene = Scene::with(&settings).await;
    (issuer, scene)
}

#[tokio::test]
async fn a_managed_identity_asks_the_metadata_service_once() {
    let (issuer, scene) = scene(&["upstream.credential.imds=@".to_owned()]).await;
    for target in ["/kv/a", "/kv/b", "/kv/c"] {
        scene.on(target, "200\n\n{}");
        assert_eq!(scene.send(&format!("GET {target}\nAuthorization: Bearer callers")).await.status, 200);
        assert_eq!(scene.last_request(target).field("authorization"), Some("Bearer from-imds"));
    }
    let asked = issuer.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method.as_str(), asked[0].field("metadata")), ("GET", Some("true")));
}

#[tokio::test]
async fn an_application_proves_itself_with_its_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "s3cret&more\n").unwrap();
    let (issuer, scene) = scene(&[
        "upstream.credential.authority=@".to_owned(),
        "upstream.credential.tenant_id=tenant".to_owned(),
        "upstream.credential.client_id=client".to_owned(),
        "upstream.credential.audience=https://azconfig.io".to_owned(),
        format!("upstream.credential.client_secret_file={}", file.display()),
    ])
    .await;
    scene.on("/kv/a", "200\n\n{}");
    assert_eq!(scene.get("/kv/a").await.status, 200);
    assert_eq!(scene.last_request("/kv/a").field("authorization"), Some("Bearer from-issuer"));
    let asked = issuer.requests_for(TOKEN_TARGET);
    assert_eq!(asked.len(), 1);
    assert_eq!(
        String::from_utf8_lossy(&asked[0].body),
        "grant_type=client_credentials&client_id=client&scope=https%3A%2F%2Fazconfig.io%2F.default\
         &client_secret=s3cret%26more"
    );
}

#[tokio::test]
async fn readiness_reports_the_missing_token_and_then_the_token() {
    let issuer = Origin::start(Clock::System).await;
    let gate = Gate::closed();
    issuer.on(IMDS_TARGET, Answer::held(&gate, token("late", 3_600).as_str()));
    let layers = Layers::new()
        .assignment("upstream.url=http://127.0.0.1:9")
        .assignment("upstream.profile=app-configuration")
        .assignment("upstream.credential.kind=entra")
        .assignment(&format!("upstream.credential.imds=http://{}", issuer.address))
        .assignment("listener.listen=127.0.0.1:0")
        .assignment("admin.listen=127.0.0.1:0");
    let sidecar = Sidecar::bind(&Config::new(layers).unwrap(), &Environment::default()).await.unwrap();
    let admin: SocketAddr = sidecar.admin_addresses().unwrap()[0];
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(sidecar.run(stop.clone()));
    let unready = Caller::connect(admin).await.send("GET /readyz").await;
    assert_eq!(unready.status, 503);
    assert!(unready.text().contains("no-credential"), "{}", unready.text());
    gate.open();
    // The loop polls until the sidecar is ready. It waits for an event and not for a clock.
    while Caller::connect(admin).await.send("GET /readyz").await.status != 200 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// A credential with an issuer in memory and the paused clock of tokio.
struct Paused {
    issuer: Origin,
    clock: Clock,
    credential: Arc<EntraCredential>,
}

impl Paused {
    fn start(answers: &[Answer], federated_token_file: &Path) -> Self {
        let clock = Clock::tokio(START);
        let (issuer, dial) = Origin::in_memory(clock.clone());
        for answer in answers {
            issuer.on(TOKEN_TARGET, answer.clone());
        }
        let layers = Layers::new()
            .assignment("upstream.url=https://contoso.azconfig.io")
            .assignment("upstream.credential.kind=entra")
            .assignment("upstream.credential.authority=http://127.0.0.1:9");
        let upstream = Config::unvalidated(layers).unwrap().upstreams.remove(0);
        let file = federated_token_file.display().to_string();
        let variable = move |name: &str| match name {
            "AZURE_TENANT_ID" => Some("tenant".to_owned()),
            "AZURE_CLIENT_ID" => Some("client".to_owned()),
            "AZURE_FEDERATED_TOKEN_FILE" => Some(file.clone()),
            _ => None,
        };
        let refusals = Refusals::new("main".to_owned(), Metrics::new(["main"]).upstream(0).origin.clone());
        let credential = EntraCredential::new(&upstream, variable, dial, clock.clone(), refusals).unwrap();
        Self { issuer, clock, credential: Arc::new(credential) }
    }

    async fn authorize(&self) -> Result<String, CredentialError> {
        self.authorize_with(false).await
    }

    async fn authorize_with(&self, has_substitute: bool) -> Result<String, CredentialError> {
        let mut fields = HeaderMap::new();
        let request = Unsigned {
            has_substitute,
            method: &Method::GET,
            target: "/kv",
            authority: "o",
            body: b"",
            now: self.clock.now(),
        };
        self.credential.authorize(request, &mut fields).await?;
        Ok(fields[AUTHORIZATION].to_str().unwrap().to_owned())
    }

    fn asked(&self) -> usize {
        self.issuer.requests_for(TOKEN_TARGET).len()
    }
}

fn projected() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("projected");
    std::fs::write(&path, "projected-1").unwrap();
    (directory, path)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_ahead_of_expiry_with_the_projected_token_of_that_moment() {
    let (_directory, path) = projected();
    let answers = [token("one", 3_600).as_str().into(), token("two", 3_600).as_str().into()];
    let paused = Paused::start(&answers, &path);
    assert_eq!(paused.authorize().await.unwrap(), "Bearer one");
    std::fs::write(&path, "projected-2").unwrap();
    pass(44 * 60).await;
    assert_eq!((paused.authorize().await.unwrap().as_str(), paused.asked()), ("Bearer one", 1));
    pass(2 * 60).await;
    assert_eq!((paused.authorize().await.unwrap().as_str(), paused.asked()), ("Bearer two", 2));
    let asked = paused.issuer.requests_for(TOKEN_TARGET);
    for (request, assertion) in asked.iter().zip(["projected-1", "projected-2"]) {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert!(body.ends_with(&format!("&client_assertion={assertion}")), "{body}");
        assert!(body.contains("scope=https%3A%2F%2Fazconfig.io%2F.default"), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stored_response_may_answer_does_not_wait_for_an_issuer_that_failed() {
    let (_directory, path) = projected();
    let paused = Paused::start(&[Answer::from("HTTP/1.1 500 no\nContent-Length: 0\n\n")], &path);
    let began = paused.clock.now();
    assert!(paused.authorize_with(true).await.is_err());
    assert!(paused.clock.now().since(began) < Duration::from_millis(100));
    assert!(paused.authorize_with(false).await.is_err());
    assert!(paused.clock.now().since(began) >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn many_waiting_requests_cost_one_token_request() {
    let (_directory, path) = projected();
    let gate = Gate::closed();
    let paused = Arc::new(Paused::start(&[Answer::held(&gate, token("one", 3_600).as_str())], &path));
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let paused = Arc::clone(&paused);
            tokio::spawn(async move { paused.authorize().await.unwrap() })
        })
        .collect();
    pass(1).await;
    gate.open();
    for waiter in waiting {
        assert_eq!(waiter.await.unwrap(), "Bearer one");
    }
    assert_eq!(paused.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn errors_are_reported_in_bounded_time_and_retried_with_growing_pauses() {
    let (_directory, path) = projected();
    let refusal = "401\n\n{\"error\":\"invalid_client\",\"error_description\":\"AADSTS700213: no hunter2\"}";
    let answers =
        [refusal.into(), "503\nRetry-After: 20\n\nbusy".into(), token("three", 3_600).as_str().into()];
    let paused = Paused::start(&answers, &path);
    let began = paused.clock.now();
    let error = paused.authorize().await.unwrap_err().to_string();
    assert!(paused.clock.now().since(began) <= Duration::from_secs(6));
    assert!(!error.contains("hunter2"), "{error}");
    assert_eq!(paused.asked(), 2, "the first pause is a second");
    pass(10).await;
    assert_eq!(paused.asked(), 2, "the issuer asked for 20 s");
    pass(10).await;
    assert_eq!(paused.authorize().await.unwrap(), "Bearer three");
}

#[tokio::test(start_paused = true)]
async fn a_slow_issuer_costs_nothing_while_the_old_token_lasts() {
    let (_directory, path) = projected();
    let gate = Gate::closed();
    let answers = [token("one", 100).as_str().into(), Answer::held(&gate, token("late", 100).as_str())];
    let paused = Paused::start(&answers, &path);
    paused.authorize().await.unwrap();
    pass(80).await;
    assert_eq!(paused.asked(), 2, "asked at three quarters of its life");
    let began = paused.clock.now();
    assert_eq!(paused.authorize().await.unwrap(), "Bearer one");
    assert_eq!(paused.clock.now(), began, "no request waited");
    pass(25).await;
    assert!(paused.authorize().await.is_err(), "an expired token is never sent");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once() {
    let (_directory, path) = projected();
    let answers = [token("revoked", 3_600).as_str().into(), token("good", 3_600).as_str().into()];
    let paused = Paused::start(&answers, &path);
    assert_eq!(paused.authorize().await.unwrap(), "Bearer revoked");
    for _ in 0..50 {
        paused.credential.observe_answer(StatusCode::UNAUTHORIZED, &HeaderMap::new(), paused.clock.now());
    }
    pass(20).await;
    assert_eq!(paused.asked(), 1);
    pass(15).await;
    assert_eq!((paused.authorize().await.unwrap().as_str(), paused.asked()), ("Bearer good", 2));
    pass(60).await;
    assert_eq!(paused.asked(), 2, "one refusal, one new token");
}

#[test]
fn missing_settings_and_unsafe_urls_are_refused_at_start() {
    let made = |settings: &[&str]| {
        let layers = settings
            .iter()
            .fold(Layers::new().assignment("upstream.url=https://contoso.azconfig.io"), |layers, setting| {
                layers.setting(&format!("upstream.{setting}"))
            });
        let upstream = Config::unvalidated(layers).unwrap().upstreams.remove(0);
        let (_, dial) = {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _inside = runtime.enter();
            Origin::in_memory(Clock::manual(START))
        };
        let refusals = Refusals::new("main".to_owned(), Metrics::new(["main"]).upstream(0).origin.clone());
        EntraCredential::new(&upstream, |_| None, dial, Clock::manual(START), refusals)
            .map_or_else(|error| error.to_string(), |_| String::new())
    };
    assert_eq!(made(&[]), "", "a managed identity needs nothing");
    assert!(made(&["credential.client_secret=x"]).contains("tenant_id"));
    assert!(made(&["credential.client_secret=x", "credential.tenant_id=t"]).contains("client_id"));
    let all = ["credential.client_secret=hunter2", "credential.tenant_id=t", "credential.client_id=c"];
    assert_eq!(made(&all), "");
    let cleartext = made(&[all[0], all[1], all[2], "credential.authority=http://login.example"]);
    assert!(cleartext.contains("plain http") && !cleartext.contains("hunter2"), "{cleartext}");
    assert!(made(&["profile=generic", "url=https://api.example"]).contains("audience"));
    assert!(made(&["credential.client_secret_file=/nowhere"]).contains("client_secret_file"));
}
