//! The sockets, and who gets in.

use core::time::Duration;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use super::CONNECTIONS_MAX;
use super::conn::Conn;
use super::tls::{self, Renewing, TlsError};
use crate::config::{ListenConfig, TcpConfig};

/// Handshakes under way, at most. Strangers share these places and no others.
const HANDSHAKES_MAX: usize = 32;
/// From TCP's accept to the end of the TLS handshake, at most.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// After an accept that failed (no file descriptors): the next try.
const RETRY: Duration = Duration::from_millis(100);

/// A socket can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The Unix socket.
    #[error("can't listen on {}: {error}", path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Another process is there.
    #[error("{} has a listener already; is another sluice-dataplane running?", path.display())]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} exists and is not a socket; move it away", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The TCP socket.
    #[error("can't listen on {address}: {error}")]
    Tcp {
        /// Its address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Open sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    unix: Option<UnixSocket>,
    tcp: Option<Tcp>,
}

struct Tcp {
    listener: TcpListener,
    certificates: Renewing,
    agents: Vec<String>,
}

impl core::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            listener, agents, ..
        } = self;
        f.debug_struct("Tcp")
            .field("listener", listener)
            .field("agents", agents)
            .finish_non_exhaustive()
    }
}

/// Takes its file away at the end, if it is still its own.
#[derive(Debug)]
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|it| it.ino() == self.inode);
        if ours {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Listeners {
    pub(super) fn bind(config: &ListenConfig) -> Result<Self, ListenError> {
        let tcp = config.tcp.as_ref().map(Tcp::bind).transpose()?;
        let unix = config
            .unix
            .as_ref()
            .map(|it| UnixSocket::bind(&it.path))
            .transpose()?;
        Ok(Self { unix, tcp })
    }

    pub(super) fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.listener.local_addr().ok()
    }

    /// Lets in whom it may, for ever, or until nobody takes them.
    pub(super) async fn accept(mut self, admitted: mpsc::Sender<std::io::Result<Conn>>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let unix = async {
            match &self.unix {
                Some(unix) => unix.accept(&admitted, &places).await,
                None => core::future::pending().await,
            }
        };
        let tcp = async {
            match &mut self.tcp {
                Some(tcp) => tcp.accept(&admitted, &places).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            () = unix => {}
            () = tcp => {}
        }
    }
}

impl UnixSocket {
    /// With mode 0600 from its first moment on.
    fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Unix {
            path: path.to_owned(),
            error,
        };
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(ListenError::NotASocket {
                    path: path.to_owned(),
                });
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(ListenError::InUse {
                    path: path.to_owned(),
                });
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(failed)?;
        let inode = std::fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode,
        })
    }

    async fn accept(
        &self,
        admitted: &mpsc::Sender<std::io::Result<Conn>>,
        places: &Arc<Semaphore>,
    ) {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let uid = stream.peer_cred().map(|it| it.uid());
            let uid = match uid {
                Ok(uid) if may_connect(uid, own) => uid,
                Ok(uid) => {
                    tracing::warn!(uid, "a user who may not was turned away");
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "a peer without credentials was turned away");
                    continue;
                }
            };
            let Ok(place) = Arc::clone(places).try_acquire_owned() else {
                tracing::warn!(uid, "turned away: {CONNECTIONS_MAX} connections are open");
                continue;
            };
            if admitted
                .send(Ok(Conn::unix(stream, uid, place)))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// Root, and who the daemon runs as.
const fn may_connect(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

impl Tcp {
    fn bind(config: &TcpConfig) -> Result<Self, ListenError> {
        let address = config.address;
        let failed = |error| ListenError::Tcp { address, error };
        let certificates = Renewing::new(config.clone())?;
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        Ok(Self {
            listener,
            certificates,
            agents: config.agents.clone(),
        })
    }

    async fn accept(
        &mut self,
        admitted: &mpsc::Sender<std::io::Result<Conn>>,
        places: &Arc<Semaphore>,
    ) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let agents: Arc<[String]> = self.agents.clone().into();
        loop {
            let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else {
                return;
            };
            let Ok((stream, from)) = self.listener.accept().await else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let (acceptor, agents) = (self.certificates.acceptor(), Arc::clone(&agents));
            let (admitted, places) = (admitted.clone(), Arc::clone(places));
            tokio::spawn(async move {
                let entry = enter(stream, &acceptor, &agents, places);
                match tokio::time::timeout(HANDSHAKE_MAX, entry).await {
                    Ok(Ok(conn)) => {
                        drop(handshake);
                        drop(admitted.send(Ok(conn)).await);
                    }
                    Ok(Err(why)) => tracing::warn!(%from, "turned away: {why}"),
                    Err(_) => tracing::warn!(%from, "turned away: the handshake took too long"),
                }
            });
        }
    }
}

/// Why a TCP peer isn't let in. It only ever learns what TLS tells it.
#[derive(Debug, thiserror::Error)]
enum Entry {
    #[error("TLS: {0}")]
    Tls(#[from] std::io::Error),
    #[error("its certificate has no name of an allowed agent")]
    Stranger,
    #[error("{CONNECTIONS_MAX} connections are open")]
    Full,
}

async fn enter(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    agents: &[String],
    places: Arc<Semaphore>,
) -> Result<Conn, Entry> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    let agent = certificate
        .and_then(|it| tls::agent(it, agents))
        .ok_or(Entry::Stranger)?;
    let agent = agent.to_owned();
    let place = places.try_acquire_owned().map_err(|_| Entry::Full)?;
    Ok(Conn::tls(stream, agent, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemons_own_user_may_connect_and_nobody_else() {
        assert!(may_connect(0, 1000));
        assert!(may_connect(1000, 1000));
        assert!(!may_connect(1001, 1000));
        assert!(!may_connect(1000, 0));
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_only_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = UnixSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(
            UnixSocket::bind(&path),
            Err(ListenError::InUse { .. })
        ));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_what_is_no_socket_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file behind, as a crash does");
        drop(UnixSocket::bind(&path).unwrap());
        std::fs::write(&path, "a file").unwrap();
        assert!(matches!(
            UnixSocket::bind(&path),
            Err(ListenError::NotASocket { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    }
}
