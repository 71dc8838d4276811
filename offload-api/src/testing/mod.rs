//! For tests of this crate and, under the feature `testing`, of others: a small valid
//! state, random valid states, and strategies that make any value of any type, valid
//! together or not.

mod any;
mod sample;
mod world;

pub use any::{
    answer, endpoint, flow, flow_verdict, identity, interface, ip_prefix, key, mac, name, object,
    op, pair_line, peer, place, policy, policy_row, port, port_block, port_counters, prefix, sa,
    status, transaction,
};
pub use sample::sample;
pub use world::state;
