//! Draws that everything is made of: labels that collide a lot, selectors, ports.

use serde_json::{Map, Value, json};

use crate::dice::Dice;

pub(super) const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 2] = ["k", "l"];
const VALUES: [&str; 3] = ["x", "y", "z"];
pub(super) const PORT_NAMES: [&str; 2] = ["web", "dns"];
pub(super) const PORTS: [u16; 5] = [1, 53, 80, 8080, 65_535];

/// One of a list that isn't empty.
pub(super) fn one<T: Copy>(dice: &mut Dice, of: &[T], or: T) -> T {
    dice.pick(of).copied().unwrap_or(or)
}

pub(super) fn labels(dice: &mut Dice) -> Value {
    let mut labels = Map::new();
    for key in KEYS {
        if dice.chance(60) {
            labels.insert(key.to_owned(), json!(one(dice, &VALUES, "x")));
        }
    }
    Value::Object(labels)
}

/// A label selector: often everything, or a single label.
pub(super) fn selector(dice: &mut Dice) -> Value {
    let mut selector = Map::new();
    match dice.below(10) {
        0..=2 => {}
        3 => {
            let name = one(dice, &NAMESPACES, "a");
            let labels = json!({"kubernetes.io/metadata.name": name});
            selector.insert("matchLabels".to_owned(), labels);
        }
        4..=7 => {
            let labels = json!({one(dice, &KEYS, "k"): one(dice, &VALUES, "x")});
            selector.insert("matchLabels".to_owned(), labels);
        }
        _ => {
            let key = one(dice, &KEYS, "k");
            let first = dice.below(VALUES.len());
            let values: Vec<_> = VALUES.iter().cycle().skip(first).take(2).collect();
            let expression = match dice.below(4) {
                0 => json!({"key": key, "operator": "In", "values": values}),
                1 => json!({"key": key, "operator": "NotIn", "values": values}),
                2 => json!({"key": key, "operator": "Exists"}),
                _ => json!({"key": key, "operator": "DoesNotExist"}),
            };
            selector.insert("matchExpressions".to_owned(), json!([expression]));
        }
    }
    Value::Object(selector)
}

pub(super) fn protocol(dice: &mut Dice) -> &'static str {
    one(dice, &["TCP", "TCP", "UDP", "UDP", "SCTP"], "TCP")
}

/// A number of elements, each drawn.
pub(super) fn some(
    dice: &mut Dice,
    least: usize,
    most: usize,
    mut draw: impl FnMut(&mut Dice) -> Value,
) -> Vec<Value> {
    let count = dice.within(least, most);
    (0..count).map(|_| draw(dice)).collect()
}
