//! Ports: what each is, and that no two are the same thing.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::{Check, Claim, Station, is_station};
use crate::limits::{MTU_MAX, MTU_MIN, VLAN_MAX};
use crate::model::{Interface, IpPrefix, Port, PortKind};
use crate::refusal::{Refusal, RefusalReason};
use crate::transaction::Key;

impl Check<'_> {
    pub(super) fn ports(&self) -> Result<(), Refusal> {
        let (mut macs, mut roles) = (BTreeMap::new(), BTreeMap::new());
        for port in self.state.ports.values() {
            let key = || Key::Port(port.name.clone());
            self.port(port)?;
            let mac = port.mac;
            let claim = Claim {
                key: key(),
                field: "mac".to_owned(),
                holder: &port.name,
            };
            self.claim(&mut macs, mac, claim, |&holder| {
                let port = holder.clone();
                RefusalReason::MacTaken { mac, port }
            })?;
            let (role, field) = match port.kind {
                PortKind::Vf { index } => (Role::Vf(index), "vf.index"),
                PortKind::Uplink { .. } => (Role::Uplink, "uplink"),
                PortKind::Host => (Role::Host, "host"),
            };
            let claim = Claim {
                key: key(),
                field: field.to_owned(),
                holder: &port.name,
            };
            self.claim(&mut roles, role, claim, |&holder| {
                let port = holder.clone();
                match role {
                    Role::Vf(index) => RefusalReason::VfTaken { index, port },
                    Role::Uplink => RefusalReason::SecondUplink { port },
                    Role::Host => RefusalReason::SecondHost { port },
                }
            })?;
        }
        Ok(())
    }

    fn port(&self, port: &Port) -> Result<(), Refusal> {
        let fault = |field: &str, why| self.fault(&Key::Port(port.name.clone()), field, why);
        let (mac, mtu) = (port.mac, port.mtu);
        if !mac.is_unicast() {
            return fault("mac", RefusalReason::MacNotUnicast { mac });
        }
        if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
            return fault("mtu", RefusalReason::Mtu { mtu });
        }
        if let Some(vlan) = port.vlan {
            if !matches!(port.kind, PortKind::Vf { .. }) {
                return fault("vlan", RefusalReason::VlanNotVf { vlan });
            }
            if !(1..=VLAN_MAX).contains(&vlan) {
                return fault("vlan", RefusalReason::Vlan { vlan });
            }
        }
        if let PortKind::Uplink { interfaces } = &port.kind {
            let mut families = [false; 2];
            for (index, interface) in interfaces.iter().enumerate() {
                let at = |field| format!("uplink.interfaces[{index}].{field}");
                let ip = interface.addr;
                if let Err((field, why)) = check_interface(interface) {
                    return fault(&at(field), why);
                }
                let seen = &mut families[usize::from(ip.is_ipv6())];
                if core::mem::replace(seen, true) {
                    return fault(&at("addr"), RefusalReason::SecondOfFamily { ip });
                }
            }
        }
        Ok(())
    }

    /// The dataplane's own addresses.
    pub(super) fn uplink_ips(&self) -> impl Iterator<Item = (IpAddr, Claim<Station<'_>>)> {
        self.state.ports.values().flat_map(|port| {
            let interfaces = match &port.kind {
                PortKind::Uplink { interfaces } => interfaces.as_slice(),
                PortKind::Vf { .. } | PortKind::Host => &[],
            };
            interfaces.iter().enumerate().map(|(index, interface)| {
                let claim = Claim {
                    key: Key::Port(port.name.clone()),
                    field: format!("uplink.interfaces[{index}].addr"),
                    holder: Station::Uplink(port),
                };
                (interface.addr, claim)
            })
        })
    }
}

/// What only one port can be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Vf(u16),
    Uplink,
    Host,
}

fn check_interface(interface: &Interface) -> Result<(), (&'static str, RefusalReason)> {
    let (ip, len) = (interface.addr, interface.prefix_len);
    if !is_station(ip) {
        return Err(("addr", RefusalReason::IpNotUnicast { ip }));
    }
    let Ok(link) = IpPrefix::masked(ip, len) else {
        let max = IpPrefix::host(ip).len();
        return Err(("prefix_len", RefusalReason::PrefixLen { ip, len, max }));
    };
    match interface.gateway {
        Some(gateway) if !is_next_hop(gateway, ip, link) => Err((
            "gateway",
            RefusalReason::GatewayOffLink { gateway, ip, len },
        )),
        _ => Ok(()),
    }
}

/// Whether `gateway` is another station of the link. A link-local IPv6 address always is.
fn is_next_hop(gateway: IpAddr, own: IpAddr, link: IpPrefix) -> bool {
    let link_local = match (gateway, own) {
        (IpAddr::V6(gateway), IpAddr::V6(_)) => gateway.is_unicast_link_local(),
        _ => false,
    };
    is_station(gateway) && gateway != own && (link_local || link.contains(gateway))
}
