//! The link to the dataplane: one connection at a time, made again when it breaks.
//!
//! ```text
//! connect --> Status --> Program stream, heartbeats --.
//!    ^                   (Up, Answer, Alive ...)      | breaks, or is silent
//!    '--------- wait, longer each time <----- Down ---'
//! ```
//! It decides nothing: what happens becomes a [`LinkEvent`], what is to be sent an
//! [`Order`]. An order of an earlier connection is not sent on a later one.

mod connect;
mod reader;
mod tls;

use std::error::Error;
use std::time::Duration;

use sluice_offload_api::convert::to_requests;
use sluice_offload_api::model::{FlowVerdict, Status};
use sluice_offload_api::proto::offload_client::OffloadClient;
use sluice_offload_api::proto::verdicts_client::VerdictsClient;
use sluice_offload_api::proto::{ProgramRequest, StatusRequest, WatchRequest};
use sluice_offload_api::{Answer, Transaction};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

pub use reader::{FLOWS_MAX, Reader};
pub use tls::TlsError;

use super::config::DataplaneAddress;
use super::verdicts::VerdictLog;
use connect::connect;

/// A connection, and each of its calls but a transaction's, takes at most so long.
const CALL_MAX: Duration = Duration::from_secs(5);
/// A transaction is answered within.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Before the second attempt, doubled for each that follows.
const BACKOFF: Duration = Duration::from_millis(50);
/// Between two attempts, at most: an agent is back in step within 5 s.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Messages of a transaction under way.
const MESSAGES_MAX: usize = 256;

/// Something that happened.
#[derive(Debug)]
pub enum LinkEvent {
    /// There is a connection.
    Up {
        /// Its number.
        connection: u64,
        /// How the dataplane is.
        status: Status,
    },
    /// The dataplane still answers.
    Alive(Status),
    /// It answered a transaction.
    Answer(Answer),
    /// There is no connection, or there is none any more.
    Down {
        /// Why.
        why: String,
    },
}

/// Something to send.
#[derive(Debug)]
pub struct Order {
    /// On this connection and on no other.
    pub connection: u64,
    /// What.
    pub transaction: Transaction,
}

/// The link's ends.
#[derive(Debug)]
pub struct LinkEnds {
    /// What is to be sent.
    pub orders: mpsc::Receiver<Order>,
    /// What happens.
    pub events: mpsc::Sender<LinkEvent>,
    /// The connection there is, to read from.
    pub reader: watch::Sender<Option<Reader>>,
    /// Verdicts, if someone logs them.
    pub verdicts: Option<VerdictLog>,
}

/// Whether a connection could be tried: TLS needs its files.
///
/// # Errors
/// [`TlsError`].
pub fn check(address: &DataplaneAddress) -> Result<(), TlsError> {
    match address {
        DataplaneAddress::Unix(_) => Ok(()),
        DataplaneAddress::Tcp(tls) => tls::connector(tls).map(drop),
    }
}

