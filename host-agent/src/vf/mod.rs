//! Which pod has which VF.
//!
//! CNI ADD and DEL come more than once and late; both are idempotent here. A binding is by
//! pod UID and interface, so a pod that was deleted and made again under its name is another one.

use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

use sluice_mutants::{Mutant, is};
use sluice_offload_api::SharedMap;
use sluice_offload_api::model::{EndpointKey, MacAddr, PodRef, PodUid, PortName};

/// A VF of the node and its representor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VfSlot {
    /// The VF's number on its physical function.
    pub index: u16,
    /// The dataplane's port for it.
    pub name: PortName,
    /// The VF's address.
    pub mac: MacAddr,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// The VLAN its frames must carry; `None` is untagged.
    pub vlan: Option<u16>,
}

/// A pod's interface on its VF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VfBinding {
    /// The pod's UID.
    pub uid: PodUid,
    /// Which of its interfaces, by the name inside; empty is the primary one.
    pub interface: String,
    /// Its name.
    pub pod: PodRef,
    /// The VF's port.
    pub port: PortName,
    /// The addresses it was given with it; none if they aren't known yet.
    pub ips: Vec<IpAddr>,
}

/// A pod that has what another one asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VfHolder {
    /// Its name.
    pub pod: PodRef,
    /// Its UID.
    pub uid: PodUid,
}

impl fmt::Display for VfHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} (uid {})", self.pod, self.uid)
    }
}

/// Why a pod gets no VF.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VfError {
    /// All are taken, or there are none.
    #[error("no VF is free for pod {pod}: all {slots} are taken; delete a pod or add VFs")]
    NoneFree {
        /// The pod.
        pod: PodRef,
        /// How many the node has.
        slots: usize,
    },
    /// Another pod has it.
    #[error("VF {port} for pod {pod} belongs to {holder}; give each its own")]
    Taken {
        /// The VF's port.
        port: PortName,
        /// The pod that asked.
        pod: PodRef,
        /// The pod that has it.
        holder: Box<VfHolder>,
    },
    /// The pod's interface has another VF already.
    #[error("pod {pod} has VF {has} already and can't have {port} too; send DEL first")]
    HasAnother {
        /// The pod.
        pod: PodRef,
        /// The one it has.
        has: PortName,
        /// The one that was asked for.
        port: PortName,
    },
    /// The node has no such VF.
    #[error("there is no VF {port} for pod {pod} on this node")]
    Unknown {
        /// The port.
        port: PortName,
        /// The pod.
        pod: PodRef,
    },
    /// Another pod has one of the addresses.
    #[error("{ip} of pod {pod} belongs to {holder}; give each its own")]
    IpTaken {
        /// The address.
        ip: IpAddr,
        /// The pod that asked.
        pod: PodRef,
        /// The pod that has it.
        holder: Box<VfHolder>,
    },
}

/// The bindings of a node. Copies share them, and are compared in no time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VfTable {
    by_interface: SharedMap<EndpointKey, VfBinding>,
}

impl VfBinding {
    /// What names it.
    #[must_use]
    pub fn key(&self) -> EndpointKey {
        EndpointKey {
            pod_uid: self.uid.clone(),
            interface: self.interface.clone(),
        }
    }
}

impl VfTable {
    /// A pod's primary interface's binding.
    #[must_use]
    pub fn binding(&self, uid: &PodUid) -> Option<&VfBinding> {
        self.binding_of(&uid.clone().into())
    }

    /// An interface's binding.
    #[must_use]
    pub fn binding_of(&self, key: &EndpointKey) -> Option<&VfBinding> {
        self.by_interface.get(key)
    }

    /// All bindings by pod UID and interface.
    pub fn iter(&self) -> impl Iterator<Item = &VfBinding> {
        self.by_interface.values()
    }

    /// Who has a VF.
    #[must_use]
    pub fn holder(&self, port: &PortName) -> Option<&VfBinding> {
        self.by_interface.values().find(|it| it.port == *port)
    }

    /// Gives a pod's primary interface the first free of `slots`, or the one it has.
    ///
    /// # Errors
    /// [`VfError::NoneFree`] and [`VfError::IpTaken`]; nothing has changed then.
    pub fn assign(
        &mut self,
        uid: &PodUid,
        pod: &PodRef,
        ips: &[IpAddr],
        slots: &[VfSlot],
    ) -> Result<&VfBinding, VfError> {
        self.assign_interface(&uid.clone().into(), pod, ips, slots)
    }

