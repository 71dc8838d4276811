//! What the wire shows: an observer that knows frames and nothing of the dataplanes.

use sluice_crypto::esp::PORT_NAT_T;
use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::wire;

use super::net::is_neighbor;
use crate::report::{Captured, WireProof};

/// Stands in every payload between pods: found on the wire, it was not encrypted.
pub const MARKER: &[u8] = b"sluice-payload-marker";

/// Whether a frame is ESP, in UDP too.
pub(crate) fn is_esp(frame: &[u8]) -> bool {
    wire::parse(frame).is_ok_and(|meta| {
        meta.protocol == proto::ESP || meta.protocol == proto::UDP && meta.dst_port == PORT_NAT_T
    })
}

/// Whether a frame is a packet between two addresses, in clear.
pub(crate) fn is_between(frame: &[u8], a: Addr, b: Addr) -> bool {
    wire::parse(frame)
        .is_ok_and(|meta| (meta.src, meta.dst) == (a, b) || (meta.src, meta.dst) == (b, a))
}

fn occurrences(frame: &[u8]) -> usize {
    frame
        .windows(MARKER.len())
        .filter(|window| *window == MARKER)
        .count()
}

/// Counts what is there.
pub(crate) fn prove(wire: &[Captured]) -> WireProof {
    let mut proof = WireProof::default();
    for Captured { bytes, .. } in wire {
        proof.frames += 1;
        if is_esp(bytes) {
            proof.esp_frames += 1;
        } else if is_neighbor(bytes) {
            proof.neighbor_frames += 1;
        } else {
            proof.other_frames += 1;
        }
        proof.marker_bytes_in_clear += occurrences(bytes) * MARKER.len();
    }
    proof
}
