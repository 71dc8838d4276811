//! Between the wire's types and the domain's: nothing else touches the generated ones.
//!
//! `TryFrom` a message says whether it has the contract's shape: everything there, every
//! number known and in its type's range. It makes no choice for the sender. Whether the
//! objects hold together is [`State::apply`](crate::state::State::apply)'s to say, as it
//! also is for those made in process. `From` a domain type can't fail.

mod assemble;
mod error;
mod field;
mod objects;
mod pairs;
mod policy;
mod program;
mod read;

pub use assemble::Assembler;
pub use error::{ConvertError, ConvertReason, Unspecified};
pub use program::to_requests;

#[cfg(test)]
mod tests;
