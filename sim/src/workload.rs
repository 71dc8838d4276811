//! Traffic that is more than a question: transfers, streams of datagrams, captures.

use core::fmt;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use sluice_host_agent::cluster::Cluster;

use crate::fault::Program;
use crate::input::{Delete, Manifests};
use crate::probe::{Party, Probe};

/// Bytes of a transfer, at most: every frame of it is kept for the capture.
pub const BYTES_MAX: u64 = 4 << 20;
/// Datagrams of a stream, and frames of a capture, at most.
pub const PACKETS_MAX: u64 = 20_000;
/// Jobs of a step, at most.
pub const JOBS_MAX: usize = 100;

/// Frame sizes of IMIX, with the frame check sequence: seven to four to one, in an order in
/// which none of them comes in a bunch.
pub const IMIX: [u16; 12] = [64, 594, 64, 64, 594, 1518, 64, 594, 64, 64, 594, 64];
/// The smallest and the largest frame of a stream, with its frame check sequence.
pub const FRAME_SIZES: core::ops::RangeInclusive<u16> = 64..=1518;

/// One sender.
#[derive(Clone, Debug)]
pub enum Job {
    /// A TCP transfer.
    Tcp {
        /// From whom, to whom, to which port.
        probe: Probe,
        /// How much.
        bytes: u64,
    },
    /// A part of what a TCP connection moves that goes on after it.
    Connection {
        /// The connection's name: the first job of a name opens it, and the next go on with it.
        name: String,
        /// From whom, to whom, to which port.
        probe: Probe,
        /// How much.
        bytes: u64,
        /// For how long it is tried, in nanoseconds.
        for_ns: u64,
    },
    /// UDP datagrams, each of which is answered.
    Udp {
        /// From whom, to whom, to which port.
        probe: Probe,
        /// How many.
        packets: u64,
        /// Between two of them, in nanoseconds.
        every_ns: u64,
        /// Frame sizes, in turn.
        sizes: Vec<u16>,
        /// How many of them may be lost at most, whatever a fault excuses.
        may_lose: Option<u64>,
    },
    /// Objects change, or a program starts anew meanwhile.
    Change {
        /// How long after the beginning, in nanoseconds.
        at_ns: u64,
        /// How.
        change: Box<Change>,
    },
    /// Frames of a capture.
    Pcap {
        /// Who sends them.
        from: Party,
        /// Nanoseconds since the first, and the frame.
        frames: Vec<(u64, Vec<u8>)>,
        /// Whose address stands in for which of the capture's.
        map: BTreeMap<IpAddr, Party>,
    },
}

/// What changes meanwhile.
#[derive(Clone, Debug)]
pub enum Change {
    /// Objects come, or take the place of those of their kind and name.
    Apply(Manifests),
    /// One goes.
    Delete(Delete),
    /// A program starts anew.
    Restart(Program),
}

/// A [`Change`] as the world has it done: with all objects as they are after it.
#[derive(Clone, Debug)]
pub enum Meanwhile {
    /// Objects are these from then on.
    Objects(Cluster),
    /// A program starts anew.
    Restart(Program),
}

/// What came of a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct JobRecord {
    /// `tcp`, `connection`, `udp` or `pcap`.
    pub kind: &'static str,
    /// Who sent.
    pub from: String,
    /// To whom; none of a capture, which may have many.
    pub to: Option<String>,
    /// The destination's port, if there is one.
    pub port: Option<u16>,
    /// Bytes that the sender knows to have arrived; of datagrams and captures those sent.
    pub bytes: u64,
    /// Packets sent, and of a transfer segments that were sent once more.
    pub packets: u64,
    /// Datagrams that were answered; of a capture packets that came to the flows it sends.
    pub answered: Option<u64>,
    /// Frames of a capture that were not sent: of another sender, or not to be rewritten.
    pub skipped: Option<u64>,
    /// From its first frame to its end, in nanoseconds of virtual time.
    pub took_ns: u64,
    /// Bytes of a transfer that was whole, by the time it took, in bits a second.
    pub goodput_bps: Option<u64>,
    /// Whether it came to its end.
    pub complete: bool,
    /// Whether that is as it must be.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
    /// What is wrong was asked for, as by `expect`; else it must be so of every job.
    #[serde(skip)]
    pub asked: bool,
}

impl fmt::Display for JobRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind, from, bytes, ..
        } = self;
        write!(f, "{kind} {from}")?;
        if let Some(to) = &self.to {
            write!(f, " to {to}")?;
        }
        if let Some(port) = self.port {
            write!(f, " port {port}")?;
        }
        let took_us = self.took_ns / 1_000;
        let answered = self.answered.unwrap_or(0);
        match (self.kind, self.skipped, self.goodput_bps) {
            ("udp", ..) => write!(f, ": {} datagrams, {answered} answered", self.packets)?,
            (_, Some(skipped), _) => {
                let sent = self.packets;
                write!(f, ": {sent} frames, {skipped} not its own, {answered} came")?;
            }
            (_, _, Some(bps)) => {
                let (again, mbps) = (self.packets, bps / 1_000_000);
                write!(
                    f,
                    ": {bytes} bytes, {again} segments sent again, {mbps} Mbit/s"
                )?;
            }
            ("connection", ..) if self.complete => {
                let again = self.packets;
                write!(f, ": {bytes} bytes, {again} segments sent again")?;
            }
            _ => write!(f, ": {bytes} bytes came over, and no more")?,
        }
        write!(f, " in {took_us} us")?;
        match &self.wrong {
            Some(wrong) => write!(f, "; {wrong}"),
            None => Ok(()),
        }
    }
}
