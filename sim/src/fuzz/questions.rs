//! What is asked of a drawn cluster, and who lies about who they are.

use serde_json::{Value, json};

use super::case::Step;
use super::draw::{PORTS, one, protocol};
use super::events::Drawer;
use super::model::{Model, PodModel};
use crate::dice::Dice;
use crate::probe::Family;

/// Flows that go on now and then: their source ports are those that no other probe has.
const FLOWS_MAX: usize = 6;
const FLOW_PORT: usize = 60_000;
pub(super) const OUTSIDE: [(&str, Family); 4] = [
    ("203.0.113.9", Family::Ipv4),
    ("203.0.113.77", Family::Ipv4),
    ("192.0.2.1", Family::Ipv4),
    ("2001:db8::9", Family::Ipv6),
];
pub(super) const VIP: &str = "10.96.0.1";

/// A question from every pod to every other that has an address of its own, when everything is whole
/// again: what is allowed flows, and not only where the dice look.
pub(super) fn everyone(model: &Model, seed: u64) -> Vec<Step> {
    // Drawn apart, so that what happens before is a seed's as it was.
    let mut dice = Dice::new(seed, "everyone");
    let own: Vec<_> = model.pods.iter().filter(|it| it.is_own()).collect();
    let mut steps = Vec::new();
    for from in &own {
        for to in &own {
            let families = from.families_with(to);
            let Some(family) = dice.pick(&families).copied() else {
                continue;
            };
            if from.party() == to.party() {
                continue;
            }
            let says = json!({
                "from": from.party(), "to": to.party(), "protocol": protocol(&mut dice),
                "port": one(&mut dice, &PORTS, 80), "family": family,
            });
            steps.push(Step::Verb("probe", says));
        }
    }
    steps
}

impl Drawer {
    /// A party, and whether it has an address of a family.
    fn party(&mut self) -> Party {
        match self.dice.below(12) {
            0 => Party::Node(self.a_node()),
            1 => {
                let (ip, family) = one(&mut self.dice, &OUTSIDE, ("192.0.2.1", Family::Ipv4));
                Party::Outside(ip, family)
            }
            _ => {
                let pod = self.dice.pick(&self.model.pods).cloned();
                let first = || self.model.present().first().copied().unwrap_or(0);
                pod.map_or_else(|| Party::Node(self.model.node_name(first())), Party::Pod)
            }
        }
    }

    pub(super) fn probe(&mut self) -> Option<Step> {
        if !self.flows.is_empty() && self.dice.chance(25) {
            let flow = self.dice.pick(&self.flows).cloned()?;
            if self.is_askable(&flow) {
                return Some(Step::Verb("probe", flow));
            }
        }
        let (from, mut to) = (self.party(), self.party());
        if self.dice.chance(3) {
            to = Party::Outside(VIP, Family::Ipv4);
        }
        let mut says = self.question(&from, &to)?;
        let goes_on = matches!(says["protocol"].as_str(), Some("UDP" | "ICMP"));
        if goes_on && self.dice.chance(40) && self.next_flow < 5_000 {
            says["source_port"] = json!(FLOW_PORT + self.next_flow);
            self.next_flow += 1;
            if self.flows.len() >= FLOWS_MAX {
                self.flows.remove(0);
            }
            self.flows.push(says.clone());
        }
        Some(Step::Verb("probe", says))
    }

    /// From, to, protocol, port and family of something that can be asked.
    fn question(&mut self, from: &Party, to: &Party) -> Option<Value> {
        if from.name() == to.name() {
            return None;
        }
        if let (Party::Outside(..), Party::Outside(..)) = (from, to) {
            return None;
        }
        let both = [Family::Ipv4, Family::Ipv6];
        let fits: Vec<_> = both
            .into_iter()
            .filter(|it| from.has(*it) && to.has(*it))
            .collect();
        let family = *self.dice.pick(&fits)?;
        let family = match family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let (from_name, to_name) = (from.name(), to.name());
        if self.dice.chance(20) {
            return Some(json!({
                "from": from_name, "to": to_name, "protocol": "ICMP", "family": family,
            }));
        }
        let protocol = protocol(&mut self.dice);
        let named = match to {
            Party::Pod(pod) => pod.port_name(protocol),
            _ => None,
        };
        let port = match named {
            Some(name) if self.dice.chance(40) => json!(name),
            _ => json!(one(&mut self.dice, &PORTS, 80)),
        };
        Some(json!({
            "from": from_name, "to": to_name, "protocol": protocol, "port": port,
            "family": family,
        }))
    }

    /// Whether both ends of an earlier question are there, with what it needs.
    fn is_askable(&self, says: &Value) -> bool {
        let there = |at: &str| {
            let name = says[at].as_str().unwrap_or_default();
            let family = if says["family"] == "ipv6" {
                Family::Ipv6
            } else {
                Family::Ipv4
            };
            let pod = self.model.pods.iter().find(|it| it.party() == name);
            let node = name.strip_prefix("node:");
            let is_gone = |it| self.model.is_gone(it);
            !name.contains('/') && !node.is_some_and(is_gone)
                || pod.is_some_and(|it| it.has(family))
        };
        there("from") && there("to")
    }

    pub(super) fn spoof(&mut self) -> Option<Step> {
        let pods: Vec<_> = self.model.pods.iter().filter(|it| it.is_own()).collect();
        let (from, victim, to) = (
            (*self.dice.pick(&pods)?).clone(),
            (*self.dice.pick(&pods)?).clone(),
            (*self.dice.pick(&pods)?).clone(),
        );
        let outside = self.dice.chance(25);
        let from = if outside {
            Party::Outside("203.0.113.9", Family::Ipv4)
        } else {
            Party::Pod(from)
        };
        let both = [Family::Ipv4, Family::Ipv6];
        let fits = |it: &Family| from.has(*it) && victim.has(*it) && to.has(*it);
        let family = both.into_iter().find(fits)?;
        if from.name() == victim.party() || victim.party() == to.party() {
            return None;
        }
        let family = match family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let mut says = json!({
            "from": from.name(), "as": victim.party(), "to": to.party(), "family": family,
        });
        match one(&mut self.dice, &["TCP", "UDP", "ICMP"], "TCP") {
            "ICMP" => says["protocol"] = json!("ICMP"),
            protocol => {
                says["protocol"] = json!(protocol);
                says["port"] = json!(one(&mut self.dice, &PORTS, 80));
            }
        }
        Some(Step::Verb("spoof", says))
    }
}

/// An end of a probe.
#[derive(Clone, Debug)]
enum Party {
    Pod(PodModel),
    Node(String),
    Outside(&'static str, Family),
}

impl Party {
    fn name(&self) -> String {
        match self {
            Self::Pod(pod) => pod.party(),
            Self::Node(name) => format!("node:{name}"),
            Self::Outside(ip, _) => (*ip).to_owned(),
        }
    }

    fn has(&self, family: Family) -> bool {
        match self {
            Self::Pod(pod) => pod.has(family),
            Self::Node(_) => true,
            Self::Outside(_, its) => *its == family,
        }
    }
}
