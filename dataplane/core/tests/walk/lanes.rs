//! Several SAs between two nodes: each flow keeps to one, and each has one order of numbers.

use std::collections::{BTreeMap, BTreeSet};

use sluice_crypto::esp::{InboundSa, OutboundSa, Spi};
use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::command::{Command, Reply};
use sluice_dataplane_core::lane::lane_hash;
use sluice_dataplane_core::meta::{Meta, proto};
use sluice_dataplane_core::sad::{CHILDREN_MAX, Children};

use crate::rig::*;

const V4: bool = true;

fn how() -> Protection {
    Protection {
        outer_v4: true,
        ..Protection::default()
    }
}

/// The SPI of A's child; another block for each age.
fn child_spi(age: u32, child: u32) -> Spi {
    Spi(0x2000_0000 + age * 32 + child)
}

/// Has A send by so many children from now on, which B can open. How many were replaced.
fn install(rig: &mut Rig, age: u32, count: u32) -> usize {
    let how = how();
    let key = |child| key(Algorithm::Aes128Gcm16, (100 + age * 40 + child) as u8);
    let mut children = Vec::new();
    for child in 0..count {
        let mut receiving = inbound(Side::B, how);
        *receiving.sa = InboundSa::new(child_spi(age, child), key(child), how.esn, 64).unwrap();
        rig.b.command(Command::InstallInbound(receiving));
        rig.b.poll();
        assert!(matches!(rig.b.reply(), Reply::InboundInstalled(_)));
        let mut sending = outbound(Side::A, how);
        *sending.sa = OutboundSa::new(child_spi(age, child), key(child), how.esn);
        children.push(sending);
    }
    let children = Children::new(children).unwrap();
    rig.a.command(Command::InstallOutbound(OTHER, children));
    rig.a.poll();
    let Reply::OutboundInstalled(OTHER, first, Some(replaced)) = rig.a.reply() else {
        panic!("not installed");
    };
    assert_eq!(first, child_spi(age, 0));
    replaced.count()
}

/// SPI and sequence number (the low half) of each ESP packet that A sent, in order.
fn sealed(rig: &mut Rig) -> Vec<(u32, u32)> {
    let word = |it: &[u8], at: usize| u32::from_be_bytes(it[at..at + 4].try_into().unwrap());
    // Ethernet and IPv4 without options.
    let esp = 14 + 20;
    let sent = rig.wire.drain(..);
    sent.map(|it| (word(&it, esp), word(&it, esp + 4)))
        .collect()
}

#[test]
fn a_flow_keeps_to_one_child_and_each_child_numbers_its_own() {
    let mut rig = Rig::protected_by(how());
    for (age, count) in [(1, 4), (2, CHILDREN_MAX as u32), (3, 3)] {
        install(&mut rig, age, count);
        rig.wire.clear();
        let (mut child_of, mut last) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..3 {
            for port in 0..256u16 {
                let (from, to) = (Side::A.pod(0, V4), Side::B.pod(0, V4));
                let ports = [40_000 + port, 53];
                let frame = Side::A.pod_sends(0, to, udp(ports[0], ports[1])).build();
                rig.a.deliver(VF0, &frame);
                rig.settle();
                let got = rig.b.take(VF0);
                assert_eq!(got.len(), 1, "port {port}");
                let [(spi, number)] = sealed(&mut rig)[..] else {
                    panic!("not one packet");
                };
                let meta = Meta {
                    src: from,
                    dst: to,
                    src_port: ports[0],
                    dst_port: ports[1],
                    protocol: proto::UDP,
                    ..Meta::default()
                };
                let child = u32::from(lane_hash(&meta)) % count;
                assert_eq!(spi, child_spi(age, child).0);
                assert_eq!(*child_of.entry(port).or_insert(spi), spi, "it changed");
                let before = last.insert(spi, number).unwrap_or(0);
                assert_eq!(number, before + 1, "numbers of one child");
            }
        }
        let used: BTreeSet<_> = child_of.values().collect();
        assert_eq!(used.len(), count as usize, "every child has flows");
    }
}

#[test]
fn another_number_of_children_comes_in_force_between_two_packets() {
    let mut rig = Rig::protected_by(how());
    let mut before = 1;
    for (age, count) in [(1, 4), (2, 16), (3, 15), (4, 2), (5, 1)] {
        for port in 0..32 {
            let to = Side::B.pod(0, V4);
            let frame = Side::A.pod_sends(0, to, udp(40_000 + port, 53)).build();
            rig.a.deliver(VF0, &frame);
        }
        // In the same poll: what waits is sealed by the new ones, and all of it.
        assert_eq!(install(&mut rig, age, count), before);
        rig.settle();
        assert_eq!(rig.b.take(VF0).len(), 32, "{count} after {before}");
        before = count as usize;
    }
}

#[test]
fn none_and_too_many_children_are_no_children() {
    let all = |count| (0..count).map(|_| outbound(Side::A, how())).collect();
    assert!(Children::new(all(0)).is_none());
    assert!(Children::new(all(CHILDREN_MAX + 1)).is_none());
    assert_eq!(
        Children::new(all(CHILDREN_MAX)).unwrap().count(),
        CHILDREN_MAX
    );
}
