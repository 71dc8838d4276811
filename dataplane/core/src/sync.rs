//! What crosses threads here: bounded channels, and numbers with one writer.
//!
//! With the feature `loom` both are loom's, so that tests see every order of events and every value
//! that a reader may find.

#[cfg(not(feature = "loom"))]
pub(crate) use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(feature = "loom"))]
pub(crate) use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
#[cfg(feature = "loom")]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "loom")]
pub(crate) use self::channel::{Receiver, Sender, TrySendError, bounded};

#[cfg(feature = "loom")]
mod channel;
