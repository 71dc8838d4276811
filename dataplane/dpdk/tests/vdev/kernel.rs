//! Devices whose other end is the kernel's: `net_af_packet`, `net_af_xdp`, `net_tap`, and
//! `net_pcap` on an interface.

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::port::Port;
use sluice_dpdk::device::{Device, DeviceConfig};
use sluice_dpdk::pool::{Pool, PoolConfig};
use sluice_dpdk::port::DpdkPort;

use crate::Case;
use crate::bench::{Bench, is_numbered, numbered, receive, run, send, until};
use crate::raw::Raw;
use crate::wire::{self, THEIRS, veth};

pub(crate) const CASES: &[Case] = &[
    ("af_packet_carries_frames_both_ways", af_packet),
    ("af_packet_leaves_a_vlan_tag_in_the_frame", af_packet_vlan),
    ("af_packet_talks_with_a_kernels_socket", af_packet_echo),
    ("af_packet_tells_mac_mtu_and_link", af_packet_facts),
    ("af_packet_has_slots_of_a_length", af_packet_slots),
    (
        "af_packet_carries_jumbo_frames_in_longer_slots",
        af_packet_jumbo,
    ),
    (
        "af_packet_sends_late_what_a_dead_wire_did_not_take",
        af_packet_down,
    ),
    ("af_xdp_carries_frames_both_ways", af_xdp),
    ("af_xdp_talks_with_a_kernels_socket", af_xdp_echo),
    ("tap_carries_frames_both_ways", tap),
    ("tap_talks_with_a_kernels_socket", tap_echo),
    ("tap_takes_a_mac_an_mtu_and_its_interface_away", tap_facts),
    ("pcap_on_an_interface_carries_frames_both_ways", pcap),
];

const AF_PACKET: &str = "net_af_packet0,iface=sl0";
const AF_XDP: &str = "net_af_xdp0,iface=sl0";
const TAP: &str = "net_tap0,iface=slt0";
/// From the shortest frame that is all header to the longest a 1500 byte link has.
const LENS: [usize; 6] = [14, 60, 61, 512, 1500, 1514];
/// Payloads of UDP that give packets up to the MTU.
const PAYLOADS: [usize; 4] = [1, 100, 999, 1472];

/// Frames of every length through the port to a packet socket and back, byte by byte.
fn both_ways(bench: &mut Bench, port: &mut DpdkPort, interface: &str) {
    let mut raw = Raw::bind(interface);
    for round in 0..4u8 {
        let sent: Vec<_> = (0..48u8)
            .map(|n| numbered(48 * round + n, LENS[usize::from(n) % LENS.len()]))
            .collect();
        send(bench, port, &sent);
        let mut got = Vec::new();
        until("the kernel gets them", || {
            got.extend(std::iter::from_fn(|| raw.next()).filter(|f| is_numbered(f)));
            got.len() >= sent.len()
        });
        assert_eq!(got, sent, "to the kernel");
        for frame in &sent {
            raw.send(frame);
        }
        assert_eq!(receive(port, sent.len(), is_numbered), sent, "from it");
    }
}

fn af_packet(bench: &mut Bench) {
    veth(1500);
    let (device, mut port) = bench.open(AF_PACKET);
    both_ways(bench, &mut port, THEIRS);
    let stats = device.stats().unwrap();
    assert_eq!((stats.tx, stats.tx_errors), (192, 0));
    assert_eq!((stats.rx, stats.rx_missed, stats.rx_no_frame), (192, 0, 0));
}

fn af_packet_vlan(bench: &mut Bench) {
    veth(1500);
    let (_device, mut port) = bench.open(AF_PACKET);
    let counters = port.counters();
    let mut raw = Raw::bind(THEIRS);
    let mut tagged = numbered(1, 100);
    tagged.splice(12..12, [0x81, 0x00, 0x60, 0x07]);
    raw.send(&tagged);
    let got = receive(&mut port, 1, |frame| frame[6..12] == tagged[6..12]);
    assert_eq!(got, [tagged], "priority 3, VLAN 7, in the frame's bytes");
    assert_eq!(counters.rx_dropped(), 0);
}

fn af_packet_echo(bench: &mut Bench) {
    veth(1500);
    let (_device, mut port) = bench.open(AF_PACKET);
    wire::echo(&mut port, &wire::socket(THEIRS), &PAYLOADS);
}

fn af_packet_facts(bench: &mut Bench) {
    veth(1400);
    run("ip link set sl0 address 02:11:22:33:44:55");
    let (device, port) = bench.open(AF_PACKET);
    assert_eq!(device.name(), "net_af_packet0");
    let mac = device.mac().unwrap();
    assert_eq!(mac, Mac([2, 0x11, 0x22, 0x33, 0x44, 0x55]));
    assert!(device.link().unwrap().up);
    let shown = run("ip link show sl0");
    assert!(shown.contains("PROMISC") && shown.contains("mtu 1400"));
    drop((port, device));
    let quiet = DeviceConfig {
        mtu: Some(1300),
        promiscuous: false,
        ..DeviceConfig::default()
    };
    let (device, _port) = bench.try_open(AF_PACKET, &quiet).unwrap();
    assert_eq!(device.mtu().unwrap(), 1300);
    let shown = run("ip link show sl0");
    assert!(!shown.contains("PROMISC") && shown.contains("mtu 1300"));
}

