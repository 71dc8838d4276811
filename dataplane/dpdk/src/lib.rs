//! Safe DPDK for the Sluice dataplane: EAL, pools, frames, devices, their queues as
//! [`sluice_dataplane_core::port::Port`], and worker threads.
//!
//! Read [`device`] first; it has the order in which things come up.

pub mod acl;
pub mod devargs;
pub mod device;
mod driver;
pub mod eal;
pub mod errno;
pub mod frame;
pub mod lcore;
mod packet_sockets;
pub mod pool;
pub mod port;
mod probe;
#[cfg(test)]
mod testing;
