//! Frames that are lost between the walk and a wire, each counted by somebody.

use sluice_dataplane_core::port::{Frame, Port};
use sluice_dpdk::device::{Device, DeviceConfig};
use sluice_dpdk::pool::{Pool, PoolConfig};
use sluice_dpdk::port::{DpdkPort, STUCK_FLUSHES_MAX};

use crate::Case;
use crate::bench::{Bench, is_numbered, numbered, poll, receive, run, send, until};
use crate::pcap;
use crate::raw::Raw;
use crate::wire::{THEIRS, silence, veth};

pub(crate) const CASES: &[Case] = &[
    ("af_packet_counts_what_nobody_took", missed),
    ("a_dry_pool_is_counted", dry),
    ("af_packet_frames_wait_for_a_dry_pool", dry_waits),
    (
        "af_packet_is_not_given_what_it_would_lose",
        too_long_for_a_slot,
    ),
    ("tap_is_not_given_what_would_block_it", too_long_for_a_tap),
    ("a_frame_that_is_never_taken_does_not_block_for_ever", stuck),
];

fn missed(bench: &mut Bench) {
    veth(1500);
    let (device, mut port) = bench.open("net_af_packet0,iface=sl0");
    let mut raw = Raw::bind(THEIRS);
    let sent = 2000;
    for n in 0..sent {
        raw.send(&numbered(n as u8, 60));
    }
    let mut got = 0;
    until("the ring is empty", || {
        let burst = poll(&mut port).len() as u64;
        got += burst;
        burst == 0
    });
    let stats = device.stats().unwrap();
    assert!(stats.rx_missed > 0, "a ring has an end");
    assert_eq!((stats.rx, stats.rx + stats.rx_missed), (got, sent));
    assert_eq!(
        device.stats().unwrap(),
        stats,
        "asking again changes nothing"
    );
}

/// A device with a pool of its own, of 15 frames.
fn small(bench: &mut Bench, devargs: &str) -> (Pool, Device, DpdkPort) {
    let (eal, _) = bench.start();
    let config = PoolConfig {
        name: "small",
        frames: 15,
        frame_len_max: 1518,
        cache: 0,
    };
    let pool = Pool::new(&eal, &config).unwrap();
    let devargs = devargs.parse().unwrap();
    let config = DeviceConfig::default();
    let (device, mut ports) = Device::open(&eal, &devargs, &config, &pool).unwrap();
    (pool, device, ports.remove(0))
}

fn dry(bench: &mut Bench) {
    let frames: Vec<_> = (0..10).map(|n| numbered(n, 60)).collect();
    pcap::write("in.pcap", &frames);
    let (pool, device, mut port) = small(bench, "net_pcap0,rx_pcap=in.pcap");
    let held: Vec<_> = (0..15).map(|_| pool.alloc(1).unwrap()).collect();
    assert_eq!(poll(&mut port).len(), 0);
    assert_eq!(device.stats().unwrap().rx_no_frame, 1);
    drop((held, port, device));
    assert_eq!(pool.available(), pool.frames());
}

fn dry_waits(bench: &mut Bench) {
    veth(1500);
    let (pool, device, mut port) = small(bench, "net_af_packet0,iface=sl0");
    let held: Vec<_> = (0..15).map(|_| pool.alloc(1).unwrap()).collect();
    let mut raw = Raw::bind(THEIRS);
    let sent: Vec<_> = (0..10).map(|n| numbered(n, 60)).collect();
    for frame in &sent {
        raw.send(frame);
    }
    for _ in 0..10 {
        assert_eq!(poll(&mut port).len(), 0);
    }
    drop(held);
    assert_eq!(receive(&mut port, 10, is_numbered), sent);
    assert_eq!(device.stats().unwrap().rx_missed, 0);
    drop((port, device));
    assert_eq!(pool.available(), pool.frames());
}

fn too_long_for_a_slot(bench: &mut Bench) {
    veth(4000);
    let (_device, mut port) = bench.open("net_af_packet0,iface=sl0");
    let counters = port.counters();
    let mut raw = Raw::bind(THEIRS);
    let longest = numbered(1, 2016);
    send(bench, &mut port, std::slice::from_ref(&longest));
    let mut got = Vec::new();
    until("it arrives", || {
        got.extend(std::iter::from_fn(|| raw.next()).filter(|f| is_numbered(f)));
        !got.is_empty()
    });
    assert_eq!(got, [longest], "as long as a slot");
    let frame = bench.frame(&numbered(2, 2017));
    let back = port.tx(frame).unwrap_err();
    assert_eq!(back.bytes(), numbered(2, 2017));
    assert_eq!(counters.tx_too_long.read(), 1);
    assert_eq!(counters.tx_refused.read(), 0);
}

fn too_long_for_a_tap(bench: &mut Bench) {
    let config = DeviceConfig {
        mtu: Some(1400),
        ..DeviceConfig::default()
    };
    let (_device, mut port) = bench.try_open("net_tap0,iface=slt0", &config).unwrap();
    silence("slt0");
    let counters = port.counters();
    let mut raw = Raw::bind("slt0");
    let frame = bench.frame(&numbered(1, 1423));
    assert!(port.tx(frame).is_err());
    assert_eq!(counters.tx_too_long.read(), 1);
    let longest = numbered(2, 1422);
    send(bench, &mut port, std::slice::from_ref(&longest));
    let mut got = Vec::new();
    until("it arrives", || {
        got.extend(std::iter::from_fn(|| raw.next()).filter(|f| is_numbered(f)));
        !got.is_empty()
    });
    assert_eq!(got, [longest]);
}

/// `net_pcap` on an interface takes no frame that its socket does not.
fn stuck(bench: &mut Bench) {
    veth(1500);
    let (_device, mut port) = bench.open("net_pcap0,rx_iface_in=sl0,tx_iface=sl0");
    let counters = port.counters();
    let mut raw = Raw::bind(THEIRS);
    run("ip link set sl0 down");
    for n in 0..3 {
        let frame = bench.frame(&numbered(n, 60));
        assert!(port.tx(frame).is_ok());
    }
    for flush in 1..=STUCK_FLUSHES_MAX {
        assert_eq!(port.backlog(), 3, "flush {flush}");
        port.flush();
    }
    assert_eq!(
        (port.backlog(), counters.tx_stuck.read()),
        (2, 1),
        "the first is given up"
    );
    run("ip link set sl0 up");
    until("the others go", || {
        port.flush();
        port.backlog() == 0
    });
    let mut got = Vec::new();
    until("they arrive", || {
        got.extend(std::iter::from_fn(|| raw.next()).filter(|f| is_numbered(f)));
        got.len() == 2
    });
    assert_eq!(got, [numbered(1, 60), numbered(2, 60)]);
    assert_eq!(counters.tx_stuck.read(), 1);
}