/// Frames of a wire for tunnels, longer than 1500 bytes and within a slot of the kernel's
/// ring, pass; longer ones arrive cut, so that no IP header in them can be right.
fn af_packet_slots(bench: &mut Bench) {
    veth(4000);
    let (_device, mut port) = bench.open(AF_PACKET);
    let mut raw = Raw::bind(THEIRS);
    let fits = numbered(1, 1900);
    raw.send(&fits);
    assert_eq!(
        receive(&mut port, 1, is_numbered),
        std::slice::from_ref(&fits)
    );
    send(bench, &mut port, std::slice::from_ref(&fits));
    let mut got = Vec::new();
    until("it arrives", || {
        got.extend(std::iter::from_fn(|| raw.next()).filter(|f| is_numbered(f)));
        !got.is_empty()
    });
    assert_eq!(got, [fits]);
    let long = numbered(2, 3000);
    raw.send(&long);
    let cut = receive(&mut port, 1, is_numbered).remove(0);
    assert!(
        cut.len() < 2048 && long.starts_with(&cut),
        "{} bytes",
        cut.len()
    );
}

fn af_packet_jumbo(bench: &mut Bench) {
    veth(9000);
    let (eal, _) = bench.start();
    let config = PoolConfig {
        name: "jumbo",
        frames: 1023,
        // A slot less the kernel's header, which is what the driver compares.
        frame_len_max: 16_384,
        cache: 0,
    };
    let pool = Pool::new(&eal, &config).unwrap();
    let devargs = "net_af_packet0,iface=sl0,blocksz=65536,framesz=16384,framecnt=256";
    let devargs = devargs.parse().unwrap();
    let config = DeviceConfig::default();
    let (device, mut ports) = Device::open(&eal, &devargs, &config, &pool).unwrap();
    let mut raw = Raw::bind(THEIRS);
    let sent: Vec<_> = (0..20).map(|n| numbered(n, 9014)).collect();
    for frame in &sent {
        assert!(ports[0].tx(pool.frame(frame).unwrap()).is_ok());
    }
    ports[0].flush();
    let mut got = Vec::new();
    until("the kernel gets them", || {
        got.extend(std::iter::from_fn(|| raw.next()).filter(|f| is_numbered(f)));
        got.len() >= sent.len()
    });
    assert_eq!(got, sent);
    for frame in &sent {
        raw.send(frame);
    }
    assert_eq!(receive(&mut ports[0], sent.len(), is_numbered), sent);
    drop((ports, device));
    assert_eq!(pool.available(), pool.frames());
}

fn af_packet_down(bench: &mut Bench) {
    veth(1500);
    let mut raw = Raw::bind(THEIRS);
    let (device, mut port) = bench.open(AF_PACKET);
    let sent: Vec<_> = (1..5).map(|n| numbered(n, 60)).collect();
    run("ip link set sl0 down");
    send(bench, &mut port, &sent[..2]);
    let stats = device.stats().unwrap();
    assert_eq!((stats.tx, stats.tx_errors), (0, 2), "counted");
    run("ip link set sl0 up");
    // The first call after that still brings the socket's old error.
    send(bench, &mut port, &sent[2..3]);
    send(bench, &mut port, &sent[3..]);
    // They stood in the kernel's ring: errors for the driver, and late, not lost.
    let mut got = Vec::new();
    until("all arrive", || {
        got.extend(std::iter::from_fn(|| raw.next()).filter(|f| is_numbered(f)));
        got.len() >= sent.len()
    });
    assert_eq!(got, sent);
}

/// What `net_af_xdp` loses when it closes: the frames of its fill ring, and those sent whose
/// completion it has not looked at. It never gives them back.
const XDP_LOST_MAX: u32 = 2048 + 64;

fn af_xdp(bench: &mut Bench) {
    veth(1500);
    bench.lost_max = XDP_LOST_MAX;
    let (_device, mut port) = bench.open(AF_XDP);
    both_ways(bench, &mut port, THEIRS);
}

fn af_xdp_echo(bench: &mut Bench) {
    veth(1500);
    bench.lost_max = XDP_LOST_MAX;
    let (_device, mut port) = bench.open(AF_XDP);
    wire::echo(&mut port, &wire::socket(THEIRS), &PAYLOADS);
}

fn tap(bench: &mut Bench) {
    let (_device, mut port) = bench.open(TAP);
    wire::silence("slt0");
    both_ways(bench, &mut port, "slt0");
}

fn tap_echo(bench: &mut Bench) {
    let (_device, mut port) = bench.open(TAP);
    wire::silence("slt0");
    wire::echo(&mut port, &wire::socket("slt0"), &PAYLOADS);
}

fn tap_facts(bench: &mut Bench) {
    let config = DeviceConfig {
        mtu: Some(1400),
        ..DeviceConfig::default()
    };
    let devargs = "net_tap0,iface=slt0,mac=02:00:00:00:00:07";
    let (device, port) = bench.try_open(devargs, &config).unwrap();
    assert_eq!(device.mac().unwrap(), Mac([2, 0, 0, 0, 0, 7]));
    assert_eq!(device.mtu().unwrap(), 1400);
    let there = || {
        std::fs::read_to_string("/proc/self/net/dev")
            .unwrap()
            .contains("slt0")
    };
    assert!(there());
    drop((device, port));
    assert!(!there(), "closed with its interface");
}

fn pcap(bench: &mut Bench) {
    veth(1500);
    let (_device, mut port) = bench.open("net_pcap0,rx_iface_in=sl0,tx_iface=sl0");
    both_ways(bench, &mut port, THEIRS);
}
