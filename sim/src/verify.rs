//! One probe, asked of the frames and of the naive evaluator, and whether all agree.
//!
//! The oracle is always on: an answer counts as right only if the frames showed what the
//! evaluator reads off the manifests, whether or not the asker expected anything.

use core::fmt;

use serde::{Serialize, Serializer};
use sluice_host_agent::cluster::Cluster;
use sluice_host_agent::evaluate::{Crossing, Judgement, ShadowJudgement};
use sluice_offload_api::model::{Direction, NodeName, PodRef, Protocol, Verdict};

use crate::input::{InputError, Place, PlacedProbe};
use crate::probe::{Family, Observation, Party, Probe, ProbeError, ProbePort};
use crate::world::World;

/// A probe and what came of it. As JSON: exactly one line of `connectivity`'s results.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ProbeOutcome {
    /// The initiator as written.
    pub from: String,
    /// The responder as written.
    pub to: String,
    /// The network whose addresses were meant, if not the pods' primary ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port as asked for; none for ICMP.
    #[serde(serialize_with = "port_as_asked")]
    pub port: Option<ProbePort>,
    /// The family that was used.
    pub family: Family,
    /// What the frames showed.
    pub verdict: Verdict,
    /// The side that denied.
    #[serde(rename = "where")]
    pub at: Option<Direction>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// What policies in shadow mode would have made of it; only there if it is another verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowOutcome>,
    /// Whether the frames crossed the wire, all of them inside ESP.
    pub encrypted: bool,
    /// What the asker expected.
    pub expect: Option<Verdict>,
    /// Whether all agree.
    pub ok: bool,
    /// What the evaluator says.
    #[serde(skip)]
    pub oracle: Verdict,
    /// Who disagrees.
    #[serde(skip)]
    pub disagreements: Vec<Disagreement>,
}

/// What policies in shadow mode would have made of a probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShadowOutcome {
    /// What the end would have said.
    pub verdict: Verdict,
    /// Which end.
    #[serde(rename = "where")]
    pub at: Direction,
    /// The rule that would have decided.
    pub rule: String,
}

impl From<ShadowJudgement> for ShadowOutcome {
    fn from(ShadowJudgement { verdict, at, rule }: ShadowJudgement) -> Self {
        Self { verdict, at, rule }
    }
}

impl fmt::Display for ShadowOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = match self.at {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        };
        write!(f, "{} at {at} by `{}`", word(self.verdict), self.rule)
    }
}

/// Something that two sources say differently of one probe.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Disagreement {
    /// The asker.
    #[error("expected {}, the frames showed {}", word(*expected), word(*observed))]
    Expected {
        /// What was expected.
        expected: Verdict,
        /// What the frames showed.
        observed: Verdict,
    },
    /// The evaluator, on the verdict.
    #[error("the evaluator says {}, the frames showed {}", word(*oracle), word(*observed))]
    Oracle {
        /// What the evaluator says.
        oracle: Verdict,
        /// What the frames showed.
        observed: Verdict,
    },
    /// The evaluator, on the side that denied or the rule that decided.
    #[error("the evaluator names {oracle}, the dataplane {observed}")]
    Decider {
        /// What the evaluator says.
        oracle: Decider,
        /// What the dataplanes recorded.
        observed: Decider,
    },
    /// The evaluator, on what policies in shadow mode would have made of it.
    #[error("shadow policies: the evaluator says {oracle}, the dataplane {observed}")]
    Shadow {
        /// What the evaluator says.
        oracle: String,
        /// What the dataplanes recorded.
        observed: String,
    },
    /// Both ends' settings turn encryption off, and it was on.
    #[error("encrypted, though the settings of both ends turn that off")]
    Sealed,
    /// The second invariant: no cleartext between nodes.
    #[error("allowed between {from} and {to}, and not encrypted")]
    Cleartext {
        /// The initiator's node.
        from: NodeName,
        /// The responder's.
        to: NodeName,
    },
}

/// Who decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decider {
    /// The side that denied.
    pub at: Option<Direction>,
    /// The rule.
    pub rule: Option<String>,
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = match self.at {
            Some(Direction::Egress) => " at egress",
            Some(Direction::Ingress) => " at ingress",
            None => "",
        };
        match &self.rule {
            Some(rule) => write!(f, "`{rule}`{at}"),
            None => write!(f, "no rule{at}"),
        }
    }
}

/// `allow` or `deny`.
#[must_use]
pub const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

/// Whether a probe can be sent at all, so that nothing is sent if a later one can't.
///
/// # Errors
/// [`InputError::Fault`] at the probe's place.
pub fn check(world: &World, asked: &PlacedProbe) -> Result<(), InputError> {
    let judged = world.expected(&asked.probe);
    judged
        .map(|_| ())
        .map_err(|error| unsendable(&asked.place, &error))
}

