//! One Program stream: transactions in, answers out.

use core::time::Duration;

use sluice_offload_api::model::Generation;
use sluice_offload_api::proto::{ProgramRequest, ProgramResponse};
use sluice_offload_api::{Answer, Assembler, Limits, Refusal, Refused};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::lease::Held;
use crate::runtime::{ControlClient, Programmed};

/// How long the worker may take to use a generation: it polls, or something is very wrong.
const APPLY_MAX: Duration = Duration::from_secs(60);

/// What a stream needs.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) control: ControlClient,
    pub(super) transaction_max: Duration,
    /// The number of the newest stream. One at a time is served: an agent that comes back
    /// takes over from the half-dead connection it left, and memory holds one transaction.
    pub(super) newest: watch::Receiver<u64>,
    pub(super) number: u64,
    pub(super) lease: Held,
}

type Answers = mpsc::Sender<Result<ProgramResponse, Status>>;

impl Program {
    /// Serves the stream to its end.
    pub(super) async fn run(
        mut self,
        mut messages: impl Stream<Item = Result<ProgramRequest, Status>> + Unpin,
        answers: Answers,
    ) {
        let mut newest = self.newest.clone();
        let number = self.number;
        let ended = tokio::select! {
            ended = self.serve(&mut messages, &answers) => ended,
            _ = newest.wait_for(|it| *it != number) => {
                Err(Status::aborted("another Program stream took over; one is served at a time"))
            }
        };
        if let Err(status) = ended {
            tracing::warn!(code = ?status.code(), "a Program stream ended: {}", status.message());
            // Whoever is gone needs no reason.
            drop(answers.send(Err(status)).await);
        }
        drop(self.lease);
    }

    async fn serve(
        &mut self,
        messages: &mut (impl Stream<Item = Result<ProgramRequest, Status>> + Unpin),
        answers: &Answers,
    ) -> Result<(), Status> {
        let mut assembler = Assembler::new(Limits::MAX);
        let mut began: Option<Instant> = None;
        loop {
            let next = match began {
                None => messages.next().await,
                Some(began) => {
                    let deadline = began + self.transaction_max;
                    let next = tokio::time::timeout_at(deadline, messages.next()).await;
                    next.map_err(|_| too_slow(self.transaction_max))?
                }
            };
            let Some(message) = next.transpose()? else {
                if assembler.is_open() {
                    tracing::warn!("a Program stream ended inside a transaction; nothing changed");
                }
                return Ok(());
            };
            let answer = match assembler.on_message(message) {
                Ok(None) => None,
                Ok(Some(tx)) => Some(self.carry_out(tx).await?),
                Err(refusal) => Some(self.refused(&refusal).await?),
            };
            began = assembler
                .is_open()
                .then(|| began.unwrap_or_else(Instant::now));
            if let Some(answer) = answer
                && answers.send(Ok(answer.into())).await.is_err()
            {
                return Ok(());
            }
        }
    }

    async fn carry_out(&self, tx: sluice_offload_api::Transaction) -> Result<Answer, Status> {
        let done = tokio::time::timeout(APPLY_MAX, self.control.program(tx)).await;
        let done = done.map_err(|_| {
            Status::unavailable("the worker does not take the generation; read the status")
        })?;
        match done.map_err(|silent| Status::unavailable(silent.to_string()))? {
            Programmed::Ack(generation) => Ok(Answer::Ack { generation }),
            Programmed::Refused(refused) => Ok(Answer::Refused(refused)),
            Programmed::NotKept(why) => Err(Status::unavailable(format!(
                "{why}; the generation is in force and is not acknowledged, as a restart would \
                 bring back the one before"
            ))),
            Programmed::Busy => Err(Status::resource_exhausted(
                "other transactions wait; try again",
            )),
            Programmed::Gone => Err(Status::unavailable("the worker has ended")),
        }
    }

    /// Refused before it was whole: the control thread is only asked what is in force.
    async fn refused(&self, refusal: &Refusal) -> Result<Answer, Status> {
        let status = self
            .control
            .status(sluice_offload_api::model::Lease::Held)
            .await;
        let generation: Generation = status
            .map_err(|silent| Status::unavailable(silent.to_string()))?
            .generation;
        Ok(Answer::Refused(Refused::new(generation, refusal)))
    }
}

fn too_slow(max: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "the transaction was not complete within {} ms; nothing has changed",
        max.as_millis()
    ))
}
