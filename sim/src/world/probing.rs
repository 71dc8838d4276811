//! A probe: real frames from one station to another, and what came of them.

use std::net::IpAddr;

use sluice_dataplane_control::VerdictLine;
use sluice_dataplane_core::flow::key::Tuple;
use sluice_dataplane_core::meta::tcp_flag;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_host_agent::cluster::NamespacedName;
use sluice_host_agent::evaluate::{self, Crossing, Judgement, Query, ShadowJudgement};
use sluice_offload_api::model::{Direction, NodeName, PodRef, Protocol, ShadowRuling, Verdict};

use super::net::At;
use super::node::SimNode;
use super::stale::{nobody, node_of};
use super::station::Station;
use super::wire_check::{MARKER, is_between, is_esp};
use super::{World, plan};
use crate::probe::{Family, Observation, Party, Probe, ProbeError, ProbePort};

/// Probes' source ports and ICMP identifiers go round in this range.
const FIRST_SOURCE_PORT: u16 = 20_000;
const SOURCE_PORTS: u16 = 40_000;
/// SCTP INIT (RFC 9260 section 3.3.2).
const INIT: u8 = 1;
/// What a payload has in place of the marker where it may be seen: to or from the outside,
/// and between nodes themselves.
pub(super) const PLAIN: &[u8] = b"sluice-visible-text!!";
/// Times a question is sent before it counts as unanswered.
const TRIES: usize = 2;

/// A probe with everything it leaves open filled in.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: Protocol,
    pub(super) port: Option<u16>,
    pub(super) family: Family,
}

impl Question {
    /// Such a packet never leaves its network namespace: no dataplane sees it, and no
    /// policy can deny a pod to itself.
    pub(super) fn is_loopback(&self) -> bool {
        self.src == self.dst
    }
}

impl World {
    /// Sends a probe's frames and tells what came of them.
    ///
    /// # Errors
    /// [`ProbeError`] if it can't be sent.
    pub fn probe(&mut self, probe: &Probe) -> Result<Observation, ProbeError> {
        let question = self.question(probe)?;
        if question.is_loopback() {
            return Ok(Observation {
                verdict: Verdict::Allow,
                at: None,
                rule: None,
                shadow: None,
                encrypted: false,
                touched: false,
                port: question.port,
                family: question.family,
            });
        }
        let source_port = probe.source_port.unwrap_or_else(|| self.fresh_port());
        let hits_before = self.net.faults.hits;
        let crowded_out_before = self.crowded_out(&question);
        let mut spec = packet(&question, source_port);
        // Its number tells it from others of its flow.
        let number = format!(" {:06}", self.asked);
        self.asked = self.asked.wrapping_add(1);
        spec.payload = [
            self.payload(probe, question.src, question.dst),
            number.as_bytes(),
        ]
        .concat();
        self.drain_verdicts();

        let wire_before = self.net.wire.len();
        let mut answered = false;
        for _ in 0..TRIES {
            answered = answered || self.ask(probe, &question, &spec);
        }
        let verdicts = self.drain_verdicts();
        let (at, rule) = decision(&verdicts, &tuple_of(&spec));
        let was_denied = verdicts.iter().any(|it| it.denied.is_some());
        Ok(Observation {
            verdict: if answered {
                Verdict::Allow
            } else {
                Verdict::Deny
            },
            at: at.filter(|_| !answered),
            // What a rule at the source allowed and no rule denied was lost to something else.
            rule: rule.filter(|_| answered || was_denied),
            shadow: shadow(&verdicts, &tuple_of(&spec)),
            encrypted: self.was_encrypted(wire_before, &question),
            touched: self.net.faults.hits != hits_before
                || self.crowded_out(&question) != crowded_out_before
                || self.waits_for_what_is_broken()
                || self.lacks_keys(probe, &question)
                || self.is_dead(&probe.from)
                || self.is_dead(&probe.to),
            port: question.port,
            family: question.family,
        })
    }

