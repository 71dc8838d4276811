//! From what is written to what it means.

use core::net::IpAddr;
use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_saphyr::{Location, Spanned};
use sluice_offload_api::limits::{MTU_MAX, MTU_MIN, NAME_LEN_MAX, PORTS_MAX, VLAN_MAX};
use sluice_offload_api::model::{Interface, IpPrefix, MacAddr, NodeName, PortName};

use super::{Config, DataplaneAddress, Fault, LogConfig, Text, TlsConfig, VerdictLogConfig, wire};
use crate::agent::DeviceNames;
use crate::cluster::{EncryptionSetup, pod_cidr};
use crate::compile::{HostSetup, NodeSetup, UplinkSetup};
use crate::local::SOCKET;
use crate::vf::VfSlot;

const ADD_TIMEOUT_MS: u64 = 10_000;
const ADD_TIMEOUT_MS_MAX: u64 = 300_000;
const HEARTBEAT_MS: u64 = 1_000;
const HEARTBEAT_MS_MAX: u64 = 60_000;
const POD_PER_SECOND: u32 = 10;
const PER_SECOND: u32 = 1_000;
const PER_SECOND_MAX: u32 = 100_000;

pub(super) fn check(text: &Text) -> Result<Config, Fault> {
    let file: wire::File = text.parse()?;
    let manifests = source(text, &file.source)?;
    let dataplane = dataplane(text, file.dataplane)?;
    let mut seen = Seen::default();
    let uplink = UplinkSetup {
        name: seen.port(text, &file.uplink.port)?,
        mac: seen.mac(text, &file.uplink.mac)?,
        mtu: mtu(text, &file.uplink.mtu)?,
        interfaces: interfaces(text, &file.uplink.interfaces)?,
    };
    let pod_cidrs = pod_cidrs(text, &file.pod_cidrs, &uplink.interfaces)?;
    let host = HostSetup {
        name: seen.port(text, &file.host.port)?,
        mac: seen.mac(text, &file.host.mac)?,
        mtu: mtu(text, &file.host.mtu)?,
    };
    let (vfs, devices) = vfs(text, &file.vfs, &mut seen)?;
    let millis = |it: Option<&Spanned<u64>>, default, max| {
        let ms = it.map_or(Ok(default), |it| within(text, it, 1..=max))?;
        Ok::<_, Fault>(Duration::from_millis(ms))
    };
    Ok(Config {
        setup: NodeSetup {
            node: NodeName(name(text, &file.node)?),
            uplink,
            host,
            vfs,
            encryption: encryption(text, file.encryption)?,
        },
        devices,
        pod_cidrs,
        manifests,
        dataplane,
        state: text.resolve(&file.state),
        socket: file
            .socket
            .map_or_else(|| PathBuf::from(SOCKET), |it| text.resolve(&it)),
        add_timeout: millis(
            file.add_timeout_ms.as_ref(),
            ADD_TIMEOUT_MS,
            ADD_TIMEOUT_MS_MAX,
        )?,
        heartbeat: millis(file.heartbeat_ms.as_ref(), HEARTBEAT_MS, HEARTBEAT_MS_MAX)?,
        verdict_log: file
            .verdict_log
            .map(|it| verdict_log(text, &it.value))
            .transpose()?,
        log: log(file.log),
    })
}

fn pod_cidrs(
    text: &Text,
    file: &[Spanned<String>],
    interfaces: &[Interface],
) -> Result<BTreeSet<IpPrefix>, Fault> {
    let mut all = BTreeSet::new();
    for it in file {
        let cidr = pod_cidr(&it.value, interfaces);
        let cidr = cidr.map_err(|error| text.fault(it.referenced, error))?;
        once(text, &mut all, &cidr, it.referenced, "prefix")?;
    }
    Ok(all)
}

fn encryption(
    text: &Text,
    file: Option<Spanned<wire::Encryption>>,
) -> Result<EncryptionSetup, Fault> {
    let Some(file) = file else {
        return Ok(EncryptionSetup::default());
    };
    let at = file.referenced;
    let wire::Encryption {
        default,
        loosest,
        unprotected_nodes,
    } = file.value;
    let mut unprotected = BTreeSet::new();
    for node in &unprotected_nodes {
        let node_name = name(text, node)?;
        once(text, &mut unprotected, &node_name, node.referenced, "node")?;
    }
    let unprotected = unprotected.into_iter().map(NodeName).collect();
    let setup = EncryptionSetup::new(default.unwrap_or_default(), loosest, unprotected);
    setup.map_err(|error| text.fault(at, error))
}

