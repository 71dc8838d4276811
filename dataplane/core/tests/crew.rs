//! The tests of `walk` once more, with three workers that hand over to each other what a card
//! brings to the wrong one, and what only several workers can get wrong. See `rig/node.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed assumption in a test is a failed test"
)]

#[path = "walk/steer.rs"]
mod steer;
#[path = "walk/main.rs"]
mod walk;

use walk::{hostile, names, rig, soak, tcp, track};
