//! The same frames through the walk over ports in memory and over `net_pcap` files: the same
//! verdicts, the same counters, the same bytes out of every port.

use std::array;

use sluice_dataplane_core::command::Command;
use sluice_dataplane_core::counters::Counters;
use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::port::{BURST_MAX, Frame, Port};
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::snapshot::PortIndex;
use sluice_dataplane_core::table::policy::Transport;
use sluice_dataplane_core::verdict::VerdictRecord;
use sluice_dataplane_core::worker::{Worker, WorkerConfig};
use sluice_dpdk::port::DpdkPort;

use crate::Case;
use crate::bench::{Bench, numbered};
use crate::pcap;
use crate::rig::*;

pub(crate) const CASES: &[Case] = &[("pcap_ports_and_memory_ports_judge_alike", alike)];

const PORTS: usize = PORT_NAMES.len();
/// Polls in a row without a frame that end a run.
const QUIET_POLLS: usize = 3;
/// Polls of a run, at most.
const POLLS_MAX: usize = 1000;
/// The frames of each port, in order.
type Frames = [Vec<Vec<u8>>; PORTS];

/// What a run did, but for the frames it sent.
#[derive(PartialEq, Eq, Debug)]
struct Record {
    verdicts: Vec<VerdictRecord>,
    counters: Vec<(String, u64)>,
}

impl Record {
    fn count(&self, name: &str) -> u64 {
        let mut counters = self.counters.iter();
        counters.find(|(n, _)| n == name).expect(name).1
    }
}

fn alike(bench: &mut Bench) {
    let web = Policy::CLOSED.allow_out(Transport::Tcp, 443);
    let mut plan = Plan::open(Side::A);
    plan.pod(0).policy = web.allow_in(Transport::Udp, 53);
    let (sent, a) = both(bench, "a", &plan, into_a());
    assert!(a.count("sealed") > 20 && a.count("opened") > 10);
    for reason in ["policy-egress", "policy-ingress"] {
        let drops: u64 = (0..PORTS)
            .map(|port| a.count(&format!("{}.drop.{reason}", PORT_NAMES[port])))
            .sum();
        assert!(drops > 5, "{drops} {reason}");
    }
    let denied = a.verdicts.iter().filter(|v| v.denied.is_some()).count();
    assert!(denied > 10 && a.verdicts.len() - denied > 10);

    // What A put on the wire goes into B, which opens it to what A's pods sent.
    let mut plan = Plan::open(Side::B);
    plan.pod(0).policy = Policy::OPEN;
    let wire = sent[0]
        .iter()
        .filter(|frame| frame[..6] == Side::B.uplink_mac().0);
    let mut into_b = fillers();
    into_b[0].extend(wire.cloned());
    let (opened, b) = both(bench, "b", &plan, into_b);
    assert_eq!(b.count("opened"), a.count("sealed"));
    let got: Vec<_> = opened[2].iter().map(|frame| packet(frame)).collect();
    let asked: Vec<_> = requests()
        .into_iter()
        .filter(|(_, frame)| is_for_b(frame) && passes(frame))
        .map(|(_, frame)| packet(&frame).to_vec())
        .collect();
    assert!(got.len() > 20);
    assert_eq!(got.len(), asked.len());
    for inner in &asked {
        assert!(got.contains(&inner.as_slice()), "an inner packet as it was");
    }
    let in_clear = sent[0].iter().filter(|frame| contains(frame, MARKER));
    assert!(in_clear.clone().count() > 0, "what goes outside");
    for frame in in_clear {
        assert!(!is_for_b(frame), "never what goes to another node");
    }
}

fn is_for_b(frame: &[u8]) -> bool {
    let dst = meta(frame).dst;
    [true, false].iter().any(|v4| Side::B.pod(0, *v4) == dst)
}

