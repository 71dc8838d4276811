//! What a computation with a key leaves on the stack.

use core::hint::black_box;

/// Deeper than anything here goes.
const DEPTH: usize = 32 * 1024;

/// Overwrites the stack below its caller. Making a key or an SA moves its expanded form through
/// the frames of functions that have returned since, and there it would stay until something else
/// happens to go as deep. For whoever called them, on the same thread; takes a microsecond.
#[inline(never)]
pub fn scrub_stack() {
    let mut below = [0u8; DEPTH];
    // Or it would be left out, as memory that nobody reads.
    black_box(&mut below);
}
