//! A device: asked for by its devargs, up or an error, its queues handed out as ports.
//!
//! ```text
//! Eal::init ──► Pool::new ──► Device::open ──► (Device, one DpdkPort a queue) ──► Worker
//! ```
//!
//! The device stays up while the [`Device`] or one of its ports is there. The last to be
//! dropped stops and closes it and frees its name.

use core::ffi::CStr;
use core::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_dataplane_core::addr::Mac;
use sluice_dpdk_sys as sys;

use crate::devargs::Devargs;
use crate::eal::Eal;
use crate::errno::{Errno, check};
use crate::pool::Pool;
use crate::port::DpdkPort;

/// Ports of all devices of a process, at most: Debian builds DPDK for 32.
pub const PORTS_MAX: u32 = sys::RTE_MAX_ETHPORTS;

/// How a device is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceConfig {
    /// Queue pairs, each a [`DpdkPort`].
    pub queues: u16,
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

/// What the driver counted since the device came up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceStats {
    /// Frames received.
    pub rx: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that the device lost because nobody took them.
    pub rx_missed: u64,
    /// Frames received broken.
    pub rx_errors: u64,
    /// Frames lost because the pool was dry.
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

/// DPDK's control side is for one thread at a time.
static CONTROL: Mutex<()> = Mutex::new(());

fn control() -> MutexGuard<'static, ()> {
    // It guards no data, so a panic in another thread left none half changed.
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `ENOTSUP` on every Linux: the driver has no such operation.
const UNSUPPORTED: i32 = 95;

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
        let open = OpenPort::probe(*up, devargs)?;
        {
            let _alone = control();
            open.set_up(config, pool)
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

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.open.name
    }

    /// Its MAC.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn mac(&self) -> Result<Mac, DeviceError> {
        let _alone = control();
        let mut mac = sys::rte_ether_addr::default();
        // SAFETY: the port is open (self); `mac` is written to while borrowed.
        let returned = unsafe { sys::rte_eth_macaddr_get(self.open.id, &raw mut mac) };
        self.said("the MAC", returned)?;
        Ok(Mac(mac.addr_bytes))
    }

    /// Its MTU in bytes, as the driver has it.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn mtu(&self) -> Result<u16, DeviceError> {
        let _alone = control();
        let mut mtu = 0;
        // SAFETY: the port is open (self); `mtu` is written to while borrowed.
        let returned = unsafe { sys::rte_eth_dev_get_mtu(self.open.id, &raw mut mtu) };
        self.said("the MTU", returned)?;
        Ok(mtu)
    }

    /// Its link now.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn link(&self) -> Result<Link, DeviceError> {
        let _alone = control();
        let mut link = sys::rte_eth_link::default();
        // SAFETY: the port is open (self); `link` is written to while borrowed.
        let returned = unsafe { sys::rte_eth_link_get_nowait(self.open.id, &raw mut link) };
        self.said("the link", returned)?;
        Ok(Link {
            up: link.link_status() != 0,
            speed_mbps: link.link_speed,
        })
    }

    /// Its counters.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn stats(&self) -> Result<DeviceStats, DeviceError> {
        let _alone = control();
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: the port is open (self); `stats` is written to while borrowed.
        let returned = unsafe { sys::rte_eth_stats_get(self.open.id, &raw mut stats) };
        self.said("the counters", returned)?;
        Ok(DeviceStats {
            rx: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
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
            name: self.open.name.clone(),
            errno,
        })
    }
}

/// A port of DPDK's that this process opened; closed when dropped.
#[derive(Debug)]
pub(crate) struct OpenPort {
    id: u16,
    name: String,
}

impl OpenPort {
    pub(crate) const fn id(&self) -> u16 {
        self.id
    }

    fn probe(_up: Eal, devargs: &Devargs) -> Result<Self, OpenError> {
        let _alone = control();
        let name = devargs.name().to_owned();
        if !ports_of(&name).is_empty() {
            return Err(OpenError::AlreadyOpen {
                devargs: devargs.to_string(),
                name,
            });
        }
        // SAFETY: the EAL is up (the argument), nobody else is in the control side (the
        // lock); DPDK copies the NUL-terminated text.
        let returned = unsafe { sys::rte_dev_probe(devargs.as_c_str().as_ptr()) };
        check(returned).map_err(|errno| OpenError::Probe {
            devargs: devargs.to_string(),
            errno,
        })?;
        // A driver can say yes and bring nothing: look for the port itself.
        let ports = ports_of(&name);
        if let [id] = ports[..] {
            return Ok(Self { id, name });
        }
        for id in &ports {
            close(*id);
        }
        Err(OpenError::PortCount {
            devargs: devargs.to_string(),
            ports: ports.len(),
        })
    }

