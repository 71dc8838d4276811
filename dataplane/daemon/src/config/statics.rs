//! The static part: ports as the compiler takes them, bindings, peers, SAs with their keys.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;

use serde_saphyr::{Location, Spanned};
use sluice_crypto::esp::Spi;
use sluice_crypto::key::Algorithm;
use sluice_crypto::replay::ReplayWindow;
use sluice_dataplane_control::{Child, SaConfig};
use sluice_dataplane_core::sad::Mode;
use sluice_host_agent::cluster::{EncryptionSetup, pod_cidr};
use sluice_host_agent::compile::{HostSetup, NodeSetup, UplinkSetup};
use sluice_host_agent::vf::VfSlot;
use sluice_offload_api::limits::{MTU_MAX, MTU_MIN};
use sluice_offload_api::model::{
    Encryption, Interface, IpPrefix, MacAddr, NodeName, PodRef, PortName, SaDirection,
};

use super::check::{name, within};
use super::{Fault, STATIC_SAS_MAX, SaSocketConfig, StaticConfig, Text, key_file, wire};
use crate::keys::StaticSa;

const MTU_DEFAULT: u16 = 1500;
const IDLE_MS_MAX: u64 = 3_600_000;

pub(super) fn node_setup(
    source: &Text,
    node: &NodeName,
    ports: &Spanned<Vec<Spanned<wire::Port>>>,
) -> Result<NodeSetup, Fault> {
    let (mut uplink, mut host, mut vfs) = (None, None, Vec::new());
    for spanned in &ports.value {
        let (at, port) = (spanned.referenced, &spanned.value);
        let name = PortName(port.name.value.clone());
        let mac = mac(source, at, port.mac.as_ref())?;
        let mtu = within(source, port.mtu.as_ref(), MTU_DEFAULT, MTU_MIN..=MTU_MAX)?;
        let only = |wrong: bool, field: &str| {
            if wrong {
                return Err(source.fault(at, format!("`{field}` is not for this kind of port")));
            }
            Ok(())
        };
        only(
            port.kind != wire::Kind::Uplink && !port.interfaces.is_empty(),
            "interfaces",
        )?;
        only(port.kind != wire::Kind::Vf && port.vf.is_some(), "vf")?;
        only(port.kind != wire::Kind::Vf && port.vlan.is_some(), "vlan")?;
        match port.kind {
            wire::Kind::Uplink => {
                let interfaces = port
                    .interfaces
                    .iter()
                    .map(|it| interface(source, &it.value));
                let interfaces = interfaces.collect::<Result<_, _>>()?;
                uplink = Some(UplinkSetup {
                    name,
                    mac,
                    mtu,
                    interfaces,
                });
            }
            wire::Kind::Host => host = Some(HostSetup { name, mac, mtu }),
            wire::Kind::Vf => {
                let Some(index) = port.vf.as_ref().map(|it| it.value) else {
                    return Err(source.fault(at, "`vf`, the VF's number, is needed here"));
                };
                let vlan = port.vlan.as_ref().map(|it| it.value);
                vfs.push(VfSlot {
                    index,
                    name,
                    mac,
                    mtu,
                    vlan,
                });
            }
        }
    }
    let missing = |kind| {
        source.fault(
            ports.referenced,
            format!("static mode needs a port of kind {kind}"),
        )
    };
    Ok(NodeSetup {
        node: node.clone(),
        uplink: uplink.ok_or_else(|| missing("uplink"))?,
        host: host.ok_or_else(|| missing("host"))?,
        vfs,
        encryption: EncryptionSetup::default(),
    })
}

fn mac(source: &Text, at: Location, text: Option<&Spanned<String>>) -> Result<MacAddr, Fault> {
    let Some(text) = text else {
        return Err(source.fault(at, "`mac` is needed in static mode"));
    };
    let bytes: Vec<_> = text
        .value
        .split(':')
        .map(|it| u8::from_str_radix(it, 16))
        .collect();
    let bytes: Option<Vec<u8>> = bytes.into_iter().collect::<Result<_, _>>().ok();
    let mac = bytes
        .and_then(|it| <[u8; 6]>::try_from(it).ok())
        .map(MacAddr);
    mac.filter(|mac| mac.is_unicast()).ok_or_else(|| {
        source.fault(
            text.referenced,
            "not a unicast MAC such as 02:00:00:00:00:01",
        )
    })
}

