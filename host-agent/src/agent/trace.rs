//! A described packet: what would happen to it here, and why.
//!
//! Two answers that must agree: the naive evaluator on the manifests, and the tables that
//! the dataplane acknowledged.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluice_offload_api::State;
use sluice_offload_api::model::{Direction, NodeName, Place, PodRef, Prefix, Protocol, Verdict};

use super::Agent;
use crate::cluster::{Cluster, Pod};
use crate::compile::domains::patterns;
use crate::compile::{Sides, crossing, judge_knowing, longest_prefix};
use crate::evaluate::{
    Crossing, KnownNames, Party, Query, Ruling, egress_knowing, evaluate_knowing, ingress,
};

/// The packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// `namespace/pod`, `node:NAME` or an address.
    pub from: String,
    /// The same.
    pub to: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// A number, or a port's name at the destination pod; none for ICMP.
    #[serde(default)]
    pub port: Option<String>,
    /// Of this family; otherwise of the first that both ends have.
    #[serde(default)]
    pub ipv6: Option<bool>,
    /// The network on which both ends' pods are meant, as `namespace/name`; otherwise their
    /// primary interfaces are.
    #[serde(default)]
    pub network: Option<String>,
    /// Names that the source's resolver is taken to have given for the destination.
    #[serde(default)]
    pub names: Vec<String>,
}

/// What would happen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// Where it comes from.
    pub from: TraceEnd,
    /// Where it goes.
    pub to: TraceEnd,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port.
    pub port: Option<u16>,
    /// What policy says: both ends must allow.
    pub verdict: Verdict,
    /// The side that denies.
    pub at: Option<Direction>,
    /// What decides.
    pub rule: Option<String>,
    /// The source's egress.
    pub egress: Option<TraceSide>,
    /// The destination's ingress.
    pub ingress: Option<TraceSide>,
    /// What this node's dataplane does with it.
    pub disposition: Disposition,
    /// The generation the tables are of; none if nothing is acknowledged.
    pub generation: Option<u64>,
    /// Whether the manifests and the tables in force say the same.
    pub agrees: bool,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// An end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceEnd {
    /// As it was asked for.
    pub name: String,
    /// The address that is used.
    pub ip: IpAddr,
    /// Who the dataplane takes it for.
    pub identity: Option<String>,
    /// Where the dataplane takes it to be.
    pub place: String,
    /// The domain names of policies that it has by the names it is taken to have.
    #[serde(default)]
    pub domains: Vec<String>,
}

/// What one side says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceSide {
    /// By the manifests.
    pub verdict: Verdict,
    /// By which rule.
    pub rule: String,
    /// By the table in force here; none if this end is no endpoint of this node.
    pub in_force: Option<Verdict>,
    /// What it would be if policies in shadow mode were enforced, if not the same.
    pub shadow: Option<TraceShadow>,
}

/// What one side would say if policies in shadow mode were enforced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceShadow {
    /// The other verdict.
    pub would: Verdict,
    /// By which rule.
    pub rule: String,
}

/// What a dataplane does with a packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Disposition {
    /// It is dropped.
    Discard {
        /// Why.
        why: String,
    },
    /// It goes in clear.
    Bypass {
        /// Where to.
        to: String,
    },
    /// It goes through ESP.
    Protect {
        /// With which node.
        node: NodeName,
    },
    /// It doesn't pass this node's dataplane as a pod's.
    Elsewhere,
}

/// Why a packet can't be traced.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TraceError {
    /// No such pod.
    #[error("there is no pod {0} in the manifests")]
    NoPod(String),
    /// No such node.
    #[error("there is no node {0} in the manifests")]
    NoNode(String),
    /// Not an end.
    #[error("`{0}` is not namespace/pod, node:NAME or an address")]
    Syntax(String),
    /// Not on the network.
    #[error("pod {pod} has no interface on network {network}, written namespace/name")]
    NoNetwork {
        /// The pod.
        pod: String,
        /// The network.
        network: String,
    },
    /// No address in common.
    #[error("{from} and {to} have no address of one family")]
    NoFamily {
        /// The source.
        from: String,
        /// The destination.
        to: String,
    },
    /// Not a port here.
    #[error("`{port}` is neither a port number nor the name of a port of {to}")]
    Port {
        /// As given.
        port: String,
        /// The destination.
        to: String,
    },
    /// ICMP has none.
    #[error("ICMP has no port")]
    IcmpPort,
    /// All others have.
    #[error("give the port; only ICMP has none")]
    NoPort,
}

