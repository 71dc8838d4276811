//! The address space, split at every block that a policy names and every range of pods' addresses:
//! within a part nothing can tell two addresses of nobody apart.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::model::IpPrefix;

use crate::cluster::{Cluster, Peer, PodRanges};

/// A part's place in [`Blocks`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PartId(usize);

/// A part: a block without the blocks inside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// The block.
    pub(super) block: IpPrefix,
    /// The blocks inside it that are parts of their own, in order.
    pub(super) inner: Vec<IpPrefix>,
}

/// All parts of both families.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    parts: Vec<Part>,
    by_block: BTreeMap<IpPrefix, PartId>,
    held: BTreeSet<IpAddr>,
}

impl Blocks {
    /// Splits at the blocks of all of these clusters, and at the ranges of their pods' addresses.
    pub(super) fn of(clusters: &[&Cluster]) -> Self {
        let roots = ["0.0.0.0/0", "::/0"];
        let mut blocks: BTreeSet<IpPrefix> =
            roots.iter().filter_map(|it| it.parse().ok()).collect();
        let mut held = BTreeSet::new();
        for cluster in clusters {
            blocks.extend(named(cluster));
            blocks.extend(PodRanges::of(cluster).iter());
            held.extend(addresses(cluster));
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut by_block = BTreeMap::new();
        // A prefix sorts before those inside it, and they before the next one beside it.
        let mut open: Vec<usize> = Vec::new();
        for block in blocks {
            let around = |it: &usize| parts.get(*it).is_some_and(|it| it.block.covers(&block));
            while open.last().is_some_and(|it| !around(it)) {
                open.pop();
            }
            if let Some(outer) = open.last().and_then(|it| parts.get_mut(*it)) {
                outer.inner.push(block);
            }
            open.push(parts.len());
            by_block.insert(block, PartId(parts.len()));
            parts.push(Part {
                block,
                inner: Vec::new(),
            });
        }
        Self {
            parts,
            by_block,
            held,
        }
    }

    /// All of them.
    pub(super) fn parts(&self) -> impl Iterator<Item = (PartId, &Part)> {
        self.parts.iter().enumerate().map(|(n, it)| (PartId(n), it))
    }

    /// The part that an address is in.
    pub(super) fn part_of(&self, ip: IpAddr) -> Option<PartId> {
        let bits: u8 = if ip.is_ipv4() { 32 } else { 128 };
        let at = |len| self.by_block.get(&IpPrefix::masked(ip, len).ok()?).copied();
        (0..=bits).rev().find_map(at)
    }

    /// An address that nobody has, for number `n` of those that need one: in the widest part
    /// of the family that has any left.
    pub(super) fn spare(&self, v4: bool, n: usize) -> Option<IpAddr> {
        let family = self
            .parts
            .iter()
            .filter(|it| it.block.addr().is_ipv4() == v4);
        family.map(|it| self.free(it)).find_map(|mut it| it.nth(n))
    }

    /// The addresses of a part that nobody has, in order.
    pub(super) fn free<'a>(&'a self, part: &'a Part) -> impl Iterator<Item = IpAddr> + 'a {
        let v4 = part.block.addr().is_ipv4();
        let (first, last) = ends(part.block);
        let mut gaps = Vec::new();
        let mut from = Some(first);
        for inner in &part.inner {
            let (its_first, its_last) = ends(*inner);
            if let Some(from) = from.filter(|it| *it < its_first) {
                gaps.push(from..=its_first - 1);
            }
            from = its_last.checked_add(1);
        }
        gaps.extend(from.filter(|it| *it <= last).map(|it| it..=last));
        let ips = gaps.into_iter().flatten().map(move |it| ip_of(v4, it));
        ips.filter(|it| !self.held.contains(it))
    }
}

/// The blocks that a cluster's policies name.
fn named(cluster: &Cluster) -> BTreeSet<IpPrefix> {
    use sluice_offload_api::model::Direction;
    let both = [Direction::Ingress, Direction::Egress];
    let rules = both.into_iter().flat_map(|it| cluster.rules(it));
    let mut blocks = BTreeSet::new();
    for peer in rules.flat_map(|it| &it.peers) {
        if let Peer::Block { cidr, except } = peer {
            blocks.insert(*cidr);
            blocks.extend(except);
        }
    }
    blocks
}

/// Every address that somebody has.
fn addresses(cluster: &Cluster) -> impl Iterator<Item = IpAddr> + '_ {
    let pods = cluster.pods.values().flat_map(|pod| {
        let more = pod.interfaces.iter().flat_map(|it| &it.ips);
        pod.ips.iter().chain(more)
    });
    let nodes = cluster.nodes.values().flat_map(|it| &it.ips);
    let services = cluster.services.values().flat_map(|it| &it.vips);
    pods.chain(nodes).chain(services).copied()
}

