//! The contract between the Sluice host agent and its dataplane.
