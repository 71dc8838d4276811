//! How the CNI plugin and `sluicectl` talk to the agent on their machine: one Unix socket,
//! one JSON document a line, each way.
//!
//! ```text
//! {"version":1,"ask":{"del":{"container":"c1","ifname":"eth0"}}}
//! {"version":1,"answer":{"deleted":{"found":true}}}
//! {"version":1,"fault":{"kind":"unavailable","text":"…"}}
//! ```

#[cfg(any(feature = "cni", feature = "ctl"))]
mod client;
mod message;

#[cfg(any(feature = "cni", feature = "ctl"))]
pub use client::{ClientError, ask};
pub use message::{
    Ask, DataplaneView, DropsView, Fault, FaultKind, FlowView, FlowsView, LinkView, LogView,
    MatrixView, NameView, PairEndView, PairView, Reply, Request, Response, SaView, SourceView,
    StatusView,
};

/// The version of the messages; another one is refused.
pub const VERSION: u32 = 1;
/// Bytes of a request with its newline, at most.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Bytes of a response with its newline, at most: a node full of large policies fits.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Where the agent listens if nothing else is said.
pub const SOCKET: &str = "/run/sluice/agent.sock";