fn interface(source: &Text, it: &wire::Interface) -> Result<Interface, Fault> {
    let parsed = it.address.value.split_once('/').and_then(|(addr, len)| {
        let (addr, len) = (addr.parse::<IpAddr>().ok()?, len.parse::<u8>().ok()?);
        (len <= if addr.is_ipv4() { 32 } else { 128 }).then_some((addr, len))
    });
    let Some((addr, prefix_len)) = parsed else {
        let message = "not an address with a prefix length such as 192.0.2.1/24";
        return Err(source.fault(it.address.referenced, message));
    };
    Ok(Interface {
        addr,
        prefix_len,
        gateway: it.gateway,
    })
}

pub(super) fn statics(
    source: &Text,
    setup: NodeSetup,
    it: wire::Static,
) -> Result<StaticConfig, Fault> {
    let setup = NodeSetup {
        encryption: encryption(source, it.encryption.as_ref())?,
        ..setup
    };
    let mut pods = Vec::new();
    let (mut taken, mut bound) = (BTreeSet::new(), BTreeSet::new());
    for entry in &it.pods {
        let wire::Pod { pod, port } = &entry.value;
        let Some((namespace, name)) = pod.value.split_once('/') else {
            return Err(source.fault(pod.referenced, "a pod is `namespace/name`"));
        };
        if !setup.vfs.iter().any(|slot| slot.name.0 == port.value) {
            let message = format!("there is no port {} of kind vf", port.value);
            return Err(source.fault(port.referenced, message));
        }
        if !taken.insert(&port.value) {
            return Err(source.fault(port.referenced, "another pod has this port"));
        }
        if !bound.insert(&pod.value) {
            return Err(source.fault(pod.referenced, "this pod has another port already"));
        }
        let pod = PodRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        pods.push((pod, PortName(port.value.clone())));
    }
    let mut peers = Vec::new();
    for peer in &it.peers {
        let wire::Peer { node, tunnel_ips } = &peer.value;
        let node = NodeName(name(source, node)?);
        if node == setup.node {
            return Err(source.fault(peer.value.node.referenced, "this is the node itself"));
        }
        if tunnel_ips.is_empty() {
            return Err(source.fault(peer.referenced, "a peer needs `tunnel_ips`"));
        }
        peers.push((node, tunnel_ips.clone()));
    }
    let pod_cidrs = pod_cidrs(source, &it.pod_cidrs, &setup.uplink.interfaces)?;
    Ok(StaticConfig {
        setup,
        manifests: source.resolve(&it.manifests.value),
        pod_cidrs,
        pods,
        peers,
        sas: match &it.sas {
            None => Vec::new(),
            Some(it) => sas(source, it)?,
        },
        sa_socket: it.sa_socket.as_ref().map(|it| SaSocketConfig {
            path: source.resolve(&it.value.path),
            used_keys: source.resolve(&it.value.used_keys),
        }),
        exit_when_idle: match it.exit_when_idle {
            None => None,
            Some(it) if (1..=IDLE_MS_MAX).contains(&it.value.after_ms) => {
                Some(Duration::from_millis(it.value.after_ms))
            }
            Some(it) => {
                let message = format!("`after_ms` is from 1 to {IDLE_MS_MAX}");
                return Err(source.fault(it.referenced, message));
            }
        },
    })
}

/// What the agent's file says of pods' addresses where there is an agent.
fn pod_cidrs(
    source: &Text,
    texts: &[Spanned<String>],
    interfaces: &[Interface],
) -> Result<BTreeSet<IpPrefix>, Fault> {
    let mut all = BTreeSet::new();
    for text in texts {
        let cidr = pod_cidr(&text.value, interfaces)
            .map_err(|error| source.fault(text.referenced, format!("`pod_cidrs`: {error}")))?;
        if !all.insert(cidr) {
            let message = format!("`pod_cidrs` has {cidr} already");
            return Err(source.fault(text.referenced, message));
        }
    }
    Ok(all)
}

