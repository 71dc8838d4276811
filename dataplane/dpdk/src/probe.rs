//! How a device comes up and goes away: DPDK's control side.

use core::ffi::{CStr, c_void};
use core::ptr;
use std::ffi::CString;
use std::fs::File;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sluice_dataplane_core::lane::KEY;
use sluice_dataplane_core::port::BURST_MAX;
use sluice_dpdk_sys as sys;

use crate::devargs::Devargs;
use crate::device::{DeviceConfig, OpenError, PORTS_MAX};
use crate::driver;
use crate::eal::Eal;
use crate::errno::{Errno, check};
use crate::packet_sockets::{Before, PacketSockets};
use crate::pool::Pool;
use crate::port::BURST;

/// DPDK's control side is for one thread at a time.
static CONTROL: Mutex<()> = Mutex::new(());

pub(crate) fn control() -> MutexGuard<'static, ()> {
    // It guards no data, so a panic in another thread left none half changed.
    CONTROL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `ENOTSUP` on every Linux: the driver has no such operation.
const UNSUPPORTED: i32 = 95;

/// Looks for what a virtual device stands on: DPDK would only say that it can't be had.
pub(crate) fn look_for_ground(devargs: &Devargs) -> Result<(), OpenError> {
    let Some(driver) = driver::of(devargs.name()) else {
        return Ok(());
    };
    for (key, value) in devargs.arguments() {
        if driver.interfaces.contains(&key) && !is_interface(value) {
            return Err(OpenError::NoInterface {
                devargs: devargs.to_string(),
                interface: value.to_owned(),
            });
        }
        if driver.files.contains(&key) {
            File::open(value).map_err(|source| OpenError::NoFile {
                devargs: devargs.to_string(),
                path: value.to_owned(),
                source,
            })?;
        }
    }
    Ok(())
}

fn is_interface(name: &str) -> bool {
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: a NUL-terminated string, read during the call.
    let index = unsafe { sys::sluice_interface_index(name.as_ptr()) };
    index != 0
}

/// A port of DPDK's that this process opened; closed when dropped.
#[derive(Debug)]
pub(crate) struct OpenPort {
    id: u16,
    name: String,
    /// Queue pairs that are in operation: none before the start.
    queues: u16,
    tx_len_max: u32,
    sockets: Mutex<PacketSockets>,
}

impl OpenPort {
    /// The device's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the longest frame that the driver sends.
    pub(crate) const fn tx_len_max(&self) -> u32 {
        self.tx_len_max
    }

    /// Frames that the kernel dropped and the driver doesn't know of.
    pub(crate) fn kernel_drops(&self) -> u64 {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.dropped()
    }

    /// DPDK's number of the port.
    pub(crate) const fn id(&self) -> u16 {
        self.id
    }

    /// Queue pairs that it can have, at most; 0 if it doesn't say. The caller is alone in the
    /// control side.
    pub(crate) fn queues_max(&self) -> u16 {
        // SAFETY: the port is open (self).
        unsafe { sys::sluice_queue_pairs_max(self.id) }
    }

    /// Asks DPDK for the device; it has to bring exactly one port.
    pub(crate) fn probe(_up: Eal, devargs: &Devargs) -> Result<Self, OpenError> {
        let _alone = control();
        let name = devargs.name().to_owned();
        if !ports_of(&name).is_empty() {
            return Err(OpenError::AlreadyOpen {
                devargs: devargs.to_string(),
                name,
            });
        }
        let sockets = Before::now();
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
            return Ok(Self {
                id,
                name,
                queues: 0,
                tx_len_max: u32::MAX,
                sockets: Mutex::new(sockets.came_since()),
            });
        }
        for id in &ports {
            close(*id);
        }
        Err(OpenError::PortCount {
            devargs: devargs.to_string(),
            ports: ports.len(),
        })
    }

    /// Configures its queues and starts it: what failed, and why.
    pub(crate) fn set_up(
        &mut self,
        config: &DeviceConfig,
        pool: &Pool,
    ) -> Result<(), (&'static str, Errno)> {
        let step = |name, returned| check(returned).map_err(|errno| (name, errno));
        let id = self.id;
        let mtu = u32::from(config.mtu.unwrap_or(0));
        // SAFETY: the port is open and not started, nobody else is in the control side; the
        // key has the length that the shim says, and is copied.
        let returned =
            unsafe { sys::sluice_configure(id, config.queues, mtu, SPREAD_KEY.as_ptr()) };
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
        let lanes = config.lanes.max(config.queues);
        // SAFETY: the port is open and started; the key as above.
        let returned = unsafe { sys::sluice_spread(id, config.queues, lanes, SPREAD_KEY.as_ptr()) };
        // A driver without the table spreads as it does: the workers hand over what it brings
        // elsewhere.
        if returned != -UNSUPPORTED {
            step("spreading flows over queues", returned)?;
        }
        self.queues = config.queues;
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

    /// Learns how long a frame may be that the device sends. The caller is alone in the
    /// control side.
    pub(crate) fn limit(&mut self, devargs: &Devargs) -> Result<(), (&'static str, Errno)> {
        let mtu = self.mtu().map_err(|errno| ("reading the MTU", errno))?;
        self.tx_len_max = driver::tx_len_max(devargs, mtu);
        Ok(())
    }

    /// The MTU as the driver has it. The caller is alone in the control side.
    pub(crate) fn mtu(&self) -> Result<u16, Errno> {
        let mut mtu = 0;
        // SAFETY: the port is open (self); `mtu` is written to while borrowed.
        let returned = unsafe { sys::rte_eth_dev_get_mtu(self.id, &raw mut mtu) };
        check(returned).map(|()| mtu)
    }
}