impl Agent {
    /// Traces a packet.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn trace(&self, request: &TraceRequest) -> Result<Trace, TraceError> {
        let (cluster, network) = (&self.subjects.cluster, request.network.as_deref());
        let (from, from_ips) = party(cluster, &request.from, network)?;
        let (to, to_ips) = party(cluster, &request.to, network)?;
        let (from_ip, to_ip) = family(&from_ips, &to_ips, request.ipv6).ok_or_else(|| {
            let (from, to) = (request.from.clone(), request.to.clone());
            TraceError::NoFamily { from, to }
        })?;
        let port = port(cluster, request, &to)?;
        let protocol = request.protocol;
        let query = Query {
            from,
            to,
            protocol,
            port,
            from_ip,
            to_ip,
        };
        let names = request.names.iter().map(|it| (it.as_str(), to_ip));
        let names: KnownNames = names.collect();
        let judgement = evaluate_knowing(cluster, &query, &names);

        let none = State::default();
        let state = self.in_force().unwrap_or(&none);
        let sides = judge_knowing(state, from_ip, to_ip, protocol, port, &names);
        let side = |ruling: Option<Ruling>, table: &Option<Ruling>| {
            ruling.map(|it| TraceSide {
                verdict: it.verdict,
                rule: it.rule,
                in_force: table.as_ref().map(|it| it.verdict),
                shadow: it.shadow.map(|it| TraceShadow {
                    would: it.verdict,
                    rule: it.rule,
                }),
            })
        };
        let egress = side(egress_knowing(cluster, &query, &names), &sides.egress);
        let ingress = side(ingress(cluster, &query), &sides.ingress);
        let agrees = [&egress, &ingress]
            .into_iter()
            .flatten()
            .all(|it| it.in_force.is_none_or(|table| table == it.verdict));
        let mut notes = self.notes(&query);
        notes.extend(named_note(state, &query, &request.names));
        if !agrees {
            notes.push("the dataplane holds tables of other manifests than these".to_owned());
        }
        let end = |name: &str, ip| TraceEnd {
            name: name.to_owned(),
            ip,
            identity: longest_prefix(state, ip)
                .and_then(|it| state.identities.get(&it.identity))
                .map(|it| it.label.clone()),
            place: longest_prefix(state, ip)
                .map_or_else(|| "unknown".to_owned(), |it| place_word(&it.place)),
            domains: Vec::new(),
        };
        let domains = patterns(&state.identities).filter(|(_, it)| {
            let outside = |it: &Prefix| it.place == Place::Outside;
            longest_prefix(state, to_ip).is_some_and(outside) && names.is(to_ip, it)
        });
        let domains = domains.map(|(_, it)| it.to_string()).collect();
        Ok(Trace {
            from: end(&request.from, from_ip),
            to: TraceEnd {
                domains,
                ..end(&request.to, to_ip)
            },
            protocol,
            port,
            verdict: judgement.verdict,
            at: judgement.at,
            rule: judgement.rule,
            disposition: self.disposition(state, &query, sides),
            egress,
            ingress,
            generation: self.in_force().map(|it| it.generation.0),
            agrees,
            notes,
        })
    }

    /// What this dataplane does, by what it holds.
    fn disposition(&self, state: &State, query: &Query, sides: Sides) -> Disposition {
        for (party, ip) in [(&query.from, query.from_ip), (&query.to, query.to_ip)] {
            if let Some(why) = self.closed(party, ip) {
                return Disposition::Discard { why };
            }
        }
        let place = |ip| longest_prefix(state, ip).map(|it| &it.place);
        let (source, target) = (place(query.from_ip), place(query.to_ip));
        if source != Some(&Place::LocalPod) && target != Some(&Place::LocalPod) {
            return Disposition::Elsewhere;
        }
        if [source, target].contains(&Some(&Place::Nobody)) {
            return Disposition::Discard {
                why: "the address is for pods, and no known pod has it".to_owned(),
            };
        }
        let judged = sides.judgement();
        if judged.verdict == Verdict::Deny {
            let rule = judged.rule.unwrap_or_default();
            return Disposition::Discard {
                why: format!("policy: {rule}"),
            };
        }
        // The far end says how it travels.
        let far = if source == Some(&Place::LocalPod) {
            target
        } else {
            source
        };
        match far {
            Some(place @ (Place::RemotePod(node) | Place::RemoteNode(node))) => {
                match crossing(state, query.from_ip, query.to_ip) {
                    Crossing::Clear => Disposition::Bypass {
                        to: place_word(place),
                    },
                    Crossing::Never => Disposition::Discard {
                        why: self.why_never(node),
                    },
                    Crossing::Sealed | Crossing::NotOurs => {
                        Disposition::Protect { node: node.clone() }
                    }
                }
            }
            Some(place) => Disposition::Bypass {
                to: place_word(place),
            },
            None => Disposition::Discard {
                why: "no prefix has the address".to_owned(),
            },
        }
    }

    /// Why nothing goes to a node.
    fn why_never(&self, node: &NodeName) -> String {
        let cluster = &self.subjects.cluster;
        if self.setup.encryption.is_reached(cluster, node) {
            format!("node {node} is unprotected, and encryption is required")
        } else {
            format!("node {node} says of no dataplane, and is not listed as unprotected")
        }
    }

    /// What CNI made of the pod's interface that has the address.
    fn attachment(&self, pod: &PodRef, ip: IpAddr) -> Option<&super::Attachment> {
        let known = self.subjects.cluster.pods.get(pod);
        let secondary = |name: &str| known.and_then(|it| it.interface(name));
        let own = known.and_then(|it| it.interface_at(ip));
        let is_it = |it: &&super::Attachment| it.pod == *pod && secondary(&it.ifname) == own;
        self.attachments.iter().find(is_it)
    }

    /// Why an attached pod is closed.
    fn closed(&self, party: &Party, ip: IpAddr) -> Option<String> {
        let Party::Pod { ns, name } = party else {
            return None;
        };
        let pod = PodRef {
            namespace: ns.clone(),
            name: name.clone(),
        };
        let attachment = self.attachment(&pod, ip)?;
        let standing = self.subjects.standings.get(&attachment.key())?;
        (*standing != super::Standing::Known).then(|| format!("pod {pod}: {standing}"))
    }

    fn notes(&self, query: &Query) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.is_settled() {
            notes.push(format!(
                "the dataplane is not in step: {}",
                self.unsettled()
            ));
        }
        if let Some(fault) = &self.source_fault {
            notes.push(format!(
                "the manifests are at fault, these are the last good ones: {fault}"
            ));
        }
        for (party, ip) in [(&query.from, query.from_ip), (&query.to, query.to_ip)] {
            let Party::Pod { ns, name } = party else {
                continue;
            };
            let pod = PodRef {
                namespace: ns.clone(),
                name: name.clone(),
            };
            let here = self
                .subjects
                .cluster
                .pods
                .get(&pod)
                .filter(|it| it.owns_addresses() && it.node.as_ref() == Some(&self.setup.node));
            if here.is_some() && self.attachment(&pod, ip).is_none() {
                notes.push(format!(
                    "pod {pod} has no VF: an ordinary pod behind the host port"
                ));
            }
        }
        notes
    }
}

