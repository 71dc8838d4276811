//! The wire's types as generated from `proto/sluice/offload/v1/`; with the feature `grpc`
//! client and server too.
//!
//! Any value of them may be nonsense. [`crate::convert`] makes domain types of them, and
//! nothing else should look inside.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the .proto files have the documentation"
)]

include!(concat!(env!("OUT_DIR"), "/sluice.offload.v1.rs"));

/// The contract itself, a serialized `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/sluice.offload.v1.bin"));
