//! The one task that owns the agent: everything that happens comes here, one by one.
//!
//! After each: what must outlive the process is written, what the dataplane must be told is
//! sent, and whoever waited for it is answered. In this order.

mod bundle;
mod requests;
mod views;
mod waiters;

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use sluice_offload_api::Answer;
use sluice_offload_api::model::{Encryption, IpPrefix, Status};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::config::Config;
use super::directory::{self, SourceEvent};
use super::journal_file::{JournalError, JournalFile, Lock};
use super::link::{self, LinkEnds, LinkEvent, Order, Reader};
use super::socket::{self, Call, SocketError};
use super::verdicts::VerdictLog;
use crate::agent::{Agent, Attachment, Loosened, LoosenedNews};
use crate::local::{Fault, FaultKind, LinkView, Response, SourceView};
use waiters::{Waiter, Waiters};

/// Calls, events and orders that wait, at most.
const QUEUE_MAX: usize = 64;
/// ADDs that wait for the dataplane, at most: more than a node has VFs.
const WAITERS_MAX: usize = 2048;
/// How often some of the tables in force are held against the policies,
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// and how many rows of them.
const SWEEP_ROWS: usize = 1_000;
/// How often it is looked whether an asker has gone.
const ABANDONED_EVERY: Duration = Duration::from_millis(100);

