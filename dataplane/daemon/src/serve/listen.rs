//! The sockets, and who gets in.

use core::time::Duration;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use super::CONNECTIONS_MAX;
use super::conn::Conn;
use super::tls::{self, Renewing, TlsError};
use super::unix::UnixSocket;
use crate::config::{ListenConfig, TcpConfig};

/// Handshakes under way, at most. Strangers share these places and no others.
const HANDSHAKES_MAX: usize = 32;
/// From TCP's accept to the end of the TLS handshake, at most.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// After an accept that failed (no file descriptors): the next try.
pub(super) const RETRY: Duration = Duration::from_millis(100);

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
                Some(unix) => accept_unix(unix, &admitted, &places).await,
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

/// Hands over whom a Unix socket admits, for ever, or until nobody takes them.
async fn accept_unix(
    socket: &UnixSocket,
    admitted: &mpsc::Sender<std::io::Result<Conn>>,
    places: &Arc<Semaphore>,
) {
    loop {
        let (stream, uid) = socket.admit().await;
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            tracing::warn!(uid, "turned away: {CONNECTIONS_MAX} connections are open");
            continue;
        };
        let conn = Conn::unix(stream, uid, place);
        if admitted.send(Ok(conn)).await.is_err() {
            return;
        }
    }
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
