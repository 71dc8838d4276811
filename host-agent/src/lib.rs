//! The pure core of the Sluice host agent: what a cluster wants, as what a dataplane does.

pub mod cluster;
pub mod evaluate;
