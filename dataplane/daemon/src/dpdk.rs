//! Ports over DPDK. All that the daemon knows of DPDK is here.

use std::sync::Arc;

use sluice_dataplane_core::steer::frames_between;
use sluice_dpdk::devargs::Devargs;
use sluice_dpdk::device::{Device, DeviceConfig};
use sluice_dpdk::eal::{Eal, EalConfig, Memory as EalMemory};
use sluice_dpdk::lcore::Lcore;
use sluice_dpdk::pool::{Pool, PoolConfig};
use sluice_dpdk::port::{DpdkPort, PortCounters};

use crate::config::{Config, Memory, PortConfig};
use crate::ports::{DeviceLoss, Links, PortError, PortSet, Queues};

/// Frames that the worker's thread keeps at hand.
const CACHE: u32 = 256;
/// Frames that one worker has waiting for a next hop (512, and two for each port where many flood
/// together: room for some 400) or for their first fragment (512), in a burst or at hand, and a
/// margin.
const SPARE: u32 = 2048;

/// The ports of a configuration: a queue pair each for every worker.
#[derive(Debug, Default)]
pub struct DpdkPorts;

/// One worker's.
#[derive(Debug)]
pub struct DpdkQueues(Eal, Vec<DpdkPort>);

/// Devices that are up, for questions, and what their queues have counted.
#[derive(Debug)]
pub struct DpdkLinks(Vec<(Device, Vec<Arc<PortCounters>>)>);

impl PortSet for DpdkPorts {
    type Queues = DpdkQueues;
    type Links = DpdkLinks;

    fn open(self, config: &Config) -> Result<(DpdkLinks, Vec<DpdkQueues>), PortError> {
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
            queues: config.worker.count(),
            lanes: u16::from(config.lanes()),
            ..DeviceConfig::default()
        };
        let pool = PoolConfig {
            name: "sluice",
            frames: frames(config.ports.len(), &device),
            frame_len_max: config.eal.frame_bytes_max,
            cache: CACHE,
        };
        let pool = Pool::new(&eal, &pool).map_err(|error| PortError::new("DPDK", error))?;
        let mut links = Vec::new();
        let mut workers: Vec<_> = (0..device.queues).map(|_| Vec::new()).collect();
        for (port, devargs) in config.ports.iter().zip(&devargs) {
            let (up, queues) =
                Device::open(&eal, devargs, &device, &pool).map_err(|error| fault(port, error))?;
            links.push((up, queues.iter().map(DpdkPort::counters).collect()));
            for (worker, queue) in workers.iter_mut().zip(queues) {
                worker.push(queue);
            }
        }
        let workers = workers.into_iter().map(|ports| DpdkQueues(eal, ports));
        Ok((DpdkLinks(links), workers.collect()))
    }
}

impl Queues for DpdkQueues {
    type Port = DpdkPort;
    type Seat = Lcore;

    fn enter(self) -> Result<(Lcore, Vec<DpdkPort>), PortError> {
        let Self(eal, ports) = self;
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
        let lost = |(device, queues): &(Device, Vec<Arc<PortCounters>>)| {
            let stats = device.stats().unwrap_or_default();
            let device_rx = [stats.rx_missed, stats.rx_errors, stats.rx_no_frame];
            DeviceLoss {
                rx: device_rx.iter().sum::<u64>()
                    + queues.iter().map(|it| it.rx_dropped()).sum::<u64>(),
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

/// Enough for every ring of every worker to be full; a pool of one less than a power of two wastes least.
fn frames(ports: usize, device: &DeviceConfig) -> u32 {
    let rings = u32::from(device.rx_descriptors) + u32::from(device.tx_descriptors);
    let backlog = u32::try_from(device.backlog_max).unwrap_or(u32::MAX);
    let queue = rings.saturating_add(backlog);
    let all = u32::try_from(ports)
        .unwrap_or(u32::MAX)
        .saturating_mul(queue);
    // What the workers hand to each other is in rings of a worker's share.
    let workers = u32::from(device.queues);
    let handed = frames_between(usize::from(device.queues), ports);
    let handed = u32::try_from(handed).unwrap_or(u32::MAX);
    let others = workers.saturating_sub(1).saturating_mul(handed);
    let worker = all.saturating_add(SPARE).saturating_add(others);
    worker
        .saturating_mul(workers)
        .checked_next_power_of_two()
        .unwrap_or(u32::MAX)
        - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_covers_every_ring_of_every_port() {
        for (ports, queues) in [(1, 1), (2, 1), (3, 2), (32, 8), (1024, 1), (32, 32)] {
            let device = DeviceConfig {
                queues,
                ..DeviceConfig::default()
            };
            let rings = usize::from(device.rx_descriptors) + usize::from(device.tx_descriptors);
            let workers = usize::from(queues);
            let between = workers * (workers - 1) * frames_between(workers, ports);
            let need = ports * workers * (rings + device.backlog_max) + between;
            let have = frames(ports, &device);
            assert!(
                have as usize > need && (have + 1).is_power_of_two(),
                "{ports}: {have}"
            );
        }
    }
}
