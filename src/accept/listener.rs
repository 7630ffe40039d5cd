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
    /// The address or path is taken by another process.
    #[error("{address} is in use; stop whatever listens there or choose another address with --listen")]
    Taken {
        /// The address or path.
        address: String,
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
        let stale = is_socket(path);
        if stale && UnixStream::connect(path).await.is_ok() || !stale && path.exists() {
            return Err(BindError::Taken { address: path.display().to_string() });
        }
        // Made under another name and renamed: no process can connect before the permissions are set.
        let new_path = SocketPath(path.with_extension(format!("new-{}", std::process::id())));
        let listener = UnixListener::bind(&new_path.0).map_err(refused)?;
        if group.is_some() {
            std::os::unix::fs::chown(&new_path.0, None, group).map_err(refused)?;
        }
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&new_path.0, permissions).map_err(refused)?;
        std::fs::rename(&new_path.0, path).map_err(refused)?;
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
