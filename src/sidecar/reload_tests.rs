//! Every key: a reload that changes it has the same effect as a start with the changed configuration, or is refused with its name.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::config::UpstreamSettings;
use crate::config::test_keys;
use crate::sidecar::Assembly;
use crate::transport::dial::Dial;

/// A sidecar without ports.
struct Assembled {
    reloader: Reloader,
}

fn config(assignments: &[String]) -> Config {
    match Config::new(layers(assignments)) {
        Ok(config) => config,
        Err(errors) => panic!("{assignments:?}: {errors}"),
    }
}

fn layers(assignments: &[String]) -> Layers {
    assignments.iter().fold(Layers::new(), |layers, it| layers.setting(it))
}

impl Assembled {
    fn new(assignments: &[String]) -> Self {
        let dial = |_: &UpstreamSettings| -> Arc<dyn Dial> {
            Arc::new(|_: http::Uri| -> futures_util::future::BoxFuture<'static, _> {
                Box::pin(std::future::ready(Err(std::io::ErrorKind::ConnectionRefused.into())))
            })
        };
        let environment = Environment { dial: Some(&dial), ..Environment::default() };
        let config = config(assignments);
        let Assembly { proxy, admin, readiness, .. } = Assembly::new(&config, &environment).unwrap();
        let limits = AcceptLimits::new(&config.limits, &config.deadlines).into();
        let reloader = Reloader::new(&config, proxy, Arc::new(admin), limits, readiness, &environment);
        Self { reloader }
    }

    async fn reload(&self, assignments: &[String]) -> Result<Vec<ChangedKey>, ReloadRefusal> {
        let layers = layers(assignments);
        self.reloader.reload(move || layers).await
    }

    /// What is read of the configuration while it runs.
    fn in_force(&self) -> String {
        let Reloader { proxy, admin, limits, interval, .. } = &self.reloader;
        let (proxy, limits, interval) = (proxy.current().in_force(), limits.current(), *interval.borrow());
        format!("{proxy}\n{:?}\n{limits:?}\n{interval:?}", admin.rules())
    }
}

/// The configurations before and after a change of one key.
struct Case {
    before: Vec<String>,
    after: Vec<String>,
}

