//! The contract between the Sluice host agent and its dataplane.
//!
//! ```text
//! agent                                             dataplane
//! State --delta_to/to_snapshot--> Transaction       State --apply--> State, or Refusal
//!            to_requests |                             ^ Transaction
//!                        v                             |
//!             proto::ProgramRequest ... bytes ... Assembler
//! ```
//!
//! [`model`] has the domain types; both sides compute with them and never with the
//! generated ones of [`proto`]. Those that came from the wire have the contract's shape: the
//! conversions refuse the rest and name the field. That they hold together, also when they
//! were made in process, is what [`State::apply`] checks, before any of them is in force.

pub mod answer;
pub mod convert;
pub mod limits;
pub mod model;
pub mod proto;
pub mod refusal;
pub mod shared;
pub mod state;
pub mod transaction;
pub mod uses;

mod check;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use answer::{Answer, Refused};
pub use convert::Assembler;
pub use limits::Limits;
pub use refusal::{Refusal, RefusalCode, RefusalReason};
pub use shared::SharedMap;
pub use state::State;
pub use transaction::{Key, Kind, Mode, Object, Op, Transaction};