/// What there is to know of names: that some would matter and none is given, or that those
/// given don't.
fn named_note(state: &State, query: &Query, names: &[String]) -> Option<String> {
    let outside = longest_prefix(state, query.to_ip).is_some_and(|it| it.place == Place::Outside);
    if !names.is_empty() {
        let why = "domain names are for what is outside the cluster; this address is not";
        return (!outside).then(|| why.to_owned());
    }
    let mut endpoints = state.endpoints.values();
    let source = endpoints.find(|it| it.ips.contains(&query.from_ip))?;
    let rows = &state.policies.get(&source.policy)?.rows;
    let mut named =
        patterns(&state.identities).filter(|(id, _)| rows.iter().any(|it| it.peer == Some(*id)));
    let (_, first) = named.next().filter(|_| outside)?;
    let others = match named.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "the pod's policies name domains ({first}{others}); what its resolver told it is not \
         known here: give a name with --name"
    ))
}

fn party(
    cluster: &Cluster,
    text: &str,
    network: Option<&str>,
) -> Result<(Party, Vec<IpAddr>), TraceError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        let party = match cluster.pod_at(ip) {
            Some(pod) => pod_party(pod),
            None => {
                let node = cluster
                    .nodes
                    .iter()
                    .find(|(_, node)| node.ips.contains(&ip));
                node.map_or(Party::Outside(ip), |(name, _)| Party::Node(name.clone()))
            }
        };
        return Ok((party, vec![ip]));
    }
    if let Some(name) = text.strip_prefix("node:") {
        let node = cluster.nodes.get(&NodeName(name.to_owned()));
        let node = node.ok_or_else(|| TraceError::NoNode(name.to_owned()))?;
        return Ok((Party::Node(name.into()), node.ips.clone()));
    }
    let (ns, name) = text
        .split_once('/')
        .ok_or_else(|| TraceError::Syntax(text.to_owned()))?;
    let pod = PodRef {
        namespace: ns.to_owned(),
        name: name.to_owned(),
    };
    let pod = cluster
        .pods
        .get(&pod)
        .ok_or_else(|| TraceError::NoPod(text.to_owned()))?;
    let Some(network) = network else {
        return Ok((pod_party(pod), pod.ips.clone()));
    };
    let on = pod.interfaces.iter();
    let on: Vec<_> = on.filter(|it| it.network.to_string() == network).collect();
    if on.is_empty() {
        let (pod, network) = (text.to_owned(), network.to_owned());
        return Err(TraceError::NoNetwork { pod, network });
    }
    let ips = on.iter().flat_map(|it| &it.ips).copied().collect();
    Ok((pod_party(pod), ips))
}

