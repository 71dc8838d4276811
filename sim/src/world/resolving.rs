//! What a pod asks a resolver, and what that says.

use std::net::IpAddr;

use sluice_dataplane_core::meta::tcp_flag;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};

use super::net::At;
use super::station::Station;
use super::{World, plan};
use crate::probe::{Family, Party, ProbeError};

/// Where resolvers listen.
pub const DNS_PORT: u16 = 53;

/// A question and its answer.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// The pod that asks.
    pub from: &'a Party,
    /// Its address.
    pub from_ip: IpAddr,
    /// Who is asked: a pod, or a host outside.
    pub server: &'a Party,
    /// The server's address.
    pub server_ip: IpAddr,
    /// The port that the pod asks from,
    pub src_port: u16,
    /// and the server's: 53, unless it is no resolver.
    pub dst_port: u16,
    /// Over TCP, with both messages' lengths before them.
    pub tcp: bool,
    /// The question.
    pub query: &'a [u8],
    /// The answer, whatever it says.
    pub answer: &'a [u8],
}

impl World {
    /// Has a pod ask a resolver: whether the answer came to it.
    ///
    /// # Errors
    /// [`ProbeError::NoPod`] if either isn't there.
    pub fn exchange(&mut self, exchange: &Exchange<'_>) -> Result<bool, ProbeError> {
        let place = |it: &Self, party: &Party, ip| {
            it.place_of(party, ip).ok_or_else(|| ProbeError::NoPod {
                namespace: String::new(),
                name: party.to_string(),
            })
        };
        let (from, server) = (
            place(self, exchange.from, exchange.from_ip)?,
            place(self, exchange.server, exchange.server_ip)?,
        );
        let message = |bytes: &[u8]| {
            let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
            let before: &[u8] = if exchange.tcp { &len } else { &[] };
            [before, bytes].concat()
        };
        let (src_port, dst_port) = (exchange.src_port, exchange.dst_port);
        let body = if exchange.tcp {
            Body::Tcp {
                src_port,
                dst_port,
                flags: tcp_flag::SYN,
                seq: 1,
                ack: 0,
                mss: Some(1460),
            }
        } else {
            Body::Udp { src_port, dst_port }
        };
        let mut spec = FrameSpec::new(exchange.from_ip, exchange.server_ip, body);
        spec.payload = message(exchange.query);
        let answer = message(exchange.answer);
        if let Some(station) = self.station_at(server) {
            station.script = Some(answer.clone());
        }
        let next_hop = plan::pod_gateway(Family::of(exchange.from_ip));
        let Some(station) = self.station_at(from) else {
            return Ok(false);
        };
        let frames = station.ask_for(spec, answer, next_hop);
        self.send_from(from, frames);
        self.settle();
        if let Some(station) = self.station_at(server) {
            station.script = None;
        }
        Ok(self.station_at(from).is_some_and(Station::finish))
    }

    /// Sends a packet from outside, whoever it says it is from.
    pub fn send_from_outside(&mut self, spec: FrameSpec) {
        let next_hop = spec.dst;
        let frames = self.outside.ask(spec, next_hop);
        self.send_from(At::Outside, frames);
        self.settle();
        self.outside.finish();
    }

    pub(super) fn station_at(&mut self, at: At) -> Option<&mut Station> {
        match at {
            At::Outside => Some(&mut self.outside),
            At::Behind(node, port) | At::Dataplane(node, port) => {
                self.nodes.get_mut(node)?.station_mut(port)
            }
        }
    }
}
