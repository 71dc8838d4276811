//! The contract between the Sluice host agent and its dataplane.
//!
//! [`model`] has the domain types; both sides compute with them and never with the
//! generated ones. Every one that exists is valid: the conversions from the wire refuse
//! the rest and name the field.

pub mod model;