fn source(text: &Text, source: &Spanned<wire::Source>) -> Result<PathBuf, Fault> {
    if let Some(at) = &source.value.kubernetes {
        let message = "this agent reads no Kubernetes API yet; export the objects to a folder \
                       and name it under `directory`";
        return Err(text.fault(at.referenced, message));
    }
    match &source.value.directory {
        Some(path) => Ok(text.resolve(path)),
        None => Err(text.fault(source.referenced, "name the manifests' folder: `directory`")),
    }
}

fn dataplane(text: &Text, dataplane: Spanned<wire::Dataplane>) -> Result<DataplaneAddress, Fault> {
    match (dataplane.value.unix, dataplane.value.tcp) {
        (Some(path), None) => Ok(DataplaneAddress::Unix(text.resolve(&path))),
        (None, Some(tcp)) => {
            let tcp = tcp.value;
            let id = &tcp.id.value;
            if !is_spiffe_id(id) {
                let message =
                    format!("`{id}` is no SPIFFE ID, such as spiffe://DOMAIN/sluice/node/NAME");
                return Err(text.fault(tcp.id.referenced, message));
            }
            Ok(DataplaneAddress::Tcp(TlsConfig {
                address: tcp.address,
                certificate: text.resolve(&tcp.certificate),
                key: text.resolve(&tcp.key),
                ca: text.resolve(&tcp.ca),
                id: tcp.id.value,
            }))
        }
        (Some(_), Some(tcp)) => Err(text.fault(
            tcp.referenced,
            "`unix` and `tcp` exclude each other; keep one",
        )),
        (None, None) => {
            let message = "name the dataplane's socket: `unix`, or `tcp` with certificates";
            Err(text.fault(dataplane.referenced, message))
        }
    }
}

/// Scheme, domain and path, each with something in it.
fn is_spiffe_id(id: &str) -> bool {
    let parts = id
        .strip_prefix("spiffe://")
        .and_then(|it| it.split_once('/'));
    parts.is_some_and(|(domain, path)| !domain.is_empty() && !path.is_empty())
}

/// What may be there once.
#[derive(Default)]
struct Seen {
    ports: BTreeSet<String>,
    macs: BTreeSet<MacAddr>,
    pci: BTreeSet<String>,
    indices: BTreeSet<u16>,
}

impl Seen {
    fn port(&mut self, text: &Text, port: &Spanned<String>) -> Result<PortName, Fault> {
        let port_name = name(text, port)?;
        once(text, &mut self.ports, &port_name, port.referenced, "port")?;
        Ok(PortName(port_name))
    }

    fn mac(&mut self, text: &Text, mac: &Spanned<String>) -> Result<MacAddr, Fault> {
        let parsed = parse_mac(&mac.value).filter(|it| it.is_unicast());
        let Some(parsed) = parsed else {
            let message = format!(
                "`{}` is no station's MAC, such as 02:00:00:00:00:01",
                mac.value
            );
            return Err(text.fault(mac.referenced, message));
        };
        once(text, &mut self.macs, &parsed, mac.referenced, "MAC")?;
        Ok(parsed)
    }
}

fn once<T: Ord + Clone + core::fmt::Display>(
    text: &Text,
    seen: &mut BTreeSet<T>,
    value: &T,
    at: Location,
    what: &str,
) -> Result<(), Fault> {
    if seen.insert(value.clone()) {
        return Ok(());
    }
    Err(text.fault(
        at,
        format!("{what} {value} is there twice; give each its own"),
    ))
}

fn parse_mac(text: &str) -> Option<MacAddr> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|it| it.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(MacAddr(mac))
}

fn name(text: &Text, it: &Spanned<String>) -> Result<String, Fault> {
    let value = &it.value;
    if value.is_empty() || value.len() > NAME_LEN_MAX || value.chars().any(char::is_control) {
        let message = format!("a name has 1 to {NAME_LEN_MAX} bytes of printable text");
        return Err(text.fault(it.referenced, message));
    }
    Ok(value.clone())
}

fn within<T>(text: &Text, it: &Spanned<T>, range: RangeInclusive<T>) -> Result<T, Fault>
where
    T: PartialOrd + Copy + core::fmt::Display,
{
    if range.contains(&it.value) {
        return Ok(it.value);
    }
    let (value, low, high) = (it.value, range.start(), range.end());
    Err(text.fault(
        it.referenced,
        format!("{value} is not within {low} to {high}"),
    ))
}

fn mtu(text: &Text, it: &Spanned<u16>) -> Result<u16, Fault> {
    within(text, it, MTU_MIN..=MTU_MAX)
}

