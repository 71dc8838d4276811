//! Routers between the nodes that take less than the link: heard if they quote what was sent.

use sluice_crypto::esp::OutboundSa;
use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::command::{Command, Reply};
use sluice_dataplane_core::mem::MemPool;
use sluice_dataplane_core::path_mtu::HOLDS_NS;
use sluice_dataplane_core::port::Frame;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::FrameSpec;
use sluice_dataplane_core::wire::checksum;
use sluice_dataplane_core::wire::{self, icmp};

use crate::rig::*;

const V4: bool = true;

/// The router on the way, which is the gateway here.
fn router(v4: bool) -> (Mac, Addr) {
    (station_mac(gateway(v4)).unwrap(), gateway(v4))
}

/// What a router says of a frame that it can't send on, its next link taking `mtu` bytes.
fn too_big(frame: &[u8], mtu: u16) -> Vec<u8> {
    let (meta, pool) = (wire::parse(frame).unwrap(), MemPool::new(1));
    let mut error = pool.frame(frame).unwrap();
    let (mac, from) = router(meta.src.is_v4());
    assert!(icmp::too_big_in_place(&mut error, &meta, mtu, mac, from));
    error.bytes().to_vec()
}

/// The checksum of an ICMP message that was changed, made right.
fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    let m = meta(&frame);
    let at = usize::from(m.l4_off) + 2;
    frame[at..at + 2].fill(0);
    let message = &frame[at - 2..];
    let sum = if m.src.is_v4() {
        checksum::of(message)
    } else {
        let pseudo = checksum::pseudo(m.src, m.dst, m.protocol, message.len() as u32);
        pseudo.bytes(message).checksum()
    };
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn udp_of_len(len: usize) -> FrameSpec {
    with_payload(
        Side::A.pod_sends(0, Side::B.pod(0, V4), udp(7, 8)),
        vec![7; len - 28],
    )
}

fn inner_mtu(how: Protection, link: usize) -> usize {
    outbound(Side::A, how).tunnel.inner_mtu(link)
}

/// The size that a pod of A's is told when it sends a packet of `len` bytes; `None` if it went.
fn told(rig: &mut Rig, len: usize) -> Option<u32> {
    rig.a.deliver(VF0, &udp_of_len(len).build());
    rig.settle();
    let answers = rig.a.take(VF0);
    let came = rig.b.take(VF0).len();
    assert_eq!(came + answers.len(), 1, "delivered or told");
    answers
        .first()
        .map(|it| icmp::next_hop_mtu(it, &meta(it)).unwrap())
}

/// A sealed packet of A's as it stood on the wire.
fn sealed(rig: &mut Rig, len: usize) -> Vec<u8> {
    rig.wire.clear();
    assert_eq!(told(rig, len), None);
    let mut long = rig.wire.iter().filter(|it| it.len() >= len);
    long.next_back().unwrap().clone()
}

fn all_ways() -> impl Iterator<Item = Protection> {
    let ways = [(true, false), (true, true), (false, false), (false, true)];
    ways.into_iter().map(|(outer_v4, udp_encap)| Protection {
        outer_v4,
        udp_encap,
        ..Protection::default()
    })
}

#[test]
fn a_narrow_path_is_heard_of_and_the_pod_told_what_passes_it_sealed() {
    for how in all_ways() {
        let mut rig = Rig::protected_by(how);
        let (wide, narrow) = (inner_mtu(how, 1500), inner_mtu(how, 1400));
        let lost = sealed(&mut rig, wide);
        let consumed = |rig: &Rig| rig.a.counters()["uplink.consumed"];
        let before = consumed(&rig);
        rig.a.deliver(UPLINK, &too_big(&lost, 1400));
        rig.a.drain();
        rig.a.drain();
        assert_eq!(consumed(&rig), before + 1);
        assert_eq!(told(&mut rig, wide), Some(narrow as u32), "{how:?}");
        assert_eq!(told(&mut rig, narrow + 1), Some(narrow as u32));
        assert_eq!(told(&mut rig, narrow), None);
        // What says more, or the same again, changes nothing, nor when it ends.
        rig.advance(HOLDS_NS / 2);
        let last = sealed(&mut rig, narrow);
        for mtu in [1400, 1450, 9000] {
            rig.a.deliver(UPLINK, &too_big(&last, mtu));
            rig.a.drain();
        }
        assert_eq!(told(&mut rig, wide), Some(narrow as u32));
        rig.advance(HOLDS_NS / 2);
        assert_eq!(told(&mut rig, wide), None, "after ten minutes");
    }
}

