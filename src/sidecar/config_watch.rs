//! Notices that the configuration file has other content: rewritten, replaced by renaming, or behind a link that was turned, as Kubernetes
//! does with ConfigMaps.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::input_file;
use crate::credentials::watched_file::WatchedFile;

/// A file counts as written when it has had the same content for so long. An editor that writes it in place empties it first, and an
/// empty configuration is a valid one.
const SETTLE_TIME: Duration = Duration::from_millis(250);

type ContentHash = [u8; 32];

fn hash(text: &str) -> ContentHash {
    Sha256::digest(text.as_bytes()).into()
}

/// See the module.
#[derive(Debug)]
pub struct ConfigWatch {
    file: WatchedFile<ContentHash>,
    clock: Clock,
    /// The content that was reported last, or found at first.
    known: Option<ContentHash>,
}

impl ConfigWatch {
    /// Takes the content as it is now for known. To be called before the configuration is read, so that no change falls between.
    #[must_use]
    pub fn new(path: &Path, clock: Clock) -> Self {
        let known = input_file::read_text(path).ok().map(|(_, text)| hash(&text));
        let file = WatchedFile::public(path, Box::new(|text| Ok(hash(text))));
        Self { file, clock, known }
    }

    /// Waits until the content has changed and is whole. A file that cannot be read has not changed; the log tells of it. It may be dropped at any
    /// time.
    pub async fn changed(&mut self, mut interval: watch::Receiver<Duration>) {
        loop {
            let pause = *interval.borrow_and_update();
            let pausing = async {
                if pause.is_zero() { std::future::pending().await } else { tokio::time::sleep(pause).await }
            };
            tokio::select! {
                () = pausing => {}
                changed = interval.changed() => match changed {
                    Ok(()) => continue,
                    // Nobody reloads any more.
                    Err(_) => std::future::pending().await,
                },
            }
            let Some(mut content) = self.content().await else { continue };
            if self.known == Some(content) {
                continue;
            }
            loop {
                tokio::time::sleep(SETTLE_TIME).await;
                match self.content().await {
                    Some(same) if same == content => break,
                    Some(other) => content = other,
                    None => {}
                }
            }
            if self.known.replace(content) != Some(content) {
                return;
            }
        }
    }

    async fn content(&self) -> Option<ContentHash> {
        self.file.current(self.clock.now()).await.ok().map(|hash| *hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const INTERVAL: Duration = Duration::from_secs(5);

    /// How long the change was waited for; `None`: an hour and more.
    async fn noticed_after(watch: &mut ConfigWatch, interval: &watch::Sender<Duration>) -> Option<Duration> {
        let start = crate::clock::instant();
        let changed = watch.changed(interval.subscribe());
        tokio::time::timeout(Duration::from_secs(3_600), changed).await.ok().map(|()| start.elapsed())
    }

    fn start(path: &Path) -> (ConfigWatch, watch::Sender<Duration>) {
        let clock = Clock::tokio(Timestamp::from_unix_seconds(1_763_719_200));
        (ConfigWatch::new(path, clock), watch::Sender::new(INTERVAL))
    }

    #[tokio::test(start_paused = true)]
    async fn another_content_is_noticed_once_and_the_same_content_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tagalong.toml");
        std::fs::write(&path, "a").unwrap();
        let (mut watch, interval) = start(&path);
        assert_eq!(noticed_after(&mut watch, &interval).await, None);
        std::fs::write(&path, "b").unwrap();
        let noticed = noticed_after(&mut watch, &interval).await.unwrap();
        assert!(noticed >= INTERVAL + SETTLE_TIME && noticed < INTERVAL + 2 * SETTLE_TIME, "{noticed:?}");
        // Another file with the same content.
        std::fs::write(directory.path().join("new"), "b").unwrap();
        std::fs::rename(directory.path().join("new"), &path).unwrap();
        assert_eq!(noticed_after(&mut watch, &interval).await, None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(noticed_after(&mut watch, &interval).await, None);
        std::fs::write(&path, "c").unwrap();
        assert!(noticed_after(&mut watch, &interval).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_config_map_that_is_replaced_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // As the kubelet lays it out: file -> ..data/file, and ..data -> the directory of this version.
        for (version, text) in [("..v1", "a"), ("..v2", "b")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("tagalong.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/tagalong.toml", at("tagalong.toml")).unwrap();
        let (mut watch, interval) = start(&at("tagalong.toml"));
        std::os::unix::fs::symlink("..v2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(noticed_after(&mut watch, &interval).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_interval_may_change_while_it_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tagalong.toml");
        std::fs::write(&path, "a").unwrap();
        let (mut watch, interval) = start(&path);
        interval.send_replace(Duration::ZERO);
        std::fs::write(&path, "b").unwrap();
        assert_eq!(noticed_after(&mut watch, &interval).await, None, "switched off");
        let waiting = noticed_after(&mut watch, &interval);
        let switching_on = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            interval.send_replace(INTERVAL);
        };
        let (noticed, ()) = tokio::join!(waiting, switching_on);
        assert!(noticed.unwrap() < Duration::from_secs(60) + 2 * INTERVAL);
    }
}
