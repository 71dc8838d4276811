//! What comes by the wire: frames that the other node has sealed, by its own walk.

use anyhow::ensure;
use sluice_dataplane_core::port::BURST_MAX;

use crate::bed::{Agreed, Bed, Side, UPLINK, VF0};
use crate::memory::FLOWS;

/// Frames of node B's pod as they leave its uplink, with sequence numbers from 1 on.
///
/// # Errors
/// If it lost one, or changed their order.
pub(super) fn by_the_other(agreed: Agreed, frames: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut node = Bed::new(Side::B, agreed, FLOWS);
    let mut sealed = Vec::new();
    for burst in frames.chunks(BURST_MAX) {
        for frame in burst {
            node.deliver(VF0, frame);
        }
        node.poll();
        sealed.extend(node.collect(UPLINK));
        node.discard();
    }
    let numbers = sealed.iter().map(|it| number(it));
    let expected = (1..=frames.len()).map(|it| u32::try_from(it).ok());
    ensure!(
        numbers.eq(expected),
        "node B's ESP packets are not those of all frames, in order"
    );
    Ok(sealed)
}

/// The sequence number of an ESP packet in an IPv4 one without options.
fn number(frame: &[u8]) -> Option<u32> {
    const SEQUENCE: usize = 14 + 20 + 4;
    let bytes = frame.get(SEQUENCE..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

    use sluice_crypto::key::Algorithm;

    use super::*;
    use crate::bed::VF1;
    use crate::frames::udp;

    #[test]
    fn what_the_other_seals_opens_once() {
        let agreed = Agreed {
            algorithm: Algorithm::Aes128Gcm16,
            esn: false,
        };
        let plain = |port| udp(Side::B.source(), Side::A.pod(0), port, 78);
        let frames: Vec<_> = (1..=40).map(plain).collect();
        let sealed = by_the_other(agreed, &frames).unwrap();
        let mut node = Bed::new(Side::A, agreed, FLOWS);
        for opens in [40, 0] {
            for burst in sealed.chunks(BURST_MAX) {
                burst.iter().for_each(|it| node.deliver(UPLINK, it));
                node.poll();
            }
            assert_eq!(node.collect(VF0).len(), opens);
            assert!(node.collect(VF1).is_empty());
        }
    }
}
