//! What breaks in a drawn cluster, and when it is whole again. Each step must be one that can be
//! done: nothing is killed that is dead, and nothing healed that is whole.

use serde_json::{Value, json};

use super::case::Step;
use super::draw::one;
use super::events::Drawer;
use super::model::Broken;

/// Faults and how often they are drawn.
const FAULTS: [(&str, usize); 17] = [
    ("stale-watch", 2),
    ("stale-kinds", 4),
    ("api-away", 2),
    ("api-gone", 2),
    ("partial-list", 2),
    ("slow-disk", 2),
    ("stalled-agent", 2),
    ("stalled-dataplane", 2),
    ("second-agent", 2),
    ("clock-jump", 2),
    ("corrupted-checkpoint", 2),
    ("loss", 2),
    ("duplication", 2),
    ("reordering", 2),
    ("corruption", 2),
    ("delay", 2),
    ("partition", 2),
];

/// Kinds of objects whose watches may be late.
const KINDS: [&str; 7] = [
    "pods",
    "policies",
    "namespaces",
    "nodes",
    "services",
    "cluster-policies",
    "multi-policies",
];

/// What takes packets. A receiver that gets none before the low half of the numbers is 0 again
/// takes what comes then for the beginning, as it was not told where that is: in production it
/// is 1, and four billion packets would have to be lost in a row.
const TAKES: [&str; 5] = [
    "stalled-dataplane",
    "loss",
    "corruption",
    "partition",
    "clock-jump",
];

impl Drawer {
    fn a_fault(&mut self) -> &'static str {
        let all: usize = FAULTS.iter().map(|it| it.1).sum();
        let mut at = self.dice.below(all);
        for (kind, weight) in FAULTS {
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        "loss"
    }

    /// Something breaks, or breaks anew.
    pub(super) fn fault(&mut self) -> Vec<Step> {
        let kind = self.a_fault();
        let node = self.node();
        let name = self.model.node_name(node);
        let model = &mut self.model;
        if model.rolls_over && TAKES.contains(&kind) {
            return Vec::new();
        }
        let says = match kind {
            "api-away" => {
                model.broken.insert(Broken::of(kind, &[]));
                json!(kind)
            }
            "stale-watch" | "api-gone" | "partial-list" | "slow-disk" => {
                model.broken.insert(Broken::of(kind, &[node]));
                json!({kind: name})
            }
            "stale-kinds" => {
                model.broken.insert(Broken::of(kind, &[node]));
                json!({kind: {"node": name, "kinds": self.kinds()}})
            }
            "second-agent" if !model.dead.contains(&node) => {
                model.broken.insert(Broken::of(kind, &[node]));
                json!({kind: name})
            }
            "stalled-agent" if !model.dead_agents.contains(&node) => {
                model.broken.insert(Broken::of(kind, &[node]));
                json!({"stalled": {"agent": name}})
            }
            "stalled-dataplane" if !model.dead.contains(&node) => {
                model.broken.insert(Broken::of(kind, &[node]));
                json!({"stalled": {"dataplane": name}})
            }
            // Of a machine that was told nothing yet nothing is kept.
            "corrupted-checkpoint" if !model.bare.contains(&node) => json!({kind: name}),
            "clock-jump" => {
                let far = one(&mut self.dice, &["300ms", "20s", "2h"], "20s");
                // Whoever asks again in a second does so two hours late if its clock goes back
                // so far: then all that is drawn would wait.
                let back = far != "2h" && self.dice.chance(50);
                let way = if back { "back" } else { "forward" };
                json!({kind: {"node": name, way: far}})
            }
            "partition" => {
                let present = model.present();
                let at = present.iter().position(|it| *it == node).unwrap_or(0);
                let further = 1 + self.dice.below(present.len() - 1);
                let other = present.iter().cycle().nth(at + further);
                let other = other.copied().unwrap_or(node);
                let ends = [node.min(other), node.max(other)];
                self.model.broken.insert(Broken::of(kind, &ends));
                json!({kind: [name, self.model.node_name(other)]})
            }
            "delay" => {
                model.broken.insert(Broken::of(kind, &[]));
                json!({kind: one(&mut self.dice, &["200us", "3ms", "40ms"], "3ms")})
            }
            "loss" | "duplication" | "reordering" | "corruption" => {
                model.broken.insert(Broken::of(kind, &[]));
                json!({kind: self.dice.within(1, 60)})
            }
            _ => return Vec::new(),
        };
        vec![Step::Verb("fault", says)]
    }

