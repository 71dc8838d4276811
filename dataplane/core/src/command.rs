//! What the control thread asks of a worker between bursts.
//!
//! Everything comes in ready-made boxes and goes back in them: the worker neither
//! allocates nor frees.

use crossbeam_channel::{Receiver, Sender, bounded};
use sluice_crypto::esp::Spi;

use crate::clear::{ClearPair, ClearSum};
use crate::flow::key::Tuple;
use crate::flow::state::FlowState;
use crate::flow::table::Flow;
use crate::names::learned::NameView;
use crate::route::{Attach, RuleRef};
use crate::sad::{Children, Inbound};
use crate::snapshot::PeerIndex;

/// Commands on the way to one worker, at most.
pub const COMMANDS_MAX: usize = 1024;

/// Commands a worker takes in one poll, at most.
pub const COMMANDS_PER_POLL_MAX: usize = 16;

/// A command.
#[derive(Debug)]
pub enum Command {
    /// Installs a receiving SA.
    InstallInbound(Inbound),
    /// Puts the sending SAs to a peer in force.
    InstallOutbound(PeerIndex, Children),
    /// Takes a receiving SA out.
    RetireInbound(Spi),
    /// Takes the sending SAs to a peer out: its packets are dropped from now on.
    RetireOutbound(PeerIndex),
    /// Fills in flows from an entry number on, up to the buffer's capacity.
    ReadFlows(FlowPage),
    /// Fills in what pods know of names from an entry number on, up to the buffer's capacity.
    ReadNames(NamePage),
    /// Fills in SAs, up to the buffer's capacity.
    ReadSas(Vec<SaView>),
    /// Fills in what crossed the wire in clear, up to the buffer's capacity.
    ReadClear(ClearPage),
}

/// A command's answer.
#[derive(Debug)]
pub enum Reply {
    /// The receiving SA is in force.
    InboundInstalled(Spi),
    /// The sending SAs, of which the first has this SPI, are in force; those they replaced come
    /// along.
    OutboundInstalled(PeerIndex, Spi, Option<Children>),
    /// It couldn't be installed: its SPI is in use or the SAD is full.
    InboundRefused(Inbound),
    /// They couldn't be installed: no such peer number.
    OutboundRefused(Children),
    /// A receiving SA that was taken out; `None` if there was none.
    InboundRetired(Spi, Option<Inbound>),
    /// Sending SAs that were taken out; `None` if there were none.
    OutboundRetired(PeerIndex, Option<Children>),
    /// The flows asked for.
    Flows(FlowPage),
    /// The names asked for.
    Names(NamePage),
    /// The SAs asked for.
    Sas(Vec<SaView>),
    /// What crossed the wire in clear.
    Clear(ClearPage),
}

/// What crossed the wire in clear.
#[derive(Debug, Default)]
pub struct ClearPage {
    /// By pair; only as many as the vector has room for.
    pub pairs: Vec<ClearPair>,
    /// What isn't counted for any pair.
    pub rest: ClearSum,
}

impl ClearPage {
    /// Takes in what another worker has counted.
    pub fn add(&mut self, other: &Self) {
        self.pairs.extend(&other.pairs);
        self.pairs
            .sort_by_key(|it| (it.from, it.to, it.peer, it.way));
        self.pairs.dedup_by(|more, it| {
            let key = |it: &ClearPair| (it.from, it.to, it.peer, it.way);
            let same = key(more) == key(it);
            if same {
                it.sum.add(more.sum);
            }
            same
        });
        self.rest.add(other.rest);
    }
}

/// A part of the flow table.
#[derive(Debug, Default)]
pub struct FlowPage {
    /// The entry number to start at; in the answer, the one to go on from.
    pub cursor: usize,
    /// The flows; only as many as the vector has room for.
    pub flows: Vec<FlowView>,
    /// Whether the end was reached.
    pub done: bool,
}

/// A part of what pods know of names.
#[derive(Debug, Default)]
pub struct NamePage {
    /// The entry number to start at; in the answer, the one to go on from.
    pub cursor: usize,
    /// Addresses and patterns; only as many as the vector has room for.
    pub names: Vec<NameView>,
    /// Whether the end was reached.
    pub done: bool,
}

/// A flow as shown to people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowView {
    /// The initiator's tuple.
    pub tuple: Tuple,
    /// Where the initiator's and the responder's packets come from and go to.
    pub ends: [Attach; 2],
    /// The rule that allowed it.
    pub rule: RuleRef,
    /// How far it has come.
    pub state: FlowState,
    /// Packets from the initiator and from the responder, modulo 2^32.
    pub packets: [u32; 2],
}

impl From<&Flow> for FlowView {
    fn from(flow: &Flow) -> Self {
        Self {
            tuple: flow.tuple(),
            ends: flow.ends(),
            rule: flow.rule(),
            state: flow.state(),
            packets: flow.packets(),
        }
    }
}

/// An SA as shown to people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SaView {
    /// Its SPI.
    pub spi: Spi,
    /// The other node.
    pub peer: PeerIndex,
    /// Whether it receives.
    pub inbound: bool,
    /// Its algorithm.
    pub algorithm: sluice_crypto::key::Algorithm,
    /// Its key's fingerprint.
    pub fingerprint: sluice_crypto::key::Fingerprint,
    /// Packets through it.
    pub packets: u64,
    /// Inner bytes through it.
    pub bytes: u64,
}

/// The worker's side.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) commands: Receiver<Command>,
    pub(crate) replies: Sender<Reply>,
}

/// The control side.
#[derive(Debug)]
pub struct Outbox {
    commands: Sender<Command>,
    replies: Receiver<Reply>,
    pending: usize,
}

pub(crate) fn channel() -> (Outbox, Inbox) {
    let (command_tx, command_rx) = bounded(COMMANDS_MAX);
    // As many answers as commands can be pending: the way back is never full.
    let (reply_tx, reply_rx) = bounded(COMMANDS_MAX);
    (
        Outbox {
            commands: command_tx,
            replies: reply_rx,
            pending: 0,
        },
        Inbox {
            commands: command_rx,
            replies: reply_tx,
        },
    )
}

/// The worker has too many commands waiting, or is gone; the command comes back.
#[derive(Debug)]
pub struct Busy(pub Box<Command>);

impl Outbox {
    /// Sends a command on its way.
    ///
    /// # Errors
    /// [`Busy`] with the command.
    pub fn send(&mut self, command: Command) -> Result<(), Busy> {
        if self.pending >= COMMANDS_MAX {
            return Err(Busy(Box::new(command)));
        }
        self.commands
            .try_send(command)
            .map_err(|e| Busy(Box::new(e.into_inner())))?;
        self.pending += 1;
        Ok(())
    }

    /// Whether one more command would be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.pending < COMMANDS_MAX && !self.commands.is_full()
    }

    /// The next answer.
    pub fn next_reply(&mut self) -> Option<Reply> {
        let reply = self.replies.try_recv().ok()?;
        self.pending -= 1;
        Some(reply)
    }
}
