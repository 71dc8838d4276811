//! What the node itself is made of: its dataplane's ports.

use sluice_offload_api::SharedMap;
use sluice_offload_api::model::{Interface, MacAddr, NodeName, Port, PortKind, PortName};

use crate::cluster::EncryptionSetup;
use crate::vf::VfSlot;

/// The node that is compiled for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeSetup {
    /// Its name.
    pub node: NodeName,
    /// The wire.
    pub uplink: UplinkSetup,
    /// The host's own network function.
    pub host: HostSetup,
    /// Its VFs, in the order in which they are given out.
    pub vfs: Vec<VfSlot>,
    /// What the operator says of encryption, the same on every node.
    pub encryption: EncryptionSetup,
}

/// The port to the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UplinkSetup {
    /// Its name.
    pub name: PortName,
    /// The dataplane's own address there.
    pub mac: MacAddr,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// The dataplane's IP addresses there, at most one a family.
    pub interfaces: Vec<Interface>,
}

/// The port to the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostSetup {
    /// Its name.
    pub name: PortName,
    /// The host's address.
    pub mac: MacAddr,
    /// The largest IP packet in bytes.
    pub mtu: u16,
}

impl NodeSetup {
    /// All its ports. A VF has one whether or not a pod has the VF: without an endpoint it
    /// drops everything.
    pub(super) fn ports(&self) -> SharedMap<PortName, Port> {
        let uplink = Port {
            name: self.uplink.name.clone(),
            kind: PortKind::Uplink {
                interfaces: self.uplink.interfaces.clone(),
            },
            mac: self.uplink.mac,
            mtu: self.uplink.mtu,
            vlan: None,
        };
        let host = Port {
            name: self.host.name.clone(),
            kind: PortKind::Host,
            mac: self.host.mac,
            mtu: self.host.mtu,
            vlan: None,
        };
        let vf = |slot: &VfSlot| Port {
            name: slot.name.clone(),
            kind: PortKind::Vf { index: slot.index },
            mac: slot.mac,
            mtu: slot.mtu,
            vlan: slot.vlan,
        };
        let vfs = self.vfs.iter().map(vf);
        vfs.chain([uplink, host])
            .map(|port| (port.name.clone(), port))
            .collect()
    }
}
