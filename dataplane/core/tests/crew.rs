//! The tests of `walk` once more, with three workers that hand over to each other what a card
//! brings to the wrong one. See `rig/node.rs`.

#[path = "walk/steer.rs"]
mod steer;
#[path = "walk/main.rs"]
mod walk;

use walk::{hostile, names, rig, soak, tcp, track};
