//! Who has which address and MAC.

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::snapshot::{IdentityId, PortIndex};

pub(crate) const UPLINK: PortIndex = PortIndex(0);
pub(crate) const HOST: PortIndex = PortIndex(1);
pub(crate) const VF0: PortIndex = PortIndex(2);
pub(crate) const VF1: PortIndex = PortIndex(3);
/// The tagged one.
pub(crate) const VF2: PortIndex = PortIndex(4);
pub(crate) const PORT_NAMES: [&str; 5] = ["uplink", "host", "vf0", "vf1", "vf2"];
pub(crate) const VFS: usize = 3;
pub(crate) const VF2_VLAN: u16 = 7;

pub(crate) const GATEWAY_MAC: Mac = Mac([0x02, 0xee, 0, 0, 0, 0xfe]);
pub(crate) const C_MAC: Mac = Mac([0x02, 0xee, 0, 0, 0, 0x03]);

/// One of the two nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    A = 1,
    B = 2,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The dataplane's own address.
    pub(crate) fn tunnel(self, v4: bool) -> Addr {
        underlay(v4, self as u8)
    }

    /// The node's address, behind the host port.
    pub(crate) fn node(self, v4: bool) -> Addr {
        underlay(v4, 10 + self as u8)
    }

    pub(crate) fn pod(self, vf: usize, v4: bool) -> Addr {
        pod_of(self as u8, vf as u8, v4)
    }

    /// One of the node's pods without a VF, behind the host port.
    pub(crate) fn ordinary_pod(self, v4: bool) -> Addr {
        pod_of(self as u8, 90, v4)
    }

    pub(crate) fn uplink_mac(self) -> Mac {
        Mac([0x02, 0xaa, 0, 0, 0, self as u8])
    }

    pub(crate) fn host_mac(self) -> Mac {
        Mac([0x02, 0xbb, 0, 0, 0, self as u8])
    }

    pub(crate) fn vf_mac(self, vf: usize) -> Mac {
        Mac([0x02, 0xcc, 0, 0, self as u8, vf as u8])
    }

    pub(crate) fn vf_port(vf: usize) -> PortIndex {
        PortIndex(VF0.0 + vf as u16)
    }
}

fn underlay(v4: bool, last: u8) -> Addr {
    if v4 {
        Addr::v4([192, 0, 2, last])
    } else {
        Addr(0x2001_0db8 << 96 | u128::from(last))
    }
}

fn pod_of(node: u8, n: u8, v4: bool) -> Addr {
    if v4 {
        Addr::v4([10, node, 0, 10 + n])
    } else {
        Addr(0xfd00_u128 << 112 | u128::from(node) << 64 | u128::from(10 + n))
    }
}

pub(crate) fn gateway(v4: bool) -> Addr {
    underlay(v4, 254)
}

pub(crate) fn c_tunnel(v4: bool) -> Addr {
    underlay(v4, 3)
}

pub(crate) fn c_pod(v4: bool) -> Addr {
    pod_of(3, 0, v4)
}

/// A host outside the cluster, past the gateway.
pub(crate) fn stranger(v4: bool) -> Addr {
    if v4 {
        Addr::v4([198, 51, 100, 7])
    } else {
        Addr(0x2001_0db9 << 96 | 7)
    }
}

/// A host outside the cluster, on the link.
pub(crate) fn on_link(n: u8) -> Addr {
    underlay(true, 100 + n)
}

pub(crate) fn service(v4: bool) -> Addr {
    if v4 {
        Addr::v4([10, 96, 0, 1])
    } else {
        Addr(0xfd96_u128 << 112 | 1)
    }
}

/// Who answers on the wire beside the two nodes.
pub(crate) fn station_mac(addr: Addr) -> Option<Mac> {
    [true, false].into_iter().find_map(|v4| {
        if addr == gateway(v4) {
            Some(GATEWAY_MAC)
        } else if addr == c_tunnel(v4) {
            Some(C_MAC)
        } else {
            None
        }
    })
}

pub(crate) const OUTSIDE_ID: IdentityId = IdentityId(9);
pub(crate) const SERVICE_ID: IdentityId = IdentityId(8);

pub(crate) fn node_id(node: u8) -> IdentityId {
    IdentityId(u32::from(node))
}

pub(crate) fn pod_id(node: u8, n: usize) -> IdentityId {
    IdentityId(10 * u32::from(node) + n as u32)
}
