//! One TLS session: handshake, frames in, frames out. All of it is bounded in time and size.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use rustls::pki_types::{CertificateDer, UnixTime};
use sluice_crypto::lifecycle::{CloseReason, ExporterSecret, SessionId};
use sluice_svid::{self as svid, Chain, Role, SpiffeId, SvidError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::budget::Budget;
use crate::codec::{DecodeError, FRAME_LEN_MAX, Wire, decode};
use crate::identity::Identity;
use crate::tls;

/// Writes that wait for the peer to read; a peer that lets more pile up is cut off.
const WRITES_MAX: usize = 64;

/// How long to wait for more from a client that was refused, each time.
const PART_MAX: Duration = Duration::from_millis(200);

/// Reads, of 1 KiB at most, that a refused client is granted.
const UNREAD_READS_MAX: usize = 8;

/// Why a session did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No TCP connection.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// The handshake took too long.
    #[error("no TLS handshake within {ms} ms")]
    HandshakeTimeout {
        /// The bound.
        ms: u64,
    },
    /// More handshakes under way than are allowed.
    #[error("too many handshakes under way")]
    TooManyHandshakes,
    /// Our files are not good, or the Workload API gives no SVID: nobody can be authenticated.
    #[error("this node has no usable identity: {0}")]
    NoIdentity(String),
    /// The peer's certificate was refused here.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// The peer showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The peer refused us.
    #[error("the peer refused us with TLS alert {0:?}; its log says why")]
    RefusedByPeer(AlertDescription),
    /// Not our TLS.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// The peer closed it, as it does when it stops or a newer session is in use. Not counted.
    #[error("the peer closed the session")]
    Closed,
    /// A frame with an impossible length.
    #[error("a frame of {len} bytes; 1 to {FRAME_LEN_MAX} are possible")]
    FrameLen {
        /// From its header.
        len: usize,
    },
    /// A frame that did not come to its end.
    #[error("a frame was not complete within {ms} ms")]
    FrameTimeout {
        /// The bound.
        ms: u64,
    },
    /// The connection ended within a frame.
    #[error("the connection ended within a frame")]
    FrameCut,
    /// Not a message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The peer does not read.
    #[error("the peer does not read what it is sent")]
    Backlog,
    /// A message that its sender must not send.
    #[error("the peer's binding is refused: {0}")]
    Binding(#[from] crate::binding::BindingError),
    /// The life cycle ended it.
    #[error(transparent)]
    LifeCycle(CloseReason),
    /// A certificate that was good at the handshake no longer is.
    #[error("the peer's certificate is no longer good: {0}")]
    Lapsed(SvidError),
}

impl SessionError {
    /// The name of its counter.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::HandshakeTimeout { .. } => "handshake-timeout",
            Self::TooManyHandshakes => "too-many-handshakes",
            Self::NoIdentity(_) => "no-identity",
            Self::Svid(why) => svid_kind(why),
            Self::NoCertificate => "no-certificate",
            Self::RefusedByPeer(_) => "refused-by-peer",
            Self::Tls(_) => "tls",
            Self::Io(_) => "io",
            Self::Closed => "closed",
            Self::FrameLen { .. } => "frame-len",
            Self::FrameTimeout { .. } => "frame-timeout",
            Self::FrameCut => "frame-cut",
            Self::Decode(_) => "message",
            Self::Backlog => "backlog",
            Self::Binding(_) => "binding",
            Self::LifeCycle(_) => "life-cycle",
            Self::Lapsed(_) => "lapsed",
        }
    }

    fn of_handshake(error: io::Error) -> Self {
        if let Some(why) = tls::svid_error(&error) {
            return Self::Svid(why.clone());
        }
        match tls::tls_error(&error) {
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::AlertReceived(alert)) => Self::RefusedByPeer(*alert),
            Some(other) => Self::Tls(other.clone()),
            None => Self::Io(error),
        }
    }

    fn of_read(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::of_handshake(error),
        }
    }
}

fn svid_kind(why: &SvidError) -> &'static str {
    match why {
        SvidError::Encoding { .. } => "svid-encoding",
        SvidError::UriNames { .. } => "svid-uri-names",
        SvidError::Id(_) => "svid-id",
        SvidError::TrustDomain { .. } => "svid-trust-domain",
        SvidError::CaLeaf { .. } => "svid-ca-leaf",
        SvidError::KeyUsage { .. } => "svid-key-usage",
        SvidError::Expired { .. } => "svid-expired",
        SvidError::NotYetValid { .. } => "svid-not-yet-valid",
        SvidError::UnknownIssuer { .. } => "svid-unknown-issuer",
        SvidError::Chain { .. } => "svid-chain",
        SvidError::Unexpected { .. } => "svid-unexpected",
        SvidError::NotAPeer { .. } => "svid-not-a-peer",
        SvidError::WrongWay { .. } => "svid-wrong-way",
    }
}

