//! Nodes that join later, leave for good, and come back under their name and addresses. Whether
//! a seed has any is drawn apart, so that those without are what they were.

use serde_json::{Value, json};

use super::case::Step;
use super::draw::labels;
use super::events::{Drawer, node_object};
use crate::dice::Dice;

/// Nodes at a time, and ever.
const NODES: core::ops::RangeInclusive<usize> = 2..=5;
const NODES_EVER_MAX: usize = 7;
/// Names of those that come, before and behind the others in every order.
const NAMES: [&str; 4] = ["node-0", "node-e", "node-1", "node-f"];
/// After so many seconds nobody goes by the MAC of a machine that was there before.
const NEIGHBORS_OLD_S: u64 = 40;

/// Who comes and goes in a case.
#[derive(Debug)]
pub(super) struct Coming {
    dice: Dice,
    any: bool,
}

impl Coming {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "coming");
        let any = dice.chance(30);
        Self { dice, any }
    }

    /// A node comes or goes, or nothing happens. What was done before says how far clocks were
    /// set back.
    pub(super) fn step(&mut self, drawer: &mut Drawer, before: &[Step]) -> Vec<Step> {
        // Like a replaced node's, new SAs begin anew where numbers soon do: not drawn together.
        if !self.any || drawer.model.rolls_over || !self.dice.chance(45) {
            return Vec::new();
        }
        let present = drawer.model.present();
        let leaves = present.len() > *NODES.start() && self.dice.chance(50);
        if leaves {
            let node = self.dice.pick(&present).copied();
            return node.map_or_else(Vec::new, |it| leave(drawer, it));
        }
        // Whoever doesn't hear of a node takes its addresses for the outside's.
        if present.len() >= *NODES.end() || !drawer.model.all_hear() {
            return Vec::new();
        }
        let gone: Vec<_> = drawer.model.gone.iter().copied().collect();
        let again = self.dice.chance(60);
        match self.dice.pick(&gone).copied().filter(|_| again) {
            Some(node) => self.come_back(drawer, node, before),
            None => self.join(drawer),
        }
    }

    fn join(&mut self, drawer: &mut Drawer) -> Vec<Step> {
        let number = drawer.model.nodes.len();
        let is_free = |it: &&&str| !drawer.model.nodes.iter().any(|node| node == **it);
        let Some(name) = NAMES
            .iter()
            .find(is_free)
            .filter(|_| number < NODES_EVER_MAX)
        else {
            return Vec::new();
        };
        drawer.model.nodes.push((*name).to_owned());
        self.come(drawer, number)
    }

    fn come_back(&mut self, drawer: &mut Drawer, node: usize, before: &[Step]) -> Vec<Step> {
        drawer.model.gone.remove(&node);
        let seconds = NEIGHBORS_OLD_S + set_back_s(before);
        let mut steps = vec![Step::Verb("wait", json!(format!("{seconds}s")))];
        steps.extend(self.come(drawer, node));
        steps
    }

    /// It is there, often with a pod.
    fn come(&mut self, drawer: &mut Drawer, node: usize) -> Vec<Step> {
        let name = drawer.model.node_name(node);
        let object = node_object(&name, node, &labels(&mut self.dice));
        let mut steps = vec![Step::Apply(vec![object])];
        if self.dice.chance(70) {
            steps.extend(drawer.pod_comes_to(node));
        }
        steps
    }
}

/// A node's pods go, and then it, whatever is broken of it if it has none.
fn leave(drawer: &mut Drawer, node: usize) -> Vec<Step> {
    let model = &mut drawer.model;
    let is_here = |model: &super::model::Model| model.pods.iter().position(|it| it.node == node);
    if is_here(model).is_some() && !model.takes_pods(node) {
        return Vec::new();
    }
    let mut steps = Vec::new();
    while let Some(at) = is_here(model) {
        let pod = model.death(at);
        let gone = json!({"kind": "Pod", "namespace": pod.namespace, "name": pod.name});
        steps.push(Step::Verb("delete", gone));
    }
    let name = model.node_name(node);
    model.leave(node);
    steps.push(Step::Verb("delete", json!({"kind": "Node", "name": name})));
    steps
}

/// How far clocks were set back, in seconds, rounded up.
fn set_back_s(before: &[Step]) -> u64 {
    let back = |it: &Step| match it {
        Step::Verb("fault", Value::Object(says)) => {
            match says.get("clock-jump")?["back"].as_str()? {
                "20s" => Some(20),
                _ => Some(1),
            }
        }
        _ => None,
    };
    before.iter().filter_map(back).sum()
}
