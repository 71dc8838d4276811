//! Connections that a station has by itself, beside the questions that it is asked to put: the
//! ends of transfers, and senders that count what comes back.

use std::net::IpAddr;

use sluice_dataplane_core::meta::{Meta, proto};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};

use super::station::{Station, tcp_numbers};
use crate::fold::FoldMap;
use crate::tcp::{Receiver, Seen, Segment, Sender, stream};

/// A flow as one of its ends sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Ends {
    pub(crate) protocol: u8,
    pub(crate) local: (IpAddr, u16),
    pub(crate) remote: (IpAddr, u16),
}

impl Ends {
    /// The same flow, as the other end sees it.
    pub(crate) const fn turned(self) -> Self {
        Self {
            protocol: self.protocol,
            local: self.remote,
            remote: self.local,
        }
    }
}

/// What is at an end.
#[derive(Debug)]
pub(crate) enum Socket {
    /// A transfer's beginning.
    Sends(Box<Sender>),
    /// Its end.
    Receives(Box<Receiver>),
    /// Datagrams that come back are counted.
    Counts(u64),
    /// It is over: what is late is for nobody, and nobody answers it.
    Over,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    /// Who is asked for on the way.
    hop: IpAddr,
    /// What its stream says.
    text: &'static [u8],
}

/// All of a station's.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Asked of every packet; walked only in the order of their ends.
    open: FoldMap<Ends, Open>,
    /// When what is received now has come.
    pub(crate) now: Tick,
}

impl Sockets {
    pub(crate) fn get(&self, ends: Ends) -> Option<&Socket> {
        self.open.get(&ends).map(|it| &it.socket)
    }

    /// Ends it.
    pub(crate) fn close(&mut self, ends: Ends) -> Option<Socket> {
        let open = self.open.get_mut(&ends)?;
        Some(core::mem::replace(&mut open.socket, Socket::Over))
    }
}

impl Station {
    /// Has a socket from now on. A sender sends its first segment.
    pub(crate) fn open(
        &mut self,
        ends: Ends,
        socket: Socket,
        hop: IpAddr,
        text: &'static [u8],
    ) -> Vec<Vec<u8>> {
        let mut open = Open { socket, hop, text };
        let now = self.sockets.now;
        let segments = match &mut open.socket {
            Socket::Sends(sender) => sender.open(now),
            _ => Vec::new(),
        };
        self.sockets.open.insert(ends, open);
        self.send_segments(ends, hop, text, segments)
    }

    /// A sender has more to send, and sends what it can of it.
    pub(crate) fn go_on(&mut self, ends: Ends, bytes: u64, hop: IpAddr) -> Vec<Vec<u8>> {
        let now = self.sockets.now;
        let Some(open) = self.sockets.open.get_mut(&ends) else {
            return Vec::new();
        };
        open.hop = hop;
        let text = open.text;
        let Socket::Sends(sender) = &mut open.socket else {
            return Vec::new();
        };
        let segments = sender.go_on(bytes, now);
        self.send_segments(ends, hop, text, segments)
    }

    /// What senders send because of the time.
    pub(crate) fn on_time(&mut self, now: Tick) -> Vec<Vec<u8>> {
        self.sockets.now = now;
        let mut due = Vec::new();
        for (ends, open) in &mut self.sockets.open {
            if let Socket::Sends(sender) = &mut open.socket {
                let segments = sender.on_deadline(now);
                due.push((*ends, open.hop, open.text, segments));
            }
        }
        due.sort_unstable_by_key(|it| it.0);
        due.into_iter()
            .flat_map(|(ends, hop, text, segments)| self.send_segments(ends, hop, text, segments))
            .collect()
    }

    fn send_segments(
        &mut self,
        ends: Ends,
        hop: IpAddr,
        text: &[u8],
        segments: Vec<Segment>,
    ) -> Vec<Vec<u8>> {
        let specs = segments.into_iter().map(|it| spec(ends, &it, text));
        let specs: Vec<_> = specs.collect();
        specs
            .into_iter()
            .flat_map(|spec| self.send(spec, hop))
            .collect()
    }

    /// What a socket says to a packet; none if it is for no socket.
    pub(super) fn receive_at_socket(
        &mut self,
        frame: &[u8],
        meta: &Meta,
        payload: &[u8],
    ) -> Option<Vec<Vec<u8>>> {
        let ends = Ends {
            protocol: meta.protocol,
            local: (meta.dst.into(), meta.dst_port),
            remote: (meta.src.into(), meta.src_port),
        };
        let now = self.sockets.now;
        let open = self.sockets.open.get_mut(&ends)?;
        let segments = match &mut open.socket {
            Socket::Sends(sender) => sender.on_segment(&seen(frame, meta, payload), now),
            Socket::Receives(receiver) => receiver.on_segment(&seen(frame, meta, payload)),
            Socket::Counts(packets) => {
                *packets += 1;
                Vec::new()
            }
            Socket::Over => Vec::new(),
        };
        let text = open.text;
        let frames = segments.iter().map(|it| {
            let mut spec = spec(ends, it, text);
            spec.eth_src = self.mac;
            // The way back is the way it came.
            spec.eth_dst = meta.eth_src;
            spec.build()
        });
        Some(frames.collect())
    }
}

fn spec(ends: Ends, segment: &Segment, text: &[u8]) -> FrameSpec {
    let body = Body::Tcp {
        src_port: ends.local.1,
        dst_port: ends.remote.1,
        flags: segment.flags,
        seq: segment.seq,
        ack: segment.ack,
        mss: segment.mss,
    };
    let mut spec = FrameSpec::new(ends.local.0, ends.remote.0, body);
    spec.payload = stream(text, segment.data.clone());
    spec
}

fn seen<'a>(frame: &[u8], meta: &Meta, data: &'a [u8]) -> Seen<'a> {
    let (seq, ack) = tcp_numbers(frame, meta);
    Seen {
        flags: meta.tcp_flags,
        seq,
        ack,
        mss: mss(frame, meta),
        data,
    }
}

/// The maximum segment size that a TCP header's options say (RFC 9293 section 3.2).
fn mss(frame: &[u8], meta: &Meta) -> Option<u16> {
    if meta.protocol != proto::TCP {
        return None;
    }
    let l4 = usize::from(meta.l4_off);
    let header = usize::from(frame.get(l4 + 12)? >> 4) * 4;
    let mut options = frame.get(l4 + 20..l4 + header)?;
    loop {
        match options {
            [] | [0, ..] => return None,
            [1, rest @ ..] => options = rest,
            [2, 4, hi, lo, ..] => return Some(u16::from_be_bytes([*hi, *lo])),
            [_, len, ..] => options = options.get(usize::from(*len).max(2)..)?,
            [_] => return None,
        }
    }
}
