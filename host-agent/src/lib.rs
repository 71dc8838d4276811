//! The pure core of the Sluice host agent: what a cluster wants, as what a dataplane does.
//!
//! Data goes one way: [`manifest`] reads Kubernetes objects, [`cluster`] holds them,
//! [`identity`] numbers who an address can be, [`compile`] makes one node's
//! [`State`](sluice_offload_api::State), and [`reconcile`] brings a dataplane there.
//! [`evaluate`] answers the same questions from the objects alone; it is the oracle, and
//! [`validate`] holds each compiled state against it.
//! [`agent`] is all of it for one node. [`difference`] says what a change of manifests would
//! allow and deny, [`lint`] what in them has no effect.
//!
//! [`watch`] follows a Kubernetes API; its driver is the simulator so far.
//!
//! [`text`] is how what people wrote is read and told wrong, here and in the daemons.
//!
//! Around it, each under its feature: `drivers`, which make the daemon of it; `local`, how
//! it is asked; `cni` and `ctl`, who asks; `incident`, what it tells for a look elsewhere.

pub mod agent;
#[cfg(feature = "ctl")]
pub mod ca;
pub mod cluster;
#[cfg(feature = "cni")]
pub mod cni;
pub mod compile;
#[cfg(feature = "ctl")]
pub mod ctl;
pub mod difference;
#[cfg(feature = "agent")]
pub mod drivers;
pub mod evaluate;
pub mod identity;
#[cfg(feature = "incident")]
pub mod incident;
pub mod lint;
#[cfg(feature = "incident")]
pub mod local;
pub mod manifest;
pub mod reconcile;
pub mod text;
pub mod validate;
pub mod vf;
pub mod watch;