/// A block's first and last address as numbers.
fn ends(block: IpPrefix) -> (u128, u128) {
    let (first, bits) = match block.addr() {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128_u32),
    };
    let host_bits = bits - u32::from(block.len());
    let ones = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
    (first, first | ones)
}

fn ip_of(v4: bool, number: u128) -> IpAddr {
    if v4 {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        IpAddr::V4(number.into())
    } else {
        IpAddr::V6(number.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{LabelSelector, NamespacedName, NetworkPolicy, Node, Rule};

    fn cluster(blocks: &[(&str, &[&str])], held: &[&str]) -> Cluster {
        let peers = blocks.iter().map(|(cidr, except)| Peer::Block {
            cidr: cidr.parse().unwrap(),
            except: except.iter().map(|it| it.parse().unwrap()).collect(),
        });
        let rule = Rule {
            peers: peers.collect(),
            ports: Vec::new(),
        };
        let policy = NetworkPolicy {
            pod_selector: LabelSelector::default(),
            egress: Some(vec![rule]),
            ..NetworkPolicy::default()
        };
        let name = NamespacedName {
            namespace: "a".to_owned(),
            name: "p".to_owned(),
        };
        let mut cluster = Cluster::default();
        cluster.policies.insert(name, policy);
        let node = Node {
            ips: held.iter().map(|it| it.parse().unwrap()).collect(),
            ..Node::default()
        };
        cluster.nodes.insert("n".into(), node);
        cluster
    }

    #[test]
    fn nested_blocks_are_parts_of_their_own() {
        let cluster = cluster(
            &[
                ("10.0.0.0/8", &["10.1.0.0/16"]),
                ("10.1.0.0/30", &[]),
                ("fd00::/8", &[]),
            ],
            &["10.1.0.0", "10.1.0.1"],
        );
        let blocks = Blocks::of(&[&cluster]);
        let text: Vec<_> = blocks.parts().map(|(_, it)| it.block.to_string()).collect();
        let expected = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.0.0/30",
            "::/0",
            "fd00::/8",
        ];
        assert_eq!(text, expected);
        let free = |block: &str| {
            let block: IpPrefix = block.parse().unwrap();
            let (_, part) = blocks.parts().find(|it| it.1.block == block).unwrap();
            let free: Vec<_> = blocks.free(part).take(3).map(|it| it.to_string()).collect();
            free
        };
        assert_eq!(free("10.1.0.0/30"), ["10.1.0.2", "10.1.0.3"]);
        assert_eq!(free("10.1.0.0/16"), ["10.1.0.4", "10.1.0.5", "10.1.0.6"]);
        assert_eq!(free("::/0")[0], "::");
        for (ip, block) in [
            ("10.1.0.3", "10.1.0.0/30"),
            ("10.1.9.9", "10.1.0.0/16"),
            ("10.2.0.0", "10.0.0.0/8"),
            ("11.0.0.0", "0.0.0.0/0"),
            ("fd00::1", "fd00::/8"),
            ("fe00::1", "::/0"),
        ] {
            let id = blocks.part_of(ip.parse().unwrap()).unwrap();
            assert_eq!(blocks.parts[id.0].block.to_string(), block, "{ip}");
        }
    }

    #[test]
    fn a_spare_address_is_in_the_widest_part_that_has_one() {
        let halves = cluster(&[("0.0.0.0/1", &[]), ("128.0.0.0/1", &[])], &["0.0.0.0"]);
        let blocks = Blocks::of(&[&halves]);
        assert_eq!(blocks.spare(true, 0), "0.0.0.1".parse().ok());
        assert_eq!(blocks.spare(true, 2), "0.0.0.3".parse().ok());
        assert_eq!(blocks.spare(false, 0), "::".parse().ok());
    }
}
