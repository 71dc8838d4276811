//! A device: asked for by its devargs, up or an error, its queues handed out as ports.
//!
//! ```text
//! Eal::init ──► Pool::new ──► Device::open ──► (Device, one DpdkPort a queue) ──► Worker
//! ```
//!
//! The device stays up while the [`Device`] or one of its ports is there. The last to be
//! dropped stops and closes it and frees its name.

use std::sync::Arc;

use sluice_dataplane_core::addr::Mac;
use sluice_dpdk_sys as sys;

use crate::devargs::Devargs;
use crate::eal::Eal;
use crate::errno::{Errno, check};
use crate::pool::Pool;
use crate::port::DpdkPort;
use crate::probe::{OpenPort, control, look_for_ground};

/// Ports of all devices of a process, at most: Debian builds DPDK for 32.
pub const PORTS_MAX: u32 = sys::RTE_MAX_ETHPORTS;

/// How a device is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceConfig {
    /// Queue pairs, each a [`DpdkPort`].
    pub queues: u16,
    /// Lanes that a card spreads flows by, onto the queue lane modulo queues; at least as many
    /// as queues count.
    pub lanes: u16,
    /// Descriptors of a receive queue; the driver may round.
    pub rx_descriptors: u16,
    /// Descriptors of a transmit queue; the driver may round.
    pub tx_descriptors: u16,
    /// The largest IP packet in bytes. `None` leaves it to the driver and, behind it, the
    /// kernel. Some drivers (`net_af_packet`, `net_memif`) take no more than 1500 here,
    /// though they pass what the interface has.
    pub mtu: Option<u16>,
    /// Frames for other stations too; a driver without a filter delivers them anyway.
    pub promiscuous: bool,
    /// Frames that wait in a port for the driver to take them, at most.
    pub backlog_max: usize,
}

impl Default for DeviceConfig {
    /// One queue of 512 descriptors, promiscuous.
    fn default() -> Self {
        Self {
            queues: 1,
            lanes: 1,
            rx_descriptors: 512,
            tx_descriptors: 512,
            mtu: None,
            promiscuous: true,
            backlog_max: 256,
        }
    }
}

/// A device did not come up. Nothing of it is left open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A device of this name is open.
    #[error("the device {devargs} was asked for, but {name} is open already")]
    AlreadyOpen {
        /// What was asked for.
        devargs: String,
        /// The name that is taken.
        name: String,
    },
    /// The network interface that it stands on isn't in this thread's namespace.
    #[error("the device {devargs} was asked for, but there is no network interface {interface:?}")]
    NoInterface {
        /// What was asked for.
        devargs: String,
        /// The interface.
        interface: String,
    },
    /// A file that it reads can't be read.
    #[error("the device {devargs} was asked for, but {path:?} can't be read: {source}")]
    NoFile {
        /// What was asked for.
        devargs: String,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// No driver takes it, or its driver can't.
    #[error("the device {devargs} was asked for and did not come up: {errno}")]
    Probe {
        /// What was asked for.
        devargs: String,
        /// Why.
        errno: Errno,
    },
    /// The driver says that it came up, with no port or with several.
    #[error("the device {devargs} was asked for and came up with {ports} ports, not 1")]
    PortCount {
        /// What was asked for.
        devargs: String,
        /// Its ports.
        ports: usize,
    },
    /// It has fewer queues than there are to be.
    #[error(
        "the device {devargs} has {most} queue pairs where {wanted} are needed, one for each \
         worker; ask for more in its devargs (net_af_packet: qpairs={wanted}), or take fewer \
         workers"
    )]
    Queues {
        /// What was asked for.
        devargs: String,
        /// Queue pairs needed.
        wanted: u16,
        /// Queue pairs there are.
        most: u16,
    },
    /// It came up, but can't be used as configured.
    #[error("the device {devargs} came up, but {step} failed: {errno}")]
    Setup {
        /// What was asked for.
        devargs: String,
        /// What failed.
        step: &'static str,
        /// Why.
        errno: Errno,
    },
}

/// What the link says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Whether frames can pass, as far as the driver knows: `net_af_packet` always says yes.
    pub up: bool,
    /// Its speed in Mbit/s; virtual devices make one up.
    pub speed_mbps: u32,
}

/// How a device spreads what it receives over its queues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spread {
    /// The key of the Toeplitz hash.
    pub key: Vec<u8>,
    /// The queue of each hash from 0 on.
    pub queues: Vec<u16>,
}

/// What the driver counted since the device came up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceStats {
    /// Frames received.
    pub rx: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that the device, or the kernel before `net_af_packet`, lost because nobody took
    /// them.
    pub rx_missed: u64,
    /// Frames received broken.
    pub rx_errors: u64,
    /// Times that the pool was dry. `net_af_packet` doesn't count them: its frames wait in
    /// the kernel.
    pub rx_no_frame: u64,
    /// Frames sent.
    pub tx: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames that the driver took and could not send: they are lost.
    pub tx_errors: u64,
}

/// A question that the driver refused.
#[derive(Debug, thiserror::Error)]
#[error("{what} of the device {name}: {errno}")]
pub struct DeviceError {
    /// What was asked.
    pub what: &'static str,
    /// The device.
    pub name: String,
    /// Why.
    pub errno: Errno,
}

