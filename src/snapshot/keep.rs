//! Acting: the snapshot is restored at the start, and written as long as the sidecar runs.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::select_all;
use tokio::sync::watch;
use tracing::{info, warn};

use super::contents::{self, RestoredCollection, SnapshotContents};
use super::file::SnapshotFile;
use super::header::SnapshotSource;
use super::record::{write_collection, write_stored};
use super::refusal::SnapshotRefusal;
use crate::clock::{Clock, Timestamp};
use crate::config::SnapshotSettings;
use crate::config::snapshot::OnForbidden;
use crate::credentials::Credential;
use crate::credentials::partition::Identity;
use crate::metrics::SnapshotMetrics;
use crate::mirror::Mirror;
use crate::mirror::give_up::GiveUpReason;
use crate::seal::key::{SealingKey, SealingKeySource, SealingPurpose};
use crate::store::Store;
use crate::stored_response::StoredResponse;
use crate::upstream::Upstream;

/// For what a key is derived from an access key.
const KEY_PURPOSE: &[u8] = b"tagalong snapshot";

/// An upstream whose responses are kept.
pub struct SnapshotUpstream {
    /// As it stands in the head of the file.
    pub source: SnapshotSource,
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// Its mirror.
    pub mirror: Option<Arc<Mirror>>,
}

/// What was restored at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredSnapshot {
    /// Of each upstream, whether there is something that may answer while its origin is away.
    pub has: Vec<bool>,
    /// There is a file, and it is older than `snapshot.max_age`.
    pub is_too_old: bool,
}

/// The snapshot of a sidecar.
pub struct Snapshots {
    settings: SnapshotSettings,
    file: SnapshotFile,
    /// The key of the key file; `None`: it is derived from the access key of an upstream.
    key: Option<SealingKey>,
    store: Arc<dyn Store>,
    upstreams: Vec<SnapshotUpstream>,
    clock: Clock,
    metrics: SnapshotMetrics,
    progress: Mutex<SnapshotProgress>,
}

/// What is known of the file.
#[derive(Default)]
struct SnapshotProgress {
    /// The generation of the file.
    generation: u64,
    /// What had been changed when it was written, or when it was restored.
    changes: u64,
    /// Whether it has something of each upstream.
    has: Vec<bool>,
    /// The last write failed, and the log says so.
    fails: bool,
}

impl Snapshots {
    /// The snapshot at the configured path. `key` is that of the key file, if one is configured.
    ///
    /// # Errors
    /// When the path names no file.
    pub fn new(
        settings: SnapshotSettings,
        path: &std::path::Path,
        key: Option<SealingKey>,
        store: Arc<dyn Store>,
        upstreams: Vec<SnapshotUpstream>,
        clock: Clock,
        metrics: SnapshotMetrics,
    ) -> io::Result<Self> {
        let progress = SnapshotProgress { has: vec![false; upstreams.len()], ..SnapshotProgress::default() };
        let (file, progress) = (SnapshotFile::at(path)?, Mutex::new(progress));
        Ok(Self { settings, file, key, store, upstreams, clock, metrics, progress })
    }

    /// The key: of the key file, else derived from the first access key.
    fn key(&self) -> Option<SealingKey> {
        self.key.clone().or_else(|| derived_key(self.upstreams.iter().map(|it| it.upstream.credential())))
    }

    /// Puts what the file has into the store and the mirrors. To be called before the first request. What may not be used is told in the
    /// log.
    pub fn restore(&self) -> RestoredSnapshot {
        self.file.remove_old_drafts();
        let restored = match self.read() {
            Ok(None) => {
                info!(file = %self.file.path().display(), "there is no snapshot yet; it is written after the first answers");
                RestoredSnapshot::default()
            }
            Ok(Some((contents, written_at))) => {
                RestoredSnapshot { has: self.put(contents, written_at), is_too_old: false }
            }
            Err(refusal) => {
                self.refuse(refusal, None);
                RestoredSnapshot { has: Vec::new(), is_too_old: refusal == SnapshotRefusal::TooOld }
            }
        };
        let changes = self.changes();
        self.lock().changes = changes;
        restored
    }

