//! The snapshot: what is answered after a restart while the origin is away, and which files are refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tagalong::internals::emulator::EmulatorSettings;
use tempfile::TempDir;

use super::scene::{EmulatedOrigin, pass, straight, told, write};
use crate::support::caller::Response;
use crate::support::sidecar::Sidecar;

const V: &str = "api-version=2026-04-01";

/// No file may hold it, in the clear or in base64.
const SECRET: &str = "MARKED-SECRET-0123456789";

/// The origin, and where a sidecar keeps its snapshot and its key.
struct Scene {
    origin: Arc<EmulatedOrigin>,
    directory: TempDir,
}

impl Scene {
    async fn with_items(items: usize) -> Self {
        let fill = async |emulator: &_| {
            for number in 0..items {
                let value = format!(r#"{{"value":"{SECRET} {number}"}}"#);
                write(emulator, &format!("/kv/k{number:03}?{V}"), &value).await;
            }
        };
        let settings = EmulatorSettings { drift_per_second: 1.25, ..EmulatorSettings::default() };
        let origin = EmulatedOrigin::filled(settings, fill, None).await;
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        Self { origin, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("data/snapshot")
    }

    fn key_file(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    fn sidecar(&self, keys: &[&str]) -> Sidecar {
        let file = format!("snapshot.file={}", self.file().display());
        let key_file = format!("snapshot.key_file={}", self.key_file().display());
        let keys: Vec<&str> = [&*file, &*key_file].into_iter().chain(keys.iter().copied()).collect();
        self.origin.sidecar(&keys)
    }

    fn goes_away(&self) {
        self.origin.is_away.store(true, Ordering::Relaxed);
    }

    fn comes_back(&self) {
        self.origin.is_away.store(false, Ordering::Relaxed);
    }

    /// A snapshot of these targets.
    async fn snapshot_of(&self, targets: &[&str], keys: &[&str]) {
        let sidecar = self.sidecar(keys);
        for target in targets {
            assert_eq!(get(&sidecar, target).await.status, 200, "{target}");
        }
        sidecar.write_snapshot().await;
    }

    /// Why a sidecar with these keys refuses the snapshot.
    async fn refusal(&self, keys: &[&str]) -> Option<&'static str> {
        let sidecar = self.sidecar(keys);
        let reasons =
            ["damaged", "format", "key", "too-old", "future", "store", "identity", "profile", "too-large"];
        reasons.into_iter().find(|reason| {
            let name = format!("tagalong_snapshot_refusals_total{{reason=\"{reason}\"}}");
            sidecar.metric(&name).is_some_and(|count| count > 0.0)
        })
    }
}

async fn get(sidecar: &Sidecar, target: &str) -> Response {
    sidecar.caller().await.send(&format!("GET {target}")).await
}

fn kv(number: usize) -> String {
    format!("/kv/k{number:03}?{V}")
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_answers_after_a_restart_without_the_origin() {
    let scene = Scene::with_items(3).await;
    let list = format!("/kv?{V}");
    let sidecar = scene.sidecar(&[]);
    let before = get(&sidecar, &kv(0)).await;
    get(&sidecar, &list).await;
    pass(Duration::from_secs(31)).await;
    assert_eq!(sidecar.metric("tagalong_snapshot_writes_total{outcome=\"written\"}"), Some(1.0));
    drop(sidecar);
    scene.goes_away();
    pass(Duration::from_secs(600)).await;
    let sidecar = scene.sidecar(&[]);
    assert_eq!(sidecar.metric("tagalong_snapshot_restored{what=\"stored\"}"), Some(2.0));
    let after = get(&sidecar, &kv(0)).await;
    assert_eq!((after.status, &after.body), (200, &before.body));
    assert_eq!(after.field("etag"), before.field("etag"));
    assert!(after.age().unwrap() >= 631, "{:?}", after.age());
    assert_eq!(told(&after), (false, Some("snapshot".into())));
    assert_eq!(get(&sidecar, &list).await.status, 200);
    assert_eq!(get(&sidecar, &kv(1)).await.status, 504, "nothing of it is stored");
    // The origin confirms what was restored, and no body comes.
    scene.comes_back();
    scene.origin.asked();
    let validated = get(&sidecar, &kv(0)).await;
    assert_eq!(told(&validated), (false, Some("snapshot".into())));
    assert_eq!(scene.origin.asked().last().unwrap().1, 304);
    let hit = get(&sidecar, &kv(0)).await;
    assert_eq!(told(&hit), (true, None));
}

#[tokio::test(start_paused = true)]
async fn a_restored_response_never_answers_in_the_place_of_an_origin_that_can() {
    let scene = Scene::with_items(1).await;
    scene.snapshot_of(&[&kv(0)], &[]).await;
    write(&scene.origin.emulator, &kv(0), r#"{"value":"newer"}"#).await;
    for level in ["session", "bounded-staleness", "strong"] {
        let sidecar = scene.sidecar(&[&format!("upstream.consistency={level}")]);
        assert!(get(&sidecar, &kv(0)).await.text().contains("newer"), "{level}");
    }
}

#[tokio::test(start_paused = true)]
async fn consistent_refuses_with_its_reason_and_an_own_write_outdates() {
    let scene = Scene::with_items(1).await;
    scene.snapshot_of(&[&kv(0)], &[]).await;
    scene.goes_away();
    let sidecar = scene.sidecar(&["upstream.when_disconnected=consistent"]);
    let refused = get(&sidecar, &kv(0)).await;
    assert_eq!(refused.status, 504);
    assert!(refused.text().contains("snapshot"), "{}", refused.text());
    drop(sidecar);
    scene.comes_back();
    let sidecar = scene.sidecar(&[]);
    let put = format!("PUT {}\nContent-Type: application/json\n\n{{\"value\":\"own\"}}", kv(0));
    assert_eq!(sidecar.caller().await.send(&put).await.status, 200);
    scene.goes_away();
    let refused = get(&sidecar, &kv(0)).await;
    assert_eq!(refused.status, 504, "the own write is newer than the snapshot");
}

#[tokio::test(start_paused = true)]
async fn a_day_without_the_origin_and_three_restarts() {
    const SWITCHES: [&str; 2] =
        ["upstream.routes.switches.path_prefix=/kv/k000", "upstream.routes.switches.stale_limit=2h"];
    let scene = Scene::with_items(3).await;
    let list = format!("/kv?{V}");
    scene.snapshot_of(&[&kv(0), &kv(1), &kv(2), &list], &SWITCHES).await;
    scene.goes_away();
    let mut sidecar = scene.sidecar(&SWITCHES);
    let (mut answers, mut refusals) = (0, 0);
    for minute in (5..=24 * 60).step_by(5) {
        pass(Duration::from_secs(5 * 60)).await;
        if minute % (6 * 60) == 0 && minute < 24 * 60 {
            sidecar.write_snapshot().await;
            sidecar = scene.sidecar(&SWITCHES);
        }
        for (target, limit) in
            [(kv(0), 2 * 3600), (kv(1), 24 * 3600), (kv(2), 24 * 3600), (list.clone(), 2 * 3600)]
        {
            let answer = get(&sidecar, &target).await;
            let stale_for = minute * 60 - 30;
            if answer.status == 200 {
                answers += 1;
                assert!(stale_for <= limit, "{target} after {minute} minutes");
                assert!(answer.age().unwrap() >= minute * 60 && told(&answer).1.is_some());
            } else {
                refusals += 1;
                assert!(stale_for > limit, "{target} after {minute} minutes: {}", answer.text());
                assert_eq!(answer.status, 504, "{}", answer.text());
            }
        }
    }
    // Two of four for two hours, two for the whole day.
    assert_eq!((answers, refusals), (2 * 24 + 2 * 288, 2 * (288 - 24)));
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_erases_what_was_restored() {
    let scene = Scene::with_items(2).await;
    let hmac =
        ["upstream.credential.kind=hmac", "upstream.credential.id=id", "upstream.credential.secret=c2VjcmV0"];
    let kept: Vec<&str> = hmac.into_iter().chain(["snapshot.on_forbidden=keep"]).collect();
    for (status, keys, erased) in [(401, &hmac[..], true), (403, &hmac, true), (401, &kept, false)] {
        scene.origin.behave();
        scene.comes_back();
        scene.snapshot_of(&[&kv(0), &kv(1)], &hmac).await;
        let sidecar = scene.sidecar(keys);
        scene.origin.spoil(move |_, _| http::Response::builder().status(status).body("".into()).unwrap());
        assert_ne!(get(&sidecar, &kv(0)).await.status, 200);
        scene.goes_away();
        pass(Duration::from_millis(10)).await;
        assert_eq!(get(&sidecar, &kv(1)).await.status == 200, !erased, "{status}");
        assert_eq!(scene.file().exists(), !erased, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_another_store_identity_profile_key_or_time_is_refused() {
    let scene = Scene::with_items(1).await;
    scene.snapshot_of(&[&kv(0)], &[]).await;
    assert_eq!(scene.refusal(&[]).await, None);
    assert_eq!(scene.refusal(&["upstream.url=http://127.0.0.1:8"]).await, Some("store"));
    assert_eq!(scene.refusal(&["upstream.credential.kind=forward"]).await, Some("identity"));
    assert_eq!(scene.refusal(&["upstream.sharing=rfc9111"]).await, Some("profile"));
    assert_eq!(scene.refusal(&["upstream.profile=generic"]).await, Some("profile"));
    let line = fs::read(scene.file()).unwrap();
    let format = String::from_utf8_lossy(&line).replacen("\"format\":1", "\"format\":2", 1);
    fs::write(scene.file(), format.as_bytes()).unwrap();
    assert_eq!(scene.refusal(&[]).await, Some("format"));
    fs::write(scene.file(), &line).unwrap();
    let key = fs::read(scene.key_file()).unwrap();
    fs::remove_file(scene.key_file()).unwrap();
    assert_eq!(scene.refusal(&[]).await, Some("key"));
    fs::write(scene.key_file(), key).unwrap();
    pass(Duration::from_secs(3601)).await;
    assert_eq!(scene.refusal(&["snapshot.max_age=1h"]).await, Some("too-old"));
    assert_eq!(scene.refusal(&[]).await, None);
}

#[tokio::test(start_paused = true)]
async fn every_flipped_bit_and_every_cut_is_refused() {
    let scene = Scene::with_items(1).await;
    scene.snapshot_of(&[&kv(0)], &[]).await;
    let whole = fs::read(scene.file()).unwrap();
    let opens = |bytes: &[u8]| show(&scene, bytes);
    assert!(opens(&whole));
    // The salt is derived from: its bits count as those of the stream. Whether a digit of JSON is another one is for the seal to find.
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut other = whole.clone();
            other[at] ^= 1 << bit;
            assert!(!opens(&other), "bit {bit} of byte {at}");
        }
    }
    for cut in 0..whole.len() {
        assert!(!opens(&whole[..cut]), "cut off after {cut} bytes");
    }
}

/// Whether these bytes are opened with the key of the scene.
fn show(scene: &Scene, bytes: &[u8]) -> bool {
    use tagalong::internals::credentials::token_file::Absent;
    use tagalong::internals::seal::key::{SealingKey, SealingPurpose};
    use tagalong::internals::snapshot::contents::{read_header, read_records};
    let key =
        SealingKey::from_file(&scene.key_file(), SealingPurpose::Snapshot, Absent::Try).unwrap().unwrap();
    let mut bytes = bytes;
    let Ok((header, line)) = read_header(&mut bytes) else { return false };
    let is_ours = header.check(&key.id(), header.written_at, Duration::MAX).is_ok();
    is_ours && read_records(&mut bytes, (&header, &line), &key, |_| Ok(())).is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_killed_at_any_byte_leaves_the_old_file() {
    let scene = Scene::with_items(40).await;
    scene.snapshot_of(&[&kv(0)], &[]).await;
    let old = fs::read(scene.file()).unwrap();
    let targets: Vec<String> = (0..40).map(kv).collect();
    scene.snapshot_of(&targets.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await;
    let new = fs::read(scene.file()).unwrap();
    assert!(new.len() > 64 * 100);
    // The number of a process that cannot be: the draft of one that was killed.
    let draft = scene.directory.path().join("data/.snapshot.4194305");
    for killed_at in (0..=new.len()).step_by(64).chain([new.len()]) {
        fs::write(scene.file(), &old).unwrap();
        fs::write(&draft, &new[..killed_at]).unwrap();
        let sidecar = scene.sidecar(&[]);
        let restored = sidecar.metric("tagalong_snapshot_restored{what=\"stored\"}");
        assert_eq!(restored, Some(1.0), "killed after {killed_at} bytes");
        assert!(!draft.exists(), "the draft is removed");
        if killed_at == new.len() {
            // Killed after the rename.
            fs::write(scene.file(), &new).unwrap();
            let restored = scene.sidecar(&[]).metric("tagalong_snapshot_restored{what=\"stored\"}");
            assert_eq!(restored, Some(40.0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_written_stops_nothing() {
    let scene = Scene::with_items(2).await;
    let sidecar = scene.sidecar(&[]);
    let failed = "tagalong_snapshot_writes_total{outcome=\"failed\"}";
    get(&sidecar, &kv(0)).await;
    fs::remove_dir_all(scene.directory.path().join("data")).unwrap();
    sidecar.write_snapshot().await;
    assert_eq!(sidecar.metric(failed), Some(1.0));
    assert_eq!(get(&sidecar, &kv(1)).await.status, 200);
    fs::create_dir(scene.directory.path().join("data")).unwrap();
    sidecar.write_snapshot().await;
    assert!(scene.file().exists());
    // A start without the directory.
    drop(sidecar);
    fs::remove_dir_all(scene.directory.path().join("data")).unwrap();
    assert_eq!(get(&scene.sidecar(&[]), &kv(0)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn no_file_holds_a_value() {
    let scene = Scene::with_items(60).await;
    let targets: Vec<String> = (0..60).map(kv).chain([format!("/kv?{V}")]).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    scene.snapshot_of(&targets, &["upstream.mirror.enabled=true"]).await;
    scene.snapshot_of(&targets, &[]).await;
    let marks = [SECRET.as_bytes().to_vec(), STANDARD.encode(SECRET).into_bytes()[..24].to_vec()];
    let mut files = 0;
    for file in files_below(scene.directory.path()) {
        let content = fs::read(&file).unwrap();
        files += 1;
        for mark in &marks {
            let found = content.windows(mark.len()).filter(|window| window == mark).count();
            assert_eq!(found, 0, "{}", file.display());
        }
    }
    // The snapshot, the key, and the sync tokens beside the snapshot.
    assert_eq!(files, 3);
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[tokio::test(start_paused = true)]
async fn a_mirror_is_restored_and_validated_without_bodies() {
    const MIRROR: [&str; 1] = ["upstream.mirror.enabled=true"];
    let scene = Scene::with_items(250).await;
    let sidecar = scene.sidecar(&MIRROR);
    sidecar.mirror().loaded().await;
    sidecar.write_snapshot().await;
    drop(sidecar);
    scene.goes_away();
    pass(Duration::from_secs(600)).await;
    let sidecar = scene.sidecar(&MIRROR);
    assert_eq!(sidecar.metric("tagalong_snapshot_restored{what=\"mirrored\"}"), Some(250.0));
    for target in [kv(0), kv(249), format!("/kv?{V}"), format!("/kv?{V}&key=k1*"), format!("/labels?{V}")] {
        let answer = get(&sidecar, &target).await;
        let expected = straight(&scene.origin.emulator, &format!("GET {target}")).await;
        assert_eq!((answer.status, &*answer.body), (200, &expected.body()[..]), "{target}");
        assert_eq!(told(&answer), (false, Some("snapshot".into())), "{target}");
    }
    assert_eq!(get(&sidecar, &kv(999)).await.status, 404);
    scene.comes_back();
    scene.origin.asked();
    sidecar.mirror().loaded().await;
    let asked = scene.origin.asked();
    assert!(asked.iter().all(|(_, status)| *status == 304), "{asked:?}");
    assert!((4..=5).contains(&asked.len()), "{asked:?}");
    assert_eq!(told(&get(&sidecar, &kv(3)).await), (true, Some("mirror".into())));
}

#[tokio::test(start_paused = true)]
async fn a_hit_changes_nothing_on_the_disk() {
    let scene = Scene::with_items(1).await;
    let sidecar = scene.sidecar(&[]);
    get(&sidecar, &kv(0)).await;
    sidecar.write_snapshot().await;
    fs::remove_file(scene.file()).unwrap();
    for _ in 0..10 {
        assert!(get(&sidecar, &kv(0)).await.is_hit());
    }
    pass(Duration::from_secs(120)).await;
    assert!(!scene.file().exists());
}