/// A device that is up.
#[derive(Debug)]
pub struct Device {
    open: Arc<OpenPort>,
}

impl Device {
    /// Asks for a device, configures and starts it. It has to come up with exactly one port.
    ///
    /// `net_af_packet`, `net_af_xdp` and `net_tap` work in the network namespace of the
    /// calling thread, also in later calls that change an interface.
    ///
    /// # Errors
    /// [`OpenError`] names the devargs; nothing of the device is left.
    pub fn open(
        up: &Eal,
        devargs: &Devargs,
        config: &DeviceConfig,
        pool: &Pool,
    ) -> Result<(Self, Vec<DpdkPort>), OpenError> {
        look_for_ground(devargs)?;
        let mut open = OpenPort::probe(*up, devargs)?;
        {
            let _alone = control();
            let most = open.queues_max();
            if most < config.queues && most > 0 {
                return Err(OpenError::Queues {
                    devargs: devargs.to_string(),
                    wanted: config.queues,
                    most,
                });
            }
            open.set_up(config, pool)
                .and_then(|()| open.limit(devargs))
                .map_err(|(step, errno)| OpenError::Setup {
                    devargs: devargs.to_string(),
                    step,
                    errno,
                })?;
        }
        let open = Arc::new(open);
        let ports = (0..config.queues)
            .map(|queue| DpdkPort::new(Arc::clone(&open), queue, *pool, config.backlog_max))
            .collect();
        Ok((Self { open }, ports))
    }

    /// Opens a device of one queue for each of the devargs, in order.
    ///
    /// # Errors
    /// [`OpenError`] of the first that doesn't come up; those before it are closed again.
    pub fn open_all(
        up: &Eal,
        devargs: &[Devargs],
        config: &DeviceConfig,
        pool: &Pool,
    ) -> Result<(Vec<Self>, Vec<DpdkPort>), OpenError> {
        let one_queue = DeviceConfig {
            queues: 1,
            ..*config
        };
        let (mut devices, mut ports) = (Vec::new(), Vec::new());
        for each in devargs {
            let (device, queues) = Self::open(up, each, &one_queue, pool)?;
            devices.push(device);
            ports.extend(queues);
        }
        Ok((devices, ports))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.open.name()
    }

    /// Its MAC.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn mac(&self) -> Result<Mac, DeviceError> {
        let _alone = control();
        let mut mac = sys::rte_ether_addr::default();
        // SAFETY: the port is open (self); `mac` is written to while borrowed.
        let returned = unsafe { sys::rte_eth_macaddr_get(self.open.id(), &raw mut mac) };
        self.said("the MAC", returned)?;
        Ok(Mac(mac.addr_bytes))
    }

    /// Its MTU in bytes, as the driver has it.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn mtu(&self) -> Result<u16, DeviceError> {
        let _alone = control();
        self.open.mtu().map_err(|errno| DeviceError {
            what: "the MTU",
            name: self.open.name().to_owned(),
            errno,
        })
    }

    /// Its link now.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn link(&self) -> Result<Link, DeviceError> {
        let _alone = control();
        let mut link = sys::rte_eth_link::default();
        // SAFETY: the port is open (self); `link` is written to while borrowed.
        let returned = unsafe { sys::rte_eth_link_get_nowait(self.open.id(), &raw mut link) };
        self.said("the link", returned)?;
        Ok(Link {
            up: link.link_status() != 0,
            speed_mbps: link.link_speed,
        })
    }

    /// How it spreads what it receives: the queue of each hash below `hashes`.
    ///
    /// # Errors
    /// [`DeviceError`]: also if its driver has one queue, or no table of that size.
    pub fn spread(&self, hashes: u16) -> Result<Spread, DeviceError> {
        let _alone = control();
        let mut key = vec![0; sys::SLUICE_RSS_KEY_LEN as usize];
        let mut queues = vec![0; usize::from(hashes)];
        let mut key_len = 0;
        // SAFETY: the port is open (self); all three are written to while borrowed, the key
        // up to the length that the shim says and the queues up to their number.
        let returned = unsafe {
            sys::sluice_spreads(
                self.open.id(),
                key.as_mut_ptr(),
                &raw mut key_len,
                queues.as_mut_ptr(),
                hashes,
            )
        };
        self.said("how it spreads", returned)?;
        key.truncate(usize::from(key_len));
        Ok(Spread { key, queues })
    }

    /// Its counters.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn stats(&self) -> Result<DeviceStats, DeviceError> {
        let _alone = control();
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: the port is open (self); `stats` is written to while borrowed.
        let returned = unsafe { sys::rte_eth_stats_get(self.open.id(), &raw mut stats) };
        self.said("the counters", returned)?;
        Ok(DeviceStats {
            rx: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed + self.open.kernel_drops(),
            rx_errors: stats.ierrors,
            rx_no_frame: stats.rx_nombuf,
            tx: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        })
    }

    fn said(&self, what: &'static str, returned: i32) -> Result<(), DeviceError> {
        check(returned).map_err(|errno| DeviceError {
            what,
            name: self.open.name().to_owned(),
            errno,
        })
    }
}
