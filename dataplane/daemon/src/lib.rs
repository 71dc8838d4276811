//! The Sluice dataplane daemon: a worker over ports, the control side that programs it, and
//! the sockets by which an agent and a metrics reader reach it.
//!
//! Read [`daemon`] first: it has the order in which everything opens. It is generic over
//! [`ports::PortSet`], so its tests run over queues in memory; DPDK is one module behind the
//! feature `dpdk`.

pub mod channel;
pub mod checkpoint;
pub mod config;
pub mod daemon;
#[cfg(feature = "dpdk")]
pub mod dpdk;
mod http;
pub mod ike;
pub mod keys;
pub mod lab_keys;
pub mod live;
mod metrics;
pub mod ports;
pub mod runtime;
pub mod serve;
pub mod spent;
pub mod statics;
pub mod verdict_log;
