//! What the virtual devices that we know take in their devargs.
//!
//! DPDK reports a wrong key only in its log, and `net_ring` not even as a failure. So each
//! key is checked here, and what a device stands on is looked for, before DPDK is asked.

use crate::devargs::Devargs;

/// One of DPDK's drivers of virtual devices.
#[derive(Debug)]
pub(crate) struct Driver {
    /// Its name: a device whose name begins with it is its own.
    pub(crate) name: &'static str,
    /// Every key it knows (22.11).
    pub(crate) keys: &'static [&'static str],
    /// Those it can't do without; one of them is enough.
    pub(crate) needs: &'static [&'static str],
    /// Those whose value is a network interface that has to be there.
    pub(crate) interfaces: &'static [&'static str],
    /// Those whose value is a file that has to be there.
    pub(crate) files: &'static [&'static str],
}

const DRIVERS: &[Driver] = &[
    Driver {
        name: "net_af_packet",
        keys: &[
            "iface",
            "qpairs",
            "blocksz",
            "framesz",
            "framecnt",
            "qdisc_bypass",
        ],
        needs: &["iface"],
        interfaces: &["iface"],
        files: &[],
    },
    Driver {
        name: "net_af_xdp",
        keys: &[
            "iface",
            "start_queue",
            "queue_count",
            "shared_umem",
            "xdp_prog",
            "busy_budget",
            "force_copy",
        ],
        needs: &["iface"],
        interfaces: &["iface"],
        files: &["xdp_prog"],
    },
    Driver {
        name: "net_tap",
        keys: &["iface", "mac", "remote"],
        needs: &[],
        interfaces: &["remote"],
        files: &[],
    },
    Driver {
        name: "net_ring",
        // `internal` carries a pointer between libraries and is not for people.
        keys: &["nodeaction"],
        needs: &[],
        interfaces: &[],
        files: &[],
    },
    Driver {
        name: "net_null",
        keys: &["size", "copy", "no-rx"],
        needs: &[],
        interfaces: &[],
        files: &[],
    },
    Driver {
        name: "net_pcap",
        keys: &[
            "rx_pcap",
            "tx_pcap",
            "rx_iface",
            "rx_iface_in",
            "tx_iface",
            "iface",
            "phy_mac",
            "infinite_rx",
        ],
        needs: &[
            "rx_pcap",
            "tx_pcap",
            "rx_iface",
            "rx_iface_in",
            "tx_iface",
            "iface",
        ],
        interfaces: &["rx_iface", "rx_iface_in", "tx_iface", "iface"],
        files: &["rx_pcap"],
    },
    Driver {
        name: "net_memif",
        keys: &[
            "id",
            "role",
            "bsize",
            "rsize",
            "socket",
            "socket-abstract",
            "owner-uid",
            "owner-gid",
            "mac",
            "zero-copy",
            "secret",
        ],
        needs: &[],
        interfaces: &[],
        files: &[],
    },
];

/// The driver of a device of this name, if we know it.
pub(crate) fn of(device: &str) -> Option<&'static Driver> {
    DRIVERS
        .iter()
        .find(|driver| device.starts_with(driver.name))
}

/// A slot of the ring that `net_af_packet` shares with the kernel, unless `framesz` says
/// otherwise, and what of it is not for the frame.
const SLOT_LEN: u32 = 2048;
const SLOT_HEADER_LEN: u32 = 32;

/// What `net_tap` allows beyond the MTU: Ethernet header, FCS and a tag.
const TAP_BEYOND_MTU: u32 = 22;

/// Bytes of the longest frame that a device sends. `net_af_packet` loses a longer one without
/// a word, and `net_tap` never takes it, nor what is behind it.
pub(crate) fn tx_len_max(devargs: &Devargs, mtu: u16) -> u32 {
    match of(devargs.name()).map(|driver| driver.name) {
        Some("net_af_packet") => {
            let mut arguments = devargs.arguments();
            let slot = arguments.find_map(|(k, v)| (k == "framesz").then(|| v.parse().ok()));
            let slot = slot.flatten().unwrap_or(SLOT_LEN);
            slot.saturating_sub(SLOT_HEADER_LEN)
        }
        Some("net_tap") => u32::from(mtu) + TAP_BEYOND_MTU,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_the_drivers_whose_name_it_begins_with() {
        assert_eq!(of("net_pcap17").unwrap().name, "net_pcap");
        assert!(of("0000:03:00.0").is_none());
        assert!(of("net_nul").is_none());
    }

    #[test]
    fn what_is_needed_or_looked_for_is_a_key() {
        for driver in DRIVERS {
            for key in [driver.needs, driver.interfaces, driver.files].concat() {
                assert!(driver.keys.contains(&key), "{key} of {}", driver.name);
            }
        }
    }

    #[test]
    fn the_longest_frame_follows_from_slot_or_mtu() {
        let longest = |devargs: &str, mtu| tx_len_max(&devargs.parse().unwrap(), mtu);
        assert_eq!(longest("net_af_packet0,iface=x", 1500), 2016);
        assert_eq!(longest("net_af_packet0,iface=x,framesz=4096", 1500), 4064);
        assert_eq!(longest("net_tap0", 1400), 1422);
        assert_eq!(longest("net_null0", 1500), u32::MAX);
    }
}
