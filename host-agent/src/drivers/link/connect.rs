//! A gRPC channel over a stream that we connect ourselves: over a Unix socket, or over TCP
//! with mutual TLS. One stream a channel: what holds for a connection holds for the channel.

use std::io;
use std::net::SocketAddr;

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::tls::{TlsError, connector};
use crate::drivers::config::DataplaneAddress;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// Nobody there.
    #[error("can't connect to its socket: {0}")]
    Unix(io::Error),
    /// Nobody there.
    #[error("can't connect to {address}: {error}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Our own files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// We or they are not who we should be.
    #[error("no TLS with {address}: {error}; it must be {id}")]
    Handshake {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
        /// Who it must be.
        id: String,
    },
    /// gRPC.
    #[error("no gRPC: {0}")]
    Grpc(#[from] tonic::transport::Error),
}

/// Connects once.
pub(super) async fn connect(address: &DataplaneAddress) -> Result<Channel, ConnectError> {
    match address {
        DataplaneAddress::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            channel(stream.map_err(ConnectError::Unix)?).await
        }
        DataplaneAddress::Tcp(tls) => {
            let connector = connector(tls)?;
            let address = tls.address;
            let tcp = |error| ConnectError::Tcp { address, error };
            let stream = TcpStream::connect(address).await.map_err(tcp)?;
            stream.set_nodelay(true).map_err(tcp)?;
            // Goes out as no name: SVIDs are not of hosts.
            let name = ServerName::IpAddress(address.ip().into());
            let stream = connector.connect(name, stream).await;
            let stream = stream.map_err(|error| ConnectError::Handshake {
                address,
                error,
                id: tls.id.clone(),
            })?;
            channel(stream).await
        }
    }
}

async fn channel<S>(stream: S) -> Result<Channel, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    let once = service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    // The name goes into the requests' authority only.
    let endpoint = Endpoint::from_static("http://dataplane");
    Ok(endpoint.connect_with_connector(once).await?)
}
