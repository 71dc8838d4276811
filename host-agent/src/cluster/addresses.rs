//! Who has which address.

use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeMap;

use sluice_offload_api::model::{NodeName, PodRef};

use super::{Cluster, NamespacedName};

/// Who has an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Holder {
    /// A pod, as its own.
    Pod(PodRef),
    /// A pod, as its secondary interface's of this name.
    Interface(PodRef, String),
    /// A node, and its hostNetwork pods.
    Node(NodeName),
    /// A service.
    Service(NamespacedName),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => write!(f, "pod {pod}"),
            Self::Interface(pod, name) => write!(f, "interface {name} of pod {pod}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// Two that claim one address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{ip} belongs to {} and to {}; give each its own", holders[0], holders[1])]
pub struct AddressTaken {
    /// The address.
    pub ip: IpAddr,
    /// Both.
    pub holders: Box<[Holder; 2]>,
}

/// Every address of the cluster and who has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressIndex {
    holders: BTreeMap<IpAddr, Holder>,
}

impl AddressIndex {
    /// Indexes a cluster.
    ///
    /// # Errors
    /// [`AddressTaken`] if two have one address: which of them is meant decides what policy
    /// holds, so neither may have it.
    pub fn build(cluster: &Cluster) -> Result<Self, AddressTaken> {
        let mut index = Self::default();
        for (name, node) in &cluster.nodes {
            for &ip in &node.ips {
                index.claim(ip, Holder::Node(name.clone()))?;
            }
        }
        for (name, pod) in &cluster.pods {
            let holder = match pod.host_node() {
                Some(node) => Holder::Node(node.clone()),
                None if pod.owns_addresses() => Holder::Pod(name.clone()),
                None => continue,
            };
            for &ip in &pod.ips {
                index.claim(ip, holder.clone())?;
            }
            for interface in pod.interfaces.iter().filter(|_| pod.owns_addresses()) {
                let holder = Holder::Interface(name.clone(), interface.name.clone());
                for &ip in &interface.ips {
                    index.claim(ip, holder.clone())?;
                }
            }
        }
        for (name, service) in &cluster.services {
            for &ip in &service.vips {
                index.claim(ip, Holder::Service(name.clone()))?;
            }
        }
        Ok(index)
    }

    /// Who has the address; `None` is outside.
    #[must_use]
    pub fn holder(&self, ip: IpAddr) -> Option<&Holder> {
        self.holders.get(&ip)
    }

    /// All addresses in order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Holder)> {
        self.holders.iter().map(|(&ip, holder)| (ip, holder))
    }

    fn claim(&mut self, ip: IpAddr, holder: Holder) -> Result<(), AddressTaken> {
        match self.holders.get(&ip) {
            Some(first) if *first != holder => Err(AddressTaken {
                ip,
                holders: Box::new([first.clone(), holder]),
            }),
            _ => {
                self.holders.insert(ip, holder);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Interface, Node, Pod, Service};

    fn pod(name: &str, ip: &str) -> Pod {
        let mut pod = Pod::new("shop", name);
        pod.node = Some("a".into());
        pod.ips = vec![ip.parse().unwrap()];
        pod
    }

    fn cluster(pods: Vec<Pod>) -> Cluster {
        let mut cluster = Cluster::default();
        let node = Node {
            ips: vec!["10.9.0.1".parse().unwrap()],
            ..Node::default()
        };
        cluster.nodes.insert("a".into(), node);
        for pod in pods {
            cluster.pods.insert(pod.pod.clone(), pod);
        }
        cluster
    }

    #[test]
    fn two_pods_with_one_address_are_refused_by_name() {
        let taken = AddressIndex::build(&cluster(vec![pod("x", "10.1.0.1"), pod("y", "10.1.0.1")]));
        let message = taken.unwrap_err().to_string();
        let expected = "10.1.0.1 belongs to pod shop/x and to pod shop/y; give each its own";
        assert_eq!(message, expected);
    }

    #[test]
    fn an_address_is_of_one_interface_of_one_pod() {
        let on = |name: &str, ip: &str| {
            let mut pod = pod(name, "10.1.0.1");
            pod.interfaces.push(Interface {
                name: "net1".to_owned(),
                network: NamespacedName {
                    namespace: "shop".to_owned(),
                    name: "fast".to_owned(),
                },
                reported: None,
                ips: vec![ip.parse().unwrap()],
            });
            pod
        };
        let taken = AddressIndex::build(&cluster(vec![on("x", "10.1.0.1")]));
        let expected = "10.1.0.1 belongs to pod shop/x and to interface net1 of pod shop/x; give \
                        each its own";
        assert_eq!(taken.unwrap_err().to_string(), expected);
        let index = AddressIndex::build(&cluster(vec![on("x", "10.1.0.2")])).unwrap();
        let holder = index.holder("10.1.0.2".parse().unwrap()).unwrap();
        assert_eq!(holder.to_string(), "interface net1 of pod shop/x");
    }

    #[test]
    fn a_host_network_pod_shares_its_nodes_address() {
        let mut agent = pod("agent", "10.9.0.1");
        agent.host_network = true;
        let index = AddressIndex::build(&cluster(vec![agent])).unwrap();
        let holder = index.holder("10.9.0.1".parse().unwrap());
        assert_eq!(holder, Some(&Holder::Node("a".into())));
    }

    #[test]
    fn a_completed_pod_has_no_address() {
        let mut job = pod("job", "10.1.0.1");
        job.completed = true;
        let index = AddressIndex::build(&cluster(vec![job, pod("x", "10.1.0.1")])).unwrap();
        let holder = index.holder("10.1.0.1".parse().unwrap());
        assert_eq!(holder.unwrap().to_string(), "pod shop/x");
    }

    #[test]
    fn a_pod_may_not_have_a_services_address() {
        let mut cluster = cluster(vec![pod("x", "10.1.0.1")]);
        let name = NamespacedName {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
        };
        let service = Service {
            vips: vec!["10.1.0.1".parse().unwrap()],
        };
        cluster.services.insert(name, service);
        let taken = AddressIndex::build(&cluster).unwrap_err();
        assert_eq!(taken.holders[1].to_string(), "service shop/web");
    }
}