/// Whether A's policy lets this packet of a pod of A's out: everything but vf0's, which may
/// speak TCP to port 443.
fn passes(frame: &[u8]) -> bool {
    let meta = meta(frame);
    let vf0 = [true, false].map(|v4| Side::A.pod(0, v4));
    !vf0.contains(&meta.src) || (meta.protocol, meta.dst_port) == (6, 443)
}

/// Frames that are dropped: two polls of them before what matters, so that SAs and next
/// hops are there by then.
fn fillers() -> Frames {
    let mut frames = array::from_fn(|_| (0..64).map(|n| numbered(n, 60)).collect::<Vec<_>>());
    frames[0].truncate(BURST_MAX);
    frames
}

/// What A's pods and its host ask of everybody: by which port, and the frame.
fn requests() -> Vec<(usize, Vec<u8>)> {
    let mut requests = Vec::new();
    for v4 in [true, false] {
        for dst in [
            Side::A.pod(0, v4),
            Side::A.pod(1, v4),
            Side::B.pod(0, v4),
            stranger(v4),
            service(v4),
        ] {
            for n in 0..4 {
                for body in [tcp(1000 + n, 443, SYN), tcp(1000 + n, 80, SYN), udp(n, 53)] {
                    for vf in 0..3 {
                        let spec = Side::A.pod_sends(vf, dst, body);
                        let spec = with_payload(spec, [MARKER, &[n as u8; 100]].concat());
                        requests.push((2 + vf, spec.build()));
                    }
                }
            }
            requests.push((1, Side::A.host_sends(dst, echo(7, false)).build()));
        }
    }
    requests
}

fn into_a() -> Frames {
    let mut frames = fillers();
    let me = (Side::A.uplink_mac(), Side::A.tunnel(true));
    for (mac, addr) in [
        (Side::B.uplink_mac(), Side::B.tunnel(true)),
        (GATEWAY_MAC, gateway(true)),
    ] {
        frames[0].push(arp(2, [me.0, mac], (mac, addr), me));
    }
    for (port, frame) in requests() {
        frames[port].push(frame);
    }
    // B speaks to A's vf0, which serves UDP 53 only; some of it forged, some twice.
    let mut b = Forger::new(Side::B, Protection::default(), 1);
    for n in 0..20 {
        let body = if n % 2 == 0 { udp(n, 53) } else { udp(n, 54) };
        let inner = Side::B.pod_sends(0, Side::A.pod(0, true), body).build();
        let mut sealed = b.seal(packet(&inner), 4);
        frames[0].push(sealed.clone());
        if n % 5 == 0 {
            frames[0].push(sealed.clone());
            sealed[70] ^= 1;
            frames[0].push(sealed);
        }
    }
    let pod = Side::A.pod(0, true);
    let plain = Side::A.wire_sends(stranger(true), pod, udp(5, 53));
    frames[0].push(plain.build());
    frames
}

/// Over memory and over files; what both did.
fn both(bench: &mut Bench, name: &str, plan: &Plan, frames: Frames) -> (Frames, Record) {
    let (mem_sent, mem) = over_memory(plan, &frames);
    let (pcap_sent, pcap) = over_files(bench, name, plan, &frames);
    assert_eq!(mem, pcap, "left: memory, right: net_pcap");
    for ((mem, pcap), port) in mem_sent.iter().zip(&pcap_sent).zip(PORT_NAMES) {
        assert_eq!(mem, pcap, "{port}: left: memory, right: net_pcap");
    }
    (mem_sent, mem)
}

fn over_memory(plan: &Plan, frames: &Frames) -> (Frames, Record) {
    let pool = MemPool::new(512);
    let ports = frames
        .iter()
        .map(|frames| {
            let mut port = MemPort::new(&pool, 256);
            for bytes in frames {
                port.deliver(pool.frame(bytes).unwrap());
            }
            port
        })
        .collect();
    let mut sent = Frames::default();
    let record = drive(ports, plan, |ports| {
        for (port, sent) in ports.iter_mut().zip(&mut sent) {
            while let Some(frame) = port.collect() {
                sent.push(frame.bytes().to_vec());
            }
        }
    });
    (sent, record)
}

