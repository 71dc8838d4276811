//! The plane behind the real gRPC service, over a Unix socket or TLS.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use sluice_offload_api::convert::Assembler;
use sluice_offload_api::model::PairLine;
use sluice_offload_api::proto;
use sluice_offload_api::proto::offload_server::{Offload, OffloadServer};
use sluice_offload_api::proto::verdicts_server::{Verdicts, VerdictsServer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::plane::PlaneHandle;

struct Service(PlaneHandle);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn stream<T: Send + 'static>(list: Vec<T>) -> Answers<T> {
    Box::pin(tokio_stream::iter(list).map(Ok))
}

#[tonic::async_trait]
impl Offload for Service {
    type ProgramStream = ReceiverStream<Result<proto::ProgramResponse, Status>>;
    type FlowsStream = Answers<proto::Flow>;
    type NamesStream = Answers<proto::Name>;
    type SasStream = Answers<proto::Sa>;
    type PairsStream = Answers<proto::PairLine>;

    async fn program(
        &self,
        request: Request<Streaming<proto::ProgramRequest>>,
    ) -> Result<Response<Self::ProgramStream>, Status> {
        let (mut requests, plane) = (request.into_inner(), self.0.clone());
        let (answers, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut assembler = Assembler::default();
            while let Ok(Some(message)) = requests.message().await {
                let answer = match assembler.on_message(message) {
                    Ok(None) => continue,
                    Ok(Some(transaction)) => plane.program(transaction).await,
                    Err(refusal) => plane.refuse(refusal).await,
                };
                if answers.send(Ok(answer.into())).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn status(
        &self,
        _: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        Ok(Response::new(self.0.ask(|it| it.status()).await.into()))
    }

    async fn counters(
        &self,
        request: Request<proto::CountersRequest>,
    ) -> Result<Response<proto::CountersResponse>, Status> {
        let wanted = request.into_inner().port;
        let ports = self.0.ask(|it| it.counters()).await.into_iter();
        let ports = ports.filter(|it| wanted.as_ref().is_none_or(|name| it.port.0 == *name));
        Ok(Response::new(proto::CountersResponse {
            ports: ports.map(Into::into).collect(),
        }))
    }

    async fn flows(
        &self,
        _: Request<proto::FlowsRequest>,
    ) -> Result<Response<Self::FlowsStream>, Status> {
        let flows = self.0.ask(|it| it.flows()).await;
        Ok(Response::new(stream(
            flows.into_iter().map(Into::into).collect(),
        )))
    }

    async fn names(
        &self,
        _: Request<proto::NamesRequest>,
    ) -> Result<Response<Self::NamesStream>, Status> {
        let names = self.0.ask(|it| it.names()).await;
        Ok(Response::new(stream(
            names.into_iter().map(Into::into).collect(),
        )))
    }

    async fn sas(
        &self,
        _: Request<proto::SasRequest>,
    ) -> Result<Response<Self::SasStream>, Status> {
        let sas = self.0.ask(|it| it.sas()).await;
        Ok(Response::new(stream(
            sas.into_iter().map(Into::into).collect(),
        )))
    }

    async fn pairs(
        &self,
        _: Request<proto::PairsRequest>,
    ) -> Result<Response<Self::PairsStream>, Status> {
        let (pairs, rest) = self.0.ask(|it| it.pairs()).await;
        let mut lines: Vec<_> = pairs.into_iter().map(PairLine::Pair).collect();
        lines.push(PairLine::Rest(rest));
        Ok(Response::new(stream(
            lines.into_iter().map(Into::into).collect(),
        )))
    }
}

#[tonic::async_trait]
impl Verdicts for Service {
    type WatchStream = Answers<proto::FlowVerdict>;

    async fn watch(
        &self,
        _: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        self.0.ask(|it| it.watch(sender)).await;
        let verdicts = ReceiverStream::new(receiver).map(|it| Ok(it.into()));
        Ok(Response::new(Box::pin(verdicts)))
    }
}

/// A server; dropped, all its connections break.
pub(crate) struct ServerHandle {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends");
        }
    }
}

fn spawn<F: Future<Output = ()>>(serve: impl FnOnce() -> F + Send + 'static) -> ServerHandle {
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                () = serve() => {}
                _ = stopped => {}
            }
        });
        // At once, as when the process is killed.
        runtime.shutdown_background();
    });
    ServerHandle {
        stop: Some(stop),
        thread: Some(thread),
    }
}

async fn serve<S>(plane: PlaneHandle, incoming: mpsc::Receiver<std::io::Result<S>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    S: tonic::transport::server::Connected,
{
    let server = Server::builder()
        .add_service(OffloadServer::new(Service(plane.clone())))
        .add_service(VerdictsServer::new(Service(plane)));
    let incoming = ReceiverStream::new(incoming);
    server
        .serve_with_incoming(incoming)
        .await
        .expect("it serves");
}

/// Serves on a Unix socket; it can be connected to when this returns.
pub(crate) fn serve_unix(plane: PlaneHandle, path: &Path) -> ServerHandle {
    // One that was killed has left it.
    drop(std::fs::remove_file(path));
    let listener = std::os::unix::net::UnixListener::bind(path).expect("it is free");
    listener.set_nonblocking(true).expect("it can");
    spawn(move || async move {
        let listener = UnixListener::from_std(listener).expect("a listener");
        let (sender, incoming) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if sender.send(Ok(stream)).await.is_err() {
                    return;
                }
            }
        });
        serve(plane, incoming).await;
    })
}

/// Serves over TLS; where.
pub(crate) fn serve_tls(
    plane: PlaneHandle,
    config: ServerConfig,
) -> (ServerHandle, std::net::SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("it can");
    let address = listener.local_addr().expect("it has one");
    let server = spawn(move || async move {
        let listener = TcpListener::from_std(listener).expect("a listener");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (sender, incoming) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who isn't taken is told so by TLS.
                if let Ok(stream) = acceptor.accept(stream).await
                    && sender.send(Ok(stream)).await.is_err()
                {
                    return;
                }
            }
        });
        serve(plane, incoming).await;
    });
    (server, address)
}
