//! The file on the disk: replaced whole, or not at all.
//!
//! ```text
//! draft beside it ── written ── fsync ── rename over the file ── fsync of the directory
//! ```
//!
//! A process that is killed at any moment leaves the old file or the new one, and perhaps a draft, which the next start removes. A
//! disk that is full, read-only or gone leaves the old file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::config::input_file;

/// Where a snapshot is.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    draft: PathBuf,
}

impl SnapshotFile {
    /// The file at this path, which need not be there.
    ///
    /// # Errors
    /// When the path names no file.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), draft: input_file::beside(path)? })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file with what `write` writes. Returns its size in bytes.
    ///
    /// # Errors
    /// Those of the disk and of `write`. Then the file is as it was.
    pub fn replace(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<u64> {
        let replaced = self.write_draft(write).and_then(|size_bytes| {
            std::fs::rename(&self.draft, &self.path)?;
            self.sync_directory()?;
            Ok(size_bytes)
        });
        if replaced.is_err() {
            // It may not be there.
            let _removed = std::fs::remove_file(&self.draft);
        }
        replaced
    }

    fn write_draft(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<u64> {
        let mut draft = BufWriter::with_capacity(128 * 1024, input_file::create_private(&self.draft, false)?);
        write(&mut draft)?;
        draft.flush()?;
        draft.get_ref().sync_all()?;
        Ok(draft.get_ref().metadata()?.len())
    }

    /// Removes the file.
    ///
    /// # Errors
    /// Those of the disk. It is none that it was not there.
    pub fn erase(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync_directory(),
        }
    }

    /// Removes the drafts of processes that were killed.
    pub fn remove_old_drafts(&self) {
        let Some(name) = self.path.file_name().and_then(std::ffi::OsStr::to_str) else { return };
        let Ok(entries) = std::fs::read_dir(self.directory()) else { return };
        let prefix = format!(".{name}.");
        for entry in entries.flatten() {
            let file_name = entry.file_name();
            let process = file_name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u32>().ok());
            if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
                let _removed = std::fs::remove_file(entry.path());
            }
        }
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(directory) if directory != Path::new("") => directory,
            _ => Path::new("."),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(self.directory())?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot");
        let file = SnapshotFile::at(&path).unwrap();
        assert_eq!(file.replace(|out| out.write_all(b"old")).unwrap(), 3);
        let failed = file.replace(|out| {
            out.write_all(&[0; 300_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        file.erase().unwrap();
        file.erase().unwrap();
        assert!(!path.exists());
        drop(directory);
        assert!(file.replace(|out| out.write_all(b"new")).is_err(), "the directory has vanished");
    }

    #[test]
    fn drafts_of_dead_processes_are_removed_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let own = std::process::id();
        // No process has this number: it is above the kernel's limit.
        for name in [".snapshot.4194305", &format!(".snapshot.{own}"), ".snapshot.x", ".other.4194305"] {
            std::fs::write(at(name), "").unwrap();
        }
        SnapshotFile::at(&at("snapshot")).unwrap().remove_old_drafts();
        let mut left: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".other.4194305", &format!(".snapshot.{own}"), ".snapshot.x"]);
    }
}