    /// Whether both ends of a question are on nodes that can't agree on keys for what is broken
    /// at or between them.
    fn lacks_keys(&self, probe: &Probe, question: &Question) -> bool {
        let node = |party, ip| match self.place_of(party, ip) {
            Some(At::Behind(node, _)) => self.nodes.get(node),
            _ => None,
        };
        let from = node(&probe.from, question.src);
        let (Some(from), Some(to)) = (from, node(&probe.to, question.dst)) else {
            return false;
        };
        let way = self.net.faults.passing(from.index, to.index);
        let broken = way.parted || way.loss > 0 || !from.works() || !to.works();
        let around = self.net.around();
        // Without a reason no certificate is refused.
        let doubtful =
            !self.keying.certificates.is_whole() || from.clock.is_off() || to.clock.is_off();
        let apart = || {
            doubtful
                && self
                    .keying
                    .are_kept_apart(&self.nodes, &from.name, &to.name, around)
        };
        let has_none = || !self.keying.has_keys(&from.name, &to.name);
        from.index != to.index && has_none() && (broken || apart())
    }

    /// Frames that found no room in a flow table, if an end of a question has flooded or was
    /// flooded: nobody else may be the worse for it.
    pub(super) fn crowded_out(&self, question: &Question) -> u64 {
        let api = self.api();
        let is_crowded = |ip| api.pod_uid(ip).is_some_and(|it| self.crowded.contains(it));
        if !is_crowded(question.src) && !is_crowded(question.dst) {
            return 0;
        }
        let reasons = [DropReason::FlowQuota, DropReason::FlowTableFull];
        let reasons = reasons.map(DropReason::name);
        let lines = self.nodes.iter().flat_map(SimNode::counters);
        let drops = lines.flat_map(|it| it.drops);
        let drops = drops.filter(|it| reasons.contains(&it.reason.as_str()));
        drops.map(|it| it.frames).sum()
    }

    /// Whether the dataplane that a party is behind doesn't run.
    fn is_dead(&self, party: &Party) -> bool {
        let party = judged(party);
        let node = node_of(&self.cluster, &party);
        let dead = self.nodes.iter();
        let mut dead = dead.filter(|it| !it.left && (it.dead || it.stalled));
        dead.any(|it| Some(&it.name) == node)
    }

    /// A source port, or ICMP identifier, that no probe has had for long.
    pub(super) fn fresh_port(&mut self) -> u16 {
        let port = FIRST_SOURCE_PORT + self.probes % SOURCE_PORTS;
        self.probes = self.probes.wrapping_add(1);
        port
    }

    /// What policy says of a probe, by the naive evaluator: nothing of the dataplanes is
    /// asked.
    ///
    /// # Errors
    /// [`ProbeError`] if it couldn't be sent.
    pub fn expected(&self, probe: &Probe) -> Result<Judgement, ProbeError> {
        let question = self.question(probe)?;
        if question.is_loopback() {
            return Ok(Judgement::of(None, None));
        }
        let judged = self.judge(&query_of(probe, &question));
        // No policy is asked about an address that no pod has.
        if judged.rule.as_deref() == Some(evaluate::NOBODY) {
            return Ok(nobody());
        }
        let api = self.api();
        // Where no packet may go the source's own policy is all that is asked before.
        let at_source = judged.at == Some(Direction::Egress) && !api.is_unprotected(question.src);
        if api.crossing(question.src, question.dst) == Crossing::Never && !at_source {
            return Ok(nobody());
        }
        Ok(judged)
    }

    /// How a probe's packets may cross the wire, by the settings of both ends.
    ///
    /// # Errors
    /// [`ProbeError`] if it couldn't be sent.
    pub fn crossing(&self, probe: &Probe) -> Result<Crossing, ProbeError> {
        let question = self.question(probe)?;
        Ok(self.api().crossing(question.src, question.dst))
    }

    /// Whether a probe of a flow that goes on may be answered though policy denies its flow: a
    /// late answer may have begun it the other way round at a node that had it no more, and
    /// each node then allows what it sees. Whether it was so frames tell, and their oracle.
    ///
    /// # Errors
    /// As [`Self::expected`].
    pub fn may_be_turned(&self, probe: &Probe) -> Result<bool, ProbeError> {
        let question = self.question(probe)?;
        let Some(source_port) = probe
            .source_port
            .filter(|_| probe.protocol == Protocol::Udp)
        else {
            return Ok(false);
        };
        let query = query_of(probe, &question);
        let back = Query {
            from: query.to.clone(),
            to: query.from.clone(),
            port: Some(source_port),
            from_ip: query.to_ip,
            to_ip: query.from_ip,
            ..query
        };
        if self.api().share_a_node(&query.from, &query.to) {
            return Ok(self.judge(&back).verdict == Verdict::Allow);
        }
        let sides = |it| self.stale.sides(&self.cluster, it);
        let ([goes, comes], [back_goes, back_comes]) = (sides(&query), sides(&back));
        Ok((goes || back_comes) && (comes || back_goes))
    }

