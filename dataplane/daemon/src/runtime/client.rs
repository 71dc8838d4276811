//! What others ask of the control thread, and how.

use core::time::Duration;

use crossbeam_channel::Sender;
use sluice_offload_api::model::{
    FlowRecord, FlowVerdict, Generation, Lease, NameRecord, NodeName, PairRecord, PairsRest,
    PodUid, PortCounters, SaRecord, Status,
};
use sluice_offload_api::{Refused, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::live::{Answer, Order, OrderRefused};
use crate::ports::DeviceLoss;

/// Requests that wait for the control thread, at most.
pub(super) const REQUESTS_MAX: usize = 64;
/// How long the control thread may take for an answer to a question.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Verdicts that wait for their reader, at most; more are lost and counted.
const VERDICTS_MAX: usize = 1024;

/// A question or an order, with the way back.
#[derive(Debug)]
pub(super) enum Request {
    Program(Box<Transaction>, oneshot::Sender<Programmed>),
    Status(Lease, oneshot::Sender<Status>),
    Counters(oneshot::Sender<Vec<PortCounters>>),
    Flows(
        Option<PodUid>,
        oneshot::Sender<Result<Vec<FlowRecord>, NoSuch>>,
    ),
    Names(
        Option<PodUid>,
        oneshot::Sender<Result<Vec<NameRecord>, NoSuch>>,
    ),
    Sas(Option<NodeName>, oneshot::Sender<Vec<SaRecord>>),
    Pairs(oneshot::Sender<(Vec<PairRecord>, PairsRest)>),
    Vitals(oneshot::Sender<Vitals>),
    Watch(mpsc::Sender<FlowVerdict>, oneshot::Sender<()>),
    Order(Box<Order>, Answer),
}

/// What became of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Programmed {
    /// It is in force on every worker and on the disk.
    Ack(Generation),
    /// It is wrong; nothing has changed.
    Refused(Refused),
    /// It is in force, but a restart would bring back the one before: it can't be
    /// acknowledged.
    NotKept(String),
    /// Too many transactions wait already; nothing has changed.
    Busy,
    /// The worker has ended.
    Gone,
}

/// No such object.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no pod with UID {0} on this node")]
pub struct NoSuch(pub PodUid);

/// How the threads are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vitals {
    /// Why the checkpoint couldn't be used or written; gone with the next generation kept.
    pub checkpoint_fault: Option<String>,
    /// Milliseconds since the worker's last poll, as far as the control thread saw.
    pub worker_silent_ms: u64,
    /// Frames by flow table outcome: hit, miss, judged again.
    pub flow_outcomes: [u64; 3],
    /// Frames that the devices lost, in the ports' order; empty if they don't count.
    pub lost: Vec<DeviceLoss>,
    /// Lines that the verdict log left out.
    pub verdicts_suppressed: u64,
}

/// The control thread doesn't answer: it has ended, or is too busy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the control thread did not answer")]
pub struct Silent;

/// Asks the control thread. Cheap to clone; nothing here blocks.
#[derive(Clone, Debug)]
pub struct ControlClient(pub(super) Sender<Request>);

impl ControlClient {
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Silent> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(request(reply)).map_err(|_| Silent)?;
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Silent),
        }
    }

    /// Has a transaction carried out. Waits as long as the worker takes to use it.
    ///
    /// # Errors
    /// [`Silent`]: what became of it is not known; ask the status.
    pub async fn program(&self, tx: Transaction) -> Result<Programmed, Silent> {
        let (reply, answer) = oneshot::channel();
        self.0
            .try_send(Request::Program(Box::new(tx), reply))
            .map_err(|_| Silent)?;
        answer.await.map_err(|_| Silent)
    }

    /// How the dataplane is; the lease is known only to who asks.
    ///
    /// # Errors
    /// [`Silent`].
    pub async fn status(&self, lease: Lease) -> Result<Status, Silent> {
        self.ask(|reply| Request::Status(lease, reply)).await
    }

    /// Every port's counters.
    ///
    /// # Errors
    /// [`Silent`].
    pub async fn counters(&self) -> Result<Vec<PortCounters>, Silent> {
        self.ask(Request::Counters).await
    }

    /// The flows of one pod of this node, or all.
    ///
    /// # Errors
    /// [`Silent`], and inside [`NoSuch`] pod.
    pub async fn flows(
        &self,
        endpoint: Option<PodUid>,
    ) -> Result<Result<Vec<FlowRecord>, NoSuch>, Silent> {
        self.ask(|reply| Request::Flows(endpoint, reply)).await
    }

    /// The addresses that one pod of this node, or all, know by domain names.
    ///
    /// # Errors
    /// [`Silent`], and inside [`NoSuch`] pod.
    pub async fn names(
        &self,
        endpoint: Option<PodUid>,
    ) -> Result<Result<Vec<NameRecord>, NoSuch>, Silent> {
        self.ask(|reply| Request::Names(endpoint, reply)).await
    }

    /// The SAs with one peer, or all.
    ///
    /// # Errors
    /// [`Silent`].
    pub async fn sas(&self, peer: Option<NodeName>) -> Result<Vec<SaRecord>, Silent> {
        self.ask(|reply| Request::Sas(peer, reply)).await
    }

    /// How packets between this node and others cross the wire, by pair of identities.
    ///
    /// # Errors
    /// [`Silent`].
    pub async fn pairs(&self) -> Result<(Vec<PairRecord>, PairsRest), Silent> {
        self.ask(Request::Pairs).await
    }

    /// Verdicts from the moment on that this returns. There is one reader: the one before
    /// it gets no more.
    ///
    /// # Errors
    /// [`Silent`].
    pub async fn watch(&self) -> Result<mpsc::Receiver<FlowVerdict>, Silent> {
        let (to, verdicts) = mpsc::channel(VERDICTS_MAX);
        self.ask(|reply| Request::Watch(to, reply)).await?;
        Ok(verdicts)
    }

    /// Has an SA come or go; returns when it has, at every worker.
    ///
    /// # Errors
    /// [`OrderRefused`]: nothing has changed, but for [`OrderRefused::Silent`], of which that isn't known.
    pub async fn order(&self, order: Order) -> Result<(), OrderRefused> {
        let order = Box::new(order);
        let done = self.ask(|reply| Request::Order(order, Answer(reply))).await;
        done.unwrap_or(Err(OrderRefused::Silent))
    }

    /// How the threads are.
    ///
    /// # Errors
    /// [`Silent`].
    pub async fn vitals(&self) -> Result<Vitals, Silent> {
        self.ask(Request::Vitals).await
    }
}
