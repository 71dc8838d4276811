//! The walk between two pods of one node, whose VFs are `net_af_packet` over veth: the first
//! pod is a real kernel with its own ARP and UDP, the second a packet socket.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::table::policy::Transport;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::{Worker, WorkerConfig, WorkerHandle};
use sluice_dpdk::port::DpdkPort;

use crate::Case;
use crate::bench::{Bench, run, until};
use crate::raw::Raw;
use crate::rig::*;
use crate::wire::{turn_around, veth_pair};

pub(crate) const CASES: &[Case] = &[("a_kernel_as_a_pod_speaks_where_policy_allows", speak)];

const SIDE: Side = Side::A;

fn speak(bench: &mut Bench) {
    veth_pair("vf0", "pod0", 1500);
    veth_pair("vf1", "pod1", 1500);
    let socket = pod(SIDE.vf_mac(0), IpAddr::from(SIDE.pod(0, true)));
    let mut other = Raw::bind("pod1");
    let opened = [
        "net_null0,no-rx=1",
        "net_null1,no-rx=1",
        "net_af_packet0,iface=vf0",
        "net_af_packet1,iface=vf1",
        "net_null2,no-rx=1",
    ]
    .map(|devargs| bench.open(devargs));
    let (devices, ports): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
    let mut plan = Plan::open(SIDE);
    plan.pod(0).policy = Policy::defaulting(true, false).allow_out(Transport::Udp, 53);
    let mut node = Node::new(ports, &plan);

    // The kernel asks for the other pod's MAC and gets the router's; then its packet goes.
    let ends = |port| (IpAddr::from(SIDE.pod(1, true)), port);
    socket.connect(ends(53)).unwrap();
    socket.send(b"a question").unwrap();
    let mut asked = Vec::new();
    until("the question comes", || {
        node.poll();
        asked.extend(std::iter::from_fn(|| other.next()).filter(|f| f.ends_with(b"a question")));
        !asked.is_empty()
    });
    let mut answer = asked.remove(0);
    assert_eq!(answer[..6], SIDE.vf_mac(1).0);
    assert!(turn_around(&mut answer, SIDE.vf_mac(1).0));
    other.send(&answer);
    let mut back = [0; 64];
    let mut len = 0;
    until("the kernel takes the answer", || {
        node.poll();
        len = socket.recv(&mut back).unwrap_or(0);
        len != 0
    });
    assert_eq!(&back[..len], b"a question");

    // What policy denies is counted and does not come.
    assert_eq!(node.denied(), 0);
    socket.connect(ends(54)).unwrap();
    socket.send(b"a secret").unwrap();
    until("it is dropped", || {
        node.poll();
        node.denied() == 1
    });
    let seen = std::iter::from_fn(|| other.next()).any(|f| contains(&f, b"a secret"));
    assert!(!seen, "nothing of it reaches the other pod");
    drop((node, devices));
}

/// A socket of a pod that the kernel plays.
fn pod(mac: Mac, addr: IpAddr) -> UdpSocket {
    let mac = mac.0.map(|byte| format!("{byte:02x}")).join(":");
    run(&format!("ip link set pod0 address {mac}"));
    run(&format!("ip addr add {addr}/24 dev pod0"));
    let socket = UdpSocket::bind((addr, 0)).unwrap();
    // The walk runs in this thread too.
    let short = Duration::from_millis(1);
    socket.set_read_timeout(Some(short)).unwrap();
    socket
}

struct Node {
    worker: Worker<DpdkPort>,
    handle: WorkerHandle,
    now: Tick,
}

impl Node {
    fn new(ports: Vec<DpdkPort>, plan: &Plan) -> Self {
        let config = WorkerConfig::new(1024, [1, 2]);
        let (worker, mut handle) = Worker::new(ports, &config).unwrap();
        handle.snapshots.publish(plan.snapshot()).unwrap();
        Self {
            worker,
            handle,
            now: START,
        }
    }

    fn poll(&mut self) {
        self.now = self.now + 1_000;
        self.worker.poll(self.now);
    }

    fn denied(&self) -> u64 {
        let port = self.handle.counters.port(VF0);
        port.dropped(DropReason::PolicyEgress)
    }
}