    /// What policy says of a flow, by the naive evaluator, at each end as its node sees it.
    #[must_use]
    pub fn judge(&self, query: &Query) -> Judgement {
        self.stale.judge(&self.cluster, query)
    }

    /// The marker, if it may be nowhere on the wire: not between nodes, whose hostNetwork
    /// pods are they themselves, nor with the outside, nor where both ends let it.
    pub(super) fn payload(&self, probe: &Probe, from: IpAddr, to: IpAddr) -> &'static [u8] {
        let is_node = |party: &Party| match party {
            Party::Node(_) => true,
            Party::Outside(_) => false,
            Party::Pod { namespace, name } => {
                let (namespace, name) = (namespace.clone(), name.clone());
                let pod = self.cluster.pods.get(&PodRef { namespace, name });
                pod.is_some_and(|it| it.host_network)
            }
        };
        let outside = |party: &Party| matches!(party, Party::Outside(_));
        let api = self.api();
        let is_clear = || {
            let ways = [(from, to), (to, from)];
            let mut ways = ways.into_iter().map(|(from, to)| api.crossing(from, to));
            // What it sends that nobody takes it has put there itself.
            api.is_unprotected(from) || ways.any(|it| it == Crossing::Clear)
        };
        if outside(&probe.from)
            || outside(&probe.to)
            || is_node(&probe.from) && is_node(&probe.to)
            || is_clear()
        {
            PLAIN
        } else {
            MARKER
        }
    }

    pub(super) fn question(&self, probe: &Probe) -> Result<Question, ProbeError> {
        let from = self.addresses(&probe.from, probe.from_network.as_ref())?;
        let to = self.addresses(&probe.to, probe.to_network.as_ref())?;
        let outside = |party: &Party| matches!(party, Party::Outside(_));
        if outside(&probe.from) && outside(&probe.to) {
            return Err(ProbeError::BothOutside);
        }
        let first = from
            .first()
            .or(to.first())
            .copied()
            .map_or(Family::Ipv4, Family::of);
        let family = probe.family.unwrap_or(first);
        let pick = |ips: &[IpAddr], party: &Party| {
            ips.iter()
                .copied()
                .find(|ip| Family::of(*ip) == family)
                .ok_or_else(|| ProbeError::NoAddress {
                    party: party.to_string(),
                    family,
                })
        };
        Ok(Question {
            src: pick(&from, &probe.from)?,
            dst: pick(&to, &probe.to)?,
            protocol: probe.protocol,
            port: self.port(probe)?,
            family,
        })
    }

    /// A pod's addresses on a network, or else its own; only pods are on networks.
    pub(super) fn addresses(
        &self,
        party: &Party,
        network: Option<&NamespacedName>,
    ) -> Result<Vec<IpAddr>, ProbeError> {
        match party {
            Party::Pod { namespace, name } => {
                let pod = PodRef {
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                let found = self.cluster.pods.get(&pod);
                let pod = found.ok_or_else(|| ProbeError::NoPod {
                    namespace: namespace.clone(),
                    name: name.clone(),
                })?;
                let Some(network) = network else {
                    return Ok(pod.ips.clone());
                };
                let on = pod.interfaces.iter().filter(|it| it.network == *network);
                let on: Vec<_> = on.collect();
                if on.is_empty() {
                    let (party, network) = (party.to_string(), network.clone());
                    return Err(ProbeError::NoNetwork { party, network });
                }
                Ok(on.iter().flat_map(|it| &it.ips).copied().collect())
            }
            Party::Node(name) => {
                let found = self.cluster.nodes.get(&NodeName(name.clone()));
                let ips = found.map(|n| n.ips.clone());
                ips.ok_or_else(|| ProbeError::NoNode { name: name.clone() })
            }
            Party::Outside(ip) => Ok(vec![*ip]),
        }
    }

    fn port(&self, probe: &Probe) -> Result<Option<u16>, ProbeError> {
        let name = match &probe.port {
            None => return Ok(None),
            Some(ProbePort::Number(number)) => return Ok(Some(*number)),
            Some(ProbePort::Name(name)) => name,
        };
        let pod = match &probe.to {
            Party::Pod { namespace, name } => {
                let pod = PodRef {
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                self.cluster.pods.get(&pod)
            }
            _ => None,
        };
        let number = pod.and_then(|p| p.named_ports(name, probe.protocol).next());
        number.map(Some).ok_or_else(|| ProbeError::NoPort {
            party: probe.to.to_string(),
            protocol: probe.protocol,
            port: name.clone(),
        })
    }

    /// Asks once and lets everything come to rest: whether the answer came.
    fn ask(&mut self, probe: &Probe, question: &Question, spec: &FrameSpec) -> bool {
        let Some(at) = self.place_of(&probe.from, question.src) else {
            return false;
        };
        let next_hop = self.next_hop(at, question);
        let spec = spec.clone();
        if at == At::Outside {
            self.outside.ips.push(question.src);
        }
        let station = self.station_at(at);
        let frames = station.map(|s| s.ask(spec, next_hop)).unwrap_or_default();
        self.send_from(at, frames);
        self.settle();
        if at == At::Outside {
            self.outside.ips.pop();
        }
        self.station_at(at).is_some_and(Station::finish)
    }

    /// Where a party's frames from an address enter.
    pub(super) fn place_of(&self, party: &Party, src: IpAddr) -> Option<At> {
        match party {
            Party::Outside(_) => Some(At::Outside),
            _ if self.api().is_unprotected(src) => Some(At::Outside),
            Party::Node(name) => self.host(&NodeName(name.clone())),
            Party::Pod { namespace, name } => {
                let pod = PodRef {
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                let known = self.cluster.pods.get(&pod)?;
                let interface = known.interface_at(src);
                let interface = interface.map_or_else(String::new, |it| it.name.clone());
                let node = known.node.clone()?;
                let index = self.nodes.iter().position(|n| n.is_named(&node.0))?;
                match self.nodes.get(index)?.port_of(pod, interface) {
                    Some(port) => Some(At::Behind(index, port)),
                    // It isn't plugged in: what it sends comes to nobody.
                    None if known.owns_addresses() => None,
                    None => self.host(&node),
                }
            }
        }
    }

    fn host(&self, name: &NodeName) -> Option<At> {
        let index = self.nodes.iter().position(|n| n.is_named(&name.0))?;
        Some(At::Behind(index, self.nodes.get(index)?.host_port()))
    }

    /// Who a station asks for on its way: a pod its router, a node whoever is in the
    /// cluster directly and the gateway for the rest, the outside everyone directly.
    pub(super) fn next_hop(&self, at: At, question: &Question) -> IpAddr {
        let host =
            |index: usize, port| self.nodes.get(index).is_some_and(|n| n.host_port() == port);
        let is_inside = || {
            let pods = self.cluster.pods.values();
            // One that is over is asked for directly too.
            let mut ips = pods.flat_map(|p| {
                let more = p.interfaces.iter().flat_map(|it| &it.ips);
                p.ips.iter().chain(more)
            });
            let api = self.api();
            api.is_node(question.dst)
                || api.is_pod(question.dst)
                || ips.any(|ip| *ip == question.dst)
        };
        match at {
            At::Outside => question.dst,
            At::Behind(node, port) | At::Dataplane(node, port) if host(node, port) => {
                if is_inside() {
                    question.dst
                } else {
                    plan::gateway(question.family)
                }
            }
            _ => plan::pod_gateway(question.family),
        }
    }

    fn drain_verdicts(&mut self) -> Vec<VerdictLine> {
        let mut verdicts = Vec::new();
        for node in &mut self.nodes {
            while let Some(verdict) = node.control.next_verdict() {
                verdicts.push(verdict);
            }
        }
        verdicts
    }

    /// Whether the probe's packets crossed the wire, and none of them in clear.
    fn was_encrypted(&self, from: usize, question: &Question) -> bool {
        let seen = self.net.wire.get(from..).unwrap_or_default();
        let (src, dst) = (question.src.into(), question.dst.into());
        seen.iter().any(|c| is_esp(&c.bytes))
            && !seen.iter().any(|c| is_between(&c.bytes, src, dst))
    }
}

/// An end as the evaluator has it.
pub(super) fn judged(party: &Party) -> evaluate::Party {
    match party {
        Party::Pod { namespace, name } => evaluate::Party::Pod {
            ns: namespace.clone(),
            name: name.clone(),
        },
        Party::Node(name) => evaluate::Party::Node(NodeName(name.clone())),
        Party::Outside(ip) => evaluate::Party::Outside(*ip),
    }
}

/// A probe's flow as the evaluator has it.
pub(super) fn query_of(probe: &Probe, question: &Question) -> Query {
    Query {
        from: judged(&probe.from),
        to: judged(&probe.to),
        protocol: question.protocol,
        port: question.port,
        from_ip: question.src,
        to_ip: question.dst,
    }
}

/// The first packet of a probe.
pub(super) fn packet(question: &Question, source_port: u16) -> FrameSpec {
    let dst_port = question.port.unwrap_or(0);
    let src_port = source_port;
    let body = match question.protocol {
        Protocol::Tcp => Body::Tcp {
            src_port,
            dst_port,
            flags: tcp_flag::SYN,
            seq: 1,
            ack: 0,
            mss: Some(1460),
        },
        Protocol::Udp => Body::Udp { src_port, dst_port },
        Protocol::Sctp => Body::Sctp {
            src_port,
            dst_port,
            chunk: INIT,
        },
        Protocol::Icmp => Body::IcmpEcho {
            id: source_port,
            seq: 1,
            reply: false,
        },
    };
    FrameSpec::new(question.src, question.dst, body)
}

fn tuple_of(spec: &FrameSpec) -> Tuple {
    let (src_port, dst_port) = match spec.body {
        Body::Tcp {
            src_port, dst_port, ..
        }
        | Body::Udp { src_port, dst_port }
        | Body::Sctp {
            src_port, dst_port, ..
        } => (src_port, dst_port),
        Body::IcmpEcho { id, .. } => (id, id),
        Body::Other { .. } => (0, 0),
    };
    Tuple {
        src: spec.src.into(),
        dst: spec.dst.into(),
        src_port,
        dst_port,
        protocol: spec.protocol(),
    }
}

/// Who decided, by the records of the dataplanes on the way: the side and rule that
/// denied, else the destination's rule, else the source's.
fn decision(verdicts: &[VerdictLine], tuple: &Tuple) -> (Option<Direction>, Option<String>) {
    let mine = || verdicts.iter().filter(|v| v.tuple == *tuple);
    if let Some(denial) = mine().find(|v| v.denied.is_some()) {
        return match denial.denied {
            Some(DropReason::PolicyEgress) => (Some(Direction::Egress), denial.egress.clone()),
            Some(DropReason::PolicyIngress) => (Some(Direction::Ingress), denial.ingress.clone()),
            Some(DropReason::ServiceVip) => (
                Some(Direction::Egress),
                Some(evaluate::SERVICE_VIP.to_owned()),
            ),
            _ => (None, None),
        };
    }
    let ingress = mine().find_map(|v| v.ingress.clone());
    (
        None,
        ingress.or_else(|| mine().find_map(|v| v.egress.clone())),
    )
}

/// What shadow policies would have made of it: at the source, else at the destination.
fn shadow(verdicts: &[VerdictLine], tuple: &Tuple) -> Option<ShadowJudgement> {
    let mine = || verdicts.iter().filter(|v| v.tuple == *tuple);
    let judged = |ruling: &ShadowRuling, at| ShadowJudgement {
        verdict: ruling.would,
        at,
        rule: ruling.rule.clone().unwrap_or_default(),
    };
    let egress = mine().find_map(|v| v.shadow_egress.as_ref());
    let ingress = || mine().find_map(|v| v.shadow_ingress.as_ref());
    egress
        .map(|it| judged(it, Direction::Egress))
        .or_else(|| Some(judged(ingress()?, Direction::Ingress)))
}
