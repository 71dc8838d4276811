//! Between the wire's types and the domain's: nothing else touches the generated ones.

mod error;

pub use error::{ConvertError, ConvertReason};
