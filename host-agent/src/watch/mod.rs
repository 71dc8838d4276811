//! What a Kubernetes API says of a cluster, by lists and watches: which question to ask it next,
//! and what its answer changes.
//!
//! ```text
//! Reflector::ask --List, More, Watch--> API
//!           on_page, on_event, on_gone, on_broken <-- pages, events, 410, silence
//! Watches::cluster --> Agent::on_cluster
//! ```
//! Each kind of objects has a list and a watch of its own, and none waits for another. No socket
//! and no clock: who drives it has both.
//!
//! Closed where in doubt: what was known stays until a list has come to its end, and an agent knows
//! nothing before each kind has been listed once. Half a list is no list, an end of the events (410)
//! is no end of the objects, and silence says nothing.
//!
//! Kubernetes, "API Concepts": "Efficient detection of changes", "Retrieving large results sets in
//! chunks", "Resource versions".

mod reflector;
mod watches;

pub use reflector::{Ask, Event, OBJECTS_MAX, Page, Reflector, Token, Version};
pub use watches::Watches;
