//! The node channel's part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_saphyr::{Location, Spanned};
use sluice_crypto::key::Algorithm;
use sluice_crypto::lifecycle::LANES_MAX;
use sluice_dataplane_core::sad::SAS_MAX;
use sluice_node_channel::{
    Config as Channel, Files, PEERS_MAX, Source, SpiffeId, TrustDomain, WorkloadApi,
};
use sluice_offload_api::model::NodeName;

use super::check::{name, within};
use super::{Fault, NodeChannelConfig, Text, WorkerSetup, wire};

/// Between rekeys: a second for laboratories, a day at most.
const REKEY_MS_MIN: u64 = 1_000;
const REKEY_MS_MAX: u64 = 86_400_000;
const REKEY_MS_DEFAULT: u64 = 3_600_000;
/// A rekey begins earlier by a random part of a tenth, so that nodes don't do it together.
const JITTER_PART: u64 = 10;
/// How long an SA may be used beyond its rekey, at least: the peer may be restarting.
const GRACE_MS_MIN: u64 = 60_000;

pub(super) fn node_channel(
    source: &Text,
    node: &NodeName,
    worker: &WorkerSetup,
    it: wire::NodeChannel,
) -> Result<NodeChannelConfig, Fault> {
    let at = it.trust_domain.referenced;
    let domain = TrustDomain::new(&it.trust_domain.value).map_err(|e| source.fault(at, e))?;
    SpiffeId::of_node(&domain, node).map_err(|e| source.fault(at, e))?;
    let mut peers = BTreeMap::new();
    for peer in &it.peers {
        let at = peer.value.node.referenced;
        let peer_node = NodeName(name(source, &peer.value.node)?);
        if peer_node == *node {
            return Err(source.fault(at, "this is the node itself"));
        }
        SpiffeId::of_node(&domain, &peer_node).map_err(|e| source.fault(at, e))?;
        if peers.insert(peer_node, peer.value.address).is_some() {
            return Err(source.fault(at, "this node is there twice"));
        }
    }
    if peers.len() > PEERS_MAX {
        return Err(source.fault(at, format!("more than {PEERS_MAX} peers")));
    }
    let range = REKEY_MS_MIN..=REKEY_MS_MAX;
    let rekey_ms = within(source, it.rekey_ms.as_ref(), REKEY_MS_DEFAULT, range)?;
    let identity = identity(source, at, &it)?;
    let mut channel = Channel::new(node.clone(), domain, it.listen, identity);
    if let Some(wanted) = &it.algorithms {
        channel.algorithms = algorithms(source, wanted)?;
    }
    let lanes_min = worker.lanes_min();
    channel.lanes = lanes_min;
    if let Some(lanes) = &it.lanes {
        channel.lanes = lanes_of(source, lanes)?;
        if channel.lanes < lanes_min {
            let why = format!(
                "{} lanes; the workers need {lanes_min}, one for each",
                channel.lanes
            );
            return Err(source.fault(lanes.referenced, why));
        }
    }
    let at = it.lanes.as_ref().map_or(at, |lanes| lanes.referenced);
    // An old SA goes when it is drained, and with short times others are old by then. Its last
    // packet may have waited three seconds for its next hop, and reports of silence come once a
    // second: one begins it, and one proves what the one before said.
    let drained_ms = channel.timing.drain_ms + 5_000;
    let ages = 1 + drained_ms.div_ceil(rekey_ms).max(1);
    let lanes = usize::from(channel.lanes).div_ceil(worker.cores.len().max(1));
    room(peers.len() * lanes, ages).map_err(|why| source.fault(at, why))?;
    channel.limits.soft_ms = rekey_ms;
    channel.limits.jitter_ms = rekey_ms / JITTER_PART;
    channel.limits.hard_ms = rekey_ms + GRACE_MS_MIN.max(rekey_ms / 2);
    Ok(NodeChannelConfig {
        channel,
        peers,
        udp_encap: it.udp_encap,
        lab_key_file: it.lab_key_file.map(|path| source.resolve(&path)),
    })
}