    /// Gives any interface of a pod the first free of `slots`, or the one it has.
    ///
    /// # Errors
    /// Those of [`Self::assign`].
    pub fn assign_interface(
        &mut self,
        key: &EndpointKey,
        pod: &PodRef,
        ips: &[IpAddr],
        slots: &[VfSlot],
    ) -> Result<&VfBinding, VfError> {
        let has = self.by_interface.get(key).map(|it| it.port.clone());
        let port = match has {
            Some(port) => port,
            None => {
                let free = slots.iter().find(|slot| self.holder(&slot.name).is_none());
                let none = || VfError::NoneFree {
                    pod: pod.clone(),
                    slots: slots.len(),
                };
                free.ok_or_else(none)?.name.clone()
            }
        };
        self.bind_interface(key, pod, ips, &port, slots)
    }

    /// Gives a pod's primary interface the VF that was chosen for it, by a device plugin for
    /// example.
    ///
    /// # Errors
    /// Any but [`VfError::NoneFree`]; nothing has changed then.
    pub fn bind(
        &mut self,
        uid: &PodUid,
        pod: &PodRef,
        ips: &[IpAddr],
        port: &PortName,
        slots: &[VfSlot],
    ) -> Result<&VfBinding, VfError> {
        self.bind_interface(&uid.clone().into(), pod, ips, port, slots)
    }

    /// Gives any interface of a pod the VF that was chosen for it.
    ///
    /// # Errors
    /// Those of [`Self::bind`].
    pub fn bind_interface(
        &mut self,
        key: &EndpointKey,
        pod: &PodRef,
        ips: &[IpAddr],
        port: &PortName,
        slots: &[VfSlot],
    ) -> Result<&VfBinding, VfError> {
        let (pod, port) = (pod.clone(), port.clone());
        if !slots.iter().any(|slot| slot.name == port) {
            return Err(VfError::Unknown { port, pod });
        }
        for other in self.by_interface.values() {
            let holder = || {
                Box::new(VfHolder {
                    pod: other.pod.clone(),
                    uid: other.uid.clone(),
                })
            };
            if other.uid == key.pod_uid && other.interface == key.interface {
                if other.port != port {
                    return Err(VfError::HasAnother {
                        pod,
                        has: other.port.clone(),
                        port,
                    });
                }
            } else if other.port == port {
                return Err(VfError::Taken {
                    port,
                    pod,
                    holder: holder(),
                });
            } else if let Some(&ip) = other.ips.iter().find(|ip| ips.contains(ip)) {
                return Err(VfError::IpTaken {
                    ip,
                    pod,
                    holder: holder(),
                });
            }
        }
        let binding = VfBinding {
            uid: key.pod_uid.clone(),
            interface: key.interface.clone(),
            pod,
            port,
            ips: ips.to_vec(),
        };
        self.by_interface.insert(key.clone(), binding);
        Ok(&self.by_interface[key])
    }

    /// Takes a pod's primary interface's VF back; `None` if it had none, which is no fault.
    pub fn release(&mut self, uid: &PodUid) -> Option<VfBinding> {
        self.release_interface(&uid.clone().into())
    }

