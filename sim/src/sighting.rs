//! What an observer beside the wires sees of a world: frames, where and when. Oracles are
//! made of nothing else, and of the API's objects.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::{NodeName, PodRef};

/// A frame that was seen.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// When.
    pub at: Tick,
    /// Going where.
    pub way: Way,
    /// At which place.
    pub spot: Spot,
    /// Who is there; nobody if no pod is plugged in.
    pub who: Option<Arc<Who>>,
    /// A fault of the wires has lost nothing of it and yet has done something to it: turned
    /// a bit, or sent it twice.
    pub touched: bool,
    /// The frame, Ethernet header first.
    pub frame: Arc<[u8]>,
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// A pod, a host or the outside sends it.
    Sent,
    /// It comes to a pod, a host or the outside.
    Delivered,
    /// A dataplane has it from a pod or a host.
    Taken,
    /// It enters the wire between the nodes.
    OnWire,
    /// It comes from that wire to a node's dataplane.
    OffWire,
}

/// A place where frames are seen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Spot {
    /// A VF of a node, by the number of its port.
    Vf(AtNode, u16),
    /// A node's own stack.
    Host(AtNode),
    /// A node's end of the wire.
    Uplink(AtNode),
    /// Everyone else.
    Outside,
}

/// The name of a node, one for all that is seen there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtNode(Arc<NodeName>);

impl From<NodeName> for AtNode {
    fn from(name: NodeName) -> Self {
        Self(Arc::new(name))
    }
}

impl From<&str> for AtNode {
    fn from(name: &str) -> Self {
        NodeName::from(name).into()
    }
}

impl Deref for AtNode {
    type Target = NodeName;

    fn deref(&self) -> &NodeName {
        &self.0
    }
}

impl fmt::Debug for AtNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who is at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Who {
    /// The pod, if it is one.
    pub pod: Option<PodRef>,
    /// Its MAC.
    pub mac: Mac,
    /// The addresses it was given.
    pub ips: Vec<IpAddr>,
}
