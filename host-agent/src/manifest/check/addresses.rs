//! Addresses.

use core::net::IpAddr;

use serde_saphyr::Spanned;

use super::Addresses;
use crate::manifest::error::{ManifestError, ManifestFault};
use crate::manifest::read::At;
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
