//! Addresses.

use core::net::IpAddr;

use serde_saphyr::Spanned;

use sluice_offload_api::model::IpPrefix;

use super::Addresses;
use crate::manifest::error::{ManifestError, ManifestFault};
use crate::manifest::read::At;
use crate::manifest::wire::NodeSpec;
use crate::text::Spot;

/// Addresses that stations can have, each with its place.
pub(super) fn ips(
    at: &At<'_>,
    texts: impl IntoIterator<Item = Spanned<String>>,
) -> Result<Addresses, ManifestError> {
    let ip = |text: Spanned<String>| {
        let spot = at.spot(text.referenced);
        Ok((ip(at, spot, &text.value)?, spot))
    };
    texts.into_iter().map(ip).collect()
}

/// The widest that a Node's own range of addresses may be, by family: who may write a Node may
/// make nobody's of as much.
const RANGE_LEN_MIN: [(bool, u8); 2] = [(true, 16), (false, 48)];

/// The prefixes that a node's pods have their addresses of, and what is to be told of others. The
/// first stands in both fields (Kubernetes API, NodeSpec). What is wrong in one is no reason to
/// refuse everybody's policies: it is passed over.
pub(super) fn pod_cidrs(spec: Option<NodeSpec>) -> (Vec<IpPrefix>, Vec<String>) {
    let Some(NodeSpec {
        pod_cidr,
        pod_cidrs,
    }) = spec
    else {
        return (Vec::new(), Vec::new());
    };
    let (mut all, mut told) = (Vec::new(), Vec::new());
    // An empty text is how the API writes that there is none.
    let texts = pod_cidr.into_iter().chain(pod_cidrs.unwrap_or_default());
    for text in texts.filter(|it| !it.is_empty()) {
        // As the API takes it, with host bits or without.
        let parsed = text.split_once('/').and_then(|(addr, len)| {
            let (addr, len) = (addr.parse::<IpAddr>().ok()?, len.parse::<u8>().ok()?);
            IpPrefix::masked(addr, len).ok()
        });
        let v4 = parsed.is_some_and(|it| it.addr().is_ipv4());
        let least = RANGE_LEN_MIN
            .into_iter()
            .find(|it| it.0 == v4)
            .map_or(0, |it| it.1);
        match parsed {
            None => told.push(format!("podCIDR `{text}` is no prefix, and is passed over")),
            Some(it) if it.len() < least => told.push(format!(
                "podCIDR {it} is wider than /{least}, and is passed over; name it in the agent's \
                 pod_cidrs if pods alone have these addresses"
            )),
            Some(it) if all.contains(&it) => {}
            Some(it) => all.push(it),
        }
    }
    told.dedup();
    (all, told)
}

/// Addresses separated by commas, at most one a family.
pub(super) fn tunnel_ips(
    at: &At<'_>,
    annotation: Option<Spanned<String>>,
) -> Result<Addresses, ManifestError> {
    let mut addresses = Addresses::new();
    let Some(annotation) = annotation else {
        return Ok(addresses);
    };
    let spot = at.spot(annotation.referenced);
    for text in annotation
        .value
        .split(',')
        .map(str::trim)
        .filter(|it| !it.is_empty())
    {
        let ip = ip(at, spot, text)?;
        if addresses
            .iter()
            .any(|(other, _)| other.is_ipv4() == ip.is_ipv4())
        {
            return Err(at.fault(spot, ManifestFault::SecondOfFamily { ip }));
        }
        addresses.push((ip, spot));
    }
    Ok(addresses)
}

pub(super) fn ip(at: &At<'_>, spot: Spot, text: &str) -> Result<IpAddr, ManifestError> {
    let syntax = |_| {
        at.fault(
            spot,
            ManifestFault::Ip {
                text: text.to_owned(),
            },
        )
    };
    let ip: IpAddr = text.parse().map_err(syntax)?;
    if is_station(ip) {
        return Ok(ip);
    }
    Err(at.fault(spot, ManifestFault::NotUnicast { ip }))
}

/// As the dataplane's contract has it. An IPv4 address in IPv6 form would be a second
/// spelling of the first.
fn is_station(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.octets()[0] != 0 && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast()
        }
        IpAddr::V6(ip) => {
            !ip.is_unspecified()
                && !ip.is_loopback()
                && !ip.is_multicast()
                && ip.to_ipv4_mapped().is_none()
        }
    }
}