    fn set_up(&self, config: &DeviceConfig, pool: &Pool) -> Result<(), (&'static str, Errno)> {
        let step = |name, returned| check(returned).map_err(|errno| (name, errno));
        let id = self.id;
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(config.mtu.unwrap_or(0));
        // SAFETY: the port is open and not started, nobody else is in the control side;
        // `conf` is copied.
        let returned = unsafe {
            sys::rte_eth_dev_configure(id, config.queues, config.queues, &raw const conf)
        };
        step("setting queues and MTU", returned)?;
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: the port is open; both numbers are written to while borrowed.
        let returned =
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &raw mut rx, &raw mut tx) };
        step("choosing descriptors", returned)?;
        for queue in 0..config.queues {
            // SAFETY: the port is configured with that queue and not started; no
            // configuration means the driver's own; the pool is never freed.
            let returned = unsafe {
                sys::rte_eth_rx_queue_setup(id, queue, rx, ANY_SOCKET, ptr::null(), pool.as_ptr())
            };
            step("setting up a receive queue", returned)?;
            // SAFETY: as for the receive queue.
            let returned =
                unsafe { sys::rte_eth_tx_queue_setup(id, queue, tx, ANY_SOCKET, ptr::null()) };
            step("setting up a transmit queue", returned)?;
        }
        if let Some(mtu) = config.mtu {
            // SAFETY: the port is configured.
            let returned = unsafe { sys::rte_eth_dev_set_mtu(id, mtu) };
            // A driver without the operation took the number in the configuration.
            if returned != -UNSUPPORTED {
                step("setting the MTU", returned)?;
            }
        }
        // SAFETY: the port and all its queues are set up.
        step("starting it", unsafe { sys::rte_eth_dev_start(id) })?;
        let returned = if config.promiscuous {
            // SAFETY: the port is open.
            unsafe { sys::rte_eth_promiscuous_enable(id) }
        } else {
            // SAFETY: the port is open.
            unsafe { sys::rte_eth_promiscuous_disable(id) }
        };
        // A driver without the operation has no filter: it delivers everything.
        if returned != -UNSUPPORTED {
            step("setting promiscuous mode", returned)?;
        }
        Ok(())
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        let _alone = control();
        close(self.id);
    }
}

#[allow(
    clippy::cast_sign_loss,
    reason = "DPDK's own way to say any: all bits set"
)]
const ANY_SOCKET: u32 = sys::SLUICE_SOCKET_ANY as u32;

/// The ports that a device of this name has. The caller is alone in the control side.
fn ports_of(device: &str) -> Vec<u16> {
    let mut found = Vec::new();
    let mut next = 0;
    for _ in 0..PORTS_MAX {
        // SAFETY: only reads DPDK's table of ports; any number may be asked for.
        let id = unsafe { sys::rte_eth_find_next(next) };
        if u32::from(id) >= PORTS_MAX {
            break;
        }
        if device_of(id).is_some_and(|d| name_of(d) == device.as_bytes()) {
            found.push(id);
        }
        next = id + 1;
    }
    found
}

/// The device that a port belongs to.
fn device_of(id: u16) -> Option<ptr::NonNull<sys::rte_device>> {
    let mut info = sys::rte_eth_dev_info::default();
    // SAFETY: DPDK checks the number; `info` is written to while borrowed.
    let returned = unsafe { sys::rte_eth_dev_info_get(id, &raw mut info) };
    if returned != 0 {
        return None;
    }
    ptr::NonNull::new(info.device)
}

fn name_of(device: ptr::NonNull<sys::rte_device>) -> Vec<u8> {
    // SAFETY: the device has an open port, so it is there (callers).
    let name = unsafe { sys::rte_dev_name(device.as_ptr()) };
    if name.is_null() {
        return Vec::new();
    }
    // SAFETY: a NUL-terminated name that lives as long as the device; copied at once.
    unsafe { CStr::from_ptr(name) }.to_bytes().to_vec()
}

/// Stops a port and gives back all that it has. What fails here is in DPDK's log; there is
/// nothing left to do about it. The caller is alone in the control side, and nobody uses a
/// queue of the port.
fn close(id: u16) {
    let device = device_of(id);
    // SAFETY: the port is open; nobody is in its queues (callers).
    let _ = unsafe { sys::rte_eth_dev_stop(id) };
    // SAFETY: the port is open and stopped.
    let _ = unsafe { sys::rte_eth_dev_close(id) };
    if let Some(device) = device {
        // SAFETY: the device was there with its port, and only this call takes it away.
        let _ = unsafe { sys::rte_dev_remove(device.as_ptr()) };
    }
}
