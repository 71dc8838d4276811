//! Ports over DPDK. All that the daemon knows of DPDK is here.

use std::sync::Arc;

use sluice_dpdk::devargs::Devargs;
use sluice_dpdk::device::{Device, DeviceConfig};
use sluice_dpdk::eal::{Eal, EalConfig, Memory as EalMemory};
use sluice_dpdk::lcore::Lcore;
use sluice_dpdk::pool::{Pool, PoolConfig};
use sluice_dpdk::port::{DpdkPort, PortCounters};

use crate::config::{Config, Memory, PortConfig};
use crate::ports::{DeviceLoss, Links, PortError, PortSet};

/// Frames that the worker's thread keeps at hand.
const CACHE: u32 = 256;
/// Frames that wait for a next hop (64) or for their first fragment (512), or are in a
/// burst, and a margin.
const SPARE: u32 = 1024;

/// The ports of a configuration: one queue each, all of one worker.
#[derive(Debug, Default)]
pub struct DpdkPorts(Option<(Eal, Vec<DpdkPort>)>);

/// Devices that are up, for questions.
#[derive(Debug)]
pub struct DpdkLinks(Vec<(Device, Arc<PortCounters>)>);

impl PortSet for DpdkPorts {
    type Port = DpdkPort;
    type Seat = Lcore;
    type Links = DpdkLinks;

    fn open(&mut self, config: &Config) -> Result<DpdkLinks, PortError> {
        // All texts before anything is started: a process has one try with the EAL.
        let devargs: Vec<Devargs> = config
            .ports
            .iter()
            .map(|port| port.device.parse().map_err(|error| fault(port, error)))
            .collect::<Result<_, PortError>>()?;
        let eal = EalConfig {
            pci_allow: config.eal.pci_allow.clone(),
            ..EalConfig::new(match config.eal.memory {
                Memory::Hugepages(mib) => EalMemory::Hugepages { mib },
                Memory::NoHuge(mib) => EalMemory::NoHuge { mib },
            })
        };
        let eal = Eal::init(&eal).map_err(|error| PortError::new("DPDK", error))?;
        let device = DeviceConfig {
            queues: 1,
            ..DeviceConfig::default()
        };
        let pool = PoolConfig {
            name: "sluice",
            frames: frames(config.ports.len(), &device),
            frame_len_max: config.eal.frame_bytes_max,
            cache: CACHE,
        };
        let pool = Pool::new(&eal, &pool).map_err(|error| PortError::new("DPDK", error))?;
        let (mut links, mut ports) = (Vec::new(), Vec::new());
        for (port, devargs) in config.ports.iter().zip(&devargs) {
            let (up, queues) =
                Device::open(&eal, devargs, &device, &pool).map_err(|error| fault(port, error))?;
            let queue = queues.into_iter().next();
            let queue = queue.ok_or_else(|| fault(port, "it came up without a queue"))?;
            links.push((up, queue.counters()));
            ports.push(queue);
        }
        self.0 = Some((eal, ports));
        Ok(DpdkLinks(links))
    }

    fn enter(self) -> Result<(Lcore, Vec<DpdkPort>), PortError> {
        let Some((eal, ports)) = self.0 else {
            return Err(PortError::new("DPDK", "the ports were not opened"));
        };
        // The thread is bound to its core already, if it is to be.
        let seat = Lcore::enter(&eal, None).map_err(|error| PortError::new("DPDK", error))?;
        Ok((seat, ports))
    }
}

impl Links for DpdkLinks {
    fn up(&mut self) -> Vec<bool> {
        // A driver that can't say counts as down.
        self.0
            .iter()
            .map(|(device, _)| device.link().is_ok_and(|link| link.up))
            .collect()
    }

    fn lost(&mut self) -> Vec<DeviceLoss> {
        let lost = |(device, counters): &(Device, Arc<PortCounters>)| {
            let stats = device.stats().unwrap_or_default();
            let device_rx = [stats.rx_missed, stats.rx_errors, stats.rx_no_frame];
            DeviceLoss {
                rx: device_rx.iter().sum::<u64>() + counters.rx_dropped(),
                tx: stats.tx_errors,
            }
        };
        self.0.iter().map(lost).collect()
    }
}

fn fault(
    port: &PortConfig,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> PortError {
    PortError::new(format!("port {} ({})", port.name, port.device), error)
}

/// Enough for every ring to be full; a pool of one less than a power of two wastes least.
fn frames(ports: usize, device: &DeviceConfig) -> u32 {
    let rings = u32::from(device.rx_descriptors) + u32::from(device.tx_descriptors);
    let backlog = u32::try_from(device.backlog_max).unwrap_or(u32::MAX);
    let port = rings.saturating_add(backlog);
    let all = u32::try_from(ports)
        .unwrap_or(u32::MAX)
        .saturating_mul(port);
    all.saturating_add(SPARE)
        .checked_next_power_of_two()
        .unwrap_or(u32::MAX)
        - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_covers_every_ring_of_every_port() {
        let device = DeviceConfig::default();
        for ports in [1, 2, 3, 32, 1024] {
            let rings = usize::from(device.rx_descriptors) + usize::from(device.tx_descriptors);
            let need = ports * (rings + device.backlog_max);
            let have = frames(ports, &device);
            assert!(
                have as usize > need && (have + 1).is_power_of_two(),
                "{ports}: {have}"
            );
        }
    }
}
