//! SAs that somebody beside the dataplane agrees on and hands over while it runs: IKE is
//! theirs, ESP is ours.
//!
//! ```text
//! sluice-ike ─ Unix socket ─► [socket] ─ Order ─► control thread ─► [LiveKeys] ─► workers
//!            ◄─ done/refused ─────────────── answered when every worker has it ◄──┘
//! ```
//! The socket is on the DPU, for its owner and root; there is no other way in, and none by the
//! contract that hosts speak.

mod driver;
mod ledger;
mod order;
mod socket;
pub mod wire;

pub use driver::LiveKeys;
pub use ledger::{Ledger, LedgerError};
pub use order::{Answer, Limits, LiveSa, Order, OrderRefused, Removal};
pub use socket::SaSocket;
