//! The contract between the Sluice host agent and its dataplane.
//!
//! [`model`] has the domain types; both sides compute with them and never with the
//! generated ones. Every one that exists is valid: the conversions from the wire refuse
//! the rest and name the field.

pub mod answer;
pub mod convert;
pub mod limits;
pub mod model;
pub mod proto;
pub mod refusal;
pub mod state;
pub mod transaction;

mod check;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use answer::{Answer, Refused};
pub use convert::Assembler;
pub use limits::Limits;
pub use refusal::{Refusal, RefusalCode, RefusalReason};
pub use state::State;
pub use transaction::{Key, Kind, Mode, Object, Op, Transaction};
