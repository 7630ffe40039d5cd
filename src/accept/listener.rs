//! Where connections come from: TCP, a Unix socket, another runtime, or memory.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::accept_loop::Listener;

/// Where an end of a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket: the user id of the other side's process, where the system tells it.
    Unix {
        /// The user id.
        user: Option<u32>,
    },
    /// In this process.
    #[cfg(any(test, feature = "internals"))]
    Memory,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { user: Some(user) } => write!(f, "unix:uid={user}"),
            Self::Unix { user: None } => f.write_str("unix"),
            #[cfg(any(test, feature = "internals"))]
            Self::Memory => f.write_str("memory"),
        }
    }
}

impl Address {
    /// What two connections of one caller have in common: the IP address, or the user.
    #[must_use]
    pub fn without_port(&self) -> String {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().to_string(),
            other => other.to_string(),
        }
    }
}

/// The transport of a connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP, its handshake done.
    Tls(Box<TlsStream<TcpStream>>),
    /// In this process.
    #[cfg(any(test, feature = "internals"))]
    Memory(tokio::io::DuplexStream),
}

/// Runs the same call on whatever the transport is.
macro_rules! on_transport {
    ($stream:expr, $call:ident ( $($argument:expr),* )) => {
        match $stream.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$call($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$call($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$call($($argument),*),
            #[cfg(any(test, feature = "internals"))]
            Stream::Memory(stream) => Pin::new(stream).$call($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_transport!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_transport!(self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_transport!(self, poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            #[cfg(any(test, feature = "internals"))]
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_transport!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_transport!(self, poll_shutdown(context))
    }
}

/// A connection as it was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The transport.
    pub stream: Stream,
    /// The caller's end.
    pub peer: Address,
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken by another process.
    #[error("{address} is in use; stop whatever listens there or choose another address with --listen")]
    Taken {
        /// The address.
        address: String,
    },
    /// A process listens on the socket.
    #[error("a process listens on the socket {path}; stop it or choose another path with --listen-unix")]
    SocketTaken {
        /// The path.
        path: String,
    },
    /// There is something else than a socket.
    #[error("{path} is there and is not a socket; remove it, or choose another path with --listen-unix")]
    NotASocket {
        /// The path.
        path: String,
    },
    /// Something else.
    #[error("cannot listen on {address}: {source}; choose an address of this machine that you may open")]
    Refused {
        /// The address or path.
        address: String,
        /// What the system says.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: impl ToString, source: io::Error) -> Self {
        let address = address.to_string();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { address },
            _ => Self::Refused { address, source },
        }
    }

    /// Whether this machine lacks that kind of address altogether (no IPv6, say).
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        const EAFNOSUPPORT: i32 = 97;
        matches!(self, Self::Refused { source, .. }
            if source.kind() == io::ErrorKind::AddrNotAvailable || source.raw_os_error() == Some(EAFNOSUPPORT))
    }
}

/// A listener bound by this process.
#[derive(Debug)]
pub enum BoundListener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Removes the socket's path with the listener.
        _path: SocketPath,
    },
}

impl BoundListener {
    /// Listens on a TCP address. Call it inside a runtime.
    ///
    /// # Errors
    /// [`BindError`]; `SO_REUSEPORT` is not set, so that a second process on the same port is told so.
    pub async fn tcp(address: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await.map_err(|source| BindError::new(address, source))?;
        Ok(Self::Tcp(listener))
    }

    /// Listens on a Unix socket with those permission bits and, where given, that group. A socket without
    /// a listening process is replaced.
    ///
    /// # Errors
    /// [`BindError`]; a file that is not a socket is never replaced.
    pub async fn unix(path: &Path, mode: u32, group: Option<u32>) -> Result<Self, BindError> {
        let refused = |source| BindError::new(path.display(), source);
        let shown = || path.display().to_string();
        if is_socket(path) {
            if UnixStream::connect(path).await.is_ok() {
                return Err(BindError::SocketTaken { path: shown() });
            }
        } else if path.exists() {
            return Err(BindError::NotASocket { path: shown() });
        }
        // Bound where no other user can reach it, and moved to its place when its permissions are set.
        let private = PrivateDirectory::beside(path).map_err(refused)?;
        let new_path = private.0.join("s");
        let listener = UnixListener::bind(&new_path).map_err(refused)?;
        if group.is_some() {
            std::os::unix::fs::chown(&new_path, None, group).map_err(refused)?;
        }
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&new_path, permissions).map_err(refused)?;
        std::fs::rename(&new_path, path).map_err(refused)?;
        Ok(Self::Unix { listener, _path: SocketPath(path.to_owned()) })
    }

    /// The address that is listened on, with the port that the system chose if 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix { .. } => Ok(Address::Unix { user: None }),
        }
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// A directory that only this user may enter, removed with what is in it.
#[derive(Debug)]
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// A new one in the directory of `path`: what is made in it can be moved to `path`. Its name is short, because the path of a
    /// socket has 107 bytes at most.
    fn beside(path: &Path) -> io::Result<Self> {
        let mut attempts = 0;
        loop {
            let directory = path.with_file_name(format!(".{:06x}", fastrand::u32(..0x100_0000)));
            let mut builder = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            match builder.create(&directory) {
                Ok(()) => return Ok(Self(directory)),
                // Another user may have made it, to own what is put into it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempts < 8 => attempts += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The path of a Unix socket, removed when the listener goes.
#[derive(Debug)]
pub struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Nothing depends on it: the next start replaces a socket without a listening process.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener for BoundListener {
    type Connection = Accepted;

    async fn accept(&mut self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = Listener::accept(listener).await?;
                Ok(Accepted { stream: Stream::Tcp(stream), peer: Address::Tcp(peer) })
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
                Ok(Accepted { stream: Stream::Unix(stream), peer: Address::Unix { user } })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// The modes of the sockets in a directory.
    fn modes(directory: &Path) -> Vec<u32> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let sockets = entries.filter(|entry| is_socket(&entry.path()));
        sockets.filter_map(|entry| Some(entry.metadata().ok()?.mode() & 0o777)).collect()
    }

    #[tokio::test]
    async fn at_no_moment_can_another_user_connect() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = directory.path().join("socket");
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let watching = threads.spawn(|| {
                let mut seen = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    seen.extend(modes(directory.path()));
                }
                seen
            });
            for _ in 0..500 {
                let bound = futures_util::FutureExt::now_or_never(BoundListener::unix(&path, 0o600, None));
                bound.expect("binding waits for nothing").expect("bound");
            }
            done.store(true, Ordering::Relaxed);
            let seen = watching.join().unwrap();
            assert!(seen.iter().all(|mode| *mode == 0o600), "{seen:?}");
        });
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn what_is_bound_in_is_for_its_owner_alone_and_new() {
        let directory = tempfile::tempdir().unwrap();
        let private = PrivateDirectory::beside(&directory.path().join("socket")).unwrap();
        let metadata = std::fs::symlink_metadata(&private.0).unwrap();
        assert!(metadata.is_dir());
        assert_eq!(metadata.mode() & 0o777, 0o700);
        let path = private.0.clone();
        drop(private);
        assert!(!path.exists());
        assert!(PrivateDirectory::beside(Path::new("/nowhere/at/all")).is_err());
    }
}
