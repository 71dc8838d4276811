//! Frames of the sample state's pods: cart behind `vf0`, db behind `vf1`.

use core::net::{IpAddr, Ipv4Addr};

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};

/// Places of the ports in [`super::PORTS`].
pub(crate) const UPLINK: usize = 0;
pub(crate) const VF0: usize = 2;
pub(crate) const VF1: usize = 3;

pub(crate) const CART: [u8; 4] = [10, 0, 0, 1];
pub(crate) const DB: [u8; 4] = [10, 0, 0, 2];

/// A SYN from cart to db.
pub(crate) fn cart_to_db(src_port: u16, dst_port: u16) -> Vec<u8> {
    syn(Mac([2, 0, 0, 0, 0, 1]), CART, DB, src_port, dst_port)
}

pub(crate) fn syn(
    eth_src: Mac,
    src: [u8; 4],
    dst: [u8; 4],
    src_port: u16,
    dst_port: u16,
) -> Vec<u8> {
    let body = Body::Tcp {
        src_port,
        dst_port,
        flags: 2,
        seq: 1,
        ack: 0,
        mss: None,
    };
    tcp(eth_src, src, dst, body)
}

/// A segment from cart to db of a connection that stands.
pub(crate) fn cart_to_db_later(src_port: u16, dst_port: u16) -> Vec<u8> {
    let body = Body::Tcp {
        src_port,
        dst_port,
        flags: 0x10,
        seq: 5_000,
        ack: 7_000,
        mss: None,
    };
    tcp(Mac([2, 0, 0, 0, 0, 1]), CART, DB, body)
}

fn tcp(eth_src: Mac, src: [u8; 4], dst: [u8; 4], body: Body) -> Vec<u8> {
    let ip = |it: [u8; 4]| IpAddr::V4(Ipv4Addr::from(it));
    FrameSpec {
        eth_src,
        eth_dst: ROUTER_MAC,
        ..FrameSpec::new(ip(src), ip(dst), body)
    }
    .build()
}

/// Source port of a TCP frame over IPv4 without options or tag.
pub(crate) fn src_port(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[34], frame[35]])
}
