//! A SPIFFE Workload API on a Unix socket, which answers what a test wants.

use std::fs;
use std::path::{Path, PathBuf};

use sluice_node_channel::WorkloadApi;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

pub(crate) use self::generated::{X509svid, X509svidResponse};
use self::generated::{X509svidRequest, spiffe_workload_api_server as server};
use crate::ca::{Ca, Folder, Issued, id};

mod generated {
    #![allow(
        missing_docs,
        unreachable_pub,
        dead_code,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]

    include!(concat!(env!("OUT_DIR"), "/server/_.rs"));
}

/// What everybody who asks is told, now and when it changes.
pub(crate) type Answer = Result<X509svidResponse, Code>;

/// One that runs. Dropped, it ends its streams and its socket is gone.
pub(crate) struct Api {
    answer: watch::Sender<Answer>,
    socket: PathBuf,
    serving: JoinHandle<()>,
}

impl Api {
    pub(crate) fn start(socket: &Path, answer: Answer) -> Self {
        let (answer, answers) = watch::channel(answer);
        let listener = UnixListener::bind(socket).unwrap();
        let (connections, incoming) = mpsc::channel::<std::io::Result<UnixStream>>(8);
        let serving = Server::builder()
            .add_service(server::SpiffeWorkloadApiServer::new(Service(answers)))
            .serve_with_incoming(ReceiverStream::new(incoming));
        let accepting = async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.send(Ok(stream)).await.unwrap();
            }
        };
        let serving = tokio::spawn(async move {
            tokio::select! {
                served = serving => served.unwrap(),
                () = accepting => {}
            }
        });
        Self {
            answer,
            socket: socket.to_owned(),
            serving,
        }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.answer.send(answer).unwrap();
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.abort();
        drop(fs::remove_file(&self.socket));
    }
}

struct Service(watch::Receiver<Answer>);

#[tonic::async_trait]
impl server::SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = ReceiverStream<Result<X509svidResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let header = request.metadata().get("workload.spiffe.io");
        if header.is_none_or(|it| it != "true") {
            return Err(Status::invalid_argument("security header missing"));
        }
        let (out, responses) = mpsc::channel(1);
        let mut answers = self.0.clone();
        answers.mark_changed();
        tokio::spawn(async move {
            // Until the API is dropped.
            while answers.changed().await.is_ok() {
                let answer = answers.borrow_and_update().clone();
                let answer = answer.map_err(|code| Status::new(code, "no identity issued"));
                let ends = answer.is_err();
                if out.send(answer).await.is_err() || ends {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

/// Where an API is to be, in a folder of its own.
pub(crate) fn socket() -> (Folder, WorkloadApi) {
    let folder = Folder::new();
    let mut api = WorkloadApi::new(folder.0.join("agent.sock"));
    // Short, so that a test is.
    (api.pause_ms_min, api.pause_ms_max) = (10, 50);
    (folder, api)
}

/// A new key and certificate of `node` by `ca`, with those that it is to trust.
pub(crate) fn svid(node: &str, ca: &Ca, trusted: &[&Ca]) -> X509svid {
    let Issued { chain, key } = ca.issue_for(node);
    X509svid {
        spiffe_id: id(node).as_str().to_owned(),
        x509_svid: chain.iter().flat_map(|it| it.to_vec()).collect(),
        x509_svid_key: key,
        bundle: trusted.iter().flat_map(|it| it.der()).collect(),
        hint: "internal".to_owned(),
    }
}

/// A response with these.
pub(crate) fn response(svids: Vec<X509svid>) -> X509svidResponse {
    X509svidResponse {
        svids,
        ..X509svidResponse::default()
    }
}