/// What the agent's file says of encryption where there is an agent.
fn encryption(
    source: &Text,
    it: Option<&Spanned<wire::Encryption>>,
) -> Result<EncryptionSetup, Fault> {
    let Some(it) = it else {
        return Ok(EncryptionSetup::default());
    };
    let wire::Encryption {
        default,
        loosest,
        unprotected_nodes,
    } = &it.value;
    let setting = |field: &str, text: &Option<Spanned<String>>| {
        let Some(text) = text else { return Ok(None) };
        let parsed = text.value.parse::<Encryption>();
        let fault = |error| source.fault(text.referenced, format!("`encryption.{field}`: {error}"));
        parsed.map(Some).map_err(fault)
    };
    let default = setting("default", default)?.unwrap_or_default();
    let loosest = setting("loosest", loosest)?;
    let mut unprotected = BTreeSet::new();
    for node in unprotected_nodes {
        if !unprotected.insert(NodeName(name(source, node)?)) {
            let message = "`encryption.unprotected_nodes` has this node already";
            return Err(source.fault(node.referenced, message));
        }
    }
    let setup = EncryptionSetup::new(default, loosest, unprotected);
    setup.map_err(|error| source.fault(it.referenced, format!("`encryption.loosest`: {error}")))
}

/// Reads SAs and their keys. A receiving SA is found by its SPI alone, a sending one by its
/// peer, so neither may be there twice; and no key may be there twice at all, since both
/// would seal under the same nonces.
fn sas(source: &Text, sas: &Spanned<Vec<Spanned<wire::Sa>>>) -> Result<Vec<StaticSa>, Fault> {
    if sas.value.len() > STATIC_SAS_MAX {
        return Err(source.fault(sas.referenced, format!("at most {STATIC_SAS_MAX} SAs")));
    }
    let (mut inbound, mut outbound) = (BTreeSet::new(), BTreeSet::new());
    let mut out: Vec<StaticSa> = Vec::new();
    for entry in &sas.value {
        let sa = &entry.value;
        let peer = NodeName(name(source, &sa.peer)?);
        let spi = Spi::new(sa.spi.value).map_err(|e| source.fault(sa.spi.referenced, e))?;
        let direction = match sa.direction {
            wire::Direction::Inbound if !inbound.insert(sa.spi.value) => {
                let message = format!("SPI {} is another receiving SA's", sa.spi.value);
                return Err(source.fault(sa.spi.referenced, message));
            }
            wire::Direction::Outbound if !outbound.insert(&sa.peer.value) => {
                let message = format!("there is another sending SA to {peer}");
                return Err(source.fault(sa.peer.referenced, message));
            }
            wire::Direction::Inbound => SaDirection::Inbound,
            wire::Direction::Outbound => SaDirection::Outbound,
        };
        if direction == SaDirection::Outbound
            && let Some(window) = &sa.window
        {
            return Err(source.fault(window.referenced, "`window` is for receiving SAs only"));
        }
        let algorithm: Algorithm = sa
            .algorithm
            .value
            .parse()
            .map_err(|e| source.fault(sa.algorithm.referenced, e))?;
        let path = source.resolve(&sa.key_file.value);
        let key = key_file::read(&path, algorithm)
            .map_err(|e| source.fault(sa.key_file.referenced, e))?;
        if out.iter().any(|other| other.config.key.same_keymat(&key)) {
            let message = "another SA has this key; its nonces would repeat: each needs its own";
            return Err(source.fault(sa.key_file.referenced, message));
        }
        let window = sa
            .window
            .as_ref()
            .map_or(ReplayWindow::DEFAULT, |it| it.value);
        if let Some(at) = &sa.window {
            ReplayWindow::new(window).map_err(|e| source.fault(at.referenced, e))?;
        }
        let config = SaConfig {
            spi,
            key,
            esn: sa.esn,
            window,
            udp_encap: sa.udp_encap,
            child: Child::ONLY,
            mode: mode(source, sa)?,
        };
        out.push(StaticSa {
            peer,
            direction,
            config,
            key_file: path,
        });
    }
    Ok(out)
}

/// Tunnel mode, or transport mode with the pod that it is for.
fn mode(source: &Text, sa: &wire::Sa) -> Result<Mode, Fault> {
    match (sa.mode, &sa.pod) {
        (wire::SaMode::Tunnel, None) => Ok(Mode::Tunnel),
        (wire::SaMode::Transport, Some(pod)) => Ok(Mode::Transport {
            pod: pod.value.into(),
        }),
        (wire::SaMode::Tunnel, Some(pod)) => {
            Err(source.fault(pod.referenced, "`pod` is for `mode: transport` only"))
        }
        (wire::SaMode::Transport, None) => Err(source.fault(
            sa.peer.referenced,
            "`mode: transport` is between the peer and one pod: give `pod`, its address",
        )),
    }
}