/// Files or a Workload API: exactly one of them, and all three of the files.
fn identity(source: &Text, at: Location, it: &wire::NodeChannel) -> Result<Source, Fault> {
    match (&it.workload_api, &it.svid, &it.key, &it.anchors) {
        (None, Some(svid), Some(key), Some(anchors)) => Ok(Source::Files(Files {
            svid: source.resolve(svid),
            key: source.resolve(key),
            anchors: source.resolve(anchors),
        })),
        (Some(api), None, None, None) => {
            let socket = socket(source, &api.value.socket)?;
            Ok(Source::WorkloadApi(WorkloadApi::new(socket)))
        }
        (Some(api), ..) => {
            let why = "`workload_api` gives the SVID, its key and the anchors: take `svid`, `key` \
                       and `anchors` out, or this";
            Err(source.fault(api.referenced, why))
        }
        (None, ..) => {
            let why = "`svid`, `key` and `anchors` are needed, all three, or `workload_api` in \
                       their place";
            Err(source.fault(at, why))
        }
    }
}

/// A path, or as `SPIFFE_ENDPOINT_SOCKET` has it, `unix:///path`.
fn socket(source: &Text, it: &Spanned<String>) -> Result<PathBuf, Fault> {
    let path = match it.value.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => path,
        None if !it.value.is_empty() && !it.value.contains("://") => &it.value,
        _ => {
            let why = format!("a Unix socket's path or unix:///PATH, not {:?}", it.value);
            return Err(source.fault(it.referenced, why));
        }
    };
    Ok(source.resolve(Path::new(path)))
}

/// A power of two, as the tables are by which network cards spread flows.
fn lanes_of(source: &Text, lanes: &Spanned<u8>) -> Result<u8, Fault> {
    if lanes.value.is_power_of_two() && lanes.value <= LANES_MAX {
        return Ok(lanes.value);
    }
    let why = format!("a power of two from 1 to {LANES_MAX}, not {}", lanes.value);
    Err(source.fault(lanes.referenced, why))
}

/// Whether a worker has room for so many receiving SAs, of so many ages at once. A peer with more
/// lanes than these is not known here, nor one that starts anew in a rekey.
fn room(sas: usize, ages: u64) -> Result<(), String> {
    let ages = usize::try_from(ages).unwrap_or(usize::MAX);
    if sas.saturating_mul(ages) <= SAS_MAX {
        return Ok(());
    }
    Err(format!(
        "{sas} receiving SAs of a worker, one for each of its lanes of each peer, in up to {ages} ages \
         at once are more than its {SAS_MAX}: fewer lanes, more workers, or longer `rekey_ms`"
    ))
}

/// Ciphers by name, best first.
fn algorithms(
    source: &Text,
    wanted: &Spanned<Vec<Spanned<String>>>,
) -> Result<Vec<Algorithm>, Fault> {
    let mut found = Vec::new();
    for it in &wanted.value {
        let algorithm = it.value.parse::<Algorithm>();
        let algorithm = algorithm.map_err(|error| source.fault(it.referenced, error))?;
        if found.contains(&algorithm) {
            return Err(source.fault(it.referenced, "this algorithm is there twice"));
        }
        found.push(algorithm);
    }
    if found.is_empty() {
        let why = "no algorithm is left; leave the field out for all of them";
        return Err(source.fault(wanted.referenced, why));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn every_peers_lanes_have_room_in_a_rekey_or_nothing_starts() {
        assert_eq!(room(4096, 2), Ok(()));
        let over = room(4097, 2).unwrap_err();
        assert!(over.contains("4097 receiving SAs"), "{over}");
        assert_eq!(room(1638, 5), Ok(()));
        assert!(room(1639, 5).is_err());
        assert!(room(1, u64::MAX).is_err());
    }
}
