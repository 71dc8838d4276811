//! Looking at an incident elsewhere: what a node recorded is asked again of a cluster that is
//! rebuilt from the node's own objects, with real frames, and compared.
//!
//! A record is of one node. What it says of an end that isn't there it doesn't know, so an
//! answer differs only where that node's own ends say something else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use sluice_host_agent::cluster::Cluster;
use sluice_host_agent::evaluate::{Crossing, Judgement};
use sluice_host_agent::incident::{Bundle, Way};
use sluice_offload_api::model::{Direction, NodeName, Protocol, Verdict};

use crate::probe::{Family, Observation, Party, Probe, ProbePort};
use crate::verify::word;
use crate::world::World;

/// All questions of a bundle, and what came of them.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayRecord {
    /// The node that the bundle is of.
    pub node: String,
    /// The generation that it had in force.
    pub generation: Option<u64>,
    /// Whether other policies than its own were asked.
    pub other_policies: bool,
    /// What was asked, in the order of its record.
    pub results: Vec<Replayed>,
    /// Answers that differ from what was recorded.
    pub differences: usize,
    /// Records that say nothing of policy.
    pub unjudged: usize,
    /// Records of which no question can be made, by why.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// A record, asked again.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// The initiator.
    pub from: String,
    /// The responder.
    pub to: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port; none for ICMP.
    pub port: Option<u16>,
    /// The family.
    pub family: Family,
    /// `verdict` or `flow`: where it was recorded.
    pub source: &'static str,
    /// What the node did.
    pub recorded: Answer,
    /// What the simulator's nodes did.
    pub now: Answer,
    /// Whether the node would do the same again; none if its record says nothing of policy.
    pub same: Option<bool>,
    /// What else there is to say.
    pub note: Option<String>,
}

/// What was done with a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Answer {
    /// Whether it was let through, as far as was seen.
    pub verdict: Verdict,
    /// Which end's policy denied it.
    #[serde(rename = "where")]
    pub at: Option<Direction>,
    /// Why it was dropped, if not by policy.
    pub reason: Option<String>,
    /// The rule of the source's policy.
    pub egress: Option<String>,
    /// The rule of the destination's policy.
    pub ingress: Option<String>,
    /// How it crossed the wire between nodes, if it did.
    pub way: Option<Way>,
}

/// A question that a record makes.
#[derive(Clone, Debug)]
pub struct Question {
    probe: Probe,
    source: &'static str,
    recorded: Answer,
}

/// A flow as its records tell it apart: its ends' addresses, protocol and port.
type Key = (IpAddr, IpAddr, Protocol, Option<u16>);

/// The questions of a bundle: of each flow the last verdict, or else that it stands. And what
/// was left out.
#[must_use]
pub fn questions(
    bundle: &Bundle,
    cluster: &Cluster,
) -> (Vec<Question>, BTreeMap<&'static str, usize>) {
    let mut left_out = BTreeMap::new();
    let mut questions: BTreeMap<Key, (usize, Question)> = BTreeMap::new();
    let verdicts = bundle.verdicts.iter().flatten();
    let verdicts = verdicts.map(|it| {
        let recorded = Answer {
            verdict: if it.denied.is_some() {
                Verdict::Deny
            } else {
                Verdict::Allow
            },
            at: match it.denied.as_deref() {
                Some("policy-egress") => Some(Direction::Egress),
                Some("policy-ingress") => Some(Direction::Ingress),
                _ => None,
            },
            reason: it.denied.clone().filter(|it| !it.starts_with("policy-")),
            egress: it.egress.clone(),
            ingress: it.ingress.clone(),
            way: it.way,
        };
        (
            "verdict",
            &it.protocol,
            it.src,
            it.dst,
            it.dst_port,
            recorded,
        )
    });
    let flows = bundle.flows.flows.iter().map(|it| {
        let recorded = Answer {
            verdict: Verdict::Allow,
            at: None,
            reason: None,
            egress: None,
            ingress: None,
            way: way(&it.initiator).or_else(|| way(&it.responder)),
        };
        ("flow", &it.protocol, it.src, it.dst, it.dst_port, recorded)
    });
    let records = verdicts.chain(flows);
    for (number, (source, protocol, src, dst, dst_port, recorded)) in records.enumerate() {
        let mut leave = |why| *left_out.entry(why).or_insert(0) += 1;
        let Some((protocol, port)) = asked(protocol, dst_port) else {
            leave("of a protocol that probes don't have");
            continue;
        };
        let key = (src, dst, protocol, port);
        if source == "flow" && questions.contains_key(&key) {
            continue;
        }
        match probe(cluster, key) {
            Ok(probe) => {
                let question = Question {
                    probe,
                    source,
                    recorded,
                };
                questions.insert(key, (number, question));
            }
            Err(why) => leave(why),
        }
    }
    let mut questions: Vec<_> = questions.into_values().collect();
    questions.sort_by_key(|it| it.0);
    (questions.into_iter().map(|it| it.1).collect(), left_out)
}

