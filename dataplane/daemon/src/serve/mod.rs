//! What agents reach: the contract's gRPC service on a Unix socket and on TCP with mutual
//! TLS. Who connects is known before a byte of gRPC is read.

mod conn;
mod lease;
mod listen;
mod program;
mod service;
mod tls;
mod unix;

use std::net::SocketAddr;
use std::sync::Arc;

use sluice_offload_api::limits::MESSAGE_BYTES_MAX;
use sluice_offload_api::proto::offload_server::OffloadServer;
use sluice_offload_api::proto::verdicts_server::VerdictsServer;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::config::ListenConfig;
use crate::runtime::ControlClient;

pub use lease::LeaseClock;
pub use listen::ListenError;
pub use tls::TlsError;
pub(crate) use tls::acceptor;
pub(crate) use unix::UnixSocket;

use core::time::Duration;
use listen::Listeners;
use service::{Service, Watching};

/// Connections that were let in, at most: an agent, a few `sluicectl`, one that is half dead.
pub const CONNECTIONS_MAX: usize = 16;
/// Calls under way on one connection, at most.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 8;
/// Bytes of headers of one call, at most.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// A peer that doesn't answer a ping for so long is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Sockets that are open, before anybody is let in.
#[derive(Debug)]
pub struct Offload {
    listeners: Listeners,
    transaction_max: Duration,
}

impl Offload {
    /// Opens the sockets.
    ///
    /// # Errors
    /// [`ListenError`]; none is open then.
    pub fn bind(config: &ListenConfig) -> Result<Self, ListenError> {
        let listeners = Listeners::bind(config)?;
        Ok(Self {
            listeners,
            transaction_max: config.transaction_max,
        })
    }

    /// The address of the TCP socket, with the port that the kernel chose for port 0.
    #[must_use]
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.listeners.tcp_addr()
    }

    /// Serves until `stop` turns true; open calls are then cut off.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn serve(
        self,
        control: ControlClient,
        lease: Arc<LeaseClock>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), tonic::transport::Error> {
        let (admitted, incoming) = mpsc::channel(CONNECTIONS_MAX);
        let accepting = self.listeners.accept(admitted);
        let watching = VerdictsServer::new(Watching(control.clone()));
        let service = Service::new(control, lease, self.transaction_max);
        let service = OffloadServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let serving = Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .concurrency_limit_per_connection(STREAMS_PER_CONNECTION_MAX as usize)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(service)
            .add_service(watching)
            .serve_with_incoming(ReceiverStream::new(incoming));
        tokio::select! {
            served = serving => served,
            () = accepting => Ok(()),
            _ = stop.wait_for(|stopped| *stopped) => Ok(()),
        }
    }
}
