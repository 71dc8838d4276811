//! A host at the end of a link: a pod behind its VF, a node behind its host port, or the
//! world outside. It asks for neighbours, answers whatever comes, and notes whether the
//! answer to its own question arrived. It is the instrument, not what is measured; all it
//! shares with the dataplane is how frames are read and written.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::mem::MemPool;
use sluice_dataplane_core::meta::{FragKind, FrameKind, Meta, NdKind, proto, tcp_flag};
use sluice_dataplane_core::port::Frame;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::wire::{self, arp, checksum, nd};
use sluice_offload_api::model::PodRef;

use super::datagram;
use super::sockets::Sockets;
use crate::fold::{FoldMap, FoldSet};
use crate::sighting::Who;

/// SCTP chunk types (RFC 9260 section 3.2).
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// The common header (RFC 9260 section 3.1), and a chunk's header with the fixed fields of
/// INIT and INIT ACK.
const SCTP_LEN: usize = 12;
const CHUNK_LEN: usize = 4 + 16;
/// Ports below it are services', also of who pretends to be one (RFC 6335 section 6).
const CLIENT_PORT_MIN: u16 = 1_024;
/// ICMP and ICMPv6 echo request types.
const ECHO_REQUEST: [u8; 2] = [8, 128];

/// A question under way.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The first packet, as it was sent.
    pub(crate) spec: FrameSpec,
    /// The payload of its answer.
    expects: Vec<u8>,
    /// Whether its answer's payload came back whole.
    pub(crate) answered: bool,
}

/// Addresses, protocols and ports that stations have asked from, whoever has them now: of who
/// was there before a late answer may come too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spoken(Rc<RefCell<FoldSet<(IpAddr, u8, u16)>>>);

/// A host.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) mac: Mac,
    /// The addresses it answers to; others by [`Self::move_to`].
    pub(crate) ips: Vec<IpAddr>,
    /// It stands for every address there is: the outside.
    pub(crate) anyone: bool,
    /// The pod that it is, if it is one; for good.
    pub(crate) pod: Option<PodRef>,
    neighbors: FoldMap<IpAddr, Mac>,
    waiting: Vec<(IpAddr, FrameSpec)>,
    asked: Option<Asked>,
    /// Where anybody has asked from: what comes there is answered by nobody, or two stations
    /// would talk for ever about an answer that was late.
    spoken: Spoken,
    /// What it says in answer, in place of what it was told.
    pub(crate) script: Option<Vec<u8>>,
    /// Connections of its own.
    pub(crate) sockets: Sockets,
    pool: MemPool,
    /// Who it is, once somebody has asked.
    shown: Option<Arc<Who>>,
}

impl Station {
    pub(crate) fn new(mac: Mac, ips: Vec<IpAddr>, pool: &MemPool, spoken: &Spoken) -> Self {
        Self {
            mac,
            ips,
            anyone: false,
            pod: None,
            neighbors: FoldMap::default(),
            waiting: Vec::new(),
            asked: None,
            spoken: spoken.clone(),
            script: None,
            sockets: Sockets::default(),
            pool: pool.clone(),
            shown: None,
        }
    }

    /// Who this is, for observers.
    pub(crate) fn who(&mut self) -> Arc<Who> {
        let who = self.shown.get_or_insert_with(|| {
            Arc::new(Who {
                pod: self.pod.clone(),
                mac: self.mac,
                ips: self.ips.clone(),
            })
        });
        Arc::clone(who)
    }

    /// It has other addresses from now on.
    pub(crate) fn move_to(&mut self, ips: Vec<IpAddr>) {
        self.ips = ips;
        self.shown = None;
    }

    /// Its neighbours' addresses have grown old.
    pub(crate) fn forget_neighbors(&mut self) {
        self.neighbors.clear();
    }

    /// A packet that is no question, whoever it says it is from: what this sends now. It asks
    /// for its neighbours honestly.
    pub(crate) fn utter(&mut self, mut spec: FrameSpec, next_hop: IpAddr) -> Vec<Vec<u8>> {
        self.speak_from(&spec);
        if self.neighbors.contains_key(&next_hop) || self.anyone {
            return self.send(spec, next_hop);
        }
        spec.eth_src = self.mac;
        self.waiting.push((next_hop, spec));
        let own = self
            .ips
            .iter()
            .find(|ip| ip.is_ipv4() == next_hop.is_ipv4());
        let question = own.and_then(|own| self.question(*own, next_hop));
        question.into_iter().collect()
    }