/// How the packets of a flow go to one of its ends, as `sluicectl flows` tells of it.
fn way(end: &str) -> Option<Way> {
    let node = end.strip_prefix("node ")?;
    Some(if node.ends_with(" in clear") {
        Way::Clear
    } else {
        Way::Esp
    })
}

fn asked(protocol: &str, port: u16) -> Option<(Protocol, Option<u16>)> {
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        "icmp" | "icmpv6" => return Some((Protocol::Icmp, None)),
        _ => return None,
    };
    (port > 0).then_some((protocol, Some(port)))
}

fn probe(cluster: &Cluster, key: Key) -> Result<Probe, &'static str> {
    let (src, dst, protocol, port) = key;
    let (from, to) = (party(cluster, src), party(cluster, dst));
    if matches!((&from, &to), (Party::Outside(_), Party::Outside(_))) {
        return Err("between ends that are both outside the cluster");
    }
    let network = |ip| cluster.pod_at(ip).and_then(|it| it.network_at(ip)).cloned();
    Ok(Probe {
        from,
        to,
        from_network: network(src),
        to_network: network(dst),
        protocol,
        port: port.map(ProbePort::Number),
        family: Some(Family::of(src)),
        source_port: None,
        expect: None,
    })
}

/// Who has an address: a pod, a node with its hostNetwork pods, or nobody of the cluster.
fn party(cluster: &Cluster, ip: IpAddr) -> Party {
    if let Some(pod) = cluster.pod_at(ip) {
        let (namespace, name) = (pod.pod.namespace.clone(), pod.pod.name.clone());
        return Party::Pod { namespace, name };
    }
    let node = cluster.nodes.iter().find(|(_, it)| it.ips.contains(&ip));
    node.map_or(Party::Outside(ip), |(name, _)| Party::Node(name.0.clone()))
}

/// Asks a question. `here` is the node that the record is of, `rules` whether its rules should
/// be the same too, which they aren't if other policies are asked, and `ways` whether it is
/// known what the node's operator says of encryption.
///
/// # Errors
/// Why it can't be sent.
pub fn ask(
    world: &mut World,
    question: Question,
    here: &NodeName,
    (rules, ways): (bool, bool),
) -> Result<Replayed, &'static str> {
    let Question {
        probe,
        source,
        recorded,
    } = question;
    let unsendable = "that can't be sent in the rebuilt cluster";
    let judged = world.expected(&probe).map_err(|_| unsendable)?;
    let seen = world.probe(&probe).map_err(|_| unsendable)?;
    let crossing = world.crossing(&probe).map_err(|_| unsendable)?;
    let mine = |party: &Party| is_here(world.cluster(), party, here);
    let ends = (mine(&probe.from), mine(&probe.to));
    let now = now(&seen, &judged, crossing);
    let (same, note) = match compare_ways(&recorded, &now, crossing).filter(|_| ways) {
        Some((same, note)) => (Some(same), note),
        None => compare(&recorded, &now, ends, rules && source == "verdict"),
    };
    Ok(Replayed {
        from: probe.from.to_string(),
        to: probe.to.to_string(),
        protocol: probe.protocol,
        port: seen.port,
        family: seen.family,
        source,
        recorded,
        now,
        same,
        note,
    })
}

/// By the frames whether it went through, by the evaluator what each end's rule is: the
/// frames' own record has only the one that decided.
fn now(seen: &Observation, judged: &Judgement, crossing: Crossing) -> Answer {
    let crossed = seen.verdict == Verdict::Allow && crossing != Crossing::NotOurs;
    let way = if seen.encrypted { Way::Esp } else { Way::Clear };
    Answer {
        way: crossed.then_some(way),
        verdict: seen.verdict,
        at: seen.at,
        reason: None,
        egress: judged.egress_rule.clone(),
        ingress: judged.ingress_rule.clone(),
    }
}

fn is_here(cluster: &Cluster, party: &Party, here: &NodeName) -> bool {
    match party {
        Party::Pod { namespace, name } => {
            let mut pods = cluster.pods.values();
            let pod = pods.find(|it| it.pod.namespace == *namespace && it.pod.name == *name);
            pod.is_some_and(|it| it.node.as_ref() == Some(here))
        }
        Party::Node(_) | Party::Outside(_) => false,
    }
}

/// Whether it would cross the wire the same way; none if nothing is to be said of that.
fn compare_ways(
    recorded: &Answer,
    now: &Answer,
    crossing: Crossing,
) -> Option<(bool, Option<String>)> {
    if recorded.reason.as_deref() == Some("unprotected") {
        let same = crossing == Crossing::Never && now.verdict == Verdict::Deny;
        let note = "an end requires ESP, and the other node has no dataplane";
        return Some((same, same.then(|| note.to_owned())));
    }
    let word = |way| match way {
        Way::Esp => "in ESP",
        Way::Clear => "in clear",
    };
    let (then, is_now) = recorded.way.zip(now.way)?;
    (then != is_now).then(|| {
        let note = format!("it crosses the wire {}, not {}", word(is_now), word(then));
        (false, Some(note))
    })
}

