//! Properties of parse over built, mutated and arbitrary frames.
