//! `net_pcap` on files: byte-exact, and what doesn't fit in a frame.

use sluice_dataplane_core::port::Port;

use crate::Case;
use crate::bench::{Bench, FRAME_LEN_MAX, numbered, poll, until};
use crate::pcap;

pub(crate) const CASES: &[Case] = &[
    ("pcap_files_come_out_as_they_went_in", exact),
    (
        "pcap_frames_longer_than_a_frame_are_dropped_whole",
        segmented,
    ),
    ("pcap_can_repeat_itself", infinite),
];

fn exact(bench: &mut Bench) {
    let sent: Vec<_> = (0..100u8)
        .map(|n| numbered(n, 14 + usize::from(n) * 15))
        .collect();
    pcap::write("in.pcap", &sent);
    let (device, mut port) = bench.open("net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap");
    let mut moved = 0;
    until("the file ends", || {
        let mut burst = Vec::new();
        port.rx(&mut |frame| burst.push(frame));
        moved += burst.len();
        for frame in burst {
            assert!(port.tx(frame).is_ok());
        }
        port.flush();
        moved == sent.len()
    });
    let stats = device.stats().unwrap();
    assert_eq!((stats.rx, stats.tx), (100, 100));
    assert_eq!(stats.rx_bytes, sent.iter().map(|f| f.len() as u64).sum());
    // The file is whole once the device is closed.
    drop((port, device));
    assert_eq!(pcap::read("out.pcap"), sent);
}

fn segmented(bench: &mut Bench) {
    let fits = numbered(1, usize::from(FRAME_LEN_MAX));
    let long = numbered(2, 4000);
    pcap::write("in.pcap", &[fits.clone(), long, fits.clone()]);
    let (_device, mut port) = bench.open("net_pcap0,rx_pcap=in.pcap");
    let counters = port.counters();
    assert_eq!(poll(&mut port), [fits.clone(), fits]);
    assert_eq!(counters.rx_segmented.read(), 1, "dropped and counted");
    assert_eq!(counters.rx_dropped(), 1);
}

fn infinite(bench: &mut Bench) {
    let sent: Vec<_> = (0..3).map(|n| numbered(n, 60)).collect();
    pcap::write("in.pcap", &sent);
    let (_device, mut port) = bench.open("net_pcap0,rx_pcap=in.pcap,infinite_rx=1");
    let mut got = Vec::new();
    for _ in 0..10 {
        got.extend(poll(&mut port));
    }
    assert_eq!(got.len(), 320, "a burst a poll, without an end");
    assert!(got.iter().zip(sent.iter().cycle()).all(|(a, b)| a == b));
}
