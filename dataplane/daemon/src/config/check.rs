//! From what is written to what it means.

use core::time::Duration;
use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_saphyr::Spanned;
use sluice_dataplane_core::snapshot::PORTS_MAX;
use sluice_offload_api::limits::NAME_LEN_MAX;
use sluice_offload_api::model::{NodeName, PortName};

use super::statics::{node_setup, statics};
use super::{
    Config, EalSetup, Fault, Files, ListenConfig, Memory, PolicySource, PortConfig, PortRole,
    TcpConfig, Text, UnixConfig, VerdictLogConfig, key_file, wire, worker,
};

const VERDICTS_PER_SECOND_DEFAULT: u32 = 100;
const HUGEPAGES_MIB_DEFAULT: u32 = 512;
/// 1500 bytes of packet, an Ethernet header, a tag.
const FRAME_BYTES_DEFAULT: u16 = 1518;
/// The largest MTU of the contract, an Ethernet header, a tag.
const FRAME_BYTES_MAX: u16 = 9234;
const MEMORY_MIB_MAX: u32 = 65_536;
const TRANSACTION_MS_DEFAULT: u64 = 30_000;
const TRANSACTION_MS_MAX: u64 = 600_000;
/// Agents of one dataplane, at most: one, and one while its certificate changes its name.
const AGENTS_MAX: usize = 8;

pub(super) fn check(source: &Text, files: Files) -> Result<Config, Fault> {
    let file: wire::File = source.parse()?;
    let node = NodeName(name(source, &file.node)?);
    let ports = ports(source, &file.ports)?;
    let worker = worker::worker(source, &file.worker)?;
    let policy = match (file.fixed, file.listen) {
        (Some(fixed), None) => {
            if let Some(at) = &file.checkpoint {
                return Err(source.fault(at.referenced, "`checkpoint` is for `listen` only"));
            }
            let setup = node_setup(source, &node, &file.ports)?;
            PolicySource::Static(Box::new(statics(source, setup, fixed.value)?))
        }
        (None, Some(listen)) => {
            no_static_fields(source, &file.ports.value)?;
            let checkpoint = file.checkpoint.map(|path| source.resolve(&path.value));
            PolicySource::Listen(self::listen(source, listen, checkpoint, files)?)
        }
        (Some(fixed), Some(_)) => {
            let message = "`static` and `listen` exclude each other; keep one";
            return Err(source.fault(fixed.referenced, message));
        }
        (None, None) => {
            let message = "neither `static` nor `listen` is given; policy must come from somewhere";
            return Err(source.fault(file.node.referenced, message));
        }
    };
    let verdict_log = match file.verdict_log {
        None => None,
        Some(log) => Some(VerdictLogConfig {
            path: log.path.map(|path| source.resolve(&path)),
            allowed: log.allowed,
            per_second: within(
                source,
                log.per_second.as_ref(),
                VERDICTS_PER_SECOND_DEFAULT,
                1..=1_000_000,
            )?,
        }),
    };
    let node_channel = match file.node_channel {
        None => None,
        Some(it) => {
            if let PolicySource::Static(fixed) = &policy
                && !(fixed.sas.is_empty() && fixed.sa_socket.is_none())
            {
                let message = "`node_channel` agrees on keys; take `static.sas` and \
                               `static.sa_socket` out, or this";
                return Err(source.fault(it.referenced, message));
            }
            Some(super::channel::node_channel(
                source, &node, &worker, it.value,
            )?)
        }
    };
    let eal = eal(source, file.eal)?;
    Ok(Config {
        node,
        eal,
        ports,
        worker,
        source: policy,
        node_channel,
        metrics: file.metrics,
        verdict_log,
    })
}

fn eal(source: &Text, eal: Option<Spanned<wire::Eal>>) -> Result<EalSetup, Fault> {
    let Some(eal) = eal else {
        return Ok(EalSetup {
            memory: Memory::Hugepages(HUGEPAGES_MIB_DEFAULT),
            pci_allow: Vec::new(),
            frame_bytes_max: FRAME_BYTES_DEFAULT,
        });
    };
    let (at, eal) = (eal.referenced, eal.value);
    let (mib, memory) = match (eal.hugepages_mib, eal.no_huge_mib) {
        (Some(mib), None) => (mib, Memory::Hugepages(mib)),
        (None, Some(mib)) => (mib, Memory::NoHuge(mib)),
        (None, None) => (1, Memory::Hugepages(HUGEPAGES_MIB_DEFAULT)),
        (Some(_), Some(_)) => {
            return Err(source.fault(at, "give `hugepages_mib` or `no_huge_mib`, not both"));
        }
    };
    if !(1..=MEMORY_MIB_MAX).contains(&mib) {
        return Err(source.fault(at, format!("memory is from 1 to {MEMORY_MIB_MAX} MiB")));
    }
    let frame_bytes_max = within(
        source,
        eal.frame_bytes_max.as_ref(),
        FRAME_BYTES_DEFAULT,
        FRAME_BYTES_DEFAULT..=FRAME_BYTES_MAX,
    )?;
    Ok(EalSetup {
        memory,
        pci_allow: eal.pci_allow,
        frame_bytes_max,
    })
}

