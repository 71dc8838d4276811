//! No frame that policy denies comes to anyone: neither of the first of a flow nor of a later
//! one, whatever was allowed before. One that was allowed when it was sent may be late.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_dataplane_core::meta::proto;
use sluice_host_agent::evaluate::{Party, Query};
use sluice_offload_api::model::{Protocol, Verdict};

use super::Oracle;
use super::packet::{Ends, Identity, Packet};
use crate::sighting::{Sighting, Spot, Way};
use crate::world::Api;

/// What was seen to be sent.
#[derive(Debug, Default)]
pub(super) struct Policy {
    /// Who began each flow, by who was seen to send first.
    flows: BTreeMap<Ends, Flow>,
    /// Each packet, and whether it was allowed when it was sent last.
    sent: BTreeMap<Identity, bool>,
}

#[derive(Clone, Debug)]
struct Flow {
    from: Party,
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
}

impl Oracle for Policy {
    fn name(&self) -> &'static str {
        "policy"
    }

    fn see(&mut self, seen: &Sighting, packet: Option<&Packet>, api: &Api<'_>) -> Option<String> {
        let packet = packet.filter(|it| !it.error)?;
        match seen.way {
            Way::Sent => {
                self.begin(sender(seen, packet)?, honest(seen, packet), packet);
                let allowed = self.denial(packet, api).is_none();
                self.sent.insert(packet.identity(), allowed);
            }
            // Nothing protects what goes in clear by design.
            Way::OffWire if seen.touched && packet.esp.is_none() => {
                self.begin(api.party(packet.src), false, packet);
            }
            Way::Delivered if seen.who.as_ref().is_some_and(|it| it.mac == packet.eth_dst) => {
                let denial = self.denial(packet, api);
                let late = self.sent.get(&packet.identity()) == Some(&true);
                return denial.filter(|_| !late);
            }
            _ => {}
        }
        None
    }
}

impl Policy {
    fn begin(&mut self, from: Party, honest: bool, packet: &Packet) {
        let src = (packet.src, packet.src_port);
        let dst = (packet.dst, packet.dst_port);
        let fresh = Flow { from, src, dst };
        match self.flows.get_mut(&packet.ends()) {
            None => {
                self.flows.insert(packet.ends(), fresh);
            }
            // The same ports again, by whoever has the address now.
            Some(flow) if honest && flow.src == src => *flow = fresh,
            Some(_) => {}
        }
    }

    /// What denies a packet's flow as things are.
    fn denial(&self, packet: &Packet, api: &Api<'_>) -> Option<String> {
        // What nobody sent is another oracle's.
        let flow = self.flows.get(&packet.ends())?;
        let protocol = match packet.protocol {
            proto::TCP => Protocol::Tcp,
            proto::UDP => Protocol::Udp,
            proto::SCTP => Protocol::Sctp,
            proto::ICMP | proto::ICMPV6 => Protocol::Icmp,
            _ => return None,
        };
        let query = Query {
            from: flow.from.clone(),
            to: api.party(flow.dst.0),
            protocol,
            port: (protocol != Protocol::Icmp).then_some(flow.dst.1),
            from_ip: flow.src.0,
            to_ip: flow.dst.0,
        };
        let judgement = api.judge(&query);
        // An answer that comes when its flow is gone begins one of its own.
        let is_answer = (packet.src, packet.src_port) == flow.dst;
        if protocol == Protocol::Udp && is_answer {
            let own = Query {
                from: api.party(packet.src),
                to: api.party(packet.dst),
                protocol,
                port: Some(packet.dst_port),
                from_ip: packet.src,
                to_ip: packet.dst,
            };
            if api.judge(&own).verdict == Verdict::Allow {
                return None;
            }
        }
        (judgement.verdict == Verdict::Deny).then(|| {
            let rule = judgement.rule.unwrap_or_else(|| "nobody's".to_owned());
            format!("{packet} was delivered, and policy denies its flow: {rule}")
        })
    }
}

fn honest(seen: &Sighting, packet: &Packet) -> bool {
    seen.spot == Spot::Outside
        || seen
            .who
            .as_ref()
            .is_some_and(|it| it.ips.contains(&packet.src))
}

fn sender(seen: &Sighting, packet: &Packet) -> Option<Party> {
    match &seen.spot {
        Spot::Vf(..) => {
            let pod = seen.who.as_ref()?.pod.as_ref()?;
            Some(Party::Pod {
                ns: pod.namespace.clone(),
                name: pod.name.clone(),
            })
        }
        Spot::Host(node) | Spot::Uplink(node) => Some(Party::Node(node.clone())),
        Spot::Outside => Some(Party::Outside(packet.src)),
    }
}