/// Sends a probe and compares.
///
/// # Errors
/// [`InputError::Fault`] at the probe's place if it can't be sent.
pub fn ask(world: &mut World, asked: &PlacedProbe) -> Result<ProbeOutcome, InputError> {
    let PlacedProbe { probe, place } = asked;
    let mut judgement = world
        .expected(probe)
        .map_err(|error| unsendable(place, &error))?;
    let may_be_turned = world
        .may_be_turned(probe)
        .map_err(|error| unsendable(place, &error))?;
    let observation = world
        .probe(probe)
        .map_err(|error| unsendable(place, &error))?;
    if may_be_turned && observation.verdict == Verdict::Allow {
        judgement.verdict = Verdict::Allow;
    }
    let crossing = world
        .crossing(probe)
        .map_err(|error| unsendable(place, &error))?;
    let seen = (&observation, crossing);
    let disagreements = disagreements(world.cluster(), probe, &judgement, seen);
    Ok(ProbeOutcome {
        from: probe.from.to_string(),
        to: probe.to.to_string(),
        network: probe.from_network.as_ref().map(ToString::to_string),
        protocol: probe.protocol,
        port: probe.port.clone(),
        family: observation.family,
        verdict: observation.verdict,
        at: observation.at,
        rule: observation.rule,
        shadow: observation.shadow.map(ShadowOutcome::from),
        encrypted: observation.encrypted,
        expect: probe.expect,
        ok: disagreements.is_empty(),
        oracle: judgement.verdict,
        disagreements,
    })
}

fn unsendable(place: &Place, error: &ProbeError) -> InputError {
    place.fault(error)
}

fn disagreements(
    cluster: &Cluster,
    probe: &Probe,
    judgement: &Judgement,
    (seen, crossing): (&Observation, Crossing),
) -> Vec<Disagreement> {
    let mut found = Vec::new();
    let observed = seen.verdict;
    // What a fault has swallowed shows nothing of policy.
    let swallowed = seen.touched && observed == Verdict::Deny;
    // Of a flow that goes on only its first packet has a record.
    let recorded = !seen.touched && probe.source_port.is_none();
    if let Some(expected) = probe.expect.filter(|expected| *expected != observed) {
        found.push(Disagreement::Expected { expected, observed });
    }
    let oracle = Decider {
        at: judgement.at,
        rule: judgement.rule.clone(),
    };
    let decider = Decider {
        at: seen.at,
        rule: seen.rule.clone(),
    };
    if judgement.verdict != observed && !swallowed {
        found.push(Disagreement::Oracle {
            oracle: judgement.verdict,
            observed,
        });
    } else if oracle != decider && recorded {
        found.push(Disagreement::Decider {
            oracle,
            observed: decider,
        });
    }
    if judgement.shadow != seen.shadow && recorded {
        let text = |it: &Option<ShadowJudgement>| {
            let it = it.clone().map(ShadowOutcome::from);
            it.map_or_else(|| "nothing".to_owned(), |it| it.to_string())
        };
        let (oracle, observed) = (text(&judgement.shadow), text(&seen.shadow));
        found.push(Disagreement::Shadow { oracle, observed });
    }
    if let Some((from, to)) = must_encrypt(cluster, probe)
        && crossing != Crossing::Clear
        && observed == Verdict::Allow
        && !seen.encrypted
    {
        found.push(Disagreement::Cleartext { from, to });
    }
    if crossing == Crossing::Clear && observed == Verdict::Allow && seen.encrypted {
        found.push(Disagreement::Sealed);
    }
    found
}

/// The nodes of the two ends, if what is between them must be encrypted: two nodes, and at
/// least one pod with a VF.
#[must_use]
pub fn must_encrypt(cluster: &Cluster, probe: &Probe) -> Option<(NodeName, NodeName)> {
    let (from, from_vf) = node_of(cluster, &probe.from)?;
    let (to, to_vf) = node_of(cluster, &probe.to)?;
    (from != to && (from_vf || to_vf)).then_some((from, to))
}

/// The node of a party, and whether it is a pod with addresses of its own there.
fn node_of(cluster: &Cluster, party: &Party) -> Option<(NodeName, bool)> {
    match party {
        Party::Outside(_) => None,
        Party::Node(name) => Some((NodeName(name.clone()), false)),
        Party::Pod { namespace, name } => {
            let pod = PodRef {
                namespace: namespace.clone(),
                name: name.clone(),
            };
            let pod = cluster.pods.get(&pod)?;
            Some((pod.node.clone()?, pod.owns_addresses()))
        }
    }
}

