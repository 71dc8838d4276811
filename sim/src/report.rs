//! What a world tells of itself, for people and files.

use std::net::IpAddr;
use std::sync::Arc;

use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::tick::Tick;

/// A pod, its VF and its identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The node.
    pub node: String,
    /// `namespace/name`, of a secondary interface `namespace/name@net1`.
    pub pod: String,
    /// The VF's port, `pf0vf3`.
    pub vf: String,
    /// The pod's addresses, the primary first.
    pub ips: Vec<IpAddr>,
    /// The identity's number on its node.
    pub identity: u32,
    /// What the identity stands for.
    pub label: String,
    /// Policies that are for it: NetworkPolicies as `namespace/name`.
    pub policies: Vec<String>,
}

/// A frame on the wire between the nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// When it was sent.
    pub at: Tick,
    /// The frame, Ethernet header first.
    pub bytes: Arc<[u8]>,
}

/// An SA with its key: only the simulator's seed makes such keys, and only to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExposedSa {
    /// Outer source.
    pub src: IpAddr,
    /// Outer destination.
    pub dst: IpAddr,
    /// Index.
    pub spi: u32,
    /// Algorithm.
    pub algorithm: Algorithm,
    /// Key, then salt.
    pub keymat: Vec<u8>,
    /// 64-bit sequence numbers.
    pub esn: bool,
}

/// What was seen on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WireProof {
    /// Frames in all.
    pub frames: usize,
    /// Those that are ESP, in UDP too.
    pub esp_frames: usize,
    /// ARP and neighbour discovery.
    pub neighbor_frames: usize,
    /// The rest: traffic with the outside, and of the nodes themselves.
    pub other_frames: usize,
    /// Bytes of the marker that stands in every payload between pods of different nodes,
    /// found outside ESP.
    pub marker_bytes_in_clear: usize,
}

/// One drop counter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DropCount {
    /// The node.
    pub node: String,
    /// The port.
    pub port: String,
    /// The reason's name.
    pub reason: String,
    /// Frames.
    pub frames: u64,
}