fn over_files(bench: &mut Bench, name: &str, plan: &Plan, frames: &Frames) -> (Frames, Record) {
    let mut ports = Vec::new();
    let mut devices = Vec::new();
    for (at, frames) in frames.iter().enumerate() {
        let [rx, tx] = ["in", "out"].map(|way| format!("{name}{at}.{way}.pcap"));
        pcap::write(&rx, frames);
        let (device, port) = bench.open(&format!("net_pcap{at},rx_pcap={rx},tx_pcap={tx}"));
        let counters = port.counters();
        devices.push((device, counters));
        ports.push(port);
    }
    let record = drive::<DpdkPort>(ports, plan, |_| {});
    for ((device, counters), frames) in devices.iter().zip(frames) {
        assert_eq!(device.stats().unwrap().rx, frames.len() as u64);
        assert_eq!(counters.rx_dropped() + counters.tx_abandoned.read(), 0);
    }
    drop(devices);
    let sent = array::from_fn(|at| pcap::read(format!("{name}{at}.out.pcap")));
    (sent, record)
}

/// A worker over these ports until nothing comes any more.
fn drive<P: Port>(ports: Vec<P>, plan: &Plan, mut after_poll: impl FnMut(&mut [P])) -> Record {
    let config = WorkerConfig::new(1024, [0x5eed, 0xcafe]);
    let (mut worker, mut handle) = Worker::new(ports, &config).unwrap();
    handle.snapshots.publish(plan.snapshot()).unwrap();
    let how = Protection::default();
    for command in [
        Command::InstallInbound(inbound(plan.side, how)),
        Command::InstallOutbound(OTHER, outbound(plan.side, how).into()),
    ] {
        handle.commands.send(command).unwrap();
    }
    let (mut now, mut quiet, mut verdicts) = (START, 0, Vec::new());
    for _ in 0..POLLS_MAX {
        now = now + 1_000;
        quiet = if worker.poll(now) == 0 { quiet + 1 } else { 0 };
        after_poll(worker.ports_mut());
        verdicts.extend(std::iter::from_fn(|| handle.verdicts.next()));
        if quiet == QUIET_POLLS {
            break;
        }
    }
    assert_eq!(quiet, QUIET_POLLS, "the run ends");
    Record {
        verdicts,
        counters: counters(&handle.counters),
    }
}

/// Every counter of a worker, by name.
fn counters(all: &Counters) -> Vec<(String, u64)> {
    let mut named: Vec<_> = [
        ("flow.hit", &all.flow_hit),
        ("flow.miss", &all.flow_miss),
        ("flow.stale", &all.flow_stale),
        ("flows", &all.flows),
        ("sealed", &all.sealed),
        ("opened", &all.opened),
        ("verdicts-lost", &all.verdicts_lost),
    ]
    .map(|(name, counter)| (name.to_owned(), counter.read()))
    .into();
    for (at, name) in (0u16..).zip(PORT_NAMES) {
        let port = all.port(PortIndex(at));
        assert_eq!(port.balance(), 0, "{name} lost a frame without a reason");
        for (what, counter) in [
            ("rx", &port.rx),
            ("rx-bytes", &port.rx_bytes),
            ("tx", &port.tx),
            ("tx-bytes", &port.tx_bytes),
            ("forwarded", &port.forwarded),
            ("consumed", &port.consumed),
            ("originated", &port.originated),
            ("waiting", &port.waiting),
        ] {
            named.push((format!("{name}.{what}"), counter.read()));
        }
        for reason in DropReason::ALL {
            let dropped = port.dropped(*reason);
            named.push((format!("{name}.drop.{}", reason.name()), dropped));
        }
    }
    named
}