/// A number or a name, as it was asked.
fn port_as_asked<S: Serializer>(
    port: &Option<ProbePort>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match port {
        None => serializer.serialize_none(),
        Some(ProbePort::Number(number)) => serializer.serialize_u16(*number),
        Some(ProbePort::Name(name)) => serializer.serialize_str(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_host_agent::cluster::{Node, Pod};

    fn outcome(port: Option<ProbePort>) -> ProbeOutcome {
        ProbeOutcome {
            from: "a/x".to_owned(),
            to: "b/y".to_owned(),
            network: None,
            protocol: Protocol::Tcp,
            port,
            family: Family::Ipv6,
            verdict: Verdict::Deny,
            at: Some(Direction::Ingress),
            rule: Some("b/default isolates ingress".to_owned()),
            shadow: None,
            encrypted: true,
            expect: None,
            ok: true,
            oracle: Verdict::Deny,
            disagreements: Vec::new(),
        }
    }

    #[test]
    fn an_outcome_is_json_of_exactly_the_promised_fields() {
        let json = |port| serde_json::to_string(&outcome(port)).unwrap();
        let expected = concat!(
            r#"{"from":"a/x","to":"b/y","protocol":"TCP","port":80,"family":"ipv6","#,
            r#""verdict":"deny","where":"ingress","rule":"b/default isolates ingress","#,
            r#""encrypted":true,"expect":null,"ok":true}"#
        );
        assert_eq!(json(Some(ProbePort::Number(80))), expected);
        assert!(json(Some(ProbePort::Name("web".to_owned()))).contains(r#""port":"web""#));
        assert!(json(None).contains(r#""port":null"#));
    }

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        for node in ["a", "b"] {
            cluster.nodes.insert(node.into(), Node::default());
            let mut pod = Pod::new("ns", node);
            pod.node = Some(node.into());
            cluster.pods.insert(pod.pod.clone(), pod);
        }
        cluster
    }

    fn probe(from: &str, to: &str) -> Probe {
        Probe {
            from: crate::input::parse_party(from).unwrap(),
            to: crate::input::parse_party(to).unwrap(),
            from_network: None,
            to_network: None,
            source_port: None,
            protocol: Protocol::Icmp,
            port: None,
            family: None,
            expect: Some(Verdict::Allow),
        }
    }

    #[test]
    fn between_two_nodes_must_be_encrypted_if_a_pod_is_an_end() {
        let must = |from, to| must_encrypt(&cluster(), &probe(from, to)).is_some();
        assert!(must("ns/a", "ns/b"));
        assert!(must("node:a", "ns/b"));
        for (from, to) in [
            ("ns/a", "ns/a"),
            ("node:a", "ns/a"),
            ("node:a", "node:b"),
            ("ns/a", "192.0.2.1"),
        ] {
            assert!(!must(from, to), "{from} {to}");
        }
    }

    #[test]
    fn each_disagreement_is_found() {
        let judged = |verdict, at, rule: &str| Judgement {
            verdict,
            at,
            egress_rule: None,
            ingress_rule: None,
            rule: Some(rule.to_owned()),
            shadow: None,
        };
        let seen = |verdict, encrypted| Observation {
            verdict,
            at: None,
            rule: Some("r".to_owned()),
            shadow: None,
            encrypted,
            touched: false,
            port: None,
            family: Family::Ipv4,
        };
        let count = |judgement: &Judgement, seen: &Observation| {
            let seen = (seen, Crossing::Sealed);
            disagreements(&cluster(), &probe("ns/a", "ns/b"), judgement, seen).len()
        };
        let allow = judged(Verdict::Allow, None, "r");
        assert_eq!(count(&allow, &seen(Verdict::Allow, true)), 0);
        assert_eq!(count(&allow, &seen(Verdict::Allow, false)), 1);
        let in_clear = seen(Verdict::Allow, false);
        let in_clear = (&in_clear, Crossing::Clear);
        let found = disagreements(&cluster(), &probe("ns/a", "ns/b"), &allow, in_clear);
        assert_eq!(found, []);
        let sealed = seen(Verdict::Allow, true);
        let sealed = (&sealed, Crossing::Clear);
        let found = disagreements(&cluster(), &probe("ns/a", "ns/b"), &allow, sealed);
        assert_eq!(found, [Disagreement::Sealed]);
        // Both the asker and the evaluator.
        assert_eq!(count(&allow, &seen(Verdict::Deny, false)), 2);
        assert_eq!(
            count(
                &judged(Verdict::Allow, None, "s"),
                &seen(Verdict::Allow, true)
            ),
            1
        );
        let egress = judged(Verdict::Deny, Some(Direction::Egress), "r");
        assert_eq!(count(&egress, &seen(Verdict::Allow, true)), 1);
    }
}
