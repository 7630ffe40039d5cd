//! A 401 of the upstream: the application learns only about its own credential, and the operator about the sidecar's.

use tagalong::internals::accept::Address;
use tagalong::internals::clock::Clock;
use tagalong::internals::config::{Config, Layers};
use tagalong::internals::proxy::assemble::Environment;
use tagalong::internals::sidecar::Sidecar;
use tokio_util::sync::CancellationToken;

use crate::support::caller::{Caller, Response};
use crate::support::origin::Origin;
use crate::support::scene::{START, Scene};

const REFUSED: &str =
    "401\nWWW-Authenticate: HMAC-SHA256 error=\"invalid_token\", error_description=\"Invalid Signature\"";
const SIGNED: &str = "Authorization: HMAC-SHA256 Credential=app&SignedHeaders=x-ms-date;host&Signature=AAAA";
const OWN: [&str; 3] = [
    "upstream.credential.kind=hmac",
    "upstream.credential.id=test-id",
    "upstream.credential.secret=c2VjcmV0",
];

#[tokio::test]
async fn a_401_to_the_sidecars_credential_becomes_an_error_of_the_sidecar() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "one").unwrap();
    let file = format!("upstream.credential.bearer_file={}", directory.path().join("token").display());
    for (settings, kind) in
        [(&OWN[..], "hmac"), (&["upstream.credential.kind=bearer-file", file.as_str()], "bearer-file")]
    {
        let scene = Scene::with(settings).await;
        for request in ["GET /a", "GET /a\nRange: bytes=0-1,3-4", "PUT /a\n\nx", "GET /a\nIf-Match: \"1\""] {
            scene.on("/a", REFUSED);
            let answer = scene.send(request).await;
            assert_eq!(answer.status, 502, "{request}: {:?}", answer.head);
            assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{request}");
            assert!(answer.field("www-authenticate").is_none(), "{request}");
            assert!(
                answer.text().contains("credential-refused") && answer.text().contains(kind),
                "{request}"
            );
            assert_eq!(answer.cache_status().detail.as_deref(), Some("credential-refused"), "{request}");
        }
        scene.on("/a", "401\nCache-Control: max-age=60\n\nkept");
        assert_eq!(
            (scene.get("/a").await.status, scene.get("/a").await.status),
            (502, 502),
            "a stored one too"
        );
        scene.on("/b", "403\n\nno");
        let forbidden = scene.get("/b").await;
        assert_eq!((forbidden.status, forbidden.text()), (403, "no"), "{kind}");
    }
}

#[tokio::test]
async fn a_401_to_the_callers_credential_is_passed_on() {
    for (kind, credential) in [("forward", "Authorization: Bearer x"), ("forward", "X: y"), ("none", SIGNED)]
    {
        let scene = Scene::with(&[&format!("upstream.credential.kind={kind}")]).await;
        scene.on("/a", "401\nWWW-Authenticate: Bearer\n\nwho are you");
        let answer = scene.send(&format!("GET /a\n{credential}")).await;
        assert_eq!((answer.status, answer.text()), (401, "who are you"), "{kind} {credential}");
        assert_eq!(answer.field("www-authenticate"), Some("Bearer"), "{kind} {credential}");
    }
}

#[tokio::test]
async fn a_signature_for_the_sidecars_address_gets_an_explanation() {
    let scene = Scene::with(&["upstream.profile=app-configuration"]).await;
    for request in ["GET /kv/a", "PUT /kv/a"] {
        scene.on("/kv/a", REFUSED);
        let body = if request.starts_with("PUT") { "\n\n{}" } else { "" };
        let answer = scene.send(&format!("{request}\n{SIGNED}{body}")).await;
        assert_eq!(answer.status, 401, "{request}");
        let challenge = answer.field("www-authenticate").expect("a challenge");
        assert!(
            challenge.starts_with("HMAC-SHA256") && !challenge.contains("Invalid Signature"),
            "{challenge}"
        );
        assert!(answer.text().contains("upstream.credential.kind") && answer.text().contains("hmac"));
    }
    // A signature for the origin's own name can be valid, so the origin's 401 is passed on.
    let host = scene.origin.address;
    scene.on("/kv/b", REFUSED);
    let answer = scene.send(&format!("GET /kv/b\nHost: {host}\n{SIGNED}")).await;
    assert!(
        answer.field("www-authenticate").is_some_and(|it| it.contains("Invalid Signature")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn readiness_says_that_the_credential_is_refused_until_an_answer_comes() {
    let clock = Clock::manual(START);
    let origin = Origin::start(clock.clone()).await;
    let mut layers = Layers::new()
        .assignment(&format!("upstream.url=http://{}", origin.address))
        .assignment("upstream.profile=generic")
        .assignment("listener.listen=127.0.0.1:0")
        .assignment("admin.listen=127.0.0.1:0");
    for setting in OWN {
        layers = layers.setting(setting);
    }
    let environment = Environment { clock, ..Environment::default() };
    let sidecar = Sidecar::bind(&Config::new(layers).unwrap(), &environment).await.unwrap();
    let Address::Tcp(address) = sidecar.addresses().unwrap().remove(0) else { panic!("a TCP listener") };
    let admin = sidecar.admin_addresses().unwrap()[0];
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(sidecar.run(shutdown.clone()));
    let until = async |wanted: &dyn Fn(&Response) -> bool| loop {
        let readiness = Caller::connect(admin).await.send("GET /readyz").await;
        if wanted(&readiness) {
            return;
        }
        tokio::task::yield_now().await;
    };
    until(&|ready| ready.status == 200).await;
    origin.on("/a", REFUSED);
    assert_eq!(Caller::connect(address).await.send("GET /a").await.status, 502);
    until(&|ready| ready.status == 503 && ready.text().contains("credential-refused")).await;
    origin.on("/a", "403");
    assert_eq!(Caller::connect(address).await.send("GET /a").await.status, 403);
    until(&|ready| ready.status == 200).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