/// A session that has been authenticated both ways.
pub(crate) struct Up {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) peer: SpiffeId,
    pub(crate) chain: Chain,
    pub(crate) secret: ExporterSecret,
    pub(crate) post_quantum: bool,
}

/// Dials `expected` at `addr`, from where this node `listens`: there the peer knows it to be.
pub(crate) async fn dial(
    listens: SocketAddr,
    addr: SocketAddr,
    identity: Arc<Identity>,
    expected: SpiffeId,
    ms: u64,
) -> Result<Up, SessionError> {
    check_own(&identity)?;
    let handshake = async {
        let config = tls::client(&identity, &expected).map_err(SessionError::Tls)?;
        let name = tls::server_name().map_err(SessionError::Tls)?;
        let tcp = connect(listens, addr)
            .await
            .map_err(SessionError::Connect)?;
        tcp.set_nodelay(true).map_err(SessionError::Io)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .map_err(SessionError::of_handshake)?;
        up(TlsStream::Client(stream), &identity, Role::Server)
    };
    match timeout(Duration::from_millis(ms), handshake).await {
        Ok(up) => up,
        Err(_) => Err(SessionError::HandshakeTimeout { ms }),
    }
}

/// The system chooses the address where this node listens on all or in the other family alone, or
/// where no port of it is free.
async fn connect(mut listens: SocketAddr, addr: SocketAddr) -> io::Result<TcpStream> {
    listens.set_port(0);
    let socket = match (listens, addr) {
        _ if listens.ip().is_unspecified() => None,
        (SocketAddr::V4(_), SocketAddr::V4(_)) => Some(TcpSocket::new_v4()?),
        (SocketAddr::V6(_), SocketAddr::V6(_)) => Some(TcpSocket::new_v6()?),
        _ => None,
    };
    match socket.filter(|it| it.bind(listens).is_ok()) {
        Some(socket) => socket.connect(addr).await,
        None => TcpStream::connect(addr).await,
    }
}

/// Answers a connection; it may be from any of `dialling`.
pub(crate) async fn accept(
    tcp: TcpStream,
    identity: Arc<Identity>,
    dialling: Arc<BTreeSet<SpiffeId>>,
    ms: u64,
) -> Result<Up, SessionError> {
    check_own(&identity)?;
    let config = tls::server(&identity, dialling).map_err(SessionError::Tls)?;
    tcp.set_nodelay(true).map_err(SessionError::Io)?;
    let accepted = TlsAcceptor::from(Arc::new(config)).accept(tcp);
    match timeout(Duration::from_millis(ms), accepted.into_fallible()).await {
        Ok(Ok(stream)) => up(TlsStream::Server(stream), &identity, Role::Client),
        Ok(Err((error, tcp))) => {
            part(tcp).await;
            Err(SessionError::of_handshake(error))
        }
        Err(_) => Err(SessionError::HandshakeTimeout { ms }),
    }
}

/// Closes a connection whose client has been told why. A client of TLS 1.3 may have said more
/// already; closing on unread bytes resets the connection, and the reset can overtake the alert.
async fn part(mut tcp: TcpStream) {
    let mut unread = [0; 1024];
    if tcp.shutdown().await.is_err() {
        return;
    }
    for _ in 0..UNREAD_READS_MAX {
        let read = timeout(PART_MAX, tcp.read(&mut unread)).await;
        if !matches!(read, Ok(Ok(len)) if len > 0) {
            return;
        }
    }
}

fn check_own(identity: &Identity) -> Result<(), SessionError> {
    match identity.expiry(UnixTime::now()) {
        Some(why) => Err(SessionError::NoIdentity(why)),
        None => Ok(()),
    }
}

fn up(stream: TlsStream<TcpStream>, identity: &Identity, role: Role) -> Result<Up, SessionError> {
    let (certificates, secret, post_quantum) = match &stream {
        TlsStream::Client(s) => of_connection(s.get_ref().1),
        TlsStream::Server(s) => of_connection(s.get_ref().1),
    };
    let certificates: Vec<_> = certificates
        .unwrap_or_default()
        .iter()
        .map(|c| c.clone().into_owned())
        .collect();
    let leaf = certificates.first().ok_or(SessionError::NoCertificate)?;
    let peer = svid::check_leaf(leaf, &identity.domain)?;
    let secret = secret.map_err(SessionError::Tls)?;
    let chain = Chain::new(certificates, role, UnixTime::now());
    Ok(Up {
        stream,
        peer,
        chain,
        secret,
        post_quantum,
    })
}

