//! Every frame is in a counter: what a dataplane says it received is what it was given, and
//! each of those was sent on, or is held, or was dropped for a reason.

use std::collections::BTreeMap;

use crate::fold::FoldMap;
use crate::sighting::{AtNode, Sighting, Spot, Way};
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Frames that each node was given, by its uplink and by its other ports.
    given: FoldMap<AtNode, (u64, u64)>,
    /// What was told already.
    told: BTreeMap<String, i128>,
}

impl Counted {
    pub(super) fn see(&mut self, seen: &Sighting) {
        match (seen.way, &seen.spot) {
            (Way::OffWire, Spot::Uplink(node)) => self.add(node, (1, 0)),
            (Way::Taken, Spot::Vf(node, _) | Spot::Host(node)) => self.add(node, (0, 1)),
            _ => {}
        }
    }

    fn add(&mut self, node: &AtNode, (uplink, rest): (u64, u64)) {
        match self.given.get_mut(node) {
            Some(given) => *given = (given.0 + uplink, given.1 + rest),
            None => {
                self.given.insert(node.clone(), (uplink, rest));
            }
        }
    }

    /// What doesn't add up and was not told of before.
    pub(super) fn compare(&mut self, world: &World) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut tell = |what: &str, count: i128, text: String| {
            let told = self.told.entry(what.to_owned()).or_default();
            if *told != count {
                *told = count;
                wrong.push(text);
            }
        };
        let lost = world.unaccounted();
        tell(
            "lost",
            lost,
            format!("{lost} frames are in no counter: dropped in silence"),
        );
        for (node, uplink, rest) in world.received() {
            let given = self
                .given
                .get(&node.as_str().into())
                .copied()
                .unwrap_or_default();
            let pairs = [("uplink", given.0, uplink), ("other ports", given.1, rest)];
            for (port, given, received) in pairs {
                let text = format!("{node}: {given} frames came to its {port}, it says {received}");
                let off = i128::from(given) - i128::from(received);
                tell(&format!("{node} {port}"), off, text);
            }
        }
        wrong
    }
}
