//! Agents: one over a Unix socket, one over TLS.

use core::time::Duration;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sluice_offload_api::convert::to_requests;
use sluice_offload_api::model::Status;
use sluice_offload_api::proto::offload_client::OffloadClient;
use sluice_offload_api::proto::verdicts_client::VerdictsClient;
use sluice_offload_api::proto::{CountersRequest, ProgramRequest, ProgramResponse, StatusRequest};
use sluice_offload_api::{Answer, State, Transaction};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::PATIENCE;
use super::pki::{Pair, SERVER};

pub(crate) type Agent = OffloadClient<Channel>;

pub(crate) async fn unix(path: &Path) -> Agent {
    try_unix(path).await.expect("the socket lets us in")
}

pub(crate) async fn try_unix(path: &Path) -> Result<Agent, tonic::transport::Error> {
    Ok(OffloadClient::new(channel(path).await?))
}

/// What a port has dropped, by reason, once it is so many frames in all. A frame that came may be
/// on its way from one worker to another, behind one that came later and is through.
pub(crate) async fn dropped(agent: &mut Agent, port: &str, frames: u64) -> Vec<(String, u64)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = CountersRequest {
            port: Some(port.to_owned()),
        };
        let answer = agent.counters(request).await.unwrap().into_inner();
        let drops = answer.ports.into_iter().flat_map(|it| it.drops);
        let drops: Vec<_> = drops.map(|it| (it.reason, it.frames)).collect();
        if drops.iter().map(|it| it.1).sum::<u64>() >= frames {
            return drops;
        }
        assert!(Instant::now() < deadline, "{port} dropped {drops:?} only");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A reader of verdicts.
pub(crate) async fn watcher(path: &Path) -> VerdictsClient<Channel> {
    VerdictsClient::new(channel(path).await.unwrap())
}

async fn channel(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path: PathBuf = path.to_owned();
    let connect = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://dataplane")
        .connect_with_connector(connect)
        .await
}

/// An agent with a certificate, or none.
pub(crate) async fn tls(to: SocketAddr, ca: &str, pair: Option<&Pair>) -> Agent {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match pair {
        None => config.with_no_client_auth(),
        Some(pair) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(to).await?;
            let name = ServerName::try_from(SERVER).unwrap();
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    // In TLS 1.3 a client learns that it was turned away only when it reads: lazily here.
    let endpoint = Endpoint::from_static("http://dataplane");
    OffloadClient::new(endpoint.connect_with_connector_lazy(connect))
}

/// An open Program stream.
pub(crate) struct Stream {
    pub(crate) send: mpsc::Sender<ProgramRequest>,
    answers: Streaming<ProgramResponse>,
}

impl Stream {
    pub(crate) async fn open(agent: &mut Agent) -> Result<Self, tonic::Status> {
        let (send, messages) = mpsc::channel(64);
        let answers = agent
            .program(ReceiverStream::new(messages))
            .await?
            .into_inner();
        Ok(Self { send, answers })
    }

    pub(crate) async fn answer(&mut self) -> Result<Answer, tonic::Status> {
        let answer = self
            .answers
            .message()
            .await?
            .expect("the stream ended without an answer");
        Ok(answer.try_into().unwrap())
    }

    pub(crate) async fn program(&mut self, tx: Transaction) -> Result<Answer, tonic::Status> {
        for message in to_requests(tx) {
            if self.send.send(message).await.is_err() {
                break;
            }
        }
        self.answer().await
    }
}

/// Makes a state hold.
pub(crate) async fn program(agent: &mut Agent, state: &State) -> Result<Answer, tonic::Status> {
    Stream::open(agent)
        .await?
        .program(state.to_snapshot())
        .await
}

pub(crate) async fn status(agent: &mut Agent) -> Result<Status, tonic::Status> {
    let status = agent.status(StatusRequest {}).await?;
    Ok(status.into_inner().try_into().unwrap())
}
