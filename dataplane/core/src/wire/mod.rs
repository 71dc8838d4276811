//! Reading and writing what stands on the wire.
