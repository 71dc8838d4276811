//! A veth pair: `sl0` is DPDK's end, `sl1` the kernel's.

use std::net::UdpSocket;
use std::time::Duration;

use sluice_dataplane_core::port::{Frame, Port};
use sluice_dpdk::port::DpdkPort;

use crate::bench::{run, until};

pub(crate) const OURS: &str = "sl0";
pub(crate) const THEIRS: &str = "sl1";

/// The address of the kernel's end.
const KERNEL: &str = "192.0.2.1";
/// The address of nobody: the port's user answers for it.
const ECHO: &str = "192.0.2.2";
const ECHO_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xec];

/// Makes the pair, `OURS` without an address and silent.
pub(crate) fn veth(mtu: u16) {
    veth_pair(OURS, THEIRS, mtu);
}

/// As [`veth`], with other names.
pub(crate) fn veth_pair(ours: &str, theirs: &str, mtu: u16) {
    run(&format!(
        "ip link add {ours} mtu {mtu} type veth peer name {theirs} mtu {mtu}"
    ));
    for end in [ours, theirs] {
        silence(end);
        run(&format!("ip link set {end} up"));
    }
}

/// No frames of the interface's own, none half made.
pub(crate) fn silence(interface: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    std::fs::write(path, "1").unwrap();
    run(&format!(
        "ethtool -K {interface} tx off tso off gso off gro off rxvlan off txvlan off"
    ));
}

/// A UDP socket of the kernel behind `interface`, and somebody to send to.
pub(crate) fn socket(interface: &str) -> UdpSocket {
    run(&format!("ip addr add {KERNEL}/24 dev {interface}"));
    let mac = ECHO_MAC.map(|byte| format!("{byte:02x}")).join(":");
    run(&format!(
        "ip neigh replace {ECHO} lladdr {mac} dev {interface} nud permanent"
    ));
    let socket = UdpSocket::bind((KERNEL, 0)).unwrap();
    socket.connect((ECHO, 7)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// The kernel sends, the port's user turns each packet around, the kernel checks MAC, IP,
/// port and checksum of what comes back and hands over the payload.
pub(crate) fn echo(port: &mut DpdkPort, socket: &UdpSocket, lens: &[usize]) {
    for (n, len) in lens.iter().enumerate() {
        let payload: Vec<u8> = (0..*len).map(|at| (at * 31 + n) as u8).collect();
        socket.send(&payload).unwrap();
        let mut turned = 0;
        until("the packet comes by", || {
            let mut waiting = Vec::new();
            port.rx(&mut |frame| waiting.push(frame));
            for mut frame in waiting {
                if turn_around(frame.bytes_mut(), ECHO_MAC) {
                    turned += 1;
                    assert!(port.tx(frame).is_ok());
                }
            }
            port.flush();
            turned == 1 && port.backlog() == 0
        });
        let mut back = vec![0; 65_536];
        let got = socket.recv(&mut back).expect("the payload comes back");
        assert_eq!(&back[..got], payload);
    }
}

/// Swaps MACs, addresses and ports of a UDP packet for this MAC; whether it was one.
pub(crate) fn turn_around(frame: &mut [u8], mac: [u8; 6]) -> bool {
    if frame.len() < 42 || frame[..6] != mac || frame[12..14] != [8, 0] || frame[23] != 17 {
        return false;
    }
    for (a, b, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        let (front, back) = frame.split_at_mut(b);
        front[a..a + len].swap_with_slice(&mut back[..len]);
    }
    true
}
