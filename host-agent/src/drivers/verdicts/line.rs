//! A verdict as a line: with the names of the generation in force.

use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use sluice_offload_api::State;
use sluice_offload_api::model::{FlowVerdict, IpPrefix, ShadowRuling};

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Line<'a> {
    /// Milliseconds since 1970.
    time_ms: u64,
    verdict: &'static str,
    /// The pod whose policy decided, or whose packet it was; none if it is not of this node.
    pod: Option<&'a str>,
    /// Seen from that pod.
    direction: &'static str,
    /// The other end: a pod or node, a block, or an address.
    peer: String,
    protocol: String,
    src: IpAddr,
    src_port: u16,
    dst: IpAddr,
    dst_port: u16,
    port: Option<&'a str>,
    /// The rule that decided.
    rule: Option<&'a str>,
    /// Why it was dropped.
    reason: Option<&'a str>,
    /// What the source pod's shadow policies would have made of it, if something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_egress: Option<&'a ShadowRuling>,
    /// The destination pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_ingress: Option<&'a ShadowRuling>,
    generation: u64,
}

/// Who has which address, by one generation.
#[derive(Debug, Default)]
pub(super) struct Names {
    state: Arc<State>,
    pods: HashMap<IpAddr, String>,
    hosts: HashMap<IpAddr, String>,
    /// The longest first.
    blocks: Vec<(IpPrefix, String)>,
}

impl Names {
    pub(super) fn of(state: Arc<State>) -> Self {
        let mut names = Self::default();
        for endpoint in state.endpoints.values() {
            let pod = endpoint.name();
            names
                .pods
                .extend(endpoint.ips.iter().map(|ip| (*ip, pod.clone())));
        }
        for it in state.prefixes.values() {
            let label = state.identities.get(&it.identity);
            let label = label.map_or_else(String::new, |it| it.label.clone());
            let prefix = it.prefix;
            if prefix == IpPrefix::host(prefix.addr()) {
                names.hosts.insert(prefix.addr(), label);
            } else {
                names.blocks.push((prefix, label));
            }
        }
        names
            .blocks
            .sort_by_key(|(prefix, _)| core::cmp::Reverse(prefix.len()));
        names.state = state;
        names
    }

    pub(super) fn are_of(&self, state: &Arc<State>) -> bool {
        Arc::ptr_eq(&self.state, state)
    }

    /// The pod that a verdict is counted for; the port if there is none.
    pub(super) fn key<'a>(&'a self, verdict: &'a FlowVerdict) -> &'a str {
        let pod = self
            .pods
            .get(&verdict.src)
            .or_else(|| self.pods.get(&verdict.dst));
        match (pod, &verdict.port) {
            (Some(pod), _) => pod,
            (None, Some(port)) => &port.0,
            (None, None) => "",
        }
    }

    pub(super) fn line<'a>(&'a self, verdict: &'a FlowVerdict, time_ms: u64) -> Line<'a> {
        let (src, dst) = (self.pods.get(&verdict.src), self.pods.get(&verdict.dst));
        let at_destination = match verdict.denied.as_deref() {
            Some("policy-ingress") => true,
            Some("policy-egress") => false,
            _ => src.is_none() && dst.is_some(),
        };
        let (pod, direction, other, rule) = if at_destination {
            (dst, "ingress", verdict.src, &verdict.ingress)
        } else {
            (src, "egress", verdict.dst, &verdict.egress)
        };
        Line {
            time_ms,
            verdict: if verdict.denied.is_some() {
                "deny"
            } else {
                "allow"
            },
            pod: pod.map(String::as_str),
            direction,
            peer: self.who(other),
            protocol: protocol(verdict.protocol),
            src: verdict.src,
            src_port: verdict.src_port,
            dst: verdict.dst,
            dst_port: verdict.dst_port,
            port: verdict.port.as_ref().map(|it| it.0.as_str()),
            rule: rule.as_deref(),
            reason: verdict.denied.as_deref(),
            shadow_egress: verdict.shadow_egress.as_ref(),
            shadow_ingress: verdict.shadow_ingress.as_ref(),
            generation: verdict.generation.0,
        }
    }

    fn who(&self, ip: IpAddr) -> String {
        let block = || {
            let around = self.blocks.iter().find(|(prefix, _)| prefix.contains(ip));
            around.map(|(_, label)| label)
        };
        let known = self.pods.get(&ip).or_else(|| self.hosts.get(&ip));
        let known = known.or_else(block).filter(|it| !it.is_empty());
        known.cloned().unwrap_or_else(|| ip.to_string())
    }
}

/// A protocol's name, or its number.
pub(in crate::drivers) fn protocol(number: u8) -> String {
    let name = match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        other => return other.to_string(),
    };
    name.to_owned()
}