    fn read(&self) -> Result<Option<(SnapshotContents, Timestamp)>, SnapshotRefusal> {
        let mut file = match File::open(self.file.path()) {
            Ok(file) => BufReader::with_capacity(128 * 1024, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(SnapshotRefusal::Unreadable),
        };
        let metadata = file.get_ref().metadata().map_err(|_| SnapshotRefusal::Unreadable)?;
        if !metadata.is_file() {
            return Err(SnapshotRefusal::Unreadable);
        }
        let (header, line) = contents::read_header(&mut file)?;
        {
            let mut progress = self.lock();
            // Whatever becomes of it, the next one is newer.
            progress.generation = header.generation;
            // What is not used is erased all the same if the origin forbids it.
            progress.has = self
                .upstreams
                .iter()
                .map(|it| header.sources.iter().any(|source| source.name == it.source.name))
                .collect();
        }
        let key = self.key().ok_or(SnapshotRefusal::NoKey)?;
        header.check(&key.id(), self.clock.now(), self.settings.max_age)?;
        if metadata.len() > self.size_limit_bytes() {
            return Err(SnapshotRefusal::TooLarge);
        }
        let sources: Vec<Option<usize>> =
            header.sources.iter().map(|source| self.upstream_of(source)).collect();
        let upstream_of = |source: u16| {
            let index = sources.get(usize::from(source)).copied().flatten()?;
            Some((index, self.upstreams.get(index)?.source.name.as_str()))
        };
        let mut contents = SnapshotContents::default();
        contents::read_records(&mut file, (&header, &line), &key, |record| {
            contents.take(&record, upstream_of)
        })?;
        Ok(Some((contents, header.written_at)))
    }

    /// The position of the upstream that a source is of, if it is the same one still.
    fn upstream_of(&self, source: &SnapshotSource) -> Option<usize> {
        let index = self.upstreams.iter().position(|it| it.source.name == source.name);
        let now = index.and_then(|index| self.upstreams.get(index));
        match source.check(now.map(|it| &it.source)) {
            Ok(()) => index,
            Err(refusal) => {
                self.refuse(refusal, Some(&source.name));
                None
            }
        }
    }

    fn refuse(&self, refusal: SnapshotRefusal, upstream: Option<&str>) {
        self.metrics.refused(refusal.as_str());
        warn!(
            file = %self.file.path().display(),
            reason = refusal.as_str(),
            upstream,
            "the snapshot is not used: {}",
            refusal.advice()
        );
    }

    /// No file of this configuration is larger: what is stored, twice (a mirror holds its items and what it answered with).
    fn size_limit_bytes(&self) -> u64 {
        const SPARE_BYTES: u64 = 16 << 20;
        let mirrors = self.upstreams.iter().filter_map(|it| it.mirror.as_ref());
        let mirrored: u64 = mirrors.map(|mirror| mirror.bytes_limit()).sum();
        2 * (self.store.capacity_bytes() + mirrored) + SPARE_BYTES
    }

    /// Stores what was read and is young enough. Says of each upstream whether there was something.
    fn put(&self, contents: SnapshotContents, written_at: Timestamp) -> Vec<bool> {
        let now = self.clock.now();
        let is_young = |response: &StoredResponse| now.since(response.response_time) <= self.settings.max_age;
        let erases = self.settings.on_forbidden == OnForbidden::Erase;
        let (mut responses, mut items, mut has) = (0, 0, vec![false; self.upstreams.len()]);
        for it in &self.upstreams {
            it.upstream.forget_restored_when_forbidden(erases);
        }
        for (index, key, response) in contents.responses {
            if is_young(&response) {
                self.store.put(&key, response);
                responses += 1;
                has[index] = true;
            }
        }
        for collection in contents.collections {
            let RestoredCollection { upstream: Some(index), selector, version, shape, is_one_state, ranges } =
                collection
            else {
                continue;
            };
            if let Some(mirror) = self.upstreams.get(index).and_then(|it| it.mirror.as_ref())
                && ranges.iter().all(|range| is_young(&range.answer))
            {
                let restored = mirror.restore((&selector, &version), shape, ranges, is_one_state);
                items += restored;
                has[index] |= restored > 0;
            }
        }
        self.metrics.restored(responses, items);
        info!(
            file = %self.file.path().display(),
            age_seconds = now.since(written_at).as_secs(),
            responses,
            items,
            "restored a snapshot; it answers while the origin cannot, and is validated when it can"
        );
        has
    }

    /// Writes the snapshot after changes, and erases what the origin forbids, until the task is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut forbidden: Vec<_> = self.upstreams.iter().map(|it| it.upstream.forbidden()).collect();
        let mut due = crate::clock::instant() + self.settings.interval;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    due = crate::clock::instant() + self.settings.interval;
                    self.write_if_changed().await;
                }
                index = becomes_true(&mut forbidden) => self.forbid(index).await,
            }
        }
    }

    /// Writes what has changed since the file was written.
    pub async fn write_if_changed(self: &Arc<Self>) {
        if self.changes() != self.lock().changes {
            self.write().await;
        }
    }

    /// What a 401 or 403 to the sidecar's own credential does.
    async fn forbid(self: &Arc<Self>, index: usize) {
        if self.settings.on_forbidden == OnForbidden::Keep {
            return;
        }
        let Some(it) = self.upstreams.get(index) else { return };
        if let Some(mirror) = &it.mirror {
            mirror.give_up_restored(GiveUpReason::Forbidden);
        }
        // Where it holds nothing of this upstream, nothing is written: some paths may be forbidden all the time.
        if self.lock().has.get(index).copied().unwrap_or_default() {
            warn!(
                upstream = it.source.name,
                file = %self.file.path().display(),
                "the origin refuses the sidecar's credential: what the snapshot has of this upstream is erased"
            );
            self.write().await;
        }
    }

    fn changes(&self) -> u64 {
        let mirrors = self.upstreams.iter().filter_map(|it| it.mirror.as_ref());
        self.store.changes() + mirrors.map(|mirror| mirror.changes()).sum::<u64>()
    }

    async fn write(self: &Arc<Self>) {
        let this = Arc::clone(self);
        // A panic there is told by the runtime; the next write is tried all the same.
        let _ended = tokio::task::spawn_blocking(move || this.write_now()).await;
    }

    /// Writes the file, on this thread.
    fn write_now(&self) {
        let mut progress = self.lock();
        let changes = self.changes();
        let included: Vec<bool> =
            self.upstreams.iter().map(|it| !*it.upstream.forbidden().borrow()).collect();
        let written = if included.contains(&true) {
            self.replace(&included, progress.generation + 1)
        } else {
            self.file.erase().map(|()| 0)
        };
        match written {
            Ok(size_bytes) => {
                self.metrics.written(size_bytes, self.clock.now());
                if std::mem::take(&mut progress.fails) {
                    info!(file = %self.file.path().display(), "the snapshot is written again");
                }
                *progress = SnapshotProgress {
                    generation: progress.generation + 1,
                    changes,
                    has: included,
                    fails: false,
                };
            }
            Err(error) => {
                self.metrics.failed();
                if !std::mem::replace(&mut progress.fails, true) {
                    warn!(
                        file = %self.file.path().display(),
                        %error,
                        "the snapshot cannot be written, and the file is as it was: see to the disk"
                    );
                }
            }
        }
    }

    fn replace(&self, included: &[bool], generation: u64) -> io::Result<u64> {
        let key = self.key().ok_or_else(|| io::Error::other("there is no key"))?;
        let now = self.clock.now();
        let upstreams: Vec<&SnapshotUpstream> = self
            .upstreams
            .iter()
            .zip(included)
            .filter(|(_, is_included)| **is_included)
            .map(|(it, _)| it)
            .collect();
        let sources = upstreams.iter().map(|it| SnapshotSource {
            // The key may have been rotated meanwhile.
            identity: it.upstream.credential().identity(),
            ..it.source.clone()
        });
        self.file.replace(|out| {
            contents::write(out, &key, (generation, now), sources.collect(), |out| {
                for (source, it) in (0_u16..).zip(&upstreams) {
                    let mirrored = it.mirror.as_ref().and_then(|mirror| mirror.loaded_collections());
                    let is_mirrored = mirrored.is_some();
                    self.write_responses(source, &it.source.name, is_mirrored, now, out)?;
                    for collection in mirrored.iter().flat_map(|(_, collections)| collections) {
                        let version = mirrored.as_ref().map_or("", |(version, _)| version.as_str());
                        write_collection(source, version, collection, out)?;
                    }
                }
                Ok(())
            })
        })
    }

    /// Writes the stored responses of one upstream. What a mirror made is left out where its ranges are written.
    fn write_responses(
        &self,
        source: u16,
        name: &str,
        is_mirrored: bool,
        now: Timestamp,
        out: &mut impl io::Write,
    ) -> io::Result<()> {
        let mut outcome = Ok(());
        self.store.for_each(&mut |key, variants| {
            if outcome.is_err()
                || key.upstream() != name.as_bytes()
                || !Identity::outlives_process(key.partition())
            {
                return;
            }
            let kept = variants.as_slice().iter().rev().filter(|response| {
                !(is_mirrored && response.is_mirrored)
                    && now.since(response.response_time) <= self.settings.max_age
            });
            // The most recent last, so that it is the first again once all are restored.
            outcome = kept.into_iter().try_for_each(|response| write_stored(source, key, response, out));
        });
        outcome
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SnapshotProgress> {
        // Nothing under this lock can panic half way through a change.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key that the first of these credentials with a lasting secret gives.
pub fn derived_key<'a>(credentials: impl Iterator<Item = &'a dyn Credential>) -> Option<SealingKey> {
    let mut keys = credentials.filter_map(|credential| credential.derived_key(KEY_PURPOSE));
    keys.next().map(|key| SealingKey::new(key, SealingPurpose::Snapshot, SealingKeySource::AccessKey))
}

/// Waits until one of them becomes true. Returns its position.
async fn becomes_true(are_so: &mut [watch::Receiver<bool>]) -> usize {
    loop {
        let changes = are_so.iter_mut().map(|is_so| {
            Box::pin(async move {
                match is_so.changed().await {
                    Ok(()) => *is_so.borrow_and_update(),
                    Err(_) => std::future::pending().await,
                }
            })
        });
        if let (true, index, _) = select_all(changes).await {
            return index;
        }
    }
}

/// Where the sync tokens of an upstream are kept beside a snapshot.
#[must_use]
pub fn sync_tokens_beside(snapshot: &std::path::Path, upstream: &str) -> PathBuf {
    let mut name = snapshot.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{upstream}.sync-tokens"));
    snapshot.with_file_name(name)
}