/// The key by which a card spreads flows, as the lanes are (`core::lane::KEY`), over and over.
const SPREAD_KEY: [u8; sys::SLUICE_RSS_KEY_LEN as usize] = {
    let [high, low] = KEY.to_be_bytes();
    let mut key = [high; sys::SLUICE_RSS_KEY_LEN as usize];
    let mut at = 1;
    while at < key.len() {
        key[at] = low;
        at += 2;
    }
    key
};

/// Frames that a `net_ring` holds, at most.
const RING_FRAMES_MAX: usize = 1024;

impl Drop for OpenPort {
    fn drop(&mut self) {
        let _alone = control();
        if self.name.starts_with("net_ring") {
            self.empty_rings();
        }
        if self.name.starts_with("net_memif") {
            return close_on_interrupt_thread(self.id);
        }
        close(self.id);
    }
}

impl OpenPort {
    /// The ring's driver frees a ring with the frames that are still in it; they would be
    /// lost to their pool.
    fn empty_rings(&self) {
        for queue in 0..self.queues {
            for _ in 0..RING_FRAMES_MAX.div_ceil(BURST_MAX) {
                if !self.discard_burst(queue) {
                    break;
                }
            }
        }
    }

    /// Whether there was a frame.
    fn discard_burst(&self, queue: u16) -> bool {
        let mut burst = [ptr::null_mut(); BURST_MAX];
        let frames = burst.as_mut_ptr();
        // SAFETY: `frames` has room for BURST pointers; the device is started; nobody else
        // uses the queue (its port held this open, and is gone).
        let n = unsafe { sys::sluice_rx_burst(self.id, queue, frames, BURST) };
        for raw in burst.into_iter().take(usize::from(n)) {
            // SAFETY: the first n pointers are mbufs that the driver gave up to us.
            unsafe { sys::sluice_mbuf_free(raw) }
        }
        n != 0
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

/// What the interrupt thread is asked to close, and whom to tell.
struct Closing {
    id: u16,
    done: SyncSender<()>,
}

/// Closes a port of `net_memif`. DPDK's interrupt thread handles what its peer says, also that
/// it goes away, with no lock against closing: both would free the same connection. So the
/// port is closed on that thread.
fn close_on_interrupt_thread(id: u16) {
    let (done, told) = mpsc::sync_channel(1);
    let closing = Box::into_raw(Box::new(Closing { id, done }));
    // SAFETY: the callback takes the box over and is called once, on a thread of DPDK's.
    let refused = unsafe { sys::rte_eal_alarm_set(1, Some(close_now), closing.cast()) };
    if refused == 0 {
        // It comes: the thread lives as long as the process.
        let _ = told.recv();
        return;
    }
    // SAFETY: refused, so the box is still ours.
    drop(unsafe { Box::from_raw(closing) });
    close(id);
}

unsafe extern "C" fn close_now(closing: *mut c_void) {
    // SAFETY: made by `close_on_interrupt_thread` for this call, which owns it now.
    let closing = unsafe { Box::from_raw(closing.cast::<Closing>()) };
    // Who asked is alone in the control side, and waits.
    close(closing.id);
    let _ = closing.done.send(());
}