    /// Begins a question: what it sends now. The packet goes by `next_hop`.
    pub(crate) fn ask(&mut self, spec: FrameSpec, next_hop: IpAddr) -> Vec<Vec<u8>> {
        let echo = spec.payload.clone();
        self.ask_for(spec, echo, next_hop)
    }

    /// As [`Self::ask`], for an answer that is no echo.
    pub(crate) fn ask_for(
        &mut self,
        spec: FrameSpec,
        expects: Vec<u8>,
        next_hop: IpAddr,
    ) -> Vec<Vec<u8>> {
        self.speak_from(&spec);
        self.asked = Some(Asked {
            spec: spec.clone(),
            expects,
            answered: false,
        });
        let mut first = spec;
        if matches!(first.body, Body::Tcp { .. }) {
            // The payload follows when the connection stands.
            first.payload.clear();
        }
        self.send(first, next_hop)
    }

    /// It has asked from this port.
    fn speak_from(&mut self, spec: &FrameSpec) {
        let port = source_port(spec);
        if port >= CLIENT_PORT_MIN {
            let from = (spec.src, spec.protocol(), port);
            self.spoken.0.borrow_mut().insert(from);
        }
    }

    /// Ends the question: whether it was answered.
    pub(crate) fn finish(&mut self) -> bool {
        self.waiting.clear();
        self.asked.take().is_some_and(|asked| asked.answered)
    }

    pub(super) fn send(&mut self, mut spec: FrameSpec, next_hop: IpAddr) -> Vec<Vec<u8>> {
        spec.eth_src = self.mac;
        if let Some(&mac) = self.neighbors.get(&next_hop) {
            spec.eth_dst = mac;
            let payload = core::mem::take(&mut spec.payload);
            return vec![datagram::build(spec, &payload)];
        }
        let from = spec.src;
        self.waiting.push((next_hop, spec));
        self.question(from, next_hop).into_iter().collect()
    }

    fn question(&self, from: IpAddr, target: IpAddr) -> Option<Vec<u8>> {
        let mut frame = vec![0; nd::SOLICIT_FRAME_LEN];
        let len = if target.is_ipv4() {
            arp::write_request(&mut frame, self.mac, from.into(), target.into())
        } else {
            nd::write_solicit(&mut frame, self.mac, from.into(), target.into())
        }?;
        frame.truncate(len);
        Some(frame)
    }

    /// Takes a frame in: what it sends in answer.
    pub(crate) fn receive(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let Ok(meta) = wire::parse(frame) else {
            return Vec::new();
        };
        match (meta.kind, meta.nd) {
            (FrameKind::Arp, _) => self.receive_arp(frame, &meta),
            (FrameKind::Ip, NdKind::NeighborSolicit | NdKind::NeighborAdvert) => {
                self.receive_nd(frame, &meta)
            }
            (FrameKind::Ip, NdKind::None) if meta.eth_dst == self.mac => {
                self.receive_ip(frame, &meta)
            }
            _ => Vec::new(),
        }
    }

    fn receive_arp(&mut self, frame: &[u8], meta: &Meta) -> Vec<Vec<u8>> {
        let Some(message) = arp::Arp::read(frame, meta) else {
            return Vec::new();
        };
        if message.op == arp::OP_REPLY {
            return self.learn(message.sender_ip, message.sender_mac);
        }
        let mut answer = frame.to_vec();
        let mine = self.ips.contains(&message.target_ip.into());
        if mine && arp::reply_in_place(&mut answer, meta, self.mac) {
            return vec![answer];
        }
        Vec::new()
    }

    fn receive_nd(&mut self, frame: &[u8], meta: &Meta) -> Vec<Vec<u8>> {
        let Ok(message) = nd::Nd::read(frame, meta) else {
            return Vec::new();
        };
        if message.kind == NdKind::NeighborAdvert {
            let mac = message.link_layer.unwrap_or(meta.eth_src);
            return self.learn(message.target, mac);
        }
        if !self.ips.contains(&message.target.into()) {
            return Vec::new();
        }
        let Some(mut answer) = self.pool.frame(frame) else {
            return Vec::new();
        };
        if nd::advertise_in_place(&mut answer, meta, &message, self.mac, false) {
            return vec![answer.bytes().to_vec()];
        }
        Vec::new()
    }

