//! The probes file, and a probe in a scenario.

use core::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_saphyr::Spanned;
use sluice_host_agent::cluster::NamespacedName;
use sluice_offload_api::model::{Protocol, Verdict};

use super::{InputError, Place, Source, Spot, parse_party};
use crate::probe::{Family, Party, Probe, ProbePort};

/// Probes of a file, at most.
pub const PROBES_MAX: usize = 10_000;

/// What a probe may name as its source port: those that no probe is given.
const SOURCE_PORTS: core::ops::RangeInclusive<u16> = 60_000..=65_535;

/// A probe and where it was written.
#[derive(Clone, Debug)]
pub struct PlacedProbe {
    /// The probe.
    pub probe: Probe,
    /// Its place, for what turns out only when it is sent.
    pub place: Place,
}

/// Reads a probes file.
///
/// # Errors
/// [`InputError`].
pub fn load_probes(path: &Path) -> Result<Vec<PlacedProbe>, InputError> {
    let source = Source::read(path)?;
    let file: ProbesFile = source.parse()?;
    let count = file.probes.value.len();
    if count == 0 {
        let place = source.at(file.probes.referenced.into());
        return Err(place.fault("no probes, so nothing would be checked; write at least one"));
    }
    if count > PROBES_MAX {
        let place = source.at(file.probes.referenced.into());
        return Err(place.fault(format!(
            "{count} probes are more than the {PROBES_MAX} of a file"
        )));
    }
    let placed = |entry: Spanned<ProbeEntry>| {
        let place = source.at(Spot::from(entry.referenced));
        Ok(PlacedProbe {
            probe: entry.value.check(&place)?,
            place,
        })
    };
    file.probes.value.into_iter().map(placed).collect()
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbesFile {
    probes: Spanned<Vec<Spanned<ProbeEntry>>>,
}

/// A probe as it is written.
#[derive(serde::Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeEntry {
    from: String,
    to: String,
    protocol: Protocol,
    port: Option<PortEntry>,
    family: Option<Family>,
    network: Option<String>,
    source_port: Option<u16>,
    expect: Option<Verdict>,
}

impl ProbeEntry {
    /// The probe, if its fields go together.
    pub(super) fn check(self, place: &Place) -> Result<Probe, InputError> {
        check_port(self.protocol, self.port.as_ref(), place)?;
        let source_port = self.source_port;
        if let Some(port) = source_port
            && (!SOURCE_PORTS.contains(&port) || self.protocol == Protocol::Tcp)
        {
            return Err(place.fault(format!(
                "source_port {port}: a flow goes on over UDP, SCTP and ICMP, from a port of \
                 {} to {}; the others are for probes of their own",
                SOURCE_PORTS.start(),
                SOURCE_PORTS.end()
            )));
        }
        let party = |text: &str| parse_party(text).map_err(|error| place.fault(error));
        let network = self.network.map(|text| network(&text, place)).transpose()?;
        Ok(Probe {
            from: party(&self.from)?,
            to: party(&self.to)?,
            from_network: network.clone(),
            to_network: network,
            source_port,
            protocol: self.protocol,
            port: self.port.map(|port| port.0),
            family: self.family,
            expect: self.expect,
        })
    }
}

/// A network: `namespace/name`.
fn network(text: &str, place: &Place) -> Result<NamespacedName, InputError> {
    match parse_party(text) {
        Ok(Party::Pod { namespace, name }) => Ok(NamespacedName { namespace, name }),
        _ => Err(place.fault(format!(
            "network `{text}` is not namespace/name of a NetworkAttachmentDefinition"
        ))),
    }
}

/// Whether a protocol and a port go together.
pub(super) fn check_port(
    protocol: Protocol,
    port: Option<&PortEntry>,
    place: &Place,
) -> Result<(), InputError> {
    match (protocol, port) {
        (Protocol::Icmp, Some(_)) => Err(place.fault("ICMP has no ports; leave port out")),
        (Protocol::Icmp, None) | (_, Some(_)) => Ok(()),
        (_, None) => Err(place.fault("port is missing: a number or a name of the destination's")),
    }
}