/// Whether the node would do the same. `ends`: which are pods of it, and so its own to judge.
fn compare(
    recorded: &Answer,
    now: &Answer,
    (from_here, to_here): (bool, bool),
    rules: bool,
) -> (Option<bool>, Option<String>) {
    if let Some(reason) = recorded.reason.as_ref().filter(|it| *it != "service-vip") {
        let note = format!("it was dropped for {reason}, of which policy says nothing");
        return (None, Some(note));
    }
    let elsewhere = match now.at {
        Some(Direction::Egress) => !from_here,
        Some(Direction::Ingress) => !to_here,
        None => false,
    };
    if recorded.verdict == Verdict::Allow && now.verdict == Verdict::Deny && elsewhere {
        let note = "another node denies it, which this one's record doesn't show";
        return (Some(true), Some(note.to_owned()));
    }
    if (recorded.verdict, recorded.at) != (now.verdict, now.at) {
        return (Some(false), None);
    }
    if !rules {
        return (Some(true), None);
    }
    // A packet that the source's policy denies never comes to the destination's.
    let sides = [
        (Direction::Egress, &recorded.egress, &now.egress, from_here),
        (Direction::Ingress, &recorded.ingress, &now.ingress, to_here),
    ];
    for (side, then, is_now, judged_here) in sides {
        if then.is_some() && judged_here && then != is_now {
            let name = |rule: &Option<String>| rule.clone().unwrap_or_else(|| "none".to_owned());
            let (then, is_now) = (name(then), name(is_now));
            let note = format!("{} by `{is_now}`, not `{then}`", side_name(side));
            return (Some(false), Some(note));
        }
    }
    (Some(true), None)
}

const fn side_name(side: Direction) -> &'static str {
    match side {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    }
}

impl core::fmt::Display for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(word(self.verdict))?;
        if let Some(reason) = &self.reason {
            write!(f, ", {reason}")?;
        }
        let rule = match self.at {
            Some(Direction::Egress) => &self.egress,
            Some(Direction::Ingress) => &self.ingress,
            None => self
                .ingress
                .as_ref()
                .map_or(&self.egress, |_| &self.ingress),
        };
        if let Some(side) = self.at {
            write!(f, " at {}", side_name(side))?;
        }
        match rule {
            Some(rule) => write!(f, " by {rule}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(at: Option<Direction>, rule: &str) -> Answer {
        Answer {
            verdict: at.map_or(Verdict::Allow, |_| Verdict::Deny),
            at,
            reason: None,
            egress: Some(rule.to_owned()),
            ingress: Some(rule.to_owned()),
            way: None,
        }
    }

    #[test]
    fn a_way_is_compared_where_both_are_known() {
        let by = |way| Answer {
            way,
            ..answer(None, "r")
        };
        let (esp, clear) = (Some(Way::Esp), Some(Way::Clear));
        let compared = |then, is_now| {
            let (then, is_now) = (by(then), by(is_now));
            compare_ways(&then, &is_now, Crossing::Sealed)
        };
        assert_eq!(compared(esp, esp), None);
        assert_eq!(compared(None, clear), None);
        assert_eq!(compared(clear, None), None);
        let (same, note) = compared(clear, esp).unwrap();
        assert!(!same && note.unwrap().contains("in ESP, not in clear"));
        let unprotected = Answer {
            verdict: Verdict::Deny,
            reason: Some("unprotected".to_owned()),
            ..by(None)
        };
        let denied = answer(Some(Direction::Egress), "r");
        let same = |now: &Answer, crossing| compare_ways(&unprotected, now, crossing).unwrap().0;
        assert!(same(&denied, Crossing::Never));
        assert!(!same(&by(clear), Crossing::Clear));
        assert_eq!(way("node b in clear"), clear);
        assert_eq!(
            (way("node b"), way("port pf0vf0"), way("gone")),
            (esp, None, None)
        );
    }

    #[test]
    fn an_answer_differs_only_where_the_node_itself_judges() {
        let allowed = answer(None, "r");
        let denied = answer(Some(Direction::Ingress), "r");
        let same = |then, is_now, ends| compare(then, is_now, ends, true).0;
        assert_eq!(same(&allowed, &allowed, (true, true)), Some(true));
        assert_eq!(same(&allowed, &denied, (true, true)), Some(false));
        assert_eq!(same(&allowed, &denied, (true, false)), Some(true));
        assert_eq!(same(&denied, &allowed, (false, true)), Some(false));
        let other = answer(None, "s");
        assert_eq!(same(&allowed, &other, (true, true)), Some(false));
        assert_eq!(compare(&allowed, &other, (true, true), false).0, Some(true));
    }

    #[test]
    fn what_policy_did_not_decide_is_not_judged() {
        let dropped = Answer {
            verdict: Verdict::Deny,
            reason: Some("no-sa".to_owned()),
            ..answer(None, "r")
        };
        let (same, note) = compare(&dropped, &answer(None, "r"), (true, true), true);
        assert_eq!(same, None);
        assert!(note.unwrap().contains("no-sa"));
    }
}