    fn learn(&mut self, addr: Addr, mac: Mac) -> Vec<Vec<u8>> {
        let ip = IpAddr::from(addr);
        self.neighbors.insert(ip, mac);
        let (ready, waiting) = core::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(hop, _)| *hop == ip);
        self.waiting = waiting;
        let ready: Vec<(IpAddr, FrameSpec)> = ready;
        ready
            .into_iter()
            .flat_map(|(hop, spec)| self.send(spec, hop))
            .collect()
    }

    fn receive_ip(&mut self, frame: &[u8], meta: &Meta) -> Vec<Vec<u8>> {
        if !(self.anyone || self.ips.contains(&meta.dst.into())) {
            return Vec::new();
        }
        // A piece of a datagram is no question yet, and nobody here puts them together.
        if meta.frag != FragKind::Whole || !is_intact(frame, meta) {
            return Vec::new();
        }
        let payload = payload(frame, meta);
        if let Some(frames) = self.receive_at_socket(frame, meta, payload) {
            return frames;
        }
        if self.note_answer(meta, payload) || self.is_answer(meta) {
            return Vec::new();
        }
        // What comes to where it asks from goes no further, or two stations would talk for
        // ever about an answer that was late or isn't whole; a connection that stands goes on.
        let at = (meta.dst.into(), meta.protocol, meta.dst_port);
        let asks = self.spoken.0.borrow().contains(&at);
        let stands = meta.tcp_flags & tcp_flag::SYN != 0
            && self
                .asked
                .as_ref()
                .is_some_and(|it| answers(&it.spec, meta));
        if asks && !stands && !ECHO_REQUEST.contains(&meta.icmp_type) {
            return Vec::new();
        }
        let reply = |body: Body, payload: &[u8]| {
            let mut spec = FrameSpec::new(meta.dst.into(), meta.src.into(), body);
            spec.eth_src = self.mac;
            // The way back is the way it came.
            spec.eth_dst = meta.eth_src;
            datagram::build(spec, payload)
        };
        let (src_port, dst_port) = (meta.dst_port, meta.src_port);
        match meta.protocol {
            proto::TCP => self.receive_tcp(frame, meta, payload, &reply),
            proto::UDP => {
                let says = self.script.as_deref().unwrap_or(payload);
                vec![reply(Body::Udp { src_port, dst_port }, says)]
            }
            proto::SCTP => {
                let chunk = frame.get(usize::from(meta.l4_off) + SCTP_LEN);
                if chunk != Some(&INIT) {
                    return Vec::new();
                }
                vec![reply(
                    Body::Sctp {
                        src_port,
                        dst_port,
                        chunk: INIT_ACK,
                    },
                    payload,
                )]
            }
            proto::ICMP | proto::ICMPV6 if ECHO_REQUEST.contains(&meta.icmp_type) => {
                let seq = echo_seq(frame, meta);
                vec![reply(
                    Body::IcmpEcho {
                        id: meta.src_port,
                        seq,
                        reply: true,
                    },
                    payload,
                )]
            }
            _ => Vec::new(),
        }
    }

    /// SYN gets SYN-ACK, SYN-ACK gets the question's payload, a payload comes back.
    fn receive_tcp(
        &self,
        frame: &[u8],
        meta: &Meta,
        payload: &[u8],
        reply: &dyn Fn(Body, &[u8]) -> Vec<u8>,
    ) -> Vec<Vec<u8>> {
        let (src_port, dst_port) = (meta.dst_port, meta.src_port);
        let (seq, ack) = tcp_numbers(frame, meta);
        let body = |flags, seq, ack| Body::Tcp {
            src_port,
            dst_port,
            flags,
            seq,
            ack,
            mss: None,
        };
        const SYN_ACK: u8 = tcp_flag::SYN | tcp_flag::ACK;
        match meta.tcp_flags & (SYN_ACK | tcp_flag::RST | tcp_flag::FIN) {
            tcp_flag::SYN => vec![reply(body(SYN_ACK, 1000, seq.wrapping_add(1)), &[])],
            SYN_ACK => {
                let Some(asked) = self.asked.as_ref().filter(|a| answers(&a.spec, meta)) else {
                    return Vec::new();
                };
                vec![reply(
                    body(tcp_flag::ACK, ack, seq.wrapping_add(1)),
                    &asked.spec.payload,
                )]
            }
            tcp_flag::ACK if !payload.is_empty() => {
                let len = u32::try_from(payload.len()).unwrap_or(0);
                vec![reply(
                    body(tcp_flag::ACK, ack, seq.wrapping_add(len)),
                    self.script.as_deref().unwrap_or(payload),
                )]
            }
            _ => Vec::new(),
        }
    }

    /// Whether the packet belongs to this station's own question, and so gets no echo, or
    /// two stations would talk for ever. TCP goes on by its flags.
    fn is_answer(&self, meta: &Meta) -> bool {
        meta.protocol != proto::TCP
            && self
                .asked
                .as_ref()
                .is_some_and(|asked| answers(&asked.spec, meta))
    }

    /// Whether the packet is the answer to this station's question; TCP's SYN-ACK is not
    /// yet, the payload that comes back is.
    fn note_answer(&mut self, meta: &Meta, payload: &[u8]) -> bool {
        let Some(asked) = self.asked.as_mut() else {
            return false;
        };
        if !answers(&asked.spec, meta) || payload != asked.expects {
            return false;
        }
        if meta.protocol == proto::TCP && meta.tcp_flags & tcp_flag::SYN != 0 {
            return false;
        }
        asked.answered = true;
        true
    }
}