/// The peer's certificates, the epoch's secret, and whether a post-quantum exchange made it.
fn of_connection<D>(
    connection: &rustls::ConnectionCommon<D>,
) -> (
    Option<&[CertificateDer<'static>]>,
    Result<ExporterSecret, rustls::Error>,
    bool,
) {
    (
        connection.peer_certificates(),
        tls::export(connection),
        tls::is_post_quantum(connection),
    )
}

/// What a session's tasks tell the driver.
pub(crate) enum FromSession {
    Received(SessionId, Wire),
    Ended(SessionId, SessionError),
}

/// The driver's end of a session. Dropped, it says goodbye to the peer and ends.
pub(crate) struct Session {
    writes: mpsc::Sender<Arc<[u8]>>,
    _reader: AbortOnDrop,
}

/// Ends its task when dropped.
pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    pub(crate) fn start(
        session: SessionId,
        stream: TlsStream<TcpStream>,
        frame_ms_max: u64,
        to: &mpsc::Sender<FromSession>,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (writes, blobs) = mpsc::channel(WRITES_MAX);
        let reading = to.clone();
        let task = tokio::spawn(async move {
            let error = read(reader, session, frame_ms_max, &reading).await;
            // The driver may be gone, and everything with it.
            drop(reading.send(FromSession::Ended(session, error)).await);
        });
        let writing = to.clone();
        tokio::spawn(async move {
            if let Err(error) = write(writer, blobs, frame_ms_max).await {
                drop(writing.send(FromSession::Ended(session, error)).await);
            }
        });
        Self {
            writes,
            _reader: AbortOnDrop(task.abort_handle()),
        }
    }

    /// Queues whole frames.
    pub(crate) fn send(&self, frames: Arc<[u8]>) -> Result<(), SessionError> {
        self.writes
            .try_send(frames)
            .map_err(|_| SessionError::Backlog)
    }
}

async fn read(
    mut reader: ReadHalf<TlsStream<TcpStream>>,
    session: SessionId,
    ms: u64,
    to: &mpsc::Sender<FromSession>,
) -> SessionError {
    let mut budget = Budget::new(Instant::now());
    loop {
        // Not reading is what slows the peer down: TCP tells it.
        while let Err(wait) = budget.take(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
        match read_frame(&mut reader, ms).await {
            Ok(message) => {
                if to
                    .send(FromSession::Received(session, message))
                    .await
                    .is_err()
                {
                    return SessionError::Closed;
                }
            }
            Err(error) => return error,
        }
    }
}

/// Waits for a frame as long as it takes, but for the rest of one not longer than `ms`: whether
/// a quiet peer is alive is the life cycle's business.
async fn read_frame(
    reader: &mut ReadHalf<TlsStream<TcpStream>>,
    ms: u64,
) -> Result<Wire, SessionError> {
    let first = reader.read_u8().await.map_err(SessionError::of_read)?;
    let rest = async {
        let second = reader.read_u8().await.map_err(SessionError::of_read)?;
        let len = usize::from(u16::from_be_bytes([first, second]));
        if len == 0 || len > FRAME_LEN_MAX {
            return Err(SessionError::FrameLen { len });
        }
        let mut body = vec![0; len];
        reader
            .read_exact(&mut body)
            .await
            .map_err(SessionError::of_read)?;
        Ok(decode(&body)?)
    };
    match timeout(Duration::from_millis(ms), rest).await {
        Ok(Err(SessionError::Closed)) => Err(SessionError::FrameCut),
        Ok(message) => message,
        Err(_) => Err(SessionError::FrameTimeout { ms }),
    }
}

async fn write(
    mut writer: WriteHalf<TlsStream<TcpStream>>,
    mut blobs: mpsc::Receiver<Arc<[u8]>>,
    ms: u64,
) -> Result<(), SessionError> {
    let bound = Duration::from_millis(ms);
    while let Some(blob) = blobs.recv().await {
        let written = timeout(bound, async {
            writer.write_all(&blob).await?;
            writer.flush().await
        });
        match written.await {
            Ok(written) => written.map_err(SessionError::of_read)?,
            Err(_) => return Err(SessionError::Backlog),
        }
    }
    // Our side dropped it. Whether the peer hears of it does not matter.
    drop(timeout(bound, writer.shutdown()).await);
    Ok(())
}