fn interfaces(
    text: &Text,
    list: &Spanned<Vec<Spanned<wire::Interface>>>,
) -> Result<Vec<Interface>, Fault> {
    if list.value.is_empty() {
        let message = "the uplink needs an address: ESP goes from and to it";
        return Err(text.fault(list.referenced, message));
    }
    let mut interfaces: Vec<Interface> = Vec::new();
    for it in &list.value {
        let address = &it.value.address;
        let Some((addr, prefix_len)) = parse_interface(&address.value) else {
            let message = format!(
                "`{}` is no address with its prefix, such as 192.0.2.1/24",
                address.value
            );
            return Err(text.fault(address.referenced, message));
        };
        if interfaces
            .iter()
            .any(|it| it.addr.is_ipv4() == addr.is_ipv4())
        {
            let message = format!("{addr} is the second of its family; give at most one");
            return Err(text.fault(address.referenced, message));
        }
        if let Some(gateway) = it.value.gateway
            && gateway.is_ipv4() != addr.is_ipv4()
        {
            let message = format!("gateway {gateway} is of another family than {addr}");
            return Err(text.fault(it.referenced, message));
        }
        interfaces.push(Interface {
            addr,
            prefix_len,
            gateway: it.value.gateway,
        });
    }
    Ok(interfaces)
}

fn parse_interface(text: &str) -> Option<(IpAddr, u8)> {
    let (addr, len) = text.split_once('/')?;
    let (addr, len) = (addr.parse::<IpAddr>().ok()?, len.parse::<u8>().ok()?);
    let max = if addr.is_ipv4() { 32 } else { 128 };
    (len <= max).then_some((addr, len))
}

fn vfs(
    text: &Text,
    list: &Spanned<Vec<Spanned<wire::Vf>>>,
    seen: &mut Seen,
) -> Result<(Vec<VfSlot>, DeviceNames), Fault> {
    if list.value.len() > PORTS_MAX - 2 {
        let message = format!(
            "{} VFs are too many; at most {} fit",
            list.value.len(),
            PORTS_MAX - 2
        );
        return Err(text.fault(list.referenced, message));
    }
    let (mut slots, mut devices) = (Vec::new(), DeviceNames::default());
    for it in &list.value {
        let vf = &it.value;
        let port = seen.port(text, &vf.port)?;
        let (index, at) = (vf.index.value, vf.index.referenced);
        once(text, &mut seen.indices, &index, at, "index")?;
        if let Some(pci) = &vf.pci {
            let address = pci.value.to_ascii_lowercase();
            if !is_pci(&address) {
                let message = format!("`{}` is no PCI address, such as 0000:03:00.2", pci.value);
                return Err(text.fault(pci.referenced, message));
            }
            once(text, &mut seen.pci, &address, pci.referenced, "PCI address")?;
            devices.by_pci.insert(address, port.clone());
        }
        slots.push(VfSlot {
            index,
            name: port,
            mac: seen.mac(text, &vf.mac)?,
            mtu: mtu(text, &vf.mtu)?,
            vlan: vf
                .vlan
                .as_ref()
                .map(|it| within(text, it, 1..=VLAN_MAX))
                .transpose()?,
        });
    }
    Ok((slots, devices))
}

/// Domain, bus, device and function: `0000:03:00.2`.
fn is_pci(text: &str) -> bool {
    let hex = |it: &str, len: usize| it.len() == len && it.bytes().all(|it| it.is_ascii_hexdigit());
    let Some((rest, function)) = text.split_once('.') else {
        return false;
    };
    let parts: Vec<_> = rest.split(':').collect();
    matches!(parts.as_slice(), [domain, bus, device]
        if hex(domain, 4) && hex(bus, 2) && hex(device, 2) && hex(function, 1))
}

fn verdict_log(text: &Text, log: &wire::VerdictLog) -> Result<VerdictLogConfig, Fault> {
    let rate = |it: Option<&Spanned<u32>>, default| {
        it.map_or(Ok(default), |it| within(text, it, 1..=PER_SECOND_MAX))
    };
    Ok(VerdictLogConfig {
        path: log.path.as_ref().map(|it| text.resolve(it)),
        allowed: log.allowed,
        pod_per_second: rate(log.pod_per_second.as_ref(), POD_PER_SECOND)?,
        per_second: rate(log.per_second.as_ref(), PER_SECOND)?,
    })
}

fn log(log: wire::Log) -> LogConfig {
    LogConfig {
        json: log.format == wire::LogFormat::Json,
        level: match log.level {
            wire::LogLevel::Error => tracing::Level::ERROR,
            wire::LogLevel::Warn => tracing::Level::WARN,
            wire::LogLevel::Info => tracing::Level::INFO,
            wire::LogLevel::Debug => tracing::Level::DEBUG,
        },
    }
}