/// The port that a packet is from; of an echo its identifier.
const fn source_port(spec: &FrameSpec) -> u16 {
    match spec.body {
        Body::Tcp { src_port, .. } | Body::Udp { src_port, .. } | Body::Sctp { src_port, .. } => {
            src_port
        }
        Body::IcmpEcho { id, .. } => id,
        Body::Other { .. } => 0,
    }
}

/// Whether a packet's tuple is that of the answer to `spec`.
fn answers(spec: &FrameSpec, meta: &Meta) -> bool {
    let ports = match spec.body {
        Body::Tcp {
            src_port, dst_port, ..
        }
        | Body::Udp { src_port, dst_port }
        | Body::Sctp {
            src_port, dst_port, ..
        } => (dst_port, src_port),
        Body::IcmpEcho { id, .. } => (id, id),
        Body::Other { .. } => (0, 0),
    };
    spec.protocol() == meta.protocol
        && Addr::from(spec.src) == meta.dst
        && Addr::from(spec.dst) == meta.src
        && (meta.src_port, meta.dst_port) == ports
        && (!matches!(spec.body, Body::IcmpEcho { .. }) || !ECHO_REQUEST.contains(&meta.icmp_type))
}

/// What follows the transport header.
fn payload<'a>(frame: &'a [u8], meta: &Meta) -> &'a [u8] {
    let l4 = usize::from(meta.l4_off);
    let header = match meta.protocol {
        proto::TCP => frame.get(l4 + 12).map_or(20, |b| usize::from(b >> 4) * 4),
        proto::SCTP => SCTP_LEN + CHUNK_LEN,
        _ => 8,
    };
    let end = match meta.protocol {
        // A chunk's length leaves out its padding (RFC 9260 section 3.2).
        proto::SCTP => l4 + SCTP_LEN + usize::from(be16(frame, l4 + SCTP_LEN + 2)),
        _ => usize::from(meta.l3_end),
    };
    frame.get(l4 + header..end).unwrap_or_default()
}

fn be16(frame: &[u8], at: usize) -> u16 {
    let bytes = frame.get(at..).and_then(|b| b.first_chunk::<2>());
    bytes.map_or(0, |b| u16::from_be_bytes(*b))
}

pub(super) fn tcp_numbers(frame: &[u8], meta: &Meta) -> (u32, u32) {
    let word = |at: usize| {
        let bytes = frame.get(at..at + 4).and_then(|b| b.first_chunk::<4>());
        bytes.map_or(0, |b| u32::from_be_bytes(*b))
    };
    let l4 = usize::from(meta.l4_off);
    (word(l4 + 4), word(l4 + 8))
}

/// Whether TCP's or UDP's checksum is right, as a kernel asks before it takes a segment: one
/// with a turned bit is for a port that nobody asked from, and would be answered for ever.
fn is_intact(frame: &[u8], meta: &Meta) -> bool {
    if !matches!(meta.protocol, proto::TCP | proto::UDP) {
        return true;
    }
    let segment = frame.get(usize::from(meta.l4_off)..usize::from(meta.l3_end));
    let len = |it: &[u8]| u32::try_from(it.len()).ok();
    segment
        .and_then(|it| Some((it, len(it)?)))
        .is_some_and(|(it, len)| {
            let sum = checksum::pseudo(meta.src, meta.dst, meta.protocol, len);
            sum.bytes(it).verifies()
        })
}

fn echo_seq(frame: &[u8], meta: &Meta) -> u16 {
    be16(frame, usize::from(meta.l4_off) + 6)
}
