//! One node on a bench.

use std::sync::Arc;

use sluice_crypto::esp::{InboundSa, OutboundSa, Outer, Spi, Tunnel};
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::command::Command;
use sluice_dataplane_core::flow::quota::Quotas;
use sluice_dataplane_core::hash::HashKey;
use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::moves::Moves;
use sluice_dataplane_core::port::{BURST_MAX, Frame};
use sluice_dataplane_core::sad::{Inbound, Mode, Outbound};
use sluice_dataplane_core::snapshot::{
    Endpoint, EndpointIndex, IdentityId, Interface, Peer, PeerIndex, Place, Policy, PolicyIndex,
    PortIndex, PortKind, PortState, Snapshot,
};
use sluice_dataplane_core::table::policy::{PolicyTable, Row, Ruling};
use sluice_dataplane_core::table::prefix::{Owner, PrefixTable};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::arp;
use sluice_dataplane_core::worker::{Worker, WorkerConfig, WorkerHandle};

/// The wire.
pub const UPLINK: PortIndex = PortIndex(0);
/// The first pod's port.
pub const VF0: PortIndex = PortIndex(1);
/// The second pod's port.
pub const VF1: PortIndex = PortIndex(2);

const HASH_KEY: HashKey = HashKey([3, 5]);
const OTHER: PeerIndex = PeerIndex(0);
/// Packets of the replay window.
pub(crate) const WINDOW: usize = 1024;
/// Bytes of the longest IP packet a port takes.
const MTU: u16 = 9000;

/// One of the two nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The one that is measured.
    A = 1,
    /// The one that it talks to.
    B = 2,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The address of the `n`th pod.
    #[must_use]
    pub const fn pod(self, n: u8) -> Addr {
        Addr::v4([10, self as u8, 0, 10 + n])
    }

    /// The MAC of the `n`th pod.
    #[must_use]
    pub const fn pod_mac(self, n: u8) -> Mac {
        Mac([2, 0xcc, 0, 0, self as u8, n])
    }

    /// The first pod, as the source of a frame.
    #[must_use]
    pub const fn source(self) -> (Mac, Addr) {
        (self.pod_mac(0), self.pod(0))
    }

    /// Its own address, outside.
    pub(crate) const fn tunnel(self) -> Addr {
        Addr::v4([192, 0, 2, self as u8])
    }

    const fn uplink_mac(self) -> Mac {
        Mac([2, 0xaa, 0, 0, 0, self as u8])
    }

    /// Of what it receives.
    pub(crate) const fn spi(self) -> Spi {
        Spi(0x2000 + self as u32)
    }

    /// The key and the salt of what it receives.
    pub(crate) fn keymat(self, algorithm: Algorithm) -> Vec<u8> {
        vec![self as u8; algorithm.keymat_len()]
    }

    fn key(self, algorithm: Algorithm) -> EspKey {
        let keymat = self.keymat(algorithm);
        EspKey::from_keymat(algorithm, &keymat).expect("of the right length")
    }
}

/// What the two nodes have agreed on for their SAs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The cipher.
    pub algorithm: Algorithm,
    /// Whether sequence numbers have 64 bits (RFC 4303 section 2.2.1), of which 32 are sent.
    pub esn: bool,
}

impl From<Algorithm> for Agreed {
    /// With 64 bits, as nodes have them.
    fn from(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            esn: true,
        }
    }
}

/// A worker over ports in memory.
#[derive(Debug)]
pub struct Bed {
    /// The worker.
    pub worker: Worker<MemPort>,
    /// Its control side.
    pub handle: WorkerHandle,
    pool: MemPool,
    now: Tick,
}

impl Bed {
    /// A node that knows its next hop and has an SA each way with the other.
    #[must_use]
    pub fn new(side: Side, agreed: impl Into<Agreed>, flows: usize) -> Self {
        let pool = MemPool::new(BURST_MAX * 8);
        let ports = (0..3).map(|_| MemPort::new(&pool, BURST_MAX * 4)).collect();
        // One pod has all the flows there are.
        let config = WorkerConfig {
            quotas: Quotas::NONE,
            ..WorkerConfig::new(flows, HASH_KEY.0)
        };
        let (worker, handle) = Worker::new(ports, &config).expect("three ports are few");
        let mut bed = Self {
            worker,
            handle,
            pool,
            now: Tick(Tick::SECOND),
        };
        instruct(&mut bed.handle, side, agreed.into());
        bed.poll();
        bed.deliver(UPLINK, &introduction(side));
        bed.poll();
        bed.discard();
        bed
    }

    /// Puts a frame where the worker will receive it.
    pub fn deliver(&mut self, port: PortIndex, bytes: &[u8]) {
        let frame = self.pool.frame(bytes).expect("no longer than a port's MTU");
        self.worker.ports_mut()[usize::from(port.0)].deliver(frame);
    }

    /// One poll, a microsecond after the last.
    pub fn poll(&mut self) {
        self.now = self.now + 1_000;
        self.worker.poll(self.now);
    }

