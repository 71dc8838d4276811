//! What a scenario says of its world beside the cluster: tables, SAs, clocks.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_saphyr::Spanned;
use sluice_crypto::lifecycle::LANES_MAX;
use sluice_host_agent::cluster::pod_cidr;
use sluice_offload_api::model::{IpPrefix, NodeName};

use super::{InputError, Source};
use crate::world::DRIFT_PPM_MAX;

/// Flows that a dataplane has room for, at least.
pub const FLOWS_MIN: usize = 64;
/// The same, at most.
pub const FLOWS_MAX: usize = 1 << 20;

/// The sequence numbers of every SA.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SaEntry {
    /// Of the first packet.
    first: Option<u64>,
    /// How many packets, at most.
    packets_max: Option<u64>,
}

impl SaEntry {
    /// The first number and how many there are.
    pub(super) fn check(
        entry: Option<&Spanned<Self>>,
        source: &Source,
    ) -> Result<(u64, u64), InputError> {
        let Some(entry) = entry else {
            return Ok((1, u64::MAX));
        };
        let place = source.at(entry.referenced.into());
        let Self { first, packets_max } = &entry.value;
        let (first, packets_max) = (first.unwrap_or(1), packets_max.unwrap_or(u64::MAX));
        if first == 0 || packets_max == 0 {
            return Err(place.fault("sa: first and packets_max are at least 1"));
        }
        Ok((first, packets_max))
    }
}

/// The size of a flow table.
pub(super) fn flows_max(
    entry: Option<&Spanned<usize>>,
    source: &Source,
    default: usize,
) -> Result<usize, InputError> {
    let Some(entry) = entry else {
        return Ok(default);
    };
    let flows = entry.value;
    if (FLOWS_MIN..=FLOWS_MAX).contains(&flows) {
        return Ok(flows);
    }
    let place = source.at(entry.referenced.into());
    Err(place.fault(format!(
        "flows_max {flows}: write {FLOWS_MIN} to {FLOWS_MAX}"
    )))
}

/// Prefixes whose addresses only pods have.
pub(super) fn pod_cidrs(
    entries: &[Spanned<String>],
    source: &Source,
) -> Result<BTreeSet<IpPrefix>, InputError> {
    let cidr = |entry: &Spanned<String>| {
        let place = source.at(entry.referenced.into());
        pod_cidr(&entry.value, &[]).map_err(|error| place.fault(format!("pod_cidrs: {error}")))
    };
    entries.iter().map(cidr).collect()
}

/// How much too fast nodes' clocks run.
pub(super) fn drifts(
    entry: Option<&Spanned<BTreeMap<String, i32>>>,
    source: &Source,
) -> Result<BTreeMap<NodeName, i32>, InputError> {
    let Some(entry) = entry else {
        return Ok(BTreeMap::new());
    };
    let place = source.at(entry.referenced.into());
    let drift = |(node, ppm): (&String, &i32)| {
        if ppm.unsigned_abs() > DRIFT_PPM_MAX.unsigned_abs() {
            return Err(place.fault(format!(
                "drift_ppm {ppm} of {node}: write -{DRIFT_PPM_MAX} to {DRIFT_PPM_MAX}"
            )));
        }
        Ok((NodeName(node.clone()), *ppm))
    };
    entry.value.iter().map(drift).collect()
}

/// Workers of each dataplane: of all, or of some nodes'.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "workers: write 1 to 32, or a number for each node: {node-a: 2}"
)]
pub(super) enum WorkersEntry {
    All(u32),
    Each(BTreeMap<String, u32>),
}

impl WorkersEntry {
    /// How many at all nodes but those that are named.
    pub(super) fn check(
        entry: Option<&Spanned<Self>>,
        source: &Source,
    ) -> Result<(u8, BTreeMap<NodeName, u8>), InputError> {
        let Some(entry) = entry else {
            return Ok((1, BTreeMap::new()));
        };
        let place = source.at(entry.referenced.into());
        let check = |workers: u32| match u8::try_from(workers) {
            Ok(it) if (1..=LANES_MAX).contains(&it) => Ok(it),
            _ => Err(place.fault(format!("{workers} workers: write 1 to {LANES_MAX}"))),
        };
        match &entry.value {
            Self::All(workers) => Ok((check(*workers)?, BTreeMap::new())),
            Self::Each(each) => {
                let one = |(node, workers): (&String, &u32)| {
                    check(*workers).map(|it| (NodeName(node.clone()), it))
                };
                Ok((1, each.iter().map(one).collect::<Result<_, _>>()?))
            }
        }
    }
}

/// Child SAs that nodes want.
pub(super) fn lanes(
    entry: Option<&Spanned<BTreeMap<String, u8>>>,
    source: &Source,
) -> Result<BTreeMap<NodeName, u8>, InputError> {
    let Some(entry) = entry else {
        return Ok(BTreeMap::new());
    };
    let place = source.at(entry.referenced.into());
    let lanes = |(node, lanes): (&String, &u8)| {
        if !(1..=LANES_MAX).contains(lanes) {
            let why = format!("{lanes} lanes of {node}: write 1 to {LANES_MAX}");
            return Err(place.fault(why));
        }
        Ok((NodeName(node.clone()), *lanes))
    };
    entry.value.iter().map(lanes).collect()
}
