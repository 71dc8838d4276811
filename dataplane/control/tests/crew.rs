//! The tests of `control` once more, over three workers. See `rig.rs`.

#[path = "control/main.rs"]
mod control;

use control::rig;