    /// The frames that were sent by a port.
    pub fn collect(&mut self, port: PortIndex) -> Vec<Vec<u8>> {
        let port = &mut self.worker.ports_mut()[usize::from(port.0)];
        core::iter::from_fn(|| port.collect().map(|f| f.bytes().to_vec())).collect()
    }

    /// Throws away whatever was sent, and how many frames it was.
    pub fn discard(&mut self) -> usize {
        let ports = self.worker.ports_mut().iter_mut();
        let sent = ports
            .map(|port| core::iter::from_fn(|| port.collect()).count())
            .sum();
        while self.handle.verdicts.next().is_some() {}
        sent
    }
}

/// A receiving SA that has seen no packet yet.
#[must_use]
pub fn inbound(side: Side, agreed: Agreed) -> Inbound {
    let key = side.key(agreed.algorithm);
    let receive = InboundSa::new(side.spi(), key, agreed.esn, WINDOW);
    Inbound {
        sa: Box::new(receive.expect("a sound window")),
        peer: OTHER,
        mode: Mode::Tunnel,
    }
}

/// Tells a worker its snapshot and its SAs with the other node.
pub fn instruct(handle: &mut WorkerHandle, side: Side, agreed: Agreed) {
    let published = handle.snapshots.publish(Arc::new(snapshot(side)));
    published.expect("the first one");
    let to = side.other();
    let tunnel = Tunnel {
        outer: Outer::V4 {
            src: side.tunnel().to_v4(),
            dst: to.tunnel().to_v4(),
        },
        udp_encap: false,
    };
    let send = OutboundSa::new(to.spi(), to.key(agreed.algorithm), agreed.esn);
    let outbound = Outbound::new(Box::new(send), tunnel, Mode::Tunnel);
    for command in [
        Command::InstallInbound(inbound(side, agreed)),
        Command::InstallOutbound(OTHER, outbound.into()),
    ] {
        handle.commands.send(command).expect("room for two");
    }
}

/// The other node's answer to the ARP question that a worker asks on its uplink.
#[must_use]
pub fn introduction(side: Side) -> Vec<u8> {
    let (other, mac) = (side.other(), side.other().uplink_mac());
    let mut answer = vec![0; arp::FRAME_LEN];
    arp::write_request(&mut answer, mac, other.tunnel(), side.tunnel()).expect("long enough");
    answer[..6].copy_from_slice(&side.uplink_mac().0);
    answer[21] = 2; // the low byte of the operation: a reply
    answer
}

/// A table that allows all, after `rows` rows that say nothing about anyone.
#[must_use]
pub fn allow_all(rows: &[Row]) -> PolicyTable {
    let allow = Ruling {
        allow: true,
        rule: u32::MAX,
    };
    PolicyTable::build(HASH_KEY, rows, allow, allow)
}

/// What a node of two open pods is told.
#[must_use]
pub fn snapshot(side: Side) -> Snapshot {
    snapshot_with(side, &[], &[])
}

/// As [`snapshot`], with rows in both pods' policy and more prefixes.
#[must_use]
pub fn snapshot_with(side: Side, rows: &[Row], more: &[(Addr, u8, Owner)]) -> Snapshot {
    let port = |kind, mac, endpoint| PortState {
        kind,
        mac,
        mtu: MTU,
        vlan: 0,
        endpoint,
    };
    let endpoint = |n: u8, port| Endpoint {
        port,
        addrs: vec![side.pod(n)],
        policy: PolicyIndex(0),
        generation: 1,
        born: 1,
    };
    let own = |n| Some(EndpointIndex(n));
    Snapshot {
        generation: 1,
        ports: vec![
            port(PortKind::Uplink, side.uplink_mac(), None),
            port(PortKind::Vf, side.pod_mac(0), own(0)),
            port(PortKind::Vf, side.pod_mac(1), own(1)),
        ],
        uplink: Some(UPLINK),
        host: None,
        interfaces: vec![Interface {
            addr: side.tunnel(),
            prefix_len: 24,
            gateway: None,
        }],
        endpoints: vec![endpoint(0, VF0), endpoint(1, VF1)],
        policies: vec![Policy {
            id: 1,
            table: allow_all(rows),
            shadow: None,
        }],
        peers: vec![Some(Peer::Protected {
            tunnel: side.other().tunnel(),
        })]
        .into(),
        prefixes: PrefixTable::build(HASH_KEY, &prefixes(side, more)),
        moves: Moves::default(),
    }
}

fn prefixes(side: Side, more: &[(Addr, u8, Owner)]) -> Vec<(Addr, u8, Owner)> {
    let host = |addr, identity, place| {
        let identity = IdentityId(identity);
        (addr, 32, Owner::new(identity, place))
    };
    let other = side.other();
    let mut all = more.to_vec();
    all.extend([
        host(side.pod(0), 10, Place::LocalPod(EndpointIndex(0))),
        host(side.pod(1), 11, Place::LocalPod(EndpointIndex(1))),
        host(other.pod(0), 20, Place::RemotePod(OTHER)),
        host(other.pod(1), 21, Place::RemotePod(OTHER)),
    ]);
    all
}
