//! The pure core of the Sluice host agent: what a cluster wants, as what a dataplane does.
//!
//! Data goes one way: [`manifest`] reads Kubernetes objects, [`cluster`] holds them,
//! [`identity`] numbers who an address can be, [`compile`] makes one node's
//! [`State`](sluice_offload_api::State), and [`reconcile`] brings a dataplane there.
//! [`evaluate`] answers the same questions from the objects alone; it is the oracle.

pub mod agent;
pub mod cluster;
pub mod compile;
pub mod evaluate;
pub mod identity;
pub mod manifest;
pub mod reconcile;
pub mod vf;