#[test]
fn who_does_not_quote_what_was_sent_of_late_is_not_heard() {
    for how in all_ways() {
        let mut rig = Rig::protected_by(how);
        let wide = inner_mtu(how, 1500);
        let lost = sealed(&mut rig, wide);
        let good = too_big(&lost, 1400);
        let m = meta(&good);
        let quote = usize::from(m.l4_off) + 8;
        let (addrs, header) = if how.outer_v4 { (12, 20) } else { (8, 40) };
        let size = if how.outer_v4 { 4 } else { 16 };
        let esp = quote + header + if how.udp_encap { 8 } else { 0 };
        let flipped = |at: usize, bit: u8| {
            let mut frame = good.clone();
            frame[at] ^= bit;
            summed(frame)
        };
        let mut unsummed = good.clone();
        unsummed[quote - 1] ^= 1;
        let mut cases = vec![
            ("icmp-no-flow", unsummed, "its checksum"),
            (
                "icmp-no-flow",
                flipped(quote + addrs + size - 1, 1),
                "whose packet",
            ),
            (
                "icmp-no-flow",
                flipped(quote + addrs + 2 * size - 1, 4),
                "to whom",
            ),
            ("icmp-no-flow", flipped(esp + 3, 0x40), "the SPI"),
            ("icmp-not-sent", flipped(esp + 7, 0x40), "a number to come"),
            ("icmp-not-sent", flipped(esp + 4, 0x80), "one of long ago"),
            (
                "icmp-no-flow",
                good[..esp + 7].to_vec(),
                "cut before the number",
            ),
        ];
        let (last, frame) = cases.last_mut().map(|it| (it.0, &mut it.1)).unwrap();
        assert_eq!(last, "icmp-no-flow");
        // Its own lengths say so, too.
        let l3_len = (frame.len() - 14) as u16;
        if how.outer_v4 {
            frame[16..18].copy_from_slice(&l3_len.to_be_bytes());
            frame[24..26].fill(0);
            let sum = checksum::of(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            frame[18..20].copy_from_slice(&(l3_len - 40).to_be_bytes());
        }
        *frame = summed(frame.clone());
        let least = if how.outer_v4 { 576 } else { 1280 };
        cases.push(("icmp-mtu", too_big(&lost, least - 1), "less than any path"));
        let mut other = good.clone();
        other[0..6].copy_from_slice(&Side::B.uplink_mac().0);
        cases.push(("not-for-us", other, "another's MAC"));
        for (reason, frame, what) in cases {
            rig.advance(Tick::SECOND);
            rig.a.deliver(UPLINK, &frame);
            rig.a.drain();
            rig.a.drain();
            assert_eq!(rig.a.last_drop(UPLINK), reason, "{what}, {how:?}");
            assert_eq!(told(&mut rig, wide), None, "{what}, {how:?}");
            rig.a.rebase();
        }
        rig.a.deliver(UPLINK, &too_big(&lost, least));
        rig.a.drain();
        rig.a.drain();
        assert_eq!(
            told(&mut rig, wide),
            Some(inner_mtu(how, least.into()) as u32)
        );
    }
}

/// A rekey is no reason to lose the next long packet; another destination is another path.
#[test]
fn new_keys_go_by_the_path_as_it_was_known() {
    let how = Protection::default();
    let mut rig = Rig::protected_by(how);
    let (wide, narrow) = (inner_mtu(how, 1500), inner_mtu(how, 1400));
    let lost = sealed(&mut rig, wide);
    rig.a.deliver(UPLINK, &too_big(&lost, 1400));
    rig.a.drain();
    rig.a.drain();
    let mut next = outbound(Side::A, how);
    let key = key(how.algorithm, Side::B as u8);
    *next.sa = OutboundSa::starting_at(spi(Side::B), key, how.esn, 1000);
    rig.a.command(Command::InstallOutbound(OTHER, next.into()));
    rig.a.poll();
    assert!(matches!(
        rig.a.reply(),
        Reply::OutboundInstalled(_, _, Some(_))
    ));
    assert_eq!(told(&mut rig, wide), Some(narrow as u32));
    assert_eq!(told(&mut rig, narrow), None);
}

#[test]
fn a_flood_of_forgeries_keeps_no_true_one_from_being_heard() {
    let how = Protection::default();
    let mut rig = Rig::protected_by(how);
    let wide = inner_mtu(how, 1500);
    let lost = sealed(&mut rig, wide);
    let m = meta(&lost);
    let mut forged = too_big(&lost, 1400);
    forged[usize::from(m.l4_off) + 28 + 3] ^= 0x40;
    let forged = summed(forged);
    rig.a.rebase();
    for _ in 0..1000 {
        rig.a.deliver(UPLINK, &forged);
        rig.a.drain();
    }
    let counted = rig.a.counters();
    let of = |reason: &str| counted.get(reason).copied().unwrap_or(0);
    let refused = of("uplink.drop.icmp-no-flow") + of("uplink.drop.icmp-not-sent");
    assert_eq!(refused, 1000, "{counted:?}");
    if !ALONE {
        // Another worker's are few, so that they fill no ring: one more each 10 ms.
        assert_eq!(of("uplink.drop.handoff"), 0);
        rig.a.now = rig.a.now + Tick::SECOND;
    }
    assert_eq!(told(&mut rig, wide), None, "a forgery is believed");
    let lost = sealed(&mut rig, wide);
    rig.a.deliver(UPLINK, &too_big(&lost, 1400));
    rig.a.drain();
    rig.a.drain();
    assert_eq!(told(&mut rig, wide), Some(inner_mtu(how, 1400) as u32));
}