fn pod_party(pod: &Pod) -> Party {
    Party::Pod {
        ns: pod.pod.namespace.clone(),
        name: pod.pod.name.clone(),
    }
}

fn family(from: &[IpAddr], to: &[IpAddr], ipv6: Option<bool>) -> Option<(IpAddr, IpAddr)> {
    let wanted = |ip: &&IpAddr| ipv6.is_none_or(|it| it == ip.is_ipv6());
    from.iter().filter(wanted).find_map(|from| {
        let to = to.iter().find(|to| to.is_ipv6() == from.is_ipv6())?;
        Some((*from, *to))
    })
}

fn port(cluster: &Cluster, request: &TraceRequest, to: &Party) -> Result<Option<u16>, TraceError> {
    let text = match (&request.port, request.protocol) {
        (None, Protocol::Icmp) => return Ok(None),
        (Some(_), Protocol::Icmp) => return Err(TraceError::IcmpPort),
        (None, _) => return Err(TraceError::NoPort),
        (Some(text), _) => text,
    };
    if let Ok(number) = text.parse::<u16>()
        && number > 0
    {
        return Ok(Some(number));
    }
    let named = match to {
        Party::Pod { ns, name } => {
            let pod = PodRef {
                namespace: ns.clone(),
                name: name.clone(),
            };
            let pod = cluster.pods.get(&pod);
            pod.and_then(|it| it.named_ports(text, request.protocol).next())
        }
        _ => None,
    };
    named.map(Some).ok_or_else(|| {
        let (port, to) = (text.clone(), request.to.clone());
        TraceError::Port { port, to }
    })
}

fn place_word(place: &Place) -> String {
    match place {
        Place::LocalPod => "a VF of this node".to_owned(),
        Place::LocalNode => "this node's host port".to_owned(),
        Place::RemotePod(node) => format!("a pod on node {node}"),
        Place::RemoteNode(node) => format!("node {node}"),
        Place::Outside => "outside, by the uplink".to_owned(),
        Place::ServiceVip => "a service address".to_owned(),
        Place::Nobody => "a pod's address that no known pod has".to_owned(),
    }
}
