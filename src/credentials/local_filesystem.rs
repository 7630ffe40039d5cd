//! Whether a file lies on this machine, so that a look at it cannot hang.
//!
//! A look at a local file takes microseconds. A look at a file on a network file system may hang until its server is back, so it needs a
//! thread of its own. A process with a second thread pays for it at every system call and allocation.

use std::path::Path;

/// The file systems of Linux that keep what they hold in this machine's memory or on its disks (`linux/magic.h`): tmpfs (the volumes of
/// Kubernetes secrets), ramfs, ext2 to ext4, XFS, Btrfs, F2FS, ZFS, and overlayfs (the root of a container).
#[cfg(target_os = "linux")]
const LOCAL: [u64; 8] =
    [0x0102_1994, 0x8584_58f6, 0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0x794c_7630];

/// Whether a file, and the directory that names it, are certainly on a local file system. `false` where one is not, and where that cannot be
/// told; a file that is not there yet is where its directory is. Blocks: only at start.
#[cfg(target_os = "linux")]
pub fn is_on_local_filesystem(path: &Path) -> bool {
    let is_local_at = |path: &Path| rustix::fs::statfs(path).map(|status| is_local(status.f_type as u64));
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    is_local_at(directory.unwrap_or(Path::new("."))).unwrap_or(false)
        && is_local_at(path).unwrap_or_else(|error| error == rustix::io::Errno::NOENT)
}

/// See the one for Linux.
#[cfg(not(target_os = "linux"))]
pub fn is_on_local_filesystem(_: &Path) -> bool {
    false
}

#[cfg(target_os = "linux")]
fn is_local(kind: u64) -> bool {
    // The system gives the number with the sign of its own word.
    LOCAL.contains(&(kind & 0xffff_ffff))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_local_and_what_is_not_known_is_not() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let secret = directory.path().join("secret");
        assert!(is_on_local_filesystem(&secret), "tmpfs, before the file is there");
        std::os::unix::fs::symlink("/proc/self/status", &secret).expect("a link");
        assert!(!is_on_local_filesystem(&secret), "it leads to one that is not among the known ones");
        assert!(!is_on_local_filesystem(Path::new("/proc/self/status")));
        assert!(!is_on_local_filesystem(Path::new("/no/such/path")));
        for (name, kind) in
            [("NFS", 0x6969), ("CIFS", 0xff53_4d42), ("SMB2", 0xfe53_4d42), ("FUSE", 0x6573_5546)]
        {
            assert!(!is_local(kind), "{name}");
        }
        assert!(is_local(0xffff_ffff_9123_683e), "as a signed word of 32 bits");
    }
}
