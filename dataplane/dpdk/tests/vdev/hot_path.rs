//! A warmed worker over DPDK ports neither allocates nor frees.

use sluice_dataplane_core::command::Command;
use sluice_dataplane_core::worker::{Worker, WorkerConfig};

use crate::Case;
use crate::bench::{Bench, numbered};
use crate::pcap;
use crate::rig::*;

pub(crate) const CASES: &[Case] = &[("a_warmed_worker_allocates_nothing", no_allocation)];

fn no_allocation(bench: &mut Bench) {
    let side = Side::A;
    let me = (side.uplink_mac(), side.tunnel(true));
    let other = (Side::B.uplink_mac(), Side::B.tunnel(true));
    pcap::write("wire.pcap", &[arp(2, [me.0, other.0], other, me)]);
    let mut traffic = vec![
        numbered(0, 60),
        who_has((side.vf_mac(0), side.pod(0, true)), gateway(true)),
    ];
    for v4 in [true, false] {
        for dst in [side.pod(1, v4), Side::B.pod(0, v4), service(v4), c_pod(v4)] {
            for n in 0..5 {
                traffic.push(side.pod_sends(0, dst, udp(n, 53)).build());
                let long = with_payload(side.pod_sends(0, dst, udp(n, 53)), vec![1; 1440]);
                traffic.push(long.build());
            }
        }
    }
    pcap::write("vf0.pcap", &traffic);
    let opened = [
        "net_null0,no-rx=1",
        "net_pcap1,rx_pcap=vf0.pcap,infinite_rx=1",
        "net_null1,no-rx=1",
        "net_ring0",
    ]
    .map(|devargs| bench.open(devargs));
    let [(host, h), (vf0, v0), (vf1, v1), (vf2, v2)] = opened;
    let (uplink, up) = bench.open("net_pcap0,rx_pcap=wire.pcap,tx_pcap=/dev/null");
    let config = WorkerConfig::new(1024, [1, 2]);
    let (mut worker, mut handle) = Worker::new(vec![up, h, v0, v1, v2], &config).unwrap();
    handle
        .snapshots
        .publish(Plan::open(side).snapshot())
        .unwrap();
    let how = Protection::default();
    for command in [
        Command::InstallInbound(inbound(side, how)),
        Command::InstallOutbound(OTHER, outbound(side, how).into()),
    ] {
        handle.commands.send(command).unwrap();
    }
    let mut now = START;
    let mut frames = 0;
    // The first hundred polls warm flows, next hops and the pool's cache.
    for round in 0..1100 {
        now = now + 1_000;
        let info = allocation_counter::measure(|| {
            frames += worker.poll(now);
        });
        if round >= 100 {
            let (made, held) = (info.count_total, info.count_current);
            assert_eq!((made, held), (0, 0), "poll {round}: made, made less freed");
        }
        while handle.verdicts.next().is_some() {}
    }
    assert!(frames > 1000 * 32, "{frames} frames came");
    assert!(handle.counters.sealed.read() > 3_000);
    assert!(
        vf1.stats().unwrap().tx > 1_000,
        "some reached the other pod"
    );
    assert_eq!(vf0.stats().unwrap().rx_no_frame, 0);
    drop((worker, uplink, host, vf0, vf1, vf2));
}