/// A port as it is written: a number, or a name.
#[derive(Clone, Debug)]
pub(super) struct PortEntry(pub(super) ProbePort);

impl<'de> Deserialize<'de> for PortEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;

        impl Visitor<'_> for PortVisitor {
            type Value = PortEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number from 1 to 65535 or a port name")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<PortEntry, E> {
                match u16::try_from(number) {
                    Ok(port @ 1..) => Ok(PortEntry(ProbePort::Number(port))),
                    _ => Err(E::custom(format!("port {number} is not within 1 to 65535"))),
                }
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<PortEntry, E> {
                Err(E::custom(format!("port {number} is not within 1 to 65535")))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<PortEntry, E> {
                let fits = !name.is_empty() && name.len() <= PORT_NAME_LEN_MAX;
                if !fits || name.bytes().all(|byte| byte.is_ascii_digit()) {
                    let hint = "a name has 1 to 15 characters, a number no quotes";
                    return Err(E::custom(format!("`{name}` is no port name; {hint}")));
                }
                Ok(PortEntry(ProbePort::Name(name.to_owned())))
            }
        }

        deserializer.deserialize_any(PortVisitor)
    }
}

/// Length of a port's name in Kubernetes (RFC 6335 section 5.1), at most.
const PORT_NAME_LEN_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Probe, String> {
        let source = Source::new("p.yaml", text.to_owned());
        let entry: Spanned<ProbeEntry> = source.parse().map_err(|e| e.to_string())?;
        entry
            .value
            .check(&source.at(entry.referenced.into()))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn ports_are_numbers_or_names() {
        let port = |text| {
            one(&format!(
                "{{from: a/b, to: c/d, protocol: TCP, port: {text}}}"
            ))
            .map(|p| p.port)
        };
        assert_eq!(port("80"), Ok(Some(ProbePort::Number(80))));
        assert_eq!(port("http"), Ok(Some(ProbePort::Name("http".to_owned()))));
        for wrong in [
            "0",
            "65536",
            "-1",
            "\"80\"",
            "\"\"",
            "a-name-far-too-long",
            "[80]",
            "1.5",
        ] {
            let error = port(wrong).unwrap_err();
            assert!(error.starts_with("p.yaml:1:"), "{wrong}: {error}");
        }
    }

    #[test]
    fn protocol_and_port_must_go_together() {
        let error = one("{from: a/b, to: c/d, protocol: ICMP, port: 1}").unwrap_err();
        assert_eq!(error, "p.yaml:1:1: ICMP has no ports; leave port out");
        let error = one("{from: a/b, to: c/d, protocol: UDP}").unwrap_err();
        assert!(error.contains("port is missing"), "{error}");
        assert!(one("{from: a/b, to: c/d, protocol: ICMP}").is_ok());
    }

    #[test]
    fn a_network_has_a_namespace_and_a_name() {
        let network = |text: &str| {
            one(&format!(
                "{{from: a/b, to: c/d, protocol: ICMP, network: {text}}}"
            ))
            .map(|it| it.to_network.unwrap().to_string())
        };
        assert_eq!(network("shop/fast"), Ok("shop/fast".to_owned()));
        for wrong in ["fast", "a/b/c", "node:a", "''"] {
            let error = network(wrong).unwrap_err();
            assert!(error.contains("is not namespace/name"), "{wrong}: {error}");
        }
    }

    #[test]
    fn unknown_words_are_refused_with_the_known_ones() {
        let error = one("{from: a/b, to: c/d, protocol: TCP, prot: 80}").unwrap_err();
        assert!(
            error.contains("unknown field `prot`, expected one of from, to"),
            "{error}"
        );
        let error = one("{from: a/b, to: c/d, protocol: tcp, port: 80}").unwrap_err();
        assert!(
            error.contains("`tcp`, expected one of TCP, UDP, SCTP, ICMP"),
            "{error}"
        );
    }
}