    /// Kinds of objects, one at least.
    fn kinds(&mut self) -> Vec<&'static str> {
        let drawn = one(&mut self.dice, &KINDS, "pods");
        let others = KINDS.iter().filter(|it| **it != drawn);
        let mut all = vec![drawn];
        for kind in others {
            if self.dice.chance(30) {
                all.push(kind);
            }
        }
        all
    }

    /// Something that is broken is whole.
    pub(super) fn heal(&mut self) -> Vec<Step> {
        let all: Vec<_> = self.model.broken.iter().cloned().collect();
        let Some(broken) = self.dice.pick(&all).cloned() else {
            return Vec::new();
        };
        self.model.broken.remove(&broken);
        let nodes = broken.nodes.iter().map(|it| self.model.node_name(*it));
        let nodes: Vec<_> = nodes.collect();
        let says = match (broken.kind, nodes.as_slice()) {
            ("stalled-agent", [node]) => json!({"stalled": {"agent": node}}),
            ("stalled-dataplane", [node]) => json!({"stalled": {"dataplane": node}}),
            (kind, []) => json!(kind),
            (kind, [node]) => json!({kind: node}),
            (kind, nodes) => json!({kind: nodes}),
        };
        vec![Step::Verb("heal", says)]
    }

    /// A program dies, or starts.
    pub(super) fn program(&mut self) -> Vec<Step> {
        let node = self.node();
        let name = self.model.node_name(node);
        let kinds = [
            "agent",
            "agent",
            "dataplane",
            "dataplane",
            "dataplane",
            "node",
            "api",
        ];
        let kind = one(&mut self.dice, &kinds, "agent");
        let kills = self.dice.chance(40);
        let model = &mut self.model;
        let [agent, dataplane] = [&model.dead_agents, &model.dead].map(|it| !it.contains(&node));
        let away = Broken::of("api-away", &[]);
        let (runs, says) = match kind {
            "agent" => (agent, json!({"agent": name})),
            "dataplane" => (dataplane, json!({"dataplane": name})),
            "node" => (agent || dataplane, json!({"node": name})),
            _ => (!model.broken.contains(&away), json!("api")),
        };
        let keeps_packets = matches!(kind, "agent" | "api") || !model.rolls_over;
        let verb = if runs && kills && keeps_packets {
            "kill"
        } else {
            "restart"
        };
        match (kind, verb) {
            ("api", "kill") => {
                model.broken.insert(away);
            }
            ("api", _) => {
                model.broken.remove(&away);
            }
            ("agent", "kill") => model.kill_agent(node),
            ("agent", _) => model.start_agent(node),
            ("dataplane", "kill") => model.kill_dataplane(node),
            ("dataplane", _) => model.start_dataplane(node),
            (_, "kill") => {
                model.kill_agent(node);
                model.kill_dataplane(node);
            }
            _ => {
                model.start_agent(node);
                model.start_dataplane(node);
            }
        }
        vec![Step::Verb(verb, says)]
    }

    /// Another machine takes a node's place.
    pub(super) fn replace(&mut self) -> Vec<Step> {
        let node = self.node();
        if self.model.rolls_over {
            return Vec::new();
        }
        self.model.replace(node);
        vec![Step::Verb("replace", json!(self.model.node_name(node)))]
    }

    /// A pod begins more flows than are its share.
    pub(super) fn flood(&mut self) -> Option<Step> {
        let pods: Vec<_> = self.model.pods.iter().filter(|it| it.is_own()).collect();
        let (from, to) = (*self.dice.pick(&pods)?, *self.dice.pick(&pods)?);
        let families = from.families_with(to);
        let (from, to) = (from.party(), to.party());
        let family = *self.dice.pick(&families)?;
        if from == to {
            return None;
        }
        let by = one(&mut self.dice, &["syn-flood", "udp-flood"], "udp-flood");
        let port: u16 = one(&mut self.dice, &[53, 80], 80);
        let frames = self.dice.within(20, 300);
        let says: Value = json!({
            "by": by, "from": from, "to": to, "port": port, "frames": frames, "family": family,
        });
        Some(Step::Verb("attack", says))
    }

    /// A node that is an attacker's speaks as another one's pod.
    pub(super) fn rogue(&mut self) -> Option<Step> {
        let pods: Vec<_> = self.model.pods.iter().filter(|it| it.is_own()).collect();
        let [from, victim, to] = [(); 3].map(|()| self.dice.pick(&pods).copied());
        let (from, victim, to) = (from?, victim?, to?);
        let both = victim.families_with(to);
        let mut both = both.iter().filter(|it| from.families_with(to).contains(it));
        let family = both.next()?;
        if from.node == victim.node || from.node == to.node || victim.party() == to.party() {
            return None;
        }
        let (from, victim, to) = (from.party(), victim.party(), to.party());
        let port: u16 = one(&mut self.dice, &[53, 80, 8080], 80);
        let says = json!({
            "by": "rogue-node", "from": from, "as": victim, "to": to, "port": port,
            "family": family,
        });
        Some(Step::Verb("attack", says))
    }

    /// Everything is whole again.
    pub(super) fn recover(&mut self) -> Vec<Step> {
        let model = &mut self.model;
        let dataplanes = core::mem::take(&mut model.dead).into_iter();
        let agents = core::mem::take(&mut model.dead_agents).into_iter();
        let starts = dataplanes
            .map(|it| ("dataplane", it))
            .chain(agents.map(|it| ("agent", it)));
        let starts =
            starts.map(|(what, node)| Step::Verb("restart", json!({what: model.node_name(node)})));
        let mut steps: Vec<_> = starts.collect();
        model.broken.clear();
        steps.push(Step::Verb("heal", json!("all")));
        steps
    }
}
