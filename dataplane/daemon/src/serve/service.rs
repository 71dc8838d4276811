//! The contract's service over the control thread.

use core::pin::Pin;
use core::time::Duration;
use std::sync::Arc;

use sluice_offload_api::model::{NodeName, PairLine, PodUid};
use sluice_offload_api::proto;
use sluice_offload_api::proto::offload_server::Offload;
use sluice_offload_api::proto::verdicts_server::Verdicts;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::conn::Peer;
use super::lease::LeaseClock;
use super::program::Program;
use crate::runtime::{ControlClient, Silent};

/// Lists of flows or SAs under way, at most: each is a copy.
const LISTS_MAX: usize = 2;
/// Answers on their way to a slow agent, at most.
const ANSWERS_MAX: usize = 4;

/// The service of one dataplane.
#[derive(Debug)]
pub(super) struct Service {
    control: ControlClient,
    lease: Arc<LeaseClock>,
    transaction_max: Duration,
    newest: watch::Sender<u64>,
    lists: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(
        control: ControlClient,
        lease: Arc<LeaseClock>,
        transaction_max: Duration,
    ) -> Self {
        Self {
            control,
            lease,
            transaction_max,
            newest: watch::Sender::new(0),
            lists: Arc::new(Semaphore::new(LISTS_MAX)),
        }
    }
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn silent(silent: Silent) -> Status {
    Status::unavailable(silent.to_string())
}

#[tonic::async_trait]
impl Offload for Service {
    type ProgramStream = ReceiverStream<Result<proto::ProgramResponse, Status>>;

    async fn program(
        &self,
        request: Request<Streaming<proto::ProgramRequest>>,
    ) -> Result<Response<Self::ProgramStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        tracing::info!(%peer, "an agent programs");
        let mut number = 0;
        self.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        let program = Program {
            control: self.control.clone(),
            transaction_max: self.transaction_max,
            newest: self.newest.subscribe(),
            number,
            lease: self.lease.hold(),
        };
        let (answers, out) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(program.run(request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(out)))
    }

    async fn status(
        &self,
        _request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let status = self
            .control
            .status(self.lease.lease())
            .await
            .map_err(silent)?;
        Ok(Response::new(status.into()))
    }

    async fn counters(
        &self,
        request: Request<proto::CountersRequest>,
    ) -> Result<Response<proto::CountersResponse>, Status> {
        let mut ports = self.control.counters().await.map_err(silent)?;
        if let Some(port) = request.into_inner().port {
            ports.retain(|it| it.port.0 == port);
            if ports.is_empty() {
                return Err(Status::not_found(format!(
                    "this dataplane has no port {port}"
                )));
            }
        }
        let ports = ports.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::CountersResponse { ports }))
    }

    type FlowsStream = Out<proto::Flow>;

    async fn flows(
        &self,
        request: Request<proto::FlowsRequest>,
    ) -> Result<Response<Self::FlowsStream>, Status> {
        let place = self.list()?;
        let endpoint = request.into_inner().endpoint.map(PodUid);
        let flows = self.control.flows(endpoint).await.map_err(silent)?;
        let flows = flows.map_err(|no_such| Status::not_found(no_such.to_string()))?;
        Ok(Response::new(listed(flows, place)))
    }

    type NamesStream = Out<proto::Name>;

    async fn names(
        &self,
        request: Request<proto::NamesRequest>,
    ) -> Result<Response<Self::NamesStream>, Status> {
        let place = self.list()?;
        let endpoint = request.into_inner().endpoint.map(PodUid);
        let names = self.control.names(endpoint).await.map_err(silent)?;
        let names = names.map_err(|no_such| Status::not_found(no_such.to_string()))?;
        Ok(Response::new(listed(names, place)))
    }

    type SasStream = Out<proto::Sa>;

    async fn sas(
        &self,
        request: Request<proto::SasRequest>,
    ) -> Result<Response<Self::SasStream>, Status> {
        let place = self.list()?;
        let peer = request.into_inner().peer.map(NodeName);
        let sas = self.control.sas(peer).await.map_err(silent)?;
        Ok(Response::new(listed(sas, place)))
    }

    type PairsStream = Out<proto::PairLine>;

    async fn pairs(
        &self,
        _request: Request<proto::PairsRequest>,
    ) -> Result<Response<Self::PairsStream>, Status> {
        let place = self.list()?;
        let (pairs, rest) = self.control.pairs().await.map_err(silent)?;
        let mut lines: Vec<_> = pairs.into_iter().map(PairLine::Pair).collect();
        lines.push(PairLine::Rest(rest));
        Ok(Response::new(listed(lines, place)))
    }
}

impl Service {
    fn list(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Status> {
        Arc::clone(&self.lists)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("other lists are under way; try again"))
    }
}

/// Verdicts as they fall.
#[derive(Debug)]
pub(super) struct Watching(pub(super) ControlClient);

#[tonic::async_trait]
impl Verdicts for Watching {
    type WatchStream = Out<proto::FlowVerdict>;

    async fn watch(
        &self,
        _request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let verdicts = self.0.watch().await.map_err(silent)?;
        let verdicts = ReceiverStream::new(verdicts).map(|it| Ok(it.into()));
        Ok(Response::new(Box::pin(verdicts)))
    }
}

/// A list as a stream that takes its place as long as it is read.
fn listed<T, W>(list: Vec<T>, place: tokio::sync::OwnedSemaphorePermit) -> Out<W>
where
    T: Into<W> + Send + 'static,
    W: 'static,
{
    Box::pin(tokio_stream::iter(list.into_iter().map(move |it| {
        let _place = &place;
        Ok(it.into())
    })))
}
