//! Who talked to whom, read off the frames beside the wires.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_dataplane_core::meta::{FrameKind, NdKind, proto};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire;
use sluice_host_agent::cluster::Cluster;

use crate::sighting::{Sighting, Spot, Way, Who};

/// A flow's two ends, the smaller first, and its protocol.
type Ends = ((IpAddr, u16), (IpAddr, u16), u8);

/// Frames of one flow.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    pub(super) first: Tick,
    pub(super) last: Tick,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) what: String,
    pub(super) sent: u64,
    pub(super) delivered: u64,
}

/// The flows of what was seen, in the order of their first frames. A flow is its sender's
/// own, whatever source address its frames claim.
pub(super) fn traffic(sightings: &[Sighting], names: &Names) -> Vec<Traffic> {
    let mut places: BTreeMap<Ends, usize> = BTreeMap::new();
    let mut flows: Vec<Traffic> = Vec::new();
    for seen in sightings {
        if !matches!(seen.way, Way::Sent | Way::Delivered) {
            continue;
        }
        let Ok(meta) = wire::parse(&seen.frame) else {
            continue;
        };
        if meta.kind != FrameKind::Ip || meta.nd != NdKind::None || meta.icmp_error {
            continue;
        }
        let (src, dst): (IpAddr, IpAddr) = (meta.src.into(), meta.dst.into());
        let (from, to) = ((src, meta.src_port), (dst, meta.dst_port));
        let ends = (from.min(to), from.max(to), meta.protocol);
        let place = *places.entry(ends).or_insert_with(|| {
            flows.push(Traffic {
                first: seen.at,
                last: seen.at,
                from: match seen.way {
                    Way::Sent => sender(&seen.spot, seen.who.as_deref(), src, names),
                    _ => names.of(src),
                },
                to: names.of(dst),
                what: what(meta.protocol, meta.dst_port),
                sent: 0,
                delivered: 0,
            });
            flows.len() - 1
        });
        if let Some(flow) = flows.get_mut(place) {
            flow.last = seen.at;
            match seen.way {
                Way::Sent => flow.sent += 1,
                _ => flow.delivered += 1,
            }
        }
    }
    flows
}

fn sender(spot: &Spot, who: Option<&Who>, src: IpAddr, names: &Names) -> String {
    match (spot, who.and_then(|it| it.pod.as_ref())) {
        (_, Some(pod)) => pod.to_string(),
        (Spot::Host(node), None) => names
            .known(src)
            .unwrap_or_else(|| format!("node:{}", **node)),
        _ => src.to_string(),
    }
}

fn what(protocol: u8, port: u16) -> String {
    match protocol {
        proto::TCP => format!("TCP {port}"),
        proto::UDP => format!("UDP {port}"),
        proto::SCTP => format!("SCTP {port}"),
        proto::ICMP | proto::ICMPV6 => "ICMP".to_owned(),
        other => format!("protocol {other}"),
    }
}

/// Who has which address.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<IpAddr, String>);

impl Names {
    /// Of a cluster as it is; a hostNetwork pod's addresses are its node's.
    pub(super) fn new(cluster: &Cluster) -> Self {
        let mut names = BTreeMap::new();
        for pod in cluster.pods.values().filter(|it| !it.host_network) {
            let more = pod.interfaces.iter().flat_map(|it| &it.ips);
            for ip in pod.ips.iter().chain(more) {
                names.insert(*ip, pod.pod.to_string());
            }
        }
        for (name, node) in &cluster.nodes {
            for ip in &node.ips {
                names.insert(*ip, format!("node:{name}"));
            }
        }
        Self(names)
    }

    fn known(&self, ip: IpAddr) -> Option<String> {
        self.0.get(&ip).cloned()
    }

    fn of(&self, ip: IpAddr) -> String {
        self.known(ip).unwrap_or_else(|| ip.to_string())
    }
}
