//! Devices that need no kernel: `net_null`, `net_ring`, `net_memif`.

use sluice_dataplane_core::port::{BURST_MAX, Frame, HEADROOM_MIN, Port, TAILROOM_MIN};
use sluice_dataplane_core::steer::Shares;
use sluice_dpdk::device::{Device, DeviceConfig};

use crate::Case;
use crate::bench::{Bench, FRAMES, numbered, poll, receive, send, until};

pub(crate) const CASES: &[Case] = &[
    ("null_gives_frames_and_takes_all", null),
    ("null_has_a_port_a_queue", null_queues),
    ("null_is_told_to_spread_as_lanes_do", null_spreads),
    ("null_can_be_silent", null_silent),
    ("ring_hands_over_what_it_took_in_order", ring),
    ("ring_that_is_full_gives_frames_back", ring_full),
    ("ring_that_closes_loses_no_frame", ring_closed),
    ("memif_carries_both_ways", memif),
    ("names_can_be_used_again", reopened),
];

fn null(bench: &mut Bench) {
    let (device, mut port) = bench.open("net_null0,size=100,copy=1");
    let mut frames = Vec::new();
    port.rx(&mut |frame| frames.push(frame));
    assert_eq!(frames.len(), BURST_MAX, "one burst at a time");
    let (_, pool) = bench.start();
    assert_eq!(pool.available(), FRAMES - 32, "they are out");
    for mut frame in frames {
        assert_eq!(frame.bytes().len(), 100);
        assert!(frame.grow_front(HEADROOM_MIN), "room for headers");
        assert!(frame.grow_back(TAILROOM_MIN), "room for a trailer");
        assert!(port.tx(frame).is_ok());
    }
    assert_eq!(port.backlog(), BURST_MAX, "they wait for the flush");
    port.flush();
    assert_eq!(port.backlog(), 0);
    assert_eq!(pool.available(), FRAMES, "the sink gave them back");
    let stats = device.stats().unwrap();
    assert_eq!((stats.rx, stats.tx), (32, 32));
}

fn null_queues(bench: &mut Bench) {
    let (eal, pool) = bench.start();
    let config = DeviceConfig {
        queues: 2,
        ..DeviceConfig::default()
    };
    let devargs = "net_null0,size=64".parse().unwrap();
    let (device, mut ports) = Device::open(&eal, &devargs, &config, &pool).unwrap();
    assert_eq!(ports.len(), 2, "a port a queue");
    drop(device);
    for port in &mut ports {
        assert_eq!(poll(port).len(), BURST_MAX, "up while a port is there");
    }
}

/// The driver computes no hash; what it was told is what a card would be.
fn null_spreads(bench: &mut Bench) {
    let (eal, pool) = bench.start();
    let config = DeviceConfig {
        queues: 3,
        lanes: 4,
        ..DeviceConfig::default()
    };
    let devargs = "net_null0,size=64".parse().unwrap();
    let (device, _ports) = Device::open(&eal, &devargs, &config, &pool).unwrap();
    let spread = device.spread(128).unwrap();
    // It says no length; its key has 40 bytes.
    let is_ours = spread.key[..40].chunks(2).all(|it| it == [0x6d, 0x5a]);
    assert!(is_ours, "{:02x?}", spread.key);
    let shares = Shares::new(3, 4).unwrap();
    let want = (0..128u16).map(|hash| shares.of_hash(hash));
    assert!(want.eq(spread.queues.iter().map(|it| usize::from(*it))));
}

fn null_silent(bench: &mut Bench) {
    let (_device, mut port) = bench.open("net_null0,no-rx=1");
    assert_eq!(poll(&mut port).len(), 0);
}

fn ring(bench: &mut Bench) {
    let (device, mut port) = bench.open("net_ring0");
    // More than two bursts.
    let sent: Vec<_> = (0..70).map(|n| numbered(n, 60 + usize::from(n))).collect();
    send(bench, &mut port, &sent);
    let mut got = Vec::new();
    for expected in [32, 32, 6, 0] {
        let burst = poll(&mut port);
        assert_eq!(burst.len(), expected);
        got.extend(burst);
    }
    assert_eq!(got, sent);
    let stats = device.stats().unwrap();
    assert_eq!((stats.rx, stats.tx), (70, 70));
}

fn ring_full(bench: &mut Bench) {
    let config = DeviceConfig {
        backlog_max: 40,
        ..DeviceConfig::default()
    };
    let (_device, mut port) = bench.try_open("net_ring0", &config).unwrap();
    let counters = port.counters();
    let mut taken = 0;
    let refused = loop {
        let frame = bench.frame(&numbered(taken as u8, 99));
        match port.tx(frame) {
            Ok(()) => taken += 1,
            Err(frame) => break frame,
        }
        assert!(taken < 2000, "a ring has an end");
    };
    assert_eq!(refused.bytes(), numbered(taken as u8, 99), "the very frame");
    assert_eq!(counters.tx_refused.read(), 1);
    assert_eq!(port.backlog(), 40, "those between ring and refusal");
    port.flush();
    assert_eq!(counters.tx_stalled.read(), 1, "the flush left some behind");
    drop(refused);
    // What waited goes out, in order, once there is room.
    let mut got = Vec::new();
    until("all come", || {
        got.extend(poll(&mut port));
        port.flush();
        got.len() >= taken
    });
    let all: Vec<_> = (0..taken).map(|n| numbered(n as u8, 99)).collect();
    assert_eq!(got, all);
}

fn ring_closed(bench: &mut Bench) {
    let (device, mut port) = bench.open("net_ring0");
    let counters = port.counters();
    loop {
        let frame = bench.frame(&[0; 60]);
        if port.tx(frame).is_err() {
            break;
        }
    }
    drop(device);
    assert_eq!(bench.start().0.ports_open(), 1, "a port keeps it open");
    drop(port);
    let waited = counters.tx_abandoned.read();
    assert_eq!(waited, 256, "the whole backlog, counted");
    // `finish` looks for those that were in the ring.
}

fn memif(bench: &mut Bench) {
    // Both ends in one process; the socket is abstract, in our namespace.
    let ends = [
        "net_memif0,role=server,id=1,socket=sluice-test",
        "net_memif1,role=client,id=1,socket=sluice-test",
    ];
    let [(left, mut a), (right, mut b)] = ends.map(|devargs| bench.open(devargs));
    until("the ends find each other", || {
        left.link().unwrap().up && right.link().unwrap().up
    });
    // The client gives the server buffers to send into when it polls.
    assert_eq!(poll(&mut b).len(), 0);
    let there: Vec<_> = (0..90).map(|n| numbered(n, 1514)).collect();
    send(bench, &mut a, &there);
    assert_eq!(receive(&mut b, 90, |_| true), there);
    let back: Vec<_> = (0..3).map(|n| numbered(n, 60)).collect();
    send(bench, &mut b, &back);
    assert_eq!(receive(&mut a, 3, |_| true), back);
}

fn reopened(bench: &mut Bench) {
    for devargs in ["net_null0", "net_ring0"] {
        for _ in 0..3 {
            let (device, port) = bench.open(devargs);
            drop((port, device));
            assert_eq!(bench.start().0.ports_open(), 0, "{devargs}");
        }
    }
}