/// Keeps the link. Ends when nobody listens any more.
pub async fn run(address: DataplaneAddress, heartbeat: Duration, mut ends: LinkEnds) {
    let (mut connection, mut backoff) = (0, BACKOFF);
    while !ends.events.is_closed() {
        let mut heard = false;
        let why = match timeout(CALL_MAX, connect(&address)).await {
            Err(_) => format!("no connection within {} s", CALL_MAX.as_secs()),
            Ok(Err(error)) => chain(&error),
            Ok(Ok(channel)) => {
                connection += 1;
                let why = serve(channel, connection, heartbeat, &mut ends, &mut heard).await;
                ends.reader.send_replace(None);
                why
            }
        };
        if ends.events.send(LinkEvent::Down { why }).await.is_err() {
            return;
        }
        if heard {
            backoff = BACKOFF;
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Uses a connection until it breaks; why it did.
async fn serve(
    channel: Channel,
    connection: u64,
    heartbeat: Duration,
    ends: &mut LinkEnds,
    heard: &mut bool,
) -> String {
    let mut client = OffloadClient::new(channel.clone());
    let status = match read_status(&mut client).await {
        Ok(status) => status,
        Err(why) => return why,
    };
    let instance = status.instance;
    let (requests, outgoing) = mpsc::channel(MESSAGES_MAX);
    let program = timeout(CALL_MAX, client.program(ReceiverStream::new(outgoing)));
    let mut answers = match program.await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return told(&status),
        Err(_) => return "it takes no transactions".to_owned(),
    };
    *heard = true;
    ends.reader.send_replace(Some(Reader::new(channel.clone())));
    let up = LinkEvent::Up { connection, status };
    if ends.events.send(up).await.is_err() {
        return String::new();
    }

    // Whatever runs beside this connection ends with it.
    let mut beside = JoinSet::new();
    let (beats, mut beaten) = mpsc::channel(1);
    beside.spawn(beat(client, heartbeat, beats));
    if let Some(verdicts) = ends.verdicts.clone() {
        beside.spawn(watch_verdicts(channel, verdicts));
    }
    let mut sending = Sending::new(requests);
    let mut due = None;
    loop {
        let late = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            order = ends.orders.recv() => match order {
                None => return String::new(),
                Some(order) if order.connection == connection => {
                    due = Some(Instant::now() + ANSWER_MAX);
                    sending.start(order.transaction);
                    continue;
                }
                Some(_) => continue,
            },
            sent = sending.step() => match sent {
                Ok(()) => continue,
                Err(why) => return why,
            },
            answer = answers.message() => match answer {
                Ok(Some(answer)) => match Answer::try_from(answer) {
                    Ok(answer) => {
                        due = None;
                        LinkEvent::Answer(answer)
                    }
                    Err(error) => return format!("its answer makes no sense: {error}"),
                },
                Ok(None) => return "it ended the stream of transactions".to_owned(),
                Err(status) => return told(&status),
            },
            beat = beaten.recv() => match beat {
                Some(Ok(status)) if status.instance == instance => LinkEvent::Alive(status),
                Some(Ok(_)) => return "it has restarted".to_owned(),
                Some(Err(why)) => return why,
                None => return "its heartbeat ended".to_owned(),
            },
            () = late => {
                return format!("a transaction was not answered within {} s", ANSWER_MAX.as_secs());
            }
        };
        if ends.events.send(event).await.is_err() {
            return String::new();
        }
    }
}

/// A transaction on its way, message by message.
struct Sending {
    requests: mpsc::Sender<ProgramRequest>,
    left: Option<Box<dyn Iterator<Item = ProgramRequest> + Send>>,
}

impl Sending {
    fn new(requests: mpsc::Sender<ProgramRequest>) -> Self {
        let left = None;
        Self { requests, left }
    }

    /// At most one is under way: the one before was answered, so it was sent.
    fn start(&mut self, transaction: Transaction) {
        self.left = Some(Box::new(to_requests(transaction)));
    }

    /// Sends the next message; waits while there is none.
    async fn step(&mut self) -> Result<(), String> {
        let Some(left) = &mut self.left else {
            return std::future::pending().await;
        };
        let room = self.requests.reserve().await;
        let room = room.map_err(|_| "it takes no more messages".to_owned())?;
        match left.next() {
            Some(message) => room.send(message),
            None => self.left = None,
        }
        Ok(())
    }
}

async fn read_status(client: &mut OffloadClient<Channel>) -> Result<Status, String> {
    let status = timeout(CALL_MAX, client.status(StatusRequest {})).await;
    let status = status.map_err(|_| format!("no status within {} s", CALL_MAX.as_secs()))?;
    let status = status.map_err(|status| told(&status))?.into_inner();
    Status::try_from(status).map_err(|error| format!("its status makes no sense: {error}"))
}

/// Asks for the status again and again.
async fn beat(
    mut client: OffloadClient<Channel>,
    every: Duration,
    beats: mpsc::Sender<Result<Status, String>>,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = read_status(&mut client).await;
        if beats.send(status).await.is_err() {
            return;
        }
    }
}

/// Hands verdicts over until the stream ends. A dataplane that has none, or whose stream
/// breaks, costs the log and nothing else.
async fn watch_verdicts(channel: Channel, log: VerdictLog) {
    let mut client = VerdictsClient::new(channel);
    loop {
        match client.watch(WatchRequest {}).await {
            Ok(response) => {
                let (mut stream, mut lost) = (response.into_inner(), 0);
                while let Ok(Some(verdict)) = stream.message().await {
                    match FlowVerdict::try_from(verdict) {
                        Ok(verdict) => {
                            log.on_lost(verdict.lost.saturating_sub(lost));
                            lost = verdict.lost;
                            log.offer(verdict);
                        }
                        Err(error) => tracing::warn!(%error, "a verdict makes no sense"),
                    }
                }
            }
            Err(status) if status.code() == Code::Unimplemented => {
                tracing::warn!("the dataplane serves no verdicts; the verdict log stays empty");
                return;
            }
            Err(status) => tracing::warn!(status = told(&status), "no verdicts"),
        }
        sleep(BACKOFF_MAX).await;
    }
}

fn told(status: &tonic::Status) -> String {
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    match status.source() {
        Some(source) => format!("{message}: {}", chain(source)),
        None => message.to_owned(),
    }
}

/// An error and what caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