/// Where the value of a key depends on others: what else is set, the value before and the value after.
fn special_cases(directory: &Path) -> BTreeMap<&'static str, (Vec<String>, String, String)> {
    let file = |name: &str, text: &str| {
        let path = directory.path(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let [secret_a, secret_b] = ["aHVudGVyMg==", "b3RoZXI="];
    let string = |secret: &str| format!("Endpoint=http://origin.test;Id=i;Secret={secret}");
    let keys = [secret_a, secret_b].map(|it| file(&format!("keys{it}"), &format!("Id=a;Secret={it}\n")));
    let tokens = ["t1", "t2"].map(|it| file(it, "token\n"));
    let secrets = [secret_a, secret_b].map(|it| file(&format!("secret{it}"), it));
    let strings = [secret_a, secret_b].map(|it| file(&format!("string{it}"), &string(it)));
    let key_file = file("key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chains = ["a.pem", "b.pem"].map(|it| file(it, &certificate.cert.pem()));
    let private_keys = ["a.key", "b.key"].map(|it| file(it, &certificate.signing_key.serialize_pem()));
    let own = |more: &[&str]| more.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let set = |key: &str, value: &str| format!("{key}={value}");
    let two = |[before, after]: &[String; 2]| (before.clone(), after.clone());
    let hmac = |more: &[String]| [own(&["upstream.credential.kind=hmac"]), more.to_vec()].concat();
    let entra = own(&[
        "upstream.credential.kind=entra",
        "upstream.profile=app-configuration",
        "upstream.credential.audience=https://azconfig.io",
        "upstream.credential.authority=https://login.test",
    ]);
    let entra_secret =
        [entra.clone(), own(&["upstream.credential.tenant_id=t", "upstream.credential.client_id=c"])]
            .concat();
    let mirror = own(&[
        "upstream.mirror.enabled=true",
        "upstream.profile=app-configuration",
        "upstream.credential.kind=none",
    ]);
    let fleet = vec!["fleet.url=redis://127.0.0.1:1".to_owned(), set("fleet.key_file", &key_file)];
    let snapshot =
        vec![set("snapshot.file", &directory.path("snapshot")), set("snapshot.key_file", &key_file)];
    let mut cases = BTreeMap::new();
    let mut case = |key: &'static str, base: Vec<String>, (before, after): (String, String)| {
        assert!(cases.insert(key, (base, before, after)).is_none(), "{key} stands twice");
    };
    let texts = |before: &str, after: &str| (before.to_owned(), after.to_owned());
    case("listener.upstream", own(&["upstreams.b.url=http://b.test", "upstreams.b.hosts=b"]), texts("", "b"));
    case("listener.local_keys_file", vec![], two(&keys));
    case("listener.bearer_file", vec![], two(&tokens));
    case(
        "listener.bearer_field",
        vec![set("listener.bearer_file", &tokens[0])],
        texts("Authorization", "x-token"),
    );
    case("listener.unix", vec![], texts("", "/nowhere/s"));
    case("listener.unix_mode", vec![], texts("0600", "0660"));
    case("listener.unix_group", vec![], texts("0", "1"));
    case("listener.unix_users", vec![], texts("0", "1"));
    case("listener.listen", vec![], texts("127.0.0.1:1", "127.0.0.1:2"));
    case("listener.tls.certificate_file", vec![set("listener.tls.key_file", &private_keys[0])], two(&chains));
    case("listener.tls.key_file", vec![set("listener.tls.certificate_file", &chains[0])], two(&private_keys));
    case("admin.listen", vec![], texts("127.0.0.1:1", "127.0.0.1:2"));
    case("admin.token_file", vec![], two(&tokens));
    case("upstream.url", vec![], texts("http://origin.test", "http://other.test"));
    case("upstream.replicas", vec![], texts("http://r1.test", "http://r2.test"));
    case("upstream.profile", vec![], texts("generic", "app-configuration"));
    case("upstream.path_prefix", vec![], texts("", "/p"));
    case("upstream.allowed_paths", vec![], texts("", "/p"));
    case("upstream.sync_token_file", vec![], texts("", &directory.path("tokens")));
    case("upstream.proxy", vec![], texts("environment", "none"));
    case("upstream.tls.ca_file", vec![], two(&chains));
    case(
        "upstream.tls.client_certificate_file",
        vec![set("upstream.tls.client_key_file", &private_keys[0])],
        two(&chains),
    );
    case(
        "upstream.tls.client_key_file",
        vec![set("upstream.tls.client_certificate_file", &chains[0])],
        two(&private_keys),
    );
    case("upstream.credential.kind", vec![], texts("none", "forward"));
    case("upstream.credential.connection_string", hmac(&[]), (string(secret_a), string(secret_b)));
    case("upstream.credential.connection_string_file", hmac(&[]), two(&strings));
    case("upstream.credential.id", hmac(&[set("upstream.credential.secret", secret_a)]), texts("a", "b"));
    case("upstream.credential.secret", hmac(&own(&["upstream.credential.id=a"])), texts(secret_a, secret_b));
    case("upstream.credential.secret_file", hmac(&own(&["upstream.credential.id=a"])), two(&secrets));
    case("upstream.credential.bearer_file", own(&["upstream.credential.kind=bearer-file"]), two(&tokens));
    case(
        "upstream.credential.tenant_id",
        [entra.clone(), own(&["upstream.credential.client_id=c", "upstream.credential.client_secret=s"])]
            .concat(),
        texts("t", "u"),
    );
    case("upstream.credential.client_id", entra.clone(), texts("c", "d"));
    let federated = vec![set("upstream.credential.federated_token_file", &tokens[0])];
    case("upstream.credential.client_secret", [entra_secret.clone(), federated].concat(), texts("", "s"));
    case("upstream.credential.client_secret_file", entra_secret.clone(), two(&secrets));
    case("upstream.credential.federated_token_file", entra_secret.clone(), two(&tokens));
    case(
        "upstream.credential.authority",
        [
            own(&["upstream.credential.client_secret=s"]),
            entra_secret.iter().filter(|it| !it.contains("authority")).cloned().collect(),
        ]
        .concat(),
        texts("https://a.test", "https://b.test"),
    );
    case("upstream.credential.imds", entra.clone(), texts("http://a.test", "http://b.test"));
    case(
        "upstream.credential.audience",
        entra.iter().filter(|it| !it.contains("audience")).cloned().collect(),
        texts("https://a.test", "https://b.test"),
    );
    for key in ["upstream.mirror.interval", "upstream.mirror.items_limit", "upstream.mirror.bytes_limit"] {
        case(key, mirror.clone(), texts("", ""));
    }
    case("upstream.mirror.enabled", mirror[1..].to_vec(), texts("false", "true"));
    case("upstream.mirror.select", mirror, texts("key=a*", "key=b*"));
    case("upstream.prefetch.targets", own(&["upstream.credential.kind=none"]), texts("/a", "/b"));
    for key in [
        "upstream.budget.window",
        "upstream.budget.share",
        "upstream.budget.reserve",
        "upstream.budget.stretch_limit",
    ] {
        case(key, own(&["upstream.budget.requests=1000"]), texts("", ""));
    }
    for key in ["snapshot.interval", "snapshot.max_age", "snapshot.on_forbidden"] {
        case(key, snapshot.clone(), texts("", ""));
    }
    case("snapshot.file", snapshot[1..].to_vec(), (directory.path("snapshot"), directory.path("other")));
    case(
        "snapshot.key_file",
        snapshot[..1].to_vec(),
        (key_file.clone(), file("key2", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=")),
    );
    for key in ["fleet.lease", "fleet.announce", "fleet.second_level"] {
        case(key, fleet.clone(), texts("", ""));
    }
    case("fleet.url", fleet[1..].to_vec(), texts("redis://127.0.0.1:1", "redis://127.0.0.1:2"));
    case("fleet.key_file", fleet[..1].to_vec(), (key_file, directory.path("key2")));
    case("fleet.password_file", fleet.clone(), two(&tokens));
    case(
        "fleet.ca_file",
        [own(&["fleet.url=rediss://127.0.0.1:1"]), fleet[1..].to_vec()].concat(),
        two(&chains),
    );
    case("logging.level", vec![], texts("info", "debug"));
    case("upstream.routes.*.path_prefix", vec![], texts("/r", "/q"));
    case("upstream.routes.*.outdates", vec![], texts("", "/o"));
    case("upstream.routes.*.write_strategy", vec![], texts("", "require-if-match"));
    case("store.limit", vec![], texts("", "128MiB"));
    case("limits.request_body", vec![], texts("", "2MiB"));
    cases
}

trait Below {
    fn path(&self, name: &str) -> String;
}

impl Below for Path {
    fn path(&self, name: &str) -> String {
        self.join(name).display().to_string()
    }
}

fn case(key: &test_keys::KeyFacts, special: &BTreeMap<&'static str, (Vec<String>, String, String)>) -> Case {
    let mut base = vec!["admin.listen=".to_owned()];
    let path = key.path.replace('*', "r");
    if path.starts_with("upstream.routes.") {
        base.push("upstream.routes.r.path_prefix=/r".to_owned());
    }
    let (before, after) = match special.get(key.path) {
        Some((more, before, after)) => {
            base.extend(more.iter().cloned());
            (before.clone(), after.clone())
        }
        None => Default::default(),
    };
    let after = if before == after { key.other_value.clone() } else { after };
    for (name, value) in [("upstream.url", "http://origin.test"), ("upstream.profile", "generic")] {
        if !base.iter().any(|it| it.starts_with(name)) {
            base.insert(0, format!("{name}={value}"));
        }
    }
    let with = |value: &str| {
        let mut assignments = base.clone();
        let set = format!("{path}=");
        assignments.retain(|it| !it.starts_with(&set));
        if !value.is_empty() {
            assignments.push(format!("{set}{value}"));
        }
        assignments
    };
    Case { before: with(&before), after: with(&after) }
}

/// Keys that nothing reads but the validation of the configuration, or the log: tests of their own hold them.
const READ_ELSEWHERE: [&str; 2] = ["listener.allow_remote", "logging.level"];

/// Keys that name a variable of the process: it cannot change while the process runs, so that the name that is new is not found.
const VARIABLES: [&str; 2] =
    ["upstream.credential.connection_string_variable", "upstream.credential.secret_variable"];

#[tokio::test]
async fn a_reload_of_any_key_does_what_a_restart_would_or_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let special = special_cases(directory.path());
    let keys: Vec<_> = test_keys::all().collect();
    let mut failures = Vec::new();
    for key in keys.iter().filter(|key| !VARIABLES.contains(&key.path)) {
        let Case { before, after } = case(key, &special);
        let path = key.path.replace('*', "r");
        let running = Assembled::new(&before);
        let at_first = running.in_force();
        let outcome = running.reload(&after).await;
        if key.needs_restart {
            let is_named = matches!(&outcome, Err(ReloadRefusal::NeedsRestart(NeedsRestart(paths))) if *paths == [path.clone()]);
            if !is_named || running.in_force() != at_first {
                failures.push(format!("{path} needs a restart: {outcome:?}"));
            }
            continue;
        }
        match outcome {
            Ok(changes) if changes.iter().any(|it| it.path == path) => {}
            outcome => {
                failures.push(format!("{path}: {before:?} -> {after:?}: {outcome:?}"));
                continue;
            }
        }
        let now = running.in_force();
        let after_restart = Assembled::new(&after).in_force();
        if now != after_restart {
            failures.push(format!("{path}: after a reload\n{now}\nand after a restart\n{after_restart}"));
        }
        if (now == at_first) != READ_ELSEWHERE.contains(&key.path) {
            failures.push(format!("{path} has no effect: {before:?} -> {after:?}\n{now}"));
        }
        // And back again.
        running.reload(&before).await.unwrap();
        if running.in_force() != at_first {
            failures.push(format!("{path} cannot be taken back"));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n\n"));
}

#[tokio::test]
async fn a_variable_that_is_not_set_refuses_the_reload() {
    for (key, id) in VARIABLES.iter().zip(["", "upstream.credential.id=a"]) {
        let base = ["upstream.url=http://origin.test", "upstream.profile=generic", id];
        let base: Vec<_> = base.iter().filter(|it| !it.is_empty()).map(|it| (*it).to_owned()).collect();
        let string =
            "upstream.credential.connection_string=Endpoint=http://origin.test;Id=i;Secret=aHVudGVyMg==";
        let running = Assembled::new(&[base.clone(), vec![string.to_owned()]].concat());
        let before = running.in_force();
        let refusal = running.reload(&[base, vec![format!("{key}=TAGALONG_TEST_UNSET")]].concat()).await;
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains("TAGALONG_TEST_UNSET is not set"), "{refusal}");
        assert_eq!(running.in_force(), before);
    }
}

#[tokio::test]
async fn what_only_validation_reads_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().path("token");
    let base = |allowed: bool| {
        let set = ["upstream.url=http://origin.test", "listener.listen=0.0.0.0:1", "admin.listen="];
        let mut set: Vec<_> = set.iter().map(|it| (*it).to_owned()).collect();
        set.push(format!("listener.bearer_file={token}"));
        set.push(format!("listener.allow_remote={allowed}"));
        set
    };
    let running = Assembled::new(&base(true));
    let refusal = running.reload(&base(false)).await.unwrap_err().to_string();
    assert!(refusal.contains("0.0.0.0:1 is reachable from other machines"), "{refusal}");
}

#[tokio::test]
async fn a_refused_reload_changes_nothing_and_every_outcome_is_counted() {
    let set = |more: &[&str]| {
        let base = ["upstream.url=http://origin.test", "upstream.profile=generic"];
        base.iter().chain(more).map(|it| (*it).to_owned()).collect::<Vec<_>>()
    };
    let running = Assembled::new(&set(&[]));
    let before = running.in_force();
    let metric = |name: &str| {
        let metrics = running.reloader.proxy.current().metrics().text().unwrap();
        let text = String::from_utf8(metrics).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok()).unwrap()
    };
    let success = || metric("tagalong_config_last_reload_successful");
    assert_eq!(success(), 1.0);
    // Valid parts beside one that is not: all of it is refused.
    for (wrong, because) in [
        ("limits.connections=0", "write a whole number from 1 to 1000000"),
        ("limits.conections=7", "did you mean `limits.connections`"),
        ("store.limit=1GiB", "store.limit cannot be changed while the sidecar runs"),
        ("listener.local_keys_file=/nowhere/keys", "/nowhere/keys"),
    ] {
        let refusal = running.reload(&set(&["upstream.freshness=1s", wrong])).await.unwrap_err().to_string();
        assert!(refusal.contains(because), "{refusal}");
        assert_eq!(running.in_force(), before, "{wrong}");
    }
    assert_eq!((success(), metric(r#"tagalong_reloads_total{outcome="refused"}"#)), (0.0, 4.0));
    assert!(running.reload(&set(&[])).await.unwrap().is_empty());
    assert_eq!((success(), metric(r#"tagalong_reloads_total{outcome="unchanged"}"#)), (1.0, 1.0));
    assert_eq!(metric("tagalong_config_last_reload_timestamp_seconds"), 0.0);
    assert_eq!(running.reload(&set(&["upstream.freshness=1s"])).await.unwrap().len(), 1);
    assert_eq!((success(), metric(r#"tagalong_reloads_total{outcome="applied"}"#)), (1.0, 1.0));
    assert!(metric("tagalong_config_last_reload_timestamp_seconds") > 0.0);
}

#[tokio::test]
async fn what_was_learned_survives_a_reload() {
    let set = |more: &[&str]| {
        let base =
            ["upstream.url=http://origin.test", "upstream.profile=generic", "upstream.budget.requests=10"];
        base.iter().chain(more).map(|it| (*it).to_owned()).collect::<Vec<_>>()
    };
    let running = Assembled::new(&set(&[]));
    let before = running.reloader.proxy.current();
    running.reload(&set(&["upstream.freshness=1s", "upstream.refresh_ahead=false"])).await.unwrap();
    running
        .reload(&set(&["upstream.routes.r.path_prefix=/r", "upstream.routes.r.outdates=/o"]))
        .await
        .unwrap();
    let after = running.reloader.proxy.current();
    assert!(!Arc::ptr_eq(&before, &after) && Arc::ptr_eq(before.store(), after.store()));
    let of = |proxy: &Proxy| {
        let destination = &proxy.destinations()[0];
        let settings = destination.upstream.settings();
        let state = Arc::as_ptr(destination.upstream.state());
        (
            state,
            Arc::as_ptr(&destination.partitions),
            Arc::as_ptr(&settings.endpoints),
            Arc::as_ptr(settings.budget.as_ref().unwrap()),
        )
    };
    assert_eq!(of(&before), of(&after));
}
