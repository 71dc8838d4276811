//! For tests of this crate and, under the feature `testing`, of others: a small valid
//! state, and strategies that make any value of any type.

mod sample;

pub use sample::sample;
