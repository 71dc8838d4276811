//! What an observer beside the wires sees of a world: frames, where and when. Oracles are
//! made of nothing else, and of the API's objects.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::{NodeName, PodRef};

use crate::fold::Fold;

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

/// The name of a node, one for all that is seen there: oracles ask by it of every frame, so that
/// its hash is made once, and it is seldom compared byte by byte.
#[derive(Clone)]
pub struct AtNode(Arc<Named>);

struct Named {
    name: NodeName,
    hash: u64,
}

impl PartialEq for AtNode {
    fn eq(&self, other: &Self) -> bool {
        let (Self(one), Self(other)) = (self, other);
        Arc::ptr_eq(one, other) || one.hash == other.hash && one.name == other.name
    }
}

impl Eq for AtNode {}

impl PartialOrd for AtNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AtNode {
    fn cmp(&self, other: &Self) -> Ordering {
        NodeName::cmp(self, other)
    }
}

impl Hash for AtNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl From<NodeName> for AtNode {
    fn from(name: NodeName) -> Self {
        let mut hash = Fold::default();
        name.0.hash(&mut hash);
        let hash = hash.finish();
        Self(Arc::new(Named { name, hash }))
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
        &self.0.name
    }
}

impl fmt::Debug for AtNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.name.fmt(f)
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
