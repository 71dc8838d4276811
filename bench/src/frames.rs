//! Frames of a given length.

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};

/// A UDP frame of `len` bytes in all, from a pod to the router; no shorter than its
/// headers.
#[must_use]
pub fn udp(src: (Mac, Addr), dst: Addr, src_port: u16, len: usize) -> Vec<u8> {
    let body = Body::Udp {
        src_port,
        dst_port: 5201,
    };
    of_len(src, dst, body, len)
}

/// As [`udp`], with any body.
#[must_use]
pub fn of_len(src: (Mac, Addr), dst: Addr, body: Body, len: usize) -> Vec<u8> {
    let mut spec = FrameSpec {
        eth_src: src.0,
        eth_dst: ROUTER_MAC,
        ..FrameSpec::new(src.1.into(), dst.into(), body)
    };
    spec.payload = vec![0xa5; len.saturating_sub(spec.build().len())];
    spec.build()
}