pub(super) fn name(source: &Text, text: &Spanned<String>) -> Result<String, Fault> {
    let it = &text.value;
    if it.is_empty() || it.len() > NAME_LEN_MAX || it.chars().any(char::is_control) {
        let message = format!("a name has 1 to {NAME_LEN_MAX} bytes of printable text");
        return Err(source.fault(text.referenced, message));
    }
    Ok(it.clone())
}

pub(super) fn within<T: PartialOrd + core::fmt::Display + Copy>(
    source: &Text,
    number: Option<&Spanned<T>>,
    default: T,
    range: core::ops::RangeInclusive<T>,
) -> Result<T, Fault> {
    match number {
        None => Ok(default),
        Some(it) if range.contains(&it.value) => Ok(it.value),
        Some(it) => {
            let (low, high) = (range.start(), range.end());
            let message = format!("{} is not from {low} to {high}", it.value);
            Err(source.fault(it.referenced, message))
        }
    }
}

fn ports(
    source: &Text,
    ports: &Spanned<Vec<Spanned<wire::Port>>>,
) -> Result<Vec<PortConfig>, Fault> {
    if ports.value.is_empty() || ports.value.len() > PORTS_MAX {
        return Err(source.fault(
            ports.referenced,
            format!("1 to {PORTS_MAX} ports are needed"),
        ));
    }
    let mut names = BTreeSet::new();
    let mut singles = BTreeSet::new();
    let mut out = Vec::new();
    for port in &ports.value {
        let port = &port.value;
        let it = name(source, &port.name)?;
        if !names.insert(it.clone()) {
            return Err(source.fault(port.name.referenced, format!("port {it} is there twice")));
        }
        let kind = match port.kind {
            wire::Kind::Vf => PortRole::Vf,
            wire::Kind::Uplink => PortRole::Uplink,
            wire::Kind::Host => PortRole::Host,
        };
        if kind != PortRole::Vf && !singles.insert(kind.name()) {
            let message = format!(
                "there is another {} port; one is all there can be",
                kind.name()
            );
            return Err(source.fault(port.name.referenced, message));
        }
        if port.device.value.trim().is_empty() {
            return Err(source.fault(port.device.referenced, "a device is needed"));
        }
        let device = port.device.value.clone();
        out.push(PortConfig {
            name: PortName(it),
            kind,
            device,
        });
    }
    Ok(out)
}

fn no_static_fields(source: &Text, ports: &[Spanned<wire::Port>]) -> Result<(), Fault> {
    let message = "with `listen` the agent gives MAC, MTU, VF, VLAN and interfaces; take it out";
    for port in ports {
        let port = &port.value;
        let numbers = [&port.mtu, &port.vf, &port.vlan].into_iter().flatten();
        let at = numbers.map(|it| it.referenced);
        let at = at.chain(port.mac.iter().map(|it| it.referenced));
        let mut at = at.chain(port.interfaces.iter().map(|it| it.referenced));
        if let Some(at) = at.next() {
            return Err(source.fault(at, message));
        }
    }
    Ok(())
}

fn listen(
    source: &Text,
    listen: Spanned<wire::Listen>,
    checkpoint: Option<PathBuf>,
    files: Files,
) -> Result<ListenConfig, Fault> {
    let wire::Listen {
        unix,
        tcp,
        transaction_ms_max,
    } = listen.value;
    if unix.is_none() && tcp.is_none() {
        return Err(source.fault(listen.referenced, "`listen` needs `unix`, `tcp` or both"));
    }
    let unix = unix.map(|it| UnixConfig {
        path: source.resolve(&it.path),
    });
    let tcp = match tcp {
        None => None,
        Some(tcp) => Some(tcp_config(source, &tcp.value, files)?),
    };
    let transaction_ms = within(
        source,
        transaction_ms_max.as_ref(),
        TRANSACTION_MS_DEFAULT,
        1..=TRANSACTION_MS_MAX,
    )?;
    let transaction_max = Duration::from_millis(transaction_ms);
    Ok(ListenConfig {
        unix,
        tcp,
        checkpoint,
        transaction_max,
    })
}

fn tcp_config(source: &Text, tcp: &wire::Tcp, files: Files) -> Result<TcpConfig, Fault> {
    let file = |path: &Spanned<PathBuf>| {
        let full = source.resolve(&path.value);
        match std::fs::metadata(&full) {
            Ok(_) => Ok(full),
            Err(_) if files == Files::MayCome => Ok(full),
            Err(error) => Err(source.fault(path.referenced, format!("can't read it: {error}"))),
        }
    };
    let agents = &tcp.agents.value;
    if agents.is_empty() || agents.len() > AGENTS_MAX {
        return Err(source.fault(
            tcp.agents.referenced,
            format!("1 to {AGENTS_MAX} names needed"),
        ));
    }
    let agents = agents
        .iter()
        .map(|it| name(source, it))
        .collect::<Result<_, _>>()?;
    let key = file(&tcp.key)?;
    if files == Files::Exist {
        key_file::check_mode(&key).map_err(|e| source.fault(tcp.key.referenced, e))?;
    }
    Ok(TcpConfig {
        address: tcp.address,
        certificate: file(&tcp.certificate)?,
        key,
        ca: file(&tcp.ca)?,
        agents,
    })
}