/// Why an agent doesn't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The journal can't be used.
    #[error("the journal")]
    Journal(#[from] JournalError),
    /// The socket can't be listened on.
    #[error("the socket")]
    Socket(#[from] SocketError),
    /// The verdict log can't be opened.
    #[error("the verdict log")]
    VerdictLog(#[source] io::Error),
    /// A task beside the agent has ended, which none does: a bug. Whoever watches over the
    /// agent starts it again.
    #[error("the task of the {0} has ended")]
    Ended(&'static str),
    /// Signals can't be waited for.
    #[error("signals")]
    Signals(#[source] io::Error),
}

/// Runs an agent until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`]. All but [`RunError::Ended`] come before anything is sent.
pub async fn run(config: Config) -> Result<(), RunError> {
    let _lock = Lock::take(&config.state)?;
    let (journal_file, recovered) = JournalFile::open(&config.state)?;
    if let Some(fault) = &recovered.fault {
        tracing::error!(%fault, "the journal before the last is used");
    }
    let verdicts = config.verdict_log.as_ref().map(VerdictLog::start);
    let verdicts = verdicts.transpose().map_err(RunError::VerdictLog)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let listener = socket::listen(&config.socket)?;

    let (source_events, mut source) = mpsc::channel(QUEUE_MAX);
    let (link_events, mut link) = mpsc::channel(QUEUE_MAX);
    let (orders, order_queue) = mpsc::channel(QUEUE_MAX);
    let (calls, mut called) = mpsc::channel(QUEUE_MAX);
    let (reader_slot, reader) = watch::channel(None);
    tokio::spawn(directory::watch(config.manifests.clone(), source_events));
    let ends = LinkEnds {
        orders: order_queue,
        events: link_events,
        reader: reader_slot,
        verdicts: verdicts.clone(),
    };
    tokio::spawn(link::run(config.dataplane.clone(), config.heartbeat, ends));
    tokio::spawn(socket::serve(listener, calls));

    let (agent, left_out) = Agent::new(config.setup, config.devices, recovered.journal);
    for it in &left_out {
        tracing::error!(pod = %it.pod, port = %it.port, "an attachment of the journal is left out: its VF is gone or not its own");
    }
    tracing::info!(
        attachments = agent.attachments().len(),
        "the agent has started"
    );
    let mut daemon = Daemon {
        agent,
        pod_cidrs: config.pod_cidrs,
        journal_file,
        recovery_fault: recovered.fault.map(|it| it.to_string()),
        journal_fault: None,
        unwritten: true,
        left_out,
        orders,
        reader,
        verdicts,
        add_timeout: config.add_timeout,
        connection: 0,
        waiters: Waiters::default(),
        source: SourceView::default(),
        link: LinkView::default(),
        dataplane: None,
        loosened: Loosened::default(),
    };
    let default = daemon.agent.encryption().of_nodes();
    if !default.is_required() {
        tracing::warn!(%default, "the cluster's default lets packets between nodes go in clear");
    }
    let mut sweep = interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = daemon.next_deadline();
        let due = async {
            match next {
                Some(next) => sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = source.recv() => daemon.on_source(event.ok_or(RunError::Ended("source"))?),
            event = link.recv() => daemon.on_link(event.ok_or(RunError::Ended("link"))?),
            call = called.recv() => daemon.on_call(call.ok_or(RunError::Ended("socket"))?),
            _ = sweep.tick() => daemon.on_sweep(),
            () = due => daemon.on_time(Instant::now()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        daemon.advance();
    }
    daemon.stop();
    socket::remove(&config.socket);
    tracing::info!("the agent ends; the dataplane goes on with what it has");
    Ok(())
}

/// The agent and what is around it.
struct Daemon {
    agent: Agent,
    /// The operator's ranges of pods' addresses.
    pod_cidrs: BTreeSet<IpPrefix>,
    journal_file: JournalFile,
    /// Why the agent goes on from an older journal than the last.
    recovery_fault: Option<String>,
    journal_fault: Option<String>,
    /// Whether the agent may have something that the journal has not.
    unwritten: bool,
    left_out: Vec<Attachment>,
    orders: mpsc::Sender<Order>,
    reader: watch::Receiver<Option<Reader>>,
    verdicts: Option<VerdictLog>,
    add_timeout: Duration,
    /// The number of the connection there is.
    connection: u64,
    waiters: Waiters,
    source: SourceView,
    link: LinkView,
    dataplane: Option<Status>,
    loosened: Loosened,
}

fn tell_loosened(news: &LoosenedNews, default: Encryption) {
    for (identity, setting) in &news.named {
        tracing::warn!(
            identity,
            %setting,
            %default,
            "encryption is looser than the cluster's default, as an annotation asks"
        );
    }
    if news.more > 0 {
        let more = news.more;
        tracing::warn!(more, %default, "more identities have a setting that is looser");
    }
}

impl Daemon {
    fn on_sweep(&mut self) {
        if let Some(found) = self.agent.sweep(SWEEP_ROWS) {
            self.unwritten = true;
            tracing::error!(%found, "a table in force is not what the policies say; the pods that have it are closed");
        }
        if let Some(found) = self.agent.sweep_shadow(SWEEP_ROWS) {
            self.unwritten = true;
            tracing::error!(%found, "a shadow table is not what the policies say; it is dropped, and the pods' enforced table stands");
        }
    }

    fn on_source(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Loaded(loaded) => {
                self.source.loads += 1;
                let notes: Vec<_> = loaded.notes.iter().map(ToString::to_string).collect();
                let overruled = self.agent.overruled(&loaded.cluster);
                let notes: Vec<_> = notes.into_iter().chain(overruled).collect();
                for note in notes.iter().filter(|it| !self.source.notes.contains(it)) {
                    tracing::warn!("{note}");
                }
                self.source.notes = notes;
                let mut cluster = loaded.cluster;
                cluster.pod_cidrs.clone_from(&self.pod_cidrs);
                self.agent.on_cluster(cluster);
                self.unwritten = true;
                match self.agent.compile_fault() {
                    None => tracing::info!(loads = self.source.loads, "the manifests are taken"),
                    Some(fault) => tracing::error!(%fault, "the manifests can't be compiled"),
                }
            }
            SourceEvent::Fault(fault) => {
                self.source.faults += 1;
                tracing::error!(fault, "the manifests are at fault; nothing is changed");
                self.agent.on_source_fault(fault);
            }
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { connection, status } => {
                tracing::info!(
                    generation = status.generation.0,
                    "the dataplane is connected"
                );
                self.connection = connection;
                self.link.connects += 1;
                self.link.fault = None;
                self.agent.on_connect(status.instance, status.generation);
                self.waiters.on_connect();
                self.dataplane = Some(status);
            }
            LinkEvent::Alive(status) => self.dataplane = Some(status),
            LinkEvent::Answer(answer) => {
                match &answer {
                    Answer::Ack { generation } => {
                        tracing::info!(generation = generation.0, "in force");
                    }
                    Answer::Refused(refused) => {
                        tracing::error!(%refused, "the dataplane refused");
                    }
                }
                let acked = matches!(answer, Answer::Ack { .. });
                self.agent.on_answer(answer);
                if let (true, Some(state)) = (acked, self.agent.in_force()) {
                    let news = self.loosened.note(self.agent.encryption(), state);
                    tell_loosened(&news, self.agent.encryption().of_nodes());
                    if let Some(log) = &self.verdicts {
                        log.on_state(state.clone());
                    }
                }
            }
            LinkEvent::Down { why } => {
                if self.link.fault.as_ref() != Some(&why) {
                    tracing::warn!(why, "no dataplane; what it has stays in force");
                }
                self.link.fault = Some(why);
                self.dataplane = None;
                self.agent.on_disconnect();
            }
        }
    }

    fn on_time(&mut self, now: Instant) {
        for waiter in self.waiters.take_late(now) {
            let why = self.agent.unsettled();
            let text = format!(
                "the dataplane does not protect the pod after {} ms: {why}",
                self.add_timeout.as_millis()
            );
            self.give_up(waiter, Fault::new(FaultKind::Unavailable, text));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadline = self.waiters.next_deadline()?;
        Some(deadline.min(Instant::now() + ABANDONED_EVERY))
    }

    /// What follows from what has happened.
    fn advance(&mut self) {
        for waiter in self.waiters.take_abandoned() {
            let text = "whoever asked has gone";
            self.give_up(waiter, Fault::new(FaultKind::Unavailable, text));
        }
        // A revoked right is not kept because a disk is full: what only the number of an
        // identity hangs on is sent all the same. ADD and DEL have written before.
        let _ = self.write_journal();
        self.send();
        let generation = self.agent.in_force().map(|it| it.generation);
        let settled = self.agent.is_settled();
        for waiter in self.waiters.take_protected(generation, settled) {
            self.protected(waiter, generation.unwrap_or_default().0);
        }
        if let Some(refused) = self.agent.held() {
            let text = format!("the dataplane refused: {refused}");
            let failed = self.waiters.take_sent();
            let any = !failed.is_empty();
            for waiter in failed {
                self.give_up(waiter, Fault::new(FaultKind::Refused, text.clone()));
            }
            if any {
                let _ = self.write_journal();
                self.send();
            }
        }
    }

    fn send(&mut self) {
        let Some(transaction) = self.agent.next_transaction() else {
            return;
        };
        self.waiters.on_sent(transaction.generation);
        let order = Order {
            connection: self.connection,
            transaction,
        };
        // One is in flight at a time, so there is room; without a link there is no order.
        if self.orders.try_send(order).is_err() {
            tracing::error!("the link takes no order");
        }
    }

    /// Takes an attachment back, if it is still there.
    fn detach(&mut self, container: &str, ifname: &str) -> Option<Attachment> {
        self.unwritten = true;
        self.agent.detach(container, ifname)
    }

    /// # Errors
    /// Why it isn't written.
    fn write_journal(&mut self) -> Result<(), Fault> {
        if !self.unwritten {
            return Ok(());
        }
        match self.journal_file.write(&self.agent.journal()) {
            Ok(()) => {
                self.journal_fault = None;
                self.unwritten = false;
                Ok(())
            }
            Err(error) => {
                let text = format!("the journal can't be written: {error}");
                if self.journal_fault.as_ref() != Some(&text) {
                    tracing::error!("{text}");
                }
                self.journal_fault = Some(text.clone());
                Err(Fault::new(FaultKind::Internal, text))
            }
        }
    }

    fn protected(&mut self, waiter: Waiter, generation: u64) {
        let standing = self
            .agent
            .standings()
            .find(|(key, _)| key.pod_uid == waiter.uid && key.interface == waiter.ifname)
            .map(|(_, standing)| standing.clone());
        let (open, standing) = match standing {
            Some(it) => (it == crate::agent::Standing::Known, it.to_string()),
            None => (false, "not compiled yet".to_owned()),
        };
        tracing::info!(
            container = waiter.container,
            generation,
            open,
            standing,
            "ADD"
        );
        let answer = Response::Added {
            uid: waiter.uid.to_string(),
            open,
            standing,
            generation,
            fresh: waiter.fresh,
        };
        let Waiter {
            container,
            ifname,
            fresh,
            reply,
            ..
        } = waiter;
        if reply.send(Ok(answer)).is_err() && fresh {
            tracing::warn!(
                container,
                "whoever asked for ADD has gone; it is taken back"
            );
            self.detach(&container, &ifname);
        }
    }

    /// Leaves nothing of an ADD behind.
    fn give_up(&mut self, waiter: Waiter, fault: Fault) {
        tracing::warn!(
            container = waiter.container,
            fault = fault.text,
            "ADD failed"
        );
        if waiter.fresh {
            self.detach(&waiter.container, &waiter.ifname);
            let _ = self.write_journal();
        }
        let _ = waiter.reply.send(Err(fault));
    }

    fn stop(&mut self) {
        for waiter in self.waiters.take_all() {
            let text = "the agent is stopping; try again";
            self.give_up(waiter, Fault::new(FaultKind::Unavailable, text));
        }
        let _ = self.write_journal();
    }
}
