//! The walk over ports in memory, each way.

use std::hint::black_box;
use std::time::Duration;

use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::port::BURST_MAX;

use crate::aead::Bare;
use crate::bed::{Bed, Side};
use crate::bursts::{Noop, opened, through};
use crate::frames::udp;
use crate::report::Measured;
use crate::timing::{Medians, timed};

/// Flows that a worker has room for.
pub const FLOWS: usize = 65_536;

/// Sealings that are timed together: one alone is too short for the clock.
const SEALS: u32 = 32;

/// Pod to pod on one node, to the wire as ESP, and from it, for frames of `len` bytes. Each
/// is measured in turn with the no-op and the bare cipher, for `share` each time.
#[must_use]
pub fn walk(len: usize, share: Duration) -> Vec<Measured> {
    let bed = |side| Bed::new(side, Algorithm::Aes128Gcm16, FLOWS);
    let (mut a, mut b) = (bed(Side::A), bed(Side::B));
    let local = udp(Side::A.source(), Side::A.pod(1), 1, len);
    let remote = udp(Side::A.source(), Side::B.pod(0), 1, len);
    let from_b = udp(Side::B.source(), Side::A.pod(0), 1, len);
    let (mut noop, mut bare) = (Noop::default(), Bare::new(len));
    let mut medians = Medians::<5>::new(share);
    while let Some(mut round) = medians.next_round() {
        round.measure(0, BURST_MAX, || noop.moved(&local));
        round.measure(1, SEALS as usize, || seal(&mut bare));
        round.measure(2, BURST_MAX, || through(&mut a, &local));
        round.measure(3, BURST_MAX, || through(&mut a, &remote));
        round.measure(4, BURST_MAX, || opened(&mut b, &mut a, &from_b));
    }
    let [noop, bare, plain, sealed, opened] = medians.ns();
    vec![
        Measured::new("mem/vf-to-vf", len, plain, noop),
        Measured::new("mem/vf-to-uplink-esp", len, sealed, noop).beside(bare),
        Measured::new("mem/uplink-esp-to-vf", len, opened, noop).beside(bare),
    ]
}

/// Some sealings by the bare cipher.
pub fn seal(bare: &mut Bare) -> Duration {
    timed(|| {
        for _ in 0..black_box(SEALS) {
            bare.seal();
        }
    })
}
