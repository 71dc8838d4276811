//! Criterion benches of the Sluice packet walk.
