//! What the kernel dropped before `net_af_packet` could take it: the driver of 22.11 doesn't
//! say. Its sockets know, and they are ours to ask, being this process's.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use sluice_dpdk_sys as sys;

/// The packet sockets of one device. They share its sockets with the driver: drop them with
/// the device, or the kernel goes on filling rings that nobody empties.
#[derive(Debug, Default)]
pub(crate) struct PacketSockets {
    own: Vec<OwnedFd>,
    /// Frames that the kernel dropped so far: it forgets what it told once.
    dropped: u64,
}

/// Which packet sockets the process has, by number.
#[derive(Debug)]
pub(crate) struct Before(BTreeSet<i32>);

impl Before {
    pub(crate) fn now() -> Self {
        Self(packet_sockets())
    }

    /// Those that came since, which are the device's that was probed meanwhile.
    pub(crate) fn came_since(&self) -> PacketSockets {
        let now = packet_sockets();
        let own = now.difference(&self.0).filter_map(|number| {
            // SAFETY: the number was open a moment ago, and is the driver's, which closes it
            // only with the device: the caller holds that off. Had another thread opened it
            // and closed it again, nothing is duplicated.
            let socket = unsafe { BorrowedFd::borrow_raw(*number) };
            socket.try_clone_to_owned().ok()
        });
        PacketSockets {
            own: own.collect(),
            dropped: 0,
        }
    }
}

impl PacketSockets {
    /// Frames that the kernel dropped because the rings were full.
    pub(crate) fn dropped(&mut self) -> u64 {
        for socket in &self.own {
            // SAFETY: no precondition but an open descriptor, which this owns.
            let dropped = unsafe { sys::sluice_packet_socket_drops(socket.as_raw_fd()) };
            self.dropped += u64::from(dropped);
        }
        self.dropped
    }
}

fn packet_sockets() -> BTreeSet<i32> {
    let Ok(open) = fs::read_dir("/proc/self/fd") else {
        return BTreeSet::new();
    };
    open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| {
            // SAFETY: no precondition: a number that isn't open is none.
            unsafe { sys::sluice_is_packet_socket(*number) }
        })
        .collect()
}
