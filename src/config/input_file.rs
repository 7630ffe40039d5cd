//! How the files that the operator names are read and created. Read are regular files alone, of bounded size. A FIFO or a device would keep the
//! process waiting, or feed it without end.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// No configuration and no secret is larger.
pub const TEXT_LIMIT_BYTES: u64 = 1 << 20;

/// No bundle of certificates is larger: those of the systems have a quarter of a mebibyte.
pub const CERTIFICATES_LIMIT_BYTES: u64 = 4 << 20;

/// The bits of a mode that let others than the owner read.
const READABLE_BY_OTHERS: u32 = 0o044;

/// Reads a file of at most `limit_bytes`. What it says of the file was true before it was read.
///
/// # Errors
/// The operating system's; one of its own for what is no regular file, or larger.
pub fn read(path: &Path, limit_bytes: u64) -> io::Result<(Metadata, Zeroizing<Vec<u8>>)> {
    // Asked before it is opened: to open a FIFO waits for a writer.
    check(&std::fs::metadata(path)?, limit_bytes)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    check(&metadata, limit_bytes)?;
    let capacity = usize::try_from(metadata.len()).unwrap_or_default();
    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
    // It may grow meanwhile.
    file.take(limit_bytes + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit_bytes {
        return Err(too_large(limit_bytes));
    }
    Ok((metadata, content))
}

/// What to do about a file that cannot be read or created, to follow the error. What is refused here says so already.
#[must_use]
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if error.raw_os_error().is_none() => "",
        io::ErrorKind::NotFound => "; correct the path, or create the file",
        io::ErrorKind::PermissionDenied => "; give the user that tagalong runs as access to it",
        _ => "; name a file that this user may read",
    }
}

/// The name of a file beside this one that no other process takes: hidden, and with the number of this process.
///
/// # Errors
/// When the path names no file.
pub fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(beside))
}

/// Opens a file for writing that only its owner may read, created if it is not there. `is_new`: one that is there is an error; else
/// it is emptied.
///
/// # Errors
/// The operating system's.
pub fn create_private(path: &Path, is_new: bool) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(!is_new).create_new(is_new);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a file with a new secret of 32 random bytes, in the form that `encode` gives, and returns the bytes. It is on the disk when
/// this returns: what is made with the secret may be.
///
/// # Errors
/// The operating system's; also when the file is there.
pub fn create_secret(path: &Path, encode: impl FnOnce(&[u8]) -> String) -> io::Result<Zeroizing<[u8; 32]>> {
    let secret = Zeroizing::new(random_bytes()?);
    let text = Zeroizing::new(encode(&*secret));
    let mut file = create_private(path, true)?;
    writeln!(file, "{}", *text)?;
    file.sync_all()?;
    Ok(secret)
}

/// 32 unpredictable bytes, from the system's source.
///
/// # Errors
/// When there is none.
pub fn random_bytes() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

/// Finds out whether a file could be created here: creates another one beside it, so that nothing finds an unfinished one.
///
/// # Errors
/// The operating system's.
pub fn try_to_create(path: &Path) -> io::Result<()> {
    let beside = beside(path)?;
    // One that a killed process of the same number left does not matter.
    create_private(&beside, false)?;
    std::fs::remove_file(&beside)
}

/// Reads a text file, as [`read`] does, of at most [`TEXT_LIMIT_BYTES`].
///
/// # Errors
/// As of [`read`]; `InvalidData` when it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<(Metadata, Zeroizing<String>)> {
    let (metadata, mut content) = read(path, TEXT_LIMIT_BYTES)?;
    match String::from_utf8(std::mem::take(&mut *content)) {
        Ok(text) => Ok((metadata, Zeroizing::new(text))),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text; name a text file"))
        }
    }
}

/// The same for a file with a secret. Warns, once for each mode of a file, if others than its owner may read it.
///
/// # Errors
/// As of [`read_text`].
pub fn read_secret(path: &Path) -> io::Result<(Metadata, Zeroizing<String>)> {
    let (metadata, text) = read_text(path)?;
    warn_of_mode(path, &metadata);
    Ok((metadata, text))
}

/// Secret files that others may read, with their modes. They are those of the configuration: few.
static READABLE: Mutex<Vec<(PathBuf, u32)>> = Mutex::new(Vec::new());

/// Whether the start is over: until then a failure is to be the only line.
static IS_STARTED: AtomicBool = AtomicBool::new(false);

/// Warns, once for each mode of a file, if others than its owner may read it: when the start is over.
pub fn warn_of_mode(path: &Path, metadata: &Metadata) {
    let mode = metadata.mode() & 0o7777;
    if mode & READABLE_BY_OTHERS == 0 {
        return;
    }
    let mut readable = READABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if readable.iter().any(|(known, known_mode)| known == path && *known_mode == mode) {
        return;
    }
    readable.push((path.to_owned(), mode));
    if IS_STARTED.load(Ordering::SeqCst) {
        warn(path, mode);
    }
}

/// Logs the warnings of the start, and from now on each at once.
pub fn tell_readable_secrets() {
    let readable = READABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if !IS_STARTED.swap(true, Ordering::SeqCst) {
        readable.iter().for_each(|(path, mode)| warn(path, *mode));
    }
}

fn warn(path: &Path, mode: u32) {
    tracing::warn!(
        path = %path.display(),
        mode = %format_args!("{mode:04o}"),
        "others than its owner may read a file that holds a secret; chmod 600 it, or mount it with defaultMode 0400"
    );
}

fn check(metadata: &Metadata, limit_bytes: u64) -> io::Result<()> {
    let kind = metadata.file_type();
    let refused = |what| Err(io::Error::other(format!("it is {what}; name a regular file")));
    if kind.is_dir() {
        refused("a directory")
    } else if kind.is_fifo() {
        refused("a FIFO")
    } else if kind.is_socket() {
        refused("a socket")
    } else if !kind.is_file() {
        refused("a device")
    } else if metadata.len() > limit_bytes {
        Err(too_large(limit_bytes))
    } else {
        Ok(())
    }
}

fn too_large(limit_bytes: u64) -> io::Error {
    io::Error::other(format!(
        "it is larger than {} KiB, which no such file is; name another one",
        limit_bytes / 1024
    ))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let refused = |path: &Path| read_text(path).unwrap_err().to_string();
        assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert!(refused(&at("fifo")).contains("a FIFO"));
        assert!(refused(&at("socket")).contains("a socket"));
        assert!(refused(Path::new("/dev/zero")).contains("a device"));
        assert!(refused(directory.path()).contains("a directory"));
        // A file of any length that occupies nothing.
        File::create(at("large")).unwrap().set_len(TEXT_LIMIT_BYTES + 1).unwrap();
        assert!(refused(&at("large")).contains("larger than 1024 KiB"));
        std::fs::write(at("text"), "text").unwrap();
        std::os::unix::fs::symlink(at("text"), at("link")).unwrap();
        assert_eq!(**read_text(&at("link")).unwrap().1, *"text");
        std::fs::write(at("binary"), [0xff]).unwrap();
        assert!(refused(&at("binary")).contains("UTF-8"));
        assert_eq!(read_text(&at("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
