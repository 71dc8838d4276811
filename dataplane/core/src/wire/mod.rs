//! Reading and writing what stands on the wire.
//!
//! [`parse`] looks at every frame once and leaves a [`crate::meta::Meta`]; the other
//! modules read or change one header each, by the offsets found there. Nothing here
//! panics on any input, allocates ([`build`] apart) or trusts a length it didn't check:
//! a function given a frame and a `Meta` that don't belong together returns `false` or
//! `None`, or changes the wrong bytes of that frame, and no more.

pub mod arp;
pub mod build;
pub mod checksum;
pub mod embedded;
pub mod ethernet;
pub mod fragment;
pub mod icmp;
pub mod ip;
pub mod nd;
pub mod parse;
pub mod sctp;
pub mod segment;
pub mod tcp;

pub(crate) mod bytes;
#[cfg(test)]
mod test_frame;

pub use embedded::{Embedded, QuotedEsp, embedded, quoted_esp};
pub use fragment::{Fragment, fragment};
pub use parse::{parse, parse_inner, parse_into};