    /// Takes any interface's VF back; `None` if it had none, which is no fault.
    pub fn release_interface(&mut self, key: &EndpointKey) -> Option<VfBinding> {
        if is(Mutant::VfKept) {
            return self.by_interface.get(key).cloned();
        }
        self.by_interface.remove(key).map(Arc::unwrap_or_clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(count: u8) -> Vec<VfSlot> {
        let slot = |n: u8| VfSlot {
            index: n.into(),
            name: PortName(format!("pf0vf{n}")),
            mac: MacAddr([2, 0, 0, 0, 0, n]),
            mtu: 1500,
            vlan: None,
        };
        (0..count).map(slot).collect()
    }

    fn pod(name: &str) -> (PodUid, PodRef) {
        let pod = PodRef {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        };
        (PodUid(format!("u-{name}")), pod)
    }

    fn ip(text: &str) -> Vec<IpAddr> {
        vec![text.parse().unwrap()]
    }

    #[test]
    fn adds_take_the_first_free_vf_and_a_second_add_takes_the_same() {
        let (mut table, slots) = (VfTable::default(), slots(3));
        let (a, b, c) = (pod("a"), pod("b"), pod("c"));
        let add = |table: &mut VfTable, (uid, name): &(PodUid, PodRef)| {
            table.assign(uid, name, &[], &slots).unwrap().port.0.clone()
        };
        assert_eq!(add(&mut table, &a), "pf0vf0");
        assert_eq!(add(&mut table, &b), "pf0vf1");
        assert_eq!(add(&mut table, &a), "pf0vf0");
        assert!(table.release(&a.0).is_some());
        assert!(table.release(&a.0).is_none());
        assert_eq!(add(&mut table, &c), "pf0vf0");
        assert_eq!(add(&mut table, &a), "pf0vf2");
    }

    #[test]
    fn no_free_vf_is_said_and_changes_nothing() {
        let (mut table, slots) = (VfTable::default(), slots(1));
        let (a, b) = (pod("a"), pod("b"));
        table.assign(&a.0, &a.1, &[], &slots).unwrap();
        let before = table.clone();
        let message = table
            .assign(&b.0, &b.1, &[], &slots)
            .unwrap_err()
            .to_string();
        let expected = "no VF is free for pod shop/b: all 1 are taken; delete a pod or add VFs";
        assert_eq!(message, expected);
        assert_eq!(table, before);
    }

    #[test]
    fn a_taken_vf_names_both_pods() {
        let (mut table, slots) = (VfTable::default(), slots(2));
        let (a, b) = (pod("a"), pod("b"));
        table
            .bind(&a.0, &a.1, &[], &"pf0vf1".into(), &slots)
            .unwrap();
        let message = table
            .bind(&b.0, &b.1, &[], &"pf0vf1".into(), &slots)
            .unwrap_err();
        let expected =
            "VF pf0vf1 for pod shop/b belongs to pod shop/a (uid u-a); give each its own";
        assert_eq!(message.to_string(), expected);
    }

    #[test]
    fn a_pod_has_one_vf_and_it_is_one_of_the_nodes() {
        let (mut table, slots) = (VfTable::default(), slots(2));
        let a = pod("a");
        let none = table
            .bind(&a.0, &a.1, &[], &"pf0vf9".into(), &slots)
            .unwrap_err();
        assert_eq!(
            none.to_string(),
            "there is no VF pf0vf9 for pod shop/a on this node"
        );
        table.assign(&a.0, &a.1, &[], &slots).unwrap();
        let second = table
            .bind(&a.0, &a.1, &[], &"pf0vf1".into(), &slots)
            .unwrap_err();
        assert!(matches!(second, VfError::HasAnother { .. }));
    }

    #[test]
    fn each_interface_of_a_pod_has_a_vf_and_addresses_of_its_own() {
        let (mut table, slots) = (VfTable::default(), slots(3));
        let (uid, name) = pod("a");
        let net1 = EndpointKey {
            pod_uid: uid.clone(),
            interface: "net1".to_owned(),
        };
        table.assign(&uid, &name, &ip("10.1.0.1"), &slots).unwrap();
        let before = table.clone();
        let same = table.assign_interface(&net1, &name, &ip("10.1.0.1"), &slots);
        assert!(matches!(same, Err(VfError::IpTaken { .. })));
        let same = table.bind_interface(&net1, &name, &[], &"pf0vf0".into(), &slots);
        assert!(matches!(same, Err(VfError::Taken { .. })));
        assert_eq!(table, before);
        let second = table.assign_interface(&net1, &name, &ip("10.2.0.1"), &slots);
        assert_eq!(second.unwrap().port.0, "pf0vf1");
        assert!(table.release(&uid).is_some());
        assert!(table.binding(&uid).is_none() && table.binding_of(&net1).is_some());
    }

    #[test]
    fn an_address_of_two_pods_names_both() {
        let (mut table, slots) = (VfTable::default(), slots(2));
        let (a, b) = (pod("a"), pod("b"));
        table.assign(&a.0, &a.1, &ip("10.1.0.1"), &slots).unwrap();
        let message = table
            .assign(&b.0, &b.1, &ip("10.1.0.1"), &slots)
            .unwrap_err();
        let expected = "10.1.0.1 of pod shop/b belongs to pod shop/a (uid u-a); give each its own";
        assert_eq!(message.to_string(), expected);
        table.assign(&a.0, &a.1, &ip("10.1.0.2"), &slots).unwrap();
        table.assign(&b.0, &b.1, &ip("10.1.0.1"), &slots).unwrap();
    }
}
