//! What the virtual devices that we know take in their devargs.
//!
//! DPDK reports a wrong key only in its log, and `net_ring` not even as a failure. So each
//! key is checked here, and what a device stands on is looked for, before DPDK is asked.

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
}
